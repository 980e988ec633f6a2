//! Tests of the subscriber, one input at a time.

use bytes::Bytes;

use super::*;
use crate::domain::catalogue::{Code, EntityKey};
use crate::feed::sums::RowSum;
use crate::wire::feed::{Heard, to_publisher};

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn position(seq: u64) -> Position {
    Position { seq, mark: 100 }
}

fn holding(seq: Option<u64>) -> Subscriber {
    let limits = SubscriberLimits { window: 2, silent_after: at(5), sums_every: at(60) };
    Subscriber::new(limits, vec![Brand::new("shoes").unwrap()], seq.map(position))
}

fn begin(subscription: u64, bootstrap: bool) -> ToSubscriber {
    Begin { subscription, bootstrap }.into()
}

fn entry(code: &str) -> Entry {
    let (kind, brand) = (3, "shoes".to_owned());
    Entry { kind, brand, code: code.to_owned(), row: Some(Bytes::from_static(b"row")) }
}

fn page(number: u64, code: &str, seq: Option<u64>) -> ToSubscriber {
    let position = seq.map(|seq| position(seq).into());
    Page { number, entries: vec![entry(code)], position, complete: false }.into()
}

fn last_page(number: u64, code: &str, seq: u64) -> ToSubscriber {
    let position = Some(position(seq).into());
    Page { number, entries: vec![entry(code)], position, complete: true }.into()
}

fn fresh(seq: u64, secs: u64) -> ToSubscriber {
    Fresh { head: Some(position(seq).into()), age_micros: secs * 1_000_000, heard: None }.into()
}

/// Drains the outputs: `apply 1: A =5 complete` is a page with a row that leads to 5 and ends a
/// bootstrap.
fn drain(subscriber: &mut Subscriber) -> Vec<String> {
    std::iter::from_fn(|| subscriber.poll_output())
        .map(|output| match output {
            Output::StartAnew => "start anew".to_owned(),
            Output::Fresh { at } => format!("fresh at {}", at.as_secs()),
            Output::OwnSums => "own sums".to_owned(),
            Output::Drifted { buckets } => format!("drifted in {}", buckets.len()),
            Output::Apply { page, rows, position, complete } => {
                let codes: String = rows.iter().map(|row| format!(" {}", row.key.code)).collect();
                let to = position.map_or_else(String::new, |to| format!(" ={to}"));
                format!("apply {page}:{codes}{to}{}", if complete { " complete" } else { "" })
            }
            Output::Send { link, message } => match message.kind.unwrap() {
                to_publisher::Kind::Subscribe(one) => {
                    let from = one.position.map_or_else(|| "nothing".to_owned(), |at| at.seq.to_string());
                    format!("link {} <- {} from {from}", link.0, one.subscription)
                }
                to_publisher::Kind::Applied(applied) => {
                    format!("link {} <- applied {}", link.0, applied.page)
                }
                to_publisher::Kind::AskSums(_) => format!("link {} <- sums?", link.0),
            },
        })
        .collect()
}

/// Passes on messages that must all be valid.
fn hear(
    subscriber: &mut Subscriber,
    now: Duration,
    link: LinkId,
    messages: Vec<ToSubscriber>,
) -> Vec<String> {
    for message in messages {
        subscriber.handle_message(now, link, message).unwrap();
    }
    drain(subscriber)
}

/// Returns a subscriber that follows link A from 5 on.
fn following() -> Subscriber {
    let mut subscriber = holding(Some(5));
    subscriber.handle_link_up(at(0), A);
    hear(&mut subscriber, at(0), A, vec![begin(1, false)]);
    subscriber
}

#[test]
fn a_bootstrap_is_served_with_the_page_that_completes_it() {
    let mut subscriber = holding(None);
    subscriber.handle_link_up(at(0), A);
    assert_eq!(drain(&mut subscriber), ["link 1 <- 1 from nothing"]);
    let heard = hear(&mut subscriber, at(0), A, vec![begin(1, true), page(1, "A", None), fresh(5, 0)]);
    assert_eq!(heard, ["start anew", "apply 1: A"]);
    subscriber.handle_applied(at(0), 1);
    assert_eq!(
        (drain(&mut subscriber), subscriber.position()),
        (vec!["link 1 <- applied 1".to_owned()], None)
    );
    assert_eq!(hear(&mut subscriber, at(0), A, vec![last_page(2, "B", 5)]), ["apply 2: B =5 complete"]);
    assert_eq!(subscriber.position(), None, "the position is set before the page is applied");
    subscriber.handle_applied(at(0), 2);
    assert_eq!(drain(&mut subscriber), ["link 1 <- applied 2", "fresh at 0"]);
    assert_eq!(subscriber.position(), Some(position(5)));
}

#[test]
fn what_is_held_is_resumed_and_changes_follow() {
    let mut subscriber = following();
    assert_eq!(hear(&mut subscriber, at(0), A, vec![page(1, "A", Some(7))]), ["apply 1: A =7"]);
    subscriber.handle_applied(at(0), 1);
    assert_eq!(drain(&mut subscriber), ["link 1 <- applied 1"]);
    assert_eq!(subscriber.position(), Some(position(7)));
}

#[test]
fn a_page_behind_the_last_head_is_not_another_history() {
    let mut subscriber = following();
    assert_eq!(hear(&mut subscriber, at(3), A, vec![fresh(5, 1)]), ["fresh at 2"]);
    hear(&mut subscriber, at(3), A, vec![page(1, "A", Some(7))]);
    subscriber.handle_applied(at(3), 1);
    assert_eq!(drain(&mut subscriber), ["link 1 <- applied 1"], "there is no new subscription");
    assert_eq!(hear(&mut subscriber, at(4), A, vec![fresh(7, 1)]), ["fresh at 3"]);
}

#[test]
fn a_delayed_heartbeat_makes_nothing_fresher_than_it_was() {
    let mut subscriber = following();
    // The publisher had the subscriber's clock at 3 s. It sent this 2 s later, with an age of 1 s.
    let heard = Some(Heard { clock_micros: 3_000_000, ago_micros: 2_000_000 });
    let told = |heard| Fresh { head: Some(position(5).into()), age_micros: 1_000_000, heard }.into();
    assert_eq!(hear(&mut subscriber, at(9), A, vec![told(heard)]), ["fresh at 4"]);
    let impossible = Some(Heard { clock_micros: u64::MAX, ago_micros: 1 });
    assert_eq!(
        hear(&mut subscriber, at(9), A, vec![told(impossible)]),
        ["fresh at 8"],
        "freshness is never in the future"
    );
}

#[test]
fn served_rows_are_fresh_once_every_page_is_applied() {
    let mut subscriber = following();
    let messages = vec![page(1, "A", Some(6)), page(2, "B", Some(7)), fresh(7, 2)];
    assert_eq!(hear(&mut subscriber, at(9), A, messages), ["apply 1: A =6", "apply 2: B =7"]);
    subscriber.handle_applied(at(9), 1);
    assert_eq!(drain(&mut subscriber), ["link 1 <- applied 1"]);
    subscriber.handle_applied(at(9), 2);
    assert_eq!(drain(&mut subscriber), ["link 1 <- applied 2", "fresh at 7"]);
    assert!(
        hear(&mut subscriber, at(9), A, vec![fresh(8, 0)]).is_empty(),
        "freshness is reported before the page"
    );
    assert!(hear(&mut subscriber, at(9), A, vec![fresh(7, 10)]).is_empty(), "an older freshness is reported");
}

#[test]
fn a_page_out_of_order_or_beyond_the_window_ends_the_link() {
    let cases: [(Vec<ToSubscriber>, Violation); 7] = [
        (vec![page(2, "A", Some(6))], Violation::OutOfOrder { came: 2, expected: 1 }),
        (vec![page(1, "A", Some(6)), page(1, "A", Some(6))], Violation::OutOfOrder { came: 1, expected: 2 }),
        (vec![page(1, "A", None), page(2, "A", None), page(3, "A", None)], Violation::BeyondWindow),
        (vec![page(1, "A", Some(4))], Violation::BadPosition),
        (vec![begin(1, true), page(1, "A", Some(6))], Violation::BadPosition),
        (vec![last_page(1, "A", 6)], Violation::NotBootstrapping),
        (vec![begin(1, true), begin(1, false)], Violation::NothingToResume),
    ];
    for (mut messages, violation) in cases {
        let mut subscriber = following();
        let last = messages.pop().unwrap();
        hear(&mut subscriber, at(0), A, messages);
        assert_eq!(subscriber.handle_message(at(0), A, last), Err(violation));
        let outputs = drain(&mut subscriber);
        assert!(outputs[0].starts_with("link 1 <- 2 from"), "{outputs:?}");
    }
}

#[test]
fn an_unrequested_row_ends_the_link_and_a_later_kind_is_ignored() {
    let foreign = Entry { brand: "tea".to_owned(), ..entry("A") };
    let nameless = Entry { code: String::new(), ..entry("A") };
    for bad in [foreign, nameless] {
        let page = Page { number: 1, entries: vec![bad], position: None, complete: false };
        assert_eq!(following().handle_message(at(0), A, page.into()), Err(Violation::ForeignRow));
    }
    let later = Entry { kind: 99, brand: "No brand".to_owned(), ..entry("A") };
    let page = Page { number: 1, entries: vec![later, entry("B")], position: None, complete: false };
    let messages = vec![ToSubscriber { kind: None }, page.into()];
    assert_eq!(hear(&mut following(), at(0), A, messages), ["apply 1: B"]);
}

#[test]
fn a_dead_or_silent_link_is_left_for_the_least_recently_tried() {
    let mut subscriber = following();
    subscriber.handle_link_up(at(0), B);
    assert!(drain(&mut subscriber).is_empty(), "a second subscription began before the first ended");
    assert_eq!(subscriber.next_timeout(), Some(at(5)));
    subscriber.handle_timeout(at(5));
    assert_eq!(drain(&mut subscriber), ["link 2 <- 2 from 5"]);
    subscriber.handle_link_down(at(6), B);
    assert_eq!(drain(&mut subscriber), ["link 1 <- 3 from 5"]);
    subscriber.handle_link_down(at(6), A);
    assert!(drain(&mut subscriber).is_empty());
    assert_eq!(subscriber.next_timeout(), None);
    subscriber.handle_link_up(at(7), B);
    assert_eq!(drain(&mut subscriber), ["link 2 <- 4 from 5"]);
}

#[test]
fn messages_of_another_link_or_an_earlier_subscription_are_ignored() {
    let mut subscriber = following();
    assert!(hear(&mut subscriber, at(0), B, vec![page(9, "A", None)]).is_empty());
    subscriber.handle_timeout(at(5));
    assert_eq!(drain(&mut subscriber), ["link 1 <- 2 from 5"]);
    let stale = vec![begin(1, true), page(1, "A", None), fresh(9, 0)];
    assert!(hear(&mut subscriber, at(5), A, stale).is_empty());
    let heard = hear(&mut subscriber, at(5), A, vec![begin(2, false), page(1, "A", Some(7))]);
    assert_eq!(heard, ["apply 1: A =7"]);
}

#[test]
fn a_page_applied_late_does_not_count_for_the_next_subscription() {
    let mut subscriber = following();
    let heard = hear(&mut subscriber, at(0), A, vec![page(1, "A", Some(6)), page(2, "B", Some(7))]);
    assert_eq!(heard, ["apply 1: A =6", "apply 2: B =7"]);
    subscriber.handle_link_down(at(1), A);
    subscriber.handle_link_up(at(1), B);
    assert_eq!(drain(&mut subscriber), ["link 2 <- 2 from 5"]);
    let heard = hear(&mut subscriber, at(1), B, vec![begin(2, false), page(1, "C", Some(8))]);
    assert_eq!(heard, ["apply 3: C =8"], "pages are numbered across subscriptions");
    subscriber.handle_applied(at(1), 2);
    assert!(drain(&mut subscriber).is_empty(), "a page of an ended link is confirmed");
    assert_eq!(subscriber.position(), Some(position(7)), "the page is in the replica");
    subscriber.handle_applied(at(1), 3);
    assert_eq!(drain(&mut subscriber), ["link 2 <- applied 1"]);
    assert_eq!(subscriber.position(), Some(position(8)));
}

#[test]
fn a_bootstrap_that_is_interrupted_begins_anew_whatever_is_held() {
    let mut subscriber = following();
    let heard = hear(&mut subscriber, at(0), A, vec![begin(1, true), page(1, "A", None)]);
    assert_eq!(heard, ["start anew", "apply 1: A"]);
    assert_eq!(subscriber.position(), Some(position(5)), "the old rows are served meanwhile");
    subscriber.handle_link_down(at(1), A);
    subscriber.handle_link_up(at(1), B);
    assert_eq!(drain(&mut subscriber), ["link 2 <- 2 from nothing"]);
    let heard = hear(&mut subscriber, at(1), B, vec![begin(2, true), last_page(1, "A", 4)]);
    assert_eq!(heard, ["start anew", "apply 2: A =4 complete"]);
    subscriber.handle_link_down(at(2), B);
    subscriber.handle_applied(at(2), 2);
    subscriber.handle_link_up(at(2), A);
    assert_eq!(drain(&mut subscriber), ["link 1 <- 3 from 4"]);
}

#[test]
fn a_head_of_another_history_is_asked_about() {
    let other = Fresh { head: Some(Position { seq: 5, mark: 101 }.into()), age_micros: 0, heard: None };
    for head in [fresh(4, 0), other.into()] {
        let mut subscriber = following();
        assert_eq!(hear(&mut subscriber, at(1), A, vec![head]), ["link 1 <- 2 from 5"]);
    }
}

fn sums_of(rows: &[&str]) -> Sums {
    let mut sums = Sums::default();
    for row in rows {
        let (brand, code) = (Brand::new("shoes").unwrap(), Code::new("A").unwrap());
        sums.add(RowSum::of(&EntityKey { kind: EntityKind::Product, brand, code }, row.as_bytes()));
    }
    sums
}

fn told(seq: u64, rows: &[&str], unsettled: Vec<u32>) -> ToSubscriber {
    let (head, buckets) = (Some(position(seq).into()), sums_of(rows).as_slice().to_vec());
    WireSums { head, buckets, unsettled }.into()
}

#[test]
fn checksums_are_requested_regularly_and_drift_is_healed_by_a_bootstrap() {
    let mut subscriber = following();
    for now in (4..60).step_by(4) {
        hear(&mut subscriber, at(now), A, vec![fresh(5, 0)]);
    }
    subscriber.handle_timeout(at(60));
    assert_eq!(drain(&mut subscriber), ["link 1 <- sums?"]);
    assert_eq!(hear(&mut subscriber, at(60), A, vec![told(5, &["new"], vec![])]), ["own sums"]);
    subscriber.handle_own_sums(at(60), &sums_of(&["old"]));
    assert_eq!(drain(&mut subscriber), ["drifted in 1", "link 1 <- 2 from nothing"]);
    assert_eq!(
        subscriber.position(),
        Some(position(5)),
        "the old rows are served until the bootstrap is complete"
    );
}

#[test]
fn sums_are_compared_when_the_replica_is_where_they_were_read() {
    let mut subscriber = following();
    assert!(hear(&mut subscriber, at(0), A, vec![told(6, &["2"], vec![])]).is_empty());
    assert_eq!(hear(&mut subscriber, at(0), A, vec![page(1, "B", Some(6))]), ["apply 1: B =6"]);
    subscriber.handle_applied(at(0), 1);
    assert_eq!(drain(&mut subscriber), ["link 1 <- applied 1", "own sums"]);
    subscriber.handle_own_sums(at(0), &sums_of(&["1"]));
    assert_eq!(drain(&mut subscriber)[0], "drifted in 1");
}

#[test]
fn a_bucket_with_an_unnumbered_change_or_newer_row_is_not_drifted() {
    let all: Vec<u32> = (0..256).collect();
    let cases = [
        vec![told(5, &["2"], all), page(1, "B", Some(6))],
        // A unit was taken and returned. The source's sum is as before, but the replica may have
        // the row from between.
        vec![told(6, &["2"], vec![]), page(1, "A", Some(6))],
    ];
    for messages in cases {
        let mut subscriber = following();
        hear(&mut subscriber, at(0), A, messages);
        subscriber.handle_applied(at(0), 1);
        drain(&mut subscriber);
        subscriber.handle_own_sums(at(0), &sums_of(&["1"]));
        assert!(drain(&mut subscriber).is_empty());
        assert_eq!(subscriber.next_timeout(), Some(COMPARE_AGAIN_AFTER), "the sums are compared again soon");
    }
}

#[test]
fn checksums_after_a_bootstrap_are_not_compared_with_replaced_rows() {
    let mut subscriber = following();
    let messages = vec![begin(1, true), last_page(1, "A", 3), told(3, &["2"], vec![])];
    assert_eq!(hear(&mut subscriber, at(0), A, messages), ["start anew", "apply 1: A =3 complete"]);
    subscriber.handle_applied(at(0), 1);
    assert_eq!(drain(&mut subscriber), ["link 1 <- applied 1", "own sums"]);
}

#[test]
fn sums_of_another_history_are_not_compared() {
    assert!(hear(&mut following(), at(0), A, vec![told(4, &["2"], vec![])]).is_empty());
}

#[test]
fn sums_that_come_during_a_bootstrap_are_of_no_use() {
    let mut subscriber = following();
    let messages = vec![begin(1, true), told(5, &["1"], vec![])];
    assert_eq!(hear(&mut subscriber, at(0), A, messages), ["start anew"]);
    let bad = WireSums { head: Some(position(5).into()), buckets: vec![0; 3], unsettled: vec![] };
    assert_eq!(following().handle_message(at(0), A, bad.into()), Err(Violation::BadSums));
}
