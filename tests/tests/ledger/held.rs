//! Tests of held rows. A request that needs a held row is set apart and waits alone. Afterwards it
//! decides only by what it reads once it has the lock.

use std::future::Future as _;
use std::task::Poll;
use std::time::Duration;

use bridge_idc::config::LedgerUrl;
use bridge_idc::orders::planner::{Awaited, Request};
use bridge_idc::orders::store::{BatchEnd, Ledger, LedgerError, RequestEnd};
use bridge_idc::payments::store::{Begun, NotDone, PaymentLedger as _};
use bridge_protocol::domain::{Outcome, Sku};
use bridge_protocol::wire::order::Refusal;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::database::{Database, postgres, sqlite};
use crate::payments::{another_order, begin, begun, seconds, shop_with_order};
use crate::shop::{Shop, answers, batch, commit_one, is_placed, order_of, pay, refused, settled};

/// Upper limit of each wait. A condition normally ends the wait long before.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens a session in a transaction that has run `sql`.
pub(crate) async fn psql(database: &Database, sql: &str) -> PgConnection {
    let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = format!("BEGIN; {sql}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection
}

/// Opens a session that holds the stock row of a SKU, as a DBA's session may.
pub(crate) async fn holds(database: &Database, sku: &str) -> PgConnection {
    let sql = format!("SELECT s.* FROM stock s JOIN skus k USING (sku_id) WHERE k.sku = '{sku}' FOR UPDATE");
    psql(database, &sql).await
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

pub(crate) fn stock(shop: &Shop, sku: &str) -> Awaited {
    Awaited::Stock { brand: shop.brand.clone(), sku: Sku::new(sku).unwrap() }
}

/// Returns what each request waits for, or `None` if it was committed.
fn waits(end: BatchEnd) -> Vec<Option<Awaited>> {
    assert!(end.outage.is_none(), "{:?}", end.outage);
    let on = |end| if let RequestEnd::Waits(awaited) = end { Some(awaited) } else { None };
    end.ends.into_iter().map(on).collect()
}

/// Returns the number of sessions in this database that wait for a lock.
pub(crate) async fn waiting(database: &Database) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    database.count(sql).await
}

/// Waits until a session of the ledger waits for a lock.
pub(crate) async fn until_one_waits(database: &Database) {
    until_so_many_wait(database, 1).await;
}

/// Waits until at least `sessions` sessions of the ledger wait for a lock.
pub(crate) async fn until_so_many_wait(database: &Database, sessions: i64) {
    let wait = async {
        while waiting(database).await < sessions {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("too few sessions wait");
}

#[tokio::test]
async fn who_needs_a_held_row_is_set_apart_and_nobody_else_waits() {
    let database = postgres("set_apart").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("S0", 10), ("S1", 10), ("S2", 10)]).await;
    let other = Shop::open(ledger, "other", &[("S1", 10)]).await;
    let standing = shop.place("standing", &[("S0", 1)]);
    commit_one(ledger, standing.clone()).await;

    let holder = holds(&database, "S0").await;
    let first = shop.place("1", &[("S1", 1), ("S0", 1)]);
    let requests = vec![
        first.clone(),
        shop.place("2", &[("S1", 1)]),
        shop.cancel("3", order_of(&first)),
        first.clone(),
        other.place("4", &[("S1", 1)]),
        shop.cancel("5", order_of(&standing)),
        shop.place("6", &[("S2", 1)]),
    ];
    // The holder keeps its row. So the commit ends only if it does not wait for the row.
    let end = ledger.commit(&batch(requests.clone()), None).await;
    let held = Some(stock(&shop, "S0"));
    let expected = [held.clone(), None, held.clone(), held.clone(), None, held, None];
    assert_eq!(waits(end), expected, "requests about a waiting order or under its key wait as well");
    assert_eq!(shop.stock(ledger, "S1").await, (9, 1), "a waiting order has allocated units");
    assert_eq!(
        database.count("SELECT count(*) FROM outcomes").await,
        4,
        "a waiting request has left an outcome"
    );

    let waiting: Vec<Request> = [0, 2, 3, 5].map(|n: usize| requests[n].clone()).to_vec();
    let awaited = stock(&shop, "S0");
    let end = ledger.commit(&batch(waiting.clone()), Some(&awaited)).await;
    assert!(waits(end).iter().all(|on| *on == Some(awaited.clone())), "a request no longer waits");
    let waiting = batch(waiting);
    let wait = ledger.commit(&waiting, Some(&awaited));
    let release = async {
        until_one_waits(&database).await;
        drop(holder);
    };
    let (end, ()) = tokio::join!(wait, release);
    let answers = answers(end);
    let told: Vec<_> = answers.iter().map(settled).collect();
    let expected = [
        (Outcome::Placed, false),
        (Outcome::Cancelled, false),
        (Outcome::Placed, true),
        (Outcome::Cancelled, false),
    ];
    assert_eq!(told, expected);
    assert_eq!((shop.stock(ledger, "S0").await, shop.stock(ledger, "S1").await), ((10, 0), (9, 1)));
}

/// Bisection commits the parts of a batch one after the other.
#[tokio::test]
async fn nothing_overtakes_a_waiting_request_while_another_one_is_searched() {
    let database = postgres("bisected_sequence").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("HELD", 10), ("FREE", 100)]).await;
    let planted = "ALTER TABLE order_lines ADD CONSTRAINT planted CHECK (quantity <> 13)";
    database.run(planted, "").await;
    let holder = holds(&database, "HELD").await;
    let first = shop.place("1", &[("HELD", 1)]);
    let requests = vec![
        first.clone(),
        shop.place("refused", &[("FREE", 13)]),
        shop.cancel("2", order_of(&first)),
        shop.place("1", &[("FREE", 1)]),
        shop.place("3", &[("FREE", 1)]),
    ];
    let end = ledger.commit(&batch(requests.clone()), None).await;
    let held = Some(stock(&shop, "HELD"));
    let expected = [held.clone(), None, held.clone(), held, None];
    assert_eq!(waits(end), expected, "a request about a waiting order, or under its key, was answered");
    drop(holder);
    let after: Vec<Request> = [0, 2, 3].map(|n: usize| requests[n].clone()).to_vec();
    let answers = answers(ledger.commit(&batch(after), Some(&stock(&shop, "HELD"))).await);
    let told: Vec<_> = answers.iter().map(settled).collect();
    assert_eq!(told, [(Outcome::Placed, false), (Outcome::Cancelled, false), (Outcome::Placed, true)]);
}

#[tokio::test]
async fn whoever_waits_for_a_row_holds_no_other_meanwhile() {
    let database = postgres("holds_no_other").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("S0", 10), ("S1", 10)]).await;
    let holder = holds(&database, "S1").await;
    let both = batch(vec![shop.place("1", &[("S0", 1), ("S1", 1)])]);
    let awaited = stock(&shop, "S1");
    let wait = ledger.commit(&both, Some(&awaited));
    let others = async {
        until_one_waits(&database).await;
        // This order is placed at once. A request that meets a held row would be set apart.
        let free = ledger.commit(&batch(vec![shop.place("2", &[("S0", 1)])]), None).await;
        drop(holder);
        free
    };
    let (end, free) = tokio::join!(wait, others);
    assert!(is_placed(&answers(free)[0]));
    assert!(end.outage.is_none());
    assert_eq!(settled(&commit_one(ledger, both.requests[0].clone()).await).0, Outcome::Placed);
    assert_eq!(shop.stock(ledger, "S0").await, (8, 2));
}

/// Two requests that each hold a row which the other one needs would wait for ever.
#[tokio::test]
async fn a_request_that_needs_two_held_rows_waits_for_both_before_deciding() {
    let database = postgres("meets_another").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 5), ("B", 0)]).await;
    let both = batch(vec![shop.place("1", &[("A", 1), ("B", 1)])]);
    let (a, b) = (stock(&shop, "A"), stock(&shop, "B"));
    let mut writer = holds(&database, "B").await;
    let waits_for_both = async {
        // Each attempt waits for half a second, which may end before the other session looks.
        for _ in 0..50 {
            let end = ledger.commit(&both, Some(&a)).await;
            match &end.ends[..] {
                [RequestEnd::Waits(on)] => assert_eq!(*on, b),
                _ => return settled(&answers(end)[0]).0,
            }
        }
        panic!("the request does not wait");
    };
    let change = async {
        until_one_waits(&database).await;
        run(&mut writer, "UPDATE stock SET available = 5, initial = 5 WHERE initial = 0").await;
        run(&mut writer, "UPDATE skus SET price = 1 WHERE sku = 'B'; COMMIT").await;
    };
    let (outcome, ()) = tokio::join!(waits_for_both, change);
    assert!(matches!(outcome, Outcome::PriceChanged { .. }), "{outcome:?}");
}

#[tokio::test]
async fn payments_of_a_held_order_leave_connections_to_others() {
    let database = postgres("held_for_payments").await;
    let ledger = &database.ledger;
    let (shop, order) = shop_with_order(&database).await;
    let other = another_order(&database, &shop, "other").await;
    let hold = format!("SELECT * FROM orders WHERE order_id = '{}' FOR UPDATE", order.as_uuid());
    let holder = psql(&database, &hold).await;
    let charges: Vec<_> = (0..24).map(|n| pay(&shop, &format!("held-{n}"), order)).collect();
    let held = async {
        let mut begins: Vec<_> =
            charges.iter().map(|charge| Box::pin(ledger.begin_payment(charge, seconds(60)))).collect();
        let mut ends = Vec::new();
        std::future::poll_fn(|context| {
            begins.retain_mut(|begin| match begin.as_mut().poll(context) {
                Poll::Ready(end) => {
                    ends.push(end);
                    false
                }
                Poll::Pending => true,
            });
            if begins.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        ends
    };
    let beside = async {
        for n in 0..24 {
            // A call that gets no connection in time returns an error.
            begin(ledger, &pay(&shop, &format!("other-{n}"), other)).await;
        }
        drop(holder);
    };
    let (ends, ()) = tokio::join!(held, beside);
    for end in ends {
        let is_known = matches!(end, Ok(_) | Err(NotDone::Nothing(LedgerError::Held(_))));
        assert!(is_known, "{end:?}");
    }
    begin(ledger, &pay(&shop, "once it is free", order)).await;
}

#[tokio::test]
async fn a_cancellation_waits_for_whoever_holds_its_order() {
    let database = postgres("held_order").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10)]).await;
    let request = shop.place("k", &[("A", 4)]);
    let order = order_of(&request);
    commit_one(ledger, request).await;
    let holder = psql(&database, "SELECT * FROM orders FOR UPDATE").await;
    let cancel = shop.cancel("c", order);
    let end = ledger.commit(&batch(vec![cancel.clone(), shop.place("2", &[("A", 1)])]), None).await;
    assert_eq!(waits(end), [Some(Awaited::Order(order)), None]);
    let wait = commit_one(ledger, cancel);
    let release = async {
        until_one_waits(&database).await;
        drop(holder);
    };
    assert_eq!(settled(&tokio::join!(wait, release).0), (Outcome::Cancelled, false));
    assert_eq!(shop.stock(ledger, "A").await, (9, 1));
}

#[tokio::test]
async fn an_obstacle_without_a_row_delays_its_brand_until_it_is_gone() {
    let database = postgres("unnamed").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10)]).await;
    let other = Shop::open(ledger, "other", &[("A", 10)]).await;
    // Another transaction is settling the key of the second request and does not end.
    let slow = shop.place("slow", &[("A", 1)]);
    let key: String = slow.key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let sql = format!(
        "INSERT INTO outcomes (key, brand, operation, order_id, fingerprint, outcome, committed_at) VALUES \
         ('\\x{key}', 'acme', 'place', gen_random_uuid(), decode(repeat('01', 32), 'hex'), 'placed', 1)"
    );
    let holder = psql(&database, &sql).await;
    let requests = vec![shop.place("1", &[("A", 1)]), slow.clone(), other.place("2", &[("A", 1)])];
    let brand = |shop: &Shop| Awaited::Brand(shop.brand.clone());
    let end = ledger.commit(&batch(requests.clone()), None).await;
    let expected = [brand(&shop), brand(&shop), brand(&other)].map(Some);
    assert_eq!(waits(end), expected, "the batch is divided by brand");

    let end = ledger.commit(&batch(vec![requests[2].clone()]), Some(&brand(&other))).await;
    assert!(is_placed(&answers(end)[0]));
    let end = ledger.commit(&batch(requests[..2].to_vec()), Some(&brand(&shop))).await;
    assert_eq!(waits(end), [None, Some(brand(&shop))], "only the request with that key waits");
    drop(holder);
    assert!(is_placed(&commit_one(ledger, slow).await));
    assert_eq!((shop.stock(ledger, "A").await, other.stock(ledger, "A").await), ((8, 2), (9, 1)));
}

#[tokio::test]
async fn whoever_ends_the_statement_that_waits_ends_a_turn_and_no_request() {
    let database = postgres("ended_by_a_dba").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10)]).await;
    let standing = shop.place("standing", &[("A", 1)]);
    commit_one(ledger, standing.clone()).await;
    let order = order_of(&standing);
    for (lock, request, awaited) in [
        ("SELECT * FROM stock FOR UPDATE", shop.place("1", &[("A", 1)]), stock(&shop, "A")),
        ("SELECT * FROM orders FOR UPDATE", shop.cancel("2", order), Awaited::Order(order)),
        ("LOCK TABLE outcomes", shop.place("3", &[("A", 1)]), Awaited::Brand(shop.brand.clone())),
    ] {
        let holder = psql(&database, lock).await;
        let request = batch(vec![request]);
        let wait = ledger.commit(&request, Some(&awaited));
        let ends_it = async {
            until_one_waits(&database).await;
            let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
                          WHERE wait_event_type = 'Lock' AND datname = current_database()";
            database.count(cancel).await;
        };
        let (end, ()) = tokio::join!(wait, ends_it);
        assert_eq!(waits(end), [Some(awaited)]);
        drop(holder);
    }
    assert!(is_placed(&commit_one(ledger, shop.place("1", &[("A", 1)])).await));
}

#[tokio::test]
async fn a_limit_on_statements_that_is_shorter_than_a_wait_refuses_nobody() {
    let database = postgres("statement_timeout").await;
    let shop = Shop::open(&database.ledger, "acme", &[("A", 10)]).await;
    let limit = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 300', current_database()); END $$";
    database.run(limit, "").await;
    let agent = database.second_agent().await;
    agent.ready().await.unwrap();
    let (order, awaited) = (shop.place("1", &[("A", 1)]), stock(&shop, "A"));
    let holder = holds(&database, "A").await;
    let end = agent.commit(&batch(vec![order.clone()]), None).await;
    assert_eq!(waits(end), [Some(awaited.clone())]);
    let end = agent.commit(&batch(vec![order.clone()]), Some(&awaited)).await;
    assert_eq!(waits(end), [Some(awaited)]);
    drop(holder);
    let holder = psql(&database, "LOCK TABLE stock").await;
    let end = agent.commit(&batch(vec![order.clone()]), None).await;
    assert_eq!(waits(end), [Some(Awaited::Brand(shop.brand.clone()))]);
    drop(holder);
    assert!(is_placed(&commit_one(&agent, order).await));
}

#[tokio::test]
async fn a_cancellation_that_overtakes_its_order_gives_back_what_that_took() {
    let database = postgres("overtakes").await;
    let (a, b) = (&database.ledger, &database.second_agent().await);
    let shop = Shop::open(a, "acme", &[("S1", 5), ("S2", 5)]).await;
    let placed = shop.place("x", &[("S1", 3)]);
    let order = order_of(&placed);
    let c = holds(&database, "S2").await;
    let requests = [shop.place("y", &[("S2", 1)]), shop.cancel("cancel-x", order)];

    // A request that needs nothing that C holds is decided at once. The order does not exist yet.
    let mut end = b.commit(&batch(requests.to_vec()), None).await;
    let RequestEnd::Committed(early) = end.ends.remove(1) else { panic!("{end:?}") };
    assert_eq!(*early.answer(), refused(Refusal::NotFound));

    // The requests wait for S2, and read what they need after they have its lock.
    let again = batch(requests.to_vec());
    let awaited = stock(&shop, "S2");
    let wait = b.commit(&again, Some(&awaited));
    let commits_and_releases = async {
        until_one_waits(&database).await;
        assert!(is_placed(&commit_one(a, placed.clone()).await));
        drop(c);
    };
    let (end, ()) = tokio::join!(wait, commits_and_releases);
    let answers = answers(end);
    assert_eq!(settled(&answers[1]), (Outcome::Cancelled, false));
    assert_eq!(shop.stock(a, "S1").await, (5, 0), "the cancelled order's units are back");
    assert_eq!(shop.stock(a, "S2").await, (4, 1));
}

/// Another writer commits an order between two statements of the batch that cancels it. The batch
/// reads the order's units before that commit, and its state after it.
#[tokio::test]
async fn an_order_placed_between_its_cancellations_statements_gives_back_its_units() {
    let database = postgres("between_statements").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 5)]).await;
    let order = order_of(&shop.place("x", &[("A", 3)]));
    // The batch waits for its lock on the stock. It has already read the units of the order, which
    // did not exist yet.
    let mut writer = psql(&database, "LOCK TABLE stock IN ACCESS EXCLUSIVE MODE").await;
    let requests = batch(vec![shop.cancel("c", order)]);
    let cancel = ledger.commit(&requests, None);
    let places = async {
        until_one_waits(&database).await;
        let sql = format!(
            "INSERT INTO outcomes (key, brand, operation, order_id, fingerprint, outcome, committed_at) VALUES \
             (decode(repeat('05', 32), 'hex'), 'acme', 'place', '{id}', decode(repeat('01', 32), 'hex'), 'placed', 1); \
             INSERT INTO orders (order_id, brand, position, customer_reference, currency, shipping_fee, total, \
             committed_at) VALUES ('{id}', 'acme', 1, 'c', 'KRW', 0, 3, 1); \
             INSERT INTO order_lines SELECT '{id}', 0, sku_id, 3, 1 FROM skus; \
             UPDATE stock SET available = available - 3, sold = sold + 3; COMMIT",
            id = order.as_uuid()
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut writer).await.unwrap();
    };
    let (end, ()) = tokio::join!(cancel, places);
    assert!(end.outage.is_none());
    let cancel = requests.requests[0].clone();
    assert_eq!(settled(&commit_one(ledger, cancel).await).0, Outcome::Cancelled);
    assert_eq!(shop.stock(ledger, "A").await, (5, 0), "the cancelled order's units are back");
}

/// An order is committed between two statements of its payment. The payment looks for the order
/// before that commit, and reads rejections after it. It must not answer that the order was
/// rejected, since that answer is final.
#[tokio::test]
async fn an_order_placed_between_its_payments_statements_is_not_called_rejected() {
    let database = postgres("placed_beside_its_payment").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 5)]).await;
    let order = shop.place("k", &[("A", 1)]);
    let charge = pay(&shop, "p", order_of(&order));
    // The payment has found no order, and waits to read its key.
    let holder = psql(&database, "LOCK TABLE payment_requests IN ACCESS EXCLUSIVE MODE").await;
    let pays = begin(ledger, &charge);
    let places = async {
        until_one_waits(&database).await;
        assert!(is_placed(&commit_one(ledger, order.clone()).await));
        drop(holder);
    };
    let (early, ()) = tokio::join!(pays, places);
    assert_eq!(
        early,
        Begun::Refused(Refusal::NotFound),
        "not-found is no final answer, so a caller may ask again"
    );
    assert_eq!(begun(ledger, &charge).await.charge, charge.charge);
}

/// A changed price and the stock that came with it are always used together.
#[tokio::test]
async fn new_stock_is_not_sold_at_the_price_from_before_it() {
    let database = postgres("price_and_stock").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 0)]).await;
    let mut writer = holds(&database, "A").await;
    let order = batch(vec![shop.place("k", &[("A", 1)])]);
    let awaited = stock(&shop, "A");
    let wait = ledger.commit(&order, Some(&awaited));
    let change = async {
        until_one_waits(&database).await;
        let change = "UPDATE stock SET available = 5, initial = 5; UPDATE skus SET price = 1; COMMIT";
        run(&mut writer, change).await;
    };
    let (end, ()) = tokio::join!(wait, change);
    assert!(matches!(settled(&answers(end)[0]).0, Outcome::PriceChanged { .. }));
    assert_eq!(shop.stock(ledger, "A").await, (5, 0));
}

/// SQLite has one writer at a time, so no request can be set apart.
#[tokio::test]
async fn a_shell_that_locks_the_sqlite_file_delays_every_order_completely() {
    let database = sqlite().await;
    let shop = Shop::open(&database.ledger, "acme", &[("A", 10)]).await;
    let LedgerUrl::Sqlite(path) = database.url() else { unreachable!() };
    let mut shell = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut shell).await.unwrap();
    let order = shop.place("k", &[("A", 1)]);
    let end = database.ledger.commit(&batch(vec![order.clone()]), None).await;
    assert!(matches!(end.ends[..], [RequestEnd::NotCommitted]) && end.outage.is_some(), "{end:?}");
    assert_eq!(database.count("SELECT count(*) FROM outcomes").await, 0);
    sqlx::raw_sql("COMMIT").execute(&mut shell).await.unwrap();
    assert!(is_placed(&commit_one(&database.ledger, order).await));
}

/// The two agents lock the same two rows in opposite orders. An agent that has waited for one row
/// gets its turn. Otherwise each agent would hold what the other one needs.
#[tokio::test]
async fn two_agents_that_want_the_same_rows_alternate_without_refusals() {
    let database = postgres("take_turns").await;
    let (first, second) = (&database.ledger, &database.second_agent().await);
    let shop = Shop::open(first, "acme", &[("HOT", 1_000_000), ("WARM", 1_000_000)]).await;
    let both = (take_turns(first, &shop, ["HOT", "WARM"]), take_turns(second, &shop, ["WARM", "HOT"]));
    let passed_by = tokio::join!(both.0, both.1);
    // A slow machine may delay a session by half a second, which counts as a held row. A few such
    // cases are allowed.
    assert!(
        passed_by.0 + passed_by.1 < 5,
        "an agent waited for one row and then met the other: {passed_by:?}"
    );
    for sku in ["HOT", "WARM"] {
        assert_eq!(shop.stock(first, sku).await, (1_000_000 - 2 * ROUNDS, 2 * ROUNDS));
    }
}

/// Number of orders from each agent in that test.
const ROUNDS: i64 = 200;

/// Places orders of both rows, one after the other. Returns how often an attempt waited for one row
/// and then met the other.
async fn take_turns(ledger: &Ledger, shop: &Shop, skus: [&str; 2]) -> usize {
    let mut passed_by = 0;
    for round in 0..ROUNDS {
        let order = batch(vec![shop.place(&format!("{}-{round}", skus[0]), &skus.map(|sku| (sku, 1)))]);
        let mut awaited = None;
        loop {
            let BatchEnd { ends, outage } = ledger.commit(&order, awaited.as_ref()).await;
            match &ends[..] {
                [RequestEnd::Waits(on)] => {
                    passed_by += usize::from(awaited.is_some_and(|known| known != *on));
                    awaited = Some(on.clone());
                }
                [RequestEnd::Committed(committed)] if is_placed(committed.answer()) => break,
                other => panic!("refused: {other:?} {outage:?}"),
            }
        }
    }
    passed_by
}
