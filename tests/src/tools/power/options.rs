//! What `cargo power-loss` is told on its command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::stores::Store;

/// Records every store on a disk, loses power in it over and over, and looks for what was acknowledged.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "cargo power-loss",
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  cargo power-loss                                 1,000 power losses of each store, some ten minutes\n  \
                  cargo power-loss --store journal --schedules 50  a few of one"
)]
pub struct Command {
    /// What to lose power in.
    #[command(flatten)]
    pub options: Options,

    /// What the command runs itself as.
    #[command(subcommand)]
    pub part: Option<Part>,
}

/// What the command runs itself as.
#[derive(Debug, Clone, Subcommand)]
pub enum Part {
    /// Work on a store, on a disk that is written down.
    #[command(hide = true)]
    Drive {
        /// Which.
        store: Store,
        /// The disk.
        root: PathBuf,
        /// Decides what is done.
        seed: u64,
    },
}

/// How often power is lost, and in what.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only this store; may be given several times.
    #[arg(long, value_name = "STORE")]
    pub store: Vec<Store>,

    /// Power losses of each store; of PostgreSQL, for which each time a server recovers, a twentieth.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub schedules: u64,

    /// Power losses in one recording; then the store runs again.
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    pub each: u64,

    /// Decides what is done and what is lost [default: drawn, and printed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Lose power in this recording instead of a new one: with its seed it repeats exactly.
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,

    /// Have every fsync say that it is done and do nothing, to see that something is lost.
    #[arg(long)]
    pub lying: bool,

    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// The stores that power is lost in.
    pub(super) fn stores(&self) -> Vec<Store> {
        let all = <Store as clap::ValueEnum>::value_variants().iter().copied();
        all.filter(|store| self.store.is_empty() || self.store.contains(store)).collect()
    }
}
