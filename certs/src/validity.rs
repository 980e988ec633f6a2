//! Validity of signed data: a certificate or a revocation list.
//!
//! Role: the only place where a `SystemTime` becomes a time that X.509 can express. Neighbours: all
//! code that signs or reads. It never reads the clock: `now` comes in.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use x509_parser::time::ASN1Time;

use crate::CertsError;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Time by which the start of a new certificate is put back. A peer whose clock is late by so much
/// accepts it at once.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// A span of time in whole seconds, both ends included (RFC 5280, section 4.1.2.5). The start is
/// before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Validity {
    #[serde(serialize_with = "as_rfc3339")]
    not_before: OffsetDateTime,
    #[serde(serialize_with = "as_rfc3339")]
    not_after: OffsetDateTime,
}

impl Validity {
    /// Makes the span between two moments. Fractions of a second are dropped, because X.509 has
    /// none.
    ///
    /// # Errors
    ///
    /// Fails if the end is not after the start, or if X.509 cannot express a moment.
    pub fn new(not_before: SystemTime, not_after: SystemTime) -> Result<Self, CertsError> {
        Self::checked(utc(not_before)?, utc(not_after)?)
    }

    /// Makes the span from five minutes before `now`, for peers whose clocks are late, until `days`
    /// after it.
    ///
    /// # Errors
    ///
    /// Fails if X.509 cannot express a moment.
    pub fn days(now: SystemTime, days: u32) -> Result<Self, CertsError> {
        Self::new(backdated(now)?, days_after(now, days)?)
    }

    /// Returns the first moment.
    pub fn not_before(&self) -> SystemTime {
        self.not_before.into()
    }

    /// Returns the last moment.
    pub fn not_after(&self) -> SystemTime {
        self.not_after.into()
    }

    /// Returns whole days from `now` to the end, rounded down: 0 on the last day, negative
    /// afterwards.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let seconds = match self.not_after().duration_since(now) {
            Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            Err(over) => i64::try_from(over.duration().as_secs()).map_or(i64::MIN, |seconds| -1 - seconds),
        };
        seconds.div_euclid(DAY.as_secs().cast_signed())
    }

    /// Limits the end to that of `limit`: no certificate outlives its authority.
    pub(crate) fn within(self, limit: &Self) -> Result<Self, CertsError> {
        Self::checked(self.not_before, self.not_after.min(limit.not_after))
    }

    pub(crate) fn from_asn1(not_before: ASN1Time, not_after: ASN1Time) -> Result<Self, CertsError> {
        Self::checked(not_before.to_datetime(), not_after.to_datetime())
    }

    pub(crate) fn not_before_utc(&self) -> OffsetDateTime {
        self.not_before
    }

    pub(crate) fn not_after_utc(&self) -> OffsetDateTime {
        self.not_after
    }

    fn checked(not_before: OffsetDateTime, not_after: OffsetDateTime) -> Result<Self, CertsError> {
        if not_before < not_after {
            Ok(Self { not_before, not_after })
        } else {
            Err(CertsError::EndsBeforeItStarts { start: rfc3339(not_before), end: rfc3339(not_after) })
        }
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", rfc3339(self.not_before), rfc3339(self.not_after))
    }
}

/// Returns the start of a validity that is issued at `now`.
pub(crate) fn backdated(now: SystemTime) -> Result<SystemTime, CertsError> {
    now.checked_sub(CLOCK_SKEW).ok_or(CertsError::TimeOutOfRange)
}

/// Returns the end of a validity of `days` from `now`.
pub(crate) fn days_after(now: SystemTime, days: u32) -> Result<SystemTime, CertsError> {
    now.checked_add(DAY.saturating_mul(days)).ok_or(CertsError::TimeOutOfRange)
}

/// Converts a moment to the form that X.509 can express: whole seconds, before the year 10000.
pub(crate) fn utc(time: SystemTime) -> Result<OffsetDateTime, CertsError> {
    let seconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()),
        Err(before) => i64::try_from(before.duration().as_secs()).map(|seconds| -seconds),
    };
    let seconds = seconds.map_err(|_| CertsError::TimeOutOfRange)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| CertsError::TimeOutOfRange)
}

/// Writes a moment for people and JSON, in UTC.
pub(crate) fn rfc3339(t: OffsetDateTime) -> String {
    let (year, month, day) = t.to_calendar_date();
    let (hour, minute, second) = t.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

fn as_rfc3339<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_795_348_800; // 2026-11-22T12:00:00Z

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn days_count_from_now_and_the_start_is_five_minutes_earlier() {
        let month = Validity::days(at(NOON), 30).unwrap();
        assert_eq!(month.to_string(), "2026-11-22T11:55:00Z to 2026-12-22T12:00:00Z");
    }

    #[test]
    fn the_last_day_counts_as_zero_and_then_minus_one() {
        let week = Validity::new(at(NOON), at(NOON + 7 * 86_400)).unwrap();
        assert_eq!(week.days_left(at(NOON)), 7);
        assert_eq!(week.days_left(at(NOON + 1)), 6);
        assert_eq!(week.days_left(at(NOON + 7 * 86_400)), 0);
        assert_eq!(week.days_left(at(NOON + 7 * 86_400 + 1)), -1);
        assert_eq!(week.days_left(at(NOON + 8 * 86_400 + 1)), -2);
    }

    #[test]
    fn a_span_with_a_reversed_or_too_late_end_is_an_error() {
        let error = Validity::new(at(NOON), at(NOON)).unwrap_err();
        assert!(matches!(error, CertsError::EndsBeforeItStarts { .. }), "{error:?}");
        let error = Validity::days(at(NOON), u32::MAX).unwrap_err();
        assert!(matches!(error, CertsError::TimeOutOfRange), "{error:?}");
    }
}
