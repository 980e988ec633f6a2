//! Bisection: commits a batch although the database refuses one of its requests. It halves the
//! batch until the bad request is alone.
//!
//! It first separates brands, so that the other brands commit in the next transaction. Each half is
//! a transaction of its own and keeps each brand's order of admission. A request about the key or
//! the order of an earlier one that has no answer yet gets none either.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use bridge_protocol::domain::{Brand, KeyDigest, OrderId};
use bridge_protocol::wire::order::Refusal;

use super::commit::Both;
use super::{Batch, BatchEnd, Committed, LedgerError, RequestEnd, RequestOutcome, SqlState, commit};
use crate::database::{Begins, NotDone};
use crate::orders::planner::{Awaited, Request};

/// Most requests of one brand that are tried alone and rejected. The brand's other requests are
/// then not tried, unless a request of the brand was committed.
const DENIED_MAX: usize = 3;

pub(super) async fn commit<D: Begins<Own: Both>>(
    database: &D,
    batch: &Batch,
    awaited: Option<&Awaited>,
) -> BatchEnd {
    let ends = batch.requests.iter().map(|_| None).collect();
    let mut halving = Halving { batch, awaited, ends, alone: Vec::new(), denied: Vec::new(), outage: None };
    let mut waiting: Vec<Vec<usize>> = vec![(0..batch.requests.len()).collect()];
    while let Some(places) = waiting.pop() {
        let Some(places) = halving.worth_trying(places) else { continue };
        let requests = halving.requests(&places);
        match commit::commit(database, &requests, batch.at, awaited).await {
            Ok(ends) => places.iter().zip(ends).for_each(|(place, end)| halving.ends[*place] = Some(end)),
            Err(NotDone::Perhaps(error)) => {
                places.iter().for_each(|place| halving.ends[*place] = Some(RequestEnd::Unknown));
                halving.outage = Some(error);
            }
            Err(NotDone::Nothing(error)) if places.len() > 1 && halving.halves(&error) => {
                let (first, second) = split(places, |place| halving.brand(place));
                waiting.extend([second, first]);
            }
            Err(NotDone::Nothing(error)) => halving.failed(&places, error),
        }
    }
    halving.end()
}

/// Splits places into two parts, the older half first: by brands if there are several, otherwise
/// the places of the one brand. `brand` returns the brand at a place.
pub(crate) fn split<'a>(
    mut places: Vec<usize>,
    brand: impl Fn(usize) -> &'a Brand,
) -> (Vec<usize>, Vec<usize>) {
    let brands: BTreeSet<&Brand> = places.iter().map(|place| brand(*place)).collect();
    if brands.len() > 1 {
        let first: BTreeSet<&Brand> = brands.iter().take(brands.len() / 2).copied().collect();
        return places.into_iter().partition(|place| first.contains(brand(*place)));
    }
    let second = places.split_off(places.len() / 2);
    (places, second)
}

/// Progress of a batch. A place is the index of a request in the batch.
struct Halving<'a> {
    batch: &'a Batch,
    awaited: Option<&'a Awaited>,
    /// The end of each request; `None` while it has none.
    ends: Vec<Option<RequestEnd>>,
    /// Places of requests that the database did not carry out alone.
    alone: Vec<usize>,
    /// Errors of requests that the database did not carry out alone, by place.
    denied: Vec<(usize, SqlState)>,
    outage: Option<LedgerError>,
}

impl Halving<'_> {
    fn brand(&self, place: usize) -> &Brand {
        &self.batch.requests[place].brand
    }

    /// Returns the places to try, or `None` if there are none. An empty batch is tried, because it
    /// tests the database.
    fn worth_trying(&mut self, mut places: Vec<usize>) -> Option<Vec<usize>> {
        let had_some = !places.is_empty();
        self.keep_the_sequence(&mut places);
        places.retain(|place| self.outage.is_none() && !self.is_out(self.brand(*place)));
        (!places.is_empty() || !had_some).then_some(places)
    }

    /// Takes out the places whose key or order is that of an earlier request that waits or is in
    /// doubt. They get the same end as that one, because they must not overtake it.
    fn keep_the_sequence(&mut self, places: &mut Vec<usize>) {
        let mut keys: HashMap<KeyDigest, usize> = HashMap::new();
        let mut orders: HashMap<OrderId, usize> = HashMap::new();
        for (place, (request, end)) in self.batch.requests.iter().zip(&self.ends).enumerate() {
            if matches!(end, Some(RequestEnd::Waits(_) | RequestEnd::Unknown)) {
                keys.insert(request.key, place);
                orders.insert(request.action.order(), place);
            }
        }
        if keys.is_empty() {
            return;
        }
        places.retain(|place| {
            let request = &self.batch.requests[*place];
            let earlier = keys.get(&request.key).or_else(|| orders.get(&request.action.order()));
            let Some(earlier) = earlier.copied() else { return true };
            keys.insert(request.key, earlier);
            orders.insert(request.action.order(), earlier);
            self.ends[*place] = match &self.ends[earlier] {
                Some(RequestEnd::Waits(awaited)) => Some(RequestEnd::Waits(awaited.clone())),
                _ => Some(RequestEnd::Unknown),
            };
            false
        });
    }

    /// Returns the requests at these places. Places are in ascending order.
    fn requests(&self, places: &[usize]) -> Cow<'_, [Request]> {
        match (places.first(), places.last()) {
            (Some(first), Some(last)) if last - first + 1 == places.len() => {
                Cow::Borrowed(&self.batch.requests[*first..=*last])
            }
            _ => places.iter().map(|place| self.batch.requests[*place].clone()).collect(),
        }
    }

    /// Returns true if the database has committed any request of this brand.
    fn has_committed(&self, brand: &Brand) -> bool {
        let refused = RequestOutcome::Refused(Refusal::Failed);
        let is_done = |end: &Option<RequestEnd>| matches!(end, Some(RequestEnd::Committed(committed)) if committed.answer != refused);
        self.ends.iter().enumerate().any(|(place, end)| self.brand(place) == brand && is_done(end))
    }

    /// Returns true if the rest of this brand's requests must not be tried.
    fn is_out(&self, brand: &Brand) -> bool {
        let alone = self.alone.iter().filter(|place| self.brand(**place) == brand).count();
        alone >= DENIED_MAX && !self.has_committed(brand)
    }

    /// Returns true if a part of a failed batch may succeed alone. After a lock time-out, this
    /// holds only for a batch that waits for a brand: all its requests are of one brand that met a
    /// held row before, and no other request waits behind it.
    fn halves(&self, error: &LedgerError) -> bool {
        let held = matches!(error, LedgerError::Held(_));
        error.may_be_one_request_s() || (held && matches!(self.awaited, Some(Awaited::Brand(_))))
    }

    /// Sets the end of requests that failed and cannot be halved further.
    fn failed(&mut self, places: &[usize], error: LedgerError) {
        for place in places {
            let request = &self.batch.requests[*place];
            let end = match &error {
                LedgerError::Refused(state) => {
                    say_refused(request, state);
                    RequestEnd::Committed(Committed { answer: RequestOutcome::Refused(Refusal::Failed) })
                }
                LedgerError::Held(_) => RequestEnd::Waits(Awaited::Brand(request.brand.clone())),
                // The request waits for an unknown row in one of its statements. That statement was
                // cancelled, and the request is not at fault.
                LedgerError::Cancelled(_) if matches!(self.awaited, Some(Awaited::Brand(_))) => {
                    RequestEnd::Waits(Awaited::Brand(request.brand.clone()))
                }
                LedgerError::Denied(state) => {
                    self.denied.push((*place, state.clone()));
                    RequestEnd::NotCommitted
                }
                _ => RequestEnd::NotCommitted,
            };
            if matches!(end, RequestEnd::NotCommitted) {
                self.alone.push(*place);
            }
            self.ends[*place] = Some(end);
        }
        if !error.may_be_one_request_s() && !matches!(error, LedgerError::Held(_)) {
            self.outage = Some(error);
        }
    }

    fn end(mut self) -> BatchEnd {
        let mut out = BTreeSet::new();
        for (place, state) in std::mem::take(&mut self.denied) {
            let request = &self.batch.requests[place];
            if self.has_committed(&request.brand) {
                say_refused(request, &state);
                self.ends[place] = Some(RequestEnd::Committed(Committed {
                    answer: RequestOutcome::Refused(Refusal::Failed),
                }));
            } else if out.insert(&request.brand) {
                // It is unknown if the brand or the request is at fault. So the brand's requests
                // fail without effect, and other brands are served.
                tracing::error!(brand = %request.brand, %state, "the database rejects all writes of this brand");
            }
        }
        let ends = self.ends.into_iter().map(|end| end.unwrap_or(RequestEnd::NotCommitted)).collect();
        BatchEnd { ends, outage: self.outage }
    }
}

fn say_refused(request: &Request, state: &SqlState) {
    let (brand, order) = (&request.brand, request.action.order());
    tracing::error!(%brand, %order, %state, "the database refuses this request; it has no effect");
}
