//! The agent itself, sans-IO: one owner of all state, one `handle`, outputs polled.
//!
//! An order's whole way through the IDC stands in [`Agent::handle`], in the order of its arms: received, opened, logged,
//! committed with its neighbours, certified, logged again, answered. The shell in `run` does what the outputs say and nothing else;
//! the simulation runs this same code.

use std::collections::VecDeque;

use bridge_protocol::audit::entry::{Carried, Digest, Ended, Entry, Event, Word};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, UnixMicros};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Delivery, Received, Receiver, Reply, Token};
use bridge_protocol::seal::opening::Opener;
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::{Refusal, Refused, State, ToIdc, to_cloud};
use bytes::Bytes;
use rand::Rng;

use crate::auditing::{Auditing, Round};
use crate::ledger::{self, Batch, Committed};
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
    /// A request is answered.
    Answer(Token, to_cloud::Kind),
}

/// The agent's state.
pub struct Agent {
    limits: Limits,
    keys: Keyring,
    receiver: Receiver,
    opener: Opener,
    /// What waits for the audit log; at most the receiver's window.
    auditing: Auditing<Then>,
    /// Opened requests that wait for the next batch; with `committing`, at most the receiver's window.
    waiting: VecDeque<(Token, Request)>,
    /// Whom to answer for the batch under way, and about what, in its order; empty if there is none.
    committing: Vec<(Token, Header)>,
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
            auditing: Auditing::new(),
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
                Received::Deliver(token, Delivery::Place(received)) => {
                    let (header, ciphertext) = (received.header(), &received.envelope().ciphertext);
                    let entry = received_entry(now, "place", header, Some(ciphertext));
                    if self.doubtful {
                        return self.turn_away(token, entry, header, Refusal::DatabaseDown);
                    }
                    let lines_max = self.limits.lines_max;
                    match open::open(&received, &mut self.opener, &self.keys, now, lines_max, random) {
                        Ok(request) => self.auditing.wait(vec![entry], Then::Commit(token, request.into())),
                        Err(failure) => {
                            self.outputs.push_back(Output::Rejected { order: header.order, failure });
                            self.turn_away(token, entry, header, failure.refusal());
                        }
                    }
                }
                Received::Deliver(token, Delivery::Cancel(header)) => {
                    let entry = received_entry(now, "cancel", &header, None);
                    if self.doubtful {
                        return self.turn_away(token, entry, &header, Refusal::DatabaseDown);
                    }
                    let request = open::cancellation(header, &self.keys);
                    self.auditing.wait(vec![entry], Then::Commit(token, request.into()));
                }
                Received::Deliver(token, Delivery::Ask { brand, order, key }) => {
                    self.outputs.push_back(Output::LookUp { token, brand, order, key });
                }
                Received::Answer(reply) => self.outputs.push_back(Output::Send(reply)),
                Received::Duplicate => {}
            },
            Input::Audited(Ok(())) => {
                for then in self.auditing.handle_durable() {
                    match then {
                        Then::Commit(token, request) if self.doubtful => {
                            self.refuse_logged(now, token, header_of(&request), Refusal::DatabaseDown);
                        }
                        Then::Commit(token, request) => self.waiting.push_back((token, *request)),
                        Then::Answer(token, kind) => self.answer(token, kind),
                    }
                }
            }
            Input::Audited(Err(entries)) => self.not_audited(entries),
            Input::Batch(BatchEnd::Committed(committed)) => {
                self.doubtful = false;
                let answers = receipt::answers(&committed, self.keys.signer());
                let requests = std::mem::take(&mut self.committing);
                for (((token, header), end), answer) in
                    requests.into_iter().zip(committed.answers()).zip(answers)
                {
                    self.auditing.wait(vec![ended_entry(now, header, end)], Then::Answer(token, answer));
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
            }
            Input::Batch(BatchEnd::Unknown(batch)) => {
                self.doubtful = true;
                // What only waited has had no effect, and its callers can be told so at once.
                for (token, request) in std::mem::take(&mut self.waiting) {
                    self.refuse_logged(now, token, header_of(&request), Refusal::DatabaseDown);
                }
                let tokens = std::mem::take(&mut self.committing).into_iter().map(|(token, _)| token);
                self.waiting = tokens.zip(batch.requests).collect();
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
    /// polled and no other is under way: it takes whatever has come meanwhile, and waits for nothing. The same goes for a
    /// round of the audit log.
    pub fn poll_output(&mut self, now: UnixMicros) -> Option<Output> {
        self.outputs
            .pop_front()
            .or_else(|| self.auditing.poll_round().map(Output::Audit))
            .or_else(|| self.next_batch(now).map(Output::Commit))
    }

    fn next_batch(&mut self, at: UnixMicros) -> Option<Batch> {
        if !self.committing.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let size = self.waiting.len().min(self.limits.batch_max);
        let mut requests = Vec::with_capacity(size);
        for (token, request) in self.waiting.drain(..size) {
            self.committing.push((token, header_of(&request)));
            requests.push(request);
        }
        Some(Batch { requests, at })
    }

    /// Answers a request that has had no effect, once both that it came and that are in the audit log.
    fn turn_away(&mut self, token: Token, received: Entry, header: &Header, refusal: Refusal) {
        let end = ended_entry(received.at, header.clone(), &ledger::Answer::Refused(refusal));
        let kind = to_cloud::Kind::Refused(Refused { refusal: refusal.into() });
        self.auditing.wait(vec![received, end], Then::Answer(token, kind));
    }

    /// Refuses a request that is in the audit log, once that it is refused is there as well.
    fn refuse_logged(&mut self, now: UnixMicros, token: Token, header: Header, refusal: Refusal) {
        let end = ended_entry(now, header, &ledger::Answer::Refused(refusal));
        let kind = to_cloud::Kind::Refused(Refused { refusal: refusal.into() });
        self.auditing.wait(vec![end], Then::Answer(token, kind));
    }

    /// The audit log cannot be written. What has had no effect is refused; what is committed is not told before it is
    /// logged, so that is tried again.
    fn not_audited(&mut self, entries: Vec<Entry>) {
        let mut refused = Vec::new();
        self.auditing.handle_failed(entries, |then| match then {
            Then::Answer(_, to_cloud::Kind::Settled(_)) => Some(then),
            Then::Answer(token, kind) => {
                refused.push((token, kind));
                None
            }
            Then::Commit(token, _) => {
                let refusal = Refusal::DatabaseDown.into();
                refused.push((token, to_cloud::Kind::Refused(Refused { refusal })));
                None
            }
        });
        for (token, kind) in refused {
            self.answer(token, kind);
        }
    }

    fn answer(&mut self, token: Token, kind: to_cloud::Kind) {
        self.outputs.extend(self.receiver.answer(token, kind).into_iter().map(Output::Send));
    }

    fn refuse(&mut self, token: Token, refusal: Refusal) {
        self.answer(token, to_cloud::Kind::Refused(Refused { refusal: refusal.into() }));
    }
}

fn header_of(request: &Request) -> Header {
    Header { brand: request.brand.clone(), order: request.action.order(), key: request.key }
}

/// The entry of a request that has come.
fn received_entry(at: UnixMicros, action: &str, header: &Header, ciphertext: Option<&Bytes>) -> Entry {
    let Header { brand, order, key } = header.clone();
    let bytes = ciphertext.map_or(0, |ciphertext| ciphertext.len() as u64);
    let ciphertext = ciphertext.map(|ciphertext| Digest::of(ciphertext));
    let action = Word::of(action);
    let carried = Carried { action, brand, bytes, ciphertext, key, order, payment: None };
    Entry::new(at, Event::OrderReceived(carried))
}

/// The entry of what a request came to.
fn ended_entry(at: UnixMicros, header: Header, end: &ledger::Answer) -> Entry {
    let Header { brand, order, key } = header;
    let ended = |outcome: &str| Ended {
        brand,
        key,
        order,
        outcome: Word::of(outcome),
        payment: None,
        position: None,
        replayed: false,
    };
    Entry::new(
        at,
        match end {
            ledger::Answer::Settled { receipt, replayed } => Event::OrderCommitted(Ended {
                order: receipt.order,
                position: Some(receipt.position),
                replayed: *replayed,
                ..ended(receipt.outcome.code())
            }),
            ledger::Answer::Refused(refusal) => Event::OrderAnswered(ended(refusal.code())),
        },
    )
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::body::OrderRequest;
    use bridge_protocol::domain::{Currency, IdempotencyKey, Money, Sku};
    use bridge_protocol::receipt::{self, Receipt};
    use bridge_protocol::seal::sealing::{Header, SealingSession};
    use bridge_protocol::wire::order::{Cancel, Envelope, Terms, ToCloud, to_idc};
    use prost::Message as _;

    use super::*;
    use crate::ledger::memory::{ForSale, MemoryLedger};

    const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);
    const LINK: LinkId = LinkId(1);

    /// An agent, its ledger with five shoes, and a cloud that seals to it.
    struct World {
        log: Vec<Entry>,
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
        World {
            log: Vec::new(),
            agent: Agent::new(limits, keys),
            ledger: MemoryLedger::new([stock]),
            session,
            sequence: 0,
        }
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

        /// The next output that is not the audit log's, which here has everything durable at once.
        fn poll(&mut self) -> Option<Output> {
            loop {
                match self.agent.poll_output(NOW) {
                    Some(Output::Audit(round)) => {
                        self.log.extend(round.entries);
                        self.input(Input::Audited(Ok(())));
                    }
                    other => return other,
                }
            }
        }

        /// What the audit log has, by kind and outcome.
        fn logged(&self) -> Vec<String> {
            let told = |entry: &Entry| match &entry.event {
                Event::OrderCommitted(ended) | Event::OrderAnswered(ended) => {
                    format!("{} {}", entry.event.kind(), ended.outcome)
                }
                other => other.kind().to_owned(),
            };
            self.log.iter().map(told).collect()
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
    fn nothing_is_committed_before_it_is_logged_and_nothing_answered_before_its_outcome_is() {
        let mut world = world();
        world.place("k1", 1);
        let Some(Output::Audit(received)) = world.agent.poll_output(NOW) else { panic!("not logged") };
        assert!(world.agent.poll_output(NOW).is_none(), "no commit before the entry is durable");
        world.place("k2", 1);
        assert!(world.agent.poll_output(NOW).is_none(), "one round at a time");
        world.input(Input::Audited(Ok(())));
        let Some(Output::Audit(next)) = world.agent.poll_output(NOW) else { panic!("k2 is not logged") };
        let Some(Output::Commit(batch)) = world.agent.poll_output(NOW) else { panic!("no commit") };
        world.commit(&batch);
        assert!(world.agent.poll_output(NOW).is_none(), "the outcome waits for the round under way");
        world.input(Input::Audited(Ok(())));
        let Some(Output::Audit(committed)) = world.agent.poll_output(NOW) else { panic!("not logged") };
        let commit = world.agent.poll_output(NOW);
        assert!(matches!(&commit, Some(Output::Commit(batch)) if batch.requests.len() == 1), "{commit:?}");
        assert!(world.agent.poll_output(NOW).is_none(), "no answer before the entry is durable");
        world.input(Input::Audited(Ok(())));
        world.receipt();
        world.log = [received, next, committed].into_iter().flat_map(|round| round.entries).collect();
        assert_eq!(world.logged(), ["order-received", "order-received", "order-committed placed"]);
    }

    #[test]
    fn while_the_log_cannot_be_written_orders_are_refused_and_what_is_committed_waits_to_be_told() {
        let mut world = world();
        world.place("k1", 1);
        let batch = world.batch();
        world.commit(&batch);
        let Some(Output::Audit(round)) = world.agent.poll_output(NOW) else { panic!("not logged") };
        world.place("k2", 1);
        world.input(Input::Audited(Err(round.entries)));
        let Some(Output::Audit(again)) = world.agent.poll_output(NOW) else { panic!("not tried again") };
        assert!(again.again);
        assert_eq!(again.entries.len(), 2, "the outcome of k1, and k2");
        world.input(Input::Audited(Err(again.entries)));
        assert_eq!(world.refusal(), Refusal::DatabaseDown, "k2 has had no effect");
        assert_eq!(world.agent.under_way(), 1);
        world.receipt();
        assert_eq!(world.logged(), ["order-received", "order-committed placed"]);
        world.place("k2", 1);
        assert_eq!(world.batch().requests.len(), 1, "and it goes on");
    }

    #[test]
    fn what_is_refused_is_logged_as_received_and_as_answered() {
        let mut world = world();
        let mut envelope = world.envelope("k1", 1);
        envelope.terms = world.envelope("k1", 2).terms;
        world.send(to_idc::Kind::Place(envelope));
        world.poll();
        world.refusal();
        world.place("k2", 1);
        let _lost = world.batch();
        world.input(Input::Batch(BatchEnd::NotCommitted));
        world.refusal();
        let refused = ["order-received", "order-answered envelope-rejected"];
        assert_eq!(world.logged()[..2], refused);
        assert_eq!(world.logged()[2..], ["order-received", "order-answered database-down"]);
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
