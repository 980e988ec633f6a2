//! Tests of the line's model: order, times, shares and bounds, by examples and by properties.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testkit::wan::conditions::{Cut, Mtu, Protocol};

const MS: Duration = Duration::from_millis(1);

fn udp(bytes: usize) -> Traffic {
    Traffic { protocol: Protocol::Udp, bytes, is_behind_handshake: false }
}

/// Returns the packets that leave up to a time.
fn leaving(core: &mut Core<usize>, now: Duration) -> Vec<(Duration, usize)> {
    std::iter::from_fn(|| core.poll_leaving(now)).map(|packet| (packet.at, packet.payload)).collect()
}

/// Sends a packet at fixed intervals in one direction. Returns all packets that leave.
fn carry(line: &OneWay, seed: u64, packets: usize, bytes: usize, every: Duration) -> Vec<(Duration, usize)> {
    let (mut core, conditions) = (Core::new(seed), Conditions::both(line.clone()));
    let mut now = Duration::ZERO;
    for index in 0..packets {
        let _dropped = core.handle_packet(now, Way::There, udp(bytes), index, &conditions);
        now += every;
    }
    let all = leaving(&mut core, Duration::MAX);
    assert_eq!(core.counts().entered, packets as u64);
    assert_eq!(core.counts().left + core.counts().dropped(), packets as u64);
    all
}

#[test]
fn a_perfect_line_passes_a_packet_at_once() {
    let mut core = Core::new(1);
    core.handle_packet(MS, Way::There, udp(100), 7, &Conditions::default()).expect("it passes");
    assert_eq!(core.next_leaves(), Some(MS));
    assert_eq!(core.poll_leaving(MS), Some(Leaving { at: MS, way: Way::There, payload: 7 }));
    assert_eq!((core.poll_leaving(Duration::MAX), core.next_leaves()), (None, None));
}

#[test]
fn a_packet_leaves_after_its_delay_and_not_before() {
    let mut core = Core::new(1);
    let conditions = Conditions::round_trip(10 * MS);
    core.handle_packet(MS, Way::Back, udp(100), 0, &conditions).expect("it passes");
    assert_eq!(leaving(&mut core, 6 * MS - Duration::from_nanos(1)), []);
    assert_eq!(leaving(&mut core, 6 * MS), [(6 * MS, 0)]);
}

#[test]
fn each_way_has_its_own_conditions() {
    let mut core = Core::new(1);
    let mut conditions = Conditions::default();
    conditions.back.cuts.push(Cut::ALL);
    core.handle_packet(MS, Way::There, udp(100), 0, &conditions).expect("there it passes");
    assert_eq!(core.handle_packet(MS, Way::Back, udp(100), 1, &conditions), Err((DropReason::Cut, 1)));
    assert_eq!(core.counts().cut, 1);
}

#[test]
fn a_shorter_delay_lets_nothing_overtake_what_is_on_the_line() {
    let mut core = Core::new(1);
    core.handle_packet(MS, Way::There, udp(9), 0, &Conditions::round_trip(20 * MS)).expect("it passes");
    core.handle_packet(2 * MS, Way::There, udp(9), 1, &Conditions::default()).expect("it passes");
    assert_eq!(leaving(&mut core, 20 * MS), [(11 * MS, 0), (11 * MS, 1)]);
}

#[test]
fn a_rate_spaces_packets_and_drops_what_the_queue_cannot_hold() {
    // 1,000 bytes take a millisecond. Three of them wait.
    let line = OneWay { rate: Some(8_000_000), queue_bytes: 3_000, delay: 5 * MS, ..OneWay::default() };
    let arrived = carry(&line, 1, 5, 1_000, Duration::ZERO);
    assert_eq!(arrived, [(6 * MS, 0), (7 * MS, 1), (8 * MS, 2)]);
    let paced = carry(&line, 1, 5, 1_000, MS);
    assert_eq!(paced.len(), 5, "none waits when they come at the line's rate");
}

#[test]
fn a_packet_too_large_is_dropped_and_its_sender_may_be_told() {
    for (is_reported, size) in [(true, Some(1_280)), (false, None)] {
        let mtu = Some(Mtu { bytes: 1_280, is_reported });
        let conditions = Conditions::both(OneWay { mtu, ..OneWay::default() });
        let mut core = Core::new(1);
        core.handle_packet(MS, Way::There, udp(1_280), 0, &conditions).expect("it fits");
        let dropped = core.handle_packet(MS, Way::There, udp(1_281), 1, &conditions);
        assert_eq!(dropped, Err((DropReason::TooLarge(size), 1)));
    }
}

#[test]
fn a_stream_takes_its_time_in_order_and_loses_nothing() {
    let line = OneWay { rate: Some(8_000_000), delay: 5 * MS, loss: MILLION, ..OneWay::default() };
    let (mut core, conditions) = (Core::<()>::new(1), Conditions::both(line));
    let mut schedule = |now| core.schedule_stream(now, Way::There, 1_000, &conditions);
    assert_eq!([schedule(MS), schedule(MS), schedule(20 * MS)], [7 * MS, 8 * MS, 26 * MS]);
}

#[test]
fn packets_in_flight_are_bounded() {
    let mut core = Core::new(1);
    let conditions = Conditions::round_trip(Duration::from_secs(3_600));
    for index in 0..IN_FLIGHT_MAX {
        core.handle_packet(MS, Way::There, udp(100), index, &conditions).expect("it passes");
    }
    let dropped = core.handle_packet(MS, Way::There, udp(100), 0, &conditions);
    assert_eq!(dropped, Err((DropReason::Overflow, 0)));
}

/// Generates any line without cuts.
fn lines() -> impl Strategy<Value = OneWay> {
    let times = (0..50_000_u64, 0..20_000_u64, 1..5_000_u64);
    let rate = proptest::option::of(1_000_000..1_000_000_000_u64);
    (times, 0..=MILLION, 0..=MILLION / 2, rate, 2_000..500_000_u64).prop_map(
        |((delay, jitter, reorder_by), loss, reorder, rate, queue_bytes)| OneWay {
            delay: Duration::from_micros(delay),
            jitter: Duration::from_micros(jitter),
            loss,
            reorder,
            reorder_by: Duration::from_micros(reorder_by),
            rate,
            queue_bytes,
            ..OneWay::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn without_reordering_packets_stay_in_order_and_within_the_delay(line in lines(), seed: u64) {
        let line = OneWay { reorder: 0, rate: None, ..line };
        let every = Duration::from_micros(50);
        let arrived = carry(&line, seed, 500, 1_000, every);
        prop_assert!(arrived.is_sorted());
        prop_assert!(arrived.is_sorted_by_key(|(_, index)| *index));
        for (at, index) in arrived {
            let took = at - every * index as u32;
            prop_assert!(took >= line.delay, "{took:?}");
            // A packet waits for at most the packet in front of it.
            prop_assert!(took <= line.delay + line.jitter, "{took:?}");
        }
    }

    #[test]
    fn packets_leave_in_the_order_of_their_times_whatever_the_line(
        line in lines(), seed: u64, gaps in vec(0..2_000_u64, 1..300)
    ) {
        let (mut core, conditions) = (Core::new(seed), Conditions::both(line.clone()));
        let (mut now, mut last, mut left) = (Duration::ZERO, Duration::ZERO, 0);
        for (index, gap) in gaps.iter().enumerate() {
            now += Duration::from_micros(*gap);
            for (at, _) in leaving(&mut core, now) {
                prop_assert!(at <= now && at >= last);
                (last, left) = (at, left + 1);
            }
            let _dropped = core.handle_packet(now, Way::There, udp(1_200), index, &conditions);
        }
        left += leaving(&mut core, Duration::MAX).len();
        prop_assert_eq!(left as u64 + core.counts().dropped(), gaps.len() as u64);
    }

    #[test]
    fn a_line_s_queue_never_holds_more_than_it_may(line in lines(), seed: u64) {
        let rate = line.rate.unwrap_or(10_000_000);
        let line = OneWay { rate: Some(rate), jitter: Duration::ZERO, reorder: 0, loss: 0, ..line };
        let arrived = carry(&line, seed, 400, 1_000, Duration::from_micros(20));
        let longest = Duration::from_nanos(line.queue_bytes * 8_000_000_000 / rate + 1_000);
        for pair in arrived.windows(2) {
            // 1,000 bytes at that rate, minus rounding.
            prop_assert!(pair[1].0 - pair[0].0 >= Duration::from_nanos(8_000_000_000_000 / rate - 1));
        }
        for (at, index) in arrived {
            let waited = at - line.delay - Duration::from_micros(20) * index as u32;
            prop_assert!(waited <= longest, "{waited:?} of {longest:?}");
        }
    }

    #[test]
    fn about_the_share_that_a_line_loses_is_lost(loss in 1_000..500_000_u32, seed: u64) {
        const PACKETS: u64 = 40_000;
        let line = OneWay { loss, ..OneWay::default() };
        let lost = PACKETS - carry(&line, seed, PACKETS as usize, 100, Duration::ZERO).len() as u64;
        let expected = PACKETS * u64::from(loss) / u64::from(MILLION);
        // Eight standard deviations: chance alone does not exceed them.
        let most = 8 * expected.isqrt() + 1;
        prop_assert!(lost.abs_diff(expected) <= most, "{lost} lost, {expected} expected");
    }

    #[test]
    fn one_seed_is_one_fate(line in lines(), seed: u64) {
        let once = || carry(&line, seed, 300, 700, Duration::from_micros(100));
        prop_assert_eq!(once(), once());
    }

    #[test]
    fn a_share_is_overtaken_where_a_line_reorders(seed: u64) {
        let line = OneWay { delay: MS, reorder: MILLION / 10, reorder_by: MS, ..OneWay::default() };
        let arrived = carry(&line, seed, 5_000, 100, Duration::from_micros(100));
        let late = arrived.iter().filter(|(at, index)| *at == 2 * MS + Duration::from_micros(100) * *index as u32);
        let (late, all) = (late.count(), arrived.len());
        prop_assert!((300..800).contains(&late), "{late} of {all} were held");
        prop_assert!(!arrived.is_sorted_by_key(|(_, index)| *index));
    }
}
