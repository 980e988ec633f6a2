//! Steps that wait for the audit log: a request is committed only after its receipt is durable
//! there, and answered only after its outcome is (promise P8).
//!
//! Sans-IO. One round of entries is written at a time. Entries of the next round collect in the
//! meantime, and no timer delays them.

use bridge_protocol::audit::Entry;

/// Entries on their way into the log, and the steps that follow them.
#[derive(Debug)]
pub struct AuditGate<T> {
    /// Entries of the next round, in order; bounded by the requests under way.
    entries: Vec<Entry>,
    /// Steps of the next round in order, each with the number of its entries.
    gathered: Vec<(usize, T)>,
    /// Steps of the round that is being written; empty if there is none.
    round: Vec<(usize, T)>,
    /// True if a step of the next round must not wait for others.
    pressing: bool,
    /// True while the last round has not been written.
    failed: bool,
}

/// A round of entries for the log.
#[derive(Debug)]
pub struct AuditRound {
    /// The entries, to make durable in this order.
    pub entries: Vec<Entry>,
    /// True if the last round was not written. The driver must then pause before this one.
    pub again: bool,
}

impl<T> AuditGate<T> {
    /// Creates a gate without entries.
    pub fn new() -> Self {
        Self { entries: Vec::new(), gathered: Vec::new(), round: Vec::new(), pressing: false, failed: false }
    }

    /// Adds entries. The step `then` follows once they are durable. The next round may begin at
    /// once.
    pub fn wait(&mut self, entries: impl IntoIterator<Item = Entry>, then: T) {
        self.pressing = true;
        self.wait_along(entries, then);
    }

    /// Adds entries as [`Self::wait`] does, but does not cause a round: see [`Self::poll_round`].
    pub fn wait_along(&mut self, entries: impl IntoIterator<Item = Entry>, then: T) {
        let before = self.entries.len();
        self.entries.extend(entries);
        self.gathered.push((self.entries.len() - before, then));
    }

    /// Returns the steps that still wait.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.round.iter().chain(&self.gathered).map(|(_, then)| then)
    }

    /// Returns the next round with all entries that have come, unless a round is being written. If
    /// `busy`, the steps of [`Self::wait_along`] could not run yet, so their entries cause no
    /// round.
    pub fn poll_round(&mut self, busy: bool) -> Option<AuditRound> {
        if !self.round.is_empty() || self.gathered.is_empty() || (busy && !self.pressing) {
            return None;
        }
        self.pressing = false;
        self.round = std::mem::take(&mut self.gathered);
        Some(AuditRound { entries: std::mem::take(&mut self.entries), again: self.failed })
    }

    /// Notes that the round is durable. Returns its steps, which are due now.
    pub fn handle_durable(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.failed = false;
        std::mem::take(&mut self.round).into_iter().map(|(_, then)| then)
    }

    /// Notes that the round was not written, and takes its entries back. `give_up` decides about
    /// each step. If it returns a step, the entries of that step are written again, before all that
    /// came later.
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
