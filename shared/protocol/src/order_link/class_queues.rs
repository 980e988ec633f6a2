//! Queues of requests to send: one of writes and one of questions. In each, brands take turns.
//!
//! Each class has its own limit, so a question never takes the room of a write. Writes go first.
//! But after some writes a waiting question goes, so neither class holds up the other.

use super::fair_queue::FairQueue;
use super::fair_share::BrandIndex;
use super::output::RequestId;
use super::request::RequestClass;
use super::window_use::{LinkSet, WindowUse};
use crate::seal::KeyId;

/// Most writes that go before a waiting question. So questions take at most a tenth of the requests
/// from writes.
const WRITES_PER_QUESTION: usize = 9;

/// Requests in order, separately for each class.
#[derive(Debug)]
pub(super) struct ClassQueues {
    writes: FairQueue,
    questions: FairQueue,
    /// Writes since the last question; at most `WRITES_PER_QUESTION`.
    writes_in_turn: usize,
}

impl ClassQueues {
    /// Makes empty queues with a weight for each brand.
    pub(super) fn new(weights: &[usize]) -> Self {
        let new = || FairQueue::new(weights);
        Self { writes: new(), questions: new(), writes_in_turn: 0 }
    }

    pub(super) fn of(&self, class: RequestClass) -> &FairQueue {
        match class {
            RequestClass::Write => &self.writes,
            RequestClass::Question => &self.questions,
        }
    }

    pub(super) fn of_mut(&mut self, class: RequestClass) -> &mut FairQueue {
        match class {
            RequestClass::Write => &mut self.writes,
            RequestClass::Question => &mut self.questions,
        }
    }

    /// Sets what a brand may use of the links' windows. Its questions spend no grant.
    pub(super) fn set_window_use(&mut self, brand: BrandIndex, window_use: WindowUse) {
        self.writes.set_window_use(brand, window_use);
        self.questions.set_window_use(brand, WindowUse { spent: LinkSet::default(), ..window_use });
    }

    /// Takes out the next request that some link takes. Returns it with the link. `link_for` gets
    /// the class, the key, and what the brand may use.
    pub(super) fn take_next<L: Copy>(
        &mut self,
        link_for: impl Fn(RequestClass, Option<KeyId>, WindowUse) -> Option<L>,
    ) -> Option<(RequestId, L)> {
        let question_is_due = self.writes_in_turn >= WRITES_PER_QUESTION;
        let classes = match question_is_due {
            true => [RequestClass::Question, RequestClass::Write],
            false => [RequestClass::Write, RequestClass::Question],
        };
        let (class, taken) = classes.into_iter().find_map(|class| {
            let taken = self.of_mut(class).take_next(|key, used| link_for(class, key, used));
            taken.map(|taken| (class, taken))
        })?;
        self.writes_in_turn = match class {
            RequestClass::Question => 0,
            RequestClass::Write => (self.writes_in_turn + 1).min(WRITES_PER_QUESTION),
        };
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fair_queue::{QueueEnd, QueuedRequest};
    use super::*;

    fn push(queues: &mut ClassQueues, class: RequestClass, brand: usize, ids: std::ops::Range<u64>) {
        for id in ids {
            let request = QueuedRequest { id: RequestId(id), cost: 1, may_leave: true };
            queues.of_mut(class).push(QueueEnd::Back, BrandIndex(brand), None, request);
        }
    }

    /// Takes this many requests, if links take only these classes.
    fn take(queues: &mut ClassQueues, count: usize, classes: &[RequestClass]) -> Vec<u64> {
        let link_for = |class, _key, _used| classes.contains(&class).then_some(());
        let next = || queues.take_next(link_for).map(|(id, ())| id.0);
        std::iter::from_fn(next).take(count).collect()
    }

    #[test]
    fn one_request_in_ten_is_a_question_while_both_wait() {
        let mut queues = ClassQueues::new(&[1, 1]);
        push(&mut queues, RequestClass::Question, 0, 0..100);
        push(&mut queues, RequestClass::Write, 1, 100..190);
        let taken = take(&mut queues, 100, &RequestClass::ALL);
        let questions: Vec<usize> = (0..100).filter(|at| taken[*at] < 100).collect();
        assert_eq!(questions, [9, 19, 29, 39, 49, 59, 69, 79, 89, 99]);
        assert_eq!(take(&mut queues, 100, &RequestClass::ALL).len(), 90, "alone, questions take everything");
    }

    #[test]
    fn brands_take_turns_with_their_questions() {
        let mut queues = ClassQueues::new(&[1, 1]);
        push(&mut queues, RequestClass::Question, 0, 0..4);
        push(&mut queues, RequestClass::Question, 1, 10..12);
        assert_eq!(take(&mut queues, 6, &RequestClass::ALL), [0, 10, 1, 11, 2, 3]);
    }

    #[test]
    fn a_question_that_no_link_takes_holds_up_no_write() {
        let mut queues = ClassQueues::new(&[1]);
        push(&mut queues, RequestClass::Question, 0, 0..4);
        push(&mut queues, RequestClass::Write, 0, 100..120);
        assert_eq!(take(&mut queues, 30, &[RequestClass::Write]).len(), 20);
        assert_eq!(take(&mut queues, 30, &RequestClass::ALL), [0, 1, 2, 3]);
    }
}
