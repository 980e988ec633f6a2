//! The wall clock, read in the shell and handed to the pure parts as a value.

use std::time::SystemTime;

use bridge_protocol::domain::UnixMicros;
use x509_parser::time::ASN1Time;

/// Now. A clock that is set before 1970 reads as 1970.
pub fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMicros::new(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Seconds since 1970-01-01 UTC.
pub(crate) type UnixSeconds = i64;

/// Now, in seconds.
pub(crate) fn unix_now() -> UnixSeconds {
    now().get().div_euclid(1_000_000)
}

/// A time as people read it.
pub(crate) fn shown(seconds: UnixSeconds) -> String {
    ASN1Time::from_timestamp(seconds)
        .map_or_else(|_| format!("{seconds} s after 1970"), |time| time.to_string())
}
