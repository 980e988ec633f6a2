//! One of the logs that are compared: which side's it is, how far it goes, and to whom its agent had links.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::audit::entry::{Entry, Event, Opened, Word};
use crate::domain::UnixMicros;

/// The end of a link and the entry of a request that came by it are logged by two tasks: so much may lie between them.
const LINKS_ARE_TOLD_WITHIN: Duration = Duration::from_secs(10);

/// What an agent did with a request, it has logged so long after the other side logged its part, by whichever clock: a link that does
/// not answer is given up long before that.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// Which end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Beside the storefront.
    Cloud,
    /// Beside the database.
    Idc,
}

impl Side {
    /// The end that this one talks with.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Cloud => Self::Idc,
            Self::Idc => Self::Cloud,
        }
    }

    /// The code in `--json`, and in a SPIFFE ID.
    pub fn code(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Idc => "idc",
        }
    }

    /// The side of a log by its origin, or of an agent by its SPIFFE ID: `.../cloud/NAME` or `.../idc/NAME`. An origin that was
    /// configured may say nothing of it.
    pub fn of_origin(origin: &str) -> Option<Self> {
        match origin.rsplit('/').nth(1)? {
            "cloud" => Some(Self::Cloud),
            "idc" => Some(Self::Idc),
            _ => None,
        }
    }

    /// The side of the log that an entry is in, where only one side's agents log such a thing.
    pub fn of_event(event: &Event) -> Option<Self> {
        match event {
            Event::OrderSent(_) | Event::PaymentSent(_) => Some(Self::Cloud),
            Event::OrderReceived(_)
            | Event::OrderCommitted(_)
            | Event::PaymentReceived(_)
            | Event::PaymentCommitted(_)
            | Event::PaymentResolved(_)
            | Event::PersonalShown(_) => Some(Self::Idc),
            // An agent takes peers of the other side alone.
            Event::TunnelOpened(Opened { peer, .. }) => Self::of_origin(peer.as_str()).map(Self::other),
            Event::AgentStarted(_)
            | Event::AgentStopped(_)
            | Event::ConfigurationChanged(_)
            | Event::KeysChanged(_)
            | Event::TunnelClosed(_)
            | Event::TunnelRefused(_)
            | Event::OrderAnswered(_)
            | Event::PaymentAnswered(_) => None,
        }
    }
}

/// How far a log goes, and whose it is.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) side: Side,
    /// What its agent is called, by the log's origin and by its own word.
    names: BTreeSet<String>,
    pub(super) entries: u64,
    pub(super) ends: Option<UnixMicros>,
    /// Whether its agent logged more than is given of it.
    pub(super) ends_early: bool,
    /// The last entry that tells of a link's end, or of an agent's that was not in order.
    pub(super) cut: Option<u64>,
    /// The last entry of an agent that started although none had ended in order.
    pub(super) crashed: Option<u64>,
    /// Whether the agent has started and not ended.
    runs: bool,
    /// All links, the first one first.
    links: Vec<Link>,
    /// Those that are up: by their number, where they stand in `links`.
    up: HashMap<u64, usize>,
    /// The first entry that only the other side's agents log.
    pub(super) foreign: Option<u64>,
}

/// A link to a peer.
#[derive(Debug)]
struct Link {
    peer: Word,
    from: UnixMicros,
    /// `None` while it is up.
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

    /// Takes the next entry; its index.
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

    /// Everybody whom the agent has ever had a link to.
    pub(super) fn peers(&self) -> BTreeSet<&Word> {
        self.links.iter().map(|link| &link.peer).collect()
    }

    /// Those whom it had a link to then. Where the log has no link of that time, everybody.
    pub(super) fn peers_between(&self, from: UnixMicros, to: Option<UnixMicros>) -> BTreeSet<&Word> {
        let was_up = |link: &&Link| {
            to.is_none_or(|to| link.from <= to.plus(LINKS_ARE_TOLD_WITHIN))
                && link.to.is_none_or(|end| end.plus(LINKS_ARE_TOLD_WITHIN) >= from)
        };
        let then: BTreeSet<&Word> = self.links.iter().filter(was_up).map(|link| &link.peer).collect();
        if then.is_empty() { self.peers() } else { then }
    }

    /// Whether this is the log of the agent with this SPIFFE ID.
    pub(super) fn is_of(&self, peer: &Word) -> bool {
        peer.as_str().rsplit('/').next().is_some_and(|name| self.names.contains(name))
    }

    /// Whether what it would have of a request that the other side had a part in then may lie behind its end.
    pub(super) fn ends_by(&self, at: UnixMicros) -> bool {
        // What an agent that has ended in order logged last is the end. Where it goes on, entries may follow that are older: each has
        // the time at which it began to wait for its turn.
        let is_open = self.ends_early || self.runs;
        let at = if is_open { at.plus(TOLD_WITHIN) } else { at };
        self.ends.is_none_or(|ends| at >= ends)
    }

    /// Whether both are logs of one agent, which may have begun a new one.
    pub(super) fn is_kin(&self, other: &Self) -> bool {
        self.side == other.side && !self.names.is_disjoint(&other.names)
    }
}
