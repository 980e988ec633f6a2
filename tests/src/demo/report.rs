//! What the demo says at the end: to people in columns, to programs in JSON.
//!
//! Everything here is arithmetic over what the other steps found; whether the run [`passed`](Report::passed) is decided
//! here and nowhere else.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::measure::{Commits, Rates};
use super::privacy::Privacy;
use super::{Input, Options};
use crate::load::{self, Tally};

/// Differences shown; the rest is counted.
const DIFFERENCES_SHOWN: usize = 10;
/// The longest bar of a chart.
const BAR: u64 = 40;

/// The demo's report; its fields are the keys of `--json`.
#[derive(Debug, Serialize)]
pub struct Report {
    passed: bool,
    source: String,
    database: &'static str,
    seed: u64,
    callers: u32,
    /// Invoices read, 0 for a made-up launch.
    invoices: usize,
    left_out: BTreeMap<&'static str, usize>,
    orders: Tally,
    refusals: BTreeMap<String, u64>,
    /// The same steps under the same keys.
    again: Tally,
    /// Steps whose outcome was another one the second time.
    again_changed: usize,
    orders_per_s: u64,
    order_p50_ms: f64,
    order_p99_ms: f64,
    batches: Vec<Batches>,
    hot_sku_orders_per_s: u64,
    spread_skus_orders_per_s: u64,
    lonely_order_ms: f64,
    lonely_commit_ms: f64,
    stock_balanced: bool,
    differences: Vec<String>,
    personal_values_planted: u64,
    personal_values_found: u64,
    privacy: Privacy,
    /// Both agents exited with 0 after SIGTERM.
    ended_in_order: bool,
}

/// Transactions of up to so many orders, and of more than the row before.
#[derive(Debug, Serialize)]
struct Batches {
    up_to: String,
    transactions: u64,
}

/// All that the steps found.
pub(super) struct Findings {
    pub(super) input: Input,
    pub(super) database: &'static str,
    pub(super) first: load::Report,
    pub(super) again: load::Report,
    pub(super) commits: Commits,
    pub(super) rates: Rates,
    pub(super) differences: Vec<String>,
    pub(super) privacy: Privacy,
    pub(super) ended_in_order: bool,
}

impl Report {
    pub(super) fn new(options: &Options, found: Findings) -> Report {
        let Findings { input, first, again, commits, rates, privacy, .. } = found;
        let both = first.settled.iter().zip(&again.settled);
        let batches = commits.batches.counts.into_iter();
        let mut report = Report {
            passed: false,
            source: input.source,
            database: found.database,
            seed: options.seed,
            callers: options.callers,
            invoices: input.invoices,
            left_out: input.left_out.into_iter().collect(),
            orders: first.tally(),
            refusals: first
                .refusals()
                .into_iter()
                .map(|(problem, count)| (problem.to_owned(), count))
                .collect(),
            again: again.tally(),
            again_changed: both.filter(|(first, again)| first.outcome != again.outcome).count(),
            orders_per_s: first.per_second(),
            order_p50_ms: ms(first.latency.quantile(500)),
            order_p99_ms: ms(first.latency.quantile(990)),
            batches: batches.map(|(up_to, transactions)| Batches { up_to, transactions }).collect(),
            hot_sku_orders_per_s: rates.hot_per_s,
            spread_skus_orders_per_s: rates.spread_per_s,
            lonely_order_ms: ms(rates.lonely_order),
            lonely_commit_ms: ms(rates.lonely_commit),
            stock_balanced: found.differences.is_empty(),
            differences: found.differences,
            personal_values_planted: privacy.planted,
            personal_values_found: privacy.found(),
            privacy,
            ended_in_order: found.ended_in_order,
        };
        report.passed = report.complaints().is_empty();
        report
    }

    /// Whether everything came out as promised.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// What did not come out as promised.
    fn complaints(&self) -> Vec<&'static str> {
        let decided = self.orders.committed + self.orders.sold_out;
        let rules = [
            (self.orders.unknown == 0, "an order's outcome stayed unknown"),
            (self.orders.refused == 0, "an order was refused"),
            (self.orders.not_cancelled == 0, "an order could not be cancelled"),
            (self.orders.replayed == 0, "an order was answered as a replay the first time"),
            (self.again_changed == 0, "an outcome changed when its key came again"),
            (self.again.replayed == decided, "a key that came again was not answered as a replay"),
            (self.stock_balanced, "the ledger is not what the callers were told"),
            (self.personal_values_found == 0, "personal values were found outside the IDC's memory"),
            (self.privacy.can_find(), "the search for personal values could not have found one"),
            (self.ended_in_order, "an agent did not exit with 0 after SIGTERM"),
        ];
        rules.into_iter().filter(|(kept, _)| !kept).map(|(_, complaint)| complaint).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{}, committed in {}, seed {}, {} callers",
            self.source, self.database, self.seed, self.callers
        )?;
        let (orders, again) = (&self.orders, &self.again);
        writeln!(f, "\nOrders{:>29} {:>11}", "first", "again")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, first: u64, again: u64| {
            writeln!(f, "  {name:<22} {first:>10} {again:>11}")
        };
        row(f, "placed", orders.placed, again.placed)?;
        row(f, "committed", orders.committed, again.committed)?;
        row(f, "sold out", orders.sold_out, again.sold_out)?;
        row(f, "refused", orders.refused, again.refused)?;
        row(f, "unknown", orders.unknown, again.unknown)?;
        row(f, "cancelled", orders.cancelled, again.cancelled)?;
        row(f, "not cancelled", orders.not_cancelled, again.not_cancelled)?;
        row(f, "replayed", orders.replayed, again.replayed)?;
        for (problem, count) in &self.refusals {
            writeln!(f, "  refused as {problem}: {count}")?;
        }
        if !self.left_out.is_empty() {
            writeln!(f, "\nLeft out of {} invoices", self.invoices)?;
            for (reason, count) in &self.left_out {
                writeln!(f, "  {count:>10}  {reason}")?;
            }
        }
        writeln!(f, "\nOrders in a transaction, under {} callers", self.callers)?;
        let most = self.batches.iter().map(|row| row.transactions).max().unwrap_or(0).max(1);
        for Batches { up_to, transactions } in self.batches.iter().filter(|row| row.transactions > 0) {
            let bar = "#".repeat(usize::try_from((transactions * BAR).div_ceil(most)).unwrap_or(0));
            writeln!(f, "  up to {:>5} {transactions:>8}  {bar}", up_to.trim_end_matches(".0"))?;
        }
        writeln!(f, "\nSpeed (on this machine, which also runs the callers and the database)")?;
        writeln!(f, "  {:<34} {:>8} orders/s", "this run", self.orders_per_s)?;
        writeln!(f, "  {:<34} {:>8} orders/s", "one hot SKU", self.hot_sku_orders_per_s)?;
        writeln!(f, "  {:<34} {:>8} orders/s", "spread SKUs", self.spread_skus_orders_per_s)?;
        writeln!(
            f,
            "  {:<34} {:>8.2} ms, p99 {:.2} ms",
            "an order in this run, p50", self.order_p50_ms, self.order_p99_ms
        )?;
        writeln!(
            f,
            "  {:<34} {:>8.2} ms, of which the commit {:.2} ms",
            "an order of a lonely caller, mean", self.lonely_order_ms, self.lonely_commit_ms
        )?;
        writeln!(
            f,
            "\nLedger against what the callers were told: {}",
            if self.stock_balanced { "equal" } else { "NOT equal" }
        )?;
        for difference in self.differences.iter().take(DIFFERENCES_SHOWN) {
            writeln!(f, "  {difference}")?;
        }
        if let more @ 1.. = self.differences.len().saturating_sub(DIFFERENCES_SHOWN) {
            writeln!(f, "  and {more} more")?;
        }
        writeln!(f, "\nPersonal values: {} planted, found", self.personal_values_planted)?;
        for place in &self.privacy.places {
            writeln!(
                f,
                "  {:>10} in {} ({} files, {} bytes)",
                place.found, place.what, place.files, place.bytes
            )?;
        }
        writeln!(
            f,
            "  {:>10} in the orders themselves (so the search works)",
            self.privacy.found_in_the_orders
        )?;
        match self.complaints().as_slice() {
            [] => writeln!(f, "\nEverything as promised."),
            complaints => writeln!(f, "\nNOT as promised: {}.", complaints.join("; ")),
        }
    }
}

#[expect(
    clippy::float_arithmetic,
    reason = "a report is read by people and plots, and decides nothing by it"
)]
fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
