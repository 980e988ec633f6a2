//! What waits to be sent: a queue for each brand, and brands take turns by deficit round robin.
//!
//! A brand's turn lasts while its credit pays for its next request. When it ends, the brand goes to the end of the line, and its
//! credit grows by its weight. So over any time each brand that has something waiting sends by its weight, whatever the others
//! do, and a brand that is alone sends everything.
//!
//! A sealed order waits for a link whose agent opens its sealing key. So each brand's requests stand in a queue for each key, and
//! each key has the line of the brands that wait for it, in one order of turns. What no link takes keeps back neither another key of
//! its brand nor another brand, and does not lose its turn. To find the next request is a look at the heads of these few lines,
//! and never a pass over brands: a turn costs as much with a thousand brands as with ten, but for the depth of an ordered set.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::fair_share::{BrandIndex, FairShare};
use super::output::RequestId;
use crate::seal::KeyId;

/// A request that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuedRequest {
    pub(super) id: RequestId,
    /// What it takes of its brand's credit: at least 1.
    pub(super) cost: usize,
    /// Whether it may leave the full queue for a brand below its share.
    pub(super) may_leave: bool,
}

/// Requests in order, those of each brand by themselves.
#[derive(Debug)]
pub(super) struct FairQueue {
    brands: Vec<BrandQueue>,
    /// Those that wait for each key, `None` for requests that are not sealed; none of them empty.
    lines: BTreeMap<Option<KeyId>, KeyLine>,
    next_turn: u64,
    /// The credit that a cost of 1 takes: the least weight, so that one turn of the lightest brand pays for a small request.
    unit: usize,
    /// The weights of the brands that have something waiting.
    busy_weight: usize,
    /// Requests that have a position here without being in a line, of all brands.
    held: usize,
    /// Brands of which another number waits than when it was asked for.
    changed: Vec<BrandIndex>,
}

/// Who waits for one key.
#[derive(Debug, Default)]
struct KeyLine {
    /// The brands, by their turns.
    turns: BTreeSet<(u64, BrandIndex)>,
    /// Requests of all of them.
    len: usize,
}

#[derive(Debug)]
struct BrandQueue {
    weight: usize,
    /// What it may still send in this turn, in units.
    credit: usize,
    /// Its position in each line that it is in.
    turn: u64,
    /// None of them empty.
    by_key: BTreeMap<Option<KeyId>, VecDeque<QueuedRequest>>,
    len: usize,
    /// How many of these may leave.
    leavable: usize,
    held: usize,
    /// Whether it is among `changed`.
    is_changed: bool,
}

impl BrandQueue {
    fn new(weight: usize) -> Self {
        let by_key = BTreeMap::new();
        Self { weight, credit: 0, turn: 0, by_key, len: 0, leavable: 0, held: 0, is_changed: false }
    }

    fn is_busy(&self) -> bool {
        self.len + self.held > 0
    }

    /// How many wait, without those for keys that no link opens.
    fn waiting(&self, lost: &[KeyId]) -> usize {
        let of_lost = lost.iter().filter_map(|key| self.by_key.get(&Some(*key)));
        self.len + self.held - of_lost.map(VecDeque::len).sum::<usize>()
    }

    fn front(&self, key: Option<KeyId>) -> Option<QueuedRequest> {
        self.by_key.get(&key)?.front().copied()
    }

    /// The newest request that may leave.
    fn newest_leavable(&self) -> Option<RequestId> {
        let newest = |queue: &VecDeque<QueuedRequest>| {
            queue.iter().rev().find(|request| request.may_leave).map(|request| request.id)
        };
        self.by_key.values().filter_map(newest).max()
    }
}

/// At which end of its brand's queue a request is put.
#[derive(Debug, Clone, Copy)]
pub(super) enum QueueEnd {
    Front,
    Back,
}

impl FairQueue {
    /// With a weight for each brand; a brand without one has the least of them.
    pub(super) fn new(weights: &[usize]) -> Self {
        let brands: Vec<_> = weights.iter().map(|weight| BrandQueue::new((*weight).max(1))).collect();
        Self {
            unit: brands.iter().map(|brand| brand.weight).min().unwrap_or(1),
            brands,
            lines: BTreeMap::new(),
            next_turn: 0,
            busy_weight: 0,
            held: 0,
            changed: Vec::new(),
        }
    }

    /// How many wait of all brands, without those for keys that no link opens.
    pub(super) fn waiting(&self, lost: &[KeyId]) -> usize {
        let counted = self.lines.iter().filter(|(key, _)| !key.is_some_and(|key| lost.contains(&key)));
        counted.map(|(_, line)| line.len).sum::<usize>() + self.held
    }

    /// The same of one brand.
    pub(super) fn waiting_of(&self, brand: BrandIndex, lost: &[KeyId]) -> usize {
        self.brands.get(brand.0).map_or(0, |queue| queue.waiting(lost))
    }

    /// The share of a brand that has one more request.
    pub(super) fn share_of(&self, brand: BrandIndex, queue_max: usize) -> FairShare {
        let queue = self.brands.get(brand.0);
        let weight = queue.map_or(self.unit, |queue| queue.weight);
        let comes_new = if queue.is_some_and(BrandQueue::is_busy) { 0 } else { weight };
        FairShare { weight, busy_weight: self.busy_weight + comes_new, queue_max }
    }

    /// What leaves the full queue so that a brand may have one more: the newest of the brand that is furthest above its share, and
    /// never a brand's last one. `None` if the brand has its share, or nothing may leave.
    pub(super) fn leaves_for(
        &self,
        brand: BrandIndex,
        queue_max: usize,
        lost: &[KeyId],
    ) -> Option<RequestId> {
        let share = self.share_of(brand, queue_max);
        if !share.allows_one_more(self.waiting_of(brand, lost)) {
            return None;
        }
        let waiting = self.brands.iter().filter(|queue| queue.leavable > 0);
        let waiting = waiting.map(|queue| (queue.waiting(lost), queue));
        let above = waiting.filter(|(waiting, queue)| {
            *waiting > 1 && FairShare { weight: queue.weight, ..share }.is_exceeded_by(*waiting)
        });
        let by_weight = |(a, one): &(usize, &BrandQueue), (b, other): &(usize, &BrandQueue)| {
            a.saturating_mul(other.weight).cmp(&b.saturating_mul(one.weight))
        };
        above.max_by(by_weight)?.1.newest_leavable()
    }

    /// Takes out the next request that has a link.
    pub(super) fn take_next<L: Copy>(
        &mut self,
        link_for: impl Fn(Option<KeyId>) -> Option<L>,
    ) -> Option<(RequestId, L)> {
        let open: Vec<(Option<KeyId>, L)> =
            self.lines.keys().filter_map(|key| Some((*key, link_for(*key)?))).collect();
        loop {
            let turns = open.iter().filter_map(|(key, _)| self.lines.get(key)?.turns.first());
            let (_, brand) = *turns.min()?;
            let queue = self.brands.get_mut(brand.0)?;
            let fronts = open.iter().filter_map(|(key, link)| Some((queue.front(*key)?, *key, *link)));
            let (front, key, link) = fronts.min_by_key(|(front, ..)| front.id)?;
            match queue.credit.checked_sub(front.cost.saturating_mul(self.unit)) {
                Some(left) => {
                    queue.credit = left;
                    self.remove(brand, key, front.id);
                    return Some((front.id, link));
                }
                None => self.end_turn(brand),
            }
        }
    }

    /// Puts a brand to the end of each line that it is in.
    fn end_turn(&mut self, brand: BrandIndex) {
        let turn = self.new_turn();
        let Some(queue) = self.brands.get_mut(brand.0) else { return };
        for key in queue.by_key.keys() {
            if let Some(line) = self.lines.get_mut(key) {
                line.turns.remove(&(queue.turn, brand));
                line.turns.insert((turn, brand));
            }
        }
        queue.turn = turn;
        queue.credit += queue.weight;
    }

    fn new_turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    /// Puts a request into the queue of its brand.
    pub(super) fn push(
        &mut self,
        end: QueueEnd,
        brand: BrandIndex,
        key: Option<KeyId>,
        request: QueuedRequest,
    ) {
        if self.is_in_no_line(brand) {
            let turn = self.new_turn();
            self.change(brand, |queue| (queue.turn, queue.credit) = (turn, queue.weight));
        }
        self.change(brand, |queue| {
            queue.len += 1;
            queue.leavable += usize::from(request.may_leave);
            let requests = queue.by_key.entry(key).or_default();
            match end {
                QueueEnd::Front => requests.push_front(request),
                QueueEnd::Back => requests.push_back(request),
            }
        });
        let Some(queue) = self.brands.get(brand.0) else { return };
        let line = self.lines.entry(key).or_default();
        line.len += 1;
        line.turns.insert((queue.turn, brand));
    }

    fn is_in_no_line(&self, brand: BrandIndex) -> bool {
        self.brands.get(brand.0).is_none_or(|queue| queue.len == 0)
    }

    /// Takes out a request, if it is here.
    pub(super) fn remove(&mut self, brand: BrandIndex, key: Option<KeyId>, id: RequestId) {
        let Some(queue) = self.brands.get_mut(brand.0) else { return };
        let Some(requests) = queue.by_key.get_mut(&key) else { return };
        // The first one goes most often, and then the last one.
        let at = match requests.back() {
            Some(last) if last.id == id && requests.len() > 1 => Some(requests.len() - 1),
            _ => requests.iter().position(|known| known.id == id),
        };
        let Some(removed) = at.and_then(|at| requests.remove(at)) else { return };
        let was_last = requests.is_empty();
        let turn = (queue.turn, brand);
        self.change(brand, |queue| {
            queue.len -= 1;
            queue.leavable -= usize::from(removed.may_leave);
            if was_last {
                queue.by_key.remove(&key);
            }
            if queue.len == 0 {
                queue.credit = 0;
            }
        });
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.len -= 1;
        if was_last {
            line.turns.remove(&turn);
        }
        if line.len == 0 {
            self.lines.remove(&key);
        }
    }

    /// Counts a request of a brand that waits elsewhere: to be sealed again, or for the end of another one.
    pub(super) fn hold(&mut self, brand: BrandIndex) {
        self.held += 1;
        self.change(brand, |queue| queue.held += 1);
    }

    /// Such a request does not wait there any more.
    pub(super) fn release(&mut self, brand: BrandIndex) {
        self.held -= 1;
        self.change(brand, |queue| queue.held -= 1);
    }

    /// Changes how much of a brand waits.
    fn change(&mut self, brand: BrandIndex, change: impl FnOnce(&mut BrandQueue)) {
        if self.brands.len() <= brand.0 {
            let unit = self.unit;
            self.brands.resize_with(brand.0 + 1, || BrandQueue::new(unit));
        }
        let Some(queue) = self.brands.get_mut(brand.0) else { return };
        let was_busy = queue.is_busy();
        change(queue);
        match (was_busy, queue.is_busy()) {
            (false, true) => self.busy_weight += queue.weight,
            (true, false) => self.busy_weight -= queue.weight,
            (true, true) | (false, false) => {}
        }
        if !std::mem::replace(&mut queue.is_changed, true) {
            self.changed.push(brand);
        }
    }

    /// A brand of which another number may wait than when it was last returned here.
    pub(super) fn poll_changed(&mut self) -> Option<BrandIndex> {
        let brand = self.changed.pop()?;
        if let Some(queue) = self.brands.get_mut(brand.0) {
            queue.is_changed = false;
        }
        Some(brand)
    }

    /// Which keys no link opens has changed, and with it how many count as waiting.
    pub(super) fn mark_all_changed(&mut self) {
        for (index, queue) in self.brands.iter_mut().enumerate() {
            if !std::mem::replace(&mut queue.is_changed, true) {
                self.changed.push(BrandIndex(index));
            }
        }
    }

    /// The keys that something waits for.
    pub(super) fn keys(&self) -> impl Iterator<Item = KeyId> {
        self.lines.keys().filter_map(|key| *key)
    }

    /// Everything that waits for that key, or that is not sealed, the oldest first.
    pub(super) fn of_key(&self, key: Option<KeyId>) -> Vec<RequestId> {
        let brands = self.lines.get(&key).into_iter().flat_map(|line| &line.turns);
        let queues = brands.filter_map(|(_, brand)| self.brands.get(brand.0)?.by_key.get(&key));
        let mut ids: Vec<RequestId> = queues.flatten().map(|request| request.id).collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests;
