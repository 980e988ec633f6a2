//! What happened: always as a hash, by which two runs are compared, and as the last lines of a story if one is wanted.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

/// Lines of a story that are kept.
const STORY_MAX: usize = 80;

/// One schedule's trace.
pub(super) struct Trace {
    hash: Hash,
    /// The last events, if they are to be told.
    story: Option<VecDeque<String>>,
}

struct Hash(DefaultHasher);

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    pub(super) fn new(recorded: bool) -> Self {
        Self { hash: Hash(DefaultHasher::new()), story: recorded.then(VecDeque::new) }
    }

    pub(super) fn note(&mut self, now: Duration, event: fmt::Arguments<'_>) {
        self.hash.0.write_u128(now.as_micros());
        // A hash takes everything.
        let _ = self.hash.write_fmt(event);
        if let Some(story) = &mut self.story {
            if story.len() >= STORY_MAX {
                story.pop_front();
            }
            let micros = now.as_micros();
            story.push_back(format!("{:>6}.{:03} ms  {event}", micros / 1_000, micros % 1_000));
        }
    }

    /// The hash and the story.
    pub(super) fn end(self) -> (u64, Vec<String>) {
        (self.hash.0.finish(), self.story.unwrap_or_default().into())
    }
}
