//! Tests of the admission: fixed cases, and random ones beside a model that keeps a record for each
//! place.

use super::super::launch::LaunchTerms;
use super::*;
use crate::dice::Dice;

const START: i64 = 1_000_000_000;

fn at(ms: i64) -> UnixMicros {
    UnixMicros::new(START + ms * 1_000)
}

/// Returns a launch with 10 s to claim and 20 s to order.
fn launch(units: i64, limit: i64, rate: &str) -> Launch {
    let terms = LaunchTerms {
        brand: "shoes".to_owned(),
        name: "aj1".to_owned(),
        opens_at: UnixMicros::new(START),
        ends_at: UnixMicros::new(START + 86_400_000_000),
        skus: vec!["AJ1".to_owned()],
        units,
        limit,
        rate: rate.to_owned(),
        session_seconds: 20,
        claim_seconds: 10,
    };
    terms.check_form().unwrap()
}

/// Buys units for a place, which is admitted. Returns its last state.
fn buy(front: &mut Front, place: u32, units: u32, now: UnixMicros) -> PlaceState {
    assert!(matches!(front.claim(PlaceNumber(place), now), PlaceState::Session { .. }), "{place}");
    assert_eq!(front.begin_order(PlaceNumber(place), units, now), Ok(()));
    front.end_order(PlaceNumber(place), SessionOrderEnd::Bought(units), now);
    front.state(PlaceNumber(place), now)
}

#[test]
fn the_front_moves_by_the_rate_and_saves_at_most_a_second() {
    let mut front = Front::new(&launch(10_000, 1, "600"), 5_000, at(0));
    assert_eq!(front.advance(at(0)), 0);
    for tick in 1..=50 {
        assert_eq!(front.advance(at(tick * 100)), tick as u32);
        front.claim(PlaceNumber(tick as u32 - 1), at(tick * 100));
    }
    assert_eq!(front.advance(at(65_000)), 60, "a second's worth after a minute of silence");
    front.set_rate(60, at(65_000));
    assert_eq!(front.advance(at(65_999)), 60);
    assert_eq!(front.advance(at(66_000)), 61);
}

#[test]
fn with_auto_nobody_is_admitted_before_the_credits_say_so() {
    let mut front = Front::new(&launch(10_000, 1, "auto"), 5_000, at(0));
    assert_eq!(front.advance(at(5_000)), 0);
    front.set_rate(6_000, at(5_000));
    assert_eq!(front.advance(at(5_100)), 10);
    for place in 0..10 {
        front.claim(PlaceNumber(place), at(5_100));
    }
    front.set_rate(0, at(5_100));
    assert_eq!(front.advance(at(60_000)), 10);
}

#[test]
fn the_front_waits_for_entrants_and_takes_the_late_ones_in_order() {
    let mut front = Front::new(&launch(10_000, 1, "60000"), 3, at(0));
    assert_eq!(front.advance(at(1_000)), 3);
    front.set_entrants(5);
    assert_eq!(front.advance(at(1_001)), 5);
    front.set_entrants(4);
    assert_eq!(front.advance(at(2_000)), 5, "a number that was given stays given");
}

#[test]
fn an_unclaimed_place_expires_and_the_front_moves_by_one_more() {
    let mut front = Front::new(&launch(10_000, 1, "600"), 5_000, at(0));
    for tick in 1..=90 {
        front.advance(at(tick * 100));
    }
    let PlaceState::Admitted { until } = front.state(PlaceNumber(0), at(9_000)) else { panic!() };
    assert!((10_100..10_120).contains(&(until.since(at(0)).as_millis())));
    assert_eq!(front.state(PlaceNumber(0), until), PlaceState::Expired);
    assert_eq!(front.state(PlaceNumber(95), at(9_000)), PlaceState::Waiting { ahead: 5 });
    for tick in 91..=110 {
        front.advance(at(tick * 100));
    }
    assert_eq!(front.record().expired_before, 9);
    assert_eq!(front.record().front, 110 + 9);
    assert_eq!(front.claim(PlaceNumber(0), at(11_000)), PlaceState::Expired);
}

#[test]
fn units_are_promised_once_and_come_back_from_who_does_not_buy() {
    let mut front = Front::new(&launch(3, 1, "60000"), 100, at(0));
    assert_eq!(front.advance(at(1_000)), 3, "three units, three promises");
    front.claim(PlaceNumber(0), at(1_000));
    assert_eq!(front.advance(at(5_000)), 3);
    // 1 and 2 expire, so two more come; then 0's session ends as well.
    assert_eq!(front.advance(at(11_100)), 5);
    assert_eq!(front.state(PlaceNumber(0), at(21_000)), PlaceState::Ended);
    buy(&mut front, 3, 1, at(12_000));
    assert_eq!(buy(&mut front, 4, 1, at(12_000)), PlaceState::Ended);
    assert!(!front.is_sold_out());
    assert_eq!(front.advance(at(21_000)), 6);
    buy(&mut front, 5, 1, at(21_000));
    assert!(front.is_sold_out());
    assert_eq!(front.advance(at(40_000)), 6);
    front.give_back(1);
    assert_eq!((front.advance(at(50_000)), front.is_sold_out()), (6, true), "the last word was said");
}

#[test]
fn the_last_units_go_to_a_place_that_may_buy_fewer() {
    let mut front = Front::new(&launch(5, 2, "60000"), 100, at(0));
    assert_eq!(front.advance(at(1_000)), 3);
    let units = |front: &mut Front, place| match front.claim(PlaceNumber(place), at(1_000)) {
        PlaceState::Session { units, .. } => units,
        other => panic!("{other:?}"),
    };
    assert_eq!([0, 1, 2].map(|place| units(&mut front, place)), [2, 2, 1]);
    assert!(front.begin_order(PlaceNumber(2), 2, at(1_000)).is_err(), "more than it holds");
    buy(&mut front, 0, 1, at(1_000));
    assert_eq!(front.advance(at(1_001)), 4, "the unit that it left admits another one");
    for (place, units) in [(1, 2), (2, 1), (3, 1)] {
        buy(&mut front, place, units, at(1_100));
    }
    assert!(front.is_sold_out() && front.report(at(1_100)).units_left == 0);
}

#[test]
fn a_session_orders_once_at_a_time_and_buys_once() {
    let mut front = Front::new(&launch(10, 2, "60000"), 100, at(0));
    front.advance(at(1_000));
    let place = PlaceNumber(0);
    assert!(front.begin_order(place, 1, at(1_000)).is_err(), "not claimed");
    front.claim(place, at(1_000));
    assert!(front.begin_order(place, 0, at(1_000)).is_err());
    assert_eq!(front.begin_order(place, 1, at(1_000)), Ok(()));
    assert!(matches!(
        front.begin_order(place, 1, at(1_000)),
        Err(PlaceState::Session { is_ordering: true, .. })
    ));
    front.end_order(place, SessionOrderEnd::NotBought, at(2_000));
    assert_eq!(front.begin_order(place, 2, at(2_000)), Ok(()));
    // Its order is still under way when its time is over.
    front.advance(at(30_000));
    assert!(matches!(front.state(place, at(30_000)), PlaceState::Session { .. }));
    for _ in 0..2 {
        front.end_order(place, SessionOrderEnd::Bought(2), at(31_000));
        assert_eq!((front.record().sold, front.state(place, at(31_000))), (2, PlaceState::Ended));
    }
    assert_eq!(front.begin_order(place, 1, at(31_000)), Err(PlaceState::Ended));
    let waiting = front.begin_order(PlaceNumber(99), 1, at(31_000));
    assert!(matches!(waiting, Err(PlaceState::Waiting { .. })), "{waiting:?}");
}

#[test]
fn a_clock_that_steps_back_costs_nobody_a_place() {
    let mut front = Front::new(&launch(1_000, 1, "600"), 1_000, at(0));
    front.advance(at(1_000));
    let moved = front.advance(at(60_000));
    assert_eq!(front.advance(at(-600_000)), moved);
    assert!(matches!(front.claim(PlaceNumber(moved - 1), at(-600_000)), PlaceState::Session { .. }));
    assert_eq!(front.advance(at(60_100)), moved + 1);
}

#[test]
fn a_restart_costs_nobody_a_place_or_a_unit() {
    let launch = launch(50, 1, "6000");
    let mut front = Front::new(&launch, 1_000, at(0));
    front.advance(at(200));
    for place in 0..10 {
        buy(&mut front, place, 1, at(200));
    }
    for place in 10..15 {
        front.claim(PlaceNumber(place), at(200));
    }
    front.advance(at(300));
    let record = front.record();
    assert_eq!(record, FrontRecord { front: 30, expired_before: 0, sold: 10 });
    let claim = |place, has_ended| ClaimedPlace { place: PlaceNumber(place), claimed_at: at(200), has_ended };
    let claims = (0..15).map(|place| claim(place, place < 10));
    let mut resumed = Front::resume(&launch, 1_000, record, claims, at(9_000));
    assert_eq!((resumed.record(), resumed.free()), (record, 20), "15 unclaimed, 5 open, 10 sold");
    assert_eq!(resumed.state(PlaceNumber(3), at(9_000)), PlaceState::Ended);
    for place in 15..30 {
        assert!(matches!(resumed.state(PlaceNumber(place), at(18_900)), PlaceState::Admitted { .. }));
    }
    for place in 10..15 {
        buy(&mut resumed, place, 1, at(28_000));
    }
    assert_eq!(resumed.claim(PlaceNumber(15), at(28_000)), PlaceState::Expired);
    assert_eq!(resumed.free(), 35, "15 are sold");
}

#[test]
fn a_million_places_cost_less_than_64_megabytes() {
    let mut front = Front::new(&launch(1_000_000, 1, "6000000"), 1_000_000, at(0));
    let mut now = 0;
    while front.record().front < 1_000_000 {
        now += 10;
        let from = front.record().front;
        let to = front.advance(at(now));
        // Everybody claims, and all sessions are open at once.
        for place in from..to {
            front.claim(PlaceNumber(place), at(now));
        }
    }
    assert_eq!(front.passed.claimed(0, 1_000_000), 1_000_000);
    let bytes = front.memory_bytes();
    assert!(bytes < 64 << 20, "{bytes} bytes");
}

/// A place in the model.
#[derive(Debug, Clone, Copy)]
struct ModelPlace {
    hold: u32,
    state: PlaceState,
}

impl ModelPlace {
    /// Returns true if it holds units at this time.
    fn holds(&self, now: UnixMicros) -> bool {
        match self.state {
            PlaceState::Admitted { until } => now < until,
            PlaceState::Session { until, is_ordering, .. } => is_ordering || now < until,
            PlaceState::Waiting { .. } | PlaceState::Expired | PlaceState::Ended => false,
        }
    }

    fn expire(&mut self, now: UnixMicros) {
        if !self.holds(now) {
            self.state = match self.state {
                PlaceState::Admitted { .. } => PlaceState::Expired,
                PlaceState::Session { .. } => PlaceState::Ended,
                other => other,
            };
        }
    }
}

#[test]
fn any_schedule_is_as_the_model_says_and_never_promises_twice() {
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let (units, limit) = (1 + dice.below(60) as u32, 1 + dice.below(4) as u32);
        let limit = limit.min(units);
        let launch = launch(units.into(), limit.into(), &(1 + dice.below(30_000)).to_string());
        let mut front = Front::new(&launch, 200, at(0));
        let (mut now, mut sold, mut model) = (0, 0, Vec::<ModelPlace>::new());
        for step in 0..600 {
            let context = format!("seed {seed}, step {step}");
            now += dice.below(900) as i64;
            let time = at(now);
            model.iter_mut().for_each(|place| place.expire(time));
            let pick = dice.below(model.len().max(1) as u64) as usize;
            let place = PlaceNumber(pick as u32);
            match (dice.below(6), model.get_mut(pick)) {
                (0 | 1, _) | (_, None) => {
                    let to = front.advance(time) as usize;
                    for place in model.len()..to {
                        let held: u32 = model.iter().filter(|p| p.holds(time)).map(|p| p.hold).sum();
                        let hold = (units - sold - held).min(limit);
                        assert!(hold > 0, "{context}: nothing is left for {place}");
                        let state = front.state(PlaceNumber(place as u32), time);
                        let PlaceState::Admitted { until } = state else { panic!("{context}: {state:?}") };
                        let window = until.since(time).as_millis();
                        assert!((10_000..=10_010).contains(&window), "{context}: {window} ms");
                        model.push(ModelPlace { hold, state });
                    }
                    assert_eq!(to, model.len(), "{context}");
                }
                (2 | 3, Some(known)) => {
                    if let PlaceState::Admitted { .. } = known.state {
                        let until = time.plus(Duration::from_secs(20));
                        known.state = PlaceState::Session { until, units: known.hold, is_ordering: false };
                    }
                    assert_eq!(front.claim(place, time), known.state, "{context}");
                }
                (4, Some(known)) => {
                    let order = 1 + dice.below(limit.into()) as u32;
                    let begun = front.begin_order(place, order, time);
                    match &mut known.state {
                        PlaceState::Session { units, is_ordering, .. }
                            if !*is_ordering && order <= *units =>
                        {
                            *is_ordering = true;
                            assert_eq!(begun, Ok(()), "{context}");
                        }
                        other => assert_eq!(begun, Err(*other), "{context}"),
                    }
                }
                (_, Some(known)) => {
                    if let PlaceState::Session { is_ordering: ordering @ true, .. } = &mut known.state {
                        if dice.below(3) == 0 {
                            *ordering = false;
                            front.end_order(place, SessionOrderEnd::NotBought, time);
                            known.expire(time);
                        } else {
                            let bought = 1 + dice.below(known.hold.into()) as u32;
                            (known.state, sold) = (PlaceState::Ended, sold + bought);
                            front.end_order(place, SessionOrderEnd::Bought(bought), time);
                        }
                    }
                }
            }
            let held: u32 = model.iter().filter(|place| place.holds(time)).map(|place| place.hold).sum();
            assert!(sold + held <= units, "{context}: {sold} sold, {held} held of {units}");
            assert_eq!(front.is_sold_out(), sold == units, "{context}");
            for (number, place) in model.iter().enumerate() {
                assert_eq!(front.state(PlaceNumber(number as u32), time), place.state, "{context}: {number}");
            }
            front.set_rate(front.rate, time);
            assert_eq!(front.free(), units - sold - held, "{context}");
        }
    }
}
