//! A connection to a ledger's database, as an auditor or a DBA opens one: with SQL of our own, through no code of the
//! agents.

use std::time::Duration;

use anyhow::Result;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, PgConnection, SqliteConnection};

use crate::database::Database;

/// How long a change waits for its turn on SQLite, where the agent writes as well, one at a time.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Debug)]
pub enum Connection {
    /// To an SQLite file.
    Sqlite(SqliteConnection),
    /// To PostgreSQL.
    Postgres(PgConnection),
}

impl Connection {
    /// One that can only read.
    ///
    /// # Errors
    /// When the database does not let it in.
    pub async fn reading(database: &Database) -> Result<Connection> {
        Ok(match database {
            Database::Sqlite(path) => Connection::Sqlite(
                SqliteConnectOptions::new().filename(path).read_only(true).connect().await?,
            ),
            Database::Postgres { .. } => {
                Connection::postgres(database, &[("default_transaction_read_only", "on")]).await?
            }
        })
    }

    /// One that can change rows; each statement is a transaction of its own.
    ///
    /// # Errors
    /// When the database does not let it in.
    pub async fn writing(database: &Database) -> Result<Connection> {
        Ok(match database {
            Database::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(PATIENCE);
                Connection::Sqlite(options.connect().await?)
            }
            Database::Postgres { .. } => Connection::postgres(database, &[]).await?,
        })
    }

    async fn postgres(database: &Database, settings: &[(&str, &str)]) -> Result<Connection> {
        let Database::Postgres { url, password } = database else { anyhow::bail!("not a PostgreSQL") };
        let mut options: PgConnectOptions = url.parse()?;
        if let Some(password) = password {
            options = options.password(password);
        }
        Ok(Connection::Postgres(options.options(settings.iter().copied()).connect().await?))
    }

    /// Rows of a text and three numbers, which is all that anyone here asks for. Both databases understand the same SQL
    /// for it.
    ///
    /// # Errors
    /// When the database does not answer, or has no such columns.
    pub async fn rows(
        &mut self,
        sql: &'static str,
        values: &[&str],
    ) -> Result<Vec<(String, i64, i64, i64)>, sqlx::Error> {
        match self {
            Connection::Sqlite(connection) => {
                let query = values.iter().fold(sqlx::query_as(sql), |query, value| query.bind(*value));
                query.fetch_all(connection).await
            }
            Connection::Postgres(connection) => {
                let query = values.iter().fold(sqlx::query_as(sql), |query, value| query.bind(*value));
                query.fetch_all(connection).await
            }
        }
    }

    /// Runs one statement; it is committed when this returns. Tells how many rows it changed.
    ///
    /// # Errors
    /// When the database refuses it.
    pub async fn execute(&mut self, sql: &'static str, values: &[&str]) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Connection::Sqlite(connection) => {
                let query = values.iter().fold(sqlx::query(sql), |query, value| query.bind(*value));
                query.execute(connection).await?.rows_affected()
            }
            Connection::Postgres(connection) => {
                let query = values.iter().fold(sqlx::query(sql), |query, value| query.bind(*value));
                query.execute(connection).await?.rows_affected()
            }
        })
    }
}
