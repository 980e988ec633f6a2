//! What `cargo faults` is told on its command line.

use clap::Parser;

use super::fault::Fault;

/// Breaks a running bridge in every way it is made for, under load, and compares the end with what callers were told.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cargo faults",
    after_help = "Examples:\n  cargo faults                        every fault, three minutes in all\n  \
                  cargo faults --only kill-idc        one of them\n  cargo faults --minutes 30 --rate 500 --json"
)]
pub struct Options {
    /// How long it takes in all; each fault has an equal part of it.
    #[arg(long, value_name = "M", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_440))]
    pub minutes: u32,

    /// Orders a second.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub rate: u32,

    /// Only this fault; may be given several times.
    #[arg(long, value_name = "FAULT")]
    pub only: Vec<Fault>,

    /// Commit to a temporary SQLite file instead of a temporary PostgreSQL; its process cannot be killed then, and no row held alone.
    #[arg(long)]
    pub sqlite: bool,

    /// Decides everything that is made up.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// The faults that strike, in their order.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let all = Fault::ALL.into_iter().filter(|fault| self.only.is_empty() || self.only.contains(fault));
        all.filter(|fault| !(self.sqlite && fault.is_of_a_server())).collect()
    }
}
