//! The audit log as a store: an acknowledged entry is at its index, and a published checkpoint is
//! not taken back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bridge_protocol::audit::entry::{Stopped, Word};
use bridge_protocol::audit::folder;
use bridge_protocol::audit::verify::verify;
use bridge_protocol::audit::{Entry, Event};
use bridge_protocol::domain::UnixMicros;
use bridge_runtime::audit_log::{AuditError, AuditLog, Disk, load_key};
use bridge_runtime::config::AuditConfig;
use bridge_runtime::telemetry::metrics::Metrics;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::numbers;
use crate::tools::power::recorder::{Acknowledged, answer, is_hung};

/// Number of concurrent callers.
const CALLERS: usize = 5;

/// Refusals after which a caller gives up, because the disk will not recover.
const REFUSALS: u32 = 40;

/// Longest time for a write. A hang lasts longer.
const WITHIN: Duration = Duration::from_millis(300);

/// Interval between two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    /// The shortest possible interval.
    Often,
    /// An interval longer than any run.
    Never,
}

fn config(root: &Path, publish: Publish) -> AuditConfig {
    AuditConfig {
        dir: root.join("audit"),
        key_file: root.join("audit.key"),
        origin: "bridge.internal/idc/power".to_owned(),
        publish_every: match publish {
            Publish::Often => Duration::from_millis(3),
            Publish::Never => Duration::from_secs(3_600),
        },
        write_within: WITHIN,
    }
}

/// Makes an entry from its number. Every third entry is large.
fn entry(number: u64) -> Entry {
    let at = UnixMicros::new(i64::try_from(number).unwrap_or(i64::MAX));
    let event = if number.is_multiple_of(3) {
        let ids: Vec<[u8; 32]> =
            (0..24).map(|id| [u8::try_from((number + id) % 256).unwrap_or(0); 32]).collect();
        Event::keys_changed(&number.to_be_bytes(), ids.iter().map(|id| &id[..]))
    } else {
        Event::AgentStopped(Stopped { reason: Word::of(&format!("entry-{number}")) })
    };
    Entry::new(at, event)
}

/// State that the callers share.
struct Callers {
    log: AuditLog,
    acknowledged: Acknowledged,
    next: AtomicU64,
}

pub(super) async fn drive(root: &Path, publish: Publish, mut dice: StdRng) -> Result<()> {
    let (log, closer) = AuditLog::open(&config(root, publish), Arc::new(Metrics::default()))?;
    let acknowledged = Acknowledged::open()?;
    // Numbers that no earlier recording of this disk has used.
    let next = AtomicU64::new(u64::from(dice.random::<u32>()) << 20);
    let callers = Arc::new(Callers { log, acknowledged, next });
    // Some runs fill several segments of the journal.
    let (appends, entries) = if dice.random_ratio(1, 4) { (8, 400) } else { (25, 10) };
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let sizes = (0..appends).map(|_| dice.random_range(1..=entries)).collect();
        tasks.spawn(callers.clone().append(sizes));
    }
    let helpers = [tokio::spawn(callers.clone().tell_what_is_published()), tokio::spawn(let_go())];
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    if dice.random_bool(0.5) {
        // On a disk that hangs, the log stays as it is.
        let _in_time = closer.close().await;
    }
    helpers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

impl Callers {
    /// Appends entries in batches of these sizes.
    async fn append(self: Arc<Self>, sizes: Vec<u64>) -> Result<()> {
        let mut refused = 0;
        for size in sizes {
            let number = self.next.fetch_add(size, Ordering::Relaxed);
            let entries: Vec<Entry> = (number..number + size).map(entry).collect();
            match self.log.append(&entries).await {
                Ok(index) => self.acknowledged.say(&format!("entries {index} {number} {size}"))?,
                Err(AuditError::Unwritable(_) | AuditError::Late) if refused < REFUSALS => {
                    refused += 1;
                    sleep(WITHIN / 20).await;
                }
                Err(AuditError::Unwritable(_) | AuditError::Late) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn tell_what_is_published(self: Arc<Self>) -> Result<()> {
        let mut standing = self.log.standing();
        while standing.changed().await.is_ok() {
            let published = standing.borrow_and_update().published;
            self.acknowledged.say(&format!("published {published}"))?;
        }
        Ok(())
    }
}

/// Ends a hanging fsync once all callers have been told that the disk does not answer.
async fn let_go() -> Result<()> {
    loop {
        if is_hung() {
            sleep(2 * WITHIN).await;
            answer();
        }
        sleep(WITHIN / 20).await;
    }
}

pub(super) async fn check(root: &Path, acknowledged: &[String]) -> Result<()> {
    let config = config(root, Publish::Never);
    let told = numbers::<3>(acknowledged, "entries ");
    let published =
        numbers::<1>(acknowledged, "published ").into_iter().map(|[size]| size).max().unwrap_or(0);
    // The folder must pass verification before the log is opened.
    if published > 0 {
        let key = load_key(&config.key_file)?;
        let verified =
            verify(&Disk::new(&config.dir), key.verifier(), None).context("verify the folder as it lies")?;
        let size = verified.checkpoint.size;
        ensure!(size >= published, "a checkpoint of {published} entries was out, and is one of {size} now");
    }
    let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default()))?;
    let goes_on = log.append(&[entry(0)]).await;
    closer.close().await?;
    let disk = Disk::new(&config.dir);
    let mut entries = Vec::new();
    folder::entries(&disk, 0, |_, entry| entries.push(entry.to_vec()))?;
    for [index, number, size] in told {
        for nth in 0..size {
            let place = usize::try_from(index + nth)?;
            let found =
                entries.get(place).with_context(|| format!("entry {place} was acknowledged and is lost"))?;
            ensure!(
                *found == entry(number + nth).encode()?,
                "another entry stands at {place} than was acknowledged"
            );
        }
    }
    ensure!(goes_on == Ok(entries.len() as u64 - 1), "the log does not go on: {goes_on:?}");
    let verified = verify(&disk, load_key(&config.key_file)?.verifier(), None)
        .context("verify the log after more appends")?;
    ensure!(verified.checkpoint.size == entries.len() as u64, "not everything is published in the end");
    Ok(())
}
