//! The driver of the order core: brings what happens to [`OrderCore::handle`](crate::orders::core::OrderCore::handle) and does what its outputs say.
//!
//! One task owns the agent. The database works beside it and its results come back as inputs; nothing here decides.

/// Look-ups of orders, gathered.
pub mod look_ups;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Reply, Token};
use bridge_protocol::seal::opening::OpenError;
use bridge_protocol::wire::frame::{self, ORDER_FRAME_BYTES_MAX};
use bridge_protocol::wire::order::{Refusal, ToIdc};
use bridge_runtime::audit_log::AuditLog;
use bridge_runtime::clock;
use bridge_runtime::telemetry::LogRateLimit;
use bridge_runtime::telemetry::shared::{OrderOutcome, Queue};
use bridge_runtime::tunnel::{Events, LinkSender, TunnelEvent};
use tokio::sync::{mpsc, watch};

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

/// Results of the database that the owner has not taken yet; it takes them all before anything else.
const RESULTS: usize = 1_024;

/// Orders under way whose trace is remembered.
const TRACES: usize = 8_192;

/// Lines of the log about orders that do not open for one reason, in ten seconds: a peer can send them all day.
const REJECTIONS_LOGGED: u32 = 20;

/// Inputs taken at a time before the outputs are done: what has come together is committed together.
const TAKEN_AT_ONCE: usize = 256;

/// Between two tries of a batch whose outcome the database does not tell, or of a round that the audit log did not take.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What the outside may see of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverState {
    /// Requests received and not yet answered.
    pub under_way: usize,
    /// Whether the database does not tell how the last batch ended.
    pub doubtful: bool,
    /// Whether it did not work when it was last asked to commit.
    pub away: bool,
    /// How often it has ceased to work.
    pub outages: u64,
    /// Brands for which it did nothing in their last batches.
    pub denied: Arc<[DeniedBrand]>,
}

impl DriverState {
    /// Whether the database does not work, as far as its last batches tell.
    pub(crate) fn fails(&self) -> bool {
        self.doubtful || self.away
    }
}

/// The driver's state.
pub struct OrderDriver {
    core: OrderCore,
    ledger: Arc<Ledger>,
    audit: AuditLog,
    metrics: Arc<Metrics>,
    links: HashMap<LinkId, LinkSender>,
    results: mpsc::Sender<Input>,
    look_ups: mpsc::Sender<(Token, Question)>,
    load: watch::Sender<DriverState>,
    payments: PaymentDriver,
    traces: Traces,
    /// What the log is told of orders that do not open.
    rejections: LogRateLimit,
    keys: watch::Receiver<Arc<Keyring>>,
    denied: Denied,
    /// What the log is told of a database that does not work.
    outages: Arc<Outages>,
}

impl OrderDriver {
    /// A driver without links, and the receiver of what its database work comes to.
    pub fn new(
        core: OrderCore,
        ledger: Arc<Ledger>,
        audit: AuditLog,
        metrics: Arc<Metrics>,
        load: watch::Sender<DriverState>,
        payments: PaymentDriver,
        keys: watch::Receiver<Arc<Keyring>>,
    ) -> (Self, mpsc::Receiver<Input>) {
        let (results, received) = mpsc::channel(RESULTS);
        let look_ups = look_ups::start(&ledger, &results);
        let links = HashMap::new();
        let (traces, rejections) = (Traces::new(TRACES), LogRateLimit::new(REJECTIONS_LOGGED));
        let denied = Denied::default();
        let driver = Self {
            core,
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
        };
        (driver, received)
    }

    /// For who has the agent ask its database: [`Input::AskDatabase`].
    pub fn inputs(&self) -> mpsc::Sender<Input> {
        self.results.clone()
    }

    /// Runs until the tunnel has ended.
    pub async fn run(
        mut self,
        mut tunnel: Events,
        mut results: mpsc::Receiver<Input>,
        mut payment_ends: Ends,
    ) {
        let mut events = Vec::with_capacity(TAKEN_AT_ONCE);
        loop {
            tokio::select! {
                biased;
                // Before anything that comes on a link: what the cloud seals to a new key opens.
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
            // First, so that what is told of the load counts what is answered here.
            self.payments.handle_log(|order| self.core.log_is_behind(order), &self.links);
            self.do_outputs();
        }
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(input, clock::now(), &mut rand::rng());
    }

    fn handle_event(&mut self, event: TunnelEvent) {
        match event {
            TunnelEvent::Up(up) => {
                self.links.insert(up.link, up.sender);
            }
            TunnelEvent::Frame { link, lane, payload } => match frame::decode::<ToIdc>(payload) {
                Ok(message) => {
                    self.traces.received(&message);
                    self.handle(Input::Message { link, lane, message });
                }
                // The link's end is logged and counted where it ends.
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
                self.payments.handle_link_down(link);
                self.handle(Input::LinkDown(link));
            }
            // A cloud agent's window and manifest are empty, it says nothing of its readiness, and an IDC asks for nothing by itself.
            TunnelEvent::Window { .. }
            | TunnelEvent::Manifest { .. }
            | TunnelEvent::Readiness { .. }
            | TunnelEvent::Silent { .. }
            | TunnelEvent::Heard { .. }
            | TunnelEvent::Goodbye { .. } => {}
        }
    }

    fn do_outputs(&mut self) {
        while let Some(output) = self.core.poll_output(clock::now()) {
            match output {
                Output::Decapsulate { link, session } => {
                    let results = self.results.clone();
                    tokio::task::spawn_blocking(move || {
                        let session = session.decapsulate();
                        let _agent_gone = results.blocking_send(Input::Decapsulated { link, session });
                    });
                }
                // Only a build that logs nothing has such a round.
                Output::Audit(round) if round.entries.is_empty() => self.handle(Input::Audited(Ok(()))),
                Output::Audit(round) => self.audit(round),
                Output::Commit(attempt) => self.commit(attempt),
                Output::LookUp { token, brand, order, key } => {
                    // There is room: the core has no more of them under way.
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
        tokio::spawn(async move {
            if again {
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            let audited = match audit.append(&entries).await {
                Ok(_first) => Ok(()),
                Err(error) => {
                    tracing::warn!(entries = entries.len(), %error, "log what was received or committed");
                    Err(entries)
                }
            };
            let _agent_gone = results.send(Input::Audited(audited)).await;
        });
    }

    fn commit(&mut self, Attempt { committer, awaited, again, waited, batch }: Attempt) {
        let spans = self.traces.begin_commit(&batch);
        let (ledger, metrics, results) = (self.ledger.clone(), self.metrics.clone(), self.results.clone());
        let outages = self.outages.clone();
        tokio::spawn(async move {
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
                // Who waits may have lost its connection for that alone, which says nothing of the database.
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
        });
    }

    fn send(&self, Reply { link, lane, message }: Reply) {
        // A link that is gone: whoever asked asks again on another.
        let Some(sender) = self.links.get(&link) else { return };
        match frame::to_bytes(&message, ORDER_FRAME_BYTES_MAX) {
            Ok(bytes) => {
                let _link_gone = sender.send(lane, bytes);
            }
            Err(error) => tracing::error!(%error, "an answer does not fit into a frame"),
        }
    }
}

/// Counts what each request came to; how many did.
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

/// The lines of the orders of a batch that came to something.
fn lines_of(batch: &Batch, ends: &[RequestEnd]) -> usize {
    let requests = batch.requests.iter().zip(ends);
    let committed = requests.filter(|(_, end)| matches!(end, RequestEnd::Committed(_)));
    committed.map(|(request, _)| request.action.lines()).sum()
}

/// Why a batch could not be committed; an empty one is there to see whether the database works.
fn say_outage(ends: &[RequestEnd], committed: usize, error: &anyhow::Error, left_out: u64) {
    let unknown = ends.iter().filter(|end| matches!(end, RequestEnd::Unknown)).count();
    let (requests, left_out) = (ends.len(), (left_out > 0).then_some(left_out));
    let what = if ends.is_empty() { "ask the database whether it works" } else { "commit a batch" };
    tracing::error!(requests, committed, unknown, left_out, "{what}: {error:#}");
}

fn say_back(away: Duration) {
    tracing::info!(?away, "the ledger's database answers again");
}

/// Names what is held for so long that somebody should look who holds it.
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
