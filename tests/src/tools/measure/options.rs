//! Options of the command line of `cargo measure`.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::bare;
use crate::tools::command::Usage;

/// Orders of `--grown` without a number.
const GROWN: &str = "10000000";
/// All benches, in the order in which they run.
const EACH: [Bench; 7] = [
    Bench::Reads,
    Bench::Freshness,
    Bench::Start,
    Bench::Tunnel,
    Bench::Orders,
    Bench::Fairness,
    Bench::Surge,
];

/// Measures what a user has today and Bridge, in turns in one run, on this machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo measure", args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Benches to run [default: all].
    #[arg(value_name = "BENCH")]
    pub(super) benches: Vec<Bench>,

    /// Fewer and shorter rounds, and a tenth of the products, for a first look.
    #[arg(long)]
    pub quick: bool,

    /// With `orders`: measure only the cost of the audit log, beside agents that are built to log
    /// nothing. Such agents exist for this comparison alone; the agents that are shipped cannot run
    /// without their audit log.
    #[arg(long)]
    pub without_audit: bool,

    /// With `orders`: measure only the growth of the ledger, beside an empty one. It first writes
    /// this many orders, which takes about a gigabyte of disk for each million.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = GROWN, conflicts_with = "without_audit",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub grown: Option<u64>,

    /// Seed that draws the order of turns, as an earlier run printed it [default: another one each
    /// time].
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,

    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,

    /// Write a page with plots to this file as well.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write a table for a document to this file as well.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// Command that this program runs in a child process.
    #[command(subcommand)]
    pub inner: Option<Inner>,
}

/// Name of a bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Bench {
    /// CPU time of a catalogue read: nginx's cache, HAProxy's cache and a bare server against
    /// Bridge, each at its best of three loads.
    Reads,
    /// Time from a commit until it is visible across a line of 10 ms: a PostgreSQL standby against
    /// Bridge.
    Freshness,
    /// Time of a new replica until its first answer: logical replication of the same tables, and a
    /// base backup of the whole cluster, against Bridge, cold and warm.
    Start,
    /// A question and its answer across a line of 10 ms, without loss and with 1 %: a pair of
    /// HAProxies with mutual TLS against Bridge. It needs a WAN of IP packets, which takes root.
    Tunnel,
    /// Placing orders across lines of 0, 10 and 33 ms, with and without loss, of one hot SKU, a
    /// launch, all SKUs and real invoices: SQL over TLS, and PostgreSQL's own limit in batches,
    /// against Bridge. It needs a WAN of IP packets, which takes root.
    Orders,
    /// The latency of 84 brands' orders while 16 other brands bring 20 times their share, against
    /// the same without them; and orders beside a flood of readers.
    Fairness,
    /// Page views of a launch, 30 times as many as before for a minute, with orders meanwhile: a
    /// bare server against Bridge.
    Surge,
    /// All benches.
    All,
}

/// Servers that the benches start.
#[derive(Clone, Debug, Subcommand)]
pub enum Inner {
    /// The bare server.
    #[command(hide = true)]
    ServeBare(bare::Options),
}

impl Options {
    /// Returns the named benches in their order, each once.
    pub(super) fn chosen(&self) -> Vec<Bench> {
        let all = self.benches.is_empty() || self.benches.contains(&Bench::All);
        EACH.into_iter().filter(|bench| all || self.is_named(*bench)).collect()
    }

    /// Returns true if this bench itself was named, and not only `all`.
    pub(super) fn is_named(&self, bench: Bench) -> bool {
        self.benches.contains(&bench)
    }

    /// Checks that the options fit together.
    ///
    /// # Errors
    ///
    /// Fails if they do not. The error says what is allowed.
    pub(super) fn check(&self) -> Result<(), Usage> {
        let of_orders = self.without_audit || self.grown.is_some();
        if of_orders && self.benches != [Bench::Orders] {
            let say = "--without-audit and --grown are for orders alone: say `cargo measure orders --without-audit`";
            return Err(Usage(say.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["measure"], arguments].concat())
    }

    #[test]
    fn benches_are_chosen_by_name_and_without_a_name_all_are() {
        let chosen = |arguments: &[&str]| parsed(arguments).expect("valid").chosen();
        assert_eq!(chosen(&[]), EACH);
        assert_eq!(chosen(&["start", "all"]), EACH);
        assert_eq!(chosen(&["start", "--quick", "reads", "start"]), [Bench::Reads, Bench::Start]);
        assert_eq!(chosen(&["surge", "orders", "fairness"]), [Bench::Orders, Bench::Fairness, Bench::Surge]);
        assert!(parsed(&["tunnel"]).expect("valid").is_named(Bench::Tunnel));
        assert!(!parsed(&["all"]).expect("valid").is_named(Bench::Tunnel));
        assert!(parsed(&["tunnels"]).is_err());
    }

    #[test]
    fn the_audit_log_and_a_grown_ledger_are_measured_with_orders_alone() {
        for fine in [&["orders"][..], &["orders", "--without-audit"], &["orders", "--grown"], &[]] {
            assert!(parsed(fine).expect("valid").check().is_ok(), "{fine:?}");
        }
        for half in [&["--without-audit"][..], &["reads", "--without-audit"], &["orders", "reads", "--grown"]]
        {
            assert!(parsed(half).expect("valid").check().is_err(), "{half:?}");
        }
        let grown = |arguments: &[&str]| parsed(arguments).expect("valid").grown;
        assert_eq!(grown(&["orders"]), None);
        assert_eq!(grown(&["orders", "--grown"]), Some(10_000_000));
        assert_eq!(grown(&["orders", "--grown", "500"]), Some(500));
        assert!(parsed(&["orders", "--grown", "0"]).is_err());
        assert!(parsed(&["orders", "--grown", "5", "--without-audit"]).is_err());
    }

    #[test]
    fn the_bare_server_is_a_separate_command_hidden_from_help() {
        let bare = ["serve-bare", "--listen", "127.0.0.1:0", "--workers", "2", "--answer", "a"];
        assert!(matches!(parsed(&bare).expect("valid").inner, Some(Inner::ServeBare(_))));
        assert!(parsed(&["serve-bare"]).is_err());
        let help = parsed(&["--help"]).expect_err("help").to_string();
        assert!(help.contains("freshness") && !help.contains("serve-bare"), "{help}");
    }
}
