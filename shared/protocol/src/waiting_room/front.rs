//! Admission at the IDC: the front moves over the places by the rate, and never further than there
//! are units to promise.
//!
//! ```text
//! waiting ── front passes ──> admitted ── claim ──> session ── bought, or its length ──> ended
//!                                └── claim window passes ──> expired
//! ```
//!
//! Each place that the front has passed holds as many units as a customer may buy, until it expires
//! or its session ends. Units that are sold and units that are held never exceed those of the
//! launch, so no unit is promised to two people. What an ended session or an expired place held
//! admits the next place. A place that nobody claimed also gives its turn back: the front moves by
//! one more.
//!
//! This is a sans-IO machine. `now` is the wall clock, so that deadlines outlive the process; a
//! clock that steps back only delays them.

use std::time::Duration;

use super::launch::{AdmissionRate, Launch};
use super::pace::{Pace, PaceMeter};
use super::passed::{Freed, Millis, Passed, PassedState};
use super::{ENTRANTS_MAX, PlaceNumber};
use crate::domain::UnixMicros;

/// Turns, in this many parts: a rate of one place a minute gives one part in a microsecond.
const TURN_PARTS: u64 = 60_000_000;

/// Longest time for which turns are saved while nobody can be admitted.
const SAVED: Duration = Duration::from_secs(1);

/// State of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceState {
    /// The front has not passed it.
    Waiting {
        /// Number of places that are in front of it and not admitted.
        ahead: u32,
    },
    /// It may be claimed.
    Admitted {
        /// Deadline of the claim.
        until: UnixMicros,
    },
    /// It may order.
    Session {
        /// End of the session.
        until: UnixMicros,
        /// Units that it may buy.
        units: u32,
        /// Set while an order of it is under way; then it may not place another one.
        is_ordering: bool,
    },
    /// Nobody claimed it in time.
    Expired,
    /// Its session has ended.
    Ended,
}

/// End of a session's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOrderEnd {
    /// It is committed, with these units of the launch. The session ends.
    Bought(u32),
    /// It had no effect. The session goes on until its end.
    NotBought,
}

/// Numbers that the driver stores, so that a restart costs nobody a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrontRecord {
    /// Places before this one were admitted.
    pub front: u32,
    /// Places before this one can no longer be claimed.
    pub expired_before: u32,
    /// Units that are sold.
    pub sold: u32,
}

/// A place that was claimed before a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedPlace {
    /// The place.
    pub place: PlaceNumber,
    /// Time of the claim.
    pub claimed_at: UnixMicros,
    /// Set if its session has ended.
    pub has_ended: bool,
}

/// Facts that every cloud agent gets several times a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrontReport {
    /// Places before this one were admitted.
    pub front: u32,
    /// Entrant numbers that were given.
    pub entrants: u32,
    /// Units that are not sold.
    pub units_left: u32,
    /// Places that can still be admitted if each place buys what it may, and none expires.
    pub places_free: u32,
    /// Pace of the front.
    pub pace: Pace,
}

/// The admission of one launch.
#[derive(Debug, Clone)]
pub struct Front {
    units: u32,
    limit: u32,
    claim_window: Millis,
    /// Begin of the admission. All deadlines are counted from here.
    started_at: UnixMicros,
    /// The latest time that was seen.
    now: UnixMicros,
    passed: Passed,
    meter: PaceMeter,
    entrants: u32,
    /// Places a minute.
    rate: u32,
    /// Turns to admit a place, in parts of [`TURN_PARTS`].
    turns: u64,
    /// Units that are sold; `sold + held <= units`.
    sold: u32,
    /// Units that admitted places and open sessions hold.
    held: u32,
    expired: u32,
    is_sold_out: bool,
}

impl Front {
    /// Begins the admission of a launch. With the rate `auto` nothing is admitted before
    /// [`Self::set_rate`].
    pub fn new(launch: &Launch, entrants: u32, now: UnixMicros) -> Self {
        let rate = match launch.rate {
            AdmissionRate::PerMinute(rate) => rate,
            AdmissionRate::Auto => 0,
        };
        let (claim_window, session) = (millis(launch.claim_window), millis(launch.session));
        Self {
            units: launch.units,
            limit: launch.limit,
            claim_window,
            started_at: now,
            now,
            passed: Passed::new(claim_window, session, launch.limit),
            meter: PaceMeter::default(),
            entrants: entrants.min(ENTRANTS_MAX),
            rate,
            turns: 0,
            sold: 0,
            held: 0,
            expired: 0,
            is_sold_out: false,
        }
    }

    /// Continues the admission after a restart. `claims` has all claimed places, in the order of
    /// their times.
    ///
    /// A place that was admitted and not claimed gets a whole claim window again.
    pub fn resume(
        launch: &Launch,
        entrants: u32,
        record: FrontRecord,
        claims: impl IntoIterator<Item = ClaimedPlace>,
        now: UnixMicros,
    ) -> Self {
        let mut front = Self::new(launch, entrants, now);
        front.entrants = front.entrants.max(record.front);
        front.sold = record.sold.min(front.units);
        front.is_sold_out = front.sold == front.units;
        front.passed.skip_to(record.expired_before.min(record.front));
        for ClaimedPlace { place, claimed_at, has_ended } in claims {
            if has_ended || now.since(claimed_at) >= launch.session {
                front.passed.note_ended(place.0);
            } else {
                // Its deadline is counted from now: a restart does not shorten a session.
                front.passed.open_session(place.0, 0);
                let units = front.free().min(front.limit);
                front.passed.set_hold(place.0, units);
                front.held += units;
            }
        }
        for place in record.expired_before..record.front {
            let is_claimed = front.passed.claimed(place, place + 1) == 1;
            let units = if is_claimed { front.limit } else { front.free().min(front.limit) };
            front.passed.admit(1, (units < front.limit).then_some(units), 0);
            front.held += if is_claimed { 0 } else { units };
        }
        front
    }

    /// Returns the numbers to store.
    pub fn record(&self) -> FrontRecord {
        FrontRecord {
            front: self.passed.front(),
            expired_before: self.passed.expired_before(),
            sold: self.sold,
        }
    }

    /// Notes how many entrant numbers were given. Late entrants stand behind all others.
    pub fn set_entrants(&mut self, entrants: u32) {
        self.entrants = self.entrants.max(entrants.min(ENTRANTS_MAX));
    }

    /// Sets the pace in places a minute: what the credits allow, or an operator's decision.
    pub fn set_rate(&mut self, per_minute: u32, now: UnixMicros) {
        // The time until now is paid by the old rate.
        self.turn_to(now);
        self.rate = per_minute;
    }

    /// Moves the front as far as rate, units and entrants allow. Returns its new position. To be
    /// called several times a second.
    pub fn advance(&mut self, now: UnixMicros) -> u32 {
        let at = self.turn_to(now);
        let turns = u32::try_from(self.turns / TURN_PARTS).unwrap_or(u32::MAX);
        let waiting = self.entrants.saturating_sub(self.passed.front());
        let may = if self.is_sold_out { 0 } else { turns.min(waiting) };
        let whole = may.min(self.free() / self.limit);
        self.passed.admit(whole, None, at);
        self.held += whole * self.limit;
        // The last units are fewer than a customer may buy. One place may have them.
        let rest = self.free();
        let short = whole < may && (1..self.limit).contains(&rest);
        if short {
            self.passed.admit(1, Some(rest), at);
            self.held += rest;
        }
        self.turns -= u64::from(whole + u32::from(short)) * TURN_PARTS;
        self.meter.sample(at, self.passed.front(), self.expired);
        self.passed.front()
    }

    /// Claims an admitted place: opens its session. Claiming again changes nothing. Returns the
    /// state, which says if there is a session now.
    pub fn claim(&mut self, place: PlaceNumber, now: UnixMicros) -> PlaceState {
        let at = self.turn_to(now);
        if let PlaceState::Admitted { .. } = self.state_at(place, at) {
            self.passed.open_session(place.0, at);
        }
        self.state_at(place, at)
    }

    /// Notes that a session places an order of this many units of the launch. Until its end is
    /// known, the session does not end by its length.
    ///
    /// # Errors
    ///
    /// Returns the place's state if it may not order that now.
    pub fn begin_order(&mut self, place: PlaceNumber, units: u32, now: UnixMicros) -> Result<(), PlaceState> {
        let at = self.turn_to(now);
        match self.state_at(place, at) {
            PlaceState::Session { units: held, is_ordering: false, .. } if (1..=held).contains(&units) => {
                self.passed.begin_order(place.0);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Notes the end of a session's order.
    pub fn end_order(&mut self, place: PlaceNumber, end: SessionOrderEnd, now: UnixMicros) {
        match end {
            SessionOrderEnd::Bought(units) if self.passed.has_session(place.0) => {
                let held = self.passed.end_session(place.0);
                self.held = self.held.saturating_sub(held);
                self.sold = (self.sold + units).min(self.units);
                self.is_sold_out |= self.sold == self.units;
            }
            // An order is counted once, however often its end is told.
            SessionOrderEnd::Bought(_) => {}
            SessionOrderEnd::NotBought => self.passed.stop_ordering(place.0),
        }
        self.turn_to(now);
    }

    /// Notes that units came back: an order was cancelled. Once the launch was called sold out, it
    /// stays so.
    pub fn give_back(&mut self, units: u32) {
        if !self.is_sold_out {
            self.sold = self.sold.saturating_sub(units);
        }
    }

    /// Returns true if all units are sold. It stays true.
    pub fn is_sold_out(&self) -> bool {
        self.is_sold_out
    }

    /// Returns the state of a place.
    pub fn state(&self, place: PlaceNumber, now: UnixMicros) -> PlaceState {
        self.state_at(place, self.millis(self.now.max(now)))
    }

    /// Returns the facts for the cloud agents.
    pub fn report(&self, now: UnixMicros) -> FrontReport {
        let at = self.millis(self.now.max(now));
        let (per_minute, slowest_per_minute) = self.meter.per_minute(at, self.rate);
        let (from, to) = self.meter.cohort(at, self.claim_window);
        let claimed_permille = match to - from {
            0 => 1_000,
            places => self.passed.claimed(from, to) * 1_000 / places,
        };
        let in_window = self.passed.front() - self.passed.expired_before();
        let claim_window_ms = self.claim_window;
        FrontReport {
            front: self.passed.front(),
            entrants: self.entrants,
            units_left: self.units - self.sold,
            places_free: self.free().div_ceil(self.limit),
            pace: Pace { per_minute, slowest_per_minute, claimed_permille, in_window, claim_window_ms },
        }
    }

    fn state_at(&self, place: PlaceNumber, at: Millis) -> PlaceState {
        if let Some(ahead) = place.0.checked_sub(self.passed.front()) {
            return PlaceState::Waiting { ahead };
        }
        let time = |millis: Millis| self.started_at.plus(Duration::from_millis(millis.into()));
        match self.passed.state(place.0, at) {
            PassedState::Admitted { until } => PlaceState::Admitted { until: time(until) },
            PassedState::Session { until, units, is_ordering } => {
                PlaceState::Session { until: time(until), units, is_ordering }
            }
            PassedState::Expired => PlaceState::Expired,
            PassedState::Ended => PlaceState::Ended,
        }
    }

    /// Returns the units that nobody has bought and nobody holds.
    fn free(&self) -> u32 {
        self.units.saturating_sub(self.sold).saturating_sub(self.held)
    }

    /// Takes the time: turns by the rate, and what has passed its deadline.
    fn turn_to(&mut self, now: UnixMicros) -> Millis {
        let passed = u64::try_from(now.since(self.now).as_micros()).unwrap_or(u64::MAX);
        self.now = self.now.max(now);
        let rate = u64::from(self.rate);
        let earned = passed.min(SAVED.as_micros() as u64 * 60).saturating_mul(rate);
        // Turns of expired places are never lost; those of the rate are, if nobody can use them.
        let saved = (SAVED.as_micros() as u64 * rate).max(TURN_PARTS);
        self.turns = self.turns.max((self.turns + earned).min(saved));
        let at = self.millis(self.now);
        let Freed { expired, units } = self.passed.expire(at);
        self.turns += u64::from(expired) * TURN_PARTS;
        self.expired += expired;
        self.held = self.held.saturating_sub(u32::try_from(units).unwrap_or(u32::MAX));
        at
    }

    fn millis(&self, time: UnixMicros) -> Millis {
        millis(time.since(self.started_at))
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.passed.memory_bytes()
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests;
