//! The order core (sans-IO): it owns the whole state of the orders, takes inputs in one `handle`,
//! and gives outputs by polling.
//!
//! An order's whole way through the IDC is in [`handle`](crate::orders::core::OrderCore::handle),
//! in the order of its arms: received, opened, logged, committed in a batch, signed, logged again,
//! answered. The driver only carries the outputs out. The simulation runs this same code.

/// Queues of brands that take turns.
mod turns;

/// Several transactions side by side, and the choice of the committer for each request.
mod committers;

/// A batch from its beginning to its end.
mod batches;

/// Requests that wait for a held row.
mod held;

/// Questions that wait for a look-up.
mod questions;

/// Limits of the requests that cloud agents may have outstanding.
mod credits;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::audit::Entry;
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, UnixMicros};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Delivery, Received, ReceivedOrder, Receiver, Reply, Token};
use bridge_protocol::seal::opening::{Decapsulated, Encapsulated, Opener};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::{Refusal, Refused, State, ToIdc, to_cloud};
use rand::Rng;

use self::batches::BatchUnderWay;
use self::committers::{BatchLimits, Committers, Needs};
use self::credits::Credits;
use self::held::Queues;
use self::questions::Questions;
pub use self::turns::BrandWeights;
use self::turns::Waiting;
use crate::orders::audit_gate::{AuditGate, AuditRound};
use crate::orders::log_entry;
use crate::orders::open::{self, OpenFailure, Opening};
use crate::orders::planner::{Awaited, Request};
use crate::orders::store::{self, Batch, RequestEnd};
use crate::orders::unopened::{HeldRequest, Unopened};
use crate::vault::keyring::Keyring;

/// Most sealing sessions that are cached for each link. A cloud agent uses fewer at a time.
const SESSIONS_MAX: usize = 1_024;

/// Most questions that wait for a look-up. This is the work of some seconds.
const QUESTIONS_MAX: usize = 1_024;

/// Longest wait of a question that is still looked up. With a slow database, a question would wait
/// longer than its caller. The core then refuses it as busy, and looks up questions whose callers
/// still wait.
const QUESTION_WAITS_MAX: Duration = Duration::from_secs(2);

/// Requests that wait for held rows may fill one part in this many of the window, and brands within
/// their shares once more. The rest stays for other requests.
const HELD_SHARE: usize = 4;

/// Limits of the core.
#[derive(Debug, Clone, Copy)]
pub struct OrderLimits {
    /// Most requests that are received and not yet answered.
    pub window_max: usize,
    /// Transactions side by side. It is 1 if the database has one writer.
    pub committers: usize,
    /// Most requests in one transaction.
    pub batch_max: usize,
    /// Most order lines in one transaction. A single order may have more, and is then committed
    /// alone.
    pub batch_lines_max: usize,
    /// Most lines in one order.
    pub lines_max: usize,
    /// Most orders that are looked up at a time.
    pub look_ups_at_once: usize,
}

impl OrderLimits {
    /// Returns the most requests that may wait for held rows.
    fn held_max(&self) -> usize {
        (self.window_max / HELD_SHARE).max(1)
    }
}

/// Input of the core.
#[derive(Debug)]
pub enum Input {
    /// A message came on an order lane.
    Message {
        /// The link.
        link: LinkId,
        /// Lane of the link.
        lane: u8,
        /// The message.
        message: ToIdc,
    },
    /// A sealing session was decapsulated, or could not be.
    Decapsulated {
        /// The link.
        link: LinkId,
        /// Result of the decapsulation.
        session: Decapsulated,
    },
    /// A round of the audit log has ended. Its entries are durable, or come back because they are
    /// not.
    Audited(Result<(), Vec<Entry>>),
    /// A batch has ended.
    Batch(AttemptEnd),
    /// An order was looked up.
    LookedUp {
        /// The request that asked.
        token: Token,
        /// State of the order, `None` if there is no such order. An error if the database does not
        /// answer.
        found: Result<Option<State>, Refusal>,
    },
    /// A link is gone.
    LinkDown(LinkId),
    /// The data centre's keys have changed.
    Keys(Arc<Keyring>),
    /// The agent needs to know if the database works. An empty batch asks the database, unless a
    /// committer has a batch under way, which shows it as well.
    AskDatabase,
}

/// A batch to commit.
#[derive(Debug)]
pub struct Attempt {
    /// Number of the batch's committer, counted from 0. It has no meaning if `awaited` is set.
    pub committer: usize,
    /// The held row that all its requests wait for. Such a batch runs beside the committers'
    /// batches, and waits in the database until the row is free. `None` for a committer's batch,
    /// which waits for no lock.
    pub awaited: Option<Awaited>,
    /// True if the last try of this batch failed a moment ago. The driver must then pause before
    /// this one.
    pub again: bool,
    /// Time for which the oldest request waited. `None` if the batch is empty or `awaited` is set.
    pub waited: Option<Duration>,
    /// The requests. An empty batch only tests the database.
    pub batch: Batch,
}

/// The end of an [`Attempt`].
#[derive(Debug)]
pub struct AttemptEnd {
    /// Number of the batch's committer.
    pub committer: usize,
    /// The held row that the batch waited for.
    pub awaited: Option<Awaited>,
    /// The requests of the batch in their order, each with its end.
    pub requests: Vec<(Request, RequestEnd)>,
    /// True if the database did not work.
    pub outage: bool,
}

/// A request that waits for its commit.
#[derive(Debug)]
struct Pending {
    token: Token,
    request: Request,
    /// True if an earlier try may have committed the request. Its caller must then not hear that
    /// the request had no effect.
    doubtful: bool,
    /// Time of the request's arrival at the committers.
    since: UnixMicros,
}

/// A question that is not answered yet.
#[derive(Debug, Clone)]
struct PendingQuestion {
    token: Token,
    /// Link on which it came.
    link: LinkId,
    brand: Brand,
    order: OrderId,
    key: Option<KeyDigest>,
    /// Time of the question's arrival.
    since: UnixMicros,
}

impl Waiting for PendingQuestion {
    fn brand(&self) -> &Brand {
        &self.brand
    }

    fn cost(&self) -> usize {
        1
    }
}

/// The next action of the driver.
#[derive(Debug)]
pub enum Output {
    /// Decapsulate this session in another task and report the result. The next such output comes
    /// only after that.
    Decapsulate {
        /// The link.
        link: LinkId,
        /// The session. Its decapsulation takes half a millisecond.
        session: Encapsulated,
    },
    /// Make these entries durable and report the end. The next round comes only after that.
    Audit(AuditRound),
    /// Commit this batch and report its end. Each committer and each held row has at most one batch
    /// under way.
    Commit(Attempt),
    /// Look an order up. At most [`OrderLimits::look_ups_at_once`] are under way.
    LookUp {
        /// The request that asks.
        token: Token,
        /// Brand of the order.
        brand: Brand,
        /// Id of the order.
        order: OrderId,
        /// Idempotency key of the order. If set, the look-up is by this key.
        key: Option<KeyDigest>,
    },
    /// Send this to a cloud agent.
    Send(Reply),
    /// Count and log an order that was refused before the ledger saw it.
    Rejected {
        /// The order.
        order: OrderId,
        /// The reason.
        failure: OpenFailure,
    },
}

/// The next step of a request once its audit entries are durable.
#[derive(Debug)]
enum After {
    /// Commit the request. It claims these needs in the meantime.
    Commit(Token, Box<Request>, Needs),
    /// Answer a request about this order.
    Answer(Token, OrderId, Box<to_cloud::Kind>),
}

/// The state of the core.
pub struct OrderCore {
    limits: OrderLimits,
    keys: Arc<Keyring>,
    receiver: Receiver,
    opener: Opener,
    /// Orders that wait for their sealing session; at most the receiver's window.
    unopened: Unopened,
    /// Next steps that wait for the audit log; at most the receiver's window.
    auditing: AuditGate<After>,
    /// Opened requests that wait for the next batch of a committer. Together with `batches` and
    /// `held`, at most the receiver's window.
    committers: Committers,
    /// Requests that wait for held rows.
    held: Queues,
    /// Batches under way: at most one of each committer and one for each held row.
    batches: Vec<BatchUnderWay>,
    /// Number of batches begun so far.
    begun: u64,
    /// Questions that wait for a look-up.
    questions: Questions,
    /// Questions in a look-up. The flag is true if a write about the order was under way when the
    /// look-up began. That write may have been committed after the database looked.
    looked_up: HashMap<Token, (PendingQuestion, bool)>,
    /// Look-up results that show a write whose outcome is not in the audit log yet; at most the
    /// receiver's window.
    asked: Vec<(Token, State)>,
    /// True while the database does not work. Batches in doubt are then tried again, and new
    /// requests are refused.
    away: bool,
    /// Value of `begun` when the database last failed. The end of a batch with this number or a
    /// lower one does not prove that the database works.
    away_after: u64,
    /// Start number of the latest batch that was committed.
    worked: u64,
    /// True if the next batch must test the database, even if it is empty.
    asks: bool,
    /// Number of requests in doubt, in a queue or in a batch: an earlier batch may have committed
    /// them.
    doubtful: usize,
    /// Number of requests refused so far because their callers no longer waited.
    dropped_late: u64,
    credits: Credits,
    outputs: VecDeque<Output>,
}

impl OrderCore {
    /// Creates a core with nothing under way, for brands of the same weight.
    pub fn new(limits: OrderLimits, keys: impl Into<Arc<Keyring>>) -> Self {
        Self::with_weights(limits, keys, &BrandWeights::default())
    }

    /// Creates a core with nothing under way, whose brands take turns by these weights.
    pub fn with_weights(limits: OrderLimits, keys: impl Into<Arc<Keyring>>, weights: &BrandWeights) -> Self {
        let keys = keys.into();
        Self {
            limits,
            opener: Opener::new(keys.opening_keys(), SESSIONS_MAX),
            keys,
            receiver: Receiver::new(limits.window_max),
            unopened: Unopened::new(),
            auditing: AuditGate::new(),
            committers: Committers::new(
                limits.committers,
                BatchLimits { requests: limits.batch_max, lines: limits.batch_lines_max },
                weights,
            ),
            held: Queues::new(weights.clone()),
            batches: Vec::new(),
            begun: 0,
            questions: Questions::new(weights.clone()),
            looked_up: HashMap::new(),
            asked: Vec::new(),
            away: false,
            away_after: 0,
            worked: 0,
            asks: false,
            doubtful: 0,
            dropped_late: 0,
            credits: Credits::new(Receiver::window_of_a_link(limits.window_max)),
            outputs: VecDeque::new(),
        }
    }

    /// Sets the present time, by a clock that never steps back. The driver does so before each
    /// input and before it polls. Requests whose callers no longer wait are refused by this clock.
    pub fn set_time(&mut self, now: Duration) {
        self.receiver.set_time(now);
        self.held.set_time(now);
    }

    /// Returns the number of requests refused so far because their callers no longer waited.
    pub fn dropped_late(&self) -> u64 {
        self.dropped_late
    }

    /// Returns the number of requests that are received and not yet answered.
    pub fn under_way(&self) -> usize {
        self.receiver.under_way()
    }

    /// Returns the number of requests that wait for the next batch of a committer.
    pub fn waiting(&self) -> usize {
        self.committers.len()
    }

    /// Returns the number of orders that wait for their sealing session.
    pub fn unopened(&self) -> usize {
        self.unopened.len()
    }

    /// Returns the number of sealing sessions decapsulated so far.
    pub fn sealing_sessions(&self) -> u64 {
        self.opener.decapsulated()
    }

    /// Returns the number of requests that wait for held rows.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Returns the most requests that may wait for held rows.
    pub fn held_max(&self) -> usize {
        self.limits.held_max()
    }

    /// Returns the number of questions that wait for a look-up.
    pub fn questions(&self) -> usize {
        self.questions.len()
    }

    /// Returns the most questions that may wait for a look-up.
    pub fn questions_max(&self) -> usize {
        QUESTIONS_MAX
    }

    /// Returns true if the database failed at the last commit.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// Returns true if a batch has an unknown outcome.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful > 0
    }

    /// Returns true if a request about this order may be committed without its outcome in the audit
    /// log.
    pub fn log_is_behind(&self, order: OrderId) -> bool {
        self.is_ahead_of_the_log(order.as_bytes())
    }

    /// Returns true if a request about this order is under way.
    pub fn is_writing(&self, order: OrderId) -> bool {
        self.receiver.writes_of(order) > 0
    }

    /// Takes one input. The arms are in the order in which an order passes them.
    pub fn handle(&mut self, input: Input, now: UnixMicros, random: &mut impl Rng) {
        match input {
            Input::Message { link, lane, message } => match self.receiver.handle_message(link, lane, message)
            {
                Received::Deliver(token, Delivery::Place(received)) => {
                    self.place(link, token, received, now, random);
                }
                Received::Deliver(token, Delivery::Cancel(header)) => {
                    if let Err(header) = self.unopened.hold_behind(token, header) {
                        self.cancel(token, header, now);
                    }
                }
                Received::Deliver(token, Delivery::Ask { brand, order, key }) => {
                    let question = PendingQuestion { token, link, brand, order, key, since: now };
                    let refused = self.questions.push_if_room(question, QUESTIONS_MAX);
                    refused.into_iter().for_each(|question| self.refuse(question.token, Refusal::Busy));
                }
                // Payments have a lane of their own.
                Received::Deliver(
                    token,
                    Delivery::Pay(_) | Delivery::Refund(_) | Delivery::AskPayment { .. },
                ) => self.refuse(token, Refusal::Invalid),
                Received::Answer(reply) => self.outputs.push_back(Output::Send(reply)),
                Received::Duplicate => {}
            },
            Input::Decapsulated { link, session } => {
                let held = self.unopened.handle_done(link, session.id());
                // Sessions of a link that is gone are not cached.
                let failed = if held.is_empty() { None } else { self.opener.remember(link, session).err() };
                for held in held {
                    match (held, failed) {
                        (HeldRequest::Place(token, received), None) => {
                            self.place(link, token, received, now, random)
                        }
                        (HeldRequest::Place(token, received), Some(error)) => {
                            self.reject(token, &received, error.into(), now);
                        }
                        (HeldRequest::Cancel(token, header), _) => self.cancel(token, header, now),
                    }
                }
            }
            Input::Audited(Ok(())) => {
                for then in self.auditing.handle_durable() {
                    match then {
                        After::Commit(token, request, _) if self.away => {
                            let header = log_entry::header_of(&request);
                            self.refuse_logged(now, token, header, Refusal::DatabaseDown);
                        }
                        After::Commit(token, request, needs) => {
                            let request = *request;
                            let pending = Pending { token, request, doubtful: false, since: now };
                            self.committers.admit(pending, needs);
                        }
                        After::Answer(token, _, kind) => self.answer(token, *kind),
                    }
                }
                self.answer_asked();
            }
            Input::Audited(Err(entries)) => {
                self.not_audited(entries);
                self.answer_asked();
            }
            Input::Batch(ended) => self.batch_ended(ended, now),
            Input::LookedUp { token, found } => {
                let Some((question, was_written)) = self.looked_up.remove(&token) else { return };
                match found {
                    Ok(Some(state)) if self.is_ahead_of_the_log(&state.order) => {
                        self.asked.push((token, state));
                    }
                    Ok(Some(state)) => self.answer(token, to_cloud::Kind::State(state)),
                    // A write about the order is under way and may take long. `NotFound` would say
                    // that the order never comes.
                    Ok(None) if self.is_written(&question) => self.refuse(token, Refusal::Busy),
                    // The write that was under way has ended since. The order may exist now, so it
                    // is looked up again.
                    Ok(None) if was_written => self.questions.put_back(question),
                    Ok(None) => self.refuse(token, Refusal::NotFound),
                    Err(refusal) => self.refuse(token, refusal),
                }
            }
            Input::LinkDown(link) => {
                self.receiver.handle_link_down(link);
                self.opener.forget(link);
                for question in self.questions.remove_link(link) {
                    self.receiver.abandon(question.token);
                }
                for held in self.unopened.handle_link_down(link) {
                    match held {
                        // The order counts as lost on the line. The cloud agent sends it again on
                        // another link.
                        HeldRequest::Place(token, _) => self.receiver.abandon(token),
                        HeldRequest::Cancel(token, header) => self.cancel(token, header, now),
                    }
                }
            }
            Input::Keys(keys) => {
                self.opener.set_keys(keys.opening_keys());
                self.keys = keys;
            }
            Input::AskDatabase => self.asks = !self.is_committing(),
        }
    }

    /// Returns the next action, or `None` until the next input.
    ///
    /// A committer gets its next batch after everything else is polled and its last batch has
    /// ended. The batch takes all requests that have come by then, and waits for no more. A round
    /// of the audit log begins in the same way. Receipts for a committer that is busy start no
    /// round of their own, because those requests could not be committed yet. They go into the
    /// round with the outcomes of that committer's batch, so under load each batch costs one fsync
    /// of the log.
    ///
    /// Batches for held rows run beside the committers' batches, each for the requests that wait
    /// for one row.
    pub fn poll_output(&mut self, now: UnixMicros) -> Option<Output> {
        self.outputs
            .pop_front()
            .or_else(|| self.next_look_up(now))
            .or_else(|| {
                self.unopened.poll_work().map(|(link, session)| Output::Decapsulate { link, session })
            })
            .or_else(|| self.next_round())
            .or_else(|| self.next_batch(now).map(Output::Commit))
            .or_else(|| self.next_turn(now).map(Output::Commit))
            // A batch above may refuse requests that do not fit into the queues of held rows. Those
            // refusals need a round of their own.
            .or_else(|| self.next_round())
    }

    fn next_look_up(&mut self, now: UnixMicros) -> Option<Output> {
        if self.looked_up.len() >= self.limits.look_ups_at_once {
            return None;
        }
        while let Some(question) = self.questions.pop() {
            if now.since(question.since) > QUESTION_WAITS_MAX {
                self.refuse(question.token, Refusal::Busy);
                continue;
            }
            let was_written = self.is_written(&question);
            self.looked_up.insert(question.token, (question.clone(), was_written));
            let PendingQuestion { token, brand, order, key, .. } = question;
            return Some(Output::LookUp { token, brand, order, key });
        }
        self.outputs.pop_front()
    }

    /// Returns true if a write about the order in question is under way.
    fn is_written(&self, question: &PendingQuestion) -> bool {
        self.receiver.is_writing(question.order, question.key)
    }

    fn next_round(&mut self) -> Option<Output> {
        // While the database does not work, requests that wait for the log must be refused soon.
        let helps = self.away || self.committers.waits_for_log(|committer| !self.is_busy(committer));
        let round = self.auditing.poll_round(!helps)?;
        self.committers.begin_logging();
        Some(Output::Audit(round))
    }

    /// Logs the receipt of a request. The request is committed after that.
    fn log_received(&mut self, entry: Option<Entry>, token: Token, request: Box<Request>) {
        let needs = self.committers.needs_of(&request);
        self.committers.note_logging(&needs);
        self.auditing.wait_along(entry, After::Commit(token, request, needs));
    }

    /// Opens an order, or lets it wait for its sealing session.
    fn place(
        &mut self,
        link: LinkId,
        token: Token,
        received: Box<ReceivedOrder>,
        now: UnixMicros,
        random: &mut impl Rng,
    ) {
        let entry = log_entry::placed(now, &received);
        self.credits.came(self.receiver.time(), link, &received.header().brand);
        if self.away {
            return self.turn_away(token, entry, received.header(), Refusal::DatabaseDown);
        }
        let lines_max = self.limits.lines_max;
        match open::open(link, &received, &self.opener, &self.keys, now, lines_max, random) {
            Ok(Opening::Open(request)) => self.log_received(entry, token, request),
            Ok(Opening::Needs(session)) => {
                let header = received.header().clone();
                if !self.unopened.hold(link, session, token, received) {
                    self.turn_away(token, entry, &header, Refusal::Busy);
                }
            }
            Err(failure) => self.reject(token, &received, failure, now),
        }
    }

    fn reject(&mut self, token: Token, received: &ReceivedOrder, failure: OpenFailure, now: UnixMicros) {
        let header = received.header();
        self.outputs.push_back(Output::Rejected { order: header.order, failure });
        let refused = failure.refused(received.envelope());
        self.turn_away(token, log_entry::placed(now, received), header, refused);
    }

    fn cancel(&mut self, token: Token, header: Header, now: UnixMicros) {
        let entry = log_entry::received(now, "cancel", &header, None);
        if self.away {
            return self.turn_away(token, entry, &header, Refusal::DatabaseDown);
        }
        let request = open::cancellation(header, &self.keys);
        self.log_received(entry, token, request.into());
    }

    /// Refuses a request without effect. Its receipt and its refusal are in the audit log before
    /// the answer goes out.
    fn turn_away(&mut self, token: Token, came: Option<Entry>, header: &Header, refused: impl Into<Refused>) {
        let refused = refused.into();
        let refusal = store::RequestOutcome::Refused(refused.refusal());
        let end = came.as_ref().and_then(|came| log_entry::ended(came.at, header, &refusal));
        let then = After::Answer(token, header.order, Box::new(to_cloud::Kind::Refused(refused)));
        self.auditing.wait(came.into_iter().chain(end), then);
    }

    /// Refuses a request whose receipt is in the audit log. Its refusal is in the log before the
    /// answer goes out.
    fn refuse_logged(&mut self, now: UnixMicros, token: Token, header: Header, refusal: Refusal) {
        let end = log_entry::ended(now, &header, &store::RequestOutcome::Refused(refusal));
        let kind = to_cloud::Kind::Refused(refusal.into());
        self.auditing.wait(end, After::Answer(token, header.order, Box::new(kind)));
    }

    /// Handles a failed round of the audit log. Requests without effect are refused. An answer
    /// about a committed request waits until its entry is logged, so that entry is tried again.
    fn not_audited(&mut self, entries: Vec<Entry>) {
        let mut refused = Vec::new();
        self.auditing.handle_failed(entries, |then| match then {
            After::Answer(token, order, kind) => match *kind {
                to_cloud::Kind::Settled(_) => Some(After::Answer(token, order, kind)),
                kind => {
                    refused.push((token, kind));
                    None
                }
            },
            After::Commit(token, ..) => {
                refused.push((token, to_cloud::Kind::Refused(Refusal::DatabaseDown.into())));
                None
            }
        });
        for (token, kind) in refused {
            self.answer(token, kind);
        }
    }

    /// Answers the questions whose orders have their outcome in the audit log by now.
    fn answer_asked(&mut self) {
        for (token, state) in std::mem::take(&mut self.asked) {
            if self.is_ahead_of_the_log(&state.order) {
                self.asked.push((token, state));
            } else {
                self.answer(token, to_cloud::Kind::State(state));
            }
        }
    }

    /// Returns true if a request about this order may be committed without its outcome in the audit
    /// log.
    fn is_ahead_of_the_log(&self, order: &[u8]) -> bool {
        let is_it = |about: OrderId| about.as_bytes().as_slice() == order;
        // A request in doubt that waits for its next try may be committed.
        let waiting = self.committers.waiting().chain(self.held.waiting());
        let mut in_doubt =
            waiting.filter(|pending| pending.doubtful).map(|pending| pending.request.action.order());
        self.members().any(|member| is_it(member.order()))
            || (self.doubtful > 0 && in_doubt.any(is_it))
            || self.auditing.waiting().any(|then| matches!(then, After::Answer(_, about, _) if is_it(*about)))
    }

    fn answer(&mut self, token: Token, kind: to_cloud::Kind) {
        self.outputs.extend(self.receiver.answer(token, kind).into_iter().map(Output::Send));
    }

    fn refuse(&mut self, token: Token, refusal: Refusal) {
        self.answer(token, to_cloud::Kind::Refused(refusal.into()));
    }
}

#[cfg(test)]
mod tests;
