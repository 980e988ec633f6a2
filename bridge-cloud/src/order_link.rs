//! The task that owns the order link's state, and the handle for requests.
//!
//! Requests, frames and timers are inputs of the sans-IO `Sender`; its outputs are sent or
//! answered. No other code touches the state, so nothing is locked. Payments have a `Sender` and a
//! lane of their own, so a gateway that hangs takes no order's place.

/// Number of waiting requests of each brand.
mod backlog;

/// Credits of each brand.
mod credits;

/// Limits of the brands.
mod limits;

/// Slot of a request on its way to the owner.
mod slot;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::domain::{Brand, OrderId, TraceParent};
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::adaptive;
use bridge_protocol::order_link::credits::CreditClass;
use bridge_protocol::order_link::fair_share::BrandIndex;
use bridge_protocol::order_link::sender::{
    BodyMark, CallerAnswer, Output, Rejected, RequestClass, RequestId, Sender, SenderLimits,
};
use bridge_protocol::seal::manifest::{Manifest, SealingKey};
use bridge_protocol::seal::preference;
use bridge_protocol::wire::control::Obstacle;
use bridge_protocol::wire::frame::{self, ORDER_FRAME_BYTES_MAX};
use bridge_protocol::wire::order::{ToCloud, to_idc};
use bridge_runtime::audit_log::{AuditLog, LastLogged};
use bridge_runtime::clock;
use bridge_runtime::telemetry::LogRateLimit;
use bridge_runtime::telemetry::shared::Queue;
use bridge_runtime::tunnel::{Events, LinkSender, LinkUp, TunnelEvent};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::backlog::Backlogs;
pub use self::credits::CreditReport;
use self::credits::{Credit, Credits};
use self::limits::BrandLimits;
pub use self::slot::Slot;
use crate::admission::{Load, NotAdmitted, OutOfCredit};
use crate::data_centre::{DataCentre, Moment};
use crate::metrics::Metrics;

/// Most inputs of a kind that are taken at once.
const TAKEN_AT_ONCE: usize = 256;

/// Log lines about obstacles of the data centre's agents in ten seconds.
const READINESS_LOGGED: u32 = 20;

/// Handle of the order link for any thread, for orders or for payments.
#[derive(Clone)]
pub struct OrderLink {
    submissions: mpsc::Sender<Submission>,
    backlogs: Backlogs,
    credits: Arc<Credits>,
    load: watch::Receiver<Load>,
}

/// Log for new sealing keys.
pub struct KeysLog {
    /// The audit log.
    pub log: AuditLog,
    /// The keys that were logged last.
    pub last: LastLogged,
}

/// Message from a serving thread.
enum Submission {
    /// A request.
    New { slot: Slot, order: OrderId, kind: to_idc::Kind, body: BodyMark, caller: Caller },
    /// An order that was sealed again, or could not be.
    Sealed { request: RequestId, sealed: Option<to_idc::Kind>, caller: Caller },
}

/// A task that waits for a request.
struct Caller {
    answer: oneshot::Sender<Result<Reply, Rejected>>,
    trace: Option<TraceParent>,
}

/// Message of the order link to a caller.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are the large one, and a box would cost each an allocation"
)]
enum Reply {
    /// The answer to its request.
    Ended(CallerAnswer),
    /// It must seal its order again.
    SealAgain(RequestId),
}

/// Result of carrying a request.
pub enum CarryResult {
    /// The request has ended.
    Ended(CallerAnswer),
    /// No link opens the key that the order is sealed to. Its caller must seal it again to the key
    /// that is preferred now.
    SealAgain(SealAgain),
}

/// An order that waits to be sealed again.
pub struct SealAgain {
    link: OrderLink,
    request: RequestId,
    trace: Option<TraceParent>,
    credit: Option<Credit>,
}

impl OrderLink {
    /// Returns the current load of the link, without the state of the audit log.
    pub fn load(&self) -> Load {
        *self.load.borrow()
    }

    /// Returns a slot for one more request of a brand. Returns `None` if the limit of waiting
    /// requests of this class is reached and the brand has its share of them.
    pub fn slot(&self, class: RequestClass, brand: BrandIndex) -> Option<Slot> {
        self.backlogs.of(class).take(brand).map(Slot::new)
    }

    /// Returns a slot for one more order or cancellation of a brand. Returns `None` if the part of
    /// the waiting requests that its class may have is reached, and the brand has its share of it.
    pub fn slot_for(&self, class: CreditClass, brand: BrandIndex) -> Option<Slot> {
        self.backlogs.of(RequestClass::Write).take_for(class, brand).map(Slot::new)
    }

    /// Checks that a brand has a credit left for a request of this class, without spending it.
    ///
    /// # Errors
    ///
    /// Fails if the brand has as many requests outstanding as the data centre takes.
    pub fn check(&self, class: CreditClass, brand: BrandIndex) -> Result<(), NotAdmitted> {
        self.credits.check(brand, class).map_err(NotAdmitted::OutOfCredit)
    }

    /// Spends a credit for the request of a slot. The request has it until it is answered.
    ///
    /// # Errors
    ///
    /// Fails if the brand has as many requests outstanding as the data centre takes.
    pub fn pay(&self, mut slot: Slot, class: CreditClass) -> Result<Slot, NotAdmitted> {
        let credit = self.credits.spend(slot.brand(), class).map_err(NotAdmitted::OutOfCredit)?;
        slot.set_credit(credit);
        Ok(slot)
    }

    /// Waits for the pause of a refusal.
    pub async fn pause(&self, refused: OutOfCredit) {
        self.credits.pause(refused).await;
    }

    /// Returns the credits of the brands that have a limit or requests outstanding.
    pub fn credits(&self) -> Vec<CreditReport> {
        self.credits.report()
    }

    /// Submits a request that is not sealed, and waits for its answer. The request continues even
    /// if the caller stops waiting.
    ///
    /// `body` decides if a pending request under the same key is the same one. `trace` goes with it
    /// to the data centre.
    ///
    /// # Errors
    ///
    /// Fails if the request is rejected. It then has no effect.
    pub async fn submit(
        &self,
        slot: Slot,
        order: OrderId,
        kind: to_idc::Kind,
        body: BodyMark,
        trace: Option<TraceParent>,
    ) -> Result<CallerAnswer, Rejected> {
        match self.carry(slot, order, kind, body, trace).await? {
            CarryResult::Ended(answer) => Ok(answer),
            CarryResult::SealAgain(waiting) => match waiting.sealed(None).await? {
                CarryResult::Ended(answer) => Ok(answer),
                CarryResult::SealAgain(_) => Ok(CallerAnswer::Unknown),
            },
        }
    }

    /// Submits any request, and waits until it ends or its caller is needed again.
    ///
    /// # Errors
    ///
    /// Fails if the request is rejected. It then has no effect.
    pub async fn carry(
        &self,
        mut slot: Slot,
        order: OrderId,
        kind: to_idc::Kind,
        body: BodyMark,
        trace: Option<TraceParent>,
    ) -> Result<CarryResult, Rejected> {
        let (answer, answered) = oneshot::channel();
        let (caller, credit) = (Caller { answer, trace }, slot.take_credit());
        self.submissions
            .try_send(Submission::New { slot, order, kind, body, caller })
            .map_err(|_full| Rejected::Full)?;
        self.answer(answered, trace, credit).await
    }

    /// Waits for the answer. The credit is given back with it.
    async fn answer(
        &self,
        answered: oneshot::Receiver<Result<Reply, Rejected>>,
        trace: Option<TraceParent>,
        credit: Option<Credit>,
    ) -> Result<CarryResult, Rejected> {
        // The owner ends only with the process. Then the outcome is unknown.
        let reply = answered.await.unwrap_or(Ok(Reply::Ended(CallerAnswer::Unknown)))?;
        if let (Reply::Ended(CallerAnswer::Settled(_)), Some(credit)) = (&reply, &credit) {
            credit.note_done();
        }
        Ok(match reply {
            Reply::Ended(answer) => CarryResult::Ended(answer),
            Reply::SealAgain(request) => {
                CarryResult::SealAgain(SealAgain { link: self.clone(), request, trace, credit })
            }
        })
    }
}

impl SealAgain {
    /// Continues with the order after it was sealed again. `None` means that sealing failed, which
    /// ends the order for its caller.
    ///
    /// # Errors
    ///
    /// Fails if another brand's request took the order's place in a full queue. The order then has
    /// no effect.
    pub async fn sealed(self, sealed: Option<to_idc::Kind>) -> Result<CarryResult, Rejected> {
        let Self { link, request, trace, credit } = self;
        let (answer, answered) = oneshot::channel();
        let caller = Caller { answer, trace };
        // The order still has its place in the queue, so it waits for its turn in the channel.
        let _owner_gone = link.submissions.send(Submission::Sealed { request, sealed, caller }).await;
        link.answer(answered, trace, credit).await
    }
}

/// Watch of the keys to seal to, the preferred one first; empty until a link has brought some.
pub type KeysWatch = watch::Receiver<Arc<[SealingKey]>>;

/// Handles of the running order link.
pub struct Started {
    /// Handle for orders.
    pub orders: OrderLink,
    /// Handle for payments.
    pub payments: OrderLink,
    /// Keys to seal to.
    pub sealing: KeysWatch,
    /// State of the data centre's agents.
    pub data_centre: watch::Receiver<DataCentre>,
}

/// Starts an order link over a tunnel, for these brands and their weights. Returns its handles, and
/// the future that runs it until the tunnel ends.
pub fn start(
    [orders, payments]: [SenderLimits; 2],
    brands: &[(Brand, usize)],
    pinned: Vec<NoteVerifier>,
    keys: KeysLog,
    tunnel: Events,
    data_centre: DataCentre,
    metrics: Arc<Metrics>,
) -> (Started, impl Future<Output = ()> + use<>) {
    let (sealing, sealing_seen) = watch::channel(Arc::default());
    metrics.set_idc_agents(|standing| data_centre.count(standing));
    let (data_centre, data_centre_seen) = watch::channel(data_centre);
    metrics.shared.queues.set_limit(Queue::Orders, orders.queue_max);
    metrics.shared.queues.set_limit(Queue::Settling, orders.settling_max);
    metrics.shared.queues.set_limit(Queue::Questions, orders.questions_max);
    metrics.shared.queues.set_limit(Queue::Payments, payments.queue_max);
    metrics.shared.queues.set_limit(Queue::PaymentQuestions, payments.questions_max);
    let (names, weights): (Vec<Brand>, Vec<usize>) = brands.iter().cloned().unzip();
    let credits = Arc::new(Credits::new(brands, metrics.credits.clone()));
    let queue_max = u32::try_from(orders.queue_max).unwrap_or(u32::MAX);
    let (orders, orders_reached, orders_submitted) =
        LaneDriver::new(orders, &weights, Lane::Orders, credits.clone());
    let (payments, payments_reached, payments_submitted) =
        LaneDriver::new(payments, &weights, Lane::Payments, credits.clone());
    let (started, limit_max) = (Instant::now(), queue_max);
    let owner = OrderLinkDriver {
        orders,
        payments,
        started,
        limits: BrandLimits::new(credits, &names, limit_max),
        links: HashMap::new(),
        pinned,
        keys,
        keys_of: HashMap::new(),
        sealing,
        sealing_version: 0,
        data_centre,
        readiness_told: LogRateLimit::new(READINESS_LOGGED),
        metrics,
    };
    let started = Started {
        orders: orders_reached,
        payments: payments_reached,
        sealing: sealing_seen,
        data_centre: data_centre_seen,
    };
    (started, owner.run(tunnel, orders_submitted, payments_submitted))
}

/// Requests of one kind: their state and their waiting callers.
struct LaneDriver {
    sender: Sender,
    lane: Lane,
    /// Waiting callers; at most as many as unsettled requests.
    callers: HashMap<RequestId, Caller>,
    backlogs: Backlogs,
    load: watch::Sender<Load>,
}

/// Lanes that a driver sends on.
#[derive(Clone, Copy, PartialEq)]
enum Lane {
    Orders,
    Payments,
}

impl LaneDriver {
    fn new(
        limits: SenderLimits,
        weights: &[usize],
        lane: Lane,
        credits: Arc<Credits>,
    ) -> (Self, OrderLink, mpsc::Receiver<Submission>) {
        // Room for one brand's flood and the shares of the others. If the owner stands still and
        // many brands come one after the other, more requests have slots; the further ones are
        // refused.
        let max_of = |class| 2 * limits.max_of(class) + weights.len();
        let (submissions, submitted) = mpsc::channel(RequestClass::ALL.map(max_of).iter().sum());
        let (load, load_seen) = watch::channel(Load::default());
        let backlogs = Backlogs::new(&limits, weights);
        let line = Self {
            sender: Sender::with_weights(limits, weights),
            lane,
            callers: HashMap::new(),
            backlogs: backlogs.clone(),
            load,
        };
        (line, OrderLink { submissions, backlogs, credits, load: load_seen }, submitted)
    }

    /// Takes a submission of a serving thread. `is_placed` tells if the other driver is placing
    /// that order.
    fn handle_submission(
        &mut self,
        now: Duration,
        submission: Submission,
        is_placed: impl Fn(OrderId) -> bool,
    ) {
        match submission {
            Submission::New { slot, order, kind, body, caller } => {
                let submit = if is_placed(order) { Sender::submit_while_placed } else { Sender::submit };
                match submit(&mut self.sender, now, slot.brand(), order, kind, body) {
                    Ok(request) => {
                        self.callers.insert(request, caller);
                    }
                    Err(rejected) => {
                        let _caller_gone = caller.answer.send(Err(rejected));
                    }
                }
                // The request is counted in the queue before its slot becomes free.
                self.report_waiting();
                drop(slot);
            }
            Submission::Sealed { request, sealed, caller } => {
                self.callers.insert(request, caller);
                self.sender.handle_sealed(now, request, sealed);
            }
        }
    }

    fn do_outputs(&mut self, links: &HashMap<LinkId, Link>) {
        while let Some(output) = self.sender.poll_output() {
            match output {
                Output::Transmit { link, lane, mut message } => {
                    let caller = self.callers.get(&RequestId(message.request));
                    let trace = caller.and_then(|caller| caller.trace);
                    message.trace = trace.map(|trace| Bytes::copy_from_slice(&trace.to_bytes()));
                    let Some(Link { sender, .. }) = links.get(&link) else { continue };
                    match frame::to_bytes(&message, ORDER_FRAME_BYTES_MAX) {
                        Ok(bytes) => {
                            let _down_follows = match self.lane {
                                Lane::Orders => sender.send(lane, bytes),
                                Lane::Payments => sender.send_payment(&bytes),
                            };
                        }
                        Err(error) => tracing::error!(%error, "a request does not fit into a frame"),
                    }
                }
                Output::Answer { request, answer } => self.reply(request, Ok(Reply::Ended(answer))),
                Output::PushedOut { request } => self.reply(request, Err(Rejected::Full)),
                Output::SealAgain { request } => self.reply(request, Ok(Reply::SealAgain(request))),
            }
        }
    }

    fn reply(&mut self, request: RequestId, reply: Result<Reply, Rejected>) {
        if let Some(caller) = self.callers.remove(&request) {
            let _caller_gone = caller.answer.send(reply);
        }
    }

    /// Reports changed numbers of waiting requests to the serving threads.
    fn report_waiting(&mut self) {
        for class in RequestClass::ALL {
            while let Some((brand, waiting)) = self.sender.poll_waiting(class) {
                self.backlogs.of(class).set_queued(brand, waiting);
            }
        }
    }

    fn report_load(&mut self) -> Load {
        self.report_waiting();
        let (link_open, queued) = (self.sender.has_open_link(), self.sender.queued(RequestClass::Write));
        let load = Load { link_open, queued, audit_writable: true };
        self.load.send_if_modified(|known| std::mem::replace(known, load) != load);
        load
    }
}

/// A live link.
struct Link {
    sender: LinkSender,
    peer: SpiffeId,
    /// Keys of `OrderLinkDriver::keys_of` that its peer had at its last manifest.
    keys: Vec<SealingKey>,
}

struct OrderLinkDriver {
    orders: LaneDriver,
    payments: LaneDriver,
    /// Start of the senders' clock.
    started: Instant,
    limits: BrandLimits,
    links: HashMap<LinkId, Link>,
    /// Keys of the IDC agents that may sign a manifest.
    pinned: Vec<NoteVerifier>,
    keys: KeysLog,
    /// Sealing keys of each peer, from its last manifest that a pinned key signed. It has one entry
    /// for each agent of the data centre that ever linked.
    keys_of: HashMap<SpiffeId, Vec<SealingKey>>,
    sealing: watch::Sender<Arc<[SealingKey]>>,
    /// Version of the sender's keys from which `sealing` was computed.
    sealing_version: u64,
    data_centre: watch::Sender<DataCentre>,
    /// Limits the log lines about obstacles of the data centre's agents.
    readiness_told: LogRateLimit,
    metrics: Arc<Metrics>,
}

impl OrderLinkDriver {
    async fn run(
        mut self,
        mut tunnel: Events,
        mut orders: mpsc::Receiver<Submission>,
        mut payments: mpsc::Receiver<Submission>,
    ) {
        let mut events = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut submissions = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut adapts = interval(adaptive::COMPUTED_EVERY);
        adapts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // If no timer runs, only events matter. An hour stands for that.
            let timeouts = [
                self.orders.sender.next_timeout(),
                self.payments.sender.next_timeout(),
                self.limits.next_expiry(),
            ];
            let timeout = timeouts.into_iter().flatten().min();
            let timeout = timeout.unwrap_or(self.now() + Duration::from_secs(3_600));
            tokio::select! {
                taken = tunnel.recv_many(&mut events, TAKEN_AT_ONCE) => {
                    if taken == 0 {
                        break;
                    }
                    events.drain(..).for_each(|event| self.handle_event(event));
                }
                _ = orders.recv_many(&mut submissions, TAKEN_AT_ONCE) => {
                    let now = self.now();
                    submissions.drain(..).for_each(|submission| self.orders.handle_submission(now, submission, |_| false));
                }
                Some(submission) = payments.recv() => {
                    let (now, orders) = (self.now(), &self.orders.sender);
                    self.payments.handle_submission(now, submission, |order| orders.is_placing(order));
                }
                _ = adapts.tick(), if self.limits.adapts(self.now()) => {
                    let now = self.now();
                    self.limits.adapt(now);
                    self.set_limits(now);
                }
                () = sleep_until(self.started + timeout) => {
                    let now = self.now();
                    self.orders.sender.handle_timeout(now);
                    self.payments.sender.handle_timeout(now);
                    self.see(|centre, now| centre.forget(now.at));
                }
            }
            // Not only when the timer fires: under load, other inputs nearly always come first.
            let now = self.now();
            if self.limits.expire(now) {
                self.apply_grants(now);
            }
            self.prefer_keys();
            self.orders.do_outputs(&self.links);
            self.payments.do_outputs(&self.links);
            self.report_load();
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn handle_event(&mut self, event: TunnelEvent) {
        let now = self.now();
        match event {
            TunnelEvent::Up(LinkUp { link, peer, target, hello, lanes, payments, sender, .. }) => {
                self.see(|centre, now| centre.handle_up(link, &peer, target.as_deref(), now));
                self.links.insert(link, Link { sender, peer, keys: Vec::new() });
                self.limits.change(|grants| grants.handle_link_up(link));
                self.orders.sender.handle_link_up(now, link, lanes, hello.window);
                self.apply_grants(now);
                self.take_manifest(link, &hello.manifest);
                if payments {
                    self.payments.sender.handle_link_up(now, link, 1, hello.payment_window);
                }
            }
            TunnelEvent::Frame { link, payload, .. } => {
                if let Some(message) = self.decode(link, payload) {
                    self.orders.sender.handle_answer(now, link, message);
                }
            }
            TunnelEvent::PaymentFrame { link, payload } => {
                if let Some(message) = self.decode(link, payload) {
                    self.payments.sender.handle_answer(now, link, message);
                }
            }
            TunnelEvent::Window { link, window } => self.orders.sender.handle_window(now, link, window),
            TunnelEvent::Manifest { link, note } => self.take_manifest(link, &note),
            TunnelEvent::Grants { link, grants } => {
                self.limits.change(|book| book.handle_grants(now, link, &grants));
                self.apply_grants(now);
            }
            TunnelEvent::Readiness { link, obstacles } => self.take_readiness(link, &obstacles),
            TunnelEvent::Silent { link } | TunnelEvent::Goodbye { link } => {
                self.see(|centre, now| centre.handle_open(link, false, now));
                self.limits.change(|grants| grants.handle_link_open(link, false));
                self.orders.sender.handle_link_open(now, link, false);
                self.payments.sender.handle_link_open(now, link, false);
                self.apply_grants(now);
            }
            TunnelEvent::Heard { link } => {
                self.see(|centre, now| centre.handle_open(link, true, now));
                self.limits.change(|grants| grants.handle_link_open(link, true));
                self.orders.sender.handle_link_open(now, link, true);
                self.payments.sender.handle_link_open(now, link, true);
                self.apply_grants(now);
            }
            TunnelEvent::Down { link, .. } => {
                self.see(|centre, now| centre.handle_down(link, now));
                self.links.remove(&link);
                self.limits.change(|grants| grants.handle_link_down(link));
                self.orders.sender.handle_link_down(now, link);
                self.payments.sender.handle_link_down(now, link);
                self.apply_grants(now);
            }
        }
    }

    /// Lets the sender and the serving threads go by the grants as they are now. A change at one
    /// agent, or its silence, may change the use of the others.
    fn apply_grants(&mut self, now: Duration) {
        for link in self.links.keys() {
            self.orders.sender.handle_stopped(now, *link, self.limits.is_stopped(now, *link));
            self.orders.sender.handle_grants(now, *link, self.limits.granted_on(now, *link));
        }
        self.set_limits(now);
    }

    /// Sets the limits that the serving threads see.
    fn set_limits(&self, now: Duration) {
        self.limits.set(now, |link, brand| self.orders.sender.writes_on(link, brand));
    }

    /// Decodes an answer. A malformed one ends its link, which is logged and counted there.
    fn decode(&self, link: LinkId, payload: Bytes) -> Option<ToCloud> {
        let decoded = frame::decode::<ToCloud>(payload);
        decoded.map_err(|error| self.links.get(&link).map(|link| link.sender.refuse(&error))).ok()
    }

    /// Takes the keys of a link's agent. A manifest without a pinned key's signature is ignored,
    /// and the agent's earlier keys stay in use.
    fn take_manifest(&mut self, id: LinkId, note: &Bytes) {
        let Some(link) = self.links.get_mut(&id) else { return };
        match Manifest::verify(note, &self.pinned, clock::now()) {
            Ok(Manifest { keys }) => {
                let named = keys.iter().map(|key| key.id.0.as_slice());
                self.keys.last.keys_of(&link.peer.to_string(), &self.keys.log, note, named);
                self.keys_of.insert(link.peer.clone(), keys);
            }
            Err(error) => {
                tracing::warn!(link = %id, peer = %link.peer, %error, "refused a sealing-key manifest");
            }
        }
        link.keys = self.keys_of.get(&link.peer).cloned().unwrap_or_default();
        let ids = link.keys.iter().map(|key| key.id).collect();
        self.orders.sender.handle_keys(self.started.elapsed(), id, ids);
    }

    /// Notes the obstacles that an agent of the data centre reports.
    fn take_readiness(&mut self, id: LinkId, obstacles: &BTreeSet<Obstacle>) {
        self.see(|centre, now| centre.handle_readiness(id, obstacles, now));
        let (now, is_stopped) = (self.now(), obstacles.iter().any(|obstacle| obstacle.stops_orders()));
        self.limits.change(|grants| grants.handle_stopped(id, is_stopped));
        self.apply_grants(now);
        self.payments.sender.handle_stopped(now, id, is_stopped);
        let Some(Link { peer, .. }) = self.links.get(&id) else { return };
        let Some(left_out) = self.readiness_told.due("readiness", std::time::Instant::now()) else { return };
        let left_out = (left_out > 0).then_some(left_out);
        let codes: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.code()).collect();
        if codes.is_empty() {
            tracing::info!(%peer, left_out, "nothing is in the way of an agent of the data centre");
        } else {
            tracing::warn!(%peer, ?codes, left_out, "an agent of the data centre says what is in its way");
        }
    }

    /// Changes the state of the data centre's agents and updates the metrics.
    fn see(&self, change: impl FnOnce(&mut DataCentre, Moment)) {
        let now = Moment { at: std::time::Instant::now(), clock: clock::now() };
        self.data_centre.send_modify(|centre| change(centre, now));
        let centre = self.data_centre.borrow();
        self.metrics.set_idc_agents(|standing| centre.count(standing));
    }

    /// Chooses the keys to seal to again after the keys of the links have changed.
    fn prefer_keys(&mut self) {
        let version = self.orders.sender.keys_version();
        if self.sealing_version == version {
            return;
        }
        self.sealing_version = version;
        // Without a link there is no choice, and the last preference stays.
        if !self.orders.sender.has_open_link() {
            return;
        }
        let opened = self.orders.sender.opened().filter_map(|(link, ids)| {
            let keys = &self.links.get(&link)?.keys;
            Some(keys.iter().filter(|key| ids.contains(&key.id)).collect())
        });
        let preferred = preference::by_preference(&opened.collect::<Vec<Vec<&SealingKey>>>());
        self.sealing.send_if_modified(|known| {
            let changed = known.as_ref() != preferred.as_slice();
            if changed {
                tracing::info!(
                    keys = preferred.len(),
                    preferred = preferred.first().map(|key| key.id.to_string()),
                    "other sealing keys are in use"
                );
                *known = preferred.into();
            }
            changed
        });
    }

    fn report_load(&mut self) {
        let queues = &self.metrics.shared.queues;
        queues.set_depth(Queue::Orders, self.orders.report_load().queued);
        queues.set_depth(Queue::Questions, self.orders.sender.queued(RequestClass::Question));
        queues.set_depth(Queue::InFlight, self.orders.callers.len());
        let settling = self.orders.sender.unsettled().saturating_sub(self.orders.callers.len());
        queues.set_depth(Queue::Settling, settling);
        queues.set_depth(Queue::Payments, self.payments.report_load().queued);
        queues.set_depth(Queue::PaymentQuestions, self.payments.sender.queued(RequestClass::Question));
        queues.set_depth(Queue::PaymentsInFlight, self.payments.callers.len());
    }
}
