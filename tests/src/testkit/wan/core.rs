//! The model of a line, without I/O: packets enter and leave with a time, and all randomness comes
//! from a seed.
//!
//! Each direction sends packets at its rate behind a bounded queue, loses some, and delays the
//! rest. Times are durations since the line began. A packet carries a payload that the core does
//! not read.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::conditions::{Conditions, MILLION, OneWay, Traffic, Way};

/// Most packets that are under way, both directions together. It is 100 MB of large packets, more
/// than the fastest line of the tests needs.
pub const IN_FLIGHT_MAX: usize = 65_536;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A line and the packets on it.
#[derive(Debug)]
pub(super) struct Core<T> {
    rng: ChaCha8Rng,
    there: Pace,
    back: Pace,
    in_flight: BinaryHeap<Reverse<InFlight<T>>>,
    entered: u64,
    counts: Counts,
}

/// The times until which one direction is in use.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// End of the last packet's serialisation.
    free_at: Duration,
    /// Departure of the last packet that must not be overtaken.
    last_leaves: Duration,
}

/// Counts of the packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that entered, dropped or not.
    pub entered: u64,
    /// Packets that left at the other end.
    pub left: u64,
    /// Bytes of the packets that left.
    pub left_bytes: u64,
    /// Packets dropped at random.
    pub lost: u64,
    /// Packets dropped by a cut.
    pub cut: u64,
    /// Packets dropped because a queue was full.
    pub overflowed: u64,
    /// Packets dropped because they were larger than the line's limit.
    pub too_large: u64,
}

/// The reason why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DropReason {
    Lost,
    Cut,
    Overflow,
    /// The size that the sender is told, if the line tells it.
    TooLarge(Option<u16>),
}

/// A packet that leaves at the other end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaving<T> {
    pub(super) at: Duration,
    pub(super) way: Way,
    pub(super) payload: T,
}

/// A packet under way.
#[derive(Debug)]
struct InFlight<T> {
    leaves: Duration,
    /// Orders packets of the same time: the first to enter leaves first.
    entered: u64,
    way: Way,
    bytes: usize,
    payload: T,
}

impl<T> Core<T> {
    pub(super) fn new(seed: u64) -> Core<T> {
        Core {
            rng: ChaCha8Rng::seed_from_u64(seed),
            there: Pace::default(),
            back: Pace::default(),
            in_flight: BinaryHeap::new(),
            entered: 0,
            counts: Counts::default(),
        }
    }

    /// Accepts a packet, or returns it with the reason why it is dropped. `now` must not go
    /// back.
    pub(super) fn handle_packet(
        &mut self,
        now: Duration,
        way: Way,
        packet: Traffic,
        payload: T,
        conditions: &Conditions,
    ) -> Result<(), (DropReason, T)> {
        self.counts.entered += 1;
        match self.admit(now, way, packet, conditions.of(way)) {
            Ok(leaves) => {
                self.entered += 1;
                let in_flight = InFlight { leaves, entered: self.entered, way, bytes: packet.bytes, payload };
                self.in_flight.push(Reverse(in_flight));
                Ok(())
            }
            Err(reason) => {
                *self.counts.of(reason) += 1;
                Err((reason, payload))
            }
        }
    }

    /// Returns the next packet that leaves up to `now`, in the order of departure.
    pub(super) fn poll_leaving(&mut self, now: Duration) -> Option<Leaving<T>> {
        if self.next_leaves()? > now {
            return None;
        }
        let Reverse(packet) = self.in_flight.pop()?;
        self.counts.left += 1;
        self.counts.left_bytes += packet.bytes as u64;
        Some(Leaving { at: packet.leaves, way: packet.way, payload: packet.payload })
    }

    /// Returns the time at which the next packet leaves.
    pub(super) fn next_leaves(&self) -> Option<Duration> {
        self.in_flight.peek().map(|Reverse(packet)| packet.leaves)
    }

    /// Returns the counts of the packets so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the time at which bytes of a stream leave, at the line's rate and delay, and in
    /// order. A stream has no packets that could be lost.
    pub(super) fn schedule_stream(
        &mut self,
        now: Duration,
        way: Way,
        bytes: usize,
        conditions: &Conditions,
    ) -> Duration {
        self.counts.entered += 1;
        self.counts.left += 1;
        self.counts.left_bytes += bytes as u64;
        let line = conditions.of(way);
        let serialised = self.pace(way).serialise(now, bytes, line.rate);
        let jitter = self.jitter(line);
        self.pace(way).keep_order(serialised + line.delay + jitter)
    }

    fn admit(
        &mut self,
        now: Duration,
        way: Way,
        packet: Traffic,
        line: &OneWay,
    ) -> Result<Duration, DropReason> {
        if line.is_cut(packet) {
            return Err(DropReason::Cut);
        }
        if let Some(mtu) = line.mtu
            && packet.bytes > usize::from(mtu.bytes)
        {
            return Err(DropReason::TooLarge(mtu.is_reported.then_some(mtu.bytes)));
        }
        let waiting = self.pace(way).waiting_bytes(now, line.rate);
        let overflows = line.rate.is_some() && waiting + packet.bytes as u128 > u128::from(line.queue_bytes);
        if overflows || self.in_flight.len() >= IN_FLIGHT_MAX {
            return Err(DropReason::Overflow);
        }
        // A lost packet has used the line like any other.
        let serialised = self.pace(way).serialise(now, packet.bytes, line.rate);
        if self.happens(line.loss) {
            return Err(DropReason::Lost);
        }
        let leaves = serialised + line.delay + self.jitter(line);
        if self.happens(line.reorder) {
            return Ok(leaves + line.reorder_by);
        }
        Ok(self.pace(way).keep_order(leaves))
    }

    fn pace(&mut self, way: Way) -> &mut Pace {
        match way {
            Way::There => &mut self.there,
            Way::Back => &mut self.back,
        }
    }

    fn happens(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.rng.random_ratio(per_million.min(MILLION), MILLION)
    }

    fn jitter(&mut self, line: &OneWay) -> Duration {
        let most = u64::try_from(line.jitter.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(if most > 0 { self.rng.random_range(0..=most) } else { 0 })
    }
}

impl Pace {
    /// Returns the bytes that have entered and are not serialised yet.
    fn waiting_bytes(&self, now: Duration, rate: Option<u64>) -> u128 {
        let time = self.free_at.saturating_sub(now).as_nanos();
        time * u128::from(rate.unwrap_or(0)) / (8 * NANOS_PER_SECOND)
    }

    /// Returns the end of the bytes' serialisation.
    fn serialise(&mut self, now: Duration, bytes: usize, rate: Option<u64>) -> Duration {
        let Some(rate) = rate else { return now };
        // A rate of 0 counts as 1 bit a second. To stop a line, use a cut.
        let nanos = (bytes as u128 * 8 * NANOS_PER_SECOND).div_ceil(u128::from(rate.max(1)));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now).saturating_add(takes);
        self.free_at
    }

    /// Returns a departure that is not before the previous packet's.
    fn keep_order(&mut self, leaves: Duration) -> Duration {
        self.last_leaves = self.last_leaves.max(leaves);
        self.last_leaves
    }
}

impl Counts {
    /// Returns the number of packets that did not arrive.
    #[must_use]
    pub fn dropped(self) -> u64 {
        self.lost + self.cut + self.overflowed + self.too_large
    }

    fn of(&mut self, reason: DropReason) -> &mut u64 {
        match reason {
            DropReason::Lost => &mut self.lost,
            DropReason::Cut => &mut self.cut,
            DropReason::Overflow => &mut self.overflowed,
            DropReason::TooLarge(_) => &mut self.too_large,
        }
    }
}

impl<T> InFlight<T> {
    fn key(&self) -> (Duration, u64) {
        (self.leaves, self.entered)
    }
}

impl<T> Ord for InFlight<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> PartialOrd for InFlight<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for InFlight<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for InFlight<T> {}

#[cfg(test)]
mod tests;
