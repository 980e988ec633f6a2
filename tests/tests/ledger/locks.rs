//! Tests that writers lock rows and keys in one order, so they never deadlock. The database would
//! end a deadlock, and the writer would retry. So these tests check which locks are held, and not
//! only the outcomes.

use bridge_idc::orders::planner::Request;
use bridge_idc::orders::store::{Ledger, RequestEnd};
use bridge_protocol::domain::{Brand, Outcome};
use bridge_protocol::wire::order::Refusal;
use sqlx::PgConnection;

use crate::database::{Database, postgres, value};
use crate::held::{holds, psql, stock, until_one_waits, until_so_many_wait, waiting};
use crate::shop::{Shop, answers, batch, commit, is_placed, refused, settled};

/// Returns how many deadlocks PostgreSQL has ended. A session reports its count when it ends, so
/// this waits for the end of all other sessions.
async fn deadlocks(database: Database) -> i64 {
    let url = database.url().clone();
    drop(database.ledger);
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while value(&url, others).await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    value(&url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await
}

/// Returns the stock rows that nobody holds, read by another session.
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
    // A plan that sorts or merges would return sorted rows by chance. These settings rule that out.
    let plans = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET enable_sort = off', current_database()); \
        EXECUTE format('ALTER DATABASE %I SET enable_mergejoin = off', current_database()); END $$";
    database.run(plans, "").await;
    let ledger = database.second_agent().await;
    // The order of the ids is neither the order of the names nor its reverse.
    let names: Vec<String> = (0..SKUS).map(|n| format!("S{}", n * 37 % SKUS)).collect();
    for name in &names {
        Shop::open(&ledger, "acme", &[(name, 10)]).await;
    }
    let shop = Shop { brand: Brand::new("acme").unwrap() };
    let all: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let order = batch(vec![shop.place("k", &all)]);

    // The order waits for the last row, then meets a held row in the middle and waits for it with
    // its locks so far.
    let middle = SKUS / 2;
    let holder = holds(&database, &names[middle]).await;
    let mut session = psql(&database, "").await;
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT sku_id FROM skus ORDER BY sku_id").fetch_all(&mut session).await.unwrap();
    let awaited = stock(&shop, &names[SKUS - 1]);
    let seen = loop {
        let mut wait = std::pin::pin!(ledger.commit(&order, Some(&awaited)));
        // The wait is bounded, so the result counts only if the session waited before and after the
        // look.
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
    assert_eq!(seen, ids[middle + 1..], "the order holds exactly the rows before the one that it waits for");
    drop(holder);
}

#[tokio::test]
async fn stock_changed_before_a_batch_locks_it_is_sold_as_changed() {
    let database = postgres("met_on_its_way").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10), ("B", 10)]).await;
    let order = batch(vec![shop.place("k", &[("A", 1), ("B", 1)])]);
    let ends = loop {
        // The order waits for B, then meets A, whose holder changes the price.
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
        // The wait is bounded. On a slow machine it may end before the change.
        if !matches!(end.ends[..], [RequestEnd::Waits(_)]) {
            break end;
        }
    };
    let answer = answers(ends).remove(0);
    assert!(matches!(settled(&answer).0, Outcome::PriceChanged { .. }), "{answer:?}");
    assert_eq!(shop.stock(ledger, "A").await, (10, 0));
}

/// Trigger that stops each batch between its first two keys until lock 42 is free. The wait for a
/// key has no limit.
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
    // The SKUs differ, so the two batches can meet only at the keys.
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
        "one batch settled both keys: {placed:?} {other:?}"
    );
    drop((one, two));
    assert_eq!(deadlocks(database).await, 0);
}
