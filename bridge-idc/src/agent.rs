//! The agent itself, sans-IO: one owner of all state, one `handle`, outputs polled.
//!
//! An order's whole way through the IDC stands in [`Agent::handle`], in the order of its arms: received, opened, logged,
//! committed with its neighbours, certified, logged again, answered. The shell in `run` does what the outputs say and nothing else;
//! the simulation runs this same code.

use std::collections::VecDeque;
use std::sync::Arc;

use bridge_protocol::audit::Entry;
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, UnixMicros};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Delivery, Received, ReceivedOrder, Receiver, Reply, Token};
use bridge_protocol::seal::opening::{Decapsulated, Encapsulated, Opener};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::{Refusal, Refused, State, ToIdc, to_cloud};
use rand::Rng;

use crate::auditing::{Auditing, Round};
use crate::ledger::{self, Batch, Committed};
use crate::log_entry;
use crate::open::{self, OpenFailure, Opening};
use crate::planner::Request;
use crate::receipt;
use crate::unopened::{Held, Unopened};
use crate::vault::keyring::Keyring;

/// Sealing sessions remembered of each link: more than a cloud agent uses at a time.
const SESSIONS_MAX: usize = 1_024;

/// The agent's limits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests received and not yet answered.
    pub window_max: usize,
    /// Requests in one transaction.
    pub batch_max: usize,
    /// Lines in one order.
    pub lines_max: usize,
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
    /// The batch under way has ended.
    Batch(BatchEnd),
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
}

/// How a batch ended.
#[derive(Debug)]
pub enum BatchEnd {
    /// It is durable.
    Committed(Committed),
    /// Nothing of it was committed at this try, for certain.
    NotCommitted,
    /// Nobody can tell yet: it is to be committed again, which is safe because a key has one effect.
    Unknown(Batch),
}

/// What the shell does next.
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
    Audit(Round),
    /// Commit this batch and report its end. The next one comes only after that.
    Commit(Batch),
    /// Look an order up.
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
enum Then {
    /// A request may be committed.
    Commit(Token, Box<Request>),
    /// A request about this order is answered.
    Answer(Token, OrderId, Box<to_cloud::Kind>),
}

/// The agent's state.
pub struct Agent {
    limits: Limits,
    keys: Arc<Keyring>,
    receiver: Receiver,
    opener: Opener,
    /// What waits for its sealing session; at most the receiver's window.
    unopened: Unopened,
    /// What waits for the audit log; at most the receiver's window.
    auditing: Auditing<Then>,
    /// Opened requests that wait for the next batch; with `committing`, at most the receiver's window.
    waiting: VecDeque<(Token, Request)>,
    /// Whom to answer for the batch under way, and about what, in its order; empty if there is none.
    committing: Vec<(Token, Header)>,
    /// How orders stand that were asked about, where the log does not have yet what made them stand so; at most the receiver's
    /// window.
    asked: Vec<(Token, State)>,
    /// Set while the database does not tell how the last batch ended: that batch is tried again, and nothing new taken.
    doubtful: bool,
    outputs: VecDeque<Output>,
}

impl Agent {
    /// An agent with nothing under way.
    pub fn new(limits: Limits, keys: impl Into<Arc<Keyring>>) -> Self {
        let keys = keys.into();
        let opener = Opener::new(keys.opening_keys(), SESSIONS_MAX);
        Self {
            limits,
            keys,
            receiver: Receiver::new(limits.window_max),
            opener,
            unopened: Unopened::new(),
            auditing: Auditing::new(),
            waiting: VecDeque::new(),
            committing: Vec::new(),
            asked: Vec::new(),
            doubtful: false,
            outputs: VecDeque::new(),
        }
    }

    /// Requests received and not yet answered.
    pub fn under_way(&self) -> usize {
        self.receiver.under_way()
    }

    /// Requests that wait for the next batch.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Orders that wait for their sealing session.
    pub fn unopened(&self) -> usize {
        self.unopened.len()
    }

    /// Sealing sessions decapsulated so far.
    pub fn sealing_sessions(&self) -> u64 {
        self.opener.decapsulated()
    }

    /// Whether the database does not tell how the last batch ended.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
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
                    self.outputs.push_back(Output::LookUp { token, brand, order, key });
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
                        (Held::Place(token, received), None) => {
                            self.place(link, token, received, now, random)
                        }
                        (Held::Place(token, received), Some(error)) => {
                            self.reject(token, &received, error.into(), now);
                        }
                        (Held::Cancel(token, header), _) => self.cancel(token, header, now),
                    }
                }
            }
            Input::Audited(Ok(())) => {
                for then in self.auditing.handle_durable() {
                    match then {
                        Then::Commit(token, request) if self.doubtful => {
                            self.refuse_logged(
                                now,
                                token,
                                log_entry::header_of(&request),
                                Refusal::DatabaseDown,
                            );
                        }
                        Then::Commit(token, request) => self.waiting.push_back((token, *request)),
                        Then::Answer(token, _, kind) => self.answer(token, *kind),
                    }
                }
                self.answer_asked();
            }
            Input::Audited(Err(entries)) => {
                self.not_audited(entries);
                self.answer_asked();
            }
            Input::Batch(BatchEnd::Committed(committed)) => {
                self.doubtful = false;
                let answers = receipt::answers(&committed, self.keys.signer());
                let requests = std::mem::take(&mut self.committing);
                for (((token, header), end), answer) in
                    requests.into_iter().zip(committed.answers()).zip(answers)
                {
                    let entry = log_entry::ended(now, &header, end);
                    self.auditing.wait([entry], Then::Answer(token, header.order, Box::new(answer)));
                }
            }
            Input::Batch(BatchEnd::NotCommitted) => {
                let tried_before = std::mem::take(&mut self.doubtful);
                for (token, header) in std::mem::take(&mut self.committing) {
                    if tried_before {
                        // Only this try is known to have failed: an earlier one may have been committed.
                        self.receiver.abandon(token);
                    } else {
                        self.refuse_logged(now, token, header, Refusal::DatabaseDown);
                    }
                }
                self.answer_asked();
            }
            Input::Batch(BatchEnd::Unknown(batch)) => {
                self.doubtful = true;
                // What only waited has had no effect, and its callers can be told so at once.
                for (token, request) in std::mem::take(&mut self.waiting) {
                    self.refuse_logged(now, token, log_entry::header_of(&request), Refusal::DatabaseDown);
                }
                let tokens = std::mem::take(&mut self.committing).into_iter().map(|(token, _)| token);
                self.waiting = tokens.zip(batch.requests).collect();
            }
            Input::LookedUp { token, found } => match found {
                Ok(Some(state)) if self.is_ahead_of_the_log(&state.order) => self.asked.push((token, state)),
                Ok(Some(state)) => self.answer(token, to_cloud::Kind::State(state)),
                Ok(None) => self.refuse(token, Refusal::NotFound),
                Err(refusal) => self.refuse(token, refusal),
            },
            Input::LinkDown(link) => {
                self.receiver.handle_link_down(link);
                self.opener.forget(link);
                for held in self.unopened.handle_link_down(link) {
                    match held {
                        // As if it had been lost on the line: whoever asks again on another link brings it once more.
                        Held::Place(token, _) => self.receiver.abandon(token),
                        Held::Cancel(token, header) => self.cancel(token, header, now),
                    }
                }
            }
            Input::Keys(keys) => {
                self.opener.set_keys(keys.opening_keys());
                self.keys = keys;
            }
        }
    }

    /// The next thing to do, `None` until the next input. A batch is put together only once everything else has been
    /// polled and no other is under way: it takes whatever has come meanwhile, and waits for nothing. The same goes for a
    /// round of the audit log; but while a batch is committed, what comes for the next one is not logged by itself: it could not
    /// be committed yet, and goes with what this batch comes to. So under load a batch costs one fsync of the log.
    pub fn poll_output(&mut self, now: UnixMicros) -> Option<Output> {
        self.outputs
            .pop_front()
            .or_else(|| {
                self.unopened.poll_work().map(|(link, session)| Output::Decapsulate { link, session })
            })
            .or_else(|| self.auditing.poll_round(!self.committing.is_empty()).map(Output::Audit))
            .or_else(|| self.next_batch(now).map(Output::Commit))
    }

    fn next_batch(&mut self, at: UnixMicros) -> Option<Batch> {
        if !self.committing.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let size = self.waiting.len().min(self.limits.batch_max);
        let mut requests = Vec::with_capacity(size);
        for (token, request) in self.waiting.drain(..size) {
            self.committing.push((token, log_entry::header_of(&request)));
            requests.push(request);
        }
        Some(Batch { requests, at })
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
        let entry = placed(&received, now);
        if self.doubtful {
            return self.turn_away(token, entry, received.header(), Refusal::DatabaseDown);
        }
        let lines_max = self.limits.lines_max;
        match open::open(link, &received, &self.opener, &self.keys, now, lines_max, random) {
            Ok(Opening::Open(request)) => self.auditing.wait_along([entry], Then::Commit(token, request)),
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
        self.turn_away(token, placed(received, now), header, refused);
    }

    fn cancel(&mut self, token: Token, header: Header, now: UnixMicros) {
        let entry = log_entry::received(now, "cancel", &header, None);
        if self.doubtful {
            return self.turn_away(token, entry, &header, Refusal::DatabaseDown);
        }
        let request = open::cancellation(header, &self.keys);
        self.auditing.wait_along([entry], Then::Commit(token, request.into()));
    }

    /// Answers a request that has had no effect, once both that it came and that are in the audit log.
    fn turn_away(&mut self, token: Token, received: Entry, header: &Header, refused: impl Into<Refused>) {
        let refused = refused.into();
        let end = log_entry::ended(received.at, header, &ledger::Answer::Refused(refused.refusal()));
        let kind = to_cloud::Kind::Refused(refused);
        self.auditing.wait([received, end], Then::Answer(token, header.order, Box::new(kind)));
    }

    /// Refuses a request that is in the audit log, once that it is refused is there as well.
    fn refuse_logged(&mut self, now: UnixMicros, token: Token, header: Header, refusal: Refusal) {
        let end = log_entry::ended(now, &header, &ledger::Answer::Refused(refusal));
        let kind = to_cloud::Kind::Refused(refusal.into());
        self.auditing.wait([end], Then::Answer(token, header.order, Box::new(kind)));
    }

    /// The audit log cannot be written. What has had no effect is refused; what is committed is not told before it is
    /// logged, so that is tried again.
    fn not_audited(&mut self, entries: Vec<Entry>) {
        let mut refused = Vec::new();
        self.auditing.handle_failed(entries, |then| match then {
            Then::Answer(token, order, kind) => match *kind {
                to_cloud::Kind::Settled(_) => Some(Then::Answer(token, order, kind)),
                kind => {
                    refused.push((token, kind));
                    None
                }
            },
            Then::Commit(token, _) => {
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
        // Of a batch in doubt, which waits to be committed again, nobody knows.
        let in_doubt = self.waiting.iter().filter(|_| self.doubtful);
        self.committing.iter().any(|(_, header)| is_it(header.order))
            || in_doubt.map(|(_, request)| request.action.order()).any(is_it)
            || self.auditing.waiting().any(|then| matches!(then, Then::Answer(_, about, _) if is_it(*about)))
    }

    fn answer(&mut self, token: Token, kind: to_cloud::Kind) {
        self.outputs.extend(self.receiver.answer(token, kind).into_iter().map(Output::Send));
    }

    fn refuse(&mut self, token: Token, refusal: Refusal) {
        self.answer(token, to_cloud::Kind::Refused(refusal.into()));
    }
}

/// The entry that an order came.
fn placed(received: &ReceivedOrder, now: UnixMicros) -> Entry {
    log_entry::received(now, "place", received.header(), Some(&received.envelope().ciphertext))
}

#[cfg(test)]
mod tests;
