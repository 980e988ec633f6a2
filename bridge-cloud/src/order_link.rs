//! The task that owns the order link's state, and the handle by which requests reach it.
//!
//! Requests, frames and timers come in as inputs of the sans-IO `Sender`; what it puts out is sent or answered. Nothing
//! else touches it, so nothing is locked. Payments have a `Sender` of their own, on a lane of their own: a gateway that
//! hangs takes no order's place.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::{OrderId, TraceParent};
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::sender::{Answer, BodyMark, Limits, Output, Rejected, RequestId, Sender};
use bridge_protocol::seal::manifest::Manifest;
use bridge_protocol::wire::frame::{self, ORDER_FRAME_BYTES_MAX};
use bridge_protocol::wire::order::{ToCloud, to_idc};
use bridge_runtime::audit_log::{AuditLog, Last};
use bridge_runtime::clock;
use bridge_runtime::telemetry::metrics::{Metrics, Queue};
use bridge_runtime::tunnel::{Events, LinkSender, LinkUp, TunnelEvent};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::admission::Load;

/// Inputs of a kind taken at a time.
const TAKEN_AT_ONCE: usize = 256;

/// Reaches the order link from any thread, for orders or for payments.
#[derive(Clone)]
pub struct OrderLink {
    submissions: mpsc::Sender<Submission>,
    load: watch::Receiver<Load>,
}

/// Where new sealing keys are logged.
pub struct KeysLog {
    /// The audit log.
    pub log: AuditLog,
    /// What it was told last.
    pub last: Last,
}

struct Submission {
    order: OrderId,
    kind: to_idc::Kind,
    body: BodyMark,
    trace: Option<TraceParent>,
    answer: oneshot::Sender<Result<Answer, Rejected>>,
}

impl OrderLink {
    /// How much is on the link now. Of the audit log it knows nothing.
    pub fn load(&self) -> Load {
        *self.load.borrow()
    }

    /// Hands a request over and waits for how it ends. A caller that stops waiting changes nothing about that.
    /// `body` tells whether what is under way under its key is the same; `trace` goes with it to the data centre.
    pub async fn submit(
        &self,
        order: OrderId,
        kind: to_idc::Kind,
        body: BodyMark,
        trace: Option<TraceParent>,
    ) -> Result<Answer, Rejected> {
        let (answer, answered) = oneshot::channel();
        self.submissions
            .try_send(Submission { order, kind, body, trace, answer })
            .map_err(|_full| Rejected::Full)?;
        // The owner ends only with the process, and then nobody can tell what became of it.
        answered.await.unwrap_or(Ok(Answer::Unknown))
    }
}

/// Where the newest verified manifest is found.
pub type ManifestWatch = watch::Receiver<Option<Arc<Manifest>>>;

/// What the tunnel's owner is reached by.
pub struct Started {
    /// For orders.
    pub orders: OrderLink,
    /// For payments.
    pub payments: OrderLink,
    /// The newest sealing keys.
    pub manifest: ManifestWatch,
}

/// Starts an order link over a tunnel: how it is reached, and the future that runs it until the tunnel ends.
pub fn start(
    [orders, payments]: [Limits; 2],
    pinned: Vec<NoteVerifier>,
    keys: KeysLog,
    tunnel: Events,
    metrics: Arc<Metrics>,
) -> (Started, impl Future<Output = ()>) {
    let (manifest, manifest_seen) = watch::channel(None);
    metrics.set_queue_limit(Queue::Orders, orders.queue_max);
    metrics.set_queue_limit(Queue::Settling, orders.settling_max);
    metrics.set_queue_limit(Queue::Payments, payments.queue_max);
    let (orders, orders_reached, orders_submitted) = Line::new(orders, Lane::Orders);
    let (payments, payments_reached, payments_submitted) = Line::new(payments, Lane::Payments);
    let started = Instant::now();
    let owner = Owner { orders, payments, started, links: HashMap::new(), pinned, keys, manifest, metrics };
    let started = Started { orders: orders_reached, payments: payments_reached, manifest: manifest_seen };
    (started, owner.run(tunnel, orders_submitted, payments_submitted))
}

/// Requests of one kind: their state, and who waits for them.
struct Line {
    sender: Sender,
    lane: Lane,
    /// Who waits for a request; at most those that are not settled.
    callers: HashMap<RequestId, Caller>,
    load: watch::Sender<Load>,
}

/// Who waits for a request.
struct Caller {
    answer: oneshot::Sender<Result<Answer, Rejected>>,
    trace: Option<TraceParent>,
}

/// Which lanes a line sends on.
#[derive(Clone, Copy, PartialEq)]
enum Lane {
    Orders,
    Payments,
}

impl Line {
    fn new(limits: Limits, lane: Lane) -> (Self, OrderLink, mpsc::Receiver<Submission>) {
        let (submissions, submitted) = mpsc::channel(limits.queue_max);
        let (load, load_seen) = watch::channel(Load::default());
        let line = Self { sender: Sender::new(limits), lane, callers: HashMap::new(), load };
        (line, OrderLink { submissions, load: load_seen }, submitted)
    }

    fn handle_submission(&mut self, now: Duration, submission: Submission) {
        let Submission { order, kind, body, trace, answer } = submission;
        match self.sender.submit(now, order, kind, body) {
            Ok(request) => {
                self.callers.insert(request, Caller { answer, trace });
            }
            Err(rejected) => {
                let _caller_gone = answer.send(Err(rejected));
            }
        }
    }

    fn do_outputs(&mut self, links: &HashMap<LinkId, LinkSender>) {
        while let Some(output) = self.sender.poll_output() {
            match output {
                Output::Transmit { link, lane, mut message } => {
                    let caller = self.callers.get(&RequestId(message.request));
                    let trace = caller.and_then(|caller| caller.trace);
                    message.trace = trace.map(|trace| Bytes::copy_from_slice(&trace.to_bytes()));
                    let Some(sender) = links.get(&link) else { continue };
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
                Output::Answer { request, answer } => {
                    if let Some(caller) = self.callers.remove(&request) {
                        let _caller_gone = caller.answer.send(Ok(answer));
                    }
                }
            }
        }
    }

    fn report_load(&self) -> Load {
        let (link_open, queued) = (self.sender.has_open_link(), self.sender.queued());
        let load = Load { link_open, queued, audit_writable: true };
        self.load.send_if_modified(|known| std::mem::replace(known, load) != load);
        load
    }
}

struct Owner {
    orders: Line,
    payments: Line,
    /// The senders' clock counts from here.
    started: Instant,
    links: HashMap<LinkId, LinkSender>,
    /// The IDC keys that may sign a manifest.
    pinned: Vec<NoteVerifier>,
    keys: KeysLog,
    manifest: watch::Sender<Option<Arc<Manifest>>>,
    metrics: Arc<Metrics>,
}

impl Owner {
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
                    submissions.drain(..).for_each(|submission| self.orders.handle_submission(now, submission));
                }
                Some(submission) = payments.recv() => {
                    self.payments.handle_submission(self.now(), submission);
                }
                () = sleep_until(self.started + timeout) => {
                    let now = self.now();
                    self.orders.sender.handle_timeout(now);
                    self.payments.sender.handle_timeout(now);
                }
            }
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
            TunnelEvent::Up(LinkUp { link, hello, lanes, payments, sender, .. }) => {
                self.links.insert(link, sender);
                self.take_manifest(&hello.manifest);
                self.orders.sender.handle_link_up(now, link, lanes, hello.window);
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
            TunnelEvent::Manifest { note, .. } => self.take_manifest(&note),
            TunnelEvent::Silent { link } | TunnelEvent::Goodbye { link } => {
                self.orders.sender.handle_link_open(now, link, false);
                self.payments.sender.handle_link_open(now, link, false);
            }
            TunnelEvent::Heard { link } => {
                self.orders.sender.handle_link_open(now, link, true);
                self.payments.sender.handle_link_open(now, link, true);
            }
            TunnelEvent::Down { link, .. } => {
                self.links.remove(&link);
                self.orders.sender.handle_link_down(now, link);
                self.payments.sender.handle_link_down(now, link);
            }
        }
    }

    /// An answer; one that is none ends its link, which is logged and counted where it ends.
    fn decode(&self, link: LinkId, payload: Bytes) -> Option<ToCloud> {
        let decoded = frame::decode::<ToCloud>(payload);
        decoded.map_err(|error| self.links.get(&link).map(|sender| sender.refuse(&error))).ok()
    }

    /// A manifest that a pinned key did not sign changes nothing: the keys known before stay in use.
    fn take_manifest(&self, note: &Bytes) {
        match Manifest::verify(note, &self.pinned, clock::now()) {
            Ok(manifest) => {
                self.manifest.send_if_modified(|known| {
                    let changed = known.as_deref() != Some(&manifest);
                    if changed {
                        tracing::info!(keys = manifest.keys.len(), "a new sealing-key manifest is in use");
                        let ids = manifest.keys.iter().map(|key| key.id.0.as_slice());
                        self.keys.last.keys(&self.keys.log, note, ids);
                        *known = Some(Arc::new(manifest));
                    }
                    changed
                });
            }
            Err(error) => tracing::warn!(%error, "refused a sealing-key manifest"),
        }
    }

    fn report_load(&self) {
        let load = self.orders.report_load();
        self.metrics.set_queue_depth(Queue::Orders, load.queued);
        self.metrics.set_queue_depth(Queue::InFlight, self.orders.callers.len());
        let settling = self.orders.sender.unsettled().saturating_sub(self.orders.callers.len());
        self.metrics.set_queue_depth(Queue::Settling, settling);
        let load = self.payments.report_load();
        self.metrics.set_queue_depth(Queue::Payments, load.queued);
        self.metrics.set_queue_depth(Queue::PaymentsInFlight, self.payments.callers.len());
    }
}
