//! Command line of `cargo faults`.

use clap::Parser;

use super::fault::Fault;

/// Injects every fault into a running bridge under load, and compares the ledger with the answers
/// that callers got.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cargo faults",
    after_help = "Examples:\n  cargo faults                        every fault, three minutes in all\n  \
                  cargo faults --only kill-idc        one of them\n  cargo faults --minutes 30 --rate 500 --json"
)]
pub struct Options {
    /// Duration of the whole run in minutes; each fault gets an equal part.
    #[arg(long, value_name = "M", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_440))]
    pub minutes: u32,

    /// Orders per second.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub rate: u32,

    /// Only this fault; may be given several times.
    #[arg(long, value_name = "FAULT")]
    pub only: Vec<Fault>,

    /// Commit to a temporary SQLite file instead of a temporary PostgreSQL. It has no process to
    /// kill and no locks of single rows, so those faults are left out.
    #[arg(long)]
    pub sqlite: bool,

    /// Seed of all generated data.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// Returns the faults of this run, in their order.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let all = Fault::ALL.into_iter().filter(|fault| self.only.is_empty() || self.only.contains(fault));
        all.filter(|fault| !(self.sqlite && fault.is_of_a_server())).collect()
    }
}
