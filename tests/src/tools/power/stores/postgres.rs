//! A ledger in PostgreSQL: the server uses the disk, and recovers from the content after a power
//! loss.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use bridge_idc::config::LedgerUrl;

use super::ledger;
use crate::testkit::database::Database;
use crate::testkit::postgres::{More, Postgres};
use crate::tools::power::disk::Tree;
use crate::tools::power::recorder::Disk;

/// Environment variable with the ledger's URL and password, for the process that works on the
/// store.
const URL: &str = "BRIDGE_POWER_URL";

/// The server's methods of syncing its log, by turns: the common ones, and one that writes through.
const METHODS: [&str; 3] = ["fdatasync", "open_datasync", "fsync"];

/// A server with a ledger.
#[derive(Debug)]
pub(crate) struct Server {
    cluster: Postgres,
    url: String,
}

impl Server {
    /// Makes a stopped server with a shop in its ledger.
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

    /// Returns the folder of its files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cluster.data_dir()
    }

    /// Starts the server on a disk.
    pub(crate) async fn start_on(&mut self, disk: &Disk, number: u64) -> Result<()> {
        let method = METHODS[usize::try_from(number % 3)?];
        // A small limit, so that checkpoints happen and log files are reused.
        let settings = [&format!("wal_sync_method={method}")[..], "full_page_writes=on", "max_wal_size=32MB"];
        let settings = settings.map(str::to_owned).into();
        self.cluster
            .restart_with(More { settings, variables: disk.variables().to_vec(), ..More::default() })
            .await
    }

    /// Returns the environment variable for the process that works on the store.
    pub(crate) fn variable(&self) -> (&'static str, &str) {
        (URL, &self.url)
    }

    /// Stops the server in order, because a process that is killed in the middle of a record leaves
    /// half of it. Power losses are drawn at earlier moments.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.cluster.stop().await
    }

    /// Replaces its files by those that are left after a power loss.
    pub(crate) fn lay(&self, left: &Tree) -> Result<()> {
        let folder = self.folder();
        fs::remove_dir_all(&folder).context("clear the server's folder")?;
        left.write(&folder)?;
        self.cluster.own_data()
    }

    /// Lets the server recover from what is left, and checks that all acknowledged data is there.
    pub(crate) async fn check(&mut self, left: &Tree, acknowledged: &[String]) -> Result<()> {
        self.lay(left)?;
        self.cluster.restart_with(More::default()).await?;
        let checked = ledger::check(&LedgerUrl::Postgres(self.url.clone()), acknowledged).await;
        self.cluster.kill9().await?;
        checked
    }
}

/// Returns the URL from the environment of a process that works on the store.
pub(super) fn url_of_driver() -> Result<LedgerUrl> {
    Ok(LedgerUrl::Postgres(std::env::var(URL).context("no ledger was named")?))
}
