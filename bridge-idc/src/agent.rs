//! The agent itself, sans-IO: one owner of all state, one `handle`, outputs polled.
//!
//! An order's whole way through the IDC stands in [`Agent::handle`], in the order of its arms: received, opened,
//! committed with its neighbours, certified, answered. The shell in `run` does what the outputs say and nothing else;
//! the simulation runs this same code.

use std::collections::VecDeque;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, UnixMicros};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Delivery, Received, Receiver, Reply, Token};
use bridge_protocol::seal::opening::Opener;
use bridge_protocol::wire::order::{Refusal, Refused, State, ToIdc, to_cloud};
use rand::Rng;

use crate::ledger::{Batch, Committed};
use crate::open::{self, OpenFailure};
use crate::planner::Request;
use crate::receipt;
use crate::vault::keyring::Keyring;

/// Sealing sessions remembered: more than the sessions that all cloud agents together use at a time.
const SESSIONS_MAX: usize = 4_096;

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
}

/// How a batch ended.
#[derive(Debug)]
pub enum BatchEnd {
    /// It is durable.
    Committed(Committed),
    /// Nothing of it was committed, for certain.
    NotCommitted,
    /// Nobody can tell yet: it is to be committed again, which is safe because a key has one effect.
    Unknown(Batch),
}

/// What the shell does next.
#[derive(Debug)]
pub enum Output {
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
    Rejected(OpenFailure),
}

/// The agent's state.
pub struct Agent {
    limits: Limits,
    keys: Keyring,
    receiver: Receiver,
    opener: Opener,
    /// Opened requests that wait for the next batch; with `committing`, at most the receiver's window.
    waiting: VecDeque<(Token, Request)>,
    /// Whom to answer for the batch under way, in its order; empty if there is none.
    committing: Vec<Token>,
    /// Set while the database does not tell how the last batch ended: that batch is tried again, and nothing new taken.
    doubtful: bool,
    outputs: VecDeque<Output>,
}

impl Agent {
    /// An agent with nothing under way.
    pub fn new(limits: Limits, keys: Keyring) -> Self {
        let opener = Opener::new(keys.opening_keys(), SESSIONS_MAX);
        Self {
            limits,
            keys,
            receiver: Receiver::new(limits.window_max),
            opener,
            waiting: VecDeque::new(),
            committing: Vec::new(),
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

    /// Whether the database does not tell how the last batch ended.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Takes one input. The order's way, in flow order.
    pub fn handle(&mut self, input: Input, now: UnixMicros, random: &mut impl Rng) {
        match input {
            Input::Message { link, lane, message } => match self.receiver.handle_message(link, lane, message)
            {
                Received::Deliver(token, Delivery::Place(_) | Delivery::Cancel(_)) if self.doubtful => {
                    self.refuse(token, Refusal::DatabaseDown);
                }
                Received::Deliver(token, Delivery::Place(received)) => {
                    let lines_max = self.limits.lines_max;
                    match open::open(&received, &mut self.opener, &self.keys, now, lines_max, random) {
                        Ok(request) => self.waiting.push_back((token, request)),
                        Err(failure) => {
                            self.outputs.push_back(Output::Rejected(failure));
                            self.refuse(token, failure.refusal());
                        }
                    }
                }
                Received::Deliver(token, Delivery::Cancel(header)) => {
                    self.waiting.push_back((token, open::cancellation(header, &self.keys)));
                }
                Received::Deliver(token, Delivery::Ask { brand, order, key }) => {
                    self.outputs.push_back(Output::LookUp { token, brand, order, key });
                }
                Received::Answer(reply) => self.outputs.push_back(Output::Send(reply)),
                Received::Duplicate => {}
            },
            Input::Batch(BatchEnd::Committed(committed)) => {
                self.doubtful = false;
                let answers = receipt::answers(&committed, self.keys.signer());
                for (token, answer) in std::mem::take(&mut self.committing).into_iter().zip(answers) {
                    self.answer(token, answer);
                }
            }
            Input::Batch(BatchEnd::NotCommitted) => {
                self.doubtful = false;
                for token in std::mem::take(&mut self.committing) {
                    self.refuse(token, Refusal::DatabaseDown);
                }
            }
            Input::Batch(BatchEnd::Unknown(batch)) => {
                self.doubtful = true;
                // What only waited has had no effect, and its callers can be told so at once.
                for (token, _) in std::mem::take(&mut self.waiting) {
                    self.refuse(token, Refusal::DatabaseDown);
                }
                self.waiting = std::mem::take(&mut self.committing).into_iter().zip(batch.requests).collect();
            }
            Input::LookedUp { token, found } => match found {
                Ok(Some(state)) => self.answer(token, to_cloud::Kind::State(state)),
                Ok(None) => self.refuse(token, Refusal::NotFound),
                Err(refusal) => self.refuse(token, refusal),
            },
            Input::LinkDown(link) => self.receiver.handle_link_down(link),
        }
    }

    /// The next thing to do, `None` until the next input. A batch is put together only once everything else has been
    /// polled and no other is under way: it takes whatever has come meanwhile, and waits for nothing.
    pub fn poll_output(&mut self, now: UnixMicros) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.next_batch(now).map(Output::Commit))
    }

    fn next_batch(&mut self, at: UnixMicros) -> Option<Batch> {
        if !self.committing.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let size = self.waiting.len().min(self.limits.batch_max);
        let requests;
        (self.committing, requests) = self.waiting.drain(..size).unzip();
        Some(Batch { requests, at })
    }

    fn answer(&mut self, token: Token, kind: to_cloud::Kind) {
        self.outputs.extend(self.receiver.answer(token, kind).into_iter().map(Output::Send));
    }

    fn refuse(&mut self, token: Token, refusal: Refusal) {
        self.answer(token, to_cloud::Kind::Refused(Refused { refusal: refusal.into() }));
    }
}
