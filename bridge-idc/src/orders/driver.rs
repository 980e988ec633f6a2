//! The driver of the order core. It gives events to
//! [`OrderCore::handle`](crate::orders::core::OrderCore::handle) as inputs, and carries its outputs
//! out.
//!
//! One task owns the core. Database work runs in other tasks, and its results come back as inputs.
//! The driver takes no decision about an order.

/// Look-ups of orders, put together.
pub mod look_ups;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Reply, Token};
use bridge_protocol::seal::opening::OpenError;
use bridge_protocol::wire::control::BrandGrant;
use bridge_protocol::wire::frame::{self, ORDER_FRAME_BYTES_MAX};
use bridge_protocol::wire::order::{Refusal, ToIdc};
use bridge_runtime::audit_log::AuditLog;
use bridge_runtime::clock;
use bridge_runtime::shutdown::Shutdown;
use bridge_runtime::telemetry::LogRateLimit;
use bridge_runtime::telemetry::shared::{OrderOutcome, Queue};
use bridge_runtime::tunnel::{Events, Greeting, LinkSender, TunnelEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::{EnvelopeRejection, Metrics};
use crate::orders::audit_gate::AuditRound;
use crate::orders::core::{Attempt, AttemptEnd, Input, OrderCore, Output};
use crate::orders::denied::{Denied, DeniedBrand};
use crate::orders::open::OpenFailure;
use crate::orders::outage::Outages;
use crate::orders::planner::Awaited;
use crate::orders::store::{Batch, BatchEnd, Ledger, Question, RequestEnd, RequestOutcome};
use crate::orders::traces::Traces;
use crate::payments::driver::{Ends, PaymentDriver};
use crate::vault::keyring::Keyring;

/// Most results of the database that wait for the owner. The owner takes results before events of
/// the tunnel.
const RESULTS: usize = 1_024;

/// Most orders under way whose trace is remembered.
const TRACES: usize = 8_192;

/// Most log lines in ten seconds about orders that do not open for one reason. A peer can send such
/// orders without end.
const REJECTIONS_LOGGED: u32 = 20;

/// Log lines in ten seconds about entries that the audit log did not take. They are tried again all
/// the time while its disk is full.
const UNLOGGED_LOGGED: u32 = 1;

/// Most inputs that are taken before outputs are polled. Requests that arrive together are
/// committed together.
const TAKEN_AT_ONCE: usize = 256;

/// Pause before another try of a batch of unknown outcome, or of a failed round of the audit log.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Interval at which the core is asked for new grants. It decides if there are any.
const GRANTS_EVERY: Duration = Duration::from_millis(50);

/// State of the driver that other parts of the agent may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverState {
    /// Requests received and not yet answered.
    pub under_way: usize,
    /// True if a batch has an unknown outcome.
    pub doubtful: bool,
    /// True if the database failed at the last commit.
    pub away: bool,
    /// Number of outages so far.
    pub outages: u64,
    /// Brands whose last batches the database rejected.
    pub denied: Arc<[DeniedBrand]>,
    /// Limits of each cloud agent for the brands that have one.
    pub limits: Arc<[BrandGrant]>,
}

impl DriverState {
    /// Returns true if the last batches say that the database does not work.
    pub(crate) fn fails(&self) -> bool {
        self.doubtful || self.away
    }
}

/// The driver's state.
pub struct OrderDriver {
    core: OrderCore,
    /// Start of the core's clock.
    started: Instant,
    ledger: Arc<Ledger>,
    audit: AuditLog,
    metrics: Arc<Metrics>,
    links: HashMap<LinkId, LinkSender>,
    results: mpsc::Sender<Input>,
    look_ups: mpsc::Sender<(Token, Question)>,
    load: watch::Sender<DriverState>,
    payments: PaymentDriver,
    traces: Traces,
    /// Limits the log lines about orders that do not open.
    rejections: LogRateLimit,
    keys: watch::Receiver<Arc<Keyring>>,
    denied: Denied,
    /// Limits the log lines about a database that does not work.
    outages: Arc<Outages>,
    /// Limits the log lines about entries that the audit log did not take.
    unlogged: Arc<LogRateLimit>,
    /// Round trip of each link's line.
    round_trips: HashMap<LinkId, Duration>,
    /// Limits of the last grants.
    limits: Arc<[BrandGrant]>,
    /// Ends the agent if a task panics whose result the core waits for.
    shutdown: Shutdown,
}

impl OrderDriver {
    /// Creates a driver without links. Also returns the receiver of the database's results.
    #[expect(clippy::too_many_arguments, reason = "each is one part of the agent, put together in one place")]
    pub fn new(
        core: OrderCore,
        ledger: Arc<Ledger>,
        audit: AuditLog,
        metrics: Arc<Metrics>,
        load: watch::Sender<DriverState>,
        payments: PaymentDriver,
        keys: watch::Receiver<Arc<Keyring>>,
        shutdown: &Shutdown,
    ) -> (Self, mpsc::Receiver<Input>) {
        let (results, received) = mpsc::channel(RESULTS);
        let look_ups = look_ups::start(&ledger, &results, shutdown);
        let links = HashMap::new();
        let (traces, rejections) = (Traces::new(TRACES), LogRateLimit::new(REJECTIONS_LOGGED));
        let denied = Denied::default();
        let driver = Self {
            core,
            started: Instant::now(),
            ledger,
            audit,
            metrics,
            links,
            results,
            look_ups,
            load,
            payments,
            traces,
            rejections,
            keys,
            denied,
            outages: Arc::default(),
            unlogged: Arc::new(LogRateLimit::new(UNLOGGED_LOGGED)),
            round_trips: HashMap::new(),
            limits: Arc::default(),
            shutdown: shutdown.clone(),
        };
        (driver, received)
    }

    /// Returns a sender of inputs, for [`Input::AskDatabase`].
    pub fn inputs(&self) -> mpsc::Sender<Input> {
        self.results.clone()
    }

    /// Runs until the tunnel ends. `greetings` tells all links of new grants.
    pub async fn run(
        mut self,
        mut tunnel: Events,
        mut results: mpsc::Receiver<Input>,
        mut payment_ends: Ends,
        greetings: watch::Sender<Greeting>,
    ) {
        let mut events = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut grants_due = interval(GRANTS_EVERY);
        grants_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // This comes first, because a crowd of events must not delay what bounds it.
                _ = grants_due.tick() => self.grant(&greetings),
                // New keys come before events of links, so that an order that is sealed to a new
                // key opens.
                Ok(()) = self.keys.changed() => {
                    let keys = self.keys.borrow_and_update().clone();
                    self.handle(Input::Keys(keys));
                }
                Some(result) = results.recv() => {
                    if let Input::Batch(ended) = &result {
                        self.denied.handle_batch(ended, clock::now());
                    }
                    self.handle(result);
                }
                Some(end) = payment_ends.recv() => {
                    self.payments.handle_end(end, |order| self.core.log_is_behind(order), &self.links);
                }
                taken = tunnel.recv_many(&mut events, TAKEN_AT_ONCE) => {
                    if taken == 0 {
                        break;
                    }
                    for event in events.drain(..) {
                        self.handle_event(event);
                    }
                }
            }
            // This comes before the outputs, so that the reported load counts the payments answered
            // here.
            self.payments.handle_log(|order| self.core.log_is_behind(order), &self.links);
            self.do_outputs();
        }
    }

    fn handle(&mut self, input: Input) {
        self.core.set_time(self.started.elapsed());
        self.core.handle(input, clock::now(), &mut rand::rng());
    }

    /// Tells the cloud agents how many requests they may have outstanding, if that is due.
    fn grant(&mut self, greetings: &watch::Sender<Greeting>) {
        self.core.set_time(self.started.elapsed());
        let round_trip = self.round_trips.values().max().copied().unwrap_or_default();
        let Some(grants) = self.core.poll_grants(clock::now(), round_trip) else { return };
        if *self.limits != *grants.brands {
            self.limits = grants.brands.clone().into();
        }
        greetings.send_modify(|greeting| greeting.grants = Some(Arc::new(grants)));
    }

    fn handle_event(&mut self, event: TunnelEvent) {
        match event {
            TunnelEvent::Up(up) => {
                self.round_trips.insert(up.link, up.round_trip);
                self.links.insert(up.link, up.sender);
            }
            TunnelEvent::Frame { link, lane, payload } => match frame::decode::<ToIdc>(payload) {
                Ok(message) => {
                    self.traces.received(&message);
                    self.handle(Input::Message { link, lane, message });
                }
                // The tunnel logs and counts the end of the link.
                Err(error) => {
                    if let Some(sender) = self.links.get(&link) {
                        sender.refuse(&error);
                    }
                }
            },
            TunnelEvent::PaymentFrame { link, payload } => {
                self.payments.handle_frame(link, payload, |order| self.core.is_writing(order), &self.links)
            }
            TunnelEvent::Down { link, .. } => {
                self.links.remove(&link);
                self.round_trips.remove(&link);
                self.payments.handle_link_down(link);
                self.handle(Input::LinkDown(link));
            }
            // These events carry nothing from a cloud agent. Its window and manifest are empty, it
            // reports no readiness and grants nothing, and an IDC agent sends no requests of its
            // own.
            TunnelEvent::Window { .. }
            | TunnelEvent::Manifest { .. }
            | TunnelEvent::Readiness { .. }
            | TunnelEvent::Grants { .. }
            | TunnelEvent::Silent { .. }
            | TunnelEvent::Heard { .. }
            | TunnelEvent::Goodbye { .. } => {}
        }
    }

    fn do_outputs(&mut self) {
        self.core.set_time(self.started.elapsed());
        while let Some(output) = self.core.poll_output(clock::now()) {
            match output {
                Output::Decapsulate { link, session } => {
                    let (results, watch) = (self.results.clone(), self.shutdown.watch("a decapsulation"));
                    tokio::task::spawn_blocking(move || {
                        let _watch = watch;
                        let session = session.decapsulate();
                        let _agent_gone = results.blocking_send(Input::Decapsulated { link, session });
                    });
                }
                // Only a build with the feature `without-audit` has an empty round.
                Output::Audit(round) if round.entries.is_empty() => self.handle(Input::Audited(Ok(()))),
                Output::Audit(round) => self.audit(round),
                Output::Commit(attempt) => self.commit(attempt),
                Output::LookUp { token, brand, order, key } => {
                    // The channel has room for all look-ups that the core allows at a time.
                    if self.look_ups.try_send((token, Question { brand, order, key })).is_err() {
                        self.handle(Input::LookedUp { token, found: Err(Refusal::Busy) });
                    }
                }
                Output::Send(reply) => self.send(reply),
                Output::Rejected { order, failure } => {
                    let reason = rejection(failure);
                    self.metrics.envelopes_rejected.of(reason).inc();
                    if failure != OpenFailure::Envelope(OpenError::SessionUnknown)
                        && let Some(left_out) = self.rejections.due(reason.as_str(), Instant::now())
                    {
                        let left_out = (left_out > 0).then_some(left_out);
                        tracing::warn!(%order, %failure, left_out, "refused an order before the ledger saw it");
                    }
                }
            }
        }
        let sessions = &self.metrics.shared.seal_sessions;
        sessions.inc_by(self.core.sealing_sessions() - sessions.get());
        let dropped_late = &self.metrics.orders_dropped_late;
        dropped_late.inc_by(self.core.dropped_late() - dropped_late.get());
        let under_way = self.core.under_way();
        self.metrics.set_queue_depth(Queue::InFlight, under_way);
        self.metrics.set_queue_depth(Queue::Unopened, self.core.unopened());
        self.metrics.set_queue_depth(Queue::Commit, self.core.waiting());
        self.metrics.set_queue_depth(Queue::Held, self.core.held());
        self.metrics.set_queue_depth(Queue::Questions, self.core.questions());
        let mut load = DriverState {
            under_way: under_way + self.payments.under_way(),
            doubtful: self.core.is_doubtful(),
            away: self.core.is_away(),
            outages: 0,
            denied: self.denied.told(),
            limits: self.limits.clone(),
        };
        self.load.send_if_modified(|known| {
            load.outages = known.outages + u64::from(load.fails() && !known.fails());
            let is_new = *known != load;
            *known = load;
            is_new
        });
    }

    fn audit(&self, AuditRound { entries, again }: AuditRound) {
        let (audit, results) = (self.audit.clone(), self.results.clone());
        let unlogged = self.unlogged.clone();
        let round = async move {
            if again {
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            let audited = match audit.append(&entries).await {
                Ok(_first) => Ok(()),
                Err(error) => {
                    // The log itself says once that it cannot be written, and once that it can.
                    if let Some(left_out) = unlogged.due("entries", Instant::now()) {
                        tracing::warn!(entries = entries.len(), left_out, %error, "append entries about orders to the audit log");
                    }
                    Err(entries)
                }
            };
            let _agent_gone = results.send(Input::Audited(audited)).await;
        };
        tokio::spawn(self.shutdown.work("a round of the audit log", round));
    }

    fn commit(&mut self, Attempt { committer, awaited, again, waited, batch }: Attempt) {
        let spans = self.traces.begin_commit(&batch);
        let (ledger, metrics, results) = (self.ledger.clone(), self.metrics.clone(), self.results.clone());
        let outages = self.outages.clone();
        let commit = async move {
            if again {
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            let started = Instant::now();
            let BatchEnd { ends, outage } = ledger.commit(&batch, awaited.as_ref()).await;
            let took = started.elapsed();
            let committed = count(&metrics, &ends);
            if committed > 0 {
                metrics.batch_committed(committed, lines_of(&batch, &ends), waited, took);
            }
            for span in spans {
                span.record("committed", committed > 0);
                if committed > 0 {
                    span.in_scope(|| tracing::debug!(?took, "committed"));
                }
            }
            say_waiting(awaited.as_ref(), &ends);
            let outage = outage.map(anyhow::Error::from);
            // If one brand alone fails, it is no outage, but an operator must still look.
            if outage.is_some() || ends.iter().any(|end| matches!(end, RequestEnd::NotCommitted)) {
                metrics.ledger_errors.inc();
            }
            match &outage {
                // A batch that waits for a lock may lose its connection because of the wait alone.
                // That says nothing about the database.
                Some(error) if awaited.is_some() => say_outage(&ends, committed, error, 0),
                Some(error) => {
                    let due = outages.failed(Instant::now());
                    due.into_iter().for_each(|left_out| say_outage(&ends, committed, error, left_out));
                }
                None if awaited.is_some() => {}
                None => outages.worked(Instant::now()).into_iter().for_each(say_back),
            }
            let requests = batch.requests.into_iter().zip(ends).collect();
            let ended = AttemptEnd { committer, awaited, requests, outage: outage.is_some() };
            let _agent_gone = results.send(Input::Batch(ended)).await;
        };
        tokio::spawn(self.shutdown.work("a commit", commit));
    }

    fn send(&self, Reply { link, lane, message }: Reply) {
        // If the link is gone, the cloud agent asks again on another link.
        let Some(sender) = self.links.get(&link) else { return };
        match frame::to_bytes(&message, ORDER_FRAME_BYTES_MAX) {
            Ok(bytes) => {
                let _link_gone = sender.send(lane, bytes);
            }
            Err(error) => tracing::error!(%error, "an answer does not fit into a frame"),
        }
    }
}

/// Counts the requests by outcome. Returns the number of committed requests.
fn count(metrics: &Metrics, ends: &[RequestEnd]) -> usize {
    let mut counted = 0;
    for end in ends {
        let RequestEnd::Committed(committed) = end else { continue };
        let outcome = match committed.answer() {
            RequestOutcome::Settled { replayed: true, .. } => OrderOutcome::Replayed,
            RequestOutcome::Settled { receipt, .. } => match receipt.outcome.code() {
                "placed" => OrderOutcome::Placed,
                "sold-out" => OrderOutcome::SoldOut,
                "price-changed" => OrderOutcome::PriceChanged,
                "launch-not-open" => OrderOutcome::LaunchNotOpen,
                "limit-reached" => OrderOutcome::LimitReached,
                "unknown-sku" => OrderOutcome::UnknownSku,
                "cancelled" => OrderOutcome::Cancelled,
                _ => OrderOutcome::Refused,
            },
            RequestOutcome::Refused(Refusal::KeyReused) => OrderOutcome::KeyReused,
            RequestOutcome::Refused(_) => OrderOutcome::Refused,
        };
        metrics.shared.orders.of(outcome).inc();
        counted += 1;
    }
    counted
}

/// Returns the number of lines in the committed orders of a batch.
fn lines_of(batch: &Batch, ends: &[RequestEnd]) -> usize {
    let requests = batch.requests.iter().zip(ends);
    let committed = requests.filter(|(_, end)| matches!(end, RequestEnd::Committed(_)));
    committed.map(|(request, _)| request.action.lines()).sum()
}

/// Logs that a batch could not be committed. An empty batch only tests the database.
fn say_outage(ends: &[RequestEnd], committed: usize, error: &anyhow::Error, left_out: u64) {
    let unknown = ends.iter().filter(|end| matches!(end, RequestEnd::Unknown)).count();
    let (requests, left_out) = (ends.len(), (left_out > 0).then_some(left_out));
    let what = if ends.is_empty() { "ask the database whether it works" } else { "commit a batch" };
    tracing::error!(requests, committed, unknown, left_out, "{what}: {error:#}");
}

fn say_back(away: Duration) {
    tracing::info!(?away, "the ledger's database answers again");
}

/// Logs a lock that is held for so long that an operator should find its holder.
fn say_waiting(awaited: Option<&Awaited>, ends: &[RequestEnd]) {
    let waits = |end: &&RequestEnd| matches!(end, RequestEnd::Waits(on) if Some(on) == awaited);
    let requests = ends.iter().filter(waits).count();
    if let Some(awaited) = awaited.filter(|_| requests > 0) {
        tracing::warn!(
            %awaited,
            requests,
            "somebody else holds what these requests need; they wait, others do not"
        );
    }
}

fn rejection(failure: OpenFailure) -> EnvelopeRejection {
    match failure {
        OpenFailure::Terms => EnvelopeRejection::BadContent,
        OpenFailure::Envelope(error) => match error {
            OpenError::SuiteNotAllowed => EnvelopeRejection::UnknownSuite,
            OpenError::UnknownKey => EnvelopeRejection::UnknownKey,
            OpenError::KeyExpired => EnvelopeRejection::ExpiredKey,
            OpenError::SessionUnknown => EnvelopeRejection::UnknownSession,
            OpenError::BadEncapsulation | OpenError::Tampered => EnvelopeRejection::NotAuthentic,
            OpenError::Malformed => EnvelopeRejection::Malformed,
        },
    }
}
