//! Limits of one peer's links: how many it holds, and how often it begins one. An authenticated
//! peer may still be broken or hostile.
//!
//! The code is pure, with the time as an argument. Only links that the peer dials are counted here.
//! The configuration decides the number of links that this agent dials.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bridge_protocol::domain::identity::SpiffeId;

use crate::config::LINKS_PER_PEER_MAX;

/// Interval of further links, above those that a peer may begin at once. It is enough for a peer
/// all of whose links broke.
const ONE_EVERY: Duration = Duration::from_millis(1_000 / LINKS_PER_PEER_MAX as u64);

/// Reasons why a peer gets no further link now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    /// It holds as many as it may.
    #[error("it holds {0} links already: raise tunnel.links_from_peer_max here if it shall hold more")]
    AtATime(usize),
    /// It has begun too many lately.
    #[error("it begins links again and again: its log says why they end")]
    TooOften,
}

/// Start of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkStart {
    /// There is room for it.
    Beside,
    /// The peer holds as many links as it may. A silent one of them must end for this one.
    InPlaceOfSilent,
}

/// Peers that hold links, or did recently.
#[derive(Debug)]
pub(super) struct Peers {
    links_max: usize,
    /// At most as many as there are certificates.
    peers: HashMap<SpiffeId, PeerLinks>,
}

#[derive(Debug)]
struct PeerLinks {
    links: usize,
    /// Time from which it may begin as many at once as it may hold.
    rested_at: Instant,
}

impl Peers {
    /// Makes an empty register. Each peer may hold this many links.
    pub(super) fn new(links_max: usize) -> Self {
        Self { links_max, peers: HashMap::new() }
    }

    /// Takes a new link of a peer; [`Self::handle_end`] must follow. `has_silent` says that one of
    /// its links misses heartbeats. That link may be ended for the new one, without a
    /// [`Self::handle_end`] of its own.
    pub(super) fn begin(
        &mut self,
        peer: &SpiffeId,
        has_silent: bool,
        now: Instant,
    ) -> Result<LinkStart, TooMany> {
        let held = self.peers.entry(peer.clone()).or_insert(PeerLinks { links: 0, rested_at: now });
        let is_full = held.links >= self.links_max;
        if is_full && !has_silent {
            return Err(TooMany::AtATime(held.links));
        }
        let rested_at = held.rested_at.max(now) + ONE_EVERY;
        let burst = u32::try_from(self.links_max).unwrap_or(u32::MAX);
        if rested_at.saturating_duration_since(now) > ONE_EVERY * burst {
            return Err(TooMany::TooOften);
        }
        held.rested_at = rested_at;
        if is_full {
            return Ok(LinkStart::InPlaceOfSilent);
        }
        held.links += 1;
        Ok(LinkStart::Beside)
    }

    /// Takes the end of one of its links.
    pub(super) fn handle_end(&mut self, peer: &SpiffeId, now: Instant) {
        if let Some(held) = self.peers.get_mut(peer) {
            held.links = held.links.saturating_sub(1);
        }
        self.peers.retain(|_, held| held.links > 0 || held.rested_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> SpiffeId {
        format!("spiffe://bridge.test/cloud/{name}").parse().unwrap()
    }

    #[test]
    fn a_peer_holds_so_many_links_and_takes_no_room_of_another() {
        let (mut peers, now) = (Peers::new(3), Instant::now());
        let (a, b) = (peer("a"), peer("b"));
        for _ in 0..3 {
            assert_eq!(peers.begin(&a, false, now), Ok(LinkStart::Beside));
        }
        assert_eq!(peers.begin(&a, false, now), Err(TooMany::AtATime(3)));
        assert_eq!(peers.begin(&b, false, now), Ok(LinkStart::Beside));
        peers.handle_end(&a, now);
        assert_eq!(peers.begin(&a, false, now + ONE_EVERY), Ok(LinkStart::Beside));
    }

    #[test]
    fn a_link_replaces_a_silent_one_only_without_room() {
        let (mut peers, now) = (Peers::new(2), Instant::now());
        let a = peer("a");
        for _ in 0..2 {
            assert_eq!(peers.begin(&a, true, now), Ok(LinkStart::Beside));
        }
        assert_eq!(peers.begin(&a, true, now), Err(TooMany::TooOften), "a refused link ends no silent link");
        let later = now + ONE_EVERY * 2;
        assert_eq!(peers.begin(&a, true, later), Ok(LinkStart::InPlaceOfSilent));
        assert_eq!(peers.begin(&a, false, later), Err(TooMany::AtATime(2)));
        peers.handle_end(&a, later);
        peers.handle_end(&a, later);
        assert_eq!(peers.peers.get(&a).map(|held| held.links), Some(0));
    }

    #[test]
    fn a_peer_that_begins_and_ends_all_day_begins_so_often() {
        let (mut peers, start) = (Peers::new(3), Instant::now());
        let begun = |peers: &mut Peers, now| {
            let mut begin = || peers.begin(&peer("a"), false, now).map(|_| peers.handle_end(&peer("a"), now));
            (0..100).filter(|_| begin().is_ok()).count()
        };
        assert_eq!(begun(&mut peers, start), 3);
        assert_eq!(begun(&mut peers, start + ONE_EVERY * 2), 2);
        peers.handle_end(&peer("a"), start + ONE_EVERY * 100);
        assert!(peers.peers.is_empty(), "the peer is remembered");
    }
}
