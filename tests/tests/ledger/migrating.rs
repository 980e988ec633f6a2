//! Migrations beside sessions that use the tables: a migration gives way, names who holds a table,
//! and is applied once the table is free.

use std::sync::Arc;

use bridge_idc::orders::store::{Applied, LedgerError};
use sqlx::{Connection as _, PgConnection};

use crate::database::{Database, postgres};
use crate::held::{psql, until_one_waits};

/// Removes what migration 10 has made.
const BEFORE_10: &str = "DROP TABLE launch_purchases, launch_sales, launch_skus, launches CASCADE; \
    DROP FUNCTION launches_begin, launches_change, launches_go, launch_skus_sell; \
    ALTER TABLE outcomes DROP COLUMN opens_at, DROP COLUMN customer_limit, DROP COLUMN bought; \
    DELETE FROM schema_migrations WHERE version = 10";

/// A long report on a table that migration 10 changes.
const REPORT: &str = "SET application_name = 'a long report'; SELECT count(*) FROM outcomes";

fn applied() -> Vec<Applied> {
    vec![Applied { version: 10, description: "launches".to_owned() }]
}

/// Reads the table as an agent does, which must not wait for long behind the migration.
async fn reads_soon(database: &Database) {
    let mut reader = psql(database, "SET LOCAL lock_timeout = '2s'; SELECT count(*) FROM outcomes").await;
    sqlx::raw_sql("ROLLBACK").execute(&mut reader).await.unwrap();
    reader.close().await.unwrap();
}

#[tokio::test]
async fn a_migration_behind_a_report_lets_others_pass_and_is_applied_later() {
    let database = Arc::new(postgres("migrates_beside").await);
    database.run(BEFORE_10, "").await;
    let report: PgConnection = psql(&database, REPORT).await;
    let migrating = tokio::spawn({
        let database = database.clone();
        async move { database.ledger.migrate().await }
    });
    for _ in 0..3 {
        until_one_waits(&database).await;
        reads_soon(&database).await;
    }
    drop(report);
    assert_eq!(migrating.await.unwrap().unwrap(), applied());
    database.ledger.ready().await.unwrap();
    assert_eq!(database.ledger.migrate().await.unwrap(), []);
}

#[tokio::test]
async fn a_migration_that_gives_up_names_the_table_and_its_holder() {
    let database = postgres("gives_up").await;
    database.run(BEFORE_10, "").await;
    let report = psql(&database, REPORT).await;
    let error = database.ledger.migrate().await.unwrap_err();
    assert!(matches!(error, LedgerError::TablesInUse { .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("table outcomes: process "), "{told}");
    assert!(told.contains("program a long report"), "{told}");
    assert_eq!(database.count("SELECT count(*) FROM schema_migrations WHERE version = 10").await, 0);
    drop(report);
    assert_eq!(database.ledger.migrate().await.unwrap(), applied(), "the first try left its lock");
}

#[tokio::test]
async fn agents_that_migrate_at_once_apply_each_migration_once() {
    let database = postgres("migrate_at_once").await;
    database.run(BEFORE_10, "").await;
    let (second, third) = (database.second_agent().await, database.second_agent().await);
    let (first, second, third) = tokio::join!(database.ledger.migrate(), second.migrate(), third.migrate());
    let ends = [first.unwrap(), second.unwrap(), third.unwrap()];
    assert_eq!(database.count("SELECT count(*) FROM schema_migrations WHERE version = 10").await, 1);
    assert!(ends.contains(&applied()), "{ends:?}");
}
