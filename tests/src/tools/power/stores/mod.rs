//! The stores that acknowledge data. Each works on a recorded disk, and is opened again after a
//! power loss.

mod audit;
mod ledger;
mod postgres;
mod snapshot;

pub(super) use postgres::Server;

use std::path::Path;

use anyhow::{Result, bail};
use bridge_idc::config::LedgerUrl;
use clap::ValueEnum;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::disk::Names;
use super::recorder::{Behaviour, Fault, SyncFault};

/// A store, and the kind of its acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Store {
    /// The audit log with its tiles and its checkpoint: entries and checkpoints.
    Audit,
    /// The audit log's journal, without publication: entries.
    Journal,
    /// The replica's snapshot on the cloud agent's disk: each written snapshot.
    Snapshot,
    /// A ledger in SQLite: orders.
    Sqlite,
    /// A ledger in PostgreSQL whose server uses the disk: orders.
    Postgres,
}

/// Selects all paths.
const EVERYTHING: &str = "*";

/// More fsyncs than any recording has.
const FOR_EVER: u32 = 1_000_000;

impl Store {
    /// Returns the name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Store::Audit => "audit",
            Store::Journal => "journal",
            Store::Snapshot => "snapshot",
            Store::Sqlite => "sqlite",
            Store::Postgres => "postgres",
        }
    }

    /// Returns the rule for the durability of names. PostgreSQL relies on a file system with a
    /// journal, because it does not sync the folder of each file that it creates. The others get
    /// only what POSIX promises.
    #[must_use]
    pub(super) fn names(self) -> Names {
        if self == Store::Postgres { Names::InOrder } else { Names::ByFolder }
    }

    /// Returns the divisor for the number of power losses. PostgreSQL's are expensive, because each
    /// starts a server.
    pub(super) fn part(self) -> u64 {
        if self == Store::Postgres { 20 } else { 1 }
    }

    /// Returns the behaviour of the disk in a recording: without a fault, or with a faulty fsync.
    /// If `lying`, every fsync lies, so that the check must find a loss.
    pub(super) fn behaviour(self, number: u64, lying: bool) -> Behaviour {
        if lying {
            let fault = Fault { what: SyncFault::Lie, from: 1, times: FOR_EVER, about: EVERYTHING };
            return Behaviour { sync_micros: 300, fault: Some(fault), lies: false };
        }
        let about = match (self, number / 4 % 2) {
            (Store::Audit, 0) => "checkpoint",
            (Store::Audit | Store::Journal, _) => "journal",
            (Store::Snapshot, 0) => "catalogue",
            (Store::Snapshot, _) => EVERYTHING,
            (Store::Sqlite, 0) => "-wal",
            (Store::Sqlite, _) => "ledger",
            // A server that sees a failed fsync ends itself and recovers. PostgreSQL's own tests
            // cover that.
            (Store::Postgres, _) => return Behaviour { sync_micros: 50, ..Behaviour::default() },
        };
        let from = 5 + u32::try_from(number % 7).unwrap_or_default();
        let fault = match number % 4 {
            0 => None,
            1 => Some((SyncFault::Fail, 1)),
            2 => Some((SyncFault::Hang, 1)),
            _ => Some((SyncFault::Fail, FOR_EVER)),
        };
        Behaviour {
            sync_micros: 300,
            fault: fault.map(|(what, times)| Fault { what, from, times, about }),
            // SQLite keeps its handles: see the documentation of `tools::power`.
            lies: self != Store::Sqlite,
        }
    }

    /// Works on the store and records acknowledgements. It runs in a process of its own, on a
    /// recorded disk.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be opened, or for an error that the disk did not cause.
    pub async fn drive(self, root: &Path, seed: u64) -> Result<()> {
        let dice = StdRng::seed_from_u64(seed);
        match self {
            Store::Audit => audit::drive(root, audit::Publish::Often, dice).await,
            Store::Journal => audit::drive(root, audit::Publish::Never, dice).await,
            Store::Snapshot => snapshot::drive(root, dice),
            Store::Sqlite => ledger::drive(&sqlite(root), dice).await,
            Store::Postgres => ledger::drive(&postgres::url_of_driver()?, dice).await,
        }
    }

    /// Opens the disk after a power loss, and checks that all acknowledged data is there.
    ///
    /// # Errors
    ///
    /// Fails if data is missing, or the store cannot go on. The error describes the missing data.
    pub(super) async fn check(self, root: &Path, acknowledged: &[String]) -> Result<()> {
        match self {
            Store::Audit | Store::Journal => audit::check(root, acknowledged).await,
            Store::Snapshot => snapshot::check(root, acknowledged),
            Store::Sqlite => ledger::check(&sqlite(root), acknowledged).await,
            Store::Postgres => bail!("its server has to run: see `Server::check`"),
        }
    }
}

fn sqlite(root: &Path) -> LedgerUrl {
    LedgerUrl::Sqlite(root.join("ledger.sqlite"))
}

/// Returns the numbers in the acknowledgements that begin with this word.
fn numbers<const N: usize>(acknowledged: &[String], word: &str) -> Vec<[u64; N]> {
    let of = |line: &String| {
        let mut fields = line.strip_prefix(word)?.split_whitespace().map(str::parse);
        let numbers: [Option<u64>; N] = std::array::from_fn(|_| fields.next()?.ok());
        numbers.iter().all(Option::is_some).then(|| numbers.map(Option::unwrap_or_default))
    };
    acknowledged.iter().filter_map(of).collect()
}
