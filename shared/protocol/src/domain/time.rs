//! Wall-clock time, as it is on the wire and in tables. This crate never reads a clock.

use std::fmt;
use std::time::Duration;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMicros(i64);

impl UnixMicros {
    /// Makes a time from a count of microseconds.
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the count of microseconds.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Returns milliseconds since the epoch, as UUIDv7 counts them; 0 before 1970.
    pub fn millis(self) -> u64 {
        u64::try_from(self.0 / 1_000).unwrap_or(0)
    }

    /// Returns the time later by a duration. It saturates at the largest time.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Returns the duration since `earlier`, or zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Writes RFC 3339 with microseconds, in UTC.
impl fmt::Display for UnixMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.6}"),
            Err(_) => write!(f, "{} us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_printed_in_utc_with_microseconds() {
        assert_eq!(UnixMicros::new(1_795_343_485_000_001).to_string(), "2026-11-22T10:31:25.000001Z");
    }
}
