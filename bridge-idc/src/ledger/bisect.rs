//! Commits a batch although the database refuses one of its requests: halves it until the bad one stands alone.
//!
//! The halves keep the order of admission, each in a transaction of its own.

use bridge_protocol::wire::order::Refusal;

use super::payments::NotDone;
use super::transaction::Database;
use super::{Answer, Batch, BatchEnd, Committed, End, LedgerError, SqlState, commit};
use crate::planner::{Awaited, Request};

/// Requests refused alone for want of a right, and nothing committed beside them, until that is taken for the database's doing.
const DENIED_MAX: usize = 3;

pub(super) async fn commit<D: Database>(database: &D, batch: &Batch, awaited: Option<&Awaited>) -> BatchEnd {
    let mut halving = Halving { batch, awaited, ends: Vec::new(), denied: Vec::new(), outage: None };
    let mut waiting = vec![batch.requests.as_slice()];
    while let Some(requests) = waiting.pop() {
        if halving.is_over() {
            halving.ends.extend(requests.iter().map(|_| End::NotCommitted));
            continue;
        }
        match commit::commit(database, requests, batch.at, awaited).await {
            Ok(ends) => halving.ends.extend(ends),
            Err(NotDone::Perhaps(error)) => {
                halving.ends.extend(requests.iter().map(|_| End::Unknown));
                halving.outage = Some(error);
            }
            Err(NotDone::Nothing(error)) if requests.len() > 1 && halving.halves(&error) => {
                let (first, second) = requests.split_at(requests.len() / 2);
                waiting.extend([second, first]);
            }
            Err(NotDone::Nothing(error)) => halving.failed(requests, error),
        }
    }
    halving.end()
}

/// How far a batch has come.
struct Halving<'a> {
    batch: &'a Batch,
    awaited: Option<&'a Awaited>,
    /// One a request, in the batch's order, as far as it has come.
    ends: Vec<End>,
    /// Those without the right for what they need, by their place in the batch.
    denied: Vec<(usize, SqlState)>,
    outage: Option<LedgerError>,
}

impl Halving<'_> {
    /// Whether the rest need not be tried.
    fn is_over(&self) -> bool {
        self.outage.is_some() || (self.denied.len() >= DENIED_MAX && !self.has_committed())
    }

    /// Whether the database has done for another request what it does not for these.
    fn has_committed(&self) -> bool {
        let refused = Answer::Refused(Refusal::Failed);
        self.ends.iter().any(|end| matches!(end, End::Committed(committed) if committed.answer != refused))
    }

    /// Whether a part of what failed may do better alone. What somebody holds is looked for only where nobody else waits
    /// behind it: among the requests of one brand that has met it before.
    fn halves(&self, error: &LedgerError) -> bool {
        let held = matches!(error, LedgerError::Held(_));
        error.may_be_one_request_s() || (held && matches!(self.awaited, Some(Awaited::Brand(_))))
    }

    /// Nothing was committed of what cannot be halved, or is one request.
    fn failed(&mut self, requests: &[Request], error: LedgerError) {
        for request in requests {
            let end = match &error {
                LedgerError::Refused(state) => {
                    say_refused(request, state);
                    End::Committed(Committed { answer: Answer::Refused(Refusal::Failed) })
                }
                LedgerError::Held(_) => End::Waits(Awaited::Brand(request.brand.clone())),
                // It waits for what nobody can name, in whichever of its statements: that was ended, and not the request.
                LedgerError::Cancelled(_) if matches!(self.awaited, Some(Awaited::Brand(_))) => {
                    End::Waits(Awaited::Brand(request.brand.clone()))
                }
                LedgerError::Denied(state) => {
                    self.denied.push((self.ends.len(), state.clone()));
                    End::NotCommitted
                }
                _ => End::NotCommitted,
            };
            self.ends.push(end);
        }
        if !error.may_be_one_request_s() && !matches!(error, LedgerError::Held(_)) {
            self.outage = Some(error);
        }
    }

    fn end(mut self) -> BatchEnd {
        let one_request_s = self.has_committed();
        let everybody_s = self.denied.len() >= DENIED_MAX;
        for (place, state) in std::mem::take(&mut self.denied) {
            if !one_request_s {
                // Of a few alone nobody can tell whose fault it is: they are told that nothing happened, and nobody else is.
                if everybody_s {
                    self.outage.get_or_insert(LedgerError::Denied(state));
                }
            } else if let (Some(end), Some(request)) =
                (self.ends.get_mut(place), self.batch.requests.get(place))
            {
                say_refused(request, &state);
                *end = End::Committed(Committed { answer: Answer::Refused(Refusal::Failed) });
            }
        }
        BatchEnd { ends: self.ends, outage: self.outage }
    }
}

fn say_refused(request: &Request, state: &SqlState) {
    let (brand, order) = (&request.brand, request.action.order());
    tracing::error!(%brand, %order, %state, "the database refuses this request; it has no effect");
}
