//! Options of `cargo power-loss`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::stores::Store;

/// Records every store on a disk, simulates power losses in the recording, and checks that all
/// acknowledged data survives.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "cargo power-loss",
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  cargo power-loss                                 1,000 power losses of each store, some ten minutes\n  \
                  cargo power-loss --store journal --schedules 50  a few of one"
)]
pub struct Command {
    /// Options of a run.
    #[command(flatten)]
    pub options: Options,

    /// The hidden part that the command runs as a child process.
    #[command(subcommand)]
    pub part: Option<Part>,
}

/// Hidden parts, which the command runs as child processes.
#[derive(Debug, Clone, Subcommand)]
pub enum Part {
    /// Work on a store, on a recorded disk.
    #[command(hide = true)]
    Drive {
        /// The store.
        store: Store,
        /// Folder of the disk.
        root: PathBuf,
        /// Seed of the work.
        seed: u64,
    },
}

/// Number of the power losses, and the stores.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only this store; may be given several times.
    #[arg(long, value_name = "STORE")]
    pub store: Vec<Store>,

    /// Power losses of each store. PostgreSQL gets a twentieth, because a server must recover each
    /// time.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub schedules: u64,

    /// Power losses in one recording. Then the store runs again.
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    pub each: u64,

    /// Seed of the work and the losses [default: drawn, and printed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Lose power in this recording instead of a new one. With its seed, the run repeats exactly.
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,

    /// Make every fsync report success and do nothing, to see that the check finds losses.
    #[arg(long)]
    pub lying: bool,

    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// Returns the chosen stores.
    pub(super) fn stores(&self) -> Vec<Store> {
        let all = <Store as clap::ValueEnum>::value_variants().iter().copied();
        all.filter(|store| self.store.is_empty() || self.store.contains(store)).collect()
    }
}
