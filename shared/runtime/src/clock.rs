//! The wall clock, read in the shell and handed to the pure parts as a value.

use std::time::SystemTime;

use bridge_protocol::domain::UnixMicros;

/// Now. A clock that is set before 1970 reads as 1970.
pub fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMicros::new(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
