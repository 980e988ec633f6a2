//! Handling of questions. A question about a write that is not settled here is too early. Without
//! any link, a question ends soon, because its caller can ask again. Writes wait as long as usual.

use std::time::Duration;

use super::super::request::RequestState;
use super::{CallerAnswer, RequestClass, RequestId, Sender};
use crate::domain::{KeyDigest, OrderId};
use crate::wire::order::to_idc;

/// Longest wait of a question while there is no link at all, not even a silent one. Most links
/// return within it. A link that is away longer may be away for an hour.
const LINK_WITHIN: Duration = Duration::from_secs(1);

impl Sender {
    /// Returns true for a question about an order that this sender is still settling.
    pub(super) fn is_asked_too_early(&self, order: OrderId, kind: &to_idc::Kind) -> bool {
        let key = match kind {
            to_idc::Kind::Ask(ask) => &ask.key,
            to_idc::Kind::AskPayment(ask) => &ask.key,
            _ => return false,
        };
        self.is_unsettled(order, key.as_deref().and_then(KeyDigest::from_bytes))
    }

    /// Updates the time since when there is no link. A silent link counts as one, because it may be
    /// heard again.
    pub(super) fn note_reach(&mut self, now: Duration) {
        let was_cut_off = self.cut_off_since.is_some();
        self.cut_off_since = self.links.is_empty().then(|| self.cut_off_since.unwrap_or(now));
        if self.cut_off_since.is_some() && !was_cut_off {
            let waiting = self.queues.of(RequestClass::Question).of_key(None);
            waiting.into_iter().for_each(|id| self.set_timer(id));
        }
    }

    /// Ends a question that has waited for a link long enough. Returns true if it did.
    pub(super) fn end_unreachable(&mut self, now: Duration, id: RequestId) -> bool {
        if self.reachable_until(id).is_none_or(|until| now < until) {
            return false;
        }
        let Some(request) = self.requests.get(&id) else { return false };
        // A write that is not settled here may still be committed.
        let is_early = request.doubtful || self.is_asked_too_early(request.order, &request.kind);
        self.finish(id, if is_early { CallerAnswer::Pending } else { CallerAnswer::NotSent });
        true
    }

    /// Returns the end of a question's wait for a link, if it waits for one and there is none.
    pub(super) fn reachable_until(&self, id: RequestId) -> Option<Duration> {
        let since = self.cut_off_since?;
        let request = self.requests.get(&id)?;
        let waits = request.key.is_none() && matches!(request.place, RequestState::Queued);
        waits.then(|| since + LINK_WITHIN)
    }
}
