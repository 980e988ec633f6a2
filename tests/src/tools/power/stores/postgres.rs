//! A ledger in PostgreSQL: the server runs on the disk, and recovers from what a power loss leaves of its folder.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use bridge_idc::config::LedgerUrl;

use super::ledger;
use crate::testkit::database::Database;
use crate::testkit::postgres::{More, Postgres};
use crate::tools::power::disk::Tree;
use crate::tools::power::recorder::Disk;

/// Where a driver finds the ledger's URL, with its password.
const URL: &str = "BRIDGE_POWER_URL";

/// How the server asks its disk for a durable log, by turns: what users set, and what writes through.
const METHODS: [&str; 3] = ["fdatasync", "open_datasync", "fsync"];

/// A server with a ledger.
#[derive(Debug)]
pub(crate) struct Server {
    cluster: Postgres,
    url: String,
}

impl Server {
    /// One with a shop in it, stopped.
    pub(crate) async fn make() -> Result<Self> {
        let mut cluster = Postgres::start().await?;
        let Database::Postgres { url, password } = cluster.create_database("ledger").await? else {
            bail!("the cluster has made another database than one of its own")
        };
        let url = url.replacen('@', &format!(":{}@", password.unwrap_or_default()), 1);
        ledger::open(&LedgerUrl::Postgres(url.clone())).await?;
        cluster.stop().await?;
        Ok(Self { cluster, url })
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cluster.data_dir()
    }

    /// Starts it on a disk.
    pub(crate) async fn start_on(&mut self, disk: &Disk, number: u64) -> Result<()> {
        let method = METHODS[usize::try_from(number % 3)?];
        // A log that is full soon, so that it is checkpointed and its files are used again.
        let settings = [&format!("wal_sync_method={method}")[..], "full_page_writes=on", "max_wal_size=32MB"];
        let settings = settings.map(str::to_owned).into();
        self.cluster.restart_with(More { settings, variables: disk.variables().to_vec() }).await
    }

    /// What its driver has in its environment.
    pub(crate) fn variable(&self) -> (&'static str, &str) {
        (URL, &self.url)
    }

    /// Ends it in order: a process that is killed in the middle of a record leaves half of it. Power is lost anywhere before.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.cluster.stop().await
    }

    /// Lays what is left in the place of its files.
    pub(crate) fn lay(&self, left: &Tree) -> Result<()> {
        let folder = self.folder();
        fs::remove_dir_all(&folder).context("clear the server's folder")?;
        left.write(&folder)?;
        self.cluster.own_data()
    }

    /// Has it recover from what is left, and finds everything that was acknowledged.
    pub(crate) async fn check(&mut self, left: &Tree, acknowledged: &[String]) -> Result<()> {
        self.lay(left)?;
        self.cluster.restart_with(More::default()).await?;
        let checked = ledger::check(&LedgerUrl::Postgres(self.url.clone()), acknowledged).await;
        self.cluster.kill9().await?;
        checked
    }
}

/// The URL that a driver was given.
pub(super) fn url_of_driver() -> Result<LedgerUrl> {
    Ok(LedgerUrl::Postgres(std::env::var(URL).context("no ledger was named")?))
}
