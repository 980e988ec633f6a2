//! The agent itself, sans-IO: one owner of all state, one `handle`, outputs polled.
//!
//! An order's whole way through the IDC stands in [`handle`](crate::orders::core::OrderCore::handle), in the order of its arms: received, opened, logged,
//! committed with its neighbours, certified, logged again, answered. The driver in `driver` does what the outputs say and nothing else;
//! the simulation runs this same code.

/// Several transactions side by side, and which request goes to which.
mod committers;

/// A batch from its beginning to its end.
mod batches;

/// Requests that wait for what somebody else holds.
mod held;

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
use self::held::Queues;
use crate::orders::audit_gate::{AuditGate, AuditRound};
use crate::orders::log_entry;
use crate::orders::open::{self, OpenFailure, Opening};
use crate::orders::planner::{Awaited, Request};
use crate::orders::store::{self, Batch, RequestEnd};
use crate::orders::unopened::{HeldRequest, Unopened};
use crate::vault::keyring::Keyring;

/// Sealing sessions remembered of each link: more than a cloud agent uses at a time.
const SESSIONS_MAX: usize = 1_024;

/// Questions that wait for their look-up, beside those that are looked up: some seconds' work.
const QUESTIONS_MAX: usize = 1_024;

/// How long one may have waited that is still looked up. A slow database makes more of it than whoever asks waits for: then
/// they are told soon when to come back, and what is looked up is what somebody waits for.
const QUESTION_WAITS_MAX: Duration = Duration::from_secs(2);

/// The share of the window, one in so many, that requests may take up which wait for what somebody else holds: the rest stays
/// for those who need nothing of it.
const HELD_SHARE: usize = 4;

/// The agent's limits.
#[derive(Debug, Clone, Copy)]
pub struct OrderLimits {
    /// Requests received and not yet answered.
    pub window_max: usize,
    /// Transactions side by side: one where the database has one writer.
    pub committers: usize,
    /// Requests in one transaction.
    pub batch_max: usize,
    /// Lines of orders in one transaction; one order is taken however many it has.
    pub batch_lines_max: usize,
    /// Lines in one order.
    pub lines_max: usize,
    /// Orders looked up at a time.
    pub look_ups_at_once: usize,
}

impl OrderLimits {
    /// Requests that may wait for what somebody else holds.
    fn held_max(&self) -> usize {
        (self.window_max / HELD_SHARE).max(1)
    }
}

/// What happens to the agent.
#[derive(Debug)]
pub enum Input {
    /// A message came on an order lane.
    Message {
        /// On which link.
        link: LinkId,
        /// On which of its lanes.
        lane: u8,
        /// What.
        message: ToIdc,
    },
    /// A sealing session was decapsulated, or could not be.
    Decapsulated {
        /// For which link.
        link: LinkId,
        /// What it came to.
        session: Decapsulated,
    },
    /// The audit log's round under way has ended: its entries are durable, or come back because they are not.
    Audited(Result<(), Vec<Entry>>),
    /// A batch under way has ended.
    Batch(AttemptEnd),
    /// An order was looked up.
    LookedUp {
        /// Who asked.
        token: Token,
        /// How the order stands, `None` if there is none; an error if the database does not answer.
        found: Result<Option<State>, Refusal>,
    },
    /// A link is gone.
    LinkDown(LinkId),
    /// The data centre's keys are others from now on.
    Keys(Arc<Keyring>),
    /// Nothing tells whether the database works: an empty batch is to ask it, unless another one tells.
    AskDatabase,
}

/// A batch to be committed.
#[derive(Debug)]
pub struct Attempt {
    /// Which committer's it is, counted from 0, where it waits for nothing.
    pub committer: usize,
    /// What its requests wait for, and nobody else does: it is committed beside others, once that is free. `None` for a committer's
    /// batch, which waits for nothing.
    pub awaited: Option<Awaited>,
    /// Whether the last one did not come through: to be tried after a pause.
    pub again: bool,
    /// How long the one that came first waited for it; `None` if it is empty, or waited for what somebody else holds.
    pub waited: Option<Duration>,
    /// Its requests; none only to see whether the database works again.
    pub batch: Batch,
}

/// How an [`Attempt`] ended.
#[derive(Debug)]
pub struct AttemptEnd {
    /// Which committer's it was.
    pub committer: usize,
    /// What it waited for.
    pub awaited: Option<Awaited>,
    /// Its requests, and how each ended, in its order.
    pub requests: Vec<(Request, RequestEnd)>,
    /// Whether the database could not work.
    pub outage: bool,
}

/// A request on its way to its commit.
#[derive(Debug)]
struct Pending {
    token: Token,
    request: Request,
    /// Whether an earlier try may have committed it: then nobody is told that it had no effect.
    doubtful: bool,
}

/// A question that was not answered yet.
#[derive(Debug, Clone)]
struct PendingQuestion {
    token: Token,
    brand: Brand,
    order: OrderId,
    key: Option<KeyDigest>,
    /// When it came.
    since: UnixMicros,
}

/// What the driver does next.
#[derive(Debug)]
pub enum Output {
    /// Decapsulate this session beside everything else, and report what it came to. The next one comes only after that.
    Decapsulate {
        /// For which link.
        link: LinkId,
        /// Half a millisecond of work.
        session: Encapsulated,
    },
    /// Make these entries durable and report the end. The next round comes only after that.
    Audit(AuditRound),
    /// Commit this batch and report its end. Until then comes at most one for each other committer, and for each other thing that
    /// is waited for.
    Commit(Attempt),
    /// Look an order up, beside at most so many others as the limit says.
    LookUp {
        /// Who asks.
        token: Token,
        /// Whose shop.
        brand: Brand,
        /// By its id,
        order: OrderId,
        /// or by its key.
        key: Option<KeyDigest>,
    },
    /// Send this to a cloud agent.
    Send(Reply),
    /// An order was refused before the ledger saw it; to be counted and logged.
    Rejected {
        /// Which order.
        order: OrderId,
        /// Why.
        failure: OpenFailure,
    },
}

/// What waits until the audit log has it durable.
#[derive(Debug)]
enum After {
    /// A request may be committed; what it needs to itself meanwhile.
    Commit(Token, Box<Request>, Needs),
    /// A request about this order is answered.
    Answer(Token, OrderId, Box<to_cloud::Kind>),
}

/// The agent's state.
pub struct OrderCore {
    limits: OrderLimits,
    keys: Arc<Keyring>,
    receiver: Receiver,
    opener: Opener,
    /// What waits for its sealing session; at most the receiver's window.
    unopened: Unopened,
    /// What waits for the audit log; at most the receiver's window.
    auditing: AuditGate<After>,
    /// Opened requests that wait for the next batch of a committer; with `batches` and `held`, at most the receiver's window.
    committers: Committers,
    /// Those that wait for what somebody else holds.
    held: Queues,
    /// The batches under way: at most one of each committer, and some that wait for what somebody else holds.
    batches: Vec<BatchUnderWay>,
    /// Batches begun so far.
    begun: u64,
    /// Questions that wait for their look-up.
    questions: VecDeque<PendingQuestion>,
    /// What is being looked up, and whether a write about it was under way when that began: it may be committed since the
    /// database has looked.
    looked_up: HashMap<Token, (PendingQuestion, bool)>,
    /// How orders stand that were asked about, where the log does not have yet what made them stand so; at most the receiver's
    /// window.
    asked: Vec<(Token, State)>,
    /// Set while the database does not work: what nobody can tell about is tried again, and nothing new taken.
    away: bool,
    /// How many batches had begun when it was last seen not to work: what those come to does not say that it works.
    away_after: u64,
    /// Of the batches that it has done, the one that began last.
    worked: u64,
    /// Set while the database is to be asked whether it works.
    asks: bool,
    /// Requests that wait, or are in a batch, and that an earlier batch may have committed.
    doubtful: usize,
    outputs: VecDeque<Output>,
}

impl OrderCore {
    /// An agent with nothing under way.
    pub fn new(limits: OrderLimits, keys: impl Into<Arc<Keyring>>) -> Self {
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
            ),
            held: Queues::default(),
            batches: Vec::new(),
            begun: 0,
            questions: VecDeque::new(),
            looked_up: HashMap::new(),
            asked: Vec::new(),
            away: false,
            away_after: 0,
            worked: 0,
            asks: false,
            doubtful: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Requests received and not yet answered.
    pub fn under_way(&self) -> usize {
        self.receiver.under_way()
    }

    /// Requests that wait for the next batch of a committer.
    pub fn waiting(&self) -> usize {
        self.committers.len()
    }

    /// Orders that wait for their sealing session.
    pub fn unopened(&self) -> usize {
        self.unopened.len()
    }

    /// Sealing sessions decapsulated so far.
    pub fn sealing_sessions(&self) -> u64 {
        self.opener.decapsulated()
    }

    /// Requests that wait for what somebody else holds.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many may.
    pub fn held_max(&self) -> usize {
        self.limits.held_max()
    }

    /// Questions that wait for their look-up.
    pub fn questions(&self) -> usize {
        self.questions.len()
    }

    /// How many may.
    pub fn questions_max(&self) -> usize {
        QUESTIONS_MAX
    }

    /// Whether the database did not work when it was last asked to commit.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// Whether the database does not tell how a batch ended.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful > 0
    }

    /// Whether a request about this order may be committed, and what it came to is not in the log.
    pub fn log_is_behind(&self, order: OrderId) -> bool {
        self.is_ahead_of_the_log(order.as_bytes())
    }

    /// Whether a request about this order is under way.
    pub fn is_writing(&self, order: OrderId) -> bool {
        self.receiver.writes_of(order) > 0
    }

    /// Takes one input. The order's way, in flow order.
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
                    if self.questions.len() >= QUESTIONS_MAX {
                        return self.refuse(token, Refusal::Busy);
                    }
                    self.questions.push_back(PendingQuestion { token, brand, order, key, since: now });
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
                // Of a link that is gone nothing is remembered.
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
                            let pending = Pending { token, request: *request, doubtful: false };
                            self.committers.admit(pending, needs, now);
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
                    // It is on its way here, for however long it waits: nobody may be told that it never will be there.
                    Ok(None) if self.is_written(&question) => self.refuse(token, Refusal::Busy),
                    // What was on its way then has ended since, and may be there now.
                    Ok(None) if was_written => self.questions.push_front(question),
                    Ok(None) => self.refuse(token, Refusal::NotFound),
                    Err(refusal) => self.refuse(token, refusal),
                }
            }
            Input::LinkDown(link) => {
                self.receiver.handle_link_down(link);
                self.opener.forget(link);
                for held in self.unopened.handle_link_down(link) {
                    match held {
                        // As if it had been lost on the line: whoever asks again on another link brings it once more.
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

    /// The next thing to do, `None` until the next input. A committer's batch is put together only once everything else has been
    /// polled and its last one has ended: it takes whatever has come meanwhile, and waits for nothing. The same goes for a
    /// round of the audit log; but while a batch is committed, what comes for the same committer is not logged by itself: it could
    /// not be committed yet, and goes with what this batch comes to. So under load a batch costs one fsync of the log.
    ///
    /// Beside those batches are those of what somebody else holds, each for those who wait for one such thing.
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
            // What did not fit among those that wait.
            .or_else(|| self.next_round())
    }

    fn next_look_up(&mut self, now: UnixMicros) -> Option<Output> {
        if self.looked_up.len() >= self.limits.look_ups_at_once {
            return None;
        }
        while let Some(question) = self.questions.pop_front() {
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

    /// Whether a write about what is asked is under way.
    fn is_written(&self, question: &PendingQuestion) -> bool {
        self.receiver.is_writing(question.order, question.key)
    }

    fn next_round(&mut self) -> Option<Output> {
        // While the database does not work, what waits is to be refused.
        let helps = self.away || self.committers.waits_for_log(|committer| !self.is_busy(committer));
        let round = self.auditing.poll_round(!helps)?;
        self.committers.begin_logging();
        Some(Output::Audit(round))
    }

    /// Has a request logged as received, and committed after that.
    fn log_received(&mut self, entry: Option<Entry>, token: Token, request: Box<Request>) {
        let needs = self.committers.needs_of(&request);
        self.committers.note_logging(&needs);
        self.auditing.wait_along(entry, After::Commit(token, request, needs));
    }

    /// Opens an order, or has it wait for its sealing session.
    fn place(
        &mut self,
        link: LinkId,
        token: Token,
        received: Box<ReceivedOrder>,
        now: UnixMicros,
        random: &mut impl Rng,
    ) {
        let entry = log_entry::placed(now, &received);
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

    /// Answers a request that has had no effect, once both that it came and that are in the audit log.
    fn turn_away(&mut self, token: Token, came: Option<Entry>, header: &Header, refused: impl Into<Refused>) {
        let refused = refused.into();
        let refusal = store::RequestOutcome::Refused(refused.refusal());
        let end = came.as_ref().and_then(|came| log_entry::ended(came.at, header, &refusal));
        let then = After::Answer(token, header.order, Box::new(to_cloud::Kind::Refused(refused)));
        self.auditing.wait(came.into_iter().chain(end), then);
    }

    /// Refuses a request that is in the audit log, once that it is refused is there as well.
    fn refuse_logged(&mut self, now: UnixMicros, token: Token, header: Header, refusal: Refusal) {
        let end = log_entry::ended(now, &header, &store::RequestOutcome::Refused(refusal));
        let kind = to_cloud::Kind::Refused(refusal.into());
        self.auditing.wait(end, After::Answer(token, header.order, Box::new(kind)));
    }

    /// The audit log cannot be written. What has had no effect is refused; what is committed is not told before it is
    /// logged, so that is tried again.
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

    /// Answers what was held back of what was asked about orders, as far as the log has come.
    fn answer_asked(&mut self) {
        for (token, state) in std::mem::take(&mut self.asked) {
            if self.is_ahead_of_the_log(&state.order) {
                self.asked.push((token, state));
            } else {
                self.answer(token, to_cloud::Kind::State(state));
            }
        }
    }

    /// Whether a request about this order may be committed, and what it came to is not in the log.
    fn is_ahead_of_the_log(&self, order: &[u8]) -> bool {
        let is_it = |about: OrderId| about.as_bytes().as_slice() == order;
        // Of what is in doubt, and waits to be committed again, nobody knows.
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
