//! Migrations, built into the binary: one list for each database. The table `schema_migrations`
//! records applied ones.

/// Migrations on PostgreSQL beside sessions that use the tables.
mod beside_sessions;

use std::borrow::Cow;
use std::collections::BTreeSet;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::error::{LedgerError, NotReady};
use super::faults::of_migrating;
use super::pools::{Database, on_database};

/// The version of the tables that this build reads and writes.
const VERSION: i64 = 10;

const TABLE: &str = "schema_migrations";

/// A migration that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The migration's number.
    pub version: i64,
    /// The migration's short description.
    pub description: String,
}

/// The text of a migration.
macro_rules! sql {
    ($database:literal, $name:literal) => {
        include_str!(concat!("migrations/", $database, "/", $name, ".sql"))
    };
}

/// All migrations of one database.
macro_rules! migrations {
    ($database:literal) => {
        vec![
            migration(1, "orders", sql!($database, "0001_orders")),
            migration(2, "catalogue", sql!($database, "0002_catalogue")),
            migration(3, "payments", sql!($database, "0003_payments")),
            migration(4, "requests of a payment", sql!($database, "0004_requests_of_payment")),
            migration(5, "payments charged late", sql!($database, "0005_charged_late")),
            migration(6, "payments given up", sql!($database, "0006_given_up")),
            migration(7, "key checks", sql!($database, "0007_key_checks")),
            migration(8, "refunds on their way", sql!($database, "0008_refunds_on_their_way")),
            migration(9, "refused refunds", sql!($database, "0009_refused_refunds")),
            migration(10, "launches", sql!($database, "0010_launches")),
        ]
    };
}

impl Database {
    /// Brings the tables up to date and returns the migrations that were applied. Several agents
    /// may run it at once.
    pub(crate) async fn migrate(&self) -> Result<Vec<Applied>, LedgerError> {
        match self {
            Self::Postgres(database) => {
                beside_sessions::migrate(database, PendingMigrations::new(migrations!("postgres"))).await
            }
            Self::Sqlite(database) => {
                let mut migrations = PendingMigrations::new(migrations!("sqlite"));
                let mut connection = database.writer().acquire().await?;
                migrations.apply(&mut *connection).await.map_err(of_migrating)
            }
        }
    }

    /// Sends an empty query to see that the database answers.
    pub(crate) async fn ping(&self) -> Result<(), LedgerError> {
        on_database!(*self, database => sqlx::query("SELECT 1").execute(&database.pool).await.map(drop)?);
        Ok(())
    }

    /// Fails if a connection's settings are not in force, or if its commits are not durable. Call
    /// it before any other statement: a pooler that shares sessions breaks more than these
    /// settings.
    pub(crate) async fn connections(&self) -> Result<(), NotReady> {
        match self {
            Self::Postgres(database) => database.check().await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Fails if orders cannot be committed: the database must answer, its tables must have this
    /// build's version, and its commits must be durable.
    pub(crate) async fn ready(&self) -> Result<(), NotReady> {
        self.connections().await?;
        self.ping().await?;
        let version: Result<i64, _> = on_database!(*self, database =>
            sqlx::query_scalar(include_str!("schema_version.sql")).fetch_one(&database.pool).await);
        let found = match version {
            Ok(version) => version,
            Err(error) if is_unknown_table(&error) => return Err(NotReady::Empty),
            Err(error) => return Err(LedgerError::from(error).into()),
        };
        match found {
            0 => return Err(NotReady::Empty),
            ..VERSION => return Err(NotReady::Old { found, needed: VERSION }),
            VERSION => {}
            _ => return Err(NotReady::New { found, needed: VERSION }),
        }
        Ok(())
    }
}

/// PostgreSQL's SQLSTATE for an undefined table. SQLite has nothing more precise than SQLITE_ERROR.
fn is_unknown_table(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("42P01" | "1"))
}

fn migration(version: i64, description: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

/// Migrations to apply, with those that were there before the first try.
pub(super) struct PendingMigrations {
    migrator: Migrator,
    before: Option<BTreeSet<i64>>,
}

impl PendingMigrations {
    fn new(migrations: Vec<Migration>) -> Self {
        let migrator = Migrator {
            migrations: Cow::Owned(migrations),
            table_name: Cow::Borrowed(TABLE),
            ..Migrator::DEFAULT
        };
        Self { migrator, before: None }
    }

    /// Applies those that are missing. Returns all that were applied, in this try and in earlier
    /// ones.
    pub(super) async fn apply<C: Migrate>(
        &mut self,
        connection: &mut C,
    ) -> Result<Vec<Applied>, MigrateError> {
        if self.before.is_none() {
            connection.ensure_migrations_table(TABLE).await?;
            let before = connection.list_applied_migrations(TABLE).await?;
            self.before = Some(before.into_iter().map(|migration| migration.version).collect());
        }
        self.migrator.run_direct(None, connection, false).await?;
        let is_new = |version: &i64| self.before.iter().all(|before| !before.contains(version));
        let new = self.migrator.iter().filter(|migration| is_new(&migration.version));
        let applied =
            |new: &Migration| Applied { version: new.version, description: new.description.to_string() };
        Ok(new.map(applied).collect())
    }
}
