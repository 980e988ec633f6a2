//! Limits handshakes: who may begin one, and which unfinished one ends to make room.
//!
//! The code is pure: it is told of arrivals and ends, with the time. A handshake costs a signature
//! and a key encapsulation, and a stranger can begin one and stay silent. So unfinished handshakes
//! are bounded. If there is no room, the source with the most of them loses its oldest one.
//!
//! A source may take all room that nobody else needs, so a fleet behind one address is admitted at
//! once. A source with fewer handshakes always finds room. A source displaces its own handshakes
//! only if they are older than a round trip: an honest peer is done by then, a silent one is not,
//! and a fleet does not end its own handshakes. Sources that have authenticated before have room of
//! their own, which strangers cannot take.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::LINKS_PER_PEER_MAX;

/// Unfinished handshakes of strangers. Known sources may have as many again.
const UNFINISHED_MAX: usize = 64;

/// A younger handshake does not make room for another one of its own source. It is a round trip
/// across the world, plus the delay of a busy machine.
const ROUND_TRIP: Duration = Duration::from_millis(500);

/// Unfinished handshakes from which on a new peer must first prove its address.
const PROOF_FROM: usize = UNFINISHED_MAX / 4;

/// The same for one source. All links of one peer may come without a proof.
const PROOF_FROM_A_SOURCE: usize = LINKS_PER_PEER_MAX as usize;

/// Handshakes that a source may begin at once: enough for a fleet behind one address that restarts.
const BURST: u32 = 256;

/// Interval of further ones: about six per cent of a core.
const ONE_EVERY: Duration = Duration::from_millis(16);

/// Most sources that are remembered.
const SOURCES_MAX: usize = 4_096;

/// Source of a connection: an IPv4 address, or the /64 of an IPv6 subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SourceAddress(IpAddr);

impl SourceAddress {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                Self(std::net::Ipv6Addr::from_bits(network).into())
            }
        }
    }
}

/// Id of one pending handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct HandshakeId(u64);

/// Decision about an incoming handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HandshakeDecision {
    /// It begins under this id. The other one, if any, ends to make room.
    Begin(HandshakeId, Option<HandshakeId>),
    /// The peer must prove its address first.
    Prove,
    /// Its source has all the room that it can have. It gets no answer now, and comes again.
    Wait,
    /// It connects too often and gets no answer.
    Ignore,
}

/// State of the limiter.
#[derive(Debug, Default)]
pub(super) struct HandshakeLimiter {
    /// Oldest first; at most [`UNFINISHED_MAX`] of strangers and as many of known sources.
    unfinished: BTreeMap<HandshakeId, UnfinishedHandshake>,
    next: u64,
    /// At most [`SOURCES_MAX`].
    sources: HashMap<SourceAddress, SourceRecord>,
}

#[derive(Debug)]
struct UnfinishedHandshake {
    origin: Origin,
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin {
    source: SourceAddress,
    /// Set if it counts in the room of known sources.
    known: bool,
}

/// Record of a source.
#[derive(Debug)]
struct SourceRecord {
    /// Set after a peer from there has authenticated.
    known: bool,
    last: Instant,
    /// Time from which it has its whole burst again. If it is more than `BURST` times [`ONE_EVERY`]
    /// ahead, nothing of the burst is left.
    rested_at: Instant,
}

impl HandshakeLimiter {
    /// Decides about a connection from this address. `proved` says if the peer has proved the
    /// address.
    pub(super) fn admit(&mut self, from: IpAddr, proved: bool, now: Instant) -> HandshakeDecision {
        let source = SourceAddress::of(from);
        let known = self.sources.get(&source).is_some_and(|seen| seen.known);
        let origin = Origin { source, known };
        let in_room = self.of_room(known).count();
        let of_source = self.of_room(known).filter(|other| other.origin == origin).count();
        if !proved && (in_room >= PROOF_FROM || of_source >= PROOF_FROM_A_SOURCE) {
            return HandshakeDecision::Prove;
        }
        let makes_room = if in_room < UNFINISHED_MAX { None } else { self.most_crowded(known) };
        if makes_room.is_some_and(|(_, begun)| begun.origin == origin && now < begun.at + ROUND_TRIP) {
            return HandshakeDecision::Wait;
        }
        let makes_room = makes_room.map(|(place, _)| place);
        if !self.may_begin(source, now) {
            return HandshakeDecision::Ignore;
        }
        if let Some(place) = makes_room {
            self.unfinished.remove(&place);
        }
        self.next += 1;
        let place = HandshakeId(self.next);
        self.unfinished.insert(place, UnfinishedHandshake { origin, at: now });
        HandshakeDecision::Begin(place, makes_room)
    }

    /// Takes the end of a handshake, with or without an authenticated peer.
    pub(super) fn handle_end(&mut self, place: HandshakeId, authenticated: bool) {
        let Some(UnfinishedHandshake { origin, .. }) = self.unfinished.remove(&place) else { return };
        if let Some(seen) = self.sources.get_mut(&origin.source) {
            seen.known |= authenticated;
        }
    }

    /// Returns the handshakes in one of the two rooms.
    fn of_room(&self, known: bool) -> impl Iterator<Item = &UnfinishedHandshake> {
        self.unfinished.values().filter(move |begun| begun.origin.known == known)
    }

    /// Returns the oldest handshake of the source with the most of them in this room. Among equal
    /// sources, the oldest handshake decides.
    fn most_crowded(&self, known: bool) -> Option<(HandshakeId, &UnfinishedHandshake)> {
        let mut counts: HashMap<SourceAddress, usize> = HashMap::new();
        for begun in self.of_room(known) {
            *counts.entry(begun.origin.source).or_default() += 1;
        }
        let most = *counts.values().max()?;
        self.unfinished
            .iter()
            .find(|(_, UnfinishedHandshake { origin, .. })| {
                origin.known == known && counts.get(&origin.source) == Some(&most)
            })
            .map(|(place, begun)| (*place, begun))
    }

    /// Counts a handshake of a source. Returns false if it has begun too many lately.
    fn may_begin(&mut self, source: SourceAddress, now: Instant) -> bool {
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES_MAX {
            self.forget_one();
        }
        let seen =
            self.sources.entry(source).or_insert(SourceRecord { known: false, last: now, rested_at: now });
        seen.last = now;
        let rested_at = seen.rested_at.max(now) + ONE_EVERY;
        if rested_at.saturating_duration_since(now) > ONE_EVERY * BURST {
            return false;
        }
        seen.rested_at = rested_at;
        true
    }

    /// Forgets the source that was seen least recently, strangers before known sources.
    fn forget_one(&mut self) {
        let oldest = self.sources.iter().min_by_key(|(_, seen)| (seen.known, seen.last));
        if let Some(source) = oldest.map(|(source, _)| *source) {
            self.sources.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn begin(
        limiter: &mut HandshakeLimiter,
        from: IpAddr,
        now: Instant,
    ) -> (HandshakeId, Option<HandshakeId>) {
        match limiter.admit(from, true, now) {
            HandshakeDecision::Begin(place, makes_room) => (place, makes_room),
            other => panic!("{from}: {other:?}"),
        }
    }

    #[test]
    fn a_fleet_behind_one_address_ends_none_of_its_own_handshakes() {
        let (mut limiter, mut now) = (HandshakeLimiter::default(), Instant::now());
        // All strangers come at once, and each tries again until it is admitted.
        let (mut outside, mut under_way) = (200, Vec::new());
        while outside > 0 {
            match limiter.admit(v4(1), true, now) {
                HandshakeDecision::Begin(place, makes_room) => {
                    assert_eq!(makes_room, None, "{outside} are waiting");
                    under_way.push(place);
                    outside -= 1;
                }
                HandshakeDecision::Wait => {
                    assert_eq!(under_way.len(), UNFINISHED_MAX);
                    now += Duration::from_millis(100);
                    under_way.drain(..).for_each(|place| limiter.handle_end(place, false));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_silent_source_makes_room_for_itself_late_and_others_at_once() {
        let (mut limiter, now) = (HandshakeLimiter::default(), Instant::now());
        let (other, _) = begin(&mut limiter, v4(2), now);
        let places: Vec<_> = (1..UNFINISHED_MAX).map(|_| begin(&mut limiter, v4(1), now).0).collect();
        assert_eq!(limiter.admit(v4(1), true, now), HandshakeDecision::Wait);
        assert_eq!(begin(&mut limiter, v4(3), now).1, Some(places[0]));
        for place in &places[1..10] {
            assert_eq!(begin(&mut limiter, v4(1), now + ROUND_TRIP).1, Some(*place));
        }
        assert!(limiter.unfinished.contains_key(&other));
    }

    #[test]
    fn whoever_waits_uses_up_nothing_of_what_its_source_may_begin() {
        let (mut limiter, now) = (HandshakeLimiter::default(), Instant::now());
        let places: Vec<_> = (0..UNFINISHED_MAX).map(|_| begin(&mut limiter, v4(1), now).0).collect();
        (0..1_000).for_each(|_| assert_eq!(limiter.admit(v4(1), true, now), HandshakeDecision::Wait));
        places.iter().for_each(|place| limiter.handle_end(*place, false));
        begin(&mut limiter, v4(1), now);
    }

    #[test]
    fn a_full_room_is_made_smaller_where_it_is_most_crowded() {
        let (mut limiter, now) = (HandshakeLimiter::default(), Instant::now());
        let single = begin(&mut limiter, v4(1), now).0;
        let crowd = begin(&mut limiter, v4(2), now).0;
        begin(&mut limiter, v4(2), now);
        for last in 3..u8::try_from(UNFINISHED_MAX).unwrap() {
            assert_eq!(begin(&mut limiter, v4(last), now).1, None);
        }
        assert_eq!(begin(&mut limiter, v4(200), now).1, Some(crowd));
        assert_eq!(
            begin(&mut limiter, v4(201), now).1,
            Some(single),
            "every stranger has one handshake, and the oldest is dropped"
        );
    }

    #[test]
    fn a_source_that_authenticated_before_has_room_that_strangers_cannot_take() {
        let (mut limiter, now) = (HandshakeLimiter::default(), Instant::now());
        let (place, _) = begin(&mut limiter, v4(1), now);
        limiter.handle_end(place, true);
        for last in 2..200 {
            begin(&mut limiter, v4(last), now);
        }
        assert_eq!(limiter.admit(v4(200), false, now), HandshakeDecision::Prove);
        assert!(
            matches!(limiter.admit(v4(1), false, now), HandshakeDecision::Begin(_, None)),
            "a known address is admitted without a proof"
        );
        let (mine, _) = begin(&mut limiter, v4(1), now);
        for last in 2..200 {
            begin(&mut limiter, v4(last), now);
        }
        assert!(limiter.unfinished.contains_key(&mine));
        assert_eq!(limiter.unfinished.len(), UNFINISHED_MAX + 2);
    }

    #[test]
    fn an_ipv6_subscriber_is_one_source_and_mapped_ipv4_counts_as_ipv4() {
        let v6 = |text: &str| SourceAddress::of(text.parse().unwrap());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:0:0:1"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
        assert_eq!(v6("::ffff:192.0.2.1"), SourceAddress::of(v4(1)));
    }

    #[test]
    fn whoever_knocks_without_end_is_heard_so_often_and_forgotten_in_time() {
        let (mut limiter, now) = (HandshakeLimiter::default(), Instant::now());
        let heard = |limiter: &mut HandshakeLimiter, now| {
            let hear = |_: &u32| match limiter.admit(v4(1), true, now) {
                HandshakeDecision::Begin(place, _) => {
                    limiter.handle_end(place, false);
                    true
                }
                other => other != HandshakeDecision::Ignore,
            };
            (0..10_000).filter(hear).count()
        };
        assert_eq!(heard(&mut limiter, now), BURST as usize);
        assert_eq!(heard(&mut limiter, now + Duration::from_secs(1)), 62);
        assert_eq!(heard(&mut limiter, now + Duration::from_secs(3_600)), BURST as usize);
        for n in 0..2 * u32::try_from(SOURCES_MAX).unwrap() {
            limiter.admit(std::net::Ipv4Addr::from_bits(n).into(), true, now);
        }
        assert_eq!(limiter.sources.len(), SOURCES_MAX);
    }
}
