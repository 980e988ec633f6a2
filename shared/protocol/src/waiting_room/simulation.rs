//! A simulated launch: people whose clients poll as they are told, of whom three in ten do not
//! come, and a rate that is halved in the middle. What people are told is compared with what they
//! get.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::front::{Front, FrontReport, PlaceState, SessionOrderEnd};
use super::launch::{AdmissionRate, Launch, LaunchTerms};
use super::permutation::Permutation;
use super::wait::{self, EstimatedWait, Prospects};
use super::{EntrantNumber, PlaceNumber};
use crate::dice::Dice;
use crate::domain::UnixMicros;

const TICK_MS: u64 = 200;

/// A person, with everything that it was told and got.
#[derive(Debug, Default)]
struct Person {
    place: u32,
    comes: bool,
    /// Time of each poll before its admission, with the wait that it was told.
    told: Vec<(u64, Option<EstimatedWait>)>,
    polls: u32,
    admitted_at: Option<u64>,
    bought: u32,
    last_answer: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Poll,
    Order,
    Answer,
}

struct Simulation {
    launch: Launch,
    front: Front,
    /// The report that the cloud agents have.
    report: FrontReport,
    people: Vec<Person>,
    /// Steps of people by their times.
    steps: BinaryHeap<Reverse<(u64, Step, usize)>>,
    dice: Dice,
    now_ms: u64,
}

fn at(ms: u64) -> UnixMicros {
    UnixMicros::new(1_000_000_000 + ms as i64 * 1_000)
}

fn launch(units: i64, rate: u32) -> Launch {
    let terms = LaunchTerms {
        brand: "shoes".to_owned(),
        name: "aj1".to_owned(),
        opens_at: at(0),
        ends_at: at(86_400_000),
        skus: vec!["AJ1".to_owned()],
        units,
        limit: 1,
        rate: rate.to_string(),
        session_seconds: 120,
        claim_seconds: 60,
    };
    terms.check_form().unwrap()
}

impl Simulation {
    fn new(seed: u64, entrants: u32, units: i64, rate: u32) -> Self {
        let mut dice = Dice(seed);
        let launch = launch(units, rate);
        let permutation = Permutation::new(&dice.bytes(), entrants);
        let front = Front::new(&launch, entrants, at(0));
        let mut people: Vec<Person> = (0..entrants)
            .map(|number| Person {
                place: permutation.place_of(EntrantNumber(number)).0,
                comes: dice.below(10) >= 3,
                ..Person::default()
            })
            .collect();
        people.sort_by_key(|person| person.place);
        let steps = (0..people.len())
            .map(|person| {
                let random = dice.next() as u32;
                let first = wait::next_poll_before_opening(at(0), at(0), launch.claim_window, random);
                Reverse((first.as_millis() as u64, Step::Poll, person))
            })
            .collect();
        let report = front.report(at(0));
        Self { launch, front, report, people, steps, dice, now_ms: 0 }
    }

    /// Runs until all units are sold and everybody has a last answer.
    fn run(&mut self, halved_at_ms: u64) {
        while !self.steps.is_empty() {
            self.now_ms += TICK_MS;
            if self.now_ms == halved_at_ms {
                let rate = self.report_rate() / 2;
                self.front.set_rate(rate, at(self.now_ms));
            }
            let before = self.front.record().front;
            let front = self.front.advance(at(self.now_ms));
            for person in &mut self.people[before as usize..front as usize] {
                person.admitted_at = Some(self.now_ms);
            }
            self.report = self.front.report(at(self.now_ms));
            while let Some(Reverse((ms, step, person))) = self.steps.pop() {
                if ms > self.now_ms {
                    self.steps.push(Reverse((ms, step, person)));
                    break;
                }
                self.step(step, person, ms);
            }
        }
    }

    fn report_rate(&self) -> u32 {
        match self.launch.rate {
            AdmissionRate::PerMinute(rate) => rate,
            AdmissionRate::Auto => 0,
        }
    }

    fn then(&mut self, after: Duration, step: Step, person: usize) {
        self.steps.push(Reverse((self.now_ms + after.as_millis() as u64, step, person)));
    }

    fn step(&mut self, step: Step, index: usize, ms: u64) {
        let now = at(self.now_ms);
        let place = PlaceNumber(self.people[index].place);
        match step {
            Step::Poll => self.poll(index, ms),
            Step::Order => match self.front.begin_order(place, 1, now) {
                Ok(()) => self.then(Duration::from_millis(300), Step::Answer, index),
                Err(state) => panic!("{state:?} of a session that is open"),
            },
            Step::Answer => {
                self.front.end_order(place, SessionOrderEnd::Bought(1), now);
                self.people[index].bought += 1;
                self.people[index].last_answer = Some("bought");
            }
        }
    }

    fn poll(&mut self, index: usize, ms: u64) {
        let (now, place) = (at(self.now_ms), PlaceNumber(self.people[index].place));
        let random = self.dice.next() as u32;
        self.people[index].polls += 1;
        if self.front.is_sold_out() && matches!(self.front.state(place, now), PlaceState::Waiting { .. }) {
            self.people[index].last_answer = Some("sold out");
            return;
        }
        if let Some(prospects) = Prospects::of(place, &self.report) {
            self.people[index].told.push((ms, prospects.wait));
            return self.then(wait::next_poll(prospects.wait, random), Step::Poll, index);
        }
        if !self.people[index].comes {
            return;
        }
        match self.front.claim(place, now) {
            PlaceState::Session { .. } if self.dice.below(20) == 0 => {
                self.people[index].last_answer = Some("looked, and did not buy");
            }
            PlaceState::Session { .. } => {
                let shopping = Duration::from_millis(5_000 + self.dice.below(85_000));
                self.then(shopping, Step::Order, index);
            }
            state => panic!("place {} polled as it was told, and is {state:?}", place.0),
        }
    }
}

/// A difference that does not count: a client at the front polls once a second.
const NEAR_MS: u64 = 2_000;

/// Returns true if a told wait is within a fifth of the true one.
fn is_within_a_fifth(told: EstimatedWait, truth: u64) -> bool {
    let off = (told.p50.as_millis() as u64).abs_diff(truth);
    off * 5 <= truth || off <= NEAR_MS
}

#[test]
fn waits_are_told_as_they_are_and_every_unit_is_sold_once() {
    for seed in 1..=2 {
        let halved_at = 240_000;
        let mut simulation = Simulation::new(seed, 30_000, 10_000, 1_800);
        simulation.run(halved_at);
        let Simulation { people, front, .. } = &simulation;
        assert!(front.is_sold_out(), "seed {seed}");
        assert_eq!(people.iter().map(|person| person.bought).sum::<u32>(), 10_000, "seed {seed}");
        assert!(people.iter().all(|person| person.bought <= 1), "seed {seed}: somebody has two");
        assert!(people.iter().all(|person| person.last_answer.is_some() || !person.comes), "seed {seed}");
        let polls = people.iter().map(|person| person.polls).max();
        assert!(polls < Some(200), "seed {seed}: somebody polls {polls:?} times in a quarter of an hour");
        let waits = Waits::of(people, halved_at);
        assert!(waits.people > 13_000, "seed {seed}: {waits:?}");
        let nine_in_ten = |part: u32, whole: u32| part * 10 >= whole * 9;
        assert!(nine_in_ten(waits.people_mostly_right, waits.people), "seed {seed}: {waits:?}");
        assert!(nine_in_ten(waits.people_right_at_last, waits.people), "seed {seed}: {waits:?}");
        // Who waits while the rate is halved was told the truth of the time before.
        assert!(waits.right * 100 >= waits.told * 85, "seed {seed}: {waits:?}");
        assert!(nine_in_ten(waits.foreseeable_right, waits.foreseeable), "seed {seed}: {waits:?}");
        assert!(nine_in_ten(waits.foreseeable_below_p90, waits.foreseeable), "seed {seed}: {waits:?}");
    }
}

/// Waits that people were told, beside those that they had.
#[derive(Debug, Default)]
struct Waits {
    /// People who were told a wait and then admitted.
    people: u32,
    /// People for whom at least half of all told waits were right.
    people_mostly_right: u32,
    /// People for whom the last told wait was right.
    people_right_at_last: u32,
    told: u32,
    right: u32,
    /// Told waits that did not depend on the rate that was halved later, nor on the half minute
    /// after that.
    foreseeable: u32,
    foreseeable_right: u32,
    foreseeable_below_p90: u32,
}

impl Waits {
    fn of(people: &[Person], halved_at: u64) -> Self {
        let mut waits = Self::default();
        for person in people {
            let Some(admitted_at) = person.admitted_at else { continue };
            let told: Vec<(u64, u64, EstimatedWait)> = person
                .told
                .iter()
                .filter_map(|(ms, told)| Some((*ms, admitted_at.saturating_sub(*ms), (*told)?)))
                .collect();
            let right: Vec<bool> =
                told.iter().map(|(_, truth, told)| is_within_a_fifth(*told, *truth)).collect();
            let Some(last) = right.last() else { continue };
            let count = right.iter().filter(|right| **right).count();
            waits.people += 1;
            waits.people_mostly_right += u32::from(count * 2 >= right.len());
            waits.people_right_at_last += u32::from(*last);
            waits.told += right.len() as u32;
            waits.right += count as u32;
            for ((ms, truth, told), right) in told.iter().zip(&right) {
                if ms + truth <= halved_at || *ms >= halved_at + 30_000 {
                    waits.foreseeable += 1;
                    waits.foreseeable_right += u32::from(*right);
                    let p90 = told.p90.as_millis() as u64 + NEAR_MS;
                    waits.foreseeable_below_p90 += u32::from(*truth <= p90);
                }
            }
        }
        waits
    }
}
