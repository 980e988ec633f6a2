//! Tests of PostgreSQL's outages: before the agent starts, during its batches, and between a COMMIT
//! and its answer.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bridge_idc::config::LedgerUrl;
use bridge_idc::orders::planner::Request;
use bridge_idc::orders::store::{
    BatchEnd, Ledger, LedgerError, NotReady, RequestEnd, RequestOutcome, Totals,
};
use bridge_protocol::domain::Outcome;
use bridge_protocol::wire::order::Refusal;
use bridge_tests::testkit::postgres::Postgres;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::database::{self, connect, create};
use crate::shop::{Shop, batch, commit, commit_one, is_placed, settled};

#[tokio::test]
async fn a_database_that_is_down_is_reported_and_used_once_up() {
    let mut cluster = Postgres::start().await.unwrap();
    let url = LedgerUrl::Postgres(create(&cluster, "later").await);
    cluster.stop().await.unwrap();

    let ledger = connect(&url).await;
    assert!(matches!(ledger.ping().await, Err(LedgerError::Unavailable(_))));
    assert!(matches!(ledger.ready().await, Err(NotReady::Unavailable(_))));
    assert!(matches!(ledger.migrate().await, Err(LedgerError::Unavailable(_))));

    cluster.restart().await.unwrap();
    assert!(matches!(ledger.ready().await, Err(NotReady::Empty)));
    assert!(!ledger.migrate().await.unwrap().is_empty());
    ledger.ready().await.unwrap();
}

#[tokio::test]
async fn a_commit_with_a_warning_is_told_once_a_standby_has_it() {
    let cluster = Postgres::start().await.unwrap();
    let url = LedgerUrl::Postgres(create(&cluster, "warned").await);
    let ledger = Arc::new(connect(&url).await);
    ledger.migrate().await.unwrap();
    let shop = Shop::open(&ledger, "acme", &[("A", 10)]).await;
    let mut dba = cluster.connect("warned").await.unwrap();
    // No standby has this name, so every writer waits until the wait is cancelled.
    stand_by(&mut dba, "nobody").await;
    until_commits_wait(cluster.connect("warned").await.unwrap(), &mut dba).await;
    let order = shop.place("k1", &[("A", 1)]);
    let committing = {
        let (ledger, order) = (ledger.clone(), order.clone());
        tokio::spawn(async move { ledger.commit(&batch(vec![order]), None).await })
    };
    while !committing.is_finished() {
        cancel_waits(&mut dba).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let BatchEnd { ends, outage } = committing.await.unwrap();
    assert!(matches!(ends[..], [RequestEnd::Unknown]) && outage.is_some(), "{ends:?} {outage:?}");

    stand_by(&mut dba, "").await;
    assert_eq!(settled(&commit_one(&ledger, order).await), (Outcome::Placed, true));
}

/// Sets the standby for which the server waits in every COMMIT. An empty name means none.
async fn stand_by(dba: &mut PgConnection, name: &str) {
    let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
    dba.execute(AssertSqlSafe(set)).await.unwrap();
    dba.execute("SELECT pg_reload_conf()").await.unwrap();
    let shown = async |dba: &mut PgConnection| -> String {
        sqlx::query_scalar("SHOW synchronous_standby_names").fetch_one(dba).await.unwrap()
    };
    while shown(dba).await != name {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Commits until a commit waits for the standby. The new setting takes effect only when the
/// checkpointer has read it.
async fn until_commits_wait(mut session: PgConnection, dba: &mut PgConnection) {
    let mut cancelled = 0;
    while cancelled == 0 {
        let mut commit = pin!(session.execute("SELECT pg_logical_emit_message(true, 'probe', '')"));
        loop {
            tokio::select! {
                committed = &mut commit => {
                    committed.unwrap();
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(5)) => cancelled += cancel_waits(dba).await,
            }
        }
    }
}

/// Cancels the wait of every COMMIT that waits for a standby. Returns their number.
async fn cancel_waits(dba: &mut PgConnection) -> i64 {
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    sqlx::query_scalar(cancel).fetch_one(dba).await.unwrap()
}

/// Repeats uncommitted requests until all are committed, as an agent does. Returns the answers in
/// the order of the requests.
async fn commit_at_last(ledger: &Ledger, requests: Vec<Request>) -> Vec<RequestOutcome> {
    let mut answers = vec![None; requests.len()];
    for _ in 0..10_000 {
        let open: Vec<usize> = (0..answers.len()).filter(|n| answers[*n].is_none()).collect();
        if open.is_empty() {
            return answers.into_iter().flatten().collect();
        }
        let again = open.iter().map(|n| requests[*n].clone()).collect();
        let BatchEnd { ends, outage } = ledger.commit(&batch(again), None).await;
        for (n, end) in open.iter().zip(ends) {
            match end {
                RequestEnd::Committed(committed) => answers[*n] = Some(committed.answer().clone()),
                // The other writer holds the row during its batch.
                RequestEnd::Waits(_) => {}
                RequestEnd::NotCommitted | RequestEnd::Unknown => assert!(outage.is_some()),
            }
        }
        if outage.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("the database did not come back");
}

#[tokio::test]
async fn committed_orders_survive_a_kill_and_the_rest_follow() {
    const BATCHES: usize = 200;
    let mut cluster = Postgres::start().await.unwrap();
    let url = LedgerUrl::Postgres(create(&cluster, "killed").await);
    let ledger = connect(&url).await;
    ledger.migrate().await.unwrap();
    let shop = Shop::open(&ledger, "acme", &[("HOT", 1_000_000)]).await;

    let (progress, mut done) = watch::channel(0);
    let run = |writer: usize| {
        let (ledger, shop, progress) = (&ledger, &shop, &progress);
        async move {
            let mut answers = Vec::new();
            for round in 0..BATCHES {
                let request = |n| shop.place(&format!("{writer}-{round}-{n}"), &[("HOT", 1)]);
                answers.extend(commit_at_last(ledger, (0..8).map(request).collect()).await);
                progress.send_modify(|done| *done += 1);
            }
            answers
        }
    };
    let kill = async {
        for batches in [BATCHES / 2, BATCHES] {
            done.wait_for(|done| *done >= batches).await.unwrap();
            cluster.kill9().await.unwrap();
            cluster.restart().await.unwrap();
        }
    };
    let (first, second, ()) = tokio::join!(run(0), run(1), kill);

    let answers = [first, second].concat();
    let orders = answers.len() as i64;
    assert!(answers.iter().all(|answer| settled(answer).0 == Outcome::Placed));
    let totals = Totals { placed: orders, cancelled: 0, rejected: 0, lines: orders, units: orders };
    assert_eq!(ledger.totals().await.unwrap(), totals, "each order exists exactly once");
    assert_eq!(shop.stock(&ledger, "HOT").await, (1_000_000 - orders, orders));
}

#[tokio::test]
async fn a_commit_without_answer_is_looked_up_and_answered_as_new() {
    outage(Fault::CutAfter).await;
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_committed_again() {
    outage(Fault::CutBefore).await;
}

#[tokio::test]
async fn a_commit_that_hangs_is_given_up_and_committed_again() {
    outage(Fault::Swallow).await;
}

/// Checks that one call of `commit` places each request once, with this fault at the COMMIT.
async fn outage(fault: Fault) {
    let cluster = Postgres::start().await.unwrap();
    let url = create(&cluster, "relayed").await;
    let relay = Relay::start(&url).await;
    let ledger = connect(&relay.url).await;
    ledger.migrate().await.unwrap();
    let shop = Shop::open(&ledger, "acme", &[("A", 100)]).await;
    let cancelled = shop.place("before", &[("A", 10)]);
    let order = crate::shop::order_of(&cancelled);
    commit_one(&ledger, cancelled).await;

    relay.plant(fault);
    let requests = [shop.place("1", &[("A", 1)]), shop.place("2", &[("A", 1)]), shop.cancel("3", order)];
    let answers = commit(&ledger, requests.to_vec()).await;
    assert!(relay.has_struck(), "the fault did not occur");
    assert!(is_placed(&answers[0]) && is_placed(&answers[1]), "{answers:?}");
    assert_eq!(settled(&answers[2]), (Outcome::Cancelled, false));
    assert_eq!(shop.stock(&ledger, "A").await, (98, 2));
    let again = commit(&ledger, requests.to_vec()).await;
    assert!(again.iter().all(|answer| settled(answer).1), "a request was settled again: {again:?}");
}

/// A COMMIT never arrives. Before the agent looks up its outcome, another agent settles the key.
#[tokio::test]
async fn a_lost_commit_overtaken_by_another_agent_gets_that_agents_outcome() {
    let cluster = Postgres::start().await.unwrap();
    let url = create(&cluster, "overtaken").await;
    let relay = Relay::start(&url).await;
    let (ledger, other) = (connect(&relay.url).await, connect(&LedgerUrl::Postgres(url)).await);
    other.migrate().await.unwrap();
    let shop = Shop::open(&other, "acme", &[("A", 100)]).await;

    relay.plant(Fault::Overtaken);
    let ours = batch(vec![shop.place("k", &[("A", 1)])]);
    let overtake = async {
        relay.gate.struck.notified().await;
        let answer = commit_one(&other, shop.place("k", &[("A", 1)])).await;
        relay.gate.cut.notify_one();
        answer
    };
    let (BatchEnd { ends, outage }, theirs) = tokio::join!(ledger.commit(&ours, None), overtake);
    assert!(outage.is_none(), "{outage:?}");
    let RequestOutcome::Settled { receipt: theirs, replayed: false } = theirs else { panic!("{theirs:?}") };
    let [RequestEnd::Committed(committed)] = &ends[..] else { panic!("{ends:?}") };
    let replayed = RequestOutcome::Settled { receipt: theirs, replayed: true };
    assert_eq!(*committed.answer(), replayed, "the receipt is the one that the other agent committed");
    assert_eq!(shop.stock(&other, "A").await, (99, 1));
}

/// A look-up on a silent line ends with an error, and its connection is usable again.
#[tokio::test]
async fn a_look_up_on_a_silent_line_ends_and_others_are_answered() {
    let cluster = Postgres::start().await.unwrap();
    let url = create(&cluster, "silent").await;
    let relay = Relay::start(&url).await;
    let own = connect(&LedgerUrl::Postgres(url)).await;
    own.migrate().await.unwrap();
    let shop = Shop::open(&own, "acme", &[("A", 100)]).await;
    let order = shop.place("k", &[("A", 1)]);
    commit_one(&own, order.clone()).await;

    let ledger = Ledger::connect(&relay.url, None, 1).await.unwrap();
    relay.plant(Fault::Silent);
    let look_up = || ledger.look_up(&shop.brand, crate::shop::order_of(&order), None);
    let ended = tokio::time::timeout(PATIENCE, look_up()).await.expect("it waits for ever");
    assert!(relay.has_struck() && matches!(ended, Err(LedgerError::Unavailable(_))), "{ended:?}");
    for _ in 0..2 {
        let state = look_up().await.expect("the one connection is not given back").unwrap();
        assert_eq!(state.state, "placed");
    }
}

/// Longer than the agent waits for a database that does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Statement that looks orders up.
const LOOK_UP: &str = include_str!("../../../bridge-idc/src/orders/store/postgres/look_up.sql");

/// A fault at one COMMIT, or at one look-up of orders.
#[derive(Clone, Copy)]
enum Fault {
    CutBefore,
    CutAfter,
    Swallow,
    /// Lets nothing pass any more, and tells neither end.
    Silent,
    /// Cuts the server's side before the COMMIT, and the agent's side when the test says so.
    Overtaken,
}

/// Signals between the two cuts of [`Fault::Overtaken`].
#[derive(Default)]
struct Gate {
    struck: Notify,
    cut: Notify,
}

/// A connection to PostgreSQL that can fail at a COMMIT, or at a look-up of orders.
struct Relay {
    url: LedgerUrl,
    fault: Arc<Mutex<Option<Fault>>>,
    gate: Arc<Gate>,
}

impl Relay {
    async fn start(url: &str) -> Self {
        let (user, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{database}", listener.local_addr().unwrap());
        let fault = Arc::new(Mutex::new(None));
        let gate = Arc::new(Gate::default());
        let (server, planted, at_gate) = (server.to_owned(), Arc::clone(&fault), Arc::clone(&gate));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let (planted, gate) = (Arc::clone(&planted), Arc::clone(&at_gate));
                // Either side may end the connection. The test expects that, so it is no error of
                // the relay.
                tokio::spawn(async move { pass(client, server, &planted, &gate).await.unwrap_or_default() });
            }
        });
        Self { url: LedgerUrl::Postgres(url), fault, gate }
    }

    fn plant(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
    }

    fn has_struck(&self) -> bool {
        self.fault.lock().unwrap().is_none()
    }
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    planted: &Mutex<Option<Fault>>,
    gate: &Gate,
) -> std::io::Result<()> {
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let bytes = &up[..read?];
                let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
                let is_met = has(b"COMMIT\0") || has(LOOK_UP.as_bytes());
                let fault = if is_met { planted.lock().unwrap().take() } else { None };
                match fault {
                    _ if bytes.is_empty() => return Ok(()),
                    Some(Fault::CutBefore) => return Ok(()),
                    Some(Fault::CutAfter) => {
                        server.write_all(bytes).await?;
                        // The server has committed when its answer arrives.
                        let _unheard = server.read(&mut down).await?;
                        return Ok(());
                    }
                    Some(Fault::Swallow) => {}
                    Some(Fault::Silent) => std::future::pending::<()>().await,
                    Some(Fault::Overtaken) => {
                        drop(server);
                        gate.struck.notify_one();
                        gate.cut.notified().await;
                        return Ok(());
                    }
                    None => server.write_all(bytes).await?,
                }
            }
            read = server.read(&mut down) => {
                let bytes = &down[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

/// Trigger that refuses order lines of certain quantities, each with another error: a rule,
/// contention, a missing right, cancellation, and a limit.
const PLANTED: &str = "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF NEW.quantity = 13 THEN RAISE EXCEPTION 'refused'; END IF; \
    IF NEW.quantity = 7 THEN RAISE EXCEPTION 'in the way' USING ERRCODE = '40001'; END IF; \
    IF NEW.quantity = 8 THEN RAISE EXCEPTION 'no right' USING ERRCODE = '42501'; END IF; \
    IF NEW.quantity = 9 THEN RAISE EXCEPTION 'cancelled' USING ERRCODE = '57014'; END IF; \
    IF NEW.quantity = 10 THEN RAISE EXCEPTION 'too complex' USING ERRCODE = '54001'; END IF; \
    RETURN NEW; END $$; \
    CREATE TRIGGER planted BEFORE INSERT ON order_lines FOR EACH ROW EXECUTE FUNCTION planted()";

fn code_of(end: &RequestEnd) -> &str {
    match end {
        RequestEnd::Committed(committed) => match committed.answer() {
            RequestOutcome::Settled { receipt, .. } => receipt.outcome.code(),
            RequestOutcome::Refused(refusal) => refusal.code(),
        },
        RequestEnd::NotCommitted => "not committed",
        RequestEnd::Waits(_) | RequestEnd::Unknown => "unknown",
    }
}

#[tokio::test]
async fn a_failing_statement_fails_its_request_alone_and_leaves_nothing() {
    let database = database::postgres("fails_alone").await;
    let shop = Shop::open(&database.ledger, "acme", &[("A", 1_000)]).await;
    database.run(PLANTED, "").await;
    let place = |(n, units): (usize, i64)| shop.place(&n.to_string(), &[("A", units)]);
    let requests: Vec<Request> =
        [1, 13, 1, 7, 1, 8, 1, 9, 1, 10].into_iter().enumerate().map(place).collect();
    let BatchEnd { ends, outage } = database.ledger.commit(&batch(requests.clone()), None).await;
    assert!(outage.is_none(), "{outage:?}");
    let failed = Refusal::Failed.code();
    let told: Vec<&str> = ends.iter().map(code_of).collect();
    let expected = [
        "placed",
        failed,
        "placed",
        "not committed",
        "placed",
        failed,
        "placed",
        "not committed",
        "placed",
        failed,
    ];
    assert_eq!(told, expected);
    assert_eq!(
        shop.stock(&database.ledger, "A").await,
        (995, 5),
        "the ledger has the valid orders and nothing else"
    );
    assert_eq!(database.count("SELECT count(*) FROM outcomes").await, 5);

    // If every request lacks the same right, no single request is at fault. The ledger finds that
    // out soon.
    let requests = (0..100).map(|n| shop.place(&format!("right-{n}"), &[("A", 8)])).collect();
    let BatchEnd { ends, outage } = database.ledger.commit(&batch(requests), None).await;
    assert!(ends.iter().all(|end| matches!(end, RequestEnd::NotCommitted)), "{ends:?}");
    assert!(outage.is_none(), "other brands may still succeed: {outage:?}");
}

/// Trigger that silently keeps the stock of one brand, and counts the attempts to change it.
const NOT_MOVED: &str = "CREATE SEQUENCE tries; CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF (SELECT brand FROM skus WHERE sku_id = NEW.sku_id) <> 'acme' THEN RETURN NEW; END IF; \
    PERFORM nextval('tries'); RETURN NULL; END $$; \
    CREATE TRIGGER planted BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION planted()";

#[tokio::test]
async fn a_brand_whose_stock_never_moves_costs_others_few_tries() {
    let database = database::postgres("never_moves").await;
    let acme = Shop::open(&database.ledger, "acme", &[("A", 1_000)]).await;
    let best = Shop::open(&database.ledger, "best", &[("A", 1_000)]).await;
    database.run(NOT_MOVED, "").await;
    let place = |n: usize| {
        let shop = if n.is_multiple_of(2) { &acme } else { &best };
        shop.place(&n.to_string(), &[("A", 1)])
    };
    let BatchEnd { ends, outage } = database.ledger.commit(&batch((0..200).map(place).collect()), None).await;
    assert!(outage.is_none(), "{outage:?}");
    for (n, end) in ends.iter().enumerate() {
        let is_done = matches!(end, RequestEnd::Committed(_));
        assert_eq!(is_done, !n.is_multiple_of(2), "request {n}: {end:?}");
    }
    let tries = database.count("SELECT last_value FROM tries").await;
    assert!(tries <= 150, "its stock was to be moved {tries} times");
}

/// Trigger of a shop that forgets to return its row, on one table of new orders.
const DROPS_ROWS: [&str; 2] = [
    "CREATE OR REPLACE FUNCTION forgets() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
     CREATE TRIGGER forgets BEFORE INSERT ON $TABLE FOR EACH ROW EXECUTE FUNCTION forgets()",
    "CREATE TRIGGER forgets BEFORE INSERT ON $TABLE BEGIN SELECT RAISE(IGNORE); END",
];

pub(crate) async fn an_order_whose_rows_a_trigger_drops_is_not_placed(database: &database::Database) {
    let shop = Shop::open(&database.ledger, "acme", &[("A", 10)]).await;
    for table in ["orders", "order_lines", "order_personal"] {
        let [postgres, sqlite] = DROPS_ROWS.map(|trigger| trigger.replace("$TABLE", table));
        database.run(&postgres, &sqlite).await;
        let requests = batch(vec![shop.place(table, &[("A", 1)])]);
        let BatchEnd { ends, outage } = database.ledger.commit(&requests, None).await;
        // SQLite checks the lines' order at once, so the order is at fault there.
        let is_refused = |end: &RequestEnd| match end {
            RequestEnd::Committed(committed) => {
                *committed.answer() == RequestOutcome::Refused(Refusal::Failed)
            }
            end => matches!(end, RequestEnd::NotCommitted),
        };
        assert!(ends.len() == 1 && ends.iter().all(is_refused), "{table}: {ends:?}");
        assert!(outage.is_none(), "{table}: {outage:?}");
        assert_eq!(database.count("SELECT count(*) FROM outcomes").await, 0, "{table}");
        assert_eq!(shop.stock(&database.ledger, "A").await, (10, 0), "{table}");
        database.run(&format!("DROP TRIGGER forgets ON {table}"), "DROP TRIGGER forgets").await;
    }
    let BatchEnd { ends, .. } =
        database.ledger.commit(&batch(vec![shop.place("orders", &[("A", 1)])]), None).await;
    assert!(matches!(ends[..], [RequestEnd::Committed(_)]), "{ends:?}");
    assert_eq!(shop.stock(&database.ledger, "A").await, (9, 1));
}

/// Trigger that fails every order of one brand.
const ONE_BRAND_S: &str = "CREATE OR REPLACE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF NEW.brand = 'acme' THEN RAISE EXCEPTION 'planted' USING ERRCODE = '$STATE'; END IF; \
    RETURN NEW; END $$";

#[tokio::test]
async fn a_failure_for_one_brand_spares_another_in_the_same_batch() {
    let database = database::postgres("one_brand").await;
    let acme = Shop::open(&database.ledger, "acme", &[("A", 1_000)]).await;
    let best = Shop::open(&database.ledger, "best", &[("A", 1_000)]).await;
    let trigger = "CREATE TRIGGER planted BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION planted()";
    // None of these errors says that the database is down: missing function, missing table, missing
    // right, corrupt page, an error code of the shop's own, unreadable file, and unsupported
    // feature.
    let states = ["42883", "42P01", "42501", "XX001", "BX001", "58030", "0A000"];
    for (round, state) in states.into_iter().enumerate() {
        database.run(&ONE_BRAND_S.replace("$STATE", state), "").await;
        if round == 0 {
            database.run(trigger, "").await;
        }
        let place = |n: usize| {
            let shop = if n.is_multiple_of(2) { &acme } else { &best };
            shop.place(&format!("{state}-{n}"), &[("A", 1)])
        };
        let requests = batch((0..40).map(place).collect());
        let BatchEnd { ends, outage } = database.ledger.commit(&requests, None).await;
        assert!(outage.is_none(), "{state}: {outage:?}");
        for (n, end) in ends.iter().enumerate() {
            let is_acme_s = n.is_multiple_of(2);
            let is_right = matches!(
                (is_acme_s, end),
                (true, RequestEnd::NotCommitted) | (false, RequestEnd::Committed(_))
            );
            assert!(is_right, "{state}, request {n}: {end:?}");
        }
    }
    let sold = 20 * i64::try_from(states.len()).unwrap();
    assert_eq!(best.stock(&database.ledger, "A").await, (1_000 - sold, sold));
    assert_eq!(acme.stock(&database.ledger, "A").await, (1_000, 0));
}

#[tokio::test]
async fn a_connection_that_is_ended_under_a_batch_costs_nobody_anything() {
    let database = database::postgres("ended_under_it").await;
    let shop = Shop::open(&database.ledger, "acme", &[("A", 1_000)]).await;
    // Ends the connection of the first attempt during its transaction, and no other connection.
    let planted = "CREATE SEQUENCE tries; CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF nextval('tries') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NEW; END $$; \
        CREATE TRIGGER planted BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION planted(); \
        GRANT USAGE ON SEQUENCE tries TO PUBLIC";
    database.run(planted, "").await;
    let requests = (0..10).map(|n| shop.place(&n.to_string(), &[("A", 1)])).collect();
    let BatchEnd { ends, outage } = database.ledger.commit(&batch(requests), None).await;
    assert!(outage.is_none(), "{outage:?}");
    assert!(ends.iter().all(|end| matches!(end, RequestEnd::Committed(_))), "{ends:?}");
    assert_eq!(shop.stock(&database.ledger, "A").await, (990, 10));
}
