//! The wall clock. The shell reads it and passes it to the pure parts as a value.

use std::time::SystemTime;

use bridge_protocol::domain::UnixMicros;

/// Returns the current time. A clock before 1970 reads as 1970.
pub fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMicros::new(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Seconds since 1970-01-01 UTC.
pub(crate) type UnixSeconds = i64;

/// Returns the current time in seconds.
pub(crate) fn unix_now() -> UnixSeconds {
    now().get().div_euclid(1_000_000)
}

/// Writes a time in RFC 3339, without fractions of a second.
pub(crate) fn shown(seconds: UnixSeconds) -> String {
    let time = UnixMicros::new(seconds.saturating_mul(1_000_000)).to_string();
    time.replace(".000000Z", "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_s_end_is_shown_in_rfc_3339() {
        assert_eq!(shown(1_798_484_321), "2026-12-28T18:58:41Z");
        assert_eq!(shown(i64::MAX), format!("{} us", i64::MAX), "a time that no calendar has");
    }
}
