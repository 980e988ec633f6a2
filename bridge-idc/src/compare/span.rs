//! The time for which the logs tell everything that was committed: what the ledger has from before or after it, no log can tell.

use std::time::Duration;

use bridge_protocol::domain::UnixMicros;

/// What is committed is logged so much later at most, by whichever clock.
const LOGGED_WITHIN: Duration = Duration::from_secs(60);

/// How far one log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Entries.
    pub entries: u64,
    /// The earliest time of one.
    pub from: Option<UnixMicros>,
    /// The latest.
    pub to: Option<UnixMicros>,
    /// What operators said that names no key, as agents of before logged it.
    pub words_without_key: u64,
    /// Whether its last entry says that its agent has ended in order.
    pub is_ended: bool,
}

/// The time that the logs are of.
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

/// An entry's time, which is its first member.
fn time_of(bytes: &[u8]) -> Option<UnixMicros> {
    let rest = bytes.strip_prefix(b"{\"at\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let micros = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    Some(UnixMicros::new(micros))
}

impl Span {
    /// Of logs by the names in their checkpoints. One agent may have begun a new log: the latest counts. An agent that still
    /// ran at the end of its log, or whose log is not given up to its end, has logged more since.
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

    /// Whether the logs begin after this.
    pub fn begins_after(&self, at: UnixMicros) -> bool {
        self.from.is_none_or(|from| at < from)
    }

    /// Whether they end before it.
    pub fn ends_before(&self, at: UnixMicros) -> bool {
        self.to.is_none_or(|to| at > to)
    }

    /// Up to when they tell everything.
    pub fn to(&self) -> Option<UnixMicros> {
        self.to
    }
}

fn less_a_while(at: UnixMicros) -> UnixMicros {
    let micros = i64::try_from(LOGGED_WITHIN.as_micros()).unwrap_or(i64::MAX);
    UnixMicros::new(at.get().saturating_sub(micros))
}
