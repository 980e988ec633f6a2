//! Tests with logs that end early, at every entry. Entries that are missing after the end are in
//! doubt and no difference.

use super::*;

const SECOND: i64 = 1_000_000;

/// Returns logs of requests of every kind. They begin two seconds apart and take less than that.
fn logs() -> (Log, Log) {
    let (mut cloud, mut idc) = (vec![(0, started())], vec![(0, started())]);
    for n in 1..60u8 {
        let at = i64::from(n) * 2 * SECOND;
        cloud.push((at, Event::OrderSent(carried(n, b"sealed"))));
        cloud.push((at + 900_000, Event::OrderAnswered(ended(n, "placed", Some(at)))));
        idc.push((at + 300_000, Event::OrderReceived(carried(n, b"sealed"))));
        idc.push((at + 600_000, Event::OrderCommitted(ended(n, "placed", Some(at)))));
    }
    cloud.push((1_000 * SECOND, stopped()));
    idc.push((1_000 * SECOND, stopped()));
    (cloud, idc)
}

/// Compares both logs, cut to these lengths and with this clock skew in microseconds. A log that is
/// cut is marked as such.
fn cut(keep: [usize; 2], skew: i64) -> Reconciled {
    let (cloud, idc) = logs();
    let mut reconciler = Reconciler::new();
    for ((side, log), keep) in [(Side::Cloud, cloud), (Side::Idc, idc)].into_iter().zip(keep) {
        let id = reconciler.log(side, "");
        if keep < log.len() {
            reconciler.ends_early(id);
        }
        let skew = if side == Side::Idc { skew } else { 0 };
        for (at, event) in log.iter().take(keep) {
            reconciler.take(id, &Entry::new(UnixMicros::new(at + skew), event.clone()));
        }
        let last = log.iter().take(keep).map(|(at, _)| UnixMicros::new(at + skew)).max();
        assert_eq!(reconciler.reach(id), (keep as u64, last));
    }
    reconciler.finish()
}

#[test]
fn no_entry_after_an_early_end_is_a_difference_whatever_the_clocks() {
    let whole = logs().0.len();
    assert_eq!(cut([whole, whole], 0).agreed, 59);
    for skew in [0, 20 * SECOND, -20 * SECOND] {
        for keep in 1..whole {
            for keeps in [[keep, whole], [whole, keep], [keep, keep], [keep, (keep + 7).min(whole)]] {
                let told = cut(keeps, skew);
                assert_eq!((told.differences, told.not_given), (vec![], vec![]), "{keeps:?} {skew}");
                assert_eq!(
                    told.agreed + told.in_doubt.len() as u64,
                    59.min(keeps[0].max(keeps[1]) as u64 / 2)
                );
            }
        }
    }
}

#[test]
fn a_gap_long_before_an_early_end_is_still_a_difference() {
    let (cloud, idc) = logs();
    let mut reconciler = Reconciler::new();
    for (side, log) in [(Side::Cloud, cloud), (Side::Idc, idc)] {
        let id = reconciler.log(side, "");
        reconciler.ends_early(id);
        // Removes the third request from the IDC's log.
        let gone = |event: &Event| match event {
            Event::OrderReceived(carried) => carried.key == key(3),
            Event::OrderCommitted(ended) => ended.key == key(3),
            _ => false,
        };
        for (at, event) in log.iter().take(100).filter(|(_, event)| !gone(event)) {
            reconciler.take(id, &Entry::new(UnixMicros::new(*at), event.clone()));
        }
    }
    let told = reconciler.finish();
    assert_eq!(told.differences.len(), 1, "{told:?}");
    assert_eq!(told.differences[0].key, key(3));
}
