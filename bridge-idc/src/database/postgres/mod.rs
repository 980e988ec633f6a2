//! PostgreSQL: how it is connected to, and how a transaction on it begins.

/// Whose fault its errors are.
pub(super) mod blame;

/// Rows as arrays.
pub(crate) mod arrays;

/// What each connection is asked for, and whether it lasts.
mod session;

/// COMMITs that come with a warning.
mod commit_warnings;

/// What somebody else holds and an import needs.
pub(crate) mod held;

/// What it tells its listeners.
pub(super) mod notify;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bridge_runtime::config::Secret;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection as _};

use super::error::{LedgerError, NotReady};
use super::kept::KeptConnection;
use super::open::Open;
use commit_warnings::CommitWarnings;
use held::set_lock_timeout;
use session::make_durable;

/// Settings of each connection.
const SETTINGS: [(&str, &str); 5] = [
    // An agent that is cut off in the middle of a transaction keeps its locks no longer than this.
    ("idle_in_transaction_session_timeout", "15s"),
    // Every statement goes by a key. A plan that was made while a table was small is kept, and would scan it for ever.
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    // The price that the planner puts on a sequential scan now would make it compile the query first.
    ("jit", "off"),
    // And so would starting processes for a page of a thousand rows: a generic plan takes it for a tenth of the table.
    ("max_parallel_workers_per_gather", "0"),
];

/// Whoever waits longer for a row is told so, and the row's holder is looked for.
const PATIENT: [(&str, &str); 1] = [("lock_timeout", "5s")];

/// How long a batch waits for what somebody else holds and no statement can leave out, a table for one: others wait behind it.
pub(crate) const LOCK_TIMEOUT: &str = "500ms";

/// What batches have of their own.
const OF_BATCHES: [(&str, &str); 2] = [
    ("lock_timeout", LOCK_TIMEOUT),
    // A role's or a database's own limit, shorter than a lock is waited for, would make a batch that waits look like one whose
    // statement fails. Nor may it end a COMMIT that waits for a standby. The flow has its own patience with all of them.
    ("statement_timeout", "0"),
];

/// How long a row is waited for by those who need it, and nobody else: then it is another row's turn.
pub(crate) const AWAITED_FOR: &str = "2s";

/// The committers' connections at most: one for the batch under way of each, one for each row that is waited for, and as many again
/// while a connection that was lost is being closed. None is opened before it is needed.
pub(crate) const COMMIT_CONNECTIONS: u32 = 24;

/// Connections to a PostgreSQL. Clones share them.
#[derive(Clone)]
pub struct Postgres {
    /// For everybody's questions, payments, the catalogue.
    pub(crate) pool: PgPool,
    /// For batches of orders, and for nothing else: whatever is asked meanwhile, they wait for nobody's connection.
    pub(crate) committer: PgPool,
    warned: Arc<CommitWarnings>,
}

impl Postgres {
    /// Connects when first used: the database may come up later than the agent.
    pub(super) fn open(url: &str, password: Option<&Secret>, connections: u32) -> Result<Self, LedgerError> {
        let mut options: PgConnectOptions = url.parse().map_err(LedgerError::Unavailable)?;
        if let Some(password) = password {
            let password =
                std::str::from_utf8(password.expose()).map_err(|_| LedgerError::PasswordNotText)?;
            options = options.password(password);
        }
        let options = options.application_name("bridge-idc").options(SETTINGS).disable_statement_logging();
        let pool = |connections, own: &[(&str, &str)]| {
            // Connecting is tried again for this long: a server that is down is said to be so soon, and callers do not wait.
            let pool =
                PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(2));
            let pool = pool.after_connect(|connection, _| Box::pin(make_durable(connection)));
            pool.connect_lazy_with(options.clone().options(own.iter().copied()))
        };
        let (pool, committer) = (pool(connections, &PATIENT), pool(COMMIT_CONNECTIONS, &OF_BATCHES));
        Ok(Self { pool, committer, warned: Arc::default() })
    }

    /// Whether what is set for the connections is in force in them.
    pub(super) async fn check(&self) -> Result<(), NotReady> {
        for (pool, own) in [(&self.pool, PATIENT.as_slice()), (&self.committer, &OF_BATCHES)] {
            let mut connection = pool.acquire().await.map_err(NotReady::of_connecting)?;
            session::check(&mut connection, &[SETTINGS.as_slice(), own].concat()).await?;
        }
        Ok(())
    }

    /// Takes out a connection that is kept outside the pools, or makes one. Each statement on it sees what was committed before
    /// it, whatever a DBA made the default.
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

    /// For a statement that writes.
    pub(crate) fn writer(&self) -> &PgPool {
        &self.pool
    }

    /// Begins a transaction that may write.
    pub(super) async fn begin(&self) -> sqlx::Result<Transaction> {
        self.begin_on(&self.pool).await
    }

    /// Begins one of the committer's, on a connection that nothing else uses.
    pub(super) async fn begin_batch(&self) -> sqlx::Result<Transaction> {
        self.begin_on(&self.committer).await
    }

    /// Begins one of an import's, which waits no longer than a batch for what it cannot leave out.
    pub(super) async fn begin_import(&self) -> sqlx::Result<Transaction> {
        let mut transaction = self.begin().await?;
        set_lock_timeout(transaction.connection(), LOCK_TIMEOUT).await?;
        Ok(transaction)
    }

    /// Begins one that only reads, and sees one moment.
    pub(super) async fn snapshot(&self) -> sqlx::Result<Transaction> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let open = Open::begin(self.pool.acquire().await?, begin).await?;
        Ok(Transaction { open, warned: self.warned.clone() })
    }

    /// Each statement sees what was committed before it began: after a lock, also what its last holder wrote.
    async fn begin_on(&self, pool: &PgPool) -> sqlx::Result<Transaction> {
        // Boxed: its state is large, and there is hardly ever anything to confirm.
        Box::pin(self.warned.confirm(pool)).await?;
        let open = Open::begin(pool.acquire().await?, "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        Ok(Transaction { open, warned: self.warned.clone() })
    }
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
        // Boxed, since what is around it would be that much larger.
        Box::pin(self.warned.commit(self.open)).await
    }

    pub(super) async fn rollback(self) -> sqlx::Result<()> {
        self.open.rollback().await
    }
}

/// Why what goes to the database at this URL could be read or changed on its way; `None` if nobody is in between, or the
/// server has to prove that it is the one that the URL names. The driver's own environment counts, as when it connects.
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
        // The driver trusts the public authorities beside the one that is named.
        PgSslMode::VerifyCa => Some("sslmode=verify-ca takes anybody's certificate of any public authority"),
        PgSslMode::Require => Some("sslmode=require takes any certificate"),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => {
            Some("it is on another host, and without sslmode=verify-full it may be reached in clear text")
        }
    }
}
