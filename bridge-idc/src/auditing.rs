//! What waits for the audit log: nothing is committed before its receipt is durable there, and nothing answered before
//! its outcome is (promise P8).
//!
//! Sans-IO, and one round at a time: while its entries become durable, those of the next one gather. So the fsync of one
//! batch of orders overlaps with the commit of another, and no entry waits on a timer.

use std::collections::VecDeque;

use bridge_protocol::audit::Entry;

/// Entries on their way into the log, and what is to be done once they are durable.
#[derive(Debug)]
pub struct Auditing<T> {
    /// Not handed out yet, in order; bounded by what is under way in the agent.
    gathered: VecDeque<Waiting<T>>,
    /// What the round under way is to lead to, in order; empty if there is none.
    round: Vec<(usize, T)>,
    /// Set while the last round was not written.
    failed: bool,
}

/// Entries, and what waits for them.
#[derive(Debug)]
struct Waiting<T> {
    entries: Vec<Entry>,
    then: T,
}

/// Entries for the log.
#[derive(Debug)]
pub struct Round {
    /// To be made durable in this order.
    pub entries: Vec<Entry>,
    /// Whether the last round was not written: to be tried after a pause.
    pub again: bool,
}

impl<T> Auditing<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self { gathered: VecDeque::new(), round: Vec::new(), failed: false }
    }

    /// `then` is to be done once these entries are durable.
    pub fn wait(&mut self, entries: Vec<Entry>, then: T) {
        self.gathered.push_back(Waiting { entries, then });
    }

    /// The next round: everything that has gathered, unless one is under way.
    pub fn poll_round(&mut self) -> Option<Round> {
        if !self.round.is_empty() || self.gathered.is_empty() {
            return None;
        }
        let mut entries = Vec::new();
        for waiting in self.gathered.drain(..) {
            self.round.push((waiting.entries.len(), waiting.then));
            entries.extend(waiting.entries);
        }
        Some(Round { entries, again: self.failed })
    }

    /// The round is durable: what is to be done now.
    pub fn handle_durable(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.failed = false;
        std::mem::take(&mut self.round).into_iter().map(|(_, then)| then)
    }

    /// The round was not written, and its entries come back. What `give_up` returns is waited for again, before
    /// everything that came meanwhile.
    pub fn handle_failed(&mut self, entries: Vec<Entry>, mut give_up: impl FnMut(T) -> Option<T>) {
        self.failed = true;
        let mut entries = entries.into_iter();
        let mut again: VecDeque<Waiting<T>> = VecDeque::new();
        for (count, then) in std::mem::take(&mut self.round) {
            let entries: Vec<Entry> = entries.by_ref().take(count).collect();
            if let Some(then) = give_up(then) {
                again.push_back(Waiting { entries, then });
            }
        }
        again.append(&mut self.gathered);
        self.gathered = again;
    }
}

impl<T> Default for Auditing<T> {
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

    fn times(round: Option<Round>) -> Vec<i64> {
        round.into_iter().flat_map(|round| round.entries).map(|entry| entry.at.get()).collect()
    }

    #[test]
    fn what_comes_while_a_round_is_written_is_the_next_one() {
        let mut auditing = Auditing::new();
        auditing.wait(vec![entry(1), entry(2)], 'a');
        assert_eq!(times(auditing.poll_round()), [1, 2]);
        auditing.wait(vec![entry(3)], 'b');
        auditing.wait(vec![], 'c');
        assert!(auditing.poll_round().is_none());
        assert_eq!(auditing.handle_durable().collect::<String>(), "a");
        assert_eq!(times(auditing.poll_round()), [3]);
        assert_eq!(auditing.handle_durable().collect::<String>(), "bc");
        assert!(auditing.poll_round().is_none());
    }

    #[test]
    fn what_cannot_be_given_up_is_written_again_first_with_its_own_entries() {
        let mut auditing = Auditing::new();
        for (at, then) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            auditing.wait(vec![entry(at)], then);
        }
        let round = auditing.poll_round().unwrap();
        assert!(!round.again);
        auditing.wait(vec![entry(4)], 'd');
        auditing.handle_failed(round.entries, |then| (then != 'b').then_some(then));
        let round = auditing.poll_round().unwrap();
        assert!(round.again);
        assert_eq!(times(Some(round)), [1, 3, 4]);
        assert_eq!(auditing.handle_durable().collect::<String>(), "acd");
    }
}
