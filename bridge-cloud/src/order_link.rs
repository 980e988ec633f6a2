//! The task that owns the order link's state, and the handle by which requests reach it.
//!
//! Requests, frames and timers come in as inputs of the sans-IO `Sender`; what it puts out is sent or answered. Nothing
//! else touches it, so nothing is locked. Payments have a `Sender` of their own, on a lane of their own: a gateway that
//! hangs takes no order's place.

/// How much of each brand waits.
mod backlog;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::domain::{OrderId, TraceParent};
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::fair_share::BrandIndex;
use bridge_protocol::order_link::sender::{
    BodyMark, CallerAnswer, Output, Rejected, RequestId, Sender, SenderLimits,
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
use tokio::time::{Instant, sleep_until};

use self::backlog::Backlog;
pub use self::backlog::Slot;
use crate::admission::Load;
use crate::data_centre::{DataCentre, Moment};
use crate::metrics::Metrics;

/// Inputs of a kind taken at a time.
const TAKEN_AT_ONCE: usize = 256;

/// Lines of the log about what is in the way of the data centre's agents, in ten seconds.
const READINESS_LOGGED: u32 = 20;

/// Reaches the order link from any thread, for orders or for payments.
#[derive(Clone)]
pub struct OrderLink {
    submissions: mpsc::Sender<Submission>,
    backlog: Arc<Backlog>,
    load: watch::Receiver<Load>,
}

/// Where new sealing keys are logged.
pub struct KeysLog {
    /// The audit log.
    pub log: AuditLog,
    /// What it was told last.
    pub last: LastLogged,
}

/// What comes from a serving thread.
enum Submission {
    /// A request.
    New { slot: Slot, order: OrderId, kind: to_idc::Kind, body: BodyMark, caller: Caller },
    /// An order that was sealed again, or could not be.
    Sealed { request: RequestId, sealed: Option<to_idc::Kind>, caller: Caller },
}

/// Who waits for a request.
struct Caller {
    answer: oneshot::Sender<Result<Reply, Rejected>>,
    trace: Option<TraceParent>,
}

/// What the order link says to a caller.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are the large one, and a box would cost each an allocation"
)]
enum Reply {
    /// How its request ended.
    Ended(CallerAnswer),
    /// It is to be sealed again.
    SealAgain(RequestId),
}

/// Where a request has come.
pub enum CarryResult {
    /// To its end.
    Ended(CallerAnswer),
    /// No link opens what this order is sealed to: its caller seals it again, to the key that is preferred now.
    SealAgain(SealAgain),
}

/// An order that waits to be sealed again.
pub struct SealAgain {
    link: OrderLink,
    request: RequestId,
    trace: Option<TraceParent>,
}

impl OrderLink {
    /// How much is on the link now. Of the audit log it knows nothing.
    pub fn load(&self) -> Load {
        *self.load.borrow()
    }

    /// A slot for one more request of a brand; `None` if as many wait as may, and the brand has its share of them.
    pub fn slot(&self, brand: BrandIndex) -> Option<Slot> {
        self.backlog.take(brand)
    }

    /// Hands a request over that is not sealed, and waits for how it ends. A caller that stops waiting changes nothing
    /// about that. `body` tells whether what is under way under its key is the same; `trace` goes with it to the data centre.
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

    /// The same of any request, up to where its caller is needed again.
    pub async fn carry(
        &self,
        slot: Slot,
        order: OrderId,
        kind: to_idc::Kind,
        body: BodyMark,
        trace: Option<TraceParent>,
    ) -> Result<CarryResult, Rejected> {
        let (answer, answered) = oneshot::channel();
        let caller = Caller { answer, trace };
        self.submissions
            .try_send(Submission::New { slot, order, kind, body, caller })
            .map_err(|_full| Rejected::Full)?;
        self.answer(answered, trace).await
    }

    async fn answer(
        &self,
        answered: oneshot::Receiver<Result<Reply, Rejected>>,
        trace: Option<TraceParent>,
    ) -> Result<CarryResult, Rejected> {
        // The owner ends only with the process, and then nobody can tell what became of it.
        Ok(match answered.await.unwrap_or(Ok(Reply::Ended(CallerAnswer::Unknown)))? {
            Reply::Ended(answer) => CarryResult::Ended(answer),
            Reply::SealAgain(request) => {
                CarryResult::SealAgain(SealAgain { link: self.clone(), request, trace })
            }
        })
    }
}

impl SealAgain {
    /// Goes on with the order as it was sealed again; `None` if it cannot be, which ends it for its caller.
    pub async fn sealed(self, sealed: Option<to_idc::Kind>) -> Result<CarryResult, Rejected> {
        let Self { link, request, trace } = self;
        let (answer, answered) = oneshot::channel();
        let caller = Caller { answer, trace };
        // The room that it had is still its own, so it waits for its turn, should there be a crowd.
        let _owner_gone = link.submissions.send(Submission::Sealed { request, sealed, caller }).await;
        link.answer(answered, trace).await
    }
}

/// Where the keys to seal to are found, the one to prefer first; empty until a link has brought some.
pub type KeysWatch = watch::Receiver<Arc<[SealingKey]>>;

/// What the tunnel's owner is reached by.
pub struct Started {
    /// For orders.
    pub orders: OrderLink,
    /// For payments.
    pub payments: OrderLink,
    /// The keys to seal to.
    pub sealing: KeysWatch,
    /// What is known of the data centre's agents.
    pub data_centre: watch::Receiver<DataCentre>,
}

/// Starts an order link over a tunnel, for brands of these weights: how it is reached, and the future that runs it until the tunnel
/// ends.
pub fn start(
    [orders, payments]: [SenderLimits; 2],
    weights: &[usize],
    pinned: Vec<NoteVerifier>,
    keys: KeysLog,
    tunnel: Events,
    data_centre: DataCentre,
    metrics: Arc<Metrics>,
) -> (Started, impl Future<Output = ()> + use<>) {
    let (sealing, sealing_seen) = watch::channel(Arc::default());
    metrics.set_idc_agents(|standing| data_centre.count(standing));
    let (data_centre, data_centre_seen) = watch::channel(data_centre);
    metrics.queues.set_limit(Queue::Orders, orders.queue_max);
    metrics.queues.set_limit(Queue::Settling, orders.settling_max);
    metrics.queues.set_limit(Queue::Payments, payments.queue_max);
    let (orders, orders_reached, orders_submitted) = LaneDriver::new(orders, weights, Lane::Orders);
    let (payments, payments_reached, payments_submitted) = LaneDriver::new(payments, weights, Lane::Payments);
    let started = Instant::now();
    let owner = OrderLinkDriver {
        orders,
        payments,
        started,
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

/// Requests of one kind: their state, and who waits for them.
struct LaneDriver {
    sender: Sender,
    lane: Lane,
    /// Who waits for a request; at most those that are not settled.
    callers: HashMap<RequestId, Caller>,
    backlog: Arc<Backlog>,
    /// What the backlog was last told of each brand.
    queued: Vec<usize>,
    load: watch::Sender<Load>,
}

/// Which lanes a line sends on.
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
    ) -> (Self, OrderLink, mpsc::Receiver<Submission>) {
        // What has a slot fits: one brand's flood, and beside it the shares of the others.
        let (submissions, submitted) = mpsc::channel(2 * limits.queue_max + weights.len());
        let (load, load_seen) = watch::channel(Load::default());
        let backlog = Arc::new(Backlog::new(limits.queue_max, weights));
        let line = Self {
            sender: Sender::with_weights(limits, weights),
            lane,
            callers: HashMap::new(),
            backlog: backlog.clone(),
            queued: vec![0; weights.len()],
            load,
        };
        (line, OrderLink { submissions, backlog, load: load_seen }, submitted)
    }

    /// Takes what a serving thread hands over. `is_placed` says whether another line is placing that order.
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
                // It is counted in the queue before its slot is free.
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

    /// Tells serving threads of which brands another number waits.
    fn report_waiting(&mut self) {
        while let Some((brand, waiting)) = self.sender.poll_waiting() {
            if let Some(known) = self.queued.get_mut(brand.0) {
                self.backlog.set_queued(brand, *known, waiting);
                *known = waiting;
            }
        }
    }

    fn report_load(&mut self) -> Load {
        self.report_waiting();
        let (link_open, queued) = (self.sender.has_open_link(), self.sender.queued());
        let load = Load { link_open, queued, audit_writable: true };
        self.load.send_if_modified(|known| std::mem::replace(known, load) != load);
        load
    }
}

/// A link that is up.
struct Link {
    sender: LinkSender,
    peer: SpiffeId,
    /// Those of `OrderLinkDriver::keys_of` that were its peer's when it last said so.
    keys: Vec<SealingKey>,
}

struct OrderLinkDriver {
    orders: LaneDriver,
    payments: LaneDriver,
    /// The senders' clock counts from here.
    started: Instant,
    links: HashMap<LinkId, Link>,
    /// The IDC keys that may sign a manifest.
    pinned: Vec<NoteVerifier>,
    keys: KeysLog,
    /// The sealing keys of each peer by its last manifest that a pinned key signed; one entry for each agent of the data
    /// centre that ever linked.
    keys_of: HashMap<SpiffeId, Vec<SealingKey>>,
    sealing: watch::Sender<Arc<[SealingKey]>>,
    /// Of what the sender says about keys, what `sealing` is made of.
    sealing_version: u64,
    data_centre: watch::Sender<DataCentre>,
    /// What the log is told of what is in the way of the data centre's agents.
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
        loop {
            // Without a timer there is nothing to wait for but events; an hour stands for that.
            let timeouts = [self.orders.sender.next_timeout(), self.payments.sender.next_timeout()];
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
                () = sleep_until(self.started + timeout) => {
                    let now = self.now();
                    self.orders.sender.handle_timeout(now);
                    self.payments.sender.handle_timeout(now);
                    self.see(|centre, now| centre.forget(now.at));
                }
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
                self.orders.sender.handle_link_up(now, link, lanes, hello.window);
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
            TunnelEvent::Readiness { link, obstacles } => self.take_readiness(link, &obstacles),
            TunnelEvent::Silent { link } | TunnelEvent::Goodbye { link } => {
                self.see(|centre, now| centre.handle_open(link, false, now));
                self.orders.sender.handle_link_open(now, link, false);
                self.payments.sender.handle_link_open(now, link, false);
            }
            TunnelEvent::Heard { link } => {
                self.see(|centre, now| centre.handle_open(link, true, now));
                self.orders.sender.handle_link_open(now, link, true);
                self.payments.sender.handle_link_open(now, link, true);
            }
            TunnelEvent::Down { link, .. } => {
                self.see(|centre, now| centre.handle_down(link, now));
                self.links.remove(&link);
                self.orders.sender.handle_link_down(now, link);
                self.payments.sender.handle_link_down(now, link);
            }
        }
    }

    /// An answer; one that is none ends its link, which is logged and counted where it ends.
    fn decode(&self, link: LinkId, payload: Bytes) -> Option<ToCloud> {
        let decoded = frame::decode::<ToCloud>(payload);
        decoded.map_err(|error| self.links.get(&link).map(|link| link.sender.refuse(&error))).ok()
    }

    /// The keys of the agent at the other end of a link. A manifest that a pinned key did not sign changes nothing: what
    /// that agent said before stays in use.
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

    /// Notes what an agent of the data centre says is in its way.
    fn take_readiness(&self, id: LinkId, obstacles: &BTreeSet<Obstacle>) {
        self.see(|centre, now| centre.handle_readiness(id, obstacles, now));
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

    /// Has what is known of the data centre's agents changed.
    fn see(&self, change: impl FnOnce(&mut DataCentre, Moment)) {
        let now = Moment { at: std::time::Instant::now(), clock: clock::now() };
        self.data_centre.send_modify(|centre| change(centre, now));
        let centre = self.data_centre.borrow();
        self.metrics.set_idc_agents(|standing| centre.count(standing));
    }

    /// Which key to seal to, whenever what the links open has changed.
    fn prefer_keys(&mut self) {
        let version = self.orders.sender.keys_version();
        if self.sealing_version == version {
            return;
        }
        self.sealing_version = version;
        // Without a link there is nothing to choose from; what was preferred last is as good as anything.
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
        let load = self.orders.report_load();
        self.metrics.queues.set_depth(Queue::Orders, load.queued);
        self.metrics.queues.set_depth(Queue::InFlight, self.orders.callers.len());
        let settling = self.orders.sender.unsettled().saturating_sub(self.orders.callers.len());
        self.metrics.queues.set_depth(Queue::Settling, settling);
        let load = self.payments.report_load();
        self.metrics.queues.set_depth(Queue::Payments, load.queued);
        self.metrics.queues.set_depth(Queue::PaymentsInFlight, self.payments.callers.len());
    }
}
