//! State of the data centre's agents: linked or away since a time, and the obstacles that each
//! reports.
//!
//! The code is sans-IO: the order link's owner passes events of the tunnel, and the admin listener
//! reads the state. A state that lasts less than [`GRACE`] is not reported, and a state that is
//! over is not reported any more. So a restart or a new link is no news, and reports do not
//! flicker. If no agent takes orders, their obstacles are reported at once, because every order is
//! refused meanwhile.
//!
//! If a state returns within [`GRACE`] after it ended, it counts as lasting since its first start.
//! So an agent that dies again and again, or whose database works only for moments, is reported.
//! Only a closed list of a peer's obstacles is kept, and only for the identity that the peer has
//! proved.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bridge_protocol::domain::UnixMicros;
use bridge_protocol::domain::identity::{Role, SpiffeId};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::wire::control::Obstacle;
use serde_json::{Value, json};

use crate::metrics::AgentStanding;

/// Time that a state must last before an operator is told: longer than a restart, and longer than a
/// link needs to return.
pub const GRACE: Duration = Duration::from_secs(10);

/// Most remembered agents that the configuration does not name. Each has a certificate.
const REMEMBERED_MAX: usize = 64;

/// Time for which such an agent is remembered after it went away.
const REMEMBERED_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A moment by two clocks: one to measure, one to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By this process's monotonic clock.
    pub at: Instant,
    /// By the wall clock.
    pub clock: UnixMicros,
}

/// The agents of the data centre, as this agent sees them.
#[derive(Debug, Default)]
pub struct DataCentre {
    /// Agents by SPIFFE ID, or by configured address if they were never reached.
    agents: BTreeMap<String, AgentRecord>,
    /// Agent of each link.
    links: HashMap<LinkId, String>,
}

#[derive(Debug)]
struct AgentRecord {
    /// Set if the configuration names it. Then it counts as missing until it is linked.
    is_expected: bool,
    /// Its links, the newest last.
    links: BTreeMap<LinkId, Link>,
    /// Start of its present state, linked or away.
    since: Moment,
    /// Time when it was away last.
    was_away: Option<Lasted>,
    /// Obstacles that it reported on its newest link, each with its start; `None` if it reported
    /// nothing, as an earlier release does.
    told: Option<BTreeMap<Obstacle, Moment>>,
    /// Obstacles that are over.
    was_told: BTreeMap<Obstacle, Lasted>,
}

/// One link to an agent. A newer link may belong to a new process while the end of the old one is
/// not known yet.
#[derive(Debug, Default)]
struct Link {
    /// Set if it takes requests.
    is_open: bool,
    /// Obstacles that were reported on it.
    told: Option<BTreeSet<Obstacle>>,
}

/// A state that is over and may return.
#[derive(Debug, Clone, Copy)]
struct Lasted {
    since: Moment,
    until: Instant,
}

impl Lasted {
    /// Returns the start of a state that exists now, which is the earlier start if it has returned.
    fn comes_back(last: Option<Self>, now: Moment) -> Moment {
        last.filter(|last| now.at.saturating_duration_since(last.until) < GRACE)
            .map_or(now, |last| last.since)
    }
}

/// Report for an operator, each entry as a sentence.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DataCentreReport {
    /// Obstacles of this agent: no agent of the data centre takes orders.
    pub obstacles: Vec<String>,
    /// Problems to look after, although orders pass.
    pub notes: Vec<String>,
}

impl DataCentre {
    /// Makes the state without links. Agents in `tunnel.allow` count as missing until they are
    /// linked. If the list is empty, all dialled addresses do.
    pub fn expecting(allowed: &[String], dialled: &[String], now: Moment) -> Self {
        let ids = allowed.iter().filter_map(|id| id.parse::<SpiffeId>().ok());
        let ids = ids.filter(|id| id.role() == Role::Idc).map(|id| id.to_string());
        let expected: Vec<String> = if allowed.is_empty() { dialled.to_vec() } else { ids.collect() };
        let agents = expected.into_iter().map(|name| (name, AgentRecord::away(true, now))).collect();
        Self { agents, links: HashMap::new() }
    }

    /// Takes a new link to this agent. `target` is the address that this side dialled, if it did.
    pub fn handle_up(&mut self, link: LinkId, peer: &SpiffeId, target: Option<&str>, now: Moment) {
        self.forget(now.at);
        // From here on its identity takes the place of its address.
        target.map(|target| self.agents.remove(target));
        let id = peer.to_string();
        if !self.agents.contains_key(&id) && !self.has_room() {
            return;
        }
        let agent = self.agents.entry(id.clone()).or_insert_with(|| AgentRecord::away(false, now));
        agent.change(now, |links| links.insert(link, Link { is_open: true, told: None }));
        self.links.insert(link, id);
    }

    /// Takes that a link takes requests, or does not because its agent is silent or stopping.
    pub fn handle_open(&mut self, link: LinkId, is_open: bool, now: Moment) {
        if let Some(agent) = self.agent(link) {
            agent.change(now, |links| links.entry(link).or_default().is_open = is_open);
        }
    }

    /// Takes the end of a link.
    pub fn handle_down(&mut self, link: LinkId, now: Moment) {
        if let Some(agent) = self.agent(link) {
            agent.change(now, |links| links.remove(&link));
        }
        self.links.remove(&link);
    }

    /// Takes the obstacles that the agent of a link reports.
    pub fn handle_readiness(&mut self, link: LinkId, obstacles: &BTreeSet<Obstacle>, now: Moment) {
        if let Some(agent) = self.agent(link) {
            agent.change(now, |links| links.entry(link).or_default().told = Some(obstacles.clone()));
        }
    }

    /// Forgets agents that have been away for long and that the configuration does not name.
    pub fn forget(&mut self, now: Instant) {
        self.agents.retain(|_, agent| agent.is_expected || !agent.is_away_for(REMEMBERED_FOR, now));
    }

    /// Returns the current report for an operator.
    pub fn said(&self, now: Instant) -> DataCentreReport {
        let is_in_the_way = |(stops_orders, _): &(bool, String)| *stops_orders;
        let takes_orders = self.takes_orders();
        let grace = if takes_orders { GRACE } else { Duration::ZERO };
        let lines = self.agents.iter().flat_map(|(name, agent)| agent.lines(name, grace, now));
        let (in_the_way, notes): (Vec<_>, Vec<_>) = lines.partition(is_in_the_way);
        let texts = |lines: Vec<(bool, String)>| lines.into_iter().map(|(_, line)| line).collect();
        if takes_orders {
            return DataCentreReport { obstacles: Vec::new(), notes: texts([in_the_way, notes].concat()) };
        }
        DataCentreReport { obstacles: texts(in_the_way), notes: texts(notes) }
    }

    /// Returns true if an agent is linked and reports nothing that stops orders.
    pub fn takes_orders(&self) -> bool {
        self.count(AgentStanding::TakesOrders) > 0
    }

    /// Returns one row for each agent, for `status`.
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

    /// Returns the number of agents in a state, without the grace period. Smoothing is the task of
    /// the metrics' reader.
    pub fn count(&self, standing: AgentStanding) -> usize {
        self.agents.values().filter(|agent| agent.stands(standing)).count()
    }

    fn agent(&mut self, link: LinkId) -> Option<&mut AgentRecord> {
        self.agents.get_mut(self.links.get(&link)?)
    }

    /// Makes room for one more agent that the configuration does not name. The one that is away the
    /// longest is forgotten.
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
                // An agent that is seen for the first time was not away.
                let was_there = self.since.at < now.at;
                self.was_away = was_there.then_some(Lasted { since: self.since, until: now.at });
                self.since = now;
            }
            (true, false) => self.since = Lasted::comes_back(self.was_away, now),
            _ => {}
        }
        // The report on an older link stays valid until that link is silent: the one on the newest
        // link comes a moment after it is up.
        let mut open = self.links.values().rev().filter(|link| link.is_open);
        let told = open.find_map(|link| link.told.clone());
        self.set_told(told.as_ref(), now);
    }

    /// Sets the obstacles that it reports, or `None` if it reports nothing.
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

    /// Returns the obstacles that it has reported for longer than the grace period. `grace` is the
    /// period of those that stop orders.
    fn obstacles(&self, grace: Duration, now: Instant) -> impl Iterator<Item = (Obstacle, Moment)> {
        let lasts = move |(obstacle, since): &(Obstacle, Moment)| {
            let grace = if obstacle.stops_orders() { grace } else { GRACE };
            now.saturating_duration_since(since.at) >= grace
        };
        let told = self.told.iter().flatten().map(|(obstacle, since)| (*obstacle, *since));
        told.filter(move |told| self.is_linked() && lasts(told))
    }

    /// Returns the sentences about it, each with a flag that it takes no orders for this reason.
    /// See [`Self::obstacles`] for `grace`.
    fn lines(&self, name: &str, grace: Duration, now: Instant) -> Vec<(bool, String)> {
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
        self.obstacles(grace, now).map(line).collect()
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

/// Describes an obstacle in this agent's words. A peer chooses among them and cannot add any.
fn sentence(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Database => "its database does not work, so it takes no orders",
        Obstacle::AuditLog => "its audit log cannot be written, so it takes no orders",
        Obstacle::Brand => "its database refuses what a brand asks for, and works for others",
        Obstacle::Catalogue => "its database reports no changes of the catalogue",
        Obstacle::AuditUnpublished => {
            "its audit log cannot be published, so that it will soon take no orders"
        }
        Obstacle::Other => "it has an obstacle that this version does not know",
    }
}

#[cfg(test)]
mod tests;
