//! Tests of the publisher, one input at a time.

use super::*;
use crate::domain::catalogue::{Code, EntityKind};
use crate::wire::feed::{Applied, AskSums, to_subscriber};
use crate::wire::frame::FEED_FRAME_BYTES_MAX;
use prost::Message as _;

fn publisher() -> Publisher {
    Publisher::new(PublisherLimits { rows_max: 10, window_max: 2, fresh_every: Duration::from_secs(1) })
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn position(seq: u64) -> Position {
    Position { seq, mark: 100 }
}

fn head(seq: u64) -> Head {
    Head { position: position(seq), swept_at: at(0) }
}

fn row(code: &str) -> Row {
    sized(code, 1)
}

fn sized(code: &str, bytes: usize) -> Row {
    let (brand, code) = (Brand::new("shoes").unwrap(), Code::new(code).unwrap());
    Row { key: EntityKey { kind: EntityKind::Product, brand, code }, row: Some(vec![b'r'; bytes].into()) }
}

fn subscribe(held: Option<Position>, subscription: u64) -> ToPublisher {
    let (brands, position) = (vec!["shoes".to_owned()], held.map(Into::into));
    Subscribe { brands, position, window: 8, subscription }.into()
}

fn page(codes: &[&str], last: bool) -> Result<ReadResult, ReadFailed> {
    Ok(ReadResult::Page { rows: codes.iter().map(|code| row(code)).collect(), last })
}

fn changes(codes: &[&str], seq: u64) -> Result<ReadResult, ReadFailed> {
    Ok(ReadResult::Changes { rows: codes.iter().map(|code| row(code)).collect(), position: position(seq) })
}

/// Drains the outputs: `page 1: A B =5 complete` is a page with two rows that leads to 5 and ends a
/// bootstrap.
fn drain(publisher: &mut Publisher) -> Vec<String> {
    std::iter::from_fn(|| publisher.poll_output()).map(|output| told(&output)).collect()
}

fn told(output: &Output) -> String {
    match output {
        Output::TooLarge(key) => format!("{} is too large", key.code),
        Output::Read { read: Read::Page { after, .. }, .. } => {
            format!("read rows after {}", after.as_ref().map_or("-", |key| key.code.as_str()))
        }
        Output::Read { read: Read::Changes { after, .. }, .. } => format!("read changes after {after}"),
        Output::Read { read: Read::Sums, .. } => "read sums".to_owned(),
        Output::Send(message) => match message.kind.as_ref().unwrap() {
            to_subscriber::Kind::Begin(begin) => {
                format!("begin {} {}", begin.subscription, if begin.bootstrap { "anew" } else { "on" })
            }
            to_subscriber::Kind::Page(page) => {
                let mut text = format!("page {}:", page.number);
                for entry in &page.entries {
                    text += &format!(" {}{}", if entry.row.is_some() { "" } else { "!" }, entry.code);
                }
                text += &page.position.map_or_else(String::new, |to| format!(" ={}", to.seq));
                text + if page.complete { " complete" } else { "" }
            }
            to_subscriber::Kind::Fresh(fresh) => {
                format!("head {} {} ms ago", fresh.head.unwrap().seq, fresh.age_micros / 1_000)
            }
            to_subscriber::Kind::Sums(sums) => {
                format!("sums at {}", sums.head.unwrap().seq)
            }
        },
    }
}

/// Returns a publisher that has a head and a subscription.
fn subscribed(held: Option<Position>, seq: u64) -> Publisher {
    let mut publisher = publisher();
    publisher.handle_head(at(0), head(seq));
    publisher.handle_message(at(0), subscribe(held, 1)).unwrap();
    publisher
}

/// Returns a publisher whose subscriber has confirmed this position.
fn following(seq: u64) -> Publisher {
    let mut publisher = subscribed(Some(position(seq)), seq);
    publisher.handle_found(at(0), changes(&[], seq));
    applied(&mut publisher, 1);
    drain(&mut publisher);
    publisher
}

fn applied(publisher: &mut Publisher, page: u64) {
    publisher.handle_message(at(0), Applied { page }.into()).unwrap();
}

#[test]
fn a_bootstrap_sends_the_rows_and_replays_what_changed_meanwhile() {
    let mut publisher = subscribed(None, 5);
    assert_eq!(drain(&mut publisher), ["begin 1 anew", "head 5 0 ms ago", "read rows after -"]);
    publisher.handle_found(at(0), page(&["A", "B"], false));
    assert_eq!(drain(&mut publisher), ["page 1: A B", "read rows after B"]);
    publisher.handle_head(at(0), head(8));
    publisher.handle_found(at(0), page(&["C"], true));
    assert_eq!(drain(&mut publisher), ["page 2: C"], "the publisher goes on when there is room");
    applied(&mut publisher, 2);
    assert_eq!(drain(&mut publisher), ["read changes after 5"]);
    publisher.handle_found(at(0), changes(&["A"], 7));
    assert_eq!(
        drain(&mut publisher),
        ["page 3: A", "read changes after 7"],
        "at 7, some changes after 5 are still missing"
    );
    publisher.handle_found(at(0), changes(&["B"], 8));
    assert_eq!(drain(&mut publisher), ["page 4: B =8 complete", "head 8 0 ms ago"]);
}

#[test]
fn a_bootstrap_waits_until_the_head_is_known() {
    let mut publisher = publisher();
    publisher.handle_message(at(0), subscribe(None, 1)).unwrap();
    assert_eq!(drain(&mut publisher), ["begin 1 anew"]);
    publisher.handle_head(at(1), head(5));
    assert_eq!(drain(&mut publisher), ["head 5 1 ms ago", "read rows after -"]);
}

#[test]
fn a_position_that_is_kept_is_resumed() {
    let mut publisher = subscribed(Some(position(3)), 5);
    assert_eq!(drain(&mut publisher), ["head 5 0 ms ago", "read changes after 3"]);
    publisher.handle_found(at(0), changes(&["A"], 5));
    assert_eq!(drain(&mut publisher), ["begin 1 on", "page 1: A =5", "head 5 0 ms ago"]);
    publisher.handle_head(at(0), head(6));
    assert_eq!(drain(&mut publisher), ["read changes after 5"]);
}

#[test]
fn a_position_before_the_first_change_is_no_position() {
    let mut publisher = subscribed(Some(Position::default()), 5);
    assert_eq!(drain(&mut publisher)[0], "begin 1 anew");
}

#[test]
fn whatever_is_lost_begins_anew_at_any_time() {
    let anew = ["begin 1 anew", "read rows after -"];
    let mut resuming = subscribed(Some(position(3)), 5);
    drain(&mut resuming);
    resuming.handle_found(at(0), Ok(ReadResult::Lost));
    assert_eq!(drain(&mut resuming), anew);

    resuming.handle_found(at(0), page(&[], true));
    assert_eq!(drain(&mut resuming), ["read changes after 5"]);
    resuming.handle_found(at(0), Ok(ReadResult::Lost));
    assert_eq!(drain(&mut resuming), anew, "the source was restored between rows and changes");

    let mut following = following(5);
    following.handle_head(at(0), head(6));
    drain(&mut following);
    following.handle_found(at(0), Ok(ReadResult::Lost));
    assert_eq!(drain(&mut following), anew);
}

#[test]
fn no_more_pages_are_under_way_than_the_window_allows() {
    let mut publisher = subscribed(Some(position(3)), 5);
    drain(&mut publisher);
    let rows = ["A", "B", "C"].map(|code| sized(code, FEED_PAGE_BYTES)).to_vec();
    publisher.handle_found(at(0), Ok(ReadResult::Changes { rows, position: position(5) }));
    assert_eq!(drain(&mut publisher), ["begin 1 on", "page 1: A", "page 2: B"]);
    publisher.handle_head(at(0), head(6));
    assert!(drain(&mut publisher).is_empty(), "something is read meanwhile");
    applied(&mut publisher, 1);
    assert_eq!(drain(&mut publisher), ["page 3: C"]);
    applied(&mut publisher, 2);
    assert_eq!(drain(&mut publisher), ["page 4: =5"]);
    applied(&mut publisher, 4);
    assert_eq!(drain(&mut publisher), ["read changes after 5"]);
    let refused = publisher.handle_message(at(0), Applied { page: 5 }.into());
    assert_eq!(refused, Err(Violation::NeverSent { page: 5, sent: 4 }));
}

#[test]
fn a_row_that_is_too_large_counts_as_gone() {
    let mut publisher = following(5);
    publisher.handle_head(at(0), head(6));
    let rows = vec![sized("A", FEED_ROW_BYTES_MAX + 1), sized("B", FEED_ROW_BYTES_MAX)];
    publisher.handle_found(at(0), Ok(ReadResult::Changes { rows, position: position(6) }));
    let outputs: Vec<_> = std::iter::from_fn(|| publisher.poll_output()).collect();
    let text: Vec<_> = outputs.iter().map(told).collect();
    assert_eq!(
        text,
        ["read changes after 5", "A is too large", "page 2: !A B", "page 3: =6", "head 6 0 ms ago"]
    );
    for output in outputs {
        assert!(!matches!(output, Output::Send(message) if message.encoded_len() > FEED_FRAME_BYTES_MAX));
    }
}

#[test]
fn changes_of_other_brands_move_the_position_all_the_same() {
    let mut publisher = following(5);
    publisher.handle_head(at(0), head(9));
    publisher.handle_found(at(0), changes(&[], 9));
    assert_eq!(drain(&mut publisher), ["read changes after 5", "page 2: =9", "head 9 0 ms ago"]);
}

#[test]
fn a_new_subscription_forgets_the_earlier_one_and_its_reads() {
    let mut publisher = subscribed(Some(position(3)), 5);
    drain(&mut publisher);
    publisher.handle_message(at(0), subscribe(None, 2)).unwrap();
    assert_eq!(drain(&mut publisher), ["begin 2 anew", "head 5 0 ms ago"], "one read at a time");
    publisher.handle_found(at(0), changes(&["OLD"], 5));
    assert_eq!(drain(&mut publisher), ["read rows after -"]);
    publisher.handle_found(at(0), page(&["A"], true));
    assert_eq!(drain(&mut publisher), ["page 1: A", "read changes after 5"]);
}

#[test]
fn the_head_is_sent_with_its_age_at_once_and_regularly() {
    let mut publisher = following(5);
    assert_eq!(publisher.next_timeout(), Some(at(1_000)));
    publisher.handle_head(at(400), Head { position: position(5), swept_at: at(300) });
    assert!(drain(&mut publisher).is_empty(), "something is sent again");
    publisher.handle_timeout(at(1_000));
    assert_eq!(drain(&mut publisher), ["head 5 700 ms ago"]);
    assert_eq!(publisher.next_timeout(), Some(at(2_000)));
}

#[test]
fn the_subscriber_gets_back_its_clock_and_the_time_since() {
    let mut publisher = following(5);
    let said = ToPublisher { clock_micros: Some(77), ..ToPublisher::default() };
    publisher.handle_message(at(400), said).unwrap();
    publisher.handle_timeout(at(1_000));
    let heard = std::iter::from_fn(|| publisher.poll_output()).find_map(|output| match output {
        Output::Send(ToSubscriber { kind: Some(to_subscriber::Kind::Fresh(fresh)) }) => fresh.heard,
        _ => None,
    });
    assert_eq!(heard, Some(Heard { clock_micros: 77, ago_micros: 600_000 }));
}

#[test]
fn a_read_that_failed_is_done_again_after_a_pause() {
    let mut publisher = subscribed(Some(position(3)), 5);
    drain(&mut publisher);
    publisher.handle_found(at(0), Err(ReadFailed));
    assert!(drain(&mut publisher).is_empty());
    assert_eq!(publisher.next_timeout(), Some(READ_AGAIN_AFTER));
    publisher.handle_timeout(READ_AGAIN_AFTER);
    assert_eq!(drain(&mut publisher), ["read changes after 3"]);
}

#[test]
fn sums_are_read_once_the_changes_are() {
    let mut publisher = following(5);
    publisher.handle_head(at(0), head(6));
    publisher.handle_message(at(0), AskSums {}.into()).unwrap();
    assert_eq!(drain(&mut publisher), ["read changes after 5"]);
    publisher.handle_found(at(0), changes(&["A"], 6));
    assert_eq!(drain(&mut publisher), ["page 2: A =6", "head 6 0 ms ago", "read sums"]);
    let sums = ReadResult::Sums { head: position(6), sums: Sums::default(), unsettled: vec![] };
    publisher.handle_found(at(0), Ok(sums));
    assert_eq!(drain(&mut publisher), ["sums at 6"]);
}

#[test]
fn a_subscription_that_cannot_be_ends_the_link() {
    let mut publisher = publisher();
    assert_eq!(publisher.handle_message(at(0), Applied { page: 0 }.into()), Err(Violation::NotSubscribed));
    assert_eq!(publisher.handle_message(at(0), AskSums {}.into()), Err(Violation::NotSubscribed));
    let good = Subscribe { brands: vec!["shoes".into()], position: None, window: 1, subscription: 1 };
    for bad in [
        Subscribe { brands: vec![], ..good.clone() },
        Subscribe { brands: vec!["No Brand".into()], ..good.clone() },
        Subscribe { window: 0, ..good.clone() },
        Subscribe { window: WINDOW_MAX + 1, ..good.clone() },
    ] {
        let refused = publisher.handle_message(at(0), bad.into());
        assert!(matches!(refused, Err(Violation::BadSubscription(_))), "{refused:?}");
    }
    assert_eq!(publisher.handle_message(at(0), ToPublisher::default()), Ok(()));
    assert_eq!(publisher.handle_message(at(0), good.into()), Ok(()));
}

/// Returns heads of another history. One differs by its number, the other by its mark.
fn others() -> [Head; 2] {
    [head(4), Head { position: Position { seq: 5, mark: 101 }, swept_at: at(0) }]
}

#[test]
fn another_historys_head_is_checked_and_restarts_if_confirmed() {
    for other in others() {
        let mut publisher = following(5);
        publisher.handle_head(at(0), other);
        assert_eq!(drain(&mut publisher), ["read changes after 5"]);
        publisher.handle_timeout(at(5_000));
        assert!(drain(&mut publisher).is_empty(), "a head in doubt is sent");
        assert!(publisher.next_timeout() > Some(at(5_000)));
        publisher.handle_found(at(5_000), Ok(ReadResult::Lost));
        assert_eq!(drain(&mut publisher)[0], "begin 1 anew");
    }
}

#[test]
fn a_head_that_is_merely_late_begins_nothing() {
    let mut publisher = following(5);
    publisher.handle_head(at(0), head(6));
    publisher.handle_found(at(0), changes(&["A", "B"], 7));
    drain(&mut publisher);
    publisher.handle_head(at(0), head(6));
    assert_eq!(drain(&mut publisher), ["read changes after 7"]);
    publisher.handle_found(at(0), changes(&[], 7));
    assert!(drain(&mut publisher).is_empty());
    publisher.handle_head(at(0), head(7));
    assert_eq!(drain(&mut publisher), ["head 7 0 ms ago"]);
}

#[test]
fn unchanged_rows_are_still_checked_for_their_history() {
    let mut publisher = subscribed(None, 5);
    publisher.handle_found(at(0), page(&["A"], true));
    publisher.handle_found(at(0), changes(&[], 5));
    let outputs = drain(&mut publisher);
    assert_eq!(outputs[3..], ["page 1: A", "read changes after 5", "page 2: =5 complete", "head 5 0 ms ago"]);
}
