//! A subscriber: a second cluster that copies some tables of the first one, and then every change
//! to them, by logical replication as PostgreSQL's manual describes it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::AssertSqlSafe;
use tokio::time::{Instant, sleep};

use super::{More, Postgres, USER, command};

/// Interval between two checks if all tables are copied.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(120);
/// Name of the publication, of the subscription and of its replication slot.
const NAME: &str = "replica";

const PRIMARY_KEYS: &str =
    "SELECT format('ALTER TABLE %s ADD %s', conrelid::regclass, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE contype = 'p' AND conrelid::regclass::text = ANY($1)";
/// A table in state `s` (synchronised) or `r` (ready) has been copied, with the changes that were
/// made meanwhile.
const COPIED: &str = "SELECT coalesce(bool_and(srsubstate IN ('s', 'r')), false) FROM pg_subscription_rel";

impl Postgres {
    /// Publishes these tables of a database. The cluster needs `wal_level=logical`.
    ///
    /// # Errors
    ///
    /// Fails if a table does not exist.
    pub async fn publish(&self, database: &str, tables: &[&str]) -> Result<()> {
        self.run_sql(database, format!("CREATE PUBLICATION {NAME} FOR TABLE {}", tables.join(", "))).await
    }

    /// Makes a stopped cluster for a subscription: it has these tables of this cluster's database,
    /// empty, with their primary keys, and without triggers and other indexes.
    ///
    /// # Errors
    ///
    /// Fails if the cluster cannot be made.
    pub async fn subscriber(&self, database: &str, tables: &[&str], more: More) -> Result<Postgres> {
        let mut subscriber = Box::pin(Postgres::start_with(more)).await?;
        subscriber.create_database(database).await?;
        subscriber
            .run_sql(database, self.tables(database, tables).await?)
            .await
            .context("make the tables")?;
        let mut connection = self.connect(database).await?;
        let keys: Vec<String> =
            sqlx::query_scalar(PRIMARY_KEYS).bind(tables).fetch_all(&mut connection).await?;
        ensure!(keys.len() == tables.len(), "not every one of {tables:?} has a primary key");
        for key in keys {
            subscriber.run_sql(database, key).await?;
        }
        subscriber.stop().await?;
        Ok(subscriber)
    }

    /// Subscribes to the publication of `publisher`, which is reached at `line`. Returns once every
    /// table is copied.
    ///
    /// # Errors
    ///
    /// Fails if the subscription cannot be made, or the copy does not finish.
    pub async fn subscribe(&self, database: &str, publisher: &Postgres, line: SocketAddr) -> Result<()> {
        let (host, port, password) = (line.ip(), line.port(), &publisher.password);
        let source = format!("host={host} port={port} user={USER} password={password} dbname={database}");
        self.run_sql(
            database,
            format!("CREATE SUBSCRIPTION {NAME} CONNECTION '{source}' PUBLICATION {NAME}"),
        )
        .await
        .context("subscribe")?;
        let mut connection = self.connect(database).await?;
        let deadline = Instant::now() + PATIENCE;
        while !sqlx::query_scalar::<_, bool>(COPIED).fetch_one(&mut connection).await? {
            ensure!(Instant::now() < deadline, "the tables are not copied:\n{}", self.log());
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Ends the subscription, and removes its slot at the publisher.
    ///
    /// # Errors
    ///
    /// Fails if the publisher does not answer.
    pub async fn unsubscribe(&self, database: &str) -> Result<()> {
        self.run_sql(database, format!("DROP SUBSCRIPTION {NAME}")).await
    }

    /// Returns the statements that create these tables, without keys, indexes and triggers.
    async fn tables(&self, database: &str, tables: &[&str]) -> Result<String> {
        let mut dump = command(&self.programs.join("pg_dump"), self.account, self.dir.path());
        dump.args(["--schema-only", "--section=pre-data", "--no-owner", "--no-password", "--username", USER]);
        dump.args(["--host", "127.0.0.1", "--port", &self.port.to_string(), "--dbname", database]);
        dump.args(tables.iter().flat_map(|table| ["--table", *table]));
        // The default of `command` discards the output, which is needed here.
        dump.stdout(std::process::Stdio::piped());
        let output = dump.env("PGPASSWORD", &self.password).output().await.context("run pg_dump")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pg_dump ended with {}:\n{said}", output.status);
        let text = String::from_utf8(output.stdout).context("read pg_dump's output")?;
        // Lines that begin with a backslash are commands for psql only.
        Ok(text.lines().filter(|line| !line.starts_with('\\')).map(|line| format!("{line}\n")).collect())
    }

    async fn run_sql(&self, database: &str, sql: String) -> Result<()> {
        let mut connection = self.connect(database).await.context("connect to PostgreSQL")?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::wan::TcpRelay;

    #[tokio::test]
    async fn a_subscriber_gets_the_tables_rows_then_their_changes_alone() -> Result<()> {
        let logical = More { settings: vec!["wal_level=logical".to_owned()], ..More::default() };
        let primary = Box::pin(Postgres::start_with(logical)).await?;
        primary.create_database("shop").await?;
        for sql in [
            "CREATE TABLE counts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, value int)",
            "CREATE TABLE others (id int PRIMARY KEY)",
            "INSERT INTO counts (value) VALUES (41), (42)",
        ] {
            primary.run_sql("shop", sql.to_owned()).await?;
        }
        primary.publish("shop", &["counts"]).await?;
        let mut subscriber = primary.subscriber("shop", &["counts"], More::default()).await?;
        subscriber.restart().await?;
        let line = TcpRelay::start(primary.address(), Duration::from_millis(2))?;
        subscriber.subscribe("shop", &primary, line.address()).await?;

        let mut reader = subscriber.connect("shop").await?;
        let values = "SELECT array_agg(value ORDER BY id) FROM counts";
        assert_eq!(sqlx::query_scalar::<_, Vec<i32>>(values).fetch_one(&mut reader).await?, [41, 42]);
        assert!(sqlx::query("SELECT id FROM others").execute(&mut reader).await.is_err());

        // Changes made while the subscriber is down arrive after its restart.
        subscriber.stop().await?;
        primary.run_sql("shop", "UPDATE counts SET value = 43 WHERE value = 42".to_owned()).await?;
        subscriber.restart().await?;
        let mut reader = subscriber.connect("shop").await?;
        let deadline = Instant::now() + PATIENCE;
        while sqlx::query_scalar::<_, Vec<i32>>(values).fetch_one(&mut reader).await? != [41, 43] {
            ensure!(Instant::now() < deadline, "the change does not arrive");
            sleep(LOOK_EVERY).await;
        }
        subscriber.unsubscribe("shop").await?;
        Ok(())
    }
}
