//! Record of a schedule's events: a hash, by which two runs are compared, and the last events as
//! text if a story is wanted.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

/// Trace of one schedule.
pub(super) struct Trace {
    hash: Hash,
    /// The last events; at most `story_max`.
    story: VecDeque<String>,
    story_max: usize,
}

struct Hash(DefaultHasher);

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    pub(super) fn new(story_max: usize) -> Self {
        Self { hash: Hash(DefaultHasher::new()), story: VecDeque::new(), story_max }
    }

    pub(super) fn note(&mut self, now: Duration, event: fmt::Arguments<'_>) {
        self.hash.0.write_u128(now.as_micros());
        // Writing to a hash cannot fail.
        let _ = self.hash.write_fmt(event);
        if self.story_max > 0 {
            if self.story.len() >= self.story_max {
                self.story.pop_front();
            }
            let micros = now.as_micros();
            self.story.push_back(format!("{:>6}.{:03} ms  {event}", micros / 1_000, micros % 1_000));
        }
    }

    /// Returns the hash and the story.
    pub(super) fn end(self) -> (u64, Vec<String>) {
        (self.hash.0.finish(), self.story.into())
    }
}
