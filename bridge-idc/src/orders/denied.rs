//! Brands whose writes the database rejects while it works for others. The agent reports them to an
//! operator until a write succeeds.
//!
//! Sans-IO. It counts the last batches of each brand, and forgets a brand without requests after
//! some time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::{Brand, UnixMicros};

use crate::orders::core::AttemptEnd;
use crate::orders::store::{RequestEnd, RequestOutcome};

/// Consecutive batches without a write for a brand until the brand is reported. A single one may
/// have had a fault that is over.
const BATCHES: u32 = 2;

/// Most brands that are remembered.
const BRANDS_MAX: usize = 256;

/// Most brands that a note names.
const NAMED: usize = 10;

/// Time for which a brand without further requests is reported. After that the database may work
/// for it again.
const TOLD_FOR: Duration = Duration::from_secs(600);

/// A brand whose writes the database has rejected lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedBrand {
    brand: Brand,
    /// Batches since the last write.
    batches: u32,
    /// Times at which the first and the last of these batches ended.
    since: UnixMicros,
    last: UnixMicros,
}

/// Results of the last batches of each brand.
#[derive(Debug, Default)]
pub(crate) struct Denied {
    brands: BTreeMap<Brand, DeniedBrand>,
    told: Arc<[DeniedBrand]>,
}

impl Denied {
    /// Takes the end of a batch.
    pub(crate) fn handle_batch(&mut self, ended: &AttemptEnd, now: UnixMicros) {
        let is_denied = |end: &RequestEnd| matches!(end, RequestEnd::NotCommitted) && !ended.outage;
        if self.brands.is_empty() && !ended.requests.iter().any(|(_, end)| is_denied(end)) {
            return;
        }
        let of = |judge: &dyn Fn(&RequestEnd) -> bool| -> BTreeSet<Brand> {
            let those = ended.requests.iter().filter(|(_, end)| judge(end));
            those.map(|(request, _)| request.brand.clone()).collect()
        };
        let (denied, written) = (of(&is_denied), of(&is_written));
        self.brands.retain(|brand, of| !written.contains(brand) && now.since(of.last) < TOLD_FOR);
        for brand in denied.difference(&written) {
            if self.brands.len() >= BRANDS_MAX && !self.brands.contains_key(brand) {
                continue;
            }
            let new = || DeniedBrand { brand: brand.clone(), batches: 0, since: now, last: now };
            let of = self.brands.entry(brand.clone()).or_insert_with(new);
            (of.batches, of.last) = (of.batches.saturating_add(1), now);
        }
        self.told = self.brands.values().filter(|of| of.batches >= BATCHES).cloned().collect();
    }

    /// Returns the brands to report.
    pub(crate) fn told(&self) -> Arc<[DeniedBrand]> {
        self.told.clone()
    }
}

/// Returns true if the database wrote something for a request. A mere read proves nothing, because
/// reads may succeed for a brand whose writes fail.
fn is_written(end: &RequestEnd) -> bool {
    match end {
        RequestEnd::Committed(committed) => {
            matches!(committed.answer(), RequestOutcome::Settled { replayed: false, .. })
        }
        RequestEnd::Waits(_) | RequestEnd::NotCommitted | RequestEnd::Unknown => false,
    }
}

/// Returns the note about these brands for an operator.
pub(crate) fn note(denied: &[DeniedBrand], now: UnixMicros) -> Option<String> {
    let told: Vec<&DeniedBrand> = denied.iter().filter(|of| now.since(of.last) < TOLD_FOR).collect();
    let since = told.iter().map(|of| of.since).min()?;
    let names: Vec<&str> = told.iter().take(NAMED).map(|of| of.brand.as_str()).collect();
    let (brands, more) = (names.join(", "), told.len().saturating_sub(NAMED));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "since {since} the database has done nothing of what brand {brands}{more} asked for, while it works for others: their orders are \
         refused without effect; the agent's log has the SQL state"
    ))
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::{IdempotencyKey, OrderId};

    use super::*;
    use crate::orders::planner::{Action, Request};
    use crate::orders::store::Batch;
    use crate::orders::store::memory::MemoryLedger;

    const MINUTE: i64 = 60_000_000;

    fn at(minutes: i64) -> UnixMicros {
        UnixMicros::new(1_795_343_485_000_000 + minutes * MINUTE)
    }

    fn request(brand: &str) -> Request {
        let brand = Brand::new(brand).unwrap();
        let key = IdempotencyKey::parse(b"k").unwrap().digest(&brand);
        let action = Action::Cancel { order: OrderId::new(at(0), [1; 10]) };
        Request { brand, key, fingerprint: [0; 32], action }
    }

    fn ended(ends: impl IntoIterator<Item = (&'static str, RequestEnd)>, outage: bool) -> AttemptEnd {
        let requests = ends.into_iter().map(|(brand, end)| (request(brand), end)).collect();
        AttemptEnd { committer: 0, awaited: None, requests, outage }
    }

    fn told(denied: &Denied, now: UnixMicros) -> Option<String> {
        note(&denied.told(), now)
    }

    #[test]
    fn a_denied_brand_is_named_after_two_batches_while_it_asks() {
        let mut denied = Denied::default();
        denied.handle_batch(
            &ended([("a", RequestEnd::NotCommitted), ("a", RequestEnd::NotCommitted)], false),
            at(0),
        );
        assert_eq!(told(&denied, at(0)), None);
        denied.handle_batch(&ended([("b", RequestEnd::NotCommitted)], true), at(1));
        denied.handle_batch(&ended([("b", RequestEnd::NotCommitted)], true), at(1));
        assert_eq!(told(&denied, at(1)), None, "an outage is everybody's");
        denied.handle_batch(
            &ended([("a", RequestEnd::NotCommitted), ("b", RequestEnd::Unknown)], false),
            at(2),
        );
        let note = told(&denied, at(3)).unwrap();
        assert!(note.contains("what brand a asked for") && note.contains(&at(0).to_string()), "{note}");
        assert_eq!(told(&denied, at(12)), None);
    }

    #[test]
    fn what_is_only_read_for_a_brand_says_nothing_of_it() {
        let mut denied = Denied::default();
        let mut ledger = MemoryLedger::new([]);
        let read = |ledger: &mut MemoryLedger| {
            let batch = Batch { requests: vec![request("a")], at: at(0) };
            ledger
                .commit(&batch)
                .into_iter()
                .map(|committed| ("a", RequestEnd::Committed(committed)))
                .collect::<Vec<_>>()
        };
        for _ in 0..2 {
            denied.handle_batch(&ended([("a", RequestEnd::NotCommitted)], false), at(0));
            denied.handle_batch(&ended(read(&mut ledger), false), at(0));
        }
        assert!(told(&denied, at(0)).is_some());
    }
}
