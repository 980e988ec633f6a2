//! Requests whose callers no longer wait: they are refused before a transaction begins, and never
//! one that may be committed.

use super::*;

impl World {
    fn place_in_time(&mut self, key: &str, millis: u32) {
        let envelope = self.envelope(key, 1);
        self.send_in_time(to_idc::Kind::Place(envelope), Some(millis));
    }

    fn set_millis(&mut self, millis: u64) {
        self.agent.set_time(Duration::from_millis(millis));
    }
}

fn keys(batch: &Batch) -> Vec<KeyDigest> {
    batch.requests.iter().map(|request| request.key).collect()
}

#[test]
fn a_late_order_is_refused_before_its_transaction() {
    let mut world = world();
    world.place("k1", 1);
    let slow = world.batch();
    world.place_in_time("k2", 100);
    world.place_in_time("k3", 300);
    world.place("k4", 1);
    world.set_millis(200);
    world.commit(&slow);
    world.receipt();
    let batch = world.batch();
    assert_eq!(keys(&batch), [header("k3").key, header("k4").key]);
    assert_eq!(world.refusal(), Refusal::Late);
    assert_eq!(world.agent.dropped_late(), 1);
    assert!(world.logged().contains(&"order-answered late".to_owned()), "{:?}", world.logged());
    world.set_millis(400);
    world.commit(&batch);
    assert_eq!(world.receipt().0.outcome.code(), "placed", "its transaction had begun in time");
}

#[test]
fn an_order_in_doubt_is_tried_on_although_nobody_waits() {
    let mut world = world();
    world.place_in_time("k1", 100);
    let batch = world.batch();
    world.ledger.commit(&batch);
    world.end(&batch, vec![RequestEnd::Unknown]);
    world.set_millis(200);
    let again = world.batch();
    assert_eq!(keys(&again), [header("k1").key]);
    world.commit(&again);
    assert!(world.receipt().1, "it was committed before");
    assert_eq!(world.agent.dropped_late(), 0);
}

#[test]
fn a_late_order_leaves_the_queue_of_a_held_row() {
    let held = || Awaited::Stock { brand: brand(), sku: Sku::new("SHOE").unwrap() };
    let mut world = world();
    world.place_in_time("k1", 100);
    world.place_in_time("k2", 300);
    let batch = world.batch();
    world.end(&batch, vec![RequestEnd::Waits(held()), RequestEnd::Waits(held())]);
    world.set_millis(200);
    let turn = world.attempt();
    assert_eq!((turn.awaited.clone(), keys(&turn.batch)), (Some(held()), vec![header("k2").key]));
    assert_eq!(world.refusal(), Refusal::Late);
    world.end_of(Some(held()), &turn.batch, vec![RequestEnd::Waits(held())], false);
    world.set_millis(300);
    assert_eq!(world.refusal(), Refusal::Late, "all that wait are late");
    assert_eq!((world.agent.held(), world.agent.under_way()), (0, 0));
    world.place("k3", 1);
    assert_eq!(world.attempt().awaited, None, "the row counts as free until the next try");
}
