//! A cloud agent between two agents of the data centre, each with a database of its own speed: its
//! admission, its sender and its grant book, by a virtual clock in steps of a millisecond.

use bridge_protocol::domain::{OrderId, UnixMicros};
use bridge_protocol::order_link::credits::GrantBook;
use bridge_protocol::order_link::fair_share::BrandIndex;
use bridge_protocol::order_link::sender::{BodyMark, Output, RequestClass, RequestId, Sender, SenderLimits};
use bridge_protocol::wire::order::{Cancel, Refusal, Refused, Settled, ToCloud, to_cloud, to_idc};

use super::*;

/// Time on the line in one direction.
const ONE_WAY: u64 = 5;

/// Largest number of requests that one link carries.
const WINDOW: u32 = 4_096;

const SLOW: Speed = Speed { fixed_micros: 300_000, each_micros: 1_800 };

/// An agent of the data centre.
struct IdcModel {
    credits: Credits,
    speed: Speed,
    /// True while its database does not work, so it refuses each request.
    is_away: bool,
    /// Requests with the times of their arrival.
    queue: VecDeque<(u64, RequestId)>,
    batch: Option<(Vec<RequestId>, u64, u64)>,
    committed: Vec<u64>,
    waits: Vec<(u64, u64)>,
    refused: usize,
}

/// Message on a line.
#[expect(clippy::large_enum_variant, reason = "a test has few of them at a time")]
enum OnLine {
    Request(LinkId, RequestId),
    Answer(LinkId, ToCloud),
    Grants(LinkId, Grants),
    IsStopped(LinkId, bool),
}

struct World {
    now: u64,
    sender: Sender,
    book: GrantBook,
    agents: [IdcModel; 2],
    line: VecDeque<(u64, OnLine)>,
    /// Requests that are admitted and not answered.
    outstanding: u32,
    offered: u64,
    submitted: u64,
    /// Sends that were above the grant of their link, since a grant was there.
    above: usize,
    on_link: [u32; 2],
}

fn link_of(index: usize) -> LinkId {
    LinkId(1 + index as u64)
}

fn index_of(link: LinkId) -> usize {
    usize::from(link == LinkId(2))
}

impl World {
    fn new(speeds: [Speed; 2], offered: u64) -> Self {
        let limits = SenderLimits {
            queue_max: 2_000,
            questions_max: 10,
            settling_max: 10,
            answer_within: Duration::from_secs(600),
            settle_for: Duration::from_secs(600),
            resend_after: Duration::from_secs(600),
        };
        let mut sender = Sender::with_weights(limits, &[1]);
        let mut book = GrantBook::default();
        for index in 0..2 {
            sender.handle_link_up(Duration::ZERO, link_of(index), 1, WINDOW);
            book.handle_link_up(link_of(index));
        }
        let agent = |speed| IdcModel {
            credits: Credits::new(WINDOW as usize),
            speed,
            is_away: false,
            queue: VecDeque::new(),
            batch: None,
            committed: Vec::new(),
            waits: Vec::new(),
            refused: 0,
        };
        Self {
            now: 0,
            sender,
            book,
            agents: speeds.map(agent),
            line: VecDeque::new(),
            outstanding: 0,
            offered,
            submitted: 0,
            above: 0,
            on_link: [0; 2],
        }
    }

    fn run_for(&mut self, millis: u64) {
        for _ in 0..millis {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += 1;
        while self.line.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, arrived)) = self.line.pop_front() else { break };
            self.arrive(arrived);
        }
        let (now, offered) = (millis(self.now), self.offered);
        if self.sender.next_timeout().is_some_and(|at| at <= now) {
            self.sender.handle_timeout(now);
        }
        for _ in 0..(self.now * offered / SECOND - (self.now - 1) * offered / SECOND) {
            let limit = self.limit().unwrap_or(u32::MAX);
            if self.outstanding < limit && self.sender.has_room(RequestClass::Write, BrandIndex(0)) {
                self.submit(now);
            }
        }
        self.send();
        for index in 0..2 {
            self.commit(index);
        }
    }

    /// Returns the limit that admission is told.
    fn limit(&self) -> Option<u32> {
        let writes = |link| self.sender.writes_on(link, BrandIndex(0));
        let limit = self.book.limit_of(millis(self.now), &brand(0), writes);
        limit.map(|limit| limit.outstanding)
    }

    fn submit(&mut self, now: Duration) {
        self.submitted += 1;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.submitted.to_be_bytes());
        let order = OrderId::new(UnixMicros::new(1), key[..10].try_into().unwrap());
        let cancel = Cancel {
            brand: "brand-0".to_owned(),
            order: order.as_bytes().to_vec().into(),
            key: key.to_vec().into(),
        };
        let kind = to_idc::Kind::Cancel(cancel);
        if self.sender.submit(now, BrandIndex(0), order, kind, BodyMark(1)).is_ok() {
            self.outstanding += 1;
        }
    }

    fn send(&mut self) {
        while let Some(output) = self.sender.poll_output() {
            match output {
                Output::Transmit { link, message, .. } => {
                    let on_link = &mut self.on_link[index_of(link)];
                    *on_link += 1;
                    let granted =
                        self.book.granted_on(millis(self.now), link).map(|(_, granted)| granted).next();
                    self.above += usize::from(granted.is_some_and(|granted| *on_link > granted));
                    self.put_on_line(OnLine::Request(link, RequestId(message.request)));
                }
                Output::Answer { .. } | Output::PushedOut { .. } => self.outstanding -= 1,
                Output::SealAgain { .. } => panic!("nothing is sealed"),
            }
        }
    }

    fn put_on_line(&mut self, what: OnLine) {
        self.line.push_back((self.now + ONE_WAY, what));
    }

    fn arrive(&mut self, arrived: OnLine) {
        let now = millis(self.now);
        match arrived {
            OnLine::Request(link, request) => {
                let agent = &mut self.agents[index_of(link)];
                if agent.is_away {
                    agent.refused += 1;
                    let kind = to_cloud::Kind::Refused(Refused::from(Refusal::DatabaseDown));
                    return self
                        .put_on_line(OnLine::Answer(link, ToCloud { request: request.0, kind: Some(kind) }));
                }
                agent.credits.came(now, link, &brand(0));
                agent.queue.push_back((self.now, request));
            }
            OnLine::Answer(link, answer) => {
                self.on_link[index_of(link)] -= 1;
                self.sender.handle_answer(now, link, answer);
            }
            OnLine::Grants(link, grants) => {
                self.book.handle_grants(now, link, &grants);
                let granted: Vec<_> =
                    self.book.granted_on(now, link).map(|(_, granted)| (BrandIndex(0), granted)).collect();
                self.sender.handle_grants(now, link, granted);
            }
            OnLine::IsStopped(link, is_stopped) => {
                self.book.handle_stopped(link, is_stopped);
                self.sender.handle_stopped(now, link, is_stopped);
            }
        }
    }

    fn commit(&mut self, index: usize) {
        let (now, link) = (self.now, link_of(index));
        let agent = &mut self.agents[index];
        let mut sent = Vec::new();
        if let Some((batch, began, ends)) = agent.batch.take_if(|(_, _, ends)| *ends <= now) {
            agent.credits.took(millis(ends - began), batch.len());
            for request in batch {
                agent.credits.committed(&brand(0));
                agent.committed.push(now);
                let kind = Some(to_cloud::Kind::Settled(Settled::default()));
                sent.push(OnLine::Answer(link, ToCloud { request: request.0, kind }));
            }
        }
        if agent.batch.is_none() && !agent.queue.is_empty() {
            let size = agent.queue.len().min(BATCH_MAX);
            let batch: Vec<_> = agent.queue.drain(..size).collect();
            let waited = batch.iter().map(|(at, _)| now - at).max().unwrap_or(0);
            agent.waits.push((now, waited));
            agent.credits.began(&brand(0), millis(waited));
            let micros = agent.speed.fixed_micros + agent.speed.each_micros * batch.len() as u64;
            let batch = batch.into_iter().map(|(_, request)| request).collect();
            agent.batch = Some((batch, now, now + micros.div_ceil(1_000)));
        }
        if agent.is_away {
            agent.credits.lift();
        }
        if agent.credits.is_due(millis(now)) {
            let name = brand(0);
            let waiting: Vec<_> = agent.queue.iter().map(|(at, _)| millis(now - at)).collect();
            let waiting = waiting.iter().map(|waits| (&name, *waits));
            let grants = agent.credits.compute(millis(now), millis(2 * ONE_WAY), waiting);
            sent.extend(grants.map(|grants| OnLine::Grants(link, grants)));
        }
        sent.into_iter().for_each(|what| self.put_on_line(what));
    }

    /// Makes an agent lose its database, or have it again. It refuses what waits, and reports it.
    fn set_away(&mut self, index: usize, is_away: bool) {
        let (link, agent) = (link_of(index), &mut self.agents[index]);
        agent.is_away = is_away;
        let waited: Vec<_> = agent.queue.drain(..).collect();
        for (_, request) in waited {
            let kind = Some(to_cloud::Kind::Refused(Refused::from(Refusal::DatabaseDown)));
            self.put_on_line(OnLine::Answer(link, ToCloud { request: request.0, kind }));
        }
        self.put_on_line(OnLine::IsStopped(link, is_away));
    }

    fn rate(&self, index: usize, over: u64) -> u64 {
        let since = self.now - over;
        let committed = self.agents[index].committed.iter().rev().take_while(|at| **at > since);
        committed.count() as u64 * SECOND / over
    }

    fn longest_wait(&self, index: usize, over: u64) -> u64 {
        let since = self.now - over;
        let waits = self.agents[index].waits.iter().filter(|(at, _)| *at > since);
        waits.map(|(_, waited)| *waited).max().unwrap_or(0)
    }
}

#[test]
fn a_slow_agent_gets_no_more_than_it_grants() {
    for offered in [3_000, 8_000] {
        let mut world = World::new([FAST, SLOW], offered);
        world.run_for(10 * SECOND);
        (world.above, world.agents[1].waits) = (0, Vec::new());
        world.run_for(10 * SECOND);
        assert_eq!(world.above, 0, "{offered} a second: requests were sent above a grant");
        let (waited, commit) = (world.longest_wait(1, 10 * SECOND), 300 + 18 * BATCH_MAX as u64 / 10);
        assert!(waited <= 2 * commit + 200, "{offered} a second: {waited} ms at the slow one");
        let rates = [0, 1].map(|index| world.rate(index, 10 * SECOND));
        let best = [FAST, SLOW].map(steady_rate);
        let wanted = offered.min(best[0] + best[1]) * 95 / 100;
        assert!(rates[0] + rates[1] >= wanted, "{offered} a second: {rates:?} of {best:?}");
    }
}

#[test]
fn without_its_database_an_agent_gets_nothing() {
    let mut world = World::new([FAST, FAST], 15_000);
    world.run_for(5 * SECOND);
    assert!(world.limit().is_some());
    world.set_away(0, true);
    world.run_for(2 * SECOND);
    let refused = world.agents[0].refused;
    for _ in 0..30 {
        world.run_for(100);
        assert!(world.limit().is_some(), "there is no limit at all");
    }
    assert_eq!(world.agents[0].refused, refused, "it was asked to commit");
    assert!(world.rate(1, 3 * SECOND) * 100 >= steady_rate(FAST) * 90, "{}", world.rate(1, 3 * SECOND));
    world.set_away(1, true);
    world.run_for(2 * SECOND);
    assert_eq!(world.limit(), None, "each request hears that there is no database");
    let refused = world.agents.each_ref().map(|agent| agent.refused);
    world.run_for(SECOND);
    assert!((0..2).any(|index| world.agents[index].refused > refused[index]));
    [0, 1].into_iter().for_each(|index| world.set_away(index, false));
    world.run_for(5 * SECOND);
    let rates = [0, 1].map(|index| world.rate(index, SECOND));
    assert!(rates.iter().all(|rate| rate * 100 >= steady_rate(FAST) * 90), "{rates:?}");
}
