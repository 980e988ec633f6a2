//! A temporary PostgreSQL cluster on a free port. It is fully durable, and can be killed.
//!
//! It is for tests and the demo. If the machine has no PostgreSQL, it is installed (as root), or
//! the error says what to install. `fsync` and `synchronous_commit` stay on, so that measurements
//! and kills show the behaviour in production.

mod standby;
mod subscriber;
mod template;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::testkit::database::Database;
use crate::testkit::machine;
use crate::testkit::ports::free_address;
use crate::testkit::proc_stat::{Stat, children_of};
use crate::testkit::tied;

/// Limit of every wait, such as for recovery after a kill. It is long; a condition ends each wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// The cluster's superuser.
const USER: &str = "bridge";

/// A running cluster. It is stopped and deleted when this value is dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    account: Option<Account>,
    dir: TempDir,
    port: u16,
    password: String,
    more: Box<More>,
    server: Child,
}

/// Additional settings and variables of a server.
#[derive(Clone, Debug, Default)]
pub struct More {
    /// Settings as `name=value`. They override the defaults.
    pub settings: Vec<String>,
    /// Environment variables.
    pub variables: Vec<(&'static str, OsString)>,
    /// Names and contents of files in the cluster's folder, where the server starts. Only the
    /// server's account can read them.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// The unprivileged account for PostgreSQL if this process runs as root. PostgreSQL refuses to run
/// as root.
#[derive(Clone, Copy, Debug)]
struct Account {
    user: u32,
    group: u32,
}

impl Postgres {
    /// Makes a cluster and starts it. Installs PostgreSQL first if it is missing and this process
    /// runs as root.
    ///
    /// # Errors
    ///
    /// Fails if PostgreSQL is missing and cannot be installed, or does not start.
    pub async fn start() -> Result<Postgres> {
        // Boxed, because the caller's future would otherwise contain this large one.
        Box::pin(Self::start_with(More::default())).await
    }

    /// Makes and starts a cluster with additional settings and variables.
    ///
    /// # Errors
    ///
    /// Fails as [`Postgres::start`].
    pub async fn start_with(more: More) -> Result<Postgres> {
        let programs = match find_programs() {
            Some(programs) => programs,
            None => install().await?,
        };
        let account = geteuid().is_root().then(unprivileged_account).transpose()?;
        let dir = make_folder(account)?;
        let password = template::fill(&programs, account, dir.path()).await?;
        let port = free_address().context("find a free port")?.port();
        let server = spawn(&programs, account, dir.path(), port, &more)?;
        let mut cluster = Postgres { programs, account, dir, port, password, more: Box::new(more), server };
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// Makes an empty database.
    ///
    /// # Errors
    ///
    /// Fails if the name is no plain identifier, or is in use.
    pub async fn create_database(&self, name: &str) -> Result<Database> {
        self.create_database_like(name, "template1").await
    }

    /// Makes a database as a copy of another one. A last connection to the other one may still be
    /// closing.
    ///
    /// # Errors
    ///
    /// Fails as [`Postgres::create_database`], or if the other database stays in use.
    pub async fn create_database_like(&self, name: &str, template: &str) -> Result<Database> {
        for name in [name, template] {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            ensure!(name.bytes().all(plain), "{name:?} is no plain identifier");
        }
        let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
        let mut connection = self.connect("postgres").await.context("connect to PostgreSQL")?;
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .with_context(|| format!("create {name}"))?;
        let url = format!("postgres://{USER}@127.0.0.1:{}/{name}", self.port);
        Ok(Database::Postgres { url, password: Some(self.password.clone()) })
    }

    /// Connects as superuser, over loopback TCP.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer, or the database does not exist.
    pub async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        self.options(database).connect().await
    }

    /// Returns the options of a superuser's connection over loopback TCP.
    #[must_use]
    pub fn options(&self, database: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port);
        options.username(USER).password(&self.password).database(database)
    }

    /// Returns the address of its listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the folder of its tables and write-ahead log.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns the path of the server's log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Returns the server's process, while it runs.
    #[must_use]
    pub fn server(&self) -> Option<Pid> {
        self.server.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// Sends SIGKILL to the server and all its processes at once. This is like a power cut, except
    /// that the page cache survives.
    ///
    /// # Errors
    ///
    /// Fails if this user may not kill a process.
    pub async fn kill9(&mut self) -> Result<()> {
        if let Some(server) = self.server() {
            // The server is stopped first, so that it starts no process between the listing and the
            // kill.
            kill_process(server, Signal::STOP).context("stop PostgreSQL")?;
            let children = children_of(server);
            for pid in children.iter().copied().chain([server]) {
                // A backend may have ended by itself meanwhile.
                let _gone = kill_process(pid, Signal::KILL);
            }
            self.server.wait().await.context("wait for PostgreSQL")?;
            let all_gone = async {
                while children.iter().any(|pid| is_alive(*pid)) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, all_gone).await.context("processes of PostgreSQL survived SIGKILL")?;
        }
        Ok(())
    }

    /// Starts the server again after [`Postgres::kill9`] or [`Postgres::stop`], on the same port
    /// and data, and waits until recovery has ended.
    ///
    /// # Errors
    ///
    /// Fails if the server does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.server = spawn(&self.programs, self.account, self.dir.path(), self.port, &self.more)?;
        self.wait_until_ready().await
    }

    /// Starts the server again with other settings and variables.
    ///
    /// # Errors
    ///
    /// Fails as [`Postgres::restart`].
    pub async fn restart_with(&mut self, more: More) -> Result<()> {
        *self.more = more;
        self.restart().await
    }

    /// Gives all files in a stopped cluster's data folder to PostgreSQL's account, as the server
    /// demands.
    ///
    /// # Errors
    ///
    /// Fails if this user may not change the owner.
    pub fn own_data(&self) -> Result<()> {
        let mut paths = vec![self.data_dir()];
        while let Some(path) = paths.pop() {
            own(&path, self.account)?;
            if path.is_dir() {
                let inside = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
                paths.extend(inside.flatten().map(|entry| entry.path()));
            }
        }
        Ok(())
    }

    /// Stops the server in order ("fast" shutdown: clients are disconnected).
    ///
    /// # Errors
    ///
    /// Fails if the server does not end in time.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::INT);
        timeout(PATIENCE, self.server.wait())
            .await
            .context("PostgreSQL did not stop")?
            .context("wait for PostgreSQL")?;
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.server.try_wait().context("check PostgreSQL")? {
                bail!("PostgreSQL ended with {status}:\n{}", self.log());
            }
            match self.connect("postgres").await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => bail!("PostgreSQL: {error}\n{}", self.log()),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.server() {
            // The server may have ended by itself; nothing is left to stop then.
            let _gone = kill_process(pid, signal);
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // "Immediate" shutdown. Its processes end by themselves, and the data is deleted anyway.
        self.signal(Signal::QUIT);
        for _ in 0..500 {
            if !matches!(self.server.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Returns the newest folder with PostgreSQL's server programs.
fn find_programs() -> Option<PathBuf> {
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let by_version: BTreeMap<u32, PathBuf> = packaged
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = by_version.into_values().rev().chain(std::env::split_paths(&path)).collect();
    folders
        .into_iter()
        .find(|folder| ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file()))
}

/// Installs Debian's package, without the default cluster that the package would make.
async fn install() -> Result<PathBuf> {
    const PACKAGES: [&str; 1] = ["postgresql"];
    machine::may_install(&PACKAGES)?;
    let setting = Path::new("/etc/postgresql-common/createcluster.d/bridge-tests.conf");
    let no_cluster = fs::create_dir_all(setting.parent().unwrap_or(setting))
        .and_then(|()| fs::write(setting, "create_main_cluster = false\nstart_conf = 'disabled'\n"));
    no_cluster.with_context(|| format!("write {}", setting.display()))?;
    let installed = machine::install(&PACKAGES).await;
    fs::remove_file(setting).with_context(|| format!("remove {}", setting.display()))?;
    installed?;
    find_programs().context("the package postgresql brought no initdb to /usr/lib/postgresql/*/bin")
}

/// Returns the account `postgres`, which Debian's package makes, or `nobody`.
fn unprivileged_account() -> Result<Account> {
    let accounts = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let find = |name: &str| {
        let mut fields = accounts
            .lines()
            .map(|line| line.split(':'))
            .find(|fields| fields.clone().next() == Some(name))?;
        let (user, group) = (fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { user, group })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .context("PostgreSQL refuses root, and there is no other account")
}

fn spawn(programs: &Path, account: Option<Account>, dir: &Path, port: u16, more: &More) -> Result<Child> {
    let path = dir.join("log");
    let log = fs::OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("open {}", path.display()))?;
    for (name, contents) in &more.files {
        let path = dir.join(name);
        let written = fs::write(&path, contents);
        written
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .with_context(|| format!("write {}", path.display()))?;
        own(&path, account)?;
    }
    let mut postgres = Command::from(tied::command(programs.join("postgres")));
    prepare(&mut postgres, account, dir);
    postgres.arg("-D").arg(dir.join("data"));
    let settings = [
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        &format!("unix_socket_directories={}", dir.display()),
        "fsync=on",
        "synchronous_commit=on",
        "max_connections=64",
        // Values of an order must not get into the database's log, not even with an error.
        "log_parameter_max_length_on_error=0",
        "log_statement=none",
    ];
    for setting in settings.into_iter().chain(more.settings.iter().map(String::as_str)) {
        postgres.args(["-c", setting]);
    }
    postgres.envs(more.variables.iter().cloned());
    postgres.stderr(log);
    tied::spawn(postgres).context("start PostgreSQL")
}

fn command(program: &Path, account: Option<Account>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    prepare(&mut command, account, dir);
    command
}

fn prepare(command: &mut Command, account: Option<Account>, dir: &Path) {
    // The current folder may be closed to the other account.
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).env("LC_ALL", "C");
    if let Some(Account { user, group }) = account {
        command.uid(user).gid(group);
    }
}

/// Makes a cluster's folder. It is deleted when the value is dropped.
fn make_folder(account: Option<Account>) -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("bridge-pg-").tempdir().context("make a temporary folder")?;
    own(dir.path(), account)?;
    Ok(dir)
}

fn own(path: &Path, account: Option<Account>) -> Result<()> {
    let Some(Account { user, group }) = account else { return Ok(()) };
    chown(path, Some(user), Some(group))
        .with_context(|| format!("give {} to PostgreSQL's account", path.display()))
}

fn is_alive(pid: Pid) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.is_alive())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_committed_survives_a_kill_of_every_process() -> Result<()> {
        let mut cluster = Postgres::start().await?;
        cluster.create_database("survivor").await?;
        let mut connection = cluster.connect("survivor").await?;
        sqlx::query("CREATE TABLE kept (value int)").execute(&mut connection).await?;
        sqlx::query("INSERT INTO kept VALUES (42)").execute(&mut connection).await?;
        let fsync: (String,) = sqlx::query_as("SHOW fsync").fetch_one(&mut connection).await?;
        assert_eq!(fsync.0, "on");

        cluster.kill9().await?;
        assert!(cluster.connect("survivor").await.is_err(), "nothing answers after the kill");
        cluster.restart().await?;
        let mut connection = cluster.connect("survivor").await?;
        let kept: (i32,) = sqlx::query_as("SELECT value FROM kept").fetch_one(&mut connection).await?;
        assert_eq!(kept.0, 42);

        drop(connection);
        cluster.stop().await?;
        cluster.restart().await?;
        let folder = cluster.dir.path().to_owned();
        drop(cluster);
        assert!(!folder.exists(), "{} is left behind", folder.display());
        Ok(())
    }
}
