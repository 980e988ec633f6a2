//! Result of the faults.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::fault::Fault;
use super::neighbour::{NeighbourOrders, NeighbourReport};
use crate::testkit::audits::Audits;
use crate::testkit::ledger_totals::LedgerTotals;
use crate::testkit::load;
use crate::testkit::payers::Paid;
use crate::testkit::privacy::Searched;

/// Result of a run. Every number except `orders` should be 0.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Orders posted.
    pub orders: u64,
    /// Orders that a caller was told are committed, and that are not in the ledger.
    pub lost: u64,
    /// Orders in the ledger that no caller was told of, although every outcome is known.
    pub doubled: u64,
    /// Units sold beyond the stock, or not accounted for.
    pub oversold: u64,
    /// Orders whose outcome was still unknown when their callers gave up.
    pub unresolved: u64,
    /// Orders that the gateway charged twice, or whose charge differs from the payer's answer.
    pub mischarged: u64,
    /// Planted personal values found in an agent's memory, in the frames, or in any file.
    pub personal_values_found: u64,
    /// Places that were searched for them, and places that had them.
    pub privacy: Searched,
    /// Both audit logs.
    pub audits: Audits,
    /// Result of another brand's orders in all stretches without a fault.
    pub calm: NeighbourReport,
    /// Results by fault.
    pub by_fault: BTreeMap<Fault, FaultResult>,
    /// Seed of the run. It is printed, so that the run can be repeated.
    pub seed: u64,
}

/// Result of one fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FaultResult {
    /// Number of times that it was injected.
    pub times: u32,
    /// Orders posted in its time.
    pub orders: u64,
    /// Orders that took more than one request, because their callers noticed the fault and sent
    /// them again.
    pub retried: u64,
    /// Payments of these orders.
    pub payments: Paid,
    /// See [`Report::lost`].
    pub lost: u64,
    /// See [`Report::doubled`].
    pub doubled: u64,
    /// See [`Report::oversold`].
    pub oversold: u64,
    /// See [`Report::unresolved`].
    pub unresolved: u64,
    /// Result of another brand's orders in the same time.
    pub beside: NeighbourReport,
    /// Result of another brand's orders in the calm stretches before and after it.
    pub calm: NeighbourReport,
    /// Differences between the ledger and the sum of the callers' answers.
    pub differences: Vec<String>,
}

impl Report {
    /// Returns true if nothing was lost, doubled, oversold, left open or leaked.
    #[must_use]
    pub fn passed(&self) -> bool {
        let sums = [
            self.lost,
            self.doubled,
            self.oversold,
            self.unresolved,
            self.mischarged,
            self.personal_values_found,
        ];
        let agrees = |struck: &FaultResult| struck.differences.is_empty() && struck.times > 0;
        sums.iter().all(|sum| *sum == 0)
            && self.audits.agree()
            && self.privacy.can_find()
            && !self.by_fault.is_empty()
            && self.by_fault.values().all(agrees)
            && self.by_fault.iter().all(|(fault, struck)| Self::spares_others(*fault, struck))
    }

    /// Returns true if a fault of one brand alone did not affect another brand: no order was
    /// refused or left open, and the 99th percentile is at most 1.5 times the one without a fault.
    fn spares_others(fault: Fault, struck: &FaultResult) -> bool {
        let felt = struck.beside.disturbed > 0 || struck.beside.p99_in_hundredths_of(&struck.calm) > 150;
        !(fault.spares_others() && felt)
    }

    pub(super) fn add(&mut self, fault: Fault, struck: FaultResult) {
        self.orders += struck.orders;
        self.lost += struck.lost;
        self.doubled += struck.doubled;
        self.oversold += struck.oversold;
        self.unresolved += struck.unresolved + struck.payments.unknown;
        self.mischarged += struck.payments.doubled + struck.payments.differences.len() as u64;
        self.by_fault.insert(fault, struck);
    }
}

impl Report {
    /// Takes another brand's orders in all stretches of the run, in their order. `None` is a calm
    /// stretch. A fault is compared with the calm stretches directly before and after it.
    pub(super) fn take_neighbours(&mut self, stretches: &[(Option<Fault>, NeighbourOrders)]) {
        let is_calm = |stretch: &&(Option<Fault>, NeighbourOrders)| stretch.0.is_none();
        self.calm = merged(stretches.iter().filter(is_calm));
        for (at, (fault, beside)) in stretches.iter().enumerate() {
            let Some(struck) = fault.and_then(|fault| self.by_fault.get_mut(&fault)) else { continue };
            let around = [at.checked_sub(1), Some(at + 1)].into_iter().flatten();
            struck.calm = merged(around.filter_map(|at| stretches.get(at)).filter(is_calm));
            struck.beside = beside.report();
        }
    }
}

fn merged<'a>(stretches: impl Iterator<Item = &'a (Option<Fault>, NeighbourOrders)>) -> NeighbourReport {
    let mut all = NeighbourOrders::default();
    stretches.for_each(|(_, orders)| all.merge(orders));
    all.report()
}

impl FaultResult {
    /// Compares the ledger with the answers that callers got.
    pub(super) fn judge(
        times: u32,
        told: &load::Report,
        payments: Paid,
        books: &LedgerTotals,
    ) -> FaultResult {
        let expected = LedgerTotals::expected(told);
        let tally = told.tally();
        let (standing, found) = (expected.orders + expected.cancelled, books.orders + books.cancelled);
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let unbalanced = books.stock.values().map(|shelf| {
            let unaccounted = (shelf.initial - shelf.available - shelf.sold).abs();
            count(unaccounted) + count(-shelf.available) + count((shelf.sold - shelf.ordered).abs())
        });
        // An order whose outcome is unknown may be committed or not, so the ledger cannot be
        // compared.
        // `unresolved` counts it already.
        let differences = if tally.unknown == 0 { expected.differences(books) } else { Vec::new() };
        FaultResult {
            times,
            orders: tally.placed,
            retried: told.settled.iter().filter(|settled| settled.attempts > 1).count() as u64,
            payments,
            lost: count(standing - found),
            doubled: count(found - standing).saturating_sub(tally.unknown),
            oversold: unbalanced.sum(),
            unresolved: tally.unknown,
            beside: NeighbourReport::default(),
            calm: NeighbourReport::default(),
            differences,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:18} {:>6} {:>7} {:>8} {:>9} {:>5} {:>8} {:>9} {:>11} {:>11}",
            "fault",
            "struck",
            "orders",
            "retried",
            "payments",
            "lost",
            "doubled",
            "oversold",
            "unresolved",
            "mischarged"
        )?;
        for (fault, struck) in &self.by_fault {
            let FaultResult {
                times, orders, retried, lost, doubled, oversold, payments, differences, ..
            } = struck;
            let unresolved = struck.unresolved + payments.unknown;
            let mischarged = payments.doubled + payments.differences.len() as u64;
            let (fault, paid) = (fault.name(), payments.paid);
            writeln!(
                f,
                "{fault:18} {times:>6} {orders:>7} {retried:>8} {paid:>9} {lost:>5} {doubled:>8} {oversold:>9} {unresolved:>11} {mischarged:>11}"
            )?;
            payments.differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))?;
            differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))?;
        }
        writeln!(f, "another brand's orders while nothing went wrong: {}", self.calm)?;
        writeln!(f, "and beside a fault, compared with the time just before and after it:")?;
        for (fault, struck) in self.by_fault.iter().filter(|(fault, _)| fault.spares_others()) {
            let felt = if Self::spares_others(*fault, struck) { "" } else { ": TOO MUCH" };
            let ratio = struck.beside.p99_in_hundredths_of(&struck.calm);
            let (name, whole, rest) = (fault.name(), ratio / 100, ratio % 100);
            let (beside, calm) = (struck.beside, struck.calm);
            writeln!(f, "  {name}: {beside}; calm: {calm}; {whole}.{rest:02} times{felt}")?;
        }
        let Audits { entries, agreed, differing, findings, .. } = &self.audits;
        writeln!(f, "audit logs: {entries} entries, {agreed} requests agree, {differing} differ")?;
        findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))?;
        let Searched { planted, orders_in_frames, places, not_searched, .. } = &self.privacy;
        let bytes: u64 = places.iter().map(|place| place.bytes).sum();
        writeln!(
            f,
            "personal values: {planted} planted, {} found in {bytes} bytes of memory, frames and files; {} orders among the frames",
            self.personal_values_found,
            orders_in_frames.unwrap_or_default()
        )?;
        not_searched.iter().try_for_each(|what| writeln!(f, "  NOT searched: {what}"))?;
        self.privacy.leaks().try_for_each(|leak| writeln!(f, "  {leak}"))?;
        let end = if self.passed() {
            "Nothing was lost, doubled, oversold, mischarged, leaked or left open"
        } else {
            "FAILED"
        };
        writeln!(f, "{} orders. {end}, seed {}.", self.orders, self.seed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::testkit::generated;
    use crate::testkit::histogram::Histogram;
    use crate::testkit::load::{Outcome, Settled};

    fn told(outcomes: &[Outcome]) -> load::Report {
        let settled =
            outcomes.iter().map(|outcome| Settled { outcome: outcome.clone(), replayed: false, attempts: 1 });
        let plan = Arc::new(generated::hot(1, outcomes.len()));
        load::Report { plan, settled: settled.collect(), latency: Histogram::default(), took: Duration::ZERO }
    }

    #[test]
    fn a_fault_is_compared_with_the_calm_around_it() {
        let orders = |took| {
            let mut latency = Histogram::default();
            latency.record(Duration::from_millis(took));
            NeighbourOrders { disturbed: 0, latency }
        };
        let mut report = Report::default();
        for fault in [Fault::HeldRow, Fault::LookUps] {
            report.by_fault.insert(fault, FaultResult::default());
        }
        let (held, look_ups) = (Some(Fault::HeldRow), Some(Fault::LookUps));
        let stretches =
            [(None, 10), (held, 30), (None, 20), (look_ups, 35), (None, 30), (Some(Fault::KillIdc), 900)];
        report.take_neighbours(&stretches.map(|(fault, took)| (fault, orders(took))));
        let ratio = |fault| {
            let struck: &FaultResult = &report.by_fault[&fault];
            (struck.calm.orders, Report::spares_others(fault, struck))
        };
        assert_eq!((ratio(Fault::HeldRow), ratio(Fault::LookUps)), ((2, true), (2, true)));
        assert_eq!(report.calm.orders, 3);
        report.take_neighbours(&[(held, 90), (None, 20)].map(|(fault, took)| (fault, orders(took))));
        assert!(!Report::spares_others(Fault::HeldRow, &report.by_fault[&Fault::HeldRow]));
    }

    #[test]
    fn an_order_that_is_missing_or_too_many_is_counted() {
        let placed = || Outcome::Placed { order: "o".to_owned() };
        let all = told(&[placed(), placed(), placed()]);
        let books = LedgerTotals::expected(&all);
        assert_eq!(FaultResult::judge(1, &all, Paid::default(), &books).differences, Vec::<String>::new());

        let fewer =
            FaultResult::judge(1, &all, Paid::default(), &LedgerTotals { orders: 2, ..books.clone() });
        assert_eq!((fewer.lost, fewer.doubled, fewer.differences.is_empty()), (1, 0, false));
        let more = FaultResult::judge(1, &all, Paid::default(), &LedgerTotals { orders: 4, ..books.clone() });
        assert_eq!((more.lost, more.doubled), (0, 1));
        let open =
            FaultResult::judge(1, &told(&[placed(), placed(), Outcome::Unknown]), Paid::default(), &books);
        assert_eq!((open.lost, open.doubled, open.unresolved), (0, 0, 1));

        let mut oversold = books;
        oversold.stock.values_mut().for_each(|shelf| shelf.available = -2);
        assert!(FaultResult::judge(1, &all, Paid::default(), &oversold).oversold > 2);
    }
}
