//! Tests of transactions that interleave, on PostgreSQL. An id is taken before the commit, so a
//! reader in the order of ids loses a change that commits late. The tests give the same
//! interleaving to such a reader and to a reader of the change log.

use bridge_idc::config::LedgerUrl;
use sqlx::postgres::PgListener;
use sqlx::{Connection, Executor, PgConnection};

use super::source::{PATIENCE, SHOP, Source, brands, changed};
use crate::database::postgres;

#[tokio::test]
async fn a_late_commit_is_not_lost_as_by_a_reader_by_id() {
    let database = postgres("interleaved").await;
    let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
    let acme = brands(&["acme"]);
    let mut source = Source::of(&database.ledger);
    // A change log without a sequencer.
    let by_id = "
        INSERT INTO brands (brand, currency) VALUES ('acme', 'KRW');
        CREATE TABLE by_id (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL);
        CREATE FUNCTION note_by_id() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO by_id (code) SELECT product FROM new_rows; RETURN NULL; END $$;
        CREATE TRIGGER note_by_id AFTER INSERT ON products REFERENCING NEW TABLE AS new_rows
            FOR EACH STATEMENT EXECUTE FUNCTION note_by_id();";
    database.run(by_id, "").await;
    let start = source.settled().await;

    let mut first = PgConnection::connect(url).await.unwrap();
    let mut second = PgConnection::connect(url).await.unwrap();
    first.execute("BEGIN").await.unwrap();
    first
        .execute("INSERT INTO products (brand, product, names) VALUES ('acme', 'LATE', '{}')")
        .await
        .unwrap();
    second.execute("BEGIN").await.unwrap();
    second
        .execute("INSERT INTO products (brand, product, names) VALUES ('acme', 'EARLY', '{}')")
        .await
        .unwrap();
    second.execute("COMMIT").await.unwrap();

    let middle = source.settled().await;
    assert_eq!(changed(&source.catalogue, &acme, start).await, ["Product acme/EARLY"]);
    let mut reader = PgConnection::connect(url).await.unwrap();
    let read = "SELECT id, code FROM by_id WHERE id > $1 ORDER BY id";
    let seen: Vec<(i64, String)> = sqlx::query_as(read).bind(0_i64).fetch_all(&mut reader).await.unwrap();
    assert_eq!(seen, [(2, "EARLY".to_owned())], "the smaller id is taken, but its row is not visible yet");

    first.execute("COMMIT").await.unwrap();
    let end = source.settled().await;
    assert_eq!(changed(&source.catalogue, &acme, middle).await, ["Product acme/LATE"]);
    assert_eq!(
        (middle.seq, end.seq),
        (start.seq + 1, start.seq + 2),
        "changes are numbered in the order of their commits"
    );
    let seen: Vec<(i64, String)> = sqlx::query_as(read).bind(2_i64).fetch_all(&mut reader).await.unwrap();
    assert_eq!(seen, [], "the reader by id never sees the late change");
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM by_id").fetch_one(&mut reader).await.unwrap();
    assert_eq!(there, 2);
}

#[tokio::test]
async fn a_transaction_that_stays_open_holds_up_nobody() {
    let database = postgres("held_open").await;
    let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
    let acme = brands(&["acme"]);
    let mut source = Source::of(&database.ledger);
    database.run("INSERT INTO brands (brand, currency) VALUES ('acme', 'KRW')", "").await;
    let start = source.settled().await;
    let mut held = PgConnection::connect(url).await.unwrap();
    held.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    held.execute("INSERT INTO categories (brand, category, names) VALUES ('acme', 'held', '{}')")
        .await
        .unwrap();
    for n in 0..20 {
        let sql = format!("INSERT INTO products (brand, product, names) VALUES ('acme', 'P{n}', '{{}}')");
        database.run(&sql, "").await;
        source.settled().await;
    }
    assert_eq!(changed(&source.catalogue, &acme, start).await.len(), 20);
    held.execute("ROLLBACK").await.unwrap();
    assert_eq!(source.settled().await.seq, start.seq + 20);
}

#[tokio::test]
async fn a_commit_wakes_the_sequencer_unless_its_session_does_so_itself() {
    let database = postgres("wakes").await;
    let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
    database.run(SHOP, "").await;
    let mut listener = PgListener::connect(url).await.unwrap();
    listener.listen("bridge_catalogue_pending").await.unwrap();
    let mut agent = PgConnection::connect(url).await.unwrap();
    agent.execute("SET bridge.tells_sequencer = on; UPDATE stock SET available = available").await.unwrap();
    let mut dba = PgConnection::connect(url).await.unwrap();
    dba.execute("UPDATE stock SET available = available WHERE false").await.unwrap();
    dba.execute("UPDATE stock SET available = available").await.unwrap();
    dba.execute("NOTIFY bridge_catalogue_pending, 'after'").await.unwrap();
    let mut payloads = Vec::new();
    while payloads.last().is_none_or(|payload| payload != "after") {
        let said =
            tokio::time::timeout(PATIENCE, listener.recv()).await.expect("no notification came").unwrap();
        payloads.push(said.payload().to_owned());
    }
    assert_eq!(payloads, ["", "after"], "only the commit that changed a row sends a notification");
}
