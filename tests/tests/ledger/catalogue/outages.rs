//! Kills PostgreSQL while the sequencer works, and starts it again.

use bridge_idc::config::LedgerUrl;
use bridge_tests::testkit::postgres::Postgres;
use sqlx::{Connection, Executor, PgConnection};

use super::source::{Replica, SHOP, Source, brands};
use crate::database::{connect, create};

#[tokio::test]
async fn after_a_database_kill_changes_are_numbered_and_notified_again() {
    let mut cluster = Postgres::start().await.unwrap();
    let url = create(&cluster, "catalogue").await;
    let ledger = connect(&LedgerUrl::Postgres(url.clone())).await;
    ledger.migrate().await.unwrap();
    let brands = brands(&["acme", "beta"]);
    let mut source = Source::of(&ledger);
    let mut dba = PgConnection::connect(&url).await.unwrap();
    dba.execute(SHOP).await.unwrap();
    source.settled().await;
    let mut replica = Replica::bootstrap(&source.catalogue, &brands, 100).await;

    for round in 0..3 {
        let change = format!("UPDATE skus SET price = price + 1 WHERE sku <> 'round {round}'");
        dba.execute(sqlx::AssertSqlSafe(change.clone())).await.unwrap();
        cluster.kill9().await.unwrap();
        assert!(source.catalogue.head().await.is_err());
        cluster.restart().await.unwrap();
        dba = PgConnection::connect(&url).await.unwrap();
        dba.execute(sqlx::AssertSqlSafe(change)).await.unwrap();
        let position = source.settled().await;
        // The kill may lose a round's numbers, which are then given again. A replica that has them
        // must start anew.
        if source.catalogue.changes(&brands, replica.position, 1).await.unwrap().is_none() {
            replica = Replica::bootstrap(&source.catalogue, &brands, 100).await;
        }
        replica.reach(&source.catalogue, position).await;
        replica.assert_equals(&source.catalogue).await;
    }
}
