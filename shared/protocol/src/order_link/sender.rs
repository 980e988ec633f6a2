//! The cloud's side of the order link: carries each request until it is answered, or says that it is unknown.
//!
//! A request that was on a link when the link died may have been committed. It is sent again under the same key on any
//! other link, which is safe because a key has one effect (promise P2). A refusal is final only if the request was
//! sent once, and nothing else under its key before it: of an earlier copy nobody knows.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::LinkId;
use crate::domain::{KeyDigest, OrderId};
use crate::wire::order::{Refusal, Settled, State, ToCloud, ToIdc, to_cloud, to_idc};
use crate::wire::payment::PaymentState;

/// Sealing sessions remembered a lane, so that an encapsulation travels once.
const SESSIONS_PER_LANE: usize = 16;

/// The sender's limits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that wait to be sent.
    pub queue_max: usize,
    /// Requests that nobody waits for any more and that are still being settled.
    pub settling_max: usize,
    /// How long a caller waits.
    pub answer_within: Duration,
    /// How long after its caller has been told "unknown" a write is still being settled.
    pub settle_for: Duration,
    /// After how long without an answer a request is sent again; doubles with each time.
    pub resend_after: Duration,
}

/// Names one request of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Why a request is not taken; it has had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// As many requests wait as may.
    #[error("the order queue is full")]
    Full,
    /// A request under the same idempotency key is still waiting for its answer.
    #[error("a request under this idempotency key is in progress")]
    InProgress,
    /// Another request under the same idempotency key is not settled yet.
    #[error("another request under this idempotency key is not settled")]
    KeyReused,
}

/// What a write asks for, as a number that tells two bodies apart without saying anything of either: a hash under a key that
/// nobody but this process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyMark(pub u64);

impl BodyMark {
    /// Of a question, which has no key.
    pub const NONE: Self = Self(0);
}

/// How a request ended for its caller.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Committed; the receipt is yet to be verified.
    Settled(Settled),
    /// Refused, with no effect.
    Refused(Refusal),
    /// How the order stands.
    State(State),
    /// How the payment stands.
    Payment(PaymentState),
    /// It may or may not have been committed; settling goes on.
    Unknown,
    /// It never left, and had no effect.
    NotSent,
    /// The IDC knows no such order, and a write about it is not settled yet: ask again.
    Pending,
}

/// What the shell does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this on a lane of a link.
    Transmit {
        /// Which link.
        link: LinkId,
        /// Which of the lanes that this sender was given.
        lane: u8,
        /// What.
        message: ToIdc,
    },
    /// Answer the caller. A request may be answered a second time after [`Answer::Unknown`], once it has settled.
    Answer {
        /// Which request.
        request: RequestId,
        /// How it ended.
        answer: Answer,
    },
}

/// The sender's state.
#[derive(Debug)]
pub struct Sender {
    limits: Limits,
    next_request: u64,
    /// Every request that is not settled.
    requests: HashMap<RequestId, Request>,
    /// Requests to be sent as soon as a link has room, in order.
    queue: VecDeque<RequestId>,
    /// The request that stands for a key, of writes only.
    keys: HashMap<KeyDigest, RequestId>,
    /// Writes without a caller, the oldest first; at most `settling_max` after each timeout.
    settling: BTreeSet<RequestId>,
    /// How many writes about an order are not settled; none of them 0.
    unsettled: HashMap<OrderId, usize>,
    /// When each request is looked at next; exactly one entry a request.
    timers: BTreeSet<(Duration, RequestId)>,
    links: BTreeMap<LinkId, Link>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Request {
    order: OrderId,
    kind: to_idc::Kind,
    /// The idempotency key of a write.
    key: Option<KeyDigest>,
    /// What it asks for.
    body: BodyMark,
    /// When the caller is told `Unknown` or `NotSent`; `None` once that has happened.
    caller_until: Option<Duration>,
    /// When settling is given up.
    settle_until: Duration,
    /// Which link carries it, and when it is sent again.
    in_flight: Option<(LinkId, Duration)>,
    /// How often it was sent.
    sent: u32,
    /// For a write: it took over from one that was sent, of which nobody knows. For a question: it came while a write
    /// about its order was not settled, so the IDC may have answered before that write and be heard after it.
    doubtful: bool,
    /// Its entry in `timers`.
    timer: Duration,
}

#[derive(Debug)]
struct Link {
    /// One a lane: the next sequence number, and the sessions whose encapsulation the lane has carried.
    lanes: Vec<Lane>,
    /// Requests the IDC accepts unanswered.
    window: usize,
    /// Requests on it that are not answered.
    in_flight: usize,
    /// Whether it takes new requests: not while the peer is silent or draining.
    open: bool,
}

#[derive(Debug, Default)]
struct Lane {
    sequence: u64,
    sessions: VecDeque<Bytes>,
}

impl Sender {
    /// A sender without links.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            next_request: 0,
            requests: HashMap::new(),
            queue: VecDeque::new(),
            keys: HashMap::new(),
            settling: BTreeSet::new(),
            unsettled: HashMap::new(),
            timers: BTreeSet::new(),
            links: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Requests that wait to be sent.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Requests that are not settled.
    pub fn unsettled(&self) -> usize {
        self.requests.len()
    }

    /// Whether some link takes new requests.
    pub fn has_open_link(&self) -> bool {
        self.links.values().any(|link| link.open)
    }

    /// Whether a write under this key, or for this order, is not settled yet.
    fn is_unsettled(&self, order: OrderId, key: Option<KeyDigest>) -> bool {
        key.is_some_and(|key| self.keys.contains_key(&key)) || self.unsettled.contains_key(&order)
    }

    /// Takes a request about an order. Its mark tells whether what is under way under its key is the same.
    pub fn submit(
        &mut self,
        now: Duration,
        order: OrderId,
        kind: to_idc::Kind,
        body: BodyMark,
    ) -> Result<RequestId, Rejected> {
        let key = write_key(&kind);
        let earlier = key.and_then(|key| self.keys.get(&key)).copied();
        let earlier = earlier.and_then(|id| Some((id, self.requests.get(&id)?)));
        if earlier.is_some_and(|(_, earlier)| earlier.body != body) {
            return Err(Rejected::KeyReused);
        }
        if earlier.is_some_and(|(_, earlier)| earlier.caller_until.is_some()) {
            return Err(Rejected::InProgress);
        }
        if self.queue.len() >= self.limits.queue_max {
            return Err(Rejected::Full);
        }
        let mut doubtful = self.is_asked_too_early(order, &kind);
        if let Some((id, earlier)) = earlier {
            // Nobody waits for the earlier one any more: this one, under the same key, settles both.
            doubtful = earlier.sent > 0 || earlier.doubtful;
            self.forget(id);
        }
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let caller_until = now + self.limits.answer_within;
        let settle_until = caller_until + self.limits.settle_for;
        let request = Request {
            order,
            kind,
            key,
            body,
            caller_until: Some(caller_until),
            settle_until,
            in_flight: None,
            sent: 0,
            doubtful,
            timer: caller_until,
        };
        self.timers.insert((caller_until, id));
        self.requests.insert(id, request);
        if let Some(key) = key {
            self.keys.insert(key, id);
            *self.unsettled.entry(order).or_default() += 1;
        }
        self.queue.push_back(id);
        self.send_queued(now);
        Ok(id)
    }

    /// A link with this many order lanes takes requests, `window` of them unanswered.
    pub fn handle_link_up(&mut self, now: Duration, link: LinkId, lanes: u8, window: u32) {
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        let link_state = Link { lanes, window: window as usize, in_flight: 0, open: true };
        self.links.insert(link, link_state);
        self.send_queued(now);
    }

    /// The IDC accepts another number of unanswered requests.
    pub fn handle_window(&mut self, now: Duration, link: LinkId, window: u32) {
        if let Some(link) = self.links.get_mut(&link) {
            link.window = window as usize;
        }
        self.send_queued(now);
    }

    /// The peer of a link has fallen silent or is draining (`open` is false), or is heard again.
    pub fn handle_link_open(&mut self, now: Duration, link: LinkId, open: bool) {
        if let Some(link) = self.links.get_mut(&link) {
            link.open = open;
        }
        self.send_queued(now);
    }

    /// A link is gone: what it carried is unknown, and sent again.
    pub fn handle_link_down(&mut self, now: Duration, link: LinkId) {
        self.links.remove(&link);
        let mut lost: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| request.in_flight.is_some_and(|(on, _)| on == link))
            .map(|(id, _)| *id)
            .collect();
        lost.sort_unstable();
        for id in lost.into_iter().rev() {
            self.requeue(id);
        }
        self.send_queued(now);
    }

    /// Takes one answer. Answers of links that are gone, and to requests that are settled, are nothing new.
    pub fn handle_answer(&mut self, now: Duration, link: LinkId, message: ToCloud) {
        let id = RequestId(message.request);
        if !self.links.contains_key(&link) {
            return;
        }
        let Some(request) = self.requests.get(&id) else { return };
        let is_only_copy = request.sent == 1 && !request.doubtful;
        match message.kind {
            Some(to_cloud::Kind::Settled(settled)) => self.finish(id, Answer::Settled(settled)),
            Some(to_cloud::Kind::State(state)) => self.finish(id, Answer::State(state)),
            Some(to_cloud::Kind::Payment(payment)) => self.finish(id, Answer::Payment(payment)),
            Some(to_cloud::Kind::Refused(refused)) => match refused.refusal() {
                Refusal::SessionUnknown => {
                    self.forget_sessions(link);
                    self.requeue(id);
                }
                // The ledger itself says that the key is another request's, so no copy of this one has an effect.
                refusal @ Refusal::KeyReused => self.finish(id, Answer::Refused(refusal)),
                Refusal::NotFound
                    if request.key.is_none()
                        && (request.doubtful || self.is_asked_too_early(request.order, &request.kind)) =>
                {
                    self.finish(id, Answer::Pending)
                }
                refusal if is_only_copy || request.key.is_none() => self.finish(id, Answer::Refused(refusal)),
                // Of the earlier copies nobody knows: the timer sends it again, or tells the caller so.
                _ => {}
            },
            None => {}
        }
        self.send_queued(now);
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let Some(request) = self.requests.get_mut(&id) else { continue };
            if request.caller_until.is_some_and(|until| until <= now) {
                request.caller_until = None;
                if request.sent == 0 && !request.doubtful {
                    self.finish(id, Answer::NotSent);
                    continue;
                }
                self.outputs.push_back(Output::Answer { request: id, answer: Answer::Unknown });
                if request.key.is_none() {
                    self.forget(id);
                    continue;
                }
                self.settling.insert(id);
            }
            if request_is_given_up(self.requests.get(&id), now) {
                self.forget(id);
                continue;
            }
            let overdue =
                |request: &Request| request.in_flight.is_some_and(|(_, resend_at)| resend_at <= now);
            if self.requests.get(&id).is_some_and(overdue) {
                self.requeue(id);
            }
            self.set_timer(id);
        }
        self.bound_settling();
        self.send_queued(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether this is a question about an order that this sender is still settling.
    fn is_asked_too_early(&self, order: OrderId, kind: &to_idc::Kind) -> bool {
        let key = match kind {
            to_idc::Kind::Ask(ask) => &ask.key,
            to_idc::Kind::AskPayment(ask) => &ask.key,
            _ => return false,
        };
        self.is_unsettled(order, key.as_deref().and_then(KeyDigest::from_bytes))
    }

    /// Sends what waits, as far as the links have room: to the link with the least on it.
    fn send_queued(&mut self, now: Duration) {
        while let Some(id) = self.queue.front().copied() {
            let free = self.links.iter_mut().filter(|(_, link)| link.open && link.in_flight < link.window);
            let Some((&link_id, link)) = free.min_by_key(|(_, link)| link.in_flight) else { return };
            self.queue.pop_front();
            let Some(request) = self.requests.get_mut(&id) else { continue };
            let resend_at = now + self.limits.resend_after * 2u32.saturating_pow(request.sent.min(5));
            request.in_flight = Some((link_id, resend_at));
            request.sent = request.sent.saturating_add(1);
            link.in_flight += 1;
            let index = lane_of(request.order, link.lanes.len());
            if let Some(lane) = link.lanes.get_mut(index) {
                lane.sequence += 1;
                let message = ToIdc {
                    request: id.0,
                    kind: Some(lane.carry(&request.kind)),
                    sequence: lane.sequence,
                    trace: None,
                };
                let lane = u8::try_from(index).unwrap_or(0);
                self.outputs.push_back(Output::Transmit { link: link_id, lane, message });
            }
            self.set_timer(id);
        }
    }

    /// Takes a request off its link and puts it at the head of the queue: it is the oldest.
    fn requeue(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let Some((link, _)) = request.in_flight.take() else { return };
        if let Some(link) = self.links.get_mut(&link) {
            link.in_flight = link.in_flight.saturating_sub(1);
        }
        self.queue.push_front(id);
        self.set_timer(id);
    }

    fn finish(&mut self, id: RequestId, answer: Answer) {
        self.outputs.push_back(Output::Answer { request: id, answer });
        self.forget(id);
    }

    fn forget(&mut self, id: RequestId) {
        let Some(request) = self.requests.remove(&id) else { return };
        self.timers.remove(&(request.timer, id));
        self.settling.remove(&id);
        match request.in_flight {
            Some((link, _)) => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.in_flight = link.in_flight.saturating_sub(1);
                }
            }
            None => self.queue.retain(|queued| *queued != id),
        }
        let Some(key) = request.key else { return };
        self.keys.remove(&key);
        if let Entry::Occupied(mut count) = self.unsettled.entry(request.order) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// What is beyond the limit is no longer settled from here; its key and its order can still be asked about.
    fn bound_settling(&mut self) {
        while self.settling.len() > self.limits.settling_max {
            if let Some(oldest) = self.settling.pop_first() {
                self.forget(oldest);
            }
        }
    }

    fn forget_sessions(&mut self, link: LinkId) {
        let lanes = self.links.get_mut(&link).into_iter().flat_map(|link| &mut link.lanes);
        lanes.for_each(|lane| lane.sessions.clear());
    }

    /// Sets the request's one timer to whatever comes first.
    fn set_timer(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let ends = request.caller_until.unwrap_or(request.settle_until);
        let next = request.in_flight.map_or(ends, |(_, resend_at)| ends.min(resend_at));
        self.timers.remove(&(request.timer, id));
        request.timer = next;
        self.timers.insert((next, id));
    }
}

impl Lane {
    /// The request as this lane needs it: without the encapsulation if the lane has carried it.
    fn carry(&mut self, kind: &to_idc::Kind) -> to_idc::Kind {
        let mut kind = kind.clone();
        if let to_idc::Kind::Place(envelope) = &mut kind {
            if self.sessions.contains(&envelope.session) {
                envelope.encapsulation = Bytes::new();
            } else {
                if self.sessions.len() >= SESSIONS_PER_LANE {
                    self.sessions.pop_front();
                }
                self.sessions.push_back(envelope.session.clone());
            }
        }
        kind
    }
}

fn request_is_given_up(request: Option<&Request>, now: Duration) -> bool {
    request.is_none_or(|request| request.settle_until <= now)
}

/// The idempotency key of a write; questions have none.
fn write_key(kind: &to_idc::Kind) -> Option<KeyDigest> {
    match kind {
        to_idc::Kind::Place(envelope) => KeyDigest::from_bytes(&envelope.key),
        to_idc::Kind::Cancel(cancel) => KeyDigest::from_bytes(&cancel.key),
        to_idc::Kind::Pay(pay) => KeyDigest::from_bytes(&pay.key),
        to_idc::Kind::Refund(refund) => KeyDigest::from_bytes(&refund.key),
        to_idc::Kind::Ask(_) | to_idc::Kind::AskPayment(_) => None,
    }
}

/// Orders are spread over the lanes by the random part of their id; all about one order takes one lane.
fn lane_of(order: OrderId, lanes: usize) -> usize {
    usize::from(order.as_bytes()[15]) % lanes.max(1)
}

#[cfg(test)]
mod tests;
