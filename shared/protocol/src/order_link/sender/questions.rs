//! Questions: one about what is not settled here is too early, and one without any link is answered soon, since whoever asks
//! can ask again. Writes wait as long as ever.

use std::time::Duration;

use super::super::request::RequestState;
use super::{CallerAnswer, RequestId, Sender};
use crate::domain::{KeyDigest, OrderId};
use crate::wire::order::to_idc;

/// How long a question waits for a link while there is none, not even one that is silent: most of them come back within it. Whoever asks can ask again, and a
/// link that is away for longer may be for an hour.
const LINK_WITHIN: Duration = Duration::from_secs(1);

impl Sender {
    /// Whether this is a question about an order that this sender is still settling.
    pub(super) fn is_asked_too_early(&self, order: OrderId, kind: &to_idc::Kind) -> bool {
        let key = match kind {
            to_idc::Kind::Ask(ask) => &ask.key,
            to_idc::Kind::AskPayment(ask) => &ask.key,
            _ => return false,
        };
        self.is_unsettled(order, key.as_deref().and_then(KeyDigest::from_bytes))
    }

    /// Notes whether there is a link, as it is now. One that is silent is a link: it may be heard again.
    pub(super) fn note_reach(&mut self, now: Duration) {
        let was_cut_off = self.cut_off_since.is_some();
        self.cut_off_since = self.links.is_empty().then(|| self.cut_off_since.unwrap_or(now));
        if self.cut_off_since.is_some() && !was_cut_off {
            self.queue.of_key(None).into_iter().for_each(|id| self.set_timer(id));
        }
    }

    /// Ends a question that has waited for a link for long enough; whether it did.
    pub(super) fn end_unreachable(&mut self, now: Duration, id: RequestId) -> bool {
        if self.reachable_until(id).is_none_or(|until| now < until) {
            return false;
        }
        let Some(request) = self.requests.get(&id) else { return false };
        // Of a write that is not settled here it is known that nobody can tell.
        let is_early = request.doubtful || self.is_asked_too_early(request.order, &request.kind);
        self.finish(id, if is_early { CallerAnswer::Pending } else { CallerAnswer::NotSent });
        true
    }

    /// Until when a question waits for a link, where it waits for one and there is none.
    pub(super) fn reachable_until(&self, id: RequestId) -> Option<Duration> {
        let since = self.cut_off_since?;
        let request = self.requests.get(&id)?;
        let waits = request.key.is_none() && matches!(request.place, RequestState::Queued);
        waits.then(|| since + LINK_WITHIN)
    }
}
