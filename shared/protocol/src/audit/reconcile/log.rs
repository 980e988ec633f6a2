//! One of the compared logs: its side, its extent, and the links of its agent.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::audit::entry::{Entry, Event, Opened, Word};
use crate::domain::UnixMicros;

/// Longest time between the end of a link and the entry of a request that came by it. Two tasks
/// write these entries.
const LINKS_ARE_TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Longest time between an entry of one side and the corresponding entry of the other, by either
/// clock. A link that does not answer is given up much earlier.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// End of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The storefront's end.
    Cloud,
    /// The database's end.
    Idc,
}

impl Side {
    /// Returns the opposite end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Cloud => Self::Idc,
            Self::Idc => Self::Cloud,
        }
    }

    /// Returns the code for `--json` and SPIFFE IDs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Idc => "idc",
        }
    }

    /// Returns the side of a log by its origin, or of an agent by its SPIFFE ID: `.../cloud/NAME`
    /// or `.../idc/NAME`. Returns `None` for another form: a configured origin may have any name.
    pub fn of_origin(origin: &str) -> Option<Self> {
        match origin.rsplit('/').nth(1)? {
            "cloud" => Some(Self::Cloud),
            "idc" => Some(Self::Idc),
            _ => None,
        }
    }

    /// Returns the side whose agents write such an event, or `None` if both do.
    pub fn of_event(event: &Event) -> Option<Self> {
        match event {
            Event::OrderSent(_) | Event::PaymentSent(_) => Some(Self::Cloud),
            Event::OrderReceived(_)
            | Event::OrderCommitted(_)
            | Event::PaymentReceived(_)
            | Event::PaymentCommitted(_)
            | Event::PaymentResolved(_)
            | Event::PersonalShown(_) => Some(Self::Idc),
            // An agent accepts only peers of the other side.
            Event::TunnelOpened(Opened { peer, .. }) => Self::of_origin(peer.as_str()).map(Self::other),
            Event::AgentStarted(_)
            | Event::AgentStopped(_)
            | Event::ConfigurationChanged(_)
            | Event::KeysChanged(_)
            | Event::TunnelClosed(_)
            | Event::TunnelRefused(_)
            | Event::TunnelSwitched(_)
            | Event::OrderAnswered(_)
            | Event::PaymentAnswered(_) => None,
        }
    }
}

/// The extent of a log and the names of its agent.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) side: Side,
    /// Names of its agent, by the log's origin and by its own entries.
    names: BTreeSet<String>,
    pub(super) entries: u64,
    pub(super) ends: Option<UnixMicros>,
    /// Set if its agent logged more than is given.
    pub(super) ends_early: bool,
    /// Last entry about the end of a link, or of an agent that did not end in order.
    pub(super) cut: Option<u64>,
    /// Last entry of a start that did not follow an end in order.
    pub(super) crashed: Option<u64>,
    /// Set while the agent has started and not ended.
    runs: bool,
    /// All links in order.
    links: Vec<Link>,
    /// Links that are up: index in `links` by number.
    up: HashMap<u64, usize>,
    /// First entry that only the other side's agents write.
    pub(super) foreign: Option<u64>,
}

/// A link to a peer.
#[derive(Debug)]
struct Link {
    peer: Word,
    from: UnixMicros,
    /// End of the link; `None` while it is up.
    to: Option<UnixMicros>,
}

impl Log {
    pub(super) fn new(side: Side, origin: &str) -> Self {
        let name = Side::of_origin(origin).and_then(|_| origin.rsplit('/').next());
        Self {
            side,
            names: name.map(str::to_owned).into_iter().collect(),
            entries: 0,
            ends: None,
            ends_early: false,
            cut: None,
            crashed: None,
            runs: false,
            links: Vec::new(),
            up: HashMap::new(),
            foreign: None,
        }
    }

    /// Takes the next entry and returns its index.
    pub(super) fn take(&mut self, entry: &Entry) -> u64 {
        let index = self.entries;
        self.entries += 1;
        self.ends = self.ends.max(Some(entry.at));
        if Side::of_event(&entry.event).is_some_and(|side| side != self.side) {
            self.foreign.get_or_insert(index);
        }
        match &entry.event {
            Event::AgentStarted(started) => {
                if self.runs {
                    (self.cut, self.crashed) = (Some(index), Some(index));
                }
                self.runs = true;
                self.end_links(entry.at);
                if !self.names.contains(started.name.as_str()) {
                    self.names.insert(started.name.as_str().to_owned());
                }
            }
            Event::AgentStopped(_) => {
                self.runs = false;
                self.end_links(entry.at);
            }
            Event::TunnelOpened(opened) => {
                self.up.insert(opened.link, self.links.len());
                self.links.push(Link { peer: opened.peer.clone(), from: entry.at, to: None });
            }
            Event::TunnelClosed(closed) => {
                self.cut = Some(index);
                if let Some(link) = self.up.remove(&closed.link).and_then(|at| self.links.get_mut(at)) {
                    link.to = Some(entry.at);
                }
            }
            _ => {}
        }
        index
    }

    fn end_links(&mut self, at: UnixMicros) {
        for (_, link) in self.up.drain() {
            if let Some(link) = self.links.get_mut(link) {
                link.to = Some(at);
            }
        }
    }

    /// Returns all peers that the agent ever had a link to.
    pub(super) fn peers(&self) -> BTreeSet<&Word> {
        self.links.iter().map(|link| &link.peer).collect()
    }

    /// Returns the peers that had a link in this time, or all peers if the log has no link of that
    /// time.
    pub(super) fn peers_between(&self, from: UnixMicros, to: Option<UnixMicros>) -> BTreeSet<&Word> {
        let was_up = |link: &&Link| {
            to.is_none_or(|to| link.from <= to.plus(LINKS_ARE_TOLD_WITHIN))
                && link.to.is_none_or(|end| end.plus(LINKS_ARE_TOLD_WITHIN) >= from)
        };
        let then: BTreeSet<&Word> = self.links.iter().filter(was_up).map(|link| &link.peer).collect();
        if then.is_empty() { self.peers() } else { then }
    }

    /// Returns true if this is the log of the agent with this SPIFFE ID.
    pub(super) fn is_of(&self, peer: &Word) -> bool {
        peer.as_str().rsplit('/').next().is_some_and(|name| self.names.contains(name))
    }

    /// Returns true if the entry for a request that the other side logged at `at` may be behind
    /// this log's end.
    pub(super) fn ends_by(&self, at: UnixMicros) -> bool {
        // The last entry of an agent that ended in order is the true end. If the log goes on, older
        // entries may follow: an entry's time is when it began to wait to be written.
        let is_open = self.ends_early || self.runs;
        let at = if is_open { at.plus(TOLD_WITHIN) } else { at };
        self.ends.is_none_or(|ends| at >= ends)
    }

    /// Returns true if both are logs of one agent, which may have begun a new log.
    pub(super) fn is_kin(&self, other: &Self) -> bool {
        self.side == other.side && !self.names.is_disjoint(&other.names)
    }
}
