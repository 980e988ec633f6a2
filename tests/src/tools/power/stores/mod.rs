//! The stores that acknowledge: each is driven on a disk that is written down, and opened again after a power loss.

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

/// What is acknowledged, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Store {
    /// The audit log with its tiles and its checkpoint: entries and checkpoints.
    Audit,
    /// The audit log's journal, of which nothing is published: entries.
    Journal,
    /// The replica's snapshot on the cloud's disk: that it was written.
    Snapshot,
    /// A ledger in SQLite: orders.
    Sqlite,
    /// A ledger in PostgreSQL, whose server is on the disk: orders.
    Postgres,
}

/// Every path.
const EVERYTHING: &str = "*";

/// For ever, as far as a recording goes.
const FOR_EVER: u32 = 1_000_000;

impl Store {
    /// As the command line spells it.
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

    /// When names are durable on its disk. PostgreSQL relies on a file system with a journal: it does not sync the folder of
    /// every file that it makes. The others have to do with what POSIX promises.
    #[must_use]
    pub(super) fn names(self) -> Names {
        if self == Store::Postgres { Names::InOrder } else { Names::ByFolder }
    }

    /// How many power losses it takes for one of a store whose losses are cheap: each one of PostgreSQL's starts a server.
    pub(super) fn part(self) -> u64 {
        if self == Store::Postgres { 20 } else { 1 }
    }

    /// How its disk behaves in the recording of this number: well, or with an fsync that goes wrong; lying, if it is to be
    /// found that something is lost.
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
            // A server that meets an fsync that fails ends itself, and recovers: that is its own tests' matter.
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
            // SQLite keeps its handles: see the module's head.
            lies: self != Store::Sqlite,
        }
    }

    /// Works on the store and says what is acknowledged: in a process of its own, on a disk that is written down.
    ///
    /// # Errors
    /// When the store cannot be opened, or anything goes wrong that no disk is to blame for.
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

    /// Opens what a power loss has left, and finds everything that was acknowledged; an error says what is lost.
    ///
    /// # Errors
    /// When something is lost, or the store does not go on.
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

/// The numbers of the acknowledgements that begin with this word.
fn numbers<const N: usize>(acknowledged: &[String], word: &str) -> Vec<[u64; N]> {
    let of = |line: &String| {
        let mut fields = line.strip_prefix(word)?.split_whitespace().map(str::parse);
        let numbers: [Option<u64>; N] = std::array::from_fn(|_| fields.next()?.ok());
        numbers.iter().all(Option::is_some).then(|| numbers.map(Option::unwrap_or_default))
    };
    acknowledged.iter().filter_map(of).collect()
}
