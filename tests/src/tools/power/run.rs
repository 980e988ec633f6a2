//! `cargo power-loss`: records a store, loses power in the recording as often as it is told to, and has the store look.

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

/// How long a store may run for a recording.
const PATIENCE: Duration = Duration::from_secs(300);

/// Bytes of a recording in which power is lost more seldom: each time all of it is written and read.
const LARGE: usize = 6 << 20;

/// Where the recording is kept of a run that lost something.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/power-loss");

/// Loses power in every store as told. `program` is the command itself, which runs as the stores.
///
/// # Errors
/// When something cannot be run or read; what is lost is in the report.
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
    /// PostgreSQL's.
    server: Option<Server>,
    report: StoreReport,
}

/// A disk that lost power, for the next recording to begin with.
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
                    // Each third one goes on from a disk that has lost power already.
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

    /// Has the store work on a disk.
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

    /// Loses power in a recording; what one of them has left.
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

    /// Opens what is left; an error says what is lost.
    async fn check(&mut self, tree: &Tree, acknowledged: &[String]) -> Result<()> {
        if let Some(server) = &mut self.server {
            return server.check(tree, acknowledged).await;
        }
        let scratch = scratch()?;
        let root = scratch.path().join("disk");
        tree.write(&root)?;
        let checked = self.store.check(&root, acknowledged).await;
        // The same words whenever it is repeated, whatever the folder is called.
        checked.map_err(|lost| anyhow!(format!("{lost:#}").replace(&root.display().to_string(), "")))
    }

    /// Power losses of this store.
    fn schedules(&self) -> u64 {
        self.options.schedules.div_ceil(self.store.part())
    }

    /// The command that repeats a power loss; keeps its recording.
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
