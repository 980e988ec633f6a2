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
    /// Nothing of it was committed at this try, for certain.
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
    Rejected {
        /// Which order.
        order: OrderId,
        /// Why.
        failure: OpenFailure,
    },
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
                Received::Deliver(token, Delivery::Place(_) | Delivery::Cancel(_)) if self.doubtful => {
                    self.refuse(token, Refusal::DatabaseDown);
                }
                Received::Deliver(token, Delivery::Place(received)) => {
                    let lines_max = self.limits.lines_max;
                    match open::open(&received, &mut self.opener, &self.keys, now, lines_max, random) {
                        Ok(request) => self.waiting.push_back((token, request)),
                        Err(failure) => {
                            let order = received.header().order;
                            self.outputs.push_back(Output::Rejected { order, failure });
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
                let tried_before = std::mem::take(&mut self.doubtful);
                for token in std::mem::take(&mut self.committing) {
                    if tried_before {
                        // Only this try is known to have failed: an earlier one may have been committed.
                        self.receiver.abandon(token);
                    } else {
                        self.refuse(token, Refusal::DatabaseDown);
                    }
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

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::body::OrderRequest;
    use bridge_protocol::domain::{Currency, IdempotencyKey, Money, Sku};
    use bridge_protocol::receipt::{self, Receipt};
    use bridge_protocol::seal::sealing::{Header, SealingSession};
    use bridge_protocol::wire::order::{Cancel, Envelope, Terms, ToCloud, to_idc};
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::ledger::memory::{ForSale, MemoryLedger};

    const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);
    const LINK: LinkId = LinkId(1);

    /// An agent, its ledger with five shoes, and a cloud that seals to it.
    struct World {
        agent: Agent,
        ledger: MemoryLedger,
        session: SealingSession,
        sequence: u64,
    }

    fn brand() -> Brand {
        Brand::new("shoes").unwrap()
    }

    fn world() -> World {
        let keys = Keyring::for_tests(1);
        let session = SealingSession::start(&keys.manifest().keys[0], NOW, &mut rand::rng()).unwrap();
        let price = Money::new(100, Currency::new("KRW").unwrap()).unwrap();
        let stock = ForSale { brand: brand(), sku: Sku::new("SHOE").unwrap(), price, units: 5 };
        let limits = Limits { window_max: 8, batch_max: 4, lines_max: 10 };
        World { agent: Agent::new(limits, keys), ledger: MemoryLedger::new([stock]), session, sequence: 0 }
    }

    fn header(key: &str) -> Header {
        let key = IdempotencyKey::parse(key.as_bytes()).unwrap().digest(&brand());
        let random = *key.as_bytes().first_chunk().unwrap();
        Header { brand: brand(), order: OrderId::new(NOW, random), key }
    }

    impl World {
        fn envelope(&mut self, key: &str, units: i64) -> Envelope {
            let total = units * 100;
            let body = format!(
                r#"{{"lines": [{{"sku": "SHOE", "quantity": {units}, "unit_price": {{"amount": 100, "currency": "KRW"}}}}],
                "total": {{"amount": {total}, "currency": "KRW"}}, "customer": {{"reference": "c-1"}},
                "delivery": {{"name": "n", "address": ["a"], "country": "KR"}}}}"#
            );
            let request = OrderRequest::parse(body.as_bytes(), 10).ok().unwrap();
            let terms = Terms::from(request.terms()).encode_to_vec().into();
            self.session.seal(&header(key), terms, request.personal()).unwrap()
        }

        fn send(&mut self, kind: to_idc::Kind) {
            self.sequence += 1;
            let message = ToIdc { request: self.sequence, kind: Some(kind), sequence: self.sequence };
            self.input(Input::Message { link: LINK, lane: 0, message });
        }

        fn place(&mut self, key: &str, units: i64) {
            let envelope = self.envelope(key, units);
            self.send(to_idc::Kind::Place(envelope));
        }

        fn input(&mut self, input: Input) {
            self.agent.handle(input, NOW, &mut rand::rng());
        }

        fn poll(&mut self) -> Option<Output> {
            self.agent.poll_output(NOW)
        }

        fn batch(&mut self) -> Batch {
            match self.poll() {
                Some(Output::Commit(batch)) => batch,
                other => panic!("no batch: {other:?}"),
            }
        }

        fn commit(&mut self, batch: &Batch) {
            let committed = self.ledger.commit(batch);
            self.input(Input::Batch(BatchEnd::Committed(committed)));
        }

        fn answer(&mut self) -> ToCloud {
            match self.poll() {
                Some(Output::Send(reply)) => reply.message,
                other => panic!("no answer: {other:?}"),
            }
        }

        /// The receipt of the next answer, verified as the cloud does, and whether it is a replay.
        fn receipt(&mut self) -> (Receipt, bool) {
            let Some(to_cloud::Kind::Settled(settled)) = self.answer().kind else { panic!("not settled") };
            let pinned = [Keyring::for_tests(1).verifier().clone()];
            let verified = receipt::verify(&settled.receipt.unwrap(), &pinned).unwrap();
            (verified.receipt().clone(), settled.replayed)
        }

        fn refusal(&mut self) -> Refusal {
            match self.answer().kind {
                Some(to_cloud::Kind::Refused(refused)) => refused.refusal(),
                other => panic!("not refused: {other:?}"),
            }
        }
    }

    #[test]
    fn an_order_is_answered_with_a_receipt_only_after_its_commit() {
        let mut world = world();
        world.place("k1", 2);
        let batch = world.batch();
        assert!(world.poll().is_none(), "nothing is said before the commit");
        world.commit(&batch);
        let (receipt, replayed) = world.receipt();
        assert_eq!((receipt.outcome.code(), receipt.key, replayed), ("placed", header("k1").key, false));
    }

    #[test]
    fn a_batch_takes_what_came_while_the_last_one_ran() {
        let mut world = world();
        world.place("k1", 1);
        let first = world.batch();
        for key in ["k2", "k3", "k4", "k5", "k6"] {
            world.place(key, 1);
        }
        assert!(world.poll().is_none(), "one batch at a time");
        world.commit(&first);
        world.receipt();
        assert_eq!((first.requests.len(), world.batch().requests.len()), (1, 4), "at most batch_max");
    }

    #[test]
    fn a_batch_whose_end_is_unknown_is_committed_again_and_nothing_new_taken_meanwhile() {
        let mut world = world();
        world.place("k1", 1);
        let batch = world.batch();
        world.place("k2", 1);
        world.ledger.commit(&batch);
        world.input(Input::Batch(BatchEnd::Unknown(batch)));
        assert_eq!(world.refusal(), Refusal::DatabaseDown, "k2 has had no effect and can be told so");
        let again = world.batch();
        world.place("k3", 1);
        assert_eq!(world.refusal(), Refusal::DatabaseDown);
        world.commit(&again);
        let (receipt, replayed) = world.receipt();
        assert_eq!((receipt.outcome.code(), replayed), ("placed", true));
        world.place("k4", 1);
        assert_eq!(world.batch().requests.len(), 1);
    }

    #[test]
    fn a_batch_that_was_not_committed_is_refused_without_effect() {
        let mut world = world();
        world.place("k1", 1);
        let _lost = world.batch();
        world.input(Input::Batch(BatchEnd::NotCommitted));
        assert_eq!(world.refusal(), Refusal::DatabaseDown);
        assert_eq!(world.agent.under_way(), 0);
    }

    #[test]
    fn a_batch_that_was_not_committed_at_a_second_try_may_have_been_at_the_first() {
        let mut world = world();
        world.place("k1", 1);
        let batch = world.batch();
        world.ledger.commit(&batch);
        world.input(Input::Batch(BatchEnd::Unknown(batch)));
        let _again = world.batch();
        world.input(Input::Batch(BatchEnd::NotCommitted));
        assert!(world.poll().is_none(), "nobody is told that nothing happened");
        assert_eq!(world.agent.under_way(), 0);
        world.place("k1", 1);
        let batch = world.batch();
        world.commit(&batch);
        assert!(world.receipt().1, "whoever asks again finds out");
    }

    #[test]
    fn a_changed_envelope_is_refused_before_the_ledger_sees_it() {
        let mut world = world();
        let mut envelope = world.envelope("k1", 1);
        envelope.terms = world.envelope("k1", 2).terms;
        world.send(to_idc::Kind::Place(envelope));
        assert!(matches!(world.poll(), Some(Output::Rejected { .. })));
        assert_eq!(world.refusal(), Refusal::EnvelopeRejected);
        assert!(world.poll().is_none());
    }

    #[test]
    fn an_unknown_session_is_asked_for_again() {
        let mut world = world();
        let mut envelope = world.envelope("k1", 1);
        envelope.encapsulation = Bytes::new();
        world.send(to_idc::Kind::Place(envelope));
        assert!(matches!(world.poll(), Some(Output::Rejected { .. })));
        assert_eq!(world.refusal(), Refusal::SessionUnknown);
    }

    #[test]
    fn the_same_key_with_another_order_is_refused_and_with_the_same_replayed() {
        let mut world = world();
        world.place("k1", 1);
        let batch = world.batch();
        world.commit(&batch);
        world.receipt();
        world.place("k1", 2);
        world.place("k1", 1);
        // Both have the order id of their key here, so the second waits for the first one's answer.
        let batch = world.batch();
        world.commit(&batch);
        assert_eq!(world.refusal(), Refusal::KeyReused);
    }

    #[test]
    fn a_cancelled_order_s_units_are_for_sale_again() {
        let mut world = world();
        world.place("k1", 5);
        let batch = world.batch();
        world.commit(&batch);
        let order = world.receipt().0.order;
        let cancel = Cancel {
            brand: "shoes".into(),
            order: Bytes::copy_from_slice(order.as_bytes()),
            key: Bytes::copy_from_slice(header("c1").key.as_bytes()),
        };
        world.send(to_idc::Kind::Cancel(cancel));
        world.place("k2", 5);
        let batch = world.batch();
        world.commit(&batch);
        assert_eq!(world.receipt().0.outcome.code(), "cancelled");
        assert_eq!(world.receipt().0.outcome.code(), "placed");
    }

    #[test]
    fn what_a_lost_link_asked_is_committed_and_found_under_its_key() {
        let mut world = world();
        world.place("k1", 1);
        let batch = world.batch();
        world.input(Input::LinkDown(LINK));
        world.commit(&batch);
        assert!(world.poll().is_none(), "nobody is there to be told");
        world.sequence = 0;
        world.place("k1", 1);
        let batch = world.batch();
        world.commit(&batch);
        assert!(world.receipt().1);
    }
}
