//! Tests with several agents on each side: attempts through any of them, and logs that are not
//! given.

use super::*;
use crate::audit::entry::Opened;

/// A second in microseconds. Requests are seconds apart, so the end of each link is clearly before
/// or after them.
const SECOND: i64 = 1_000_000;

/// The side of an agent, its name, and its log.
pub(super) type AgentLog = (Side, &'static str, Log);

fn opened(link: u64, peer: &str) -> Event {
    link_to(link, &id(peer))
}

pub(super) fn link_to(link: u64, peer: &str) -> Event {
    Event::TunnelOpened(Opened {
        certificate: Digest::of(peer.as_bytes()),
        group: Word::of("g"),
        link,
        peer: Word::of(peer),
        suite: Word::of("s"),
        transport: None,
    })
}

fn gone(link: u64, peer: &str) -> Event {
    Event::TunnelClosed(Closed { link, peer: Word::of(&id(peer)), reason: Word::of("r") })
}

fn id(peer: &str) -> String {
    format!("spiffe://shop.example/{peer}")
}

/// Returns an agent that serves until second 1,000, with links to all agents of the other side.
fn agent(side: Side, name: &'static str, entries: Log) -> AgentLog {
    let peers = match side {
        Side::Cloud => ["idc/one", "idc/two"],
        Side::Idc => ["cloud/one", "cloud/two"],
    };
    let links = peers.iter().zip(1..).map(|(peer, link)| (0, opened(link, peer)));
    let began = Event::AgentStarted(Started { build: Word::of("0"), name: Word::of(name) });
    let log = [(0, began)].into_iter().chain(links).chain(entries);
    (side, name, log.chain([(1_000 * SECOND, stopped())]).collect())
}

pub(super) fn compare(agents: &[&AgentLog]) -> Reconciled {
    let mut reconciler = Reconciler::new();
    for (side, name, log) in agents {
        let id = reconciler.log(*side, &format!("bridge.internal/{}/{name}", side.code()));
        for (at, event) in log {
            reconciler.take(id, &Entry::new(UnixMicros::new(*at), event.clone()));
        }
        assert_eq!(reconciler.foreign_entry(id), None);
    }
    reconciler.finish()
}

/// Returns another attempt under the key of request `n`, with another order id.
fn again(n: u8, bytes: &[u8]) -> Carried {
    Carried { order: OrderId::new(UnixMicros::new(1), [n | 0x80; 10]), ..carried(n, bytes) }
}

fn replayed(n: u8) -> Ended {
    Ended { replayed: true, ..ended(n, "placed", Some(1)) }
}

/// Returns logs of a key that is sent to the first cloud agent and then, as a storefront may do, to
/// the second one. Each attempt reaches another IDC agent. Each pair of agents also has a request
/// of its own.
pub(super) fn retried() -> [AgentLog; 4] {
    let at = |second: i64, event| (second * SECOND, event);
    let placed = |n| ended(n, "placed", Some(1));
    let mut logs: [Log; 4] = [
        vec![at(10, Event::OrderSent(carried(1, b"a"))), at(13, Event::OrderAnswered(placed(1)))],
        vec![at(20, Event::OrderSent(again(1, b"b"))), at(23, Event::OrderAnswered(replayed(1)))],
        vec![at(11, Event::OrderReceived(carried(1, b"a"))), at(12, Event::OrderCommitted(placed(1)))],
        vec![at(21, Event::OrderReceived(again(1, b"b"))), at(22, Event::OrderCommitted(replayed(1)))],
    ];
    for (n, cloud, idc) in [(11, 0, 2), (12, 0, 3), (21, 1, 2), (22, 1, 3)] {
        let second = i64::from(n) * 10;
        logs[cloud].push(at(second, Event::OrderSent(carried(n, b"s"))));
        logs[idc].push(at(second + 1, Event::OrderReceived(carried(n, b"s"))));
        logs[idc].push(at(second + 2, Event::OrderCommitted(placed(n))));
        logs[cloud].push(at(second + 3, Event::OrderAnswered(placed(n))));
    }
    let [a, b, c, d] = logs;
    let (cloud, idc) = (Side::Cloud, Side::Idc);
    [agent(cloud, "one", a), agent(cloud, "two", b), agent(idc, "one", c), agent(idc, "two", d)]
}

pub(super) fn keys(list: &[Difference]) -> Vec<KeyDigest> {
    let mut keys: Vec<KeyDigest> = list.iter().map(|difference| difference.key).collect();
    keys.sort();
    keys
}

#[test]
fn all_logs_of_two_agents_a_side_agree_in_any_order() {
    let [a, b, c, d] = retried();
    for agents in [[&a, &b, &c, &d], [&d, &c, &b, &a], [&c, &a, &d, &b]] {
        let told = compare(&agents);
        assert_eq!((told.agreed, told.lost, &told.missing), (5, 0, &BTreeSet::new()), "{told:?}");
    }
}

#[test]
fn what_only_a_missing_log_tells_is_no_difference_or_loss() {
    let [a, b, c, d] = retried();
    let missing = |names: &[&str]| names.iter().map(|name| Word::of(&id(name))).collect::<BTreeSet<_>>();
    for (agents, agreed, without, unknown) in [
        (vec![&a, &b, &c], 3, missing(&["idc/two"]), vec![key(12), key(22)]),
        (vec![&b, &c, &d], 2, missing(&["cloud/one"]), vec![key(1), key(11), key(12)]),
        (vec![&b, &c], 1, missing(&["cloud/one", "idc/two"]), vec![key(1), key(11), key(22)]),
        (vec![&a, &d], 1, missing(&["cloud/two", "idc/one"]), vec![key(1), key(11), key(22)]),
    ] {
        let told = compare(&agents);
        let nothing: Vec<Difference> = Vec::new();
        assert_eq!((&told.differences, &told.in_doubt, told.lost), (&nothing, &nothing, 0));
        assert_eq!((told.agreed, &told.missing), (agreed, &without), "{told:?}");
        assert_eq!(keys(&told.not_given), unknown);
        assert!(told.not_given.iter().all(|one| one.agents.is_subset(&without) && !one.agents.is_empty()));
    }
}

#[test]
fn an_entry_removed_from_one_of_four_logs_is_named_alone() {
    let about = |n: u8| {
        move |(_, event): &(i64, Event)| match event {
            Event::OrderSent(carried) | Event::OrderReceived(carried) => carried.key != key(n),
            Event::OrderCommitted(ended) | Event::OrderAnswered(ended) => ended.key != key(n),
            _ => true,
        }
    };
    for (at, n, what) in [
        (3, 12, DifferenceKind::NeverCommitted { answered: Word::of("placed") }),
        (2, 21, DifferenceKind::NeverCommitted { answered: Word::of("placed") }),
        (1, 22, DifferenceKind::NeverSent),
        (0, 11, DifferenceKind::NeverSent),
        // The second attempt has its answer, but the first attempt was received too.
        (0, 1, DifferenceKind::NeverSent),
    ] {
        let mut agents = retried();
        agents[at].2.retain(about(n));
        let told = compare(&agents.each_ref());
        assert_eq!((told.agreed, told.lost, told.in_doubt.len(), told.not_given.len()), (4, 0, 0, 0));
        assert_eq!((told.differences[0].key, &told.differences[0].what), (key(n), &what));
    }
}

#[test]
fn an_answer_unlogged_by_one_of_two_cloud_agents_is_named() {
    let mut agents = retried();
    agents[1].2.retain(|(at, _)| *at != 23 * SECOND);
    let told = compare(&agents.each_ref());
    assert_eq!((told.agreed, told.differences.len()), (4, 1));
    assert_eq!(told.differences[0].what, DifferenceKind::NeverAnswered);
}

#[test]
fn each_try_is_received_as_it_was_sent() {
    let received = |carried: Carried| {
        let mut agents = retried();
        let entry = agents[3].2.iter_mut().find(|(at, _)| *at == 21 * SECOND).unwrap();
        entry.1 = Event::OrderReceived(carried);
        let told = compare(&agents.each_ref());
        assert_eq!((told.agreed, told.differences.len()), (4, 1), "{told:?}");
        told.differences[0].what.clone()
    };
    assert_eq!(received(again(1, b"changed")), DifferenceKind::OtherBytes);
    // The received order, brand or kind differs from the one that was sent.
    assert_eq!(received(carried(1, b"b")), DifferenceKind::OtherBytes);
    assert_eq!(
        received(Carried { action: Word::of("cancel"), ..again(1, b"b") }),
        DifferenceKind::OtherBytes
    );
    let strange = Carried { order: OrderId::new(UnixMicros::new(1), [0x7f; 10]), ..again(1, b"c") };
    assert_eq!(received(strange), DifferenceKind::NeverSent);
}

/// The second attempt is about the same order.
#[test]
fn a_payment_or_cancellation_by_an_agent_without_log_is_no_difference() {
    let pay = |payment: &str| Carried {
        action: Word::of("pay"),
        ciphertext: None,
        payment: Some(Word::of(payment)),
        ..carried(7, b"")
    };
    let cancel = Carried { action: Word::of("cancel"), ciphertext: None, ..carried(7, b"") };
    for (by_one, by_two) in [(pay("first"), pay("second")), (carried(7, b"sealed"), cancel)] {
        let one = agent(Side::Cloud, "one", vec![(70 * SECOND, Event::OrderSent(by_one.clone()))]);
        let received =
            vec![(71 * SECOND, Event::OrderReceived(by_one)), (72 * SECOND, Event::OrderReceived(by_two))];
        let told = compare(&[&one, &agent(Side::Idc, "one", received), &agent(Side::Idc, "two", vec![])]);
        assert_eq!(told.differences, vec![]);
        assert!(told.missing.contains(&Word::of(&id("cloud/two"))), "{told:?}");
    }
}

#[test]
fn an_order_resealed_once_agrees_and_a_third_sealing_does_not() {
    let sealed_again = |received: &[u8]| {
        let mut agents = retried();
        agents[0].2.insert(4, (10 * SECOND, Event::OrderSent(carried(1, b"sealed again"))));
        agents[2].2.insert(4, (11 * SECOND, Event::OrderReceived(carried(1, received))));
        compare(&agents.each_ref())
    };
    let told = sealed_again(b"sealed again");
    assert_eq!((told.agreed, told.differences), (5, vec![]));
    assert_eq!(sealed_again(b"by somebody else").differences[0].what, DifferenceKind::OtherBytes);
}

#[test]
fn a_decommissioned_agent_leaves_no_later_request_in_doubt() {
    let [mut a, mut b, c, mut d] = retried();
    // The second IDC agent ends after its last request, and the cloud agents notice that.
    d.2.pop();
    d.2.push((230 * SECOND, stopped()));
    for log in [&mut a.2, &mut b.2] {
        let end = log.len() - 1;
        log.insert(end, (231 * SECOND, gone(2, "idc/two")));
        let end = log.len() - 1;
        log.insert(end, (500 * SECOND, Event::OrderSent(carried(50, b"later"))));
        let end = log.len() - 1;
        log.insert(end, (503 * SECOND, Event::OrderAnswered(ended(50, "unknown", None))));
    }
    let told = compare(&[&a, &b, &c, &d]);
    assert_eq!((told.agreed, told.lost, told.in_doubt), (5, 0, vec![]), "{:?}", told.differences);
    assert_eq!(told.differences[0].what, DifferenceKind::NeverReceived);
    // The agent has not ended, so its log may end too early.
    let [a, b, c, mut d] = retried();
    d.2.truncate(d.2.len() - 3);
    let told = compare(&[&a, &b, &c, &d]);
    assert_eq!((told.differences, keys(&told.in_doubt)), (vec![], vec![key(22)]));
}

#[test]
fn a_restarted_log_continues_where_the_old_one_ends() {
    let [a, b, c, mut d] = retried();
    let new = d.2.split_off(d.2.len() / 2);
    let told = compare(&[&a, &b, &c, &d, &(Side::Idc, "two", new)]);
    assert_eq!((told.agreed, told.in_doubt, told.differences), (5, vec![], vec![]));
}

#[test]
fn an_agent_that_its_peers_call_otherwise_is_not_taken_for_missing() {
    let mut agents = retried();
    agents[3].1 = "renamed";
    for (_, event) in &mut agents[3].2 {
        if let Event::AgentStarted(started) = event {
            started.name = Word::of("renamed");
        }
    }
    let told = compare(&agents.each_ref());
    assert_eq!((told.agreed, told.missing), (5, BTreeSet::new()));
}

#[test]
fn a_logs_side_is_known_by_its_origin_or_entries() {
    for (origin, side) in [
        ("bridge.internal/cloud/front-1", Some(Side::Cloud)),
        ("bridge.internal/idc/seoul-1", Some(Side::Idc)),
        ("spiffe://shop.example/idc/cloud", Some(Side::Idc)),
        ("shop.example/audit/seoul-1", None),
        ("idc", None),
        ("", None),
    ] {
        assert_eq!(Side::of_origin(origin), side, "{origin}");
    }
    let of = Side::of_event;
    assert_eq!(of(&Event::OrderSent(carried(1, b""))), Some(Side::Cloud));
    assert_eq!(of(&Event::PaymentCommitted(payment("paid"))), Some(Side::Idc));
    assert_eq!(of(&Event::OrderAnswered(ended(1, "busy", None))), None);
    assert_eq!(
        (of(&opened(1, "idc/one")), of(&opened(1, "cloud/one"))),
        (Some(Side::Cloud), Some(Side::Idc))
    );
    assert_eq!(of(&started()), None);
}

#[test]
fn an_entry_of_the_other_side_shows_a_wrongly_named_log() {
    let mut reconciler = Reconciler::new();
    let log = reconciler.log(Side::Cloud, "bridge.internal/cloud/one");
    for event in [started(), Event::OrderReceived(carried(1, b"")), Event::OrderReceived(carried(2, b""))] {
        reconciler.take(log, &Entry::new(UnixMicros::new(1), event));
    }
    assert_eq!(reconciler.foreign_entry(log), Some(1));
}
