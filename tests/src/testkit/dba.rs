//! A DBA's session with the ledger: plain SQL on its own connection, without any code of the
//! agents.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};

use crate::testkit::database::Database;

/// Time that a statement waits for SQLite's single writer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection without restrictions.
#[derive(Debug)]
pub enum Dba {
    /// To a SQLite file.
    Sqlite(SqliteConnection),
    /// To a PostgreSQL database.
    Postgres(PgConnection),
}

impl Dba {
    /// Connects to a database.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
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

    /// Runs statements. Returns the number of rows that the last one changed.
    ///
    /// # Errors
    ///
    /// Fails if the database refuses a statement.
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

    /// Runs a query for rows of two texts. `CAST(.. AS text)` turns any value into a text in both
    /// databases.
    ///
    /// # Errors
    ///
    /// Fails if the database refuses the query, or returns other columns.
    pub async fn pairs(&mut self, sql: &str) -> Result<Vec<(String, String)>> {
        let failed = || format!("ask {sql}");
        let query = AssertSqlSafe(sql);
        match self {
            Dba::Sqlite(to) => sqlx::query_as(query).fetch_all(to).await.with_context(failed),
            Dba::Postgres(to) => sqlx::query_as(query).fetch_all(to).await.with_context(failed),
        }
    }

    /// Closes the connection.
    ///
    /// # Errors
    ///
    /// Fails if the connection is already gone.
    pub async fn close(self) -> Result<()> {
        match self {
            Dba::Sqlite(connection) => connection.close().await?,
            Dba::Postgres(connection) => connection.close().await?,
        }
        Ok(())
    }
}
