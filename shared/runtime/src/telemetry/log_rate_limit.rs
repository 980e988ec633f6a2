//! Says little about what happens often: of each reason so much at a time, and how much was left out.
//!
//! Whoever can reach a port can be refused all day, and a peer can send what is refused all day: either would fill a log. The
//! counters count each time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time over which it is spared.
const WINDOW: Duration = Duration::from_secs(10);

/// How often each reason may be said.
#[derive(Debug)]
pub struct LogRateLimit {
    /// In each window.
    at_once: u32,
    /// By reason, of which there are few.
    reasons: Mutex<HashMap<&'static str, WindowCount>>,
}

#[derive(Debug)]
struct WindowCount {
    since: Instant,
    said: u32,
    left_out: u64,
}

impl LogRateLimit {
    /// Each reason is said this often in ten seconds.
    pub fn new(at_once: u32) -> Self {
        Self { at_once, reasons: Mutex::default() }
    }

    /// It has happened once more: how often it was left out since it was last said, if it is to be said now.
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
