//! Empty ledgers for tests. Each is an SQLite file, or a database in one PostgreSQL cluster that
//! all tests share.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bridge_idc::config::LedgerUrl;
use bridge_idc::orders::store::Ledger;
use bridge_tests::testkit::database;
use bridge_tests::testkit::postgres::Postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Name of the migrated database from which the others are copied.
const MIGRATED: &str = "migrated";

/// Mutex for tests that create roles and logins, which belong to the whole cluster and not to one
/// database.
pub(crate) static ROLES: Mutex<()> = Mutex::const_new(());

/// An empty, migrated ledger.
pub(crate) struct Database {
    pub(crate) ledger: Ledger,
    url: LedgerUrl,
    _keep: Keep,
}

/// Resources that must outlive the ledger.
enum Keep {
    Folder { _dir: TempDir },
    Cluster { _cluster: Arc<Postgres> },
}

/// Creates a ledger in a new file.
pub(crate) async fn sqlite() -> Database {
    let dir = tempfile::tempdir().unwrap();
    let url = LedgerUrl::Sqlite(dir.path().join("ledger.sqlite"));
    let ledger = connect(&url).await;
    ledger.migrate().await.unwrap();
    Database { ledger, url, _keep: Keep::Folder { _dir: dir } }
}

/// Creates a ledger in a new database.
pub(crate) async fn postgres(case: &str) -> Database {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let cluster = cluster().await;
    // Two cases may have the same name. A name in PostgreSQL has at most 63 bytes.
    let mut name = format!("db{}_{case}", MADE.fetch_add(1, Ordering::Relaxed));
    name.truncate(63);
    let url =
        LedgerUrl::Postgres(with_password(cluster.create_database_like(&name, MIGRATED).await.unwrap()));
    Database { ledger: connect(&url).await, url, _keep: Keep::Cluster { _cluster: cluster } }
}

/// Creates a database. Returns its URL, including the password.
pub(crate) async fn create(cluster: &Postgres, name: &str) -> String {
    with_password(cluster.create_database(name).await.unwrap())
}

fn with_password(database: database::Database) -> String {
    let database::Database::Postgres { url, password: Some(password) } = database else { unreachable!() };
    url.replacen('@', &format!(":{password}@"), 1)
}

/// Returns the cluster that all tests share, with one migrated database. It stops when the last
/// test ends.
async fn cluster() -> Arc<Postgres> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(cluster) = shared.upgrade() {
        return cluster;
    }
    let cluster = Arc::new(Postgres::start().await.unwrap());
    // The connection closes at the end of the statement, since PostgreSQL copies no database with
    // open connections.
    connect(&LedgerUrl::Postgres(create(&cluster, MIGRATED).await)).await.migrate().await.unwrap();
    *shared = Arc::downgrade(&cluster);
    cluster
}

impl Database {
    /// Connects another agent to the same database.
    pub(crate) async fn second_agent(&self) -> Ledger {
        connect(&self.url).await
    }

    /// Runs a DBA's statements, with one text for each database.
    pub(crate) async fn run(&self, postgres: &str, sqlite: &str) {
        match &self.url {
            LedgerUrl::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(postgres)).execute(&mut connection).await.unwrap();
            }
            LedgerUrl::Sqlite(path) => {
                let mut connection = SqliteConnection::connect(&file_url(path)).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sqlite)).execute(&mut connection).await.unwrap();
            }
        }
    }

    /// Runs a DBA's statement that must fail, and returns the database's text.
    pub(crate) async fn refused(&self, sql: &str) -> String {
        let error = match &self.url {
            LedgerUrl::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                let sql = format!("BEGIN; {sql}; COMMIT");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap_err()
            }
            LedgerUrl::Sqlite(path) => {
                let mut connection = SqliteConnection::connect(&file_url(path)).await.unwrap();
                let sql = format!("BEGIN; {sql}; COMMIT");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap_err()
            }
        };
        error.to_string()
    }

    /// Returns the count that a statement selects.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        value(&self.url, sql).await
    }

    pub(crate) fn url(&self) -> &LedgerUrl {
        &self.url
    }
}

pub(crate) async fn connect(url: &LedgerUrl) -> Ledger {
    Ledger::connect(url, None, 4).await.unwrap()
}

/// Returns the single number that a statement selects.
pub(crate) async fn value(url: &LedgerUrl, sql: &'static str) -> i64 {
    match url {
        LedgerUrl::Postgres(url) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
        }
        LedgerUrl::Sqlite(path) => {
            let mut connection = SqliteConnection::connect(&file_url(path)).await.unwrap();
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
        }
    }
}

fn file_url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}
