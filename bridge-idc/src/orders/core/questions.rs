//! Questions that wait for a look-up. Links take turns, and the brands of each link do.
//!
//! Sans-IO. Each link has its share of the queue, and each brand its share of its link's part. A
//! cloud agent may name any brand, so shares of brands alone would not hold: an agent that invents
//! names would fill the queue. This way it fills its own part.

use std::collections::BTreeMap;
use std::ops::Bound;

use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::fair_share::FairShare;

use super::PendingQuestion;
use super::turns::{BrandTurns, BrandWeights, Room, Waiting};

/// Waiting questions of all links.
#[derive(Debug)]
pub(super) struct Questions {
    weights: BrandWeights,
    /// Questions by link; none is empty.
    links: BTreeMap<LinkId, BrandTurns<PendingQuestion>>,
    /// Link that had the last turn.
    last: LinkId,
    /// Number of questions of all links.
    len: usize,
}

impl Questions {
    /// Creates an empty queue, for brands of these weights.
    pub(super) fn new(weights: BrandWeights) -> Self {
        Self { weights, links: BTreeMap::new(), last: LinkId(0), len: 0 }
    }

    /// Returns the number of questions.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a question to at most `max`. Returns the one that must be refused for it: the newest
    /// one of another link or brand that has more than its share, or the given one.
    pub(super) fn push_if_room(&mut self, question: PendingQuestion, max: usize) -> Option<PendingQuestion> {
        let leaves = match self.make_room(&question, max) {
            Room::Free => None,
            Room::Instead(leaves) => Some(leaves),
            Room::Full => return Some(question),
        };
        self.len = self.len + 1 - leaves.iter().len();
        self.of(question.link).push(question);
        leaves
    }

    fn make_room(&mut self, question: &PendingQuestion, max: usize) -> Room<PendingQuestion> {
        if self.len < max {
            return Room::Free;
        }
        let mine = self.links.get(&question.link).map_or(0, BrandTurns::len);
        let busy_weight = self.links.len() + usize::from(mine == 0);
        let share = FairShare { weight: 1, busy_weight, queue_max: max };
        if !share.allows_one_more(mine) {
            // In the part of its link, another brand may have more than its share.
            return self.of(question.link).make_room(question.brand(), mine);
        }
        let furthest =
            share.furthest_above(self.links.iter().map(|(link, of_link)| (*link, 1, of_link.len())));
        let leaves = furthest.and_then(|link| self.links.get_mut(&link)?.remove_newest());
        leaves.map_or(Room::Full, Room::Instead)
    }

    /// Returns the questions of a link.
    fn of(&mut self, link: LinkId) -> &mut BrandTurns<PendingQuestion> {
        self.links.entry(link).or_insert_with(|| BrandTurns::new(self.weights.clone()))
    }

    /// Puts back a question that was taken. It is the next one of its link.
    pub(super) fn put_back(&mut self, question: PendingQuestion) {
        self.len += 1;
        self.of(question.link).put_back(question);
    }

    /// Takes the next question: of the next link, in the order of their numbers.
    pub(super) fn pop(&mut self) -> Option<PendingQuestion> {
        let later = (Bound::Excluded(self.last), Bound::Unbounded);
        let next = self.links.range(later).next().or_else(|| self.links.first_key_value());
        let link = *next?.0;
        let of_link = self.links.get_mut(&link)?;
        let question = of_link.pop()?;
        if of_link.len() == 0 {
            self.links.remove(&link);
        }
        (self.last, self.len) = (link, self.len - 1);
        Some(question)
    }

    /// Takes all questions of a link.
    pub(super) fn remove_link(&mut self, link: LinkId) -> Vec<PendingQuestion> {
        let removed = self.links.remove(&link).map_or_else(Vec::new, |mut of_link| of_link.drain());
        self.len -= removed.len();
        removed
    }
}
