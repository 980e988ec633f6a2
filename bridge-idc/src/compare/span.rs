//! The time range that the logs cover completely. They say nothing about rows of the ledger from
//! before or after it.

use std::time::Duration;

use bridge_protocol::domain::UnixMicros;

/// Longest delay between a commit and its entry, including differences between clocks.
const LOGGED_WITHIN: Duration = Duration::from_secs(60);

/// The extent of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// The number of entries.
    pub entries: u64,
    /// The earliest time of an entry.
    pub from: Option<UnixMicros>,
    /// The latest time of an entry.
    pub to: Option<UnixMicros>,
    /// Operators' decisions without a key, as older agents logged them.
    pub words_without_key: u64,
    /// True if the last entry says that the agent stopped in order.
    pub is_ended: bool,
}

/// The time range that the logs cover completely.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    from: Option<UnixMicros>,
    to: Option<UnixMicros>,
}

impl Reach {
    /// Takes the next entry.
    pub fn take(&mut self, bytes: &[u8]) {
        self.entries += 1;
        let Some(at) = time_of(bytes) else { return };
        self.from = Some(self.from.map_or(at, |from| from.min(at)));
        self.to = self.to.max(Some(at));
        let begin = bytes.get(..64.min(bytes.len())).unwrap_or_default();
        self.is_ended = has(begin, STOPPED);
        self.words_without_key += u64::from(has(begin, RESOLVED) && !has(bytes, KEY));
    }
}

const STOPPED: &[u8] = b"\"event\":\"agent-stopped\"";
const RESOLVED: &[u8] = b"\"event\":\"payment-resolved\"";
const KEY: &[u8] = b"\"key\":\"";

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|bytes| bytes == part)
}

/// Returns an entry's time, which is its first member.
fn time_of(bytes: &[u8]) -> Option<UnixMicros> {
    let rest = bytes.strip_prefix(b"{\"at\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let micros = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    Some(UnixMicros::new(micros))
}

impl Span {
    /// Computes the range from all logs, each with its name in its checkpoints. If an agent started
    /// a new log, its latest log counts. If an agent still ran at the end of its log, or if the
    /// given log is cut, later entries exist that the logs do not show. The range then ends
    /// `LOGGED_WITHIN` before the last entry.
    pub fn of<'name>(logs: impl Iterator<Item = (&'name str, Reach, bool)>) -> Self {
        let mut agents: Vec<(&str, Reach)> = Vec::new();
        let mut from = None;
        for (name, mut reach, ends_early) in logs {
            reach.is_ended &= !ends_early;
            from = from
                .map_or(reach.from, |known: UnixMicros| Some(reach.from.map_or(known, |at| at.min(known))));
            match agents.iter_mut().find(|(known, _)| !name.is_empty() && *known == name) {
                Some((_, known)) if known.to < reach.to => *known = reach,
                Some(_) => {}
                None => agents.push((name, reach)),
            }
        }
        let runs = agents.iter().filter(|(_, reach)| !reach.is_ended).filter_map(|(_, reach)| reach.to);
        let ended = agents.iter().filter_map(|(_, reach)| reach.to).max();
        let to = runs.min().map(less_a_while).or(ended);
        Self { from, to }
    }

    /// True if the logs begin after this time.
    pub fn begins_after(&self, at: UnixMicros) -> bool {
        self.from.is_none_or(|from| at < from)
    }

    /// True if the logs end before this time.
    pub fn ends_before(&self, at: UnixMicros) -> bool {
        self.to.is_none_or(|to| at > to)
    }

    /// Returns the end of the range.
    pub fn to(&self) -> Option<UnixMicros> {
        self.to
    }
}

fn less_a_while(at: UnixMicros) -> UnixMicros {
    let micros = i64::try_from(LOGGED_WITHIN.as_micros()).unwrap_or(i64::MAX);
    UnixMicros::new(at.get().saturating_sub(micros))
}
