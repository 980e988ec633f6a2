//! Places that the front has passed: admitted, claimed, expired or ended. A million of them cost a
//! few bits each, and only open sessions cost more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most ranges of admitted places in one claim window. So a deadline is late by at most a 1,024th
/// of the window.
const RANGES_MAX: u32 = 1_024;

/// Milliseconds since the admission began.
pub(super) type Millis = u32;

/// A set of places, with one bit for each.
#[derive(Debug, Clone, Default)]
struct PlaceSet(Vec<u64>);

impl PlaceSet {
    fn contains(&self, place: u32) -> bool {
        self.0.get(place as usize / 64).is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    fn insert(&mut self, place: u32) {
        let at = place as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word |= 1 << (place % 64);
        }
    }

    /// Returns the number of places in the set from `from` up to `to`, without `to`.
    fn count(&self, from: u32, to: u32) -> u32 {
        let (first, last) = (from as usize / 64, to as usize / 64);
        let words = self.0.iter().enumerate().take(last + 1).skip(first);
        let ones = words.map(|(at, word)| {
            let low: u64 = if at == first { !0 << (from % 64) } else { !0 };
            let high: u64 = if at == last { (1 << (to % 64)) - 1 } else { !0 };
            (word & low & high).count_ones()
        });
        ones.sum()
    }
}

/// Places that were admitted at about the same time, up to `end`.
#[derive(Debug, Clone, Copy)]
struct AdmittedRange {
    end: u32,
    until: Millis,
}

/// State of a place that the front has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassedState {
    /// It may be claimed.
    Admitted { until: Millis },
    /// Its session is open.
    Session { until: Millis, units: u32, is_ordering: bool },
    /// Nobody claimed it in time.
    Expired,
    /// Its session has ended.
    Ended,
}

/// Places and units that become free when deadlines pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Freed {
    /// Places that nobody claimed.
    pub(super) expired: u32,
    /// Units that these places and the ended sessions held.
    pub(super) units: u64,
}

/// All places before the front.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    claim_window: Millis,
    session: Millis,
    /// Units that each place holds, unless `short` has fewer for it.
    hold: u32,
    front: u32,
    /// Places before this one can no longer be claimed; at most `front`.
    expired_before: u32,
    /// Ranges from `expired_before` up to `front`, in the order of their deadlines.
    ranges: VecDeque<AdmittedRange>,
    claimed: PlaceSet,
    ended: PlaceSet,
    /// Open sessions by place, with their deadlines.
    sessions: BTreeMap<u32, Millis>,
    /// Claimed places in the order of their deadlines, also those whose sessions ended early.
    by_deadline: VecDeque<u32>,
    /// Places whose order is under way: such a session does not end by its length.
    ordering: BTreeSet<u32>,
    /// Places that hold fewer units than the others.
    short: BTreeMap<u32, u32>,
}

impl Passed {
    pub(super) fn new(claim_window: Millis, session: Millis, hold: u32) -> Self {
        Self {
            claim_window,
            session,
            hold,
            front: 0,
            expired_before: 0,
            ranges: VecDeque::new(),
            claimed: PlaceSet::default(),
            ended: PlaceSet::default(),
            sessions: BTreeMap::new(),
            by_deadline: VecDeque::new(),
            ordering: BTreeSet::new(),
            short: BTreeMap::new(),
        }
    }

    pub(super) fn front(&self) -> u32 {
        self.front
    }

    pub(super) fn expired_before(&self) -> u32 {
        self.expired_before
    }

    /// Returns the number of places from `from` up to `to` that were claimed.
    pub(super) fn claimed(&self, from: u32, to: u32) -> u32 {
        self.claimed.count(from, to)
    }

    /// Marks all places before `place` as expired, unless they are claimed later.
    pub(super) fn skip_to(&mut self, place: u32) {
        (self.front, self.expired_before) = (place, place);
        self.ranges.clear();
    }

    /// Moves the front by some places, of which the last one holds only `last_hold` units if that
    /// is given.
    pub(super) fn admit(&mut self, places: u32, last_hold: Option<u32>, now: Millis) {
        if places == 0 {
            return;
        }
        self.front += places;
        if let Some(units) = last_hold {
            self.short.insert(self.front - 1, units);
        }
        let step = (self.claim_window / RANGES_MAX).max(1);
        let until = now.saturating_add(self.claim_window).div_ceil(step).saturating_mul(step);
        match self.ranges.back_mut().filter(|range| range.until == until) {
            Some(range) => range.end = self.front,
            None => self.ranges.push_back(AdmittedRange { end: self.front, until }),
        }
    }

    /// Returns the state of a place before the front.
    pub(super) fn state(&self, place: u32, now: Millis) -> PassedState {
        if self.ended.contains(place) {
            return PassedState::Ended;
        }
        if let Some(until) = self.sessions.get(&place).copied() {
            let is_ordering = self.ordering.contains(&place);
            let units = self.hold_of(place);
            let is_open = is_ordering || now < until;
            return if is_open {
                PassedState::Session { until, units, is_ordering }
            } else {
                PassedState::Ended
            };
        }
        let range = self.ranges.partition_point(|range| range.end <= place);
        match self.ranges.get(range).filter(|_| place >= self.expired_before) {
            Some(range) if now < range.until => PassedState::Admitted { until: range.until },
            _ => PassedState::Expired,
        }
    }

    /// Opens the session of an admitted place. Returns its deadline.
    pub(super) fn open_session(&mut self, place: u32, now: Millis) -> Millis {
        let until = now.saturating_add(self.session);
        self.claimed.insert(place);
        self.sessions.insert(place, until);
        self.by_deadline.push_back(place);
        until
    }

    /// Notes that an order of an open session is under way.
    pub(super) fn begin_order(&mut self, place: u32) {
        self.ordering.insert(place);
    }

    /// Notes that the order of a session has ended without buying anything.
    pub(super) fn stop_ordering(&mut self, place: u32) {
        self.ordering.remove(&place);
    }

    /// Returns true if the place has an open session.
    pub(super) fn has_session(&self, place: u32) -> bool {
        self.sessions.contains_key(&place)
    }

    /// Ends an open session. Returns the units that it held.
    pub(super) fn end_session(&mut self, place: u32) -> u32 {
        if self.sessions.remove(&place).is_none() {
            return 0;
        }
        self.ordering.remove(&place);
        self.ended.insert(place);
        let units = self.hold_of(place);
        self.short.remove(&place);
        units
    }

    /// Marks a place as one whose session has ended before this process began.
    pub(super) fn note_ended(&mut self, place: u32) {
        self.claimed.insert(place);
        self.ended.insert(place);
    }

    /// Sets the units that a place holds.
    pub(super) fn set_hold(&mut self, place: u32, units: u32) {
        if units < self.hold {
            self.short.insert(place, units);
        }
    }

    /// Ends what has passed its deadline: the claim window of a place, or a session without an
    /// order under way.
    pub(super) fn expire(&mut self, now: Millis) -> Freed {
        let mut freed = Freed::default();
        while let Some(range) = self.ranges.front().copied().filter(|range| range.until <= now) {
            self.ranges.pop_front();
            let from = std::mem::replace(&mut self.expired_before, range.end);
            let expired = range.end - from - self.claimed.count(from, range.end);
            freed.expired += expired;
            freed.units += u64::from(expired) * u64::from(self.hold);
            let short: Vec<u32> = self.short.range(from..range.end).map(|(place, _)| *place).collect();
            for place in short.into_iter().filter(|place| !self.claimed.contains(*place)) {
                let units = self.short.remove(&place).unwrap_or(self.hold);
                freed.units -= u64::from(self.hold - units);
            }
        }
        let mut still_ordering = Vec::new();
        while let Some(place) = self.by_deadline.front().copied() {
            match self.sessions.get(&place).copied() {
                Some(until) if until > now => break,
                Some(_) if self.ordering.contains(&place) => still_ordering.push(place),
                Some(_) => freed.units += u64::from(self.end_session(place)),
                None => {}
            }
            self.by_deadline.pop_front();
        }
        still_ordering.into_iter().rev().for_each(|place| self.by_deadline.push_front(place));
        freed
    }

    fn hold_of(&self, place: u32) -> u32 {
        self.short.get(&place).copied().unwrap_or(self.hold)
    }

    /// Returns about the bytes that it has in memory. The sizes of nodes are those of the standard
    /// library's trees when they are half full.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let sets = (self.claimed.0.capacity() + self.ended.0.capacity()) * 8;
        let queues = self.ranges.capacity() * size_of::<AdmittedRange>() + self.by_deadline.capacity() * 4;
        let trees = (self.sessions.len() + self.short.len() + self.ordering.len()) * 24;
        sets + queues + trees
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn a_set_counts_the_places_of_any_part() {
        for seed in 0..50 {
            let mut dice = Dice(seed);
            let mut set = PlaceSet::default();
            let places: BTreeSet<u32> = (0..200).map(|_| dice.below(1_000) as u32).collect();
            places.iter().for_each(|place| set.insert(*place));
            for _ in 0..100 {
                let from = dice.below(1_100) as u32;
                let to = from + dice.below(200) as u32;
                let expected = places.range(from..to).count() as u32;
                assert_eq!(set.count(from, to), expected, "seed {seed}: {from} to {to}");
                assert_eq!(set.contains(from), places.contains(&from), "seed {seed}: {from}");
            }
        }
    }

    #[test]
    fn an_order_under_way_keeps_its_session_open() {
        let mut passed = Passed::new(10_000, 20_000, 2);
        passed.admit(3, None, 0);
        for place in 0..3 {
            passed.open_session(place, 1_000);
        }
        passed.begin_order(1);
        assert_eq!(passed.expire(21_000), Freed { expired: 0, units: 4 });
        let state = |passed: &Passed, place| passed.state(place, 30_000);
        assert_eq!(state(&passed, 0), PassedState::Ended);
        let open = PassedState::Session { until: 21_000, units: 2, is_ordering: true };
        assert_eq!(state(&passed, 1), open);
        passed.stop_ordering(1);
        assert_eq!(state(&passed, 1), PassedState::Ended, "the session's time was over");
        assert_eq!(passed.expire(30_000), Freed { expired: 0, units: 2 });
        assert_eq!(passed.expire(90_000), Freed::default());
    }

    #[test]
    fn ranges_are_bounded_and_no_window_is_shortened() {
        let mut passed = Passed::new(3_600_000, 20_000, 1);
        for now in 0..20_000 {
            passed.admit(1, None, now);
            let PassedState::Admitted { until } = passed.state(now, now) else { panic!("at {now}") };
            assert!((3_600_000..=3_604_000).contains(&(until - now)), "at {now}: {until}");
        }
        assert!(passed.ranges.len() <= 8, "{} ranges", passed.ranges.len());
    }
}
