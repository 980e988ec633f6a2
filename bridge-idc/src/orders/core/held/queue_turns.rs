//! Turns of the queues of held rows: brands take turns by [`FairClock`], and so do the queues of a
//! brand.
//!
//! A batch for a held row waits in the database, for seconds if the row stays locked. So a brand
//! with many held rows may not take all places of such batches: the last place is kept for a brand
//! that has none, and while other brands have queues, a brand has at most half of the places. A
//! short lock that another brand meets is then tried at once, or after at most one queue of each
//! other brand.

use std::collections::{BTreeMap, VecDeque};

use bridge_protocol::domain::Brand;
use bridge_protocol::order_link::fair_clock::{BrandTurn, FairClock, Turn};

use super::super::turns::BrandWeights;
use crate::orders::planner::Awaited;
use crate::orders::store::AWAITED_AT_ONCE;

/// Most batches of a brand at a time.
const OF_A_BRAND_MAX: usize = AWAITED_AT_ONCE - 1;

/// Most batches of a brand at a time while another brand has queues.
const BESIDE_OTHERS_MAX: usize = AWAITED_AT_ONCE / 2;

/// The queues that wait for their turn, and the number of those that have it.
#[derive(Debug, Default)]
pub(super) struct QueueTurns {
    weights: BrandWeights,
    /// Brands with queues. The order of brands is the same in each process, so that the simulation
    /// can repeat a run from its seed.
    brands: BTreeMap<Brand, BrandQueues>,
    /// Brands with queues that wait for their turn, by their turns.
    turns: BTreeMap<Turn, Brand>,
    clock: FairClock,
    /// Number of batches under way.
    tried: usize,
}

/// The queues of one brand.
#[derive(Debug)]
struct BrandQueues {
    turn: BrandTurn,
    /// Queues that wait for their turn and have not waited in vain.
    fresh: VecDeque<Awaited>,
    /// Queues that wait for their turn and have waited in vain.
    known: VecDeque<Awaited>,
    /// Number of batches under way for queues of these two kinds.
    fresh_tried: usize,
    known_tried: usize,
    /// True if the last batch was for a queue that had waited in vain.
    known_was_last: bool,
}

impl QueueTurns {
    /// Creates turns without queues, for brands of these weights.
    pub(super) fn new(weights: BrandWeights) -> Self {
        Self { weights, ..Self::default() }
    }

    /// Takes a queue of a brand that waits for its turn.
    pub(super) fn add(&mut self, brand: &Brand, awaited: Awaited, in_vain: bool) {
        let weight = self.weights.of(brand);
        let queues = self.brands.entry(brand.clone()).or_insert_with(|| BrandQueues::new(weight));
        if !queues.any_waits() {
            self.clock.begin(&mut queues.turn);
            self.turns.insert(queues.turn.turn(), brand.clone());
        }
        let waiting = if in_vain { &mut queues.known } else { &mut queues.fresh };
        waiting.push_back(awaited);
    }

    /// Removes a queue of a brand that waits for its turn.
    pub(super) fn remove(&mut self, brand: &Brand, awaited: &Awaited) {
        if let Some(queues) = self.brands.get_mut(brand) {
            queues.fresh.retain(|waits| waits != awaited);
            queues.known.retain(|waits| waits != awaited);
        }
        self.forget_if_done(brand);
    }

    /// Returns the queue whose turn it is.
    pub(super) fn begin(&mut self) -> Option<Awaited> {
        let free = AWAITED_AT_ONCE.saturating_sub(self.tried);
        if free == 0 {
            return None;
        }
        let most = if self.brands.len() > 1 { BESIDE_OTHERS_MAX } else { OF_A_BRAND_MAX };
        let may_begin = |brand: &Brand| {
            let of = self.brands.get(brand);
            of.is_some_and(|of| of.tried() == 0 || (free > 1 && of.has_one_for(most)))
        };
        // Only brands with a batch under way are passed over, and there are few of them.
        let brand = self.turns.values().find(|brand| may_begin(brand))?.clone();
        let queues = self.brands.get_mut(&brand)?;
        let awaited = queues.begin()?;
        self.tried += 1;
        self.turns.remove(&queues.turn.turn());
        self.clock.pay(&mut queues.turn, 1);
        if queues.any_waits() {
            self.turns.insert(queues.turn.turn(), brand);
        }
        Some(awaited)
    }

    /// Takes the end of a batch for a queue of a brand. `was_known` is true if the queue had waited
    /// in vain before that batch.
    pub(super) fn end(&mut self, brand: &Brand, was_known: bool) {
        let Some(queues) = self.brands.get_mut(brand) else { return };
        let tried = if was_known { &mut queues.known_tried } else { &mut queues.fresh_tried };
        *tried = tried.saturating_sub(1);
        self.tried = self.tried.saturating_sub(1);
        self.forget_if_done(brand);
    }

    fn forget_if_done(&mut self, brand: &Brand) {
        let Some(queues) = self.brands.get(brand).filter(|queues| !queues.any_waits()) else { return };
        self.turns.remove(&queues.turn.turn());
        if queues.tried() == 0 {
            self.brands.remove(brand);
        }
    }

    /// Returns true if no brand has a queue.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.brands.is_empty() && self.turns.is_empty() && self.tried == 0
    }
}

impl BrandQueues {
    fn new(weight: usize) -> Self {
        Self {
            turn: BrandTurn::new(weight),
            fresh: VecDeque::new(),
            known: VecDeque::new(),
            fresh_tried: 0,
            known_tried: 0,
            known_was_last: false,
        }
    }

    fn any_waits(&self) -> bool {
        !self.fresh.is_empty() || !self.known.is_empty()
    }

    fn tried(&self) -> usize {
        self.fresh_tried + self.known_tried
    }

    /// Returns true if a queue may have one more of at most this many batches. One is kept for a
    /// queue that has not waited in vain, so that a short lock is not delayed by long ones.
    fn has_one_for(&self, most: usize) -> bool {
        self.tried() < most && (!self.fresh.is_empty() || self.known_tried + 1 < most)
    }

    /// Takes the next queue. With no batch under way for one that waited in vain, such a queue
    /// comes first every second time. So new queues cannot delay it without end, nor it them.
    fn begin(&mut self) -> Option<Awaited> {
        let is_known = self.fresh.is_empty()
            || (!self.known.is_empty() && self.known_tried == 0 && !self.known_was_last);
        self.known_was_last = is_known;
        let (waiting, tried) = match is_known {
            true => (&mut self.known, &mut self.known_tried),
            false => (&mut self.fresh, &mut self.fresh_tried),
        };
        let awaited = waiting.pop_front()?;
        *tried += 1;
        Some(awaited)
    }
}
