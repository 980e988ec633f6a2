//! Tests with agents that come, leave, report obstacles, or report nothing. The tests set the time.

use super::*;

const A: &str = "spiffe://bridge.test/idc/a";
const B: &str = "spiffe://bridge.test/idc/b";

/// The clock of the tests, in seconds.
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn at(&self, seconds: u64) -> Moment {
        let clock = UnixMicros::new(1_795_343_485_000_000 + i64::try_from(seconds).unwrap() * 1_000_000);
        Moment { at: self.0 + Duration::from_secs(seconds), clock }
    }

    /// Returns the numbers of obstacles and notes at this time.
    fn told(&self, centre: &DataCentre, seconds: u64) -> (usize, usize) {
        let said = centre.said(self.at(seconds).at);
        (said.obstacles.len(), said.notes.len())
    }
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

fn link(number: u64) -> LinkId {
    LinkId(number)
}

/// Returns two agents, both linked since the clock's start.
fn both(clock: &Clock) -> DataCentre {
    let mut centre = DataCentre::default();
    centre.handle_up(link(1), &id(A), None, clock.at(0));
    centre.handle_up(link(2), &id(B), None, clock.at(0));
    centre
}

#[test]
fn one_agent_away_is_a_note_after_the_grace_two_an_obstacle() {
    let clock = Clock::start();
    let mut centre = both(&clock);
    centre.handle_down(link(2), clock.at(100));
    assert_eq!(clock.told(&centre, 109), (0, 0), "a restart is reported");
    let said = centre.said(clock.at(110).at);
    assert!(said.obstacles.is_empty() && said.notes.len() == 1, "{said:?}");
    let since = clock.at(100).clock.to_string();
    assert!(said.notes[0].contains(B) && said.notes[0].contains(&since), "{said:?}");
    centre.handle_open(link(1), false, clock.at(200));
    assert_eq!(clock.told(&centre, 201), (1, 0), "nobody takes orders");
    assert_eq!(clock.told(&centre, 210), (2, 0));
    centre.handle_open(link(1), true, clock.at(211));
    assert_eq!(clock.told(&centre, 211), (0, 1));
    centre.handle_up(link(3), &id(B), None, clock.at(212));
    assert_eq!(clock.told(&centre, 212), (0, 0), "the return of an agent is not reported at once");
    assert_eq!((centre.count(AgentStanding::TakesOrders), centre.count(AgentStanding::Away)), (2, 0));
}

#[test]
fn what_an_agent_says_is_told_once_it_lasts_and_no_longer() {
    let clock = Clock::start();
    let mut centre = both(&clock);
    let mut say = |number, obstacles: &[Obstacle], seconds| {
        centre.handle_readiness(link(number), &obstacles.iter().copied().collect(), clock.at(seconds));
        let table = centre.table().to_string();
        (clock.told(&centre, seconds + 9), clock.told(&centre, seconds + 10), table)
    };
    let (before, after, table) = say(2, &[Obstacle::Database], 20);
    assert_eq!((before, after), ((0, 0), (0, 1)));
    assert!(
        table.contains(r#""obstacles":["database"]"#) && table.contains(r#""obstacles":null"#),
        "{table}"
    );
    // The first obstacle's start does not change when another obstacle is added.
    let (before, after, _) = say(2, &[Obstacle::Brand, Obstacle::Database], 25);
    assert_eq!((before, after), ((0, 1), (0, 2)));
    // An obstacle of one brand does not stop other brands' orders.
    let (_, after, _) = say(1, &[Obstacle::Brand], 40);
    assert_eq!(after, (0, 3));
    let (before, after, _) = say(1, &[Obstacle::AuditLog], 60);
    assert_eq!((before, after), ((2, 1), (2, 1)), "both agents take no orders, and that is reported at once");
    let (before, _, table) = say(1, &[], 80);
    assert_eq!(before, (0, 2), "the first obstacle's end is not reported at once");
    assert!(table.contains(r#""obstacles":[]"#), "{table}");
}

#[test]
fn an_obstacle_of_the_only_agent_with_orders_is_told_at_once() {
    let clock = Clock::start();
    let mut centre = DataCentre::default();
    centre.handle_up(link(1), &id(A), None, clock.at(0));
    centre.handle_readiness(link(1), &[Obstacle::Brand].into(), clock.at(50));
    assert!(centre.takes_orders());
    centre.handle_readiness(link(1), &[Obstacle::Brand, Obstacle::Database].into(), clock.at(51));
    assert!(!centre.takes_orders());
    assert_eq!(clock.told(&centre, 51), (1, 0), "every order is refused, and nothing says so");
    // Another agent takes the orders from here on.
    centre.handle_up(link(2), &id(B), None, clock.at(52));
    assert_eq!((centre.takes_orders(), clock.told(&centre, 52)), (true, (0, 0)));
    assert_eq!(clock.told(&centre, 61), (0, 2));
    centre.handle_down(link(2), clock.at(70));
    assert_eq!(clock.told(&centre, 70), (1, 1));
}

#[test]
fn an_agent_of_an_earlier_release_without_readiness_raises_no_note() {
    let clock = Clock::start();
    let mut centre = both(&clock);
    assert_eq!(clock.told(&centre, 1_000), (0, 0));
    // The agent already had this release before it returned.
    centre.handle_readiness(link(1), &[Obstacle::Database].into(), clock.at(1_000));
    centre.handle_down(link(1), clock.at(1_001));
    centre.handle_up(link(3), &id(A), None, clock.at(1_002));
    assert_eq!(clock.told(&centre, 2_000), (0, 0));
    assert_eq!(centre.count(AgentStanding::TakesOrders), 2);
}

#[test]
fn an_agent_is_present_while_one_of_its_links_is() {
    let clock = Clock::start();
    let mut centre = both(&clock);
    centre.handle_up(link(3), &id(B), None, clock.at(1));
    // The agent reports the obstacle on each of its links.
    centre.handle_readiness(link(2), &[Obstacle::AuditLog].into(), clock.at(2));
    centre.handle_readiness(link(3), &[Obstacle::AuditLog].into(), clock.at(2));
    centre.handle_down(link(3), clock.at(3));
    assert_eq!(clock.told(&centre, 20), (0, 1));
    centre.handle_down(link(2), clock.at(30));
    // Events of a link that has ended are ignored.
    centre.handle_readiness(link(2), &[].into(), clock.at(31));
    centre.handle_open(link(2), true, clock.at(31));
    assert_eq!(centre.count(AgentStanding::Away), 1);
    assert_eq!((clock.told(&centre, 39), clock.told(&centre, 40)), ((0, 0), (0, 1)));
}

#[test]
fn what_a_killed_process_said_is_dropped_when_an_earlier_release_follows() {
    let clock = Clock::start();
    let mut centre = both(&clock);
    centre.handle_readiness(link(1), &[Obstacle::Database].into(), clock.at(10));
    assert_eq!(clock.told(&centre, 30), (0, 1));
    // The agent is killed. Its new process reports nothing yet, and the end of the old link is not
    // known yet.
    centre.handle_up(link(3), &id(A), None, clock.at(31));
    assert_eq!(clock.told(&centre, 31), (0, 1), "the new process may report its obstacle in a moment");
    centre.handle_open(link(1), false, clock.at(33));
    assert_eq!(clock.told(&centre, 33), (0, 0));
    assert_eq!(centre.count(AgentStanding::TakesOrders), 2);
    centre.handle_down(link(1), clock.at(43));
    assert_eq!(clock.told(&centre, 1_000), (0, 0));
}

#[test]
fn a_statement_on_an_older_link_is_not_the_newest_one_s() {
    let clock = Clock::start();
    let mut centre = both(&clock);
    centre.handle_up(link(3), &id(A), None, clock.at(1));
    centre.handle_readiness(link(3), &[].into(), clock.at(2));
    centre.handle_readiness(link(1), &[Obstacle::Database].into(), clock.at(3));
    assert_eq!(clock.told(&centre, 60), (0, 0));
    assert_eq!(centre.count(AgentStanding::Database), 0);
}

#[test]
fn who_is_expected_is_missed_until_it_comes() {
    let clock = Clock::start();
    let dialled = ["idc-a.example:7443".to_owned(), "idc-b.example:7443".to_owned()];
    let mut centre = DataCentre::expecting(&[], &dialled, clock.at(0));
    assert_eq!((clock.told(&centre, 9), clock.told(&centre, 10)), ((0, 0), (2, 0)));
    centre.handle_up(link(1), &id(A), Some(&dialled[0]), clock.at(11));
    let said = centre.said(clock.at(12).at);
    assert!(said.notes.len() == 1 && said.notes[0].contains(&dialled[1]), "{said:?}");
    centre.handle_up(link(2), &id(B), Some(&dialled[1]), clock.at(13));
    assert_eq!(clock.told(&centre, 1_000), (0, 0));
    assert_eq!(centre.agents.len(), 2, "each agent is listed once");

    let allowed = [A, B, "spiffe://bridge.test/cloud/c"].map(str::to_owned);
    let mut centre = DataCentre::expecting(&allowed, &dialled, clock.at(0));
    centre.handle_up(link(1), &id(A), Some(&dialled[0]), clock.at(1));
    let said = centre.said(clock.at(20).at);
    assert!(said.notes.len() == 1 && said.notes[0].contains(B), "{said:?}");
}

#[test]
fn agents_without_end_are_not_remembered_without_end() {
    let clock = Clock::start();
    let mut centre = DataCentre::expecting(&[], &["idc.example:7443".to_owned()], clock.at(0));
    for number in 0..1_000 {
        let peer = id(&format!("spiffe://bridge.test/idc/{number}"));
        centre.handle_up(link(number), &peer, None, clock.at(number));
        centre.handle_readiness(link(number), &[Obstacle::Other].into(), clock.at(number));
        centre.handle_down(link(number), clock.at(number));
    }
    assert_eq!((centre.agents.len(), centre.links.len()), (REMEMBERED_MAX + 1, 0));
    assert!(centre.agents.contains_key("spiffe://bridge.test/idc/999"));
    // A linked agent is not forgotten for a new one.
    for number in 0..100 {
        let peer = id(&format!("spiffe://bridge.test/idc/linked-{number}"));
        centre.handle_up(link(2_000 + number), &peer, None, clock.at(2_000));
    }
    assert_eq!((centre.agents.len(), centre.links.len()), (REMEMBERED_MAX + 1, REMEMBERED_MAX));
    (0..100).for_each(|number| centre.handle_down(link(2_000 + number), clock.at(3_000)));
    centre.forget(clock.at(3_000 + REMEMBERED_FOR.as_secs()).at);
    assert_eq!(centre.agents.len(), 1, "an agent that the configuration names was forgotten");
}

#[test]
fn an_obstacle_that_comes_and_goes_is_told_from_its_first_time() {
    let clock = Clock::start();
    let mut centre = both(&clock);
    // The agent dies every eight seconds and returns after five.
    for (nth, start) in (100..148).step_by(8).enumerate() {
        centre.handle_down(link(10 + nth as u64), clock.at(start));
        centre.handle_down(link(2), clock.at(start));
        let expected = if start == 100 { 0 } else { 1 };
        assert_eq!(clock.told(&centre, start + 4), (0, expected), "{start}");
        centre.handle_up(link(11 + nth as u64), &id(B), None, clock.at(start + 5));
        assert_eq!(clock.told(&centre, start + 5), (0, 0), "an agent that has returned is reported");
    }
    // After some time it counts like any other agent again.
    centre.handle_down(link(16), clock.at(200));
    assert_eq!(clock.told(&centre, 209), (0, 0));
    assert_eq!(clock.told(&centre, 210), (0, 1));

    let mut centre = both(&clock);
    for start in (100..130).step_by(2) {
        centre.handle_readiness(link(2), &[Obstacle::Database].into(), clock.at(start));
        let expected = if start < 110 { 0 } else { 1 };
        assert_eq!(clock.told(&centre, start), (0, expected), "{start}");
        centre.handle_readiness(link(2), &[].into(), clock.at(start + 1));
        assert_eq!(clock.told(&centre, start + 1), (0, 0), "an obstacle that has ended is reported");
    }
    let since = clock.at(100).clock.to_string();
    centre.handle_readiness(link(2), &[Obstacle::Database].into(), clock.at(131));
    let notes = centre.said(clock.at(131).at).notes;
    assert!(notes.len() == 1 && notes[0].contains(&since), "{notes:?}");
    centre.handle_readiness(link(2), &[].into(), clock.at(132));
    centre.handle_readiness(link(2), &[Obstacle::Database].into(), clock.at(142));
    assert_eq!(clock.told(&centre, 151), (0, 0), "a new obstacle is reported at once");
}
