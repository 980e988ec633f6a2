//! What waits for the audit log: nothing is committed before its receipt is durable there, and nothing answered before
//! its outcome is (promise P8).
//!
//! Sans-IO, and one round at a time: while its entries become durable, those of the next one gather, and no entry waits on a
//! timer.

use bridge_protocol::audit::Entry;

/// Entries on their way into the log, and what is to be done once they are durable.
#[derive(Debug)]
pub struct AuditGate<T> {
    /// Not handed out yet, in order; bounded by what is under way in the agent.
    entries: Vec<Entry>,
    /// What they are to lead to, in order: how many of them, and to what.
    gathered: Vec<(usize, T)>,
    /// The same of the round under way; empty if there is none.
    round: Vec<(usize, T)>,
    /// Whether one of them is waited for at once.
    pressing: bool,
    /// Set while the last round was not written.
    failed: bool,
}

/// Entries for the log.
#[derive(Debug)]
pub struct AuditRound {
    /// To be made durable in this order.
    pub entries: Vec<Entry>,
    /// Whether the last round was not written: to be tried after a pause.
    pub again: bool,
}

impl<T> AuditGate<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self { entries: Vec::new(), gathered: Vec::new(), round: Vec::new(), pressing: false, failed: false }
    }

    /// `then` is to be done once these entries are durable.
    pub fn wait(&mut self, entries: impl IntoIterator<Item = Entry>, then: T) {
        self.pressing = true;
        self.wait_along(entries, then);
    }

    /// As [`Self::wait`], of something that can wait for others: see [`Self::poll_round`].
    pub fn wait_along(&mut self, entries: impl IntoIterator<Item = Entry>, then: T) {
        let before = self.entries.len();
        self.entries.extend(entries);
        self.gathered.push((self.entries.len() - before, then));
    }

    /// What is to be done once entries are durable that are not yet.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.round.iter().chain(&self.gathered).map(|(_, then)| then)
    }

    /// The next round: everything that has gathered, unless one is under way. If `busy`, nothing could be done yet for those
    /// who wait along, so they make no round of their own.
    pub fn poll_round(&mut self, busy: bool) -> Option<AuditRound> {
        if !self.round.is_empty() || self.gathered.is_empty() || (busy && !self.pressing) {
            return None;
        }
        self.pressing = false;
        self.round = std::mem::take(&mut self.gathered);
        Some(AuditRound { entries: std::mem::take(&mut self.entries), again: self.failed })
    }

    /// The round is durable: what is to be done now.
    pub fn handle_durable(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.failed = false;
        std::mem::take(&mut self.round).into_iter().map(|(_, then)| then)
    }

    /// The round was not written, and its entries come back. What `give_up` returns is waited for again, before
    /// everything that came meanwhile.
    pub fn handle_failed(&mut self, entries: Vec<Entry>, mut give_up: impl FnMut(T) -> Option<T>) {
        (self.failed, self.pressing) = (true, true);
        let mut entries = entries.into_iter();
        let (mut kept, mut again) = (Vec::new(), Vec::new());
        for (count, then) in std::mem::take(&mut self.round) {
            let entries = entries.by_ref().take(count);
            match give_up(then) {
                Some(then) => {
                    kept.extend(entries);
                    again.push((count, then));
                }
                None => entries.for_each(drop),
            }
        }
        kept.append(&mut self.entries);
        again.append(&mut self.gathered);
        (self.entries, self.gathered) = (kept, again);
    }
}

impl<T> Default for AuditGate<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::audit::Event;
    use bridge_protocol::audit::entry::{Stopped, Word};
    use bridge_protocol::domain::UnixMicros;

    use super::*;

    fn entry(n: i64) -> Entry {
        Entry::new(UnixMicros::new(n), Event::AgentStopped(Stopped { reason: Word::of("test") }))
    }

    fn times(round: Option<AuditRound>) -> Vec<i64> {
        round.into_iter().flat_map(|round| round.entries).map(|entry| entry.at.get()).collect()
    }

    #[test]
    fn what_comes_while_a_round_is_written_is_the_next_one() {
        let mut auditing = AuditGate::new();
        auditing.wait([entry(1), entry(2)], 'a');
        assert_eq!(times(auditing.poll_round(false)), [1, 2]);
        auditing.wait([entry(3)], 'b');
        auditing.wait([], 'c');
        assert!(auditing.poll_round(false).is_none());
        assert_eq!(auditing.handle_durable().collect::<String>(), "a");
        assert_eq!(times(auditing.poll_round(false)), [3]);
        assert_eq!(auditing.handle_durable().collect::<String>(), "bc");
        assert!(auditing.poll_round(false).is_none());
    }

    #[test]
    fn what_has_no_entry_is_a_round_all_the_same() {
        let mut auditing = AuditGate::new();
        auditing.wait_along(None, 'a');
        auditing.wait(None, 'b');
        let round = auditing.poll_round(false).unwrap();
        assert!(round.entries.is_empty());
        assert_eq!(auditing.handle_durable().collect::<String>(), "ab");
    }

    #[test]
    fn deferrable_entries_wait_for_a_useful_round_and_join_urgent_ones() {
        let mut auditing = AuditGate::new();
        auditing.wait_along([entry(1)], 'a');
        assert!(auditing.poll_round(true).is_none());
        auditing.wait([entry(2)], 'b');
        auditing.wait_along([entry(3)], 'c');
        assert_eq!(times(auditing.poll_round(true)), [1, 2, 3]);
        assert_eq!(auditing.handle_durable().collect::<String>(), "abc");
        auditing.wait_along([entry(4)], 'd');
        assert!(auditing.poll_round(true).is_none());
        assert_eq!(times(auditing.poll_round(false)), [4]);
    }

    #[test]
    fn an_undeferrable_entry_is_rewritten_first_in_its_own_round() {
        let mut auditing = AuditGate::new();
        for (at, then) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            auditing.wait([entry(at)], then);
        }
        let round = auditing.poll_round(false).unwrap();
        assert!(!round.again);
        auditing.wait([entry(4)], 'd');
        auditing.handle_failed(round.entries, |then| (then != 'b').then_some(then));
        let round = auditing.poll_round(false).unwrap();
        assert!(round.again);
        assert_eq!(times(Some(round)), [1, 3, 4]);
        assert_eq!(auditing.handle_durable().collect::<String>(), "acd");
    }
}
