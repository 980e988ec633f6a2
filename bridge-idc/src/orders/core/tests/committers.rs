//! Several committers: a batch of one committer does not delay the others, and no key has two
//! effects.

use super::*;

const OTHER: &str = "socks";

/// Creates a world with two committers, two brands and some SKUs of five units each.
fn world_of_two() -> World {
    let price = Money::new(100, Currency::new("KRW").unwrap()).unwrap();
    let offer = |(brand, sku): (&str, &str)| ForSale {
        brand: Brand::new(brand).unwrap(),
        sku: Sku::new(sku).unwrap(),
        price,
        units: 5,
    };
    let limits = OrderLimits {
        window_max: 32,
        committers: 2,
        batch_max: 4,
        batch_lines_max: 100,
        lines_max: 10,
        look_ups_at_once: 2,
    };
    let stock = [("shoes", "SHOE"), ("shoes", "LACE"), (OTHER, "SHOE"), (OTHER, "SOCK")];
    World {
        agent: OrderCore::new(limits, Keyring::for_tests(1)),
        ledger: MemoryLedger::new(stock.map(offer)),
        ..world()
    }
}

impl World {
    /// Sends an order of one unit of each of these SKUs.
    fn order(&mut self, brand: &str, key: &str, skus: &[&str]) {
        let line = |sku: &&str| {
            format!(
                r#"{{"sku": "{sku}", "quantity": 1, "unit_price": {{"amount": 100, "currency": "KRW"}}}}"#
            )
        };
        let lines: Vec<String> = skus.iter().map(line).collect();
        let body = format!(
            r#"{{"lines": [{}], "total": {{"amount": {}, "currency": "KRW"}}, "customer": {{"reference": "c-1"}},
            "delivery": {{"name": "n", "address": ["a"], "country": "KR"}}}}"#,
            lines.join(","),
            100 * lines.len()
        );
        let request = OrderRequest::parse(body.as_bytes(), 10).ok().unwrap();
        let terms = Terms::from(request.terms()).encode_to_vec().into();
        let envelope = self.session.seal(&header_of(brand, key), terms, request.personal()).unwrap();
        self.send(to_idc::Kind::Place(envelope));
    }

    fn end_committed(&mut self, attempt: &Attempt) {
        let ends = self.ledger.commit(&attempt.batch).into_iter().map(RequestEnd::Committed).collect();
        self.end_attempt(attempt, ends, false);
    }

    fn end_attempt(&mut self, attempt: &Attempt, ends: Vec<RequestEnd>, outage: bool) {
        let requests = attempt.batch.requests.iter().cloned().zip(ends).collect();
        let (committer, awaited) = (attempt.committer, attempt.awaited.clone());
        self.input(Input::Batch(AttemptEnd { committer, awaited, requests, outage }));
    }
}

fn header_of(brand: &str, key: &str) -> Header {
    let brand = Brand::new(brand).unwrap();
    let key = IdempotencyKey::parse(key.as_bytes()).unwrap().digest(&brand);
    Header { order: OrderId::new(NOW, *key.as_bytes().first_chunk().unwrap()), brand, key }
}

#[test]
fn another_skus_order_is_committed_while_a_batch_takes_long() {
    let mut world = world_of_two();
    world.order("shoes", "k1", &["SHOE"]);
    let slow = world.attempt();
    world.order("shoes", "k2", &["SHOE"]);
    assert!(world.poll().is_none(), "what needs the same waits for its end");
    assert_eq!(world.logged().len(), 1, "and is not logged before it could be committed");
    world.order(OTHER, "k3", &["SHOE"]);
    let other = world.attempt();
    assert_eq!((slow.committer, other.committer), (0, 1));
    assert_eq!(world.logged().len(), 3, "with the next round goes whatever waits");
    world.end_committed(&other);
    assert_eq!(world.receipt().0.brand.as_str(), OTHER);
    world.end_committed(&slow);
    assert_eq!(world.receipt().0.outcome.code(), "placed");
    let next = world.attempt();
    assert_eq!((next.committer, next.batch.requests[0].key), (0, header("k2").key));
}

#[test]
fn a_cancellation_during_its_orders_commit_is_decided_after_it() {
    let mut world = world_of_two();
    world.order("shoes", "k1", &["SHOE"]);
    let places = world.attempt();
    world.send(cancel(header("k1").order, "c1"));
    assert!(world.poll().is_none(), "the other committer is free, and would not find the order");
    world.end_committed(&places);
    assert_eq!(world.receipt().0.outcome.code(), "placed");
    let cancels = world.attempt();
    world.end_committed(&cancels);
    assert_eq!(world.receipt().0.outcome.code(), "cancelled");
}

#[test]
fn one_key_for_two_orders_is_settled_at_one_committer() {
    let mut world = world_of_two();
    world.order("shoes", "k1", &["SHOE"]);
    let first = world.attempt();
    // The second order has the same key and another body. No other request needs its SKU.
    world.sequence += 10;
    world.order("shoes", "k2", &["LACE"]);
    let beside = world.attempt();
    assert_eq!((first.committer, beside.committer), (0, 1));
    let second = {
        let mut request = beside.batch.requests[0].clone();
        request.key = first.batch.requests[0].key;
        request
    };
    let needs = world.agent.committers.needs_of(&second);
    let pending = |request| Pending { token: world_token(), request, doubtful: false, since: NOW };
    world.agent.committers.admit(pending(second), needs);
    assert!(world.poll().is_none(), "it waits for the committer that has its key");
    world.end_committed(&beside);
    world.receipt();
    assert!(world.poll().is_none(), "however free the other one is");
    world.end_committed(&first);
    world.receipt();
    let late = world.attempt();
    let answer = world.ledger.commit(&late.batch).remove(0);
    assert_eq!(*answer.answer(), store::RequestOutcome::Refused(Refusal::KeyReused));
}

/// Returns a token of a request that expects no answer.
fn world_token() -> Token {
    let order = Bytes::copy_from_slice(header("x").order.as_bytes());
    let kind = Some(to_idc::Kind::Ask(Ask { brand: "shoes".into(), order, key: None }));
    match Receiver::new(8).handle_message(
        LINK,
        0,
        ToIdc { request: 1, kind, sequence: 1, trace: None, remaining_millis: None },
    ) {
        Received::Deliver(token, _) => token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_that_begins_before_an_outage_does_not_end_it() {
    let mut world = world_of_two();
    world.order("shoes", "k1", &["SHOE"]);
    let lost = world.attempt();
    world.order(OTHER, "k2", &["SOCK"]);
    let beside = world.attempt();
    world.order(OTHER, "k3", &["SOCK"]);
    world.ledger.commit(&lost.batch);
    world.end_attempt(&lost, vec![RequestEnd::Unknown], true);
    assert!(world.agent.is_away() && world.agent.is_doubtful());
    assert_eq!(world.refusal(), Refusal::DatabaseDown, "k3 has had no effect");
    let again = world.attempt();
    assert!(again.again && again.batch.requests.len() == 1, "in doubt, and tried again by its committer");
    world.end_committed(&beside);
    assert_eq!(world.receipt().0.brand.as_str(), OTHER);
    assert!(world.agent.is_away(), "its commit may have been before the database went");
    assert!(world.poll().is_none(), "and nothing new begins");
    world.end_committed(&again);
    let (receipt, replayed) = world.receipt();
    assert_eq!((receipt.key, replayed), (header("k1").key, true));
    assert!(!world.agent.is_away());
    world.order("shoes", "k4", &["SHOE"]);
    assert!(!world.attempt().again);
}

/// A trigger of one shop may make its batch exceed the time limit of a working database.
#[test]
fn a_batch_that_takes_too_long_is_no_outage_beside_committed_ones() {
    let mut world = world_of_two();
    world.order("shoes", "k1", &["SHOE"]);
    let slow = world.attempt();
    for key in ["k2", "k3"] {
        world.order(OTHER, key, &["SOCK"]);
        let beside = world.attempt();
        world.end_committed(&beside);
        assert_eq!(world.receipt().0.brand.as_str(), OTHER);
    }
    world.order(OTHER, "k4", &["SOCK"]);
    let beside = world.attempt();
    world.order(OTHER, "k5", &["SOCK"]);
    world.end_attempt(&slow, vec![RequestEnd::NotCommitted], true);
    assert_eq!(world.refusal(), Refusal::DatabaseDown, "nothing of it is committed");
    assert!(!world.agent.is_away(), "the database works for others");
    world.end_committed(&beside);
    assert_eq!(world.receipt().0.brand.as_str(), OTHER);
    let next = world.attempt();
    assert_eq!(next.batch.requests.len(), 1, "what waited is committed, and not refused");
    world.end_attempt(&next, vec![RequestEnd::NotCommitted], true);
    assert_eq!(world.refusal(), Refusal::DatabaseDown);
    assert!(world.agent.is_away(), "since the last that came through, one began and failed");
}

#[test]
fn a_stuck_batch_does_not_keep_the_others_from_asking_the_database() {
    let mut world = world_of_two();
    world.order("shoes", "k1", &["SHOE"]);
    let stuck = world.attempt();
    world.order(OTHER, "k2", &["SOCK"]);
    let failed = world.attempt();
    world.end_attempt(&failed, vec![RequestEnd::NotCommitted], true);
    assert_eq!(world.refusal(), Refusal::DatabaseDown);
    let probe = world.attempt();
    assert_eq!((probe.committer, probe.batch.requests.len(), probe.again), (1, 0, true));
    assert!(world.poll().is_none(), "one that asks is enough");
    world.end_attempt(&probe, Vec::new(), false);
    assert!(!world.agent.is_away());
    world.order(OTHER, "k3", &["SOCK"]);
    assert_eq!(world.attempt().committer, 1);
    world.end_committed(&stuck);
}

#[test]
fn a_row_held_by_another_sets_apart_those_of_one_committer_alone() {
    let mut world = world_of_two();
    world.order("shoes", "k1", &["SHOE"]);
    let first = world.attempt();
    world.end_attempt(&first, vec![RequestEnd::Waits(shoe())], false);
    let turn = world.attempt();
    assert_eq!(turn.awaited, Some(shoe()));
    world.order("shoes", "k2", &["SHOE", "LACE"]);
    assert!(world.poll().is_none(), "behind those who wait for it");
    assert_eq!(world.agent.held(), 2);
    for (key, sku) in [("k3", "LACE"), ("k4", "LACE")] {
        world.order("shoes", key, &[sku]);
        let attempt = world.attempt();
        assert_eq!(attempt.awaited, None, "whoever needs nothing of it goes on");
        world.end_committed(&attempt);
        world.receipt();
    }
    world.end_committed(&turn);
    assert_eq!(world.receipt().0.key, header("k1").key);
}

#[test]
fn a_cancellation_that_meets_a_committers_stock_is_not_held() {
    let mut world = world_of_two();
    world.order("shoes", "k1", &["SHOE"]);
    let placed = world.attempt();
    world.end_committed(&placed);
    world.receipt();
    // A batch of another brand is under way at the first committer, so the shoes go to the second.
    world.order(OTHER, "s1", &["SOCK"]);
    let socks = world.attempt();
    world.send(cancel(header("k1").order, "c1"));
    let cancels = world.attempt();
    world.end_committed(&socks);
    world.receipt();
    world.order("shoes", "k2", &["SHOE"]);
    let shoes = world.attempt();
    assert_ne!(shoes.committer, cancels.committer, "nobody knows what the cancellation gives back");
    world.end_attempt(&cancels, vec![RequestEnd::Waits(shoe())], false);
    assert!(world.poll().is_none(), "it waits for the agent's own batch");
    assert_eq!(world.agent.held(), 0);
    world.end_committed(&shoes);
    world.receipt();
    let again = world.attempt();
    assert_eq!((again.awaited.clone(), again.committer), (None, shoes.committer));
    // The stock is held by another session, not by a committer of this agent.
    world.end_attempt(&again, vec![RequestEnd::Waits(shoe())], false);
    assert_eq!(world.attempt().awaited, Some(shoe()));
}

impl World {
    /// Carries everything out, until nothing is left to do. Each request of a committer's batch
    /// waits for the row of its brand's SKU `SHOE`. Batches for held rows stay under way. Returns
    /// the numbers of the messages that were refused as busy.
    fn hold_every_shoe(&mut self) -> Vec<u64> {
        let mut refused = Vec::new();
        while let Some(output) = self.poll() {
            match output {
                Output::Commit(attempt) if attempt.awaited.is_none() => {
                    let row = |request: &Request| Awaited::Stock {
                        brand: request.brand.clone(),
                        sku: Sku::new("SHOE").unwrap(),
                    };
                    let ends = attempt.batch.requests.iter().map(|request| RequestEnd::Waits(row(request)));
                    self.end_attempt(&attempt, ends.collect(), false);
                }
                Output::Commit(_) => {}
                Output::Send(Reply { message, .. }) => {
                    let busy = to_cloud::Kind::Refused(Refusal::Busy.into());
                    assert_eq!(message.kind, Some(busy), "{}", message.request);
                    refused.push(message.request);
                }
                other => panic!("{other:?}"),
            }
        }
        refused.sort_unstable();
        refused
    }
}

#[test]
fn a_flood_for_a_held_row_refuses_no_other_brand_with_another() {
    let mut world = world_of_two();
    let max = world.agent.held_max();
    assert_eq!(max, 8);
    for number in 1..=12 {
        world.order("shoes", &format!("k{number}"), &["SHOE"]);
    }
    assert_eq!(world.hold_every_shoe(), [9, 10, 11, 12]);
    assert_eq!(world.agent.held(), max);
    // The first ones meet their row in a batch, the others are known to need it.
    for number in 13..=16 {
        world.order(OTHER, &format!("s{number}"), &["SHOE"]);
        let left = world.hold_every_shoe();
        assert!(matches!(left[..], [left] if left <= 8), "{left:?}: the flood's newest leaves for {number}");
        assert_eq!(world.agent.held(), max);
    }
    world.order(OTHER, "s17", &["SHOE"]);
    assert_eq!(world.hold_every_shoe(), [17], "the brand has its share");
    world.order("shoes", "k18", &["SHOE"]);
    assert_eq!(world.hold_every_shoe(), [18], "and so has the flood");
}
