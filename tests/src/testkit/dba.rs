//! A DBA at the ledger's own shell: plain SQL on a connection of their own, through no code of the agents.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};

use crate::testkit::database::Database;

/// How long a statement waits for SQLite's one writer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that may do everything.
#[derive(Debug)]
pub enum Dba {
    /// To an SQLite file.
    Sqlite(SqliteConnection),
    /// To a PostgreSQL database.
    Postgres(PgConnection),
}

impl Dba {
    /// Connects.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn connect(database: &Database) -> Result<Dba> {
        let connected = match database {
            Database::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(PATIENCE);
                Dba::Sqlite(options.foreign_keys(true).connect().await?)
            }
            Database::Postgres { url, password } => {
                let options: PgConnectOptions = url.parse()?;
                let with = password.as_deref().map(|password| options.clone().password(password));
                Dba::Postgres(with.unwrap_or(options).connect().await?)
            }
        };
        Ok(connected)
    }

    /// Runs statements; how many rows the last one changed.
    ///
    /// # Errors
    /// When the database refuses one.
    pub async fn execute(&mut self, sql: &str) -> Result<u64> {
        let failed = || format!("run {sql}");
        Ok(match self {
            Dba::Sqlite(to) => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(to).await.with_context(failed)?.rows_affected()
            }
            Dba::Postgres(to) => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(to).await.with_context(failed)?.rows_affected()
            }
        })
    }

    /// Asks for rows of two texts, which both databases' `CAST(.. AS text)` makes of anything.
    ///
    /// # Errors
    /// When the database refuses the question or answers with something else.
    pub async fn pairs(&mut self, sql: &str) -> Result<Vec<(String, String)>> {
        let failed = || format!("ask {sql}");
        let query = AssertSqlSafe(sql);
        match self {
            Dba::Sqlite(to) => sqlx::query_as(query).fetch_all(to).await.with_context(failed),
            Dba::Postgres(to) => sqlx::query_as(query).fetch_all(to).await.with_context(failed),
        }
    }

    /// Hangs up.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub async fn close(self) -> Result<()> {
        match self {
            Dba::Sqlite(connection) => connection.close().await?,
            Dba::Postgres(connection) => connection.close().await?,
        }
        Ok(())
    }
}
