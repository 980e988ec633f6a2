//! What is known of the data centre's agents: who is linked, who is away since when, and what each says is in its way.
//!
//! Sans-IO: the order link's owner brings what happens on the tunnel, the admin listener asks. What lasts for less than
//! [`GRACE`] is told to nobody, and what is over is told no more: a restart or a new link is no news, and nothing flickers. What comes
//! back before it was away for so long lasts on since it first came: so an agent that dies again and again, or whose database works
//! for a moment at a time, is told of.
//! Of what a peer sends only a closed list is kept, and only for the agent that proved to be it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bridge_protocol::domain::UnixMicros;
use bridge_protocol::domain::identity::{Role, SpiffeId};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::wire::control::Obstacle;
use serde_json::{Value, json};

use crate::metrics::AgentStanding;

/// How long something lasts before an operator is told: longer than a restart, or than a link takes to come back.
pub const GRACE: Duration = Duration::from_secs(10);

/// Agents that are remembered which the configuration does not name. There is one for each certificate at most.
const REMEMBERED_MAX: usize = 64;

/// How long such an agent is remembered that does not come back.
const REMEMBERED_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A moment by both clocks: one to measure by, one to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Of this process.
    pub at: Instant,
    /// Of the wall.
    pub clock: UnixMicros,
}

/// The agents of the data centre, as this agent sees them.
#[derive(Debug, Default)]
pub struct DataCentre {
    /// By SPIFFE ID; by configured address those that were never reached.
    agents: BTreeMap<String, AgentRecord>,
    /// Whose link it is.
    links: HashMap<LinkId, String>,
}

#[derive(Debug)]
struct AgentRecord {
    /// Whether the configuration names it, so that it is missed until it is there.
    is_expected: bool,
    /// Its links, the newest last.
    links: BTreeMap<LinkId, Link>,
    /// Since when it is linked, or away.
    since: Moment,
    /// When it was away last.
    was_away: Option<Lasted>,
    /// What it says is in its way on its newest link, and since when; `None` while it says nothing of it, as an earlier release does.
    told: Option<BTreeMap<Obstacle, Moment>>,
    /// What was in its way.
    was_told: BTreeMap<Obstacle, Lasted>,
}

/// One link to an agent. Its process may be another one than that of an older link whose end is not known yet.
#[derive(Debug, Default)]
struct Link {
    /// Whether it takes requests.
    is_open: bool,
    /// What was said on it to be in the agent's way.
    told: Option<BTreeSet<Obstacle>>,
}

/// Something that was, and may come back.
#[derive(Debug, Clone, Copy)]
struct Lasted {
    since: Moment,
    until: Instant,
}

impl Lasted {
    /// Since when it is, if it has come back now.
    fn comes_back(last: Option<Self>, now: Moment) -> Moment {
        last.filter(|last| now.at.saturating_duration_since(last.until) < GRACE)
            .map_or(now, |last| last.since)
    }
}

/// What an operator is told, each as a sentence.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DataCentreReport {
    /// What keeps this agent from passing on orders: nobody in the data centre takes any.
    pub obstacles: Vec<String>,
    /// What somebody should see to, although orders pass.
    pub notes: Vec<String>,
}

impl DataCentre {
    /// Nobody is linked yet, and these are missed until they are: every agent that `tunnel.allow` names, or where it names
    /// none, whatever is dialled.
    pub fn expecting(allowed: &[String], dialled: &[String], now: Moment) -> Self {
        let ids = allowed.iter().filter_map(|id| id.parse::<SpiffeId>().ok());
        let ids = ids.filter(|id| id.role() == Role::Idc).map(|id| id.to_string());
        let expected: Vec<String> = if allowed.is_empty() { dialled.to_vec() } else { ids.collect() };
        let agents = expected.into_iter().map(|name| (name, AgentRecord::away(true, now))).collect();
        Self { agents, links: HashMap::new() }
    }

    /// A link to this agent is up; `target` is what was dialled, if this side did.
    pub fn handle_up(&mut self, link: LinkId, peer: &SpiffeId, target: Option<&str>, now: Moment) {
        self.forget(now.at);
        // From here on its identity stands for it.
        target.map(|target| self.agents.remove(target));
        let id = peer.to_string();
        if !self.agents.contains_key(&id) && !self.has_room() {
            return;
        }
        let agent = self.agents.entry(id.clone()).or_insert_with(|| AgentRecord::away(false, now));
        agent.change(now, |links| links.insert(link, Link { is_open: true, told: None }));
        self.links.insert(link, id);
    }

    /// A link takes requests from now on, or does not: its agent is silent, or is ending.
    pub fn handle_open(&mut self, link: LinkId, is_open: bool, now: Moment) {
        if let Some(agent) = self.agent(link) {
            agent.change(now, |links| links.entry(link).or_default().is_open = is_open);
        }
    }

    /// A link is gone.
    pub fn handle_down(&mut self, link: LinkId, now: Moment) {
        if let Some(agent) = self.agent(link) {
            agent.change(now, |links| links.remove(&link));
        }
        self.links.remove(&link);
    }

    /// The agent at the other end of a link says what is in its way.
    pub fn handle_readiness(&mut self, link: LinkId, obstacles: &BTreeSet<Obstacle>, now: Moment) {
        if let Some(agent) = self.agent(link) {
            agent.change(now, |links| links.entry(link).or_default().told = Some(obstacles.clone()));
        }
    }

    /// Forgets agents that have been away for long, and that the configuration does not name.
    pub fn forget(&mut self, now: Instant) {
        self.agents.retain(|_, agent| agent.is_expected || !agent.is_away_for(REMEMBERED_FOR, now));
    }

    /// What an operator is to know now.
    pub fn said(&self, now: Instant) -> DataCentreReport {
        let is_in_the_way = |(stops_orders, _): &(bool, String)| *stops_orders;
        let lines = || self.agents.iter().flat_map(|(name, agent)| agent.lines(name, now));
        let (in_the_way, notes): (Vec<_>, Vec<_>) = lines().partition(is_in_the_way);
        let texts = |lines: Vec<(bool, String)>| lines.into_iter().map(|(_, line)| line).collect();
        if self.agents.values().any(|agent| agent.takes_orders(now)) {
            return DataCentreReport { obstacles: Vec::new(), notes: texts([in_the_way, notes].concat()) };
        }
        DataCentreReport { obstacles: texts(in_the_way), notes: texts(notes) }
    }

    /// One row an agent, for `status`.
    pub fn table(&self) -> Value {
        let row = |(name, agent): (&String, &AgentRecord)| {
            let told = agent.told.as_ref();
            let obstacles = told.map(|told| told.keys().map(|obstacle| obstacle.code()).collect::<Vec<_>>());
            json!({
                "agent": name,
                "linked": agent.is_linked(),
                "since": agent.since.clock.to_string(),
                "links": agent.links.len(),
                "obstacles": obstacles,
            })
        };
        self.agents.iter().map(row).collect()
    }

    /// How many agents stand so, with or without a grace: what changes is for the metrics' reader to smooth.
    pub fn count(&self, standing: AgentStanding) -> usize {
        self.agents.values().filter(|agent| agent.stands(standing)).count()
    }

    fn agent(&mut self, link: LinkId) -> Option<&mut AgentRecord> {
        self.agents.get_mut(self.links.get(&link)?)
    }

    /// Makes room for one agent more that the configuration does not name: the one that is away the longest goes.
    fn has_room(&mut self) -> bool {
        let remembered = || self.agents.iter().filter(|(_, agent)| !agent.is_expected);
        if remembered().count() < REMEMBERED_MAX {
            return true;
        }
        let away = remembered().filter(|(_, agent)| agent.links.is_empty());
        let Some(oldest) = away.min_by_key(|(_, agent)| agent.since.at).map(|(name, _)| name.clone()) else {
            return false;
        };
        self.agents.remove(&oldest).is_some()
    }
}

impl AgentRecord {
    fn away(is_expected: bool, since: Moment) -> Self {
        Self {
            is_expected,
            links: BTreeMap::new(),
            since,
            was_away: None,
            told: None,
            was_told: BTreeMap::new(),
        }
    }

    fn is_linked(&self) -> bool {
        self.links.values().any(|link| link.is_open)
    }

    fn change<T>(&mut self, now: Moment, change: impl FnOnce(&mut BTreeMap<LinkId, Link>) -> T) {
        let before = self.is_linked();
        change(&mut self.links);
        match (before, self.is_linked()) {
            (false, true) => {
                // One that is heard of for the first time was not away.
                let was_there = self.since.at < now.at;
                self.was_away = was_there.then_some(Lasted { since: self.since, until: now.at });
                self.since = now;
            }
            (true, false) => self.since = Lasted::comes_back(self.was_away, now),
            _ => {}
        }
        // What an older link said holds until it is silent: what is said on the newest one comes a moment after it is up.
        let mut open = self.links.values().rev().filter(|link| link.is_open);
        let told = open.find_map(|link| link.told.clone());
        self.set_told(told.as_ref(), now);
    }

    /// It says that this is in its way, or says nothing of it.
    fn set_told(&mut self, obstacles: Option<&BTreeSet<Obstacle>>, now: Moment) {
        let before = self.told.take().unwrap_or_default();
        let since = |obstacle: &Obstacle| {
            let is_new = || Lasted::comes_back(self.was_told.get(obstacle).copied(), now);
            before.get(obstacle).copied().unwrap_or_else(is_new)
        };
        let of = |obstacles: &BTreeSet<Obstacle>| {
            obstacles.iter().map(|obstacle| (*obstacle, since(obstacle))).collect::<BTreeMap<_, _>>()
        };
        let told = obstacles.map(of);
        for (obstacle, since) in before {
            if !told.as_ref().is_some_and(|told| told.contains_key(&obstacle)) {
                self.was_told.insert(obstacle, Lasted { since, until: now.at });
            }
        }
        self.told = told;
    }

    fn is_away_for(&self, long: Duration, now: Instant) -> bool {
        !self.is_linked() && now.saturating_duration_since(self.since.at) >= long
    }

    /// What it says is in its way, and has been for a while.
    fn obstacles(&self, now: Instant) -> impl Iterator<Item = (Obstacle, Moment)> {
        let lasts = move |since: &Moment| now.saturating_duration_since(since.at) >= GRACE;
        let told = self.told.iter().flatten().map(|(obstacle, since)| (*obstacle, *since));
        told.filter(move |(_, since)| self.is_linked() && lasts(since))
    }

    fn takes_orders(&self, now: Instant) -> bool {
        self.is_linked() && !self.obstacles(now).any(|(obstacle, _)| obstacle.stops_orders())
    }

    /// What is to be told of it, and whether it takes no orders for that.
    fn lines(&self, name: &str, now: Instant) -> Vec<(bool, String)> {
        if self.is_away_for(GRACE, now) {
            let since = self.since.clock;
            let line = format!(
                "the data centre's agent {name} is not linked since {since}: look whether it runs and what its log says, then at the line"
            );
            return vec![(true, line)];
        }
        let line = |(obstacle, since): (Obstacle, Moment)| {
            let (what, since) = (sentence(obstacle), since.clock);
            let line =
                format!("the data centre's agent {name} says since {since}: {what}; its /readyz has more");
            (obstacle.stops_orders(), line)
        };
        self.obstacles(now).map(line).collect()
    }

    fn stands(&self, standing: AgentStanding) -> bool {
        let says = |obstacle| self.told.as_ref().is_some_and(|told| told.contains_key(&obstacle));
        let stops = || self.told.iter().flatten().any(|(obstacle, _)| obstacle.stops_orders());
        match standing {
            AgentStanding::Away => !self.is_linked(),
            _ if !self.is_linked() => false,
            AgentStanding::TakesOrders => !stops(),
            AgentStanding::Database => says(Obstacle::Database),
            AgentStanding::AuditLog => says(Obstacle::AuditLog),
            AgentStanding::Brand => says(Obstacle::Brand),
            AgentStanding::Catalogue => says(Obstacle::Catalogue),
            AgentStanding::AuditUnpublished => says(Obstacle::AuditUnpublished),
            AgentStanding::Other => says(Obstacle::Other),
        }
    }
}

/// In the words of this agent: a peer chooses among them, and adds none.
fn sentence(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Database => "its database does not work, so it takes no orders",
        Obstacle::AuditLog => "its audit log cannot be written, so it takes no orders",
        Obstacle::Brand => "its database refuses what a brand asks for, and works for others",
        Obstacle::Catalogue => "its database tells nothing of the catalogue's changes",
        Obstacle::AuditUnpublished => {
            "its audit log cannot be published, so that it will soon take no orders"
        }
        Obstacle::Other => "something is in its way that this version has no word for",
    }
}

#[cfg(test)]
mod tests;
