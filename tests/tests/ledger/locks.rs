//! Writers take rows and keys in one order, so that none of them waits in a circle. The database would end such a circle, and
//! the flow would try again: so what is looked at is who holds what, and not what the requests come to.

use bridge_idc::orders::planner::Request;
use bridge_idc::orders::store::{Ledger, RequestEnd};
use bridge_protocol::domain::{Brand, Outcome};
use bridge_protocol::wire::order::Refusal;
use sqlx::PgConnection;

use crate::database::{Database, postgres, value};
use crate::held::{holds, psql, stock, until_one_waits, until_so_many_wait, waiting};
use crate::shop::{Shop, answers, batch, commit, is_placed, refused, settled};

/// How often PostgreSQL has ended a deadlock here. A session tells it at its end at the latest, so that is waited for.
async fn deadlocks(database: Database) -> i64 {
    let url = database.url().clone();
    drop(database.ledger);
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while value(&url, others).await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    value(&url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await
}

/// The rows of the stock that nobody holds, looked at through a session of its own.
async fn free(session: &mut PgConnection) -> Vec<i64> {
    let sql = "SELECT sku_id FROM stock ORDER BY sku_id FOR UPDATE SKIP LOCKED";
    let free = sqlx::query_scalar(sql).fetch_all(&mut *session).await.unwrap();
    sqlx::raw_sql("ROLLBACK; BEGIN").execute(session).await.unwrap();
    free
}

#[tokio::test]
async fn a_waiting_batch_locks_rows_in_the_order_of_their_ids() {
    const SKUS: usize = 60;
    let database = postgres("in_one_order").await;
    // Rows come sorted by chance where a plan sorts for its own ends: none does so here.
    let plans = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET enable_sort = off', current_database()); \
        EXECUTE format('ALTER DATABASE %I SET enable_mergejoin = off', current_database()); END $$";
    database.run(plans, "").await;
    let ledger = database.second_agent().await;
    // The order of the ids is neither that of the names nor its reverse.
    let names: Vec<String> = (0..SKUS).map(|n| format!("S{}", n * 37 % SKUS)).collect();
    for name in &names {
        Shop::open(&ledger, "acme", &[(name, 10)]).await;
    }
    let shop = Shop { brand: Brand::new("acme").unwrap() };
    let all: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let order = batch(vec![shop.place("k", &all)]);

    // The order waits for the last row, meets another in the middle, and waits for that with what it has.
    let middle = SKUS / 2;
    let holder = holds(&database, &names[middle]).await;
    let mut session = psql(&database, "").await;
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT sku_id FROM skus ORDER BY sku_id").fetch_all(&mut session).await.unwrap();
    let awaited = stock(&shop, &names[SKUS - 1]);
    let seen = loop {
        let mut wait = std::pin::pin!(ledger.commit(&order, Some(&awaited)));
        // It waits for a bounded time: what is seen counts only if it was waiting before and after.
        tokio::select! {
            _over = &mut wait => continue,
            () = until_one_waits(&database) => {}
        }
        let look = async { (free(&mut session).await, waiting(&database).await) };
        let (_, (free, still_waiting)) = tokio::join!(wait, look);
        if still_waiting > 0 {
            break free;
        }
    };
    assert_eq!(seen, ids[middle + 1..], "all before the row that it waits for are taken, and none behind it");
    drop(holder);
}

#[tokio::test]
async fn stock_changed_before_a_batch_locks_it_is_sold_as_changed() {
    let database = postgres("met_on_its_way").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10), ("B", 10)]).await;
    let order = batch(vec![shop.place("k", &[("A", 1), ("B", 1)])]);
    let ends = loop {
        // It waits for B, and then meets A, whose holder changes the price.
        let mut holder = holds(&database, "A").await;
        let b = stock(&shop, "B");
        let mut wait = std::pin::pin!(ledger.commit(&order, Some(&b)));
        tokio::select! {
            _over = &mut wait => continue,
            () = until_one_waits(&database) => {}
        }
        let change =
            sqlx::raw_sql("UPDATE skus SET price = price + 1 WHERE sku = 'A'; COMMIT").execute(&mut holder);
        let (end, changed) = tokio::join!(wait, change);
        changed.unwrap();
        // It waits for a bounded time: on a slow machine that may be over before the change.
        if !matches!(end.ends[..], [RequestEnd::Waits(_)]) {
            break end;
        }
    };
    let answer = answers(ends).remove(0);
    assert!(matches!(settled(&answer).0, Outcome::PriceChanged { .. }), "{answer:?}");
    assert_eq!(shop.stock(ledger, "A").await, (10, 0));
}

/// Stops each batch between its first two keys, until the lock 42 is given back; and lets it wait for a key without limit.
const PAUSED: &str = "CREATE FUNCTION paused() RETURNS trigger LANGUAGE plpgsql AS $$ \
    DECLARE nth int := coalesce(nullif(current_setting('test.nth', true), '')::int, 0) + 1; BEGIN \
    PERFORM set_config('test.nth', nth::text, true), set_config('lock_timeout', '0', true); \
    IF nth = 2 THEN PERFORM pg_advisory_xact_lock_shared(42); END IF; \
    RETURN NEW; END $$; \
    CREATE TRIGGER paused BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION paused()";

#[tokio::test]
async fn two_batches_settle_the_same_keys_in_one_order() {
    let database = postgres("keys_in_one_order").await;
    let shop = Shop::open(&database.ledger, "acme", &[("A", 10), ("B", 10)]).await;
    database.run(PAUSED, "").await;
    let pause = psql(&database, "SELECT pg_advisory_xact_lock(42)").await;
    // Of other SKUs, so that only the keys are where the two can meet.
    let requests = |keys: [&str; 2], sku, body| -> Vec<Request> {
        keys.map(|key| Request { fingerprint: [body; 32], ..shop.place(key, &[(sku, 1)]) }).to_vec()
    };
    let (one, two): (Ledger, Ledger) = (database.second_agent().await, database.second_agent().await);
    let go_on = async {
        until_so_many_wait(&database, 2).await;
        drop(pause);
    };
    let (first, second, ()) = tokio::join!(
        commit(&one, requests(["k1", "k2"], "A", 1)),
        commit(&two, requests(["k2", "k1"], "B", 2)),
        go_on
    );
    let reused = [refused(Refusal::KeyReused), refused(Refusal::KeyReused)];
    let (placed, other) = if second == reused { (first, second) } else { (second, first) };
    assert!(
        placed.iter().all(is_placed) && other == reused,
        "one of them settled both: {placed:?} {other:?}"
    );
    drop((one, two));
    assert_eq!(deadlocks(database).await, 0);
}
