//! `cargo power-loss`: records a store, simulates power losses in the recording, and lets the store
//! check what is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use super::disk::Tree;
use super::fate::Fate;
use super::options::Options;
use super::record::Recording;
use super::recorder::{Disk, Recorder, scratch};
use super::report::{Loss, Report, StoreReport};
use super::stores::{Server, Store};

/// Longest run of a store for a recording.
const PATIENCE: Duration = Duration::from_secs(300);

/// Size in bytes from which a recording gets fewer power losses, because each one writes and reads
/// all of it.
const LARGE: usize = 6 << 20;

/// Folder for the recordings of runs that lost data.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/power-loss");

/// Simulates power losses in every chosen store. `program` is this command itself, which also runs
/// as the stores.
///
/// # Errors
///
/// Fails if something cannot be run or read. Missing data is no error, but part of the report.
pub async fn run(options: &Options, program: &Path) -> Result<Report> {
    let recorder = Recorder::compile()?;
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut stores = Vec::new();
    for store in options.stores() {
        stores.push(Box::pin(Losses::new(store, options, seed).run(&recorder, program)).await?);
    }
    Ok(Report { seed, stores })
}

/// The power losses of one store.
struct Losses<'o> {
    options: &'o Options,
    store: Store,
    seed: u64,
    /// The server, if the store is PostgreSQL.
    server: Option<Server>,
    report: StoreReport,
}

/// A disk after a power loss, as the start of the next recording.
struct LeftDisk {
    tree: Tree,
    acknowledged: Vec<String>,
}

impl<'o> Losses<'o> {
    fn new(store: Store, options: &'o Options, seed: u64) -> Self {
        let report = StoreReport {
            store: store.name(),
            schedules: 0,
            recordings: 0,
            acknowledged: 0,
            lost: 0,
            seconds: 0,
            found: None,
        };
        Self { options, store, seed, server: None, report }
    }

    async fn run(mut self, recorder: &Recorder, program: &Path) -> Result<StoreReport> {
        let begun = Instant::now();
        if self.store == Store::Postgres {
            self.server = Some(Server::make().await?);
        }
        let mut left = None;
        while self.report.schedules < self.schedules() && self.report.found.is_none() {
            let (recording, log) = match &self.options.recording {
                Some(file) => (Recording::read(file)?, None),
                None => {
                    // Every third recording continues from a disk that has lost power already.
                    let before = left.take().filter(|_| self.report.recordings % 3 == 2);
                    let disk = self.record(recorder, program, before).await?;
                    (disk.recording()?, Some(disk))
                }
            };
            self.report.recordings += 1;
            left = self.lose(&recording, log.as_ref()).await?;
        }
        self.report.seconds = begun.elapsed().as_secs();
        Ok(self.report)
    }

    /// Lets the store work on a disk. Returns the disk with its recording.
    async fn record(
        &mut self,
        recorder: &Recorder,
        program: &Path,
        before: Option<LeftDisk>,
    ) -> Result<Disk> {
        let scratch = scratch()?;
        let root = match &self.server {
            Some(server) => server.folder(),
            None => scratch.path().join("disk"),
        };
        fs::create_dir_all(&root)?;
        let acknowledged = match (before, &self.server) {
            (Some(LeftDisk { tree, acknowledged }), Some(server)) => {
                server.lay(&tree).map(|()| acknowledged)?
            }
            (Some(LeftDisk { tree, acknowledged }), None) => tree.write(&root).map(|()| acknowledged)?,
            (None, _) => Vec::new(),
        };
        let (number, seed) = (self.report.recordings, self.seed + self.report.schedules);
        let behaviour = self.store.behaviour(number, self.options.lying);
        let disk = Disk::begin(recorder, &root, &behaviour, &acknowledged)?;
        let mut driver = Command::new(program);
        driver.args(["drive", self.store.name()]).arg(&root).arg(seed.to_string());
        driver.envs(disk.variables().iter().cloned()).stdin(Stdio::null()).kill_on_drop(true);
        if let Some(server) = &mut self.server {
            server.start_on(&disk, number).await?;
            let (name, url) = server.variable();
            driver.env(name, url);
        }
        let output =
            timeout(PATIENCE, driver.output()).await.context("the store does not come to an end")??;
        if let Some(server) = &mut self.server {
            server.stop().await?;
        }
        ensure!(
            output.status.success(),
            "{} ended with {}: {}",
            self.store.name(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(disk)
    }

    /// Simulates power losses in a recording. Returns the disk after one of them.
    async fn lose(&mut self, recording: &Recording, disk: Option<&Disk>) -> Result<Option<LeftDisk>> {
        let mut left = None;
        let is_large = recording.bytes() > LARGE && self.server.is_none();
        let each = if is_large { self.options.each.div_ceil(5) } else { self.options.each };
        for _ in 0..each.min(self.schedules() - self.report.schedules) {
            let seed = self.seed + self.report.schedules;
            let mut fate = Fate::draw(recording, seed);
            let tree = Tree::after(recording, self.store.names(), &mut fate)?;
            let acknowledged = recording.acknowledged(fate.at)?;
            self.report.schedules += 1;
            self.report.acknowledged += acknowledged.len() as u64;
            if let Err(lost) = self.check(&tree, &acknowledged).await {
                self.report.lost += 1;
                let (what, fate) = (format!("{lost:#}"), fate.to_string());
                self.report.found = Some(Loss { what, fate, seed, repeat: self.repeat(seed, disk)? });
                return Ok(None);
            }
            left = Some(LeftDisk { tree, acknowledged });
        }
        Ok(left)
    }

    /// Opens the rebuilt disk. An error describes the missing data.
    async fn check(&mut self, tree: &Tree, acknowledged: &[String]) -> Result<()> {
        if let Some(server) = &mut self.server {
            return server.check(tree, acknowledged).await;
        }
        let scratch = scratch()?;
        let root = scratch.path().join("disk");
        tree.write(&root)?;
        let checked = self.store.check(&root, acknowledged).await;
        // The folder's name is removed, so that each repetition gives the same text.
        checked.map_err(|lost| anyhow!(format!("{lost:#}").replace(&root.display().to_string(), "")))
    }

    /// Returns the number of power losses for this store.
    fn schedules(&self) -> u64 {
        self.options.schedules.div_ceil(self.store.part())
    }

    /// Returns the command that repeats a power loss, and keeps its recording.
    fn repeat(&self, seed: u64, disk: Option<&Disk>) -> Result<String> {
        let kept = match (&self.options.recording, disk) {
            (None, Some(disk)) => {
                fs::create_dir_all(KEPT)?;
                let kept = PathBuf::from(KEPT).canonicalize()?.join(format!("{}-{seed}", self.store.name()));
                fs::copy(disk.log(), &kept)?;
                kept
            }
            (recording, _) => recording.clone().unwrap_or_default(),
        };
        let (store, kept) = (self.store.name(), kept.display());
        Ok(format!("cargo power-loss --store {store} --recording {kept} --seed {seed} --schedules 1"))
    }
}
