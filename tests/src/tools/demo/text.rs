//! The report as text in columns.

use std::fmt;

use crate::testkit::audits::Audits;
use crate::testkit::payers::Paid;

use super::report::{Batches, Catalogue, Report};

/// Most differences that are shown. The others are only counted.
const DIFFERENCES_SHOWN: usize = 10;
/// Length of a chart's longest bar.
const BAR: u64 = 40;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{}, committed in {}, seed {}, {} callers",
            self.source, self.database, self.seed, self.callers
        )?;
        if let Some(seconds) = self.first_build_s {
            writeln!(f, "built in {seconds} s, counted from the moment the target folder was made")?;
        }
        self.write_reads(f)?;
        self.write_orders(f)?;
        self.write_speed(f)?;
        self.write_checks(f)?;
        writeln!(f, "\nPlots over time: {}", self.html.display())?;
        match self.complaints().as_slice() {
            [] => writeln!(f, "\nEverything as promised."),
            complaints => writeln!(f, "\nNOT as promised: {}.", complaints.join("; ")),
        }
    }
}

impl Report {
    fn write_reads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Catalogue { brands, products, skus, launched } = self.catalogue;
        writeln!(
            f,
            "\nCatalogue: {brands} brands, {products} products, {skus} SKUs; {launched} products launched"
        )?;
        writeln!(f, "\nPage views{:>25} {:>11}", "calm", "launch")?;
        writeln!(f, "  {:<22} {:>10} {:>11}", "reads/s", self.reads_per_s_calm, self.reads_per_s)?;
        writeln!(f, "  {:<22} {:>10} {:>11}", "  busiest half second", "", self.reads_per_s_peak)?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, calm: f64, launch: f64| {
            writeln!(f, "  {name:<22} {calm:>10.2} {launch:>11.2}")
        };
        row(f, "a read, p50 ms", self.read_p50_ms_calm, self.read_p50_ms)?;
        row(f, "a read, p99 ms", self.read_p99_ms_calm, self.read_p99_ms)?;
        writeln!(
            f,
            "  {} page views of two reads, p50 {:.2} ms, p99 {:.2} ms; {} went wrong; oldest answer {} s",
            self.page_views,
            self.page_view_p50_ms,
            self.page_view_p99_ms,
            self.read_errors,
            self.read_age_max_s
        )?;
        for (kind, count) in &self.read_errors_by_kind {
            writeln!(f, "  {count:>10}  {kind}")?;
        }
        writeln!(
            f,
            "  a committed row is served after p50 {:.1} ms, p99 {:.1} ms ({} changes, {} missed)",
            self.freshness_p50_ms, self.freshness_p99_ms, self.freshness_changes, self.freshness_missed
        )
    }

    fn write_orders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        Ok(())
    }

    fn write_speed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSpeed (on this machine, which also runs the callers and the database)")?;
        writeln!(f, "  {:<34} {:>8} orders/s", "the launch", self.orders_per_s)?;
        writeln!(f, "  {:<34} {:>8} orders/s", "one hot SKU", self.hot_sku_orders_per_s)?;
        writeln!(f, "  {:<34} {:>8} orders/s", "spread SKUs", self.spread_skus_orders_per_s)?;
        writeln!(
            f,
            "  {:<34} {:>8.2} ms, p99 {:.2} ms",
            "an order of the launch, p50", self.order_p50_ms, self.order_p99_ms
        )?;
        writeln!(
            f,
            "  {:<34} {:>8.2} ms, of which the commit {:.2} ms",
            "an order of a lonely caller, mean", self.lonely_order_ms, self.lonely_commit_ms
        )
    }

    fn write_checks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nLedger against the answers to callers: {}",
            if self.stock_balanced { "equal" } else { "NOT equal" }
        )?;
        write_some(f, &self.differences)?;
        writeln!(
            f,
            "Stock that is served against the ledger: {}",
            if self.replica_equal { "equal" } else { "NOT equal" }
        )?;
        write_some(f, &self.replica_differences)?;
        let Paid { asked, paid, declined, unknown, retried, doubled, differences } = &self.payments;
        writeln!(
            f,
            "Payments: {asked} asked, {paid} paid, {declined} declined, {unknown} unknown, {retried} took more than one request; \
             {doubled} charged twice"
        )?;
        write_some(f, differences)?;
        let Audits { entries, agreed, differing, findings, .. } = &self.audits;
        writeln!(
            f,
            "Audit logs: {entries} entries, {}; {agreed} requests agree, {differing} differ",
            if self.audits.verified { "verified" } else { "NOT verified" }
        )?;
        write_some(f, findings)?;
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
            "  {:>10} in the orders themselves, and {} orders among the frames (so the search works)",
            self.privacy.found_in_the_orders,
            self.privacy.orders_in_frames.unwrap_or_default()
        )?;
        for what in &self.privacy.not_searched {
            writeln!(f, "  NOT searched: {what}")?;
        }
        write_some(f, &self.privacy.leaks().collect::<Vec<_>>())
    }
}

/// Writes the first elements of a list, and the number of the others.
fn write_some(f: &mut fmt::Formatter<'_>, differences: &[String]) -> fmt::Result {
    for difference in differences.iter().take(DIFFERENCES_SHOWN) {
        writeln!(f, "  {difference}")?;
    }
    match differences.len().saturating_sub(DIFFERENCES_SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}
