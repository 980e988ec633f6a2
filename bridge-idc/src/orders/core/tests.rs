//! The order core, one input at a time.

/// Questions about orders.
mod questions;

/// Several committers.
mod committers;

/// Requests whose callers no longer wait.
mod deadlines;

/// Limits of brands whose orders wait for held rows.
mod limits;

use bridge_protocol::audit::Event;
use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::domain::{Currency, IdempotencyKey, Money, Sku};
use bridge_protocol::receipt::{self, Receipt};
use bridge_protocol::seal::sealing::{Header, SealingSession};
use bridge_protocol::wire::order::{Ask, Cancel, Envelope, Terms, ToCloud, to_idc};
use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::orders::store::memory::{ForSale, MemoryLedger};

const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);
const LINK: LinkId = LinkId(1);

/// An order core, its ledger with five shoes, and a cloud agent that seals to it.
struct World {
    log: Vec<Entry>,
    agent: OrderCore,
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
    let limits = OrderLimits {
        window_max: 8,
        committers: 1,
        batch_max: 4,
        batch_lines_max: 100,
        lines_max: 10,
        look_ups_at_once: 2,
    };
    World {
        log: Vec::new(),
        agent: OrderCore::new(limits, keys),
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
        self.envelope_of(key, "SHOE", units)
    }

    fn envelope_of(&mut self, key: &str, sku: &str, units: i64) -> Envelope {
        let total = units * 100;
        let body = format!(
            r#"{{"lines": [{{"sku": "{sku}", "quantity": {units}, "unit_price": {{"amount": 100, "currency": "KRW"}}}}],
            "total": {{"amount": {total}, "currency": "KRW"}}, "customer": {{"reference": "c-1"}},
            "delivery": {{"name": "n", "address": ["a"], "country": "KR"}}}}"#
        );
        let request = OrderRequest::parse(body.as_bytes(), 10).ok().unwrap();
        let terms = Terms::from(request.terms()).encode_to_vec().into();
        self.session.seal(&header(key), terms, request.personal()).unwrap()
    }

    fn send(&mut self, kind: to_idc::Kind) {
        self.send_in_time(kind, None);
    }

    /// Sends a request whose caller waits for this time.
    fn send_in_time(&mut self, kind: to_idc::Kind, remaining_millis: Option<u32>) {
        self.sequence += 1;
        let (request, sequence) = (self.sequence, self.sequence);
        let message = ToIdc { request, kind: Some(kind), sequence, trace: None, remaining_millis };
        self.input(Input::Message { link: LINK, lane: 0, message });
    }

    fn place(&mut self, key: &str, units: i64) {
        let envelope = self.envelope(key, units);
        self.send(to_idc::Kind::Place(envelope));
    }

    fn input(&mut self, input: Input) {
        self.agent.handle(input, NOW, &mut rand::rng());
    }

    /// Returns the next output after any decapsulations, which are done at once.
    fn output(&mut self) -> Option<Output> {
        loop {
            match self.agent.poll_output(NOW) {
                Some(Output::Decapsulate { link, session }) => {
                    self.input(Input::Decapsulated { link, session: session.decapsulate() });
                }
                other => return other,
            }
        }
    }

    /// Returns the next output that is not for the audit log. The log makes every round durable at
    /// once.
    fn poll(&mut self) -> Option<Output> {
        loop {
            match self.output() {
                Some(Output::Audit(round)) => {
                    self.log.extend(round.entries);
                    self.input(Input::Audited(Ok(())));
                }
                other => return other,
            }
        }
    }

    /// Returns the entries of the audit log, by kind and outcome.
    fn logged(&self) -> Vec<String> {
        let told = |entry: &Entry| match &entry.event {
            Event::OrderCommitted(ended) | Event::OrderAnswered(ended) => {
                format!("{} {}", entry.event.kind(), ended.outcome)
            }
            other => other.kind().to_owned(),
        };
        self.log.iter().map(told).collect()
    }

    fn attempt(&mut self) -> Attempt {
        match self.poll() {
            Some(Output::Commit(attempt)) => attempt,
            other => panic!("no batch: {other:?}"),
        }
    }

    fn batch(&mut self) -> Batch {
        self.attempt().batch
    }

    fn commit(&mut self, batch: &Batch) {
        let ends = self.ledger.commit(batch).into_iter().map(RequestEnd::Committed).collect();
        self.end(batch, ends);
    }

    /// Ends a committer's batch with these ends of its requests. If one of them is unknown, the
    /// database counts as down.
    fn end(&mut self, batch: &Batch, ends: Vec<RequestEnd>) {
        let outage = ends.iter().any(|end| matches!(end, RequestEnd::Unknown));
        self.end_of(None, batch, ends, outage);
    }

    fn end_of(&mut self, awaited: Option<Awaited>, batch: &Batch, ends: Vec<RequestEnd>, outage: bool) {
        assert_eq!(batch.requests.len(), ends.len());
        let requests = batch.requests.iter().cloned().zip(ends).collect();
        self.input(Input::Batch(AttemptEnd { committer: 0, awaited, requests, outage }));
    }

    fn answer(&mut self) -> ToCloud {
        match self.poll() {
            Some(Output::Send(reply)) => reply.message,
            other => panic!("no answer: {other:?}"),
        }
    }

    /// Returns the receipt of the next answer, verified as the cloud agent does, and true if it is
    /// a replay.
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
fn nothing_is_committed_before_logging_nor_answered_before_its_outcome_is() {
    let mut world = world();
    world.place("k1", 1);
    let Some(Output::Audit(received)) = world.output() else { panic!("not logged") };
    assert!(world.output().is_none(), "no commit before the entry is durable");
    world.place("k2", 1);
    assert!(world.output().is_none(), "one round at a time");
    world.input(Input::Audited(Ok(())));
    let Some(Output::Audit(next)) = world.output() else { panic!("k2 is not logged") };
    let Some(Output::Commit(Attempt { batch, .. })) = world.output() else { panic!("no commit") };
    world.commit(&batch);
    assert!(world.output().is_none(), "the outcome waits for the round under way");
    world.input(Input::Audited(Ok(())));
    let Some(Output::Audit(committed)) = world.output() else { panic!("not logged") };
    let commit = world.output();
    assert!(
        matches!(&commit, Some(Output::Commit(attempt)) if attempt.batch.requests.len() == 1),
        "{commit:?}"
    );
    assert!(world.output().is_none(), "no answer before the entry is durable");
    world.input(Input::Audited(Ok(())));
    world.receipt();
    world.log = [received, next, committed].into_iter().flat_map(|round| round.entries).collect();
    assert_eq!(world.logged(), ["order-received", "order-received", "order-committed placed"]);
}

#[test]
fn while_the_log_fails_orders_are_refused_and_committed_ones_wait() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    world.commit(&batch);
    let Some(Output::Audit(round)) = world.output() else { panic!("not logged") };
    world.place("k2", 1);
    world.input(Input::Audited(Err(round.entries)));
    let Some(Output::Audit(again)) = world.output() else { panic!("not tried again") };
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
    let lost = world.batch();
    world.end(&lost, vec![RequestEnd::NotCommitted]);
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
fn requests_during_a_commit_are_logged_with_the_batchs_outcome() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    world.place("k2", 1);
    world.place("k3", 1);
    assert!(world.poll().is_none());
    assert_eq!(world.logged(), ["order-received"], "k2 and k3 could not be committed yet");
    world.commit(&batch);
    let Some(Output::Audit(round)) = world.output() else { panic!("no round") };
    let kinds: Vec<&str> = round.entries.iter().map(|entry| entry.event.kind()).collect();
    assert_eq!(kinds, ["order-received", "order-received", "order-committed"]);
    assert!(world.output().is_none(), "nothing is committed or told before that");
}

#[test]
fn an_orders_state_is_told_only_once_its_cause_is_logged() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    let (order, other) = (header("k1").order, header("k2").order);
    // A look-up at this time may see the batch committed before the core knows its end.
    for order in [order, other] {
        let (brand, order) = (brand().as_str().to_owned(), Bytes::copy_from_slice(order.as_bytes()));
        world.send(to_idc::Kind::Ask(Ask { brand, order, key: None }));
    }
    for asked in [order, other] {
        let Some(Output::LookUp { token, order, .. }) = world.poll() else { panic!("not looked up") };
        assert_eq!(order, asked);
        let order = Bytes::copy_from_slice(order.as_bytes());
        let found = State { order, state: "placed".to_owned(), ..State::default() };
        world.input(Input::LookedUp { token, found: Ok(Some(found)) });
    }
    let told = world.answer();
    let Some(to_cloud::Kind::State(state)) = told.kind else { panic!("not told: {told:?}") };
    assert_eq!(state.order, other.as_bytes()[..], "of it nothing is under way");
    world.commit(&batch);
    let Some(Output::Audit(round)) = world.output() else { panic!("no round") };
    assert!(world.output().is_none(), "its entry is not durable yet");
    // The log is full. Outcomes that are committed must wait, and questions about them as well.
    world.input(Input::Audited(Err(round.entries)));
    let Some(Output::Audit(_)) = world.output() else { panic!("no second try") };
    assert!(world.output().is_none());
    world.input(Input::Audited(Ok(())));
    assert!(matches!(world.answer().kind, Some(to_cloud::Kind::Settled(_))));
    assert!(matches!(world.answer().kind, Some(to_cloud::Kind::State(_))));

    // An order of a batch in doubt may be committed.
    let mut world = self::world();
    world.place("k1", 1);
    let batch = world.batch();
    world.ledger.commit(&batch);
    world.end(&batch, vec![RequestEnd::Unknown]);
    let again = world.batch();
    let order = Bytes::copy_from_slice(header("k1").order.as_bytes());
    world.send(to_idc::Kind::Ask(Ask {
        brand: brand().as_str().to_owned(),
        order: order.clone(),
        key: None,
    }));
    let Some(Output::LookUp { token, .. }) = world.poll() else { panic!("not looked up") };
    world.input(Input::LookedUp { token, found: Ok(Some(State { order, ..State::default() })) });
    assert!(world.poll().is_none());
    world.commit(&again);
    assert!(matches!(world.answer().kind, Some(to_cloud::Kind::Settled(_))));
    assert!(matches!(world.answer().kind, Some(to_cloud::Kind::State(_))));
}

#[test]
fn a_batch_in_doubt_is_committed_again_before_any_new_one() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    world.place("k2", 1);
    world.ledger.commit(&batch);
    world.end(&batch, vec![RequestEnd::Unknown]);
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
    let lost = world.batch();
    world.end(&lost, vec![RequestEnd::NotCommitted]);
    assert_eq!(world.refusal(), Refusal::DatabaseDown);
    assert_eq!(world.agent.under_way(), 0);
}

#[test]
fn a_batch_uncommitted_at_the_second_try_may_be_at_the_first() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    world.ledger.commit(&batch);
    world.end(&batch, vec![RequestEnd::Unknown]);
    let again = world.batch();
    world.end(&again, vec![RequestEnd::NotCommitted]);
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
fn a_key_with_another_order_is_refused_and_the_same_replayed() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    world.commit(&batch);
    world.receipt();
    world.place("k1", 2);
    world.place("k1", 1);
    // Both requests have the same order id here, because it comes from the key. So the second one
    // waits for the first one's answer.
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

/// Returns the stock that every order needs here.
fn shoe() -> Awaited {
    Awaited::Stock { brand: brand(), sku: Sku::new("SHOE").unwrap() }
}

fn cancel(order: OrderId, key: &str) -> to_idc::Kind {
    to_idc::Kind::Cancel(Cancel {
        brand: "shoes".into(),
        order: Bytes::copy_from_slice(order.as_bytes()),
        key: Bytes::copy_from_slice(header(key).key.as_bytes()),
    })
}

#[test]
fn what_somebody_else_holds_is_waited_for_apart_and_answered_by_itself() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    world.end(&batch, vec![RequestEnd::Waits(shoe())]);
    let Attempt { awaited, again, batch: held, .. } = world.attempt();
    assert_eq!((awaited, again, held.requests.len()), (Some(shoe()), false, 1));
    assert!(world.poll().is_none(), "nobody is told that nothing happened");

    // Requests that do not need the row are committed. Requests about a waiting order wait behind
    // it.
    world.send(cancel(header("other").order, "c2"));
    world.send(cancel(header("k1").order, "c1"));
    let batch = world.batch();
    assert_eq!(batch.requests.len(), 1, "of the other order");
    world.commit(&batch);
    assert_eq!(world.refusal(), Refusal::NotFound);

    world.end_of(Some(shoe()), &held, vec![RequestEnd::Waits(shoe())], false);
    let Attempt { awaited, again, batch: held, .. } = world.attempt();
    assert_eq!((awaited, again, held.requests.len()), (Some(shoe()), true, 2), "in the order of admission");
    let ends = world.ledger.commit(&held).into_iter().map(RequestEnd::Committed).collect();
    world.end_of(Some(shoe()), &held, ends, false);
    assert_eq!(world.receipt().0.outcome.code(), "placed");
    assert_eq!(world.receipt().0.outcome.code(), "cancelled");
    assert_eq!((world.agent.held(), world.agent.under_way()), (0, 0));
    world.place("k3", 1);
    assert!(world.attempt().awaited.is_none(), "nobody waits for it any more");
}

#[test]
fn a_request_about_an_order_that_changed_its_queue_follows_it() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    world.end(&batch, vec![RequestEnd::Waits(shoe())]);
    let Attempt { batch: held, .. } = world.attempt();
    world.send(cancel(header("k1").order, "c1"));
    let sock = Awaited::Stock { brand: brand(), sku: Sku::new("SOCK").unwrap() };
    world.end_of(Some(shoe()), &held, vec![RequestEnd::Waits(sock.clone())], false);
    let Attempt { awaited, batch, .. } = world.attempt();
    assert_eq!((awaited, batch.requests.len()), (Some(sock), 2), "its cancellation is not decided before it");
    assert_eq!(world.agent.held(), 2, "those that are tried count as well");
}

#[test]
fn a_flood_for_a_held_row_keeps_to_its_share_throughout() {
    let mut world = world();
    let waits = |batch: &Batch| batch.requests.iter().map(|_| RequestEnd::Waits(shoe())).collect();
    let mut turn = None;
    for number in 0..20 {
        world.place(&format!("k{number}"), 1);
        while let Some(output) = world.poll() {
            match output {
                // The committer's batch finds the row held.
                Output::Commit(Attempt { awaited: None, batch, .. }) => world.end(&batch, waits(&batch)),
                Output::Commit(held) => turn = Some(held),
                _ => {}
            }
        }
        assert!(world.agent.under_way() <= world.agent.held_max(), "{}", world.agent.under_way());
        if let Some(Attempt { awaited, batch, .. }) = turn.take_if(|_| number % 3 == 2) {
            world.end_of(awaited, &batch, waits(&batch), false);
        }
    }
}

#[test]
fn waiting_requests_keep_to_their_share_and_the_rest_is_refused() {
    let mut world = world();
    for key in ["k1", "k2", "k3"] {
        world.place(key, 1);
    }
    let batch = world.batch();
    world.end(&batch, batch.requests.iter().map(|_| RequestEnd::Waits(shoe())).collect());
    assert_eq!(world.refusal(), Refusal::Busy, "a window of eight has room for two");
    assert_eq!((world.agent.held_max(), world.agent.under_way()), (2, 2));
}

#[test]
fn what_may_be_committed_is_never_refused_however_many_wait() {
    let mut world = world();
    let sock = || Awaited::Stock { brand: brand(), sku: Sku::new("SOCK").unwrap() };
    world.place("s1", 1);
    world.place("s2", 1);
    let batch = world.batch();
    world.end(&batch, vec![RequestEnd::Waits(sock()), RequestEnd::Waits(sock())]);
    let waits = world.attempt();
    assert_eq!((waits.awaited, waits.batch.requests.len()), (Some(sock()), 2));
    world.end_of(
        Some(sock()),
        &waits.batch,
        vec![RequestEnd::Waits(sock()), RequestEnd::Waits(sock())],
        false,
    );
    assert_eq!(world.agent.held(), world.agent.held_max());

    world.place("k1", 1);
    let batch = world.batch();
    world.end(&batch, vec![RequestEnd::Unknown]);
    let again = world.batch();
    world.end(&again, vec![RequestEnd::Waits(shoe())]);
    assert!(world.agent.is_doubtful());
    let mut attempts = [world.attempt(), world.attempt()];
    attempts.sort_by_key(|attempt| attempt.awaited == Some(sock()));
    let [held, _] = attempts;
    assert_eq!(held.awaited, Some(shoe()), "there was no room, and it waits");
    world.end_of(held.awaited.clone(), &held.batch, vec![RequestEnd::NotCommitted], false);
    assert!(world.poll().is_none(), "nobody is told that nothing happened");
    assert_eq!(world.agent.under_way(), 2);
}

#[test]
fn the_uncommitted_part_of_a_batch_is_refused_and_the_rest_answered() {
    let mut world = world();
    world.place("k1", 1);
    world.place("k2", 1);
    world.place("k3", 1);
    let batch = world.batch();
    let first = Batch { requests: batch.requests[..1].to_vec(), at: batch.at };
    let committed = world.ledger.commit(&first).into_iter().map(RequestEnd::Committed);
    world.end_of(
        None,
        &batch,
        committed.chain([RequestEnd::Unknown, RequestEnd::NotCommitted]).collect(),
        true,
    );
    assert_eq!(world.refusal(), Refusal::DatabaseDown);
    assert_eq!(world.receipt().0.key, header("k1").key);
    let again = world.attempt();
    assert_eq!(again.batch.requests.len(), 1, "the one that nobody can tell about");
    assert!(again.again);
}

#[test]
fn a_failing_database_gets_empty_batches_until_it_works() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    world.end_of(None, &batch, vec![RequestEnd::NotCommitted], true);
    assert_eq!(world.refusal(), Refusal::DatabaseDown);
    assert!(world.agent.is_away() && !world.agent.is_doubtful());
    let probe = world.attempt();
    assert!(probe.batch.requests.is_empty() && probe.again);
    world.place("k2", 1);
    assert_eq!(world.refusal(), Refusal::DatabaseDown);
    world.end_of(None, &probe.batch, Vec::new(), true);
    let probe = world.attempt();
    world.end_of(None, &probe.batch, Vec::new(), false);
    world.place("k3", 1);
    assert_eq!(world.batch().requests.len(), 1);
}

#[test]
fn a_silent_database_is_asked_and_is_away_without_an_answer() {
    let mut world = world();
    world.input(Input::AskDatabase);
    let probe = world.attempt();
    assert!(probe.batch.requests.is_empty() && !probe.again);
    world.end_of(None, &probe.batch, Vec::new(), true);
    assert!(world.agent.is_away() && world.attempt().again);
}

#[test]
fn an_order_for_another_agents_key_returns_and_opens_once_it_arrives() {
    let mut world = world();
    let other = Keyring::for_tests(2);
    let key = other.manifest().keys[0].clone();
    world.session = SealingSession::start(&key, NOW, &mut rand::rng()).unwrap();
    world.place("k1", 1);
    assert!(matches!(world.poll(), Some(Output::Rejected { .. })));
    let Some(to_cloud::Kind::Refused(refused)) = world.answer().kind else { panic!("not refused") };
    assert_eq!((refused.refusal(), &refused.key_id[..]), (Refusal::UnknownKey, &key.id.0[..]));
    world.input(Input::Keys(other.into()));
    world.place("k1", 1);
    assert_eq!(world.batch().requests.len(), 1);
}
