//! Tests with requests about one order through several agents. A missing entry is no difference if
//! the log of its agent is not given or ends earlier.

use super::several::{AgentLog, compare, keys, link_to, retried};
use super::*;

const SECOND: i64 = 1_000_000;

/// Returns an attempt to pay. Each attempt has its own payment id, and all of them name the same
/// order.
fn pays(n: u8, try_: &str) -> Carried {
    Carried { action: Word::of("pay"), ciphertext: None, payment: Some(Word::of(try_)), ..carried(n, b"") }
}

fn paid(n: u8, outcome: &str) -> Ended {
    Ended { payment: Some(Word::of("first")), ..ended(n, outcome, None) }
}

/// Returns the logs of a payment that is tried through both cloud agents, each with another IDC
/// agent.
fn paid_twice() -> [AgentLog; 4] {
    let mut agents = retried();
    let at = |second: i64, event| (second * SECOND, event);
    for (agent, entries) in agents.iter_mut().zip([
        [at(300, Event::PaymentSent(pays(30, "first"))), at(303, Event::PaymentAnswered(paid(30, "paid")))],
        [at(320, Event::PaymentSent(pays(30, "second"))), at(323, Event::PaymentAnswered(paid(30, "paid")))],
        [
            at(301, Event::PaymentReceived(pays(30, "first"))),
            at(302, Event::PaymentCommitted(paid(30, "paid"))),
        ],
        [
            at(321, Event::PaymentReceived(pays(30, "second"))),
            at(322, Event::PaymentCommitted(paid(30, "paid"))),
        ],
    ]) {
        let end = agent.2.len() - 1;
        agent.2.splice(end..end, entries);
    }
    agents
}

#[test]
fn a_payment_that_is_tried_through_two_agents_agrees() {
    let agents = paid_twice();
    let told = compare(&agents.each_ref());
    assert_eq!((told.agreed, told.differences, told.in_doubt), (6, vec![], vec![]));
}

#[test]
fn an_attempt_through_an_agent_without_a_log_is_not_other_bytes() {
    let [a, b, c, d] = paid_twice();
    for agents in [[&a, &c, &d], [&b, &c, &d]] {
        let told = compare(&agents);
        assert_eq!((told.differences, told.in_doubt), (vec![], vec![]));
        assert!(keys(&told.not_given).contains(&key(30)));
    }
}

#[test]
fn an_attempt_through_an_agent_whose_log_ends_earlier_is_in_doubt() {
    let [a, mut b, c, d] = paid_twice();
    b.2.retain(|(at, _)| *at < 320 * SECOND);
    let told = compare(&[&a, &b, &c, &d]);
    assert_eq!((told.differences, keys(&told.in_doubt)), (vec![], vec![key(30)]));
    // An attempt long before the log's end is a difference, even if its key is used again much
    // later.
    let [a, b, mut c, d] = paid_twice();
    let end = c.2.len() - 1;
    c.2.insert(end, (302 * SECOND, Event::PaymentReceived(pays(30, "by somebody else"))));
    c.2.insert(end + 1, (2_000 * SECOND, Event::PaymentReceived(pays(30, "first"))));
    let told = compare(&[&a, &b, &c, &d]);
    assert_eq!(
        (keys(&told.differences), &told.differences[0].what),
        (vec![key(30)], &DifferenceKind::NeverSent)
    );
}

/// Returns the logs of a payment that one IDC agent receives and another one concludes. The first
/// cloud agent's log may be left out.
fn concluded_elsewhere() -> [AgentLog; 4] {
    let mut agents = retried();
    let at = |second: i64, event| (second * SECOND, event);
    for (of, entry) in [
        (1, at(300, Event::PaymentSent(pays(30, "first")))),
        (1, at(303, Event::PaymentAnswered(paid(30, "unknown")))),
        (3, at(301, Event::PaymentReceived(pays(30, "first")))),
        (3, at(302, Event::PaymentCommitted(paid(30, "unknown")))),
        (2, at(400, Event::PaymentCommitted(paid(30, "paid")))),
    ] {
        let end = agents[of].2.len() - 1;
        agents[of].2.insert(end, entry);
    }
    agents
}

#[test]
fn a_conclusion_by_another_agent_needs_the_receivers_log() {
    let [a, b, c, d] = concluded_elsewhere();
    let told = compare(&[&a, &b, &c, &d]);
    assert_eq!((told.agreed, told.differences), (6, vec![]));
    for agents in [vec![&a, &c], vec![&b, &c], vec![&a, &b, &c]] {
        let told = compare(&agents);
        assert_eq!((told.differences, told.in_doubt), (vec![], vec![]));
        assert!(keys(&told.not_given).contains(&key(30)));
    }
    // The other agent's log is given, but ends earlier. The entry may be after its end.
    let mut early = d.clone();
    early.2.retain(|(at, _)| *at < 300 * SECOND);
    let told = compare(&[&a, &b, &c, &early]);
    assert_eq!((told.differences, keys(&told.in_doubt)), (vec![], vec![key(30)]));
    // The other agent's log goes on without the entry, so nobody received the payment.
    let mut without = d;
    without.2.retain(|(at, _)| !(300 * SECOND..400 * SECOND).contains(at));
    let told = compare(&[&a, &b, &c, &without]);
    assert_eq!(told.differences[0].what, DifferenceKind::CommittedUnreceived);
}

#[test]
fn a_payments_end_after_its_agents_log_ends_is_in_doubt() {
    let [mut a, b, mut c, d] = paid_twice();
    let end = a.2.len() - 1;
    a.2.insert(end, (900 * SECOND, Event::PaymentAnswered(paid(30, "refunded"))));
    let told = compare(&[&a, &b, &c, &d]);
    let other = DifferenceKind::OtherOutcome { committed: Word::of("paid"), answered: Word::of("refunded") };
    assert_eq!((keys(&told.differences), &told.differences[0].what), (vec![key(30)], &other));
    c.2.retain(|(at, _)| *at < 800 * SECOND);
    let told = compare(&[&a, &b, &c, &d]);
    assert_eq!((told.differences, keys(&told.in_doubt)), (vec![], vec![key(30)]));
}

#[test]
fn an_entry_queued_where_a_running_agents_log_ends_is_in_doubt() {
    // The log lacks the answer of an order, but has a later event.
    let [a, b, c, d] = retried();
    let cut = |mut agent: AgentLog, runs: bool| {
        agent.2.retain(|(at, _)| *at != 113 * SECOND && *at < 114 * SECOND);
        agent.2.push((114 * SECOND, link_to(9, "spiffe://shop.example/idc/one")));
        if !runs {
            agent.2.push((114 * SECOND, stopped()));
        }
        agent
    };
    let told = compare(&[&cut(a.clone(), true), &b, &c, &d]);
    assert_eq!(told.differences, vec![]);
    assert!(keys(&told.in_doubt).contains(&key(11)));
    // The log of an agent that has ended is complete.
    let told = compare(&[&cut(a, false), &b, &c, &d]);
    assert!(keys(&told.differences).contains(&key(11)));
}
