//! The cloud agent's side of the order link: carries each request until it is answered or reported
//! as unknown.
//!
//! A request that was on a link when the link died may be committed. It is sent again under the
//! same key on any other link. This is safe, because a key has one effect (promise P2). A refusal
//! is final only if no other copy can have another outcome: the fate of a lost copy is unknown, but
//! a copy that was refused unopened has ended.
//!
//! A sealed order goes only to a link whose agent opens it. If there is none, its caller seals it
//! again.
//!
//! "Not found" from one agent says nothing about the others: another agent may be processing the
//! order and waiting for a locked row. So every agent is asked before a caller is told that there
//! is no such order. While this sender itself has not settled the order, a cancellation waits for
//! it. A payment does not wait: its caller is told to come again.
//!
//! An agent whose database or audit log does not work refuses quickly, so its links always look the
//! least loaded. A request that it refuses goes to another agent. While some agent works, one that
//! reports such an obstacle gets no request, and for a moment neither does one that refused a
//! request for that reason.
//!
//! An agent may limit the writes of a brand that it has at a time. What it grants is spent on its
//! link: beyond that, the brand's writes go to other agents, or wait.
//!
//! Brands take turns by their weights. Each brand may have its share of a queue, and no other
//! brand can take it away. Questions have a queue of their own and a part of each link's window, so
//! writes never wait for a crowd that asks.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::LinkId;
use super::class_queues::ClassQueues;
use super::fair_queue::QueueEnd;
pub use super::fair_share::BrandIndex;
use super::link::{Link, lane_of};
pub use super::output::{CallerAnswer, Output, RequestId};
pub use super::request::{BodyMark, Rejected, RequestClass};
use super::request::{Request, RequestState, request_is_given_up, sealed_to, write_key};
use super::reserve::Reserve;
use super::unsettled::Unsettled;
use super::window_use::{LinkSet, WindowUse};
use crate::domain::{KeyDigest, OrderId};
use crate::seal::KeyId;
use crate::wire::order::{Refusal, Refused, ToCloud, ToIdc, to_cloud, to_idc};

/// Time in which an agent counts as unable to commit after it said so, unless it answers otherwise.
const AWAY_FOR: Duration = Duration::from_secs(1);

/// The sender's limits.
///
/// A brand below its share of a full queue is let in. If no request may leave for it, the queue
/// becomes longer than its limit, by at most the sum of all brands' shares: once more the limit,
/// and one request for each brand. Requests that come back from a lost link wait beside them.
#[derive(Debug, Clone, Copy)]
pub struct SenderLimits {
    /// Most writes of all brands that wait to be sent.
    pub queue_max: usize,
    /// Most questions of all brands that wait to be sent.
    pub questions_max: usize,
    /// Most requests that are still being settled and have no caller any more.
    pub settling_max: usize,
    /// Longest wait of a caller.
    pub answer_within: Duration,
    /// Time in which a write is still being settled after its caller was told "unknown".
    pub settle_for: Duration,
    /// Time without an answer after which a request is sent again. It doubles each time.
    pub resend_after: Duration,
}

impl SenderLimits {
    /// Returns the most requests of a class that wait to be sent.
    pub fn max_of(&self, class: RequestClass) -> usize {
        match class {
            RequestClass::Write => self.queue_max,
            RequestClass::Question => self.questions_max,
        }
    }
}

/// The sender's state.
#[derive(Debug)]
pub struct Sender {
    limits: SenderLimits,
    next_request: u64,
    /// All requests that are not settled.
    requests: HashMap<RequestId, Request>,
    /// Requests to send as soon as a link has room.
    queues: ClassQueues,
    /// The request for each key; writes only.
    keys: HashMap<KeyDigest, RequestId>,
    /// Writes without a caller, the oldest first; at most `settling_max` after each timeout.
    settling: BTreeSet<RequestId>,
    /// Writes that are not settled, by their order.
    unsettled: Unsettled,
    /// Time of the next check of each request, with exactly one entry for each.
    timers: BTreeSet<(Duration, RequestId)>,
    links: BTreeMap<LinkId, Link>,
    reserve: Reserve,
    /// Time since when there is no link; `None` while there is one.
    cut_off_since: Option<Duration>,
    /// Counts the changes of [`Self::opened`].
    keys_version: u64,
    outputs: VecDeque<Output>,
}

impl Sender {
    /// Makes a sender without links, for brands that all have the same weight.
    pub fn new(limits: SenderLimits) -> Self {
        Self::with_weights(limits, &[])
    }

    /// Makes a sender without links, with a weight for each brand. Brands share the links and the
    /// queues by their weights.
    pub fn with_weights(limits: SenderLimits, weights: &[usize]) -> Self {
        Self {
            limits,
            next_request: 0,
            requests: HashMap::new(),
            queues: ClassQueues::new(weights),
            keys: HashMap::new(),
            settling: BTreeSet::new(),
            unsettled: Unsettled::default(),
            timers: BTreeSet::new(),
            links: BTreeMap::new(),
            reserve: Reserve::new(weights),
            cut_off_since: Some(Duration::ZERO),
            keys_version: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the requests that are not settled.
    pub fn unsettled(&self) -> usize {
        self.requests.len()
    }

    /// Returns true if some link takes new requests.
    pub fn has_open_link(&self) -> bool {
        self.links.values().any(|link| link.open)
    }

    /// Returns, for each open link, the sealing keys that its agent opens.
    pub fn opened(&self) -> impl Iterator<Item = (LinkId, &[KeyId])> {
        self.links.iter().filter(|(_, link)| link.open).map(|(id, link)| (*id, link.keys.as_slice()))
    }

    /// Returns a number that grows whenever [`Self::opened`] changes.
    pub fn keys_version(&self) -> u64 {
        self.keys_version
    }

    /// Returns true if a write under this key or for this order is not settled yet.
    fn is_unsettled(&self, order: OrderId, key: Option<KeyDigest>) -> bool {
        key.is_some_and(|key| self.keys.contains_key(&key)) || self.unsettled.has(order)
    }

    /// Takes a request of a brand about an order. `body` decides if a pending request under the
    /// same key is the same one.
    ///
    /// # Errors
    ///
    /// Fails if the queue is full and the brand has its share of it, or if another request under
    /// the key is not settled.
    pub fn submit(
        &mut self,
        now: Duration,
        brand: BrandIndex,
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
        let earlier = earlier.map(|(id, earlier)| (id, earlier.doubtful || earlier.is_out()));
        let is_extra = self.make_room(RequestClass::of(&kind), brand).ok_or(Rejected::Full)?;
        let mut doubtful = self.is_asked_too_early(order, &kind);
        let early = matches!(kind, to_idc::Kind::Cancel(_)) && self.unsettled.is_placing(order);
        if let Some((id, is_doubtful)) = earlier {
            // The earlier request has no caller any more. The new one, under the same key, settles
            // both.
            doubtful = is_doubtful;
            self.forget(id);
        }
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let caller_until = now + self.limits.answer_within;
        let settle_until = caller_until + self.limits.settle_for;
        let request = Request {
            brand,
            order,
            sealed_to: sealed_to(&kind),
            kind,
            key,
            body,
            is_extra,
            caller_until: Some(caller_until),
            settle_until,
            place: RequestState::Queued,
            sent: 0,
            doubtful,
            early,
            unknown_on: Vec::new(),
            down_on: Vec::new(),
            timer: caller_until,
        };
        self.timers.insert((caller_until, id));
        if let Some(key) = key {
            self.keys.insert(key, id);
            self.unsettled.begin(order, request.places());
        }
        self.requests.insert(id, request);
        self.queue_back(id);
        self.send_queued(now);
        self.end_unreachable(now, id);
        Ok(id)
    }

    /// Does the same as [`Self::submit`] for a payment whose order another sender is placing. Its
    /// caller is never told that there is no such order.
    ///
    /// # Errors
    ///
    /// Fails if the queue is full or another request under the key is not settled.
    pub fn submit_while_placed(
        &mut self,
        now: Duration,
        brand: BrandIndex,
        order: OrderId,
        kind: to_idc::Kind,
        body: BodyMark,
    ) -> Result<RequestId, Rejected> {
        let id = self.submit(now, brand, order, kind, body)?;
        self.requests.entry(id).and_modify(|request| request.early = true);
        Ok(id)
    }

    /// Returns true if this sender is placing the order.
    pub fn is_placing(&self, order: OrderId) -> bool {
        self.unsettled.is_placing(order)
    }

    /// Takes an order that was sealed again, or `None` if this failed because there is no key or
    /// the audit log failed.
    pub fn handle_sealed(&mut self, now: Duration, id: RequestId, sealed: Option<to_idc::Kind>) {
        let sealing = self.requests.get_mut(&id).filter(|request| request.caller_until.is_some());
        let Some(Request { place: RequestState::Sealing(answer), .. }) = sealing else {
            // It took too long, and the request was given up.
            return self.outputs.push_back(Output::Answer { request: id, answer: CallerAnswer::Unknown });
        };
        let answer = answer.take();
        let Some(request) = self.requests.get_mut(&id) else { return };
        self.queues.of_mut(request.class()).release(request.brand);
        request.place = RequestState::Queued;
        if let Some(answer) = answer {
            self.finish(id, *answer);
            return self.send_queued(now);
        }
        match sealed {
            Some(kind) => {
                (request.sealed_to, request.kind) = (sealed_to(&kind), kind);
                self.queue_back(id);
            }
            None => {
                request.caller_until = Some(now);
                let queue = self.queues.of_mut(request.class());
                queue.push(QueueEnd::Back, request.brand, request.sealed_to, request.queued(id));
                self.set_timer(id);
            }
        }
        self.handle_timeout(now);
    }

    /// Takes a new link with this many order lanes and a window of unanswered requests. It gets
    /// sealed orders after the keys of its agent are known.
    pub fn handle_link_up(&mut self, now: Duration, link: LinkId, lanes: u8, window: u32) {
        let slots: LinkSet = self.links.values().filter_map(Link::slot).collect();
        self.links.insert(link, Link::new(lanes, slots.lowest_free()));
        self.links_changed(now);
        self.handle_window(now, link, window);
    }

    /// Replaces the sealing keys that a link's agent opens.
    pub fn handle_keys(&mut self, now: Duration, link: LinkId, keys: Vec<KeyId>) {
        if let Some(link) = self.links.get_mut(&link) {
            link.keys = keys;
        }
        self.links_changed(now);
    }

    /// Closes a link to new requests while its peer is silent or draining (`open` is false), or
    /// opens it again.
    pub fn handle_link_open(&mut self, now: Duration, link: LinkId, open: bool) {
        if let Some(link) = self.links.get_mut(&link) {
            link.open = open;
        }
        self.links_changed(now);
    }

    /// Takes the loss of a link. The fate of its requests is unknown, and they are sent again.
    pub fn handle_link_down(&mut self, now: Duration, link: LinkId) {
        self.links.remove(&link);
        let is_lost = |request: &Request| matches!(request.place, RequestState::InFlight { link: on, .. } if on == link);
        let lost = self.requests.iter().filter(|(_, request)| is_lost(request));
        let mut lost: Vec<RequestId> = lost.map(|(id, _)| *id).collect();
        lost.sort_unstable();
        for id in lost.into_iter().rev() {
            self.lose(id);
        }
        self.links_changed(now);
    }

    /// Takes one answer. Answers from lost links and to settled requests are ignored.
    pub fn handle_answer(&mut self, now: Duration, link: LinkId, message: ToCloud) {
        let id = RequestId(message.request);
        let Some(known) = self.links.get_mut(&link) else { return };
        let is_down = matches!(&message.kind, Some(to_cloud::Kind::Refused(refused)) if refused.refusal() == Refusal::DatabaseDown);
        known.away_until = is_down.then(|| now + AWAY_FOR);
        let Some(request) = self.requests.get(&id) else { return };
        let is_bare = request.is_bare_on(link);
        let is_question = request.key.is_none();
        let doubtful = request.doubtful;
        let asked_too_early =
            is_question && (doubtful || self.is_asked_too_early(request.order, &request.kind));
        match message.kind {
            Some(to_cloud::Kind::Settled(settled)) => self.finish(id, CallerAnswer::Settled(settled)),
            Some(to_cloud::Kind::State(state)) => self.finish(id, CallerAnswer::State(state)),
            Some(to_cloud::Kind::Payment(payment)) => self.finish(id, CallerAnswer::Payment(payment)),
            Some(to_cloud::Kind::Refused(refused)) => match refused.refusal() {
                // If the last copy had its encapsulation, this answers the copy before it and came
                // twice.
                Refusal::SessionUnknown if is_bare => {
                    if let Some(link) = self.links.get_mut(&link) {
                        link.forget_sessions();
                    }
                    self.requeue(id);
                }
                Refusal::SessionUnknown => {}
                Refusal::UnknownKey => self.handle_unknown_key(now, link, id, &refused),
                // The ledger says that another request has the key, so no copy of this one has an
                // effect.
                refusal @ Refusal::KeyReused => self.finish(id, CallerAnswer::Refused(refusal)),
                // A busy IDC cannot know either, or is still working on the write.
                Refusal::NotFound | Refusal::Busy if asked_too_early => {
                    self.finish(id, CallerAnswer::Pending)
                }
                Refusal::NotFound if self.looks_further(now, link, id) => {}
                // A copy was sent to another agent meanwhile, which may commit it.
                _ if self.is_on_another(id, link) => {}
                Refusal::DatabaseDown if self.goes_elsewhere(now, link, id) => {}
                // Another agent, whose database does not work, may know it.
                Refusal::NotFound if self.was_refused_for_want_of_a_database(id) => {
                    self.finish(id, CallerAnswer::Refused(Refusal::DatabaseDown));
                }
                _ if !doubtful || is_question => self.finish(id, CallerAnswer::refused(&refused)),
                // The fate of the lost copies is unknown. The timer sends the request again or
                // tells the caller so.
                _ => {}
            },
            None => {}
        }
        self.send_queued(now);
    }

    /// Returns the time of the next call of [`Self::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Duration> {
        let returns = self.links.values().filter_map(|link| link.away_until);
        self.timers.first().map(|(at, _)| *at).into_iter().chain(returns).min()
    }

    /// Handles the passing of time.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            if self.end_unreachable(now, id) {
                continue;
            }
            let Some(request) = self.requests.get_mut(&id) else { continue };
            let is_waited_for =
                request.caller_until.is_some() && !matches!(request.place, RequestState::Sealing(_));
            if is_waited_for && request.caller_until.is_some_and(|until| until <= now) {
                request.caller_until = None;
                let (place, is_write, brand) = (&request.place, request.key.is_some(), request.brand);
                if !request.doubtful && matches!(place, RequestState::Queued) {
                    self.finish(id, CallerAnswer::NotSent);
                    continue;
                }
                if let RequestState::InFlight { link, .. } = place
                    && let Some(link) = self.links.get_mut(link).filter(|_| is_write)
                {
                    link.caller_left(brand);
                    self.update_window_use(brand);
                }
                self.outputs.push_back(Output::Answer { request: id, answer: CallerAnswer::Unknown });
                if !is_write {
                    self.forget(id);
                    continue;
                }
                self.settling.insert(id);
            }
            if request_is_given_up(self.requests.get(&id), now) {
                self.forget(id);
                continue;
            }
            let is_overdue = |request: &Request| matches!(request.place, RequestState::InFlight { resend_at, .. } if resend_at <= now);
            if self.requests.get(&id).is_some_and(is_overdue) {
                self.lose(id);
            }
            self.set_timer(id);
        }
        self.bound_settling();
        for link in self.links.values_mut() {
            link.away_until = link.away_until.filter(|until| now < *until);
        }
        self.send_queued(now);
    }

    /// Returns the next action.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Handles "not found" for the order or payment of a request. Returns false if no other agent,
    /// and not this sender either, may have it.
    fn looks_further(&mut self, now: Duration, link: LinkId, id: RequestId) -> bool {
        let Some(request) = self.requests.get_mut(&id) else { return false };
        if request.places() {
            return false;
        }
        let waits = matches!(request.kind, to_idc::Kind::Cancel(_));
        if !request.unknown_on.contains(&link) {
            request.unknown_on.push(link);
        }
        if !matches!(request.place, RequestState::InFlight { link: on, .. } if on == link) {
            // The answer is to an earlier copy. The last one is not answered yet.
            return true;
        }
        let (order, early, class, brand) = (request.order, request.early, request.class(), request.brand);
        let is_final = !request.doubtful || request.key.is_none();
        // What an agent grants bounds its queue. A request that looks for its order makes none.
        let window_use = WindowUse { spent: LinkSet::default(), ..self.window_use(brand) };
        let Some(Request { unknown_on, down_on, .. }) = self.requests.get(&id) else { return false };
        let others = self.links.iter();
        let others =
            others.filter(|(id, link)| link.open && !unknown_on.contains(id) && !down_on.contains(id));
        let has_room = |link: &Link| link.has_room(class, window_use);
        let makes_room = |link: &Link| {
            let share = self.queues.of(class).share_of(brand, link.questions_max());
            class == RequestClass::Question && link.has_room_further(brand, share)
        };
        let order_of = |link: &Link| (!has_room(link), !has_room(link) && !makes_room(link), link.in_flight);
        if let Some((other, link)) = others.min_by_key(|(_, link)| order_of(link)) {
            let (other, has_room) = (*other, has_room(link) || makes_room(link));
            if has_room {
                self.take_off_link(id);
                self.send(now, id, other);
            } else if is_final {
                // If it waited for that link, it would block requests that other links take.
                self.finish(id, CallerAnswer::Refused(Refusal::Busy));
            }
        } else if early && !waits {
            if !is_final {
                return false;
            }
            self.finish(id, CallerAnswer::Refused(Refusal::Busy));
        } else if early {
            self.take_off_link(id);
            if self.unsettled.is_placing(order) {
                self.wait_behind(id, order);
            } else {
                self.send_after_its_order(id);
            }
        } else {
            return false;
        }
        true
    }

    /// Handles the answer of an agent that cannot commit and did nothing. A write that may go to
    /// another agent which has no room for it now waits in the queue, before the others of its
    /// brand. Returns false if no other agent is known to work.
    fn goes_elsewhere(&mut self, now: Duration, link: LinkId, id: RequestId) -> bool {
        let Some(request) = self.requests.get_mut(&id) else { return false };
        if !matches!(request.place, RequestState::InFlight { link: on, .. } if on == link) {
            return false;
        }
        request.down_on.push(link);
        let (class, brand) = (request.class(), request.brand);
        let window_use = self.window_use(brand);
        let Some(Request { down_on, unknown_on, sealed_to, doubtful, .. }) = self.requests.get(&id) else {
            return false;
        };
        let others = self.links.iter().filter(|(id, link)| {
            link.opens(*sealed_to) && !link.is_away(now) && !down_on.contains(id) && !unknown_on.contains(id)
        });
        let has_room = |link: &Link| link.has_room(class, window_use);
        let best = others.min_by_key(|(_, link)| (!has_room(link), link.in_flight));
        let Some((other, has_room)) = best.map(|(id, link)| (*id, has_room(link))) else { return false };
        if has_room {
            self.take_off_link(id);
            self.send(now, id, other);
            return true;
        }
        // From the queue, a request that looks for its order would go to any agent again.
        let may_wait = class == RequestClass::Write && !doubtful && unknown_on.is_empty();
        if may_wait {
            self.requeue(id);
        }
        may_wait
    }

    fn is_on_another(&self, id: RequestId, link: LinkId) -> bool {
        let place = self.requests.get(&id).map(|request| &request.place);
        matches!(place, Some(RequestState::InFlight { link: on, .. }) if *on != link)
    }

    fn was_refused_for_want_of_a_database(&self, id: RequestId) -> bool {
        self.requests.get(&id).is_some_and(|request| !request.down_on.is_empty())
    }

    /// Makes a cancellation wait until its order is no longer being placed.
    fn wait_behind(&mut self, id: RequestId, order: OrderId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.place = RequestState::Behind;
        self.queues.of_mut(request.class()).hold(request.brand);
        self.unsettled.wait_behind(order, id);
        self.set_timer(id);
    }

    /// Sends a cancellation after its order is no longer being placed. From now on, answers about
    /// the order are final.
    fn send_after_its_order(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if matches!(request.place, RequestState::Behind) {
            self.queues.of_mut(request.class()).release(request.brand);
        }
        request.early = false;
        request.unknown_on.clear();
        self.queue_back(id);
    }

    fn send(&mut self, now: Duration, id: RequestId, link_id: LinkId) {
        let Some(link) = self.links.get_mut(&link_id) else { return };
        let Some(request) = self.requests.get_mut(&id) else { return };
        let resend_at = now + self.limits.resend_after * 2u32.saturating_pow(request.sent.min(5));
        request.sent = request.sent.saturating_add(1);
        let brand = request.brand;
        link.begin(request.class(), brand, request.caller_until.is_some());
        let index = lane_of(request.order, link.lanes.len());
        let mut bare = false;
        if let Some(lane) = link.lanes.get_mut(index) {
            lane.sequence += 1;
            let kind = lane.carry(&request.kind);
            bare = matches!(&kind, to_idc::Kind::Place(envelope) if envelope.encapsulation.is_empty());
            let remaining_millis = request.remaining_millis(now);
            let message = ToIdc {
                request: id.0,
                kind: Some(kind),
                sequence: lane.sequence,
                trace: None,
                remaining_millis,
            };
            let lane = u8::try_from(index).unwrap_or(0);
            self.outputs.push_back(Output::Transmit { link: link_id, lane, message });
        }
        request.place = RequestState::InFlight { link: link_id, resend_at, bare };
        self.reserve.begin(brand);
        self.update_window_use(brand);
        self.set_timer(id);
    }

    /// Handles that a link's agent does not open a key of its manifest. This copy of the request
    /// has ended.
    fn handle_unknown_key(&mut self, now: Duration, link: LinkId, id: RequestId, refused: &Refused) {
        let key = KeyId::from_bytes(&refused.key_id);
        if let Some(link) = self.links.get_mut(&link) {
            link.keys.retain(|known| Some(*known) != key);
        }
        let is_that_copy = |request: &Request| {
            request.sealed_to == key
                && matches!(request.place, RequestState::InFlight { link: on, .. } if on == link)
        };
        if self.requests.get(&id).is_some_and(is_that_copy) {
            self.requeue(id);
        }
        self.links_changed(now);
    }

    /// Handles a copy that is lost or late. Its fate is unknown.
    fn lose(&mut self, id: RequestId) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.doubtful |= request.key.is_some();
        }
        self.requeue(id);
    }

    /// Takes a request off its link. Returns false if it is on none. The caller must decide its
    /// next place.
    fn take_off_link(&mut self, id: RequestId) -> bool {
        let Some(request) = self.requests.get(&id) else { return false };
        let RequestState::InFlight { link, .. } = request.place else { return false };
        let (class, brand) = (request.class(), request.brand);
        if let Some(link) = self.links.get_mut(&link) {
            link.end(class, brand, request.caller_until.is_some());
        }
        self.reserve.end(brand);
        self.update_window_use(brand);
        true
    }

    fn finish(&mut self, id: RequestId, answer: CallerAnswer) {
        if let Some(Request { place: RequestState::Sealing(told), .. }) = self.requests.get_mut(&id) {
            *told = Some(Box::new(answer));
            return;
        }
        self.outputs.push_back(Output::Answer { request: id, answer });
        self.forget(id);
    }

    fn forget(&mut self, id: RequestId) {
        self.take_off_link(id);
        let Some(request) = self.requests.remove(&id) else { return };
        self.timers.remove(&(request.timer, id));
        self.settling.remove(&id);
        let queue = self.queues.of_mut(request.class());
        if request.is_extra {
            queue.remove_extra();
        }
        match request.place {
            RequestState::Queued => queue.remove(request.brand, request.sealed_to, id),
            RequestState::Sealing(_) | RequestState::Behind => queue.release(request.brand),
            RequestState::InFlight { .. } => {}
        }
        if let Some(key) = request.key {
            self.keys.remove(&key);
            let behind = self.unsettled.end(request.order, request.places(), id);
            behind.into_iter().for_each(|id| self.send_after_its_order(id));
        }
    }

    /// Stops settling the oldest requests above the limit. Callers can still ask for their keys and
    /// orders.
    fn bound_settling(&mut self) {
        while self.settling.len() > self.limits.settling_max {
            if let Some(oldest) = self.settling.pop_first() {
                self.forget(oldest);
            }
        }
    }

    /// Sets the request's only timer to the earliest of its deadlines.
    fn set_timer(&mut self, id: RequestId) {
        let reachable_until = self.reachable_until(id);
        let Some(request) = self.requests.get_mut(&id) else { return };
        let ends = request.caller_until.unwrap_or(request.settle_until);
        let ends = reachable_until.map_or(ends, |until| ends.min(until));
        let next = match request.place {
            RequestState::Queued | RequestState::Behind => ends,
            RequestState::InFlight { resend_at, .. } => ends.min(resend_at),
            // Its caller gets no answer before it returns. If the caller never returns, the request
            // ends with settling.
            RequestState::Sealing(_) => request.settle_until,
        };
        self.timers.remove(&(request.timer, id));
        request.timer = next;
        self.timers.insert((next, id));
    }
}

mod grants;
mod questions;
mod queueing;

#[cfg(test)]
mod tests;
