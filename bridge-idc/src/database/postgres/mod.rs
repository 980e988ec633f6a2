//! PostgreSQL: connections and transactions.

/// The cause of each error of PostgreSQL.
pub(super) mod blame;

/// Passes rows as arrays.
pub(crate) mod arrays;

/// Makes sessions durable, and checks that their settings are in force.
mod session;

/// COMMITs that come with a warning.
mod commit_warnings;

/// Rows and tables that another session holds and an import needs.
pub(crate) mod held;

/// Receives notifications.
pub(super) mod notify;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bridge_runtime::config::Secret;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection as _};
use tokio::time::timeout;
use tracing::subscriber::NoSubscriber;

use super::error::{LedgerError, NotReady};
use super::kept::KeptConnection;
use super::open::Open;
use commit_warnings::CommitWarnings;
use held::set_lock_timeout;
use session::make_durable;

/// Settings of each connection.
const SETTINGS: [(&str, &str); 5] = [
    // An agent that is cut off within a transaction keeps its locks no longer than this.
    ("idle_in_transaction_session_timeout", "15s"),
    // Every statement finds rows by a key. PostgreSQL keeps a plan from when a table was small;
    // without this, that plan would scan the table for ever.
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    // With enable_seqscan off, a sequential scan has a huge estimated cost, and such a cost would
    // start the JIT compiler.
    ("jit", "off"),
    // A generic plan expects a tenth of the table for a page of a thousand rows, and would start
    // parallel processes.
    ("max_parallel_workers_per_gather", "0"),
];

/// Longest wait for a lock on these connections. After it the statement fails, and the agent looks
/// for the row's holder.
const PATIENT: [(&str, &str); 1] = [("lock_timeout", "5s")];

/// Longest wait of a batch for a lock that no statement can skip, such as a table's. Other batches
/// wait behind it.
pub(crate) const LOCK_TIMEOUT: &str = "500ms";

/// Settings of connections for batches only.
const OF_BATCHES: [(&str, &str); 2] = [
    ("lock_timeout", LOCK_TIMEOUT),
    // A time-out of the role or the database may be shorter than the wait for a lock. It would make
    // a waiting batch look like a failed statement, and could end a COMMIT that waits for a
    // standby. The agent has its own time limits for all of these.
    ("statement_timeout", "0"),
];

/// Longest wait for a held row in one attempt. Then another row gets its turn.
pub(crate) const AWAITED_FOR: &str = "2s";

/// Most connections of the committers: one for each committer's batch, one for each awaited row,
/// and as many again while lost connections are being closed. Each is opened only when it is
/// needed.
pub(crate) const COMMIT_CONNECTIONS: u32 = 24;

/// Time limit for connecting, with retries. It is short, so that callers soon hear that a server is
/// down.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Connections to a PostgreSQL server. Clones share them.
#[derive(Clone)]
pub struct Postgres {
    /// For look-ups, payments and the catalogue.
    pub(crate) pool: PgPool,
    /// For batches of orders only, so that no other work can make a batch wait for a connection.
    /// The pool does not test its connections before use, which would be a round trip more for
    /// each batch: BEGIN does.
    pub(crate) committer: PgPool,
    warned: Arc<CommitWarnings>,
}

impl Postgres {
    /// Makes the pools. They connect when first used, because the database may start later than the
    /// agent.
    pub(super) fn open(url: &str, password: Option<&Secret>, connections: u32) -> Result<Self, LedgerError> {
        let options = options_of(url, password)?;
        let options = options.application_name("bridge-idc").options(SETTINGS).disable_statement_logging();
        let pool = |connections, own: &[(&str, &str)]| {
            let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(CONNECT_WITHIN);
            let pool = pool.test_before_acquire(own != OF_BATCHES);
            let pool = pool.after_connect(|connection, _| Box::pin(make_durable(connection)));
            pool.connect_lazy_with(options.clone().options(own.iter().copied()))
        };
        let (pool, committer) = (pool(connections, &PATIENT), pool(COMMIT_CONNECTIONS, &OF_BATCHES));
        Ok(Self { pool, committer, warned: Arc::default() })
    }

    /// Fails if a setting of the connections is not in force in them.
    pub(super) async fn check(&self) -> Result<(), NotReady> {
        for (pool, own) in [(&self.pool, PATIENT.as_slice()), (&self.committer, &OF_BATCHES)] {
            let mut connection = pool.acquire().await.map_err(NotReady::of_connecting)?;
            session::check(&mut connection, &[SETTINGS.as_slice(), own].concat()).await?;
        }
        Ok(())
    }

    /// Returns the login with which these connections were made, whatever role they have taken
    /// since.
    pub(super) async fn login(&self) -> sqlx::Result<String> {
        sqlx::query_scalar("SELECT session_user::text").fetch_one(&self.pool).await
    }

    /// Connects once, outside the pools. Returns the error if this fails: a pool that waited in
    /// vain does not say why.
    pub(super) async fn why_unreachable(&self) -> Option<LedgerError> {
        let options = self.pool.connect_options();
        match timeout(CONNECT_WITHIN, PgConnection::connect_with(&options)).await {
            Ok(Err(error)) => Some(error.into()),
            Ok(Ok(_)) | Err(_) => None,
        }
    }

    /// Takes out the connection that is kept outside the pools, or opens one. Each statement on it
    /// sees every earlier commit, with any default isolation level of the database.
    pub(crate) async fn take(&self, kept: &mut KeptConnection) -> sqlx::Result<PgConnection> {
        match kept.postgres.take() {
            Some(connection) => Ok(connection),
            None => {
                let isolation = [("default_transaction_isolation", "read committed")];
                let options = (*self.pool.connect_options()).clone().options(isolation);
                let mut connection = PgConnection::connect_with(&options).await?;
                make_durable(&mut connection).await?;
                Ok(connection)
            }
        }
    }

    /// Returns the pool for a single writing statement.
    pub(crate) fn writer(&self) -> &PgPool {
        &self.pool
    }

    /// Begins a transaction that may write.
    pub(super) async fn begin(&self) -> sqlx::Result<Transaction> {
        self.begin_on(&self.pool).await
    }

    /// Begins a committer's transaction, on a connection that nothing else uses.
    pub(super) async fn begin_batch(&self) -> sqlx::Result<Transaction> {
        self.begin_on(&self.committer).await
    }

    /// Begins an import's transaction. It waits for a lock that it cannot skip no longer than a
    /// batch does.
    pub(super) async fn begin_import(&self) -> sqlx::Result<Transaction> {
        let mut transaction = self.begin().await?;
        set_lock_timeout(transaction.connection(), LOCK_TIMEOUT).await?;
        Ok(transaction)
    }

    /// Begins a transaction that only reads, and whose statements all see one moment.
    pub(super) async fn snapshot(&self) -> sqlx::Result<Transaction> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let open = Open::on(&self.pool, begin).await?;
        Ok(Transaction { open, warned: self.warned.clone() })
    }

    /// Begins a transaction in which each statement sees every commit before it began. After
    /// waiting for a lock, it also sees the changes of the lock's last holder.
    async fn begin_on(&self, pool: &PgPool) -> sqlx::Result<Transaction> {
        // Boxed, because the future is large and a confirmation is rare.
        Box::pin(self.warned.confirm(pool)).await?;
        let open = Open::on(pool, "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        Ok(Transaction { open, warned: self.warned.clone() })
    }
}

/// Returns the driver's options for a URL. With a password of ours, warnings of the driver about a
/// `.pgpass` file are dropped: it looks for one in `$HOME`, which often is another user's after
/// `setpriv` or `runuser`, and its password would not be used.
fn options_of(url: &str, password: Option<&Secret>) -> Result<PgConnectOptions, LedgerError> {
    let parse = || url.parse::<PgConnectOptions>().map_err(LedgerError::Unavailable);
    let Some(password) = password else { return parse() };
    let options = tracing::subscriber::with_default(NoSubscriber::default(), parse)?;
    let password = std::str::from_utf8(password.expose()).map_err(|_| LedgerError::PasswordNotText)?;
    Ok(options.password(password))
}

/// A transaction on PostgreSQL.
pub(crate) struct Transaction {
    open: Open<sqlx::Postgres>,
    warned: Arc<CommitWarnings>,
}

impl Transaction {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.open.connection()
    }

    pub(super) async fn commit(self) -> sqlx::Result<()> {
        // Boxed, because its state would make the caller's future larger.
        Box::pin(self.warned.commit(self.open)).await
    }

    pub(super) async fn rollback(self) -> sqlx::Result<()> {
        self.open.rollback().await
    }
}

/// Returns the reason why data on the way to this database could be read or changed. `None` if the
/// database is on this host, or if the server must prove that it is the host of the URL. The
/// driver's environment variables count, as they do when it connects.
pub(super) fn unprotected(url: &str) -> Option<&'static str> {
    let Ok(options) = url.parse::<PgConnectOptions>() else {
        return Some("it is no URL that PostgreSQL's driver can read");
    };
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_here = options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback());
    match options.get_ssl_mode() {
        _ if is_here => None,
        PgSslMode::VerifyFull => None,
        // The driver also trusts the public certificate authorities.
        PgSslMode::VerifyCa => Some("sslmode=verify-ca takes anybody's certificate of any public authority"),
        PgSslMode::Require => Some("sslmode=require takes any certificate"),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => {
            Some("it is on another host, and without sslmode=verify-full it may be reached in clear text")
        }
    }
}
