//! The model, one batch at a time: kept rows, waits for locks, and lost COMMIT replies.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bridge_protocol::domain::{
    Brand, Currency, IdempotencyKey, Line, Money, OrderId, OrderTerms, PersonalField, Quantity, Sku,
    UnixMicros,
};

use super::*;
use crate::orders::planner::{Action, CustomerTag, Placement, Request};
use crate::orders::store::{RequestEnd, RequestOutcome};
use crate::vault::PersonalAtRest;

const AT: UnixMicros = UnixMicros::new(1_795_343_485_000_000);
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
const AWAITED_FOR: Duration = Duration::from_millis(200);

fn brand() -> Brand {
    Brand::new("acme").unwrap()
}

fn money(amount: i64) -> Money {
    Money::new(amount, Currency::new("KRW").unwrap()).unwrap()
}

/// Creates a database that sells two units of `A`.
fn database() -> ModelDatabase {
    let stock = ForSale { brand: brand(), sku: Sku::new("A").unwrap(), price: money(7), units: 2 };
    ModelDatabase::new([stock], LOCK_TIMEOUT, AWAITED_FOR)
}

fn request(key: u8, action: Action) -> Batch {
    let key = IdempotencyKey::parse(&[b'a' + key]).unwrap().digest(&brand());
    Batch { requests: vec![Request { brand: brand(), key, fingerprint: [1; 32], action }], at: AT }
}

fn order(key: u8) -> OrderId {
    OrderId::new(AT, [key; 10])
}

/// Returns a batch with an order of one unit of `A`.
fn place(key: u8) -> Batch {
    let line = Line { sku: Sku::new("A").unwrap(), quantity: Quantity::new(1).unwrap(), unit_price: 7 };
    let terms = OrderTerms::new(vec![line], money(0), money(7), "c".to_owned(), 1).unwrap();
    let personal = PersonalAtRest {
        key_version: 1,
        wrapped_key: Vec::new(),
        fields: [const { None }; PersonalField::ALL.len()],
    };
    request(
        key,
        Action::Place(Box::new(Placement {
            order: order(key),
            terms,
            customer: CustomerTag::from_bytes([1; 32]),
            personal,
        })),
    )
}

/// Returns a runtime for timers of the flow, which never fire in these tests.
fn timers() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Commits a batch while no other transaction runs.
fn commit(database: &ModelDatabase, batch: &Batch) -> BatchEnd {
    let timers = timers();
    let _entered = timers.enter();
    let mut work = pin!(database.commit(batch, None));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(end) = work.as_mut().poll(&mut context) {
            return end;
        }
    }
}

fn answer(end: &BatchEnd) -> &RequestOutcome {
    let [RequestEnd::Committed(committed)] = &end.ends[..] else { panic!("{end:?}") };
    committed.answer()
}

#[test]
fn committed_data_survives_a_crash_and_merely_acknowledged_data_does_not() {
    let database = database();
    commit(&database, &place(1));
    database.crash();
    assert_eq!(database.outcomes().len(), 1);
    database.acknowledge_before_commit();
    let end = commit(&database, &place(2));
    assert!(matches!(answer(&end), RequestOutcome::Settled { replayed: false, .. }));
    database.crash();
    assert_eq!((database.outcomes().len(), database.invariants()), (1, Ok(())));
    commit(&database, &place(2));
    database.sync();
    database.crash();
    assert_eq!((database.outcomes().len(), database.orders().len()), (2, 2));
}

#[test]
fn a_held_row_sets_its_requests_apart_until_released() {
    let database = database();
    let holder = database.hold(1).unwrap();
    assert!(database.hold(1).is_none());
    assert!(matches!(commit(&database, &place(1)).ends[..], [RequestEnd::Waits(_)]));
    database.let_go(holder);
    assert!(matches!(answer(&commit(&database, &place(1))), RequestOutcome::Settled { replayed: false, .. }));
}

#[test]
fn a_commit_without_reply_is_found_and_a_lost_one_repeated() {
    let database = database();
    for (key, fate) in [(1, CommitFate::ReplyLost), (2, CommitFate::Lost)] {
        let timers = timers();
        let _entered = timers.enter();
        let batch = place(key);
        let mut work = pin!(database.commit(&batch, None));
        let mut context = Context::from_waker(Waker::noop());
        database.set_now(Duration::ZERO, fate, false);
        let end = loop {
            let polled = work.as_mut().poll(&mut context);
            if database.ends().reply_lost + database.ends().lost == u64::from(key) {
                database.set_now(Duration::ZERO, CommitFate::Done, false);
            }
            if let Poll::Ready(end) = polled {
                break end;
            }
        };
        assert!(matches!(answer(&end), RequestOutcome::Settled { .. }), "{end:?}");
    }
    assert_eq!((database.outcomes().len(), database.invariants()), (2, Ok(())));
}

/// Commits a batch. Before each of its steps, calls `between` with the number of COMMITs so far, by
/// their end.
fn commit_while(
    database: &ModelDatabase,
    batch: &Batch,
    awaited: Option<&Awaited>,
    mut between: impl FnMut(Ends),
) -> BatchEnd {
    let timers = timers();
    let _entered = timers.enter();
    let mut work = pin!(database.commit(batch, awaited));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        between(database.ends());
        if let Poll::Ready(end) = work.as_mut().poll(&mut context) {
            return end;
        }
    }
}

#[test]
fn a_commit_that_is_lost_in_every_round_stays_in_doubt() {
    let database = database();
    let end = commit_while(&database, &place(1), None, |Ends { lost, done, .. }| {
        // After each lost COMMIT, the flow asks if the keys are in the ledger. They are not, or not
        // yet.
        let fate = if lost > done { CommitFate::Done } else { CommitFate::Lost };
        database.set_now(Duration::ZERO, fate, false);
    });
    assert!(matches!(end.ends[..], [RequestEnd::Unknown]), "{end:?}");
    assert!(database.ends().lost > 1 && database.outcomes().is_empty());
}

#[test]
fn failures_in_a_round_after_a_lost_commit_stay_in_doubt() {
    let awaited = Awaited::Stock { brand: brand(), sku: Sku::new("A").unwrap() };
    for (awaited, is_held) in [(None, false), (None, true), (Some(&awaited), true)] {
        let database = database();
        let (mut now, mut holder) = (Duration::ZERO, None);
        let end = commit_while(&database, &place(1), awaited, |Ends { lost, done, .. }| {
            let is_second = (lost, done) == (1, 1);
            let fate = if lost == 0 { CommitFate::Lost } else { CommitFate::Done };
            if is_second && is_held {
                now += LOCK_TIMEOUT / 2;
                holder = holder.take().or_else(|| database.hold(1));
            }
            database.set_now(now, fate, is_second && !is_held);
        });
        assert_eq!(holder.is_some(), is_held);
        assert!(matches!(end.ends[..], [RequestEnd::Unknown]), "{end:?}");
    }
}

#[test]
fn a_statement_that_is_cancelled_leaves_nothing_behind() {
    let database = database();
    let timers = timers();
    let _entered = timers.enter();
    let batch = place(1);
    let mut work = pin!(database.commit(&batch, None));
    let mut context = Context::from_waker(Waker::noop());
    let end = loop {
        database.set_now(Duration::ZERO, CommitFate::Done, true);
        if let Poll::Ready(end) = work.as_mut().poll(&mut context) {
            break end;
        }
    };
    assert!(matches!(end.ends[..], [RequestEnd::NotCommitted]), "{end:?}");
    assert!(database.outcomes().is_empty());
}

#[test]
fn the_checker_notices_units_that_no_order_has() {
    let database = database();
    commit(&database, &place(1));
    database.tables.borrow_mut().committed.states.clear();
    assert!(database.invariants().unwrap_err().contains("sold 1, in orders 0"));
}
