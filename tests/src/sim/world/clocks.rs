//! The clocks of the hosts. Each has an offset, drifts, and is set now and then.

use std::time::Duration;

use bridge_protocol::domain::UnixMicros;

use super::super::dice::Dice;
use super::{EPOCH_MICROS, World, note};

/// Largest offset of a clock, without its drift.
const OFF_MAX: Duration = Duration::from_secs(120);

/// The clock of one host.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    off_micros: i64,
    /// Parts per million by which the clock is too fast.
    drift: i64,
    /// Number of times that the clock was set.
    pub(super) steps: u32,
}

/// Host of a clock.
#[derive(Debug, Clone, Copy)]
pub(super) enum Host {
    Cloud(usize),
    Idc(usize),
}

impl Clock {
    /// Draws a clock. Some are correct, some are not.
    pub(super) fn drawn(dice: &mut Dice) -> Self {
        if dice.happens(4_000) {
            return Self::default();
        }
        let drift = i64::try_from(dice.between(0..=1_000)).unwrap_or(0) - 500;
        Self { off_micros: off(dice, Duration::from_secs(2)), drift, steps: 0 }
    }

    fn read(self, now: Duration) -> UnixMicros {
        let now = i64::try_from(now.as_micros()).unwrap_or(0);
        UnixMicros::new(EPOCH_MICROS + now + now * self.drift / 1_000_000 + self.off_micros)
    }
}

impl World {
    /// Returns the time by a host's clock.
    pub(super) fn clock(&self, host: Host) -> UnixMicros {
        let clock = match host {
            Host::Cloud(cloud) => self.clouds[cloud].clock,
            Host::Idc(idc) => self.idcs[idc].clock,
        };
        clock.read(self.now)
    }

    /// Sets a host's clock to a wrong time: a little off, or far.
    pub(super) fn step_clock(&mut self, host: Host) {
        self.counts.clock_steps += 1;
        let far = self.dice.happens(3_000);
        self.clocks_jumped |= far;
        let off_micros = off(&mut self.dice, if far { OFF_MAX } else { Duration::from_secs(2) });
        note!(self, "the clock of {host:?} is set {off_micros} us off");
        let clock = match host {
            Host::Cloud(cloud) => &mut self.clouds[cloud].clock,
            Host::Idc(idc) => &mut self.idcs[idc].clock,
        };
        (clock.off_micros, clock.steps) = (off_micros, clock.steps + 1);
    }

    /// Makes all clocks correct from now on.
    pub(super) fn set_clocks_right(&mut self) {
        let clouds = self.clouds.iter_mut().map(|cloud| &mut cloud.clock);
        clouds.chain(self.idcs.iter_mut().map(|idc| &mut idc.clock)).for_each(|clock| {
            *clock = Clock { steps: clock.steps + 1, ..Clock::default() };
        });
    }
}

/// Returns an offset of at most `max` in either direction, in microseconds.
fn off(dice: &mut Dice, max: Duration) -> i64 {
    let max = u64::try_from(max.as_micros()).unwrap_or(0);
    i64::try_from(dice.between(0..=2 * max)).unwrap_or(0) - i64::try_from(max).unwrap_or(0)
}
