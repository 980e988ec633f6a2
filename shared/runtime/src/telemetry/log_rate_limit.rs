//! Limits how often each reason is logged, and counts the omitted lines.
//!
//! A stranger who can reach a port can be refused all day, and so can a peer's requests. Either
//! would fill a log. The metrics count every event.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(10);

/// Limits the lines of each reason.
#[derive(Debug)]
pub struct LogRateLimit {
    /// Lines in each window.
    at_once: u32,
    /// Windows by reason. There are few reasons.
    reasons: Mutex<HashMap<&'static str, WindowCount>>,
}

#[derive(Debug)]
struct WindowCount {
    since: Instant,
    said: u32,
    left_out: u64,
}

impl LogRateLimit {
    /// Makes a limit of this many lines in ten seconds for each reason.
    pub fn new(at_once: u32) -> Self {
        Self { at_once, reasons: Mutex::default() }
    }

    /// Counts one event. If it may be logged now, returns the number of lines omitted since the
    /// last one.
    pub fn due(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let said = reasons.entry(reason).or_insert(WindowCount { since: now, said: 0, left_out: 0 });
        if now.saturating_duration_since(said.since) >= WINDOW {
            (said.since, said.said) = (now, 0);
        }
        if said.said >= self.at_once {
            said.left_out += 1;
            return None;
        }
        said.said += 1;
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_at_a_limit_and_then_with_a_count() {
        let (sparing, start) = (LogRateLimit::new(2), Instant::now());
        let said: Vec<_> = (0..5).map(|_| sparing.due("expired", start)).collect();
        assert_eq!(said, [Some(0), Some(0), None, None, None]);
        assert_eq!(sparing.due("revoked", start), Some(0));
        assert_eq!(sparing.due("expired", start + WINDOW), Some(3));
        assert_eq!(sparing.due("expired", start + WINDOW), Some(0));
    }
}
