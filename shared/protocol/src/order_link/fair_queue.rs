//! Queue of requests to send. Each brand has its own queue, and brands take turns by
//! [`FairClock`](super::fair_clock::FairClock).
//!
//! A sealed order waits for a link whose agent opens its sealing key. So each brand has a queue for
//! each key, and each key has a line of the brands that wait for it. All lines use the same order
//! of turns. A request that no link takes blocks neither another key of its brand nor another
//! brand, and does not lose its turn.
//!
//! A brand with little in flight may use the reserve in the links' windows, and a brand that has
//! spent its grant on a link may not use that link. So each line has a part for each such
//! [`WindowUse`] that some brand has, and the first of each part is looked at.
//!
//! The search for the next request looks at the heads of these few lines, and never at all brands.
//! A turn costs the same with a thousand brands as with ten, except for the depth of an ordered
//! set.

use std::collections::{BTreeMap, VecDeque};

use super::fair_clock::{BrandTurn, FairClock, Turn};
use super::fair_share::{BrandIndex, FairShare};
use super::kept_map::{Keep, KeptMap};
use super::output::RequestId;
use super::window_use::WindowUse;
use crate::seal::KeyId;

/// Most requests for which an emptied queue keeps its memory.
const KEPT_CAPACITY: usize = 64;

/// A waiting request.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuedRequest {
    pub(super) id: RequestId,
    /// Work that it is for the data centre: at least 1.
    pub(super) cost: usize,
    /// Set if it may leave a full queue for a brand below its share.
    pub(super) may_leave: bool,
}

/// Requests in order, separately for each brand.
#[derive(Debug)]
pub(super) struct FairQueue {
    brands: Vec<BrandQueue>,
    /// Lines by key. `None` is for requests that are not sealed.
    lines: KeptMap<Option<KeyId>, KeyLine>,
    clock: FairClock,
    /// Least weight.
    unit: usize,
    /// Requests in all lines.
    len: usize,
    /// Sum of the weights of the brands with waiting requests.
    busy_weight: usize,
    /// Requests of all brands that count here but are in no line.
    held: usize,
    /// Requests that were let in above the limit and are not settled.
    extras: usize,
    /// Brands whose number of waiting requests changed since it was last read.
    changed: Vec<BrandIndex>,
}

/// Brands that wait for one key.
#[derive(Debug, Default)]
struct KeyLine {
    /// Brands by what they may use.
    parts: KeptMap<WindowUse, LinePart>,
}

type LinePart = BTreeMap<Turn, BrandIndex>;

impl Keep for LinePart {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Keep for KeyLine {
    fn is_empty(&self) -> bool {
        self.parts.iter().next().is_none()
    }
}

impl KeyLine {
    fn part(&mut self, window_use: WindowUse) -> &mut LinePart {
        self.parts.get_mut(window_use)
    }

    /// Returns the first brand of those with a use that `is_served` is true for.
    fn first(&self, is_served: impl Fn(WindowUse) -> bool) -> Option<(Turn, BrandIndex)> {
        let firsts = self.parts.iter().filter_map(|(used, part)| Some((used, part.first_key_value()?)));
        firsts.filter(|(used, _)| is_served(*used)).map(|(_, (turn, brand))| (*turn, *brand)).min()
    }

    fn brands(&self) -> impl Iterator<Item = &BrandIndex> {
        self.parts.iter().flat_map(|(_, part)| part.values())
    }
}

/// Requests of a brand for one key.
type KeyQueue = VecDeque<QueuedRequest>;

impl Keep for KeyQueue {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

#[derive(Debug)]
struct BrandQueue {
    /// Its position in each of its lines.
    turn: BrandTurn,
    window_use: WindowUse,
    by_key: KeptMap<Option<KeyId>, KeyQueue>,
    len: usize,
    /// Number of these that may leave.
    leavable: usize,
    held: usize,
    /// Set if it is in `changed`.
    is_changed: bool,
}

impl BrandQueue {
    fn new(weight: usize) -> Self {
        Self {
            turn: BrandTurn::new(weight),
            window_use: WindowUse::default(),
            by_key: KeptMap::new(),
            len: 0,
            leavable: 0,
            held: 0,
            is_changed: false,
        }
    }

    fn weight(&self) -> usize {
        self.turn.weight()
    }

    fn is_busy(&self) -> bool {
        self.len + self.held > 0
    }

    /// Returns the number of waiting requests, without those for keys that no link opens.
    fn waiting(&self, lost: &[KeyId]) -> usize {
        let of_lost = lost.iter().filter_map(|key| self.by_key.get(Some(*key)));
        self.len + self.held - of_lost.map(KeyQueue::len).sum::<usize>()
    }

    /// Returns the newest request that may leave.
    fn newest_leavable(&self) -> Option<RequestId> {
        let newest = |queue: &KeyQueue| queue.iter().rev().find(|request| request.may_leave).copied();
        self.by_key.iter().filter_map(|(_, queue)| newest(queue)).map(|request| request.id).max()
    }
}

/// Room for one more request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// The limit is not reached.
    Free,
    /// This request of another brand leaves.
    Instead(RequestId),
    /// No request may leave. The brand is below its share, so it is let in above the limit.
    Above,
    /// The queue is full, and the brand has its share of it.
    Full,
}

/// End of its brand's queue at which a request is put.
#[derive(Debug, Clone, Copy)]
pub(super) enum QueueEnd {
    Front,
    Back,
}

impl FairQueue {
    /// Makes an empty queue with a weight for each brand. A brand without a weight has the least of
    /// them.
    pub(super) fn new(weights: &[usize]) -> Self {
        let brands: Vec<_> = weights.iter().map(|weight| BrandQueue::new(*weight)).collect();
        Self {
            unit: brands.iter().map(BrandQueue::weight).min().unwrap_or(1),
            brands,
            lines: KeptMap::new(),
            clock: FairClock::default(),
            len: 0,
            busy_weight: 0,
            held: 0,
            extras: 0,
            changed: Vec::new(),
        }
    }

    /// Returns the number of waiting requests of all brands, without those for keys that no link
    /// opens.
    pub(super) fn waiting(&self, lost: &[KeyId]) -> usize {
        let of_lost = lost.iter().flat_map(|key| self.queues_of(Some(*key)));
        self.len + self.held - of_lost.map(KeyQueue::len).sum::<usize>()
    }

    /// Returns the brands' queues for a key.
    fn queues_of(&self, key: Option<KeyId>) -> impl Iterator<Item = &KeyQueue> {
        let brands = self.lines.get(key).into_iter().flat_map(KeyLine::brands);
        brands.filter_map(move |brand| self.brands.get(brand.0)?.by_key.get(key))
    }

    /// Returns the same number for one brand.
    pub(super) fn waiting_of(&self, brand: BrandIndex, lost: &[KeyId]) -> usize {
        self.brands.get(brand.0).map_or(0, |queue| queue.waiting(lost))
    }

    /// Returns the share of a brand, with one more request of it.
    pub(super) fn share_of(&self, brand: BrandIndex, queue_max: usize) -> FairShare {
        let queue = self.brands.get(brand.0);
        let weight = queue.map_or(self.unit, BrandQueue::weight);
        let comes_new = if queue.is_some_and(BrandQueue::is_busy) { 0 } else { weight };
        FairShare { weight, busy_weight: self.busy_weight + comes_new, queue_max }
    }

    /// Returns the room for one more request of a brand.
    ///
    /// In a full queue, the newest request of the brand furthest above its share leaves for a brand
    /// below its share, but never a brand's last one. If none may leave, the request is let in
    /// above the limit.
    pub(super) fn room_for(&self, brand: BrandIndex, queue_max: usize, lost: &[KeyId]) -> Room {
        if self.waiting(lost) < queue_max {
            return Room::Free;
        }
        let share = self.share_of(brand, queue_max);
        if !share.allows_one_more(self.waiting_of(brand, lost)) {
            return Room::Full;
        }
        let waiting = self.brands.iter().filter(|queue| queue.leavable > 0);
        let waiting = waiting.map(|queue| (queue, queue.weight(), queue.waiting(lost)));
        match share.furthest_above(waiting).and_then(BrandQueue::newest_leavable) {
            Some(leaves) => Room::Instead(leaves),
            None if self.extras < self.extras_max(queue_max) => Room::Above,
            None => Room::Full,
        }
    }

    /// Returns the most requests above the limit: the sum of all brands' shares. A share is a part
    /// of the limit, or one request if that part is smaller.
    fn extras_max(&self, queue_max: usize) -> usize {
        queue_max.saturating_add(self.brands.len())
    }

    /// Counts a request that is let in above the limit.
    pub(super) fn add_extra(&mut self) {
        self.extras += 1;
    }

    /// Stops counting a settled request that was let in above the limit.
    pub(super) fn remove_extra(&mut self) {
        self.extras -= 1;
    }

    /// Takes out the next request that some link takes. Returns it with the link. `link_for` gets
    /// the key, and what the brand may use.
    pub(super) fn take_next<L: Copy>(
        &mut self,
        link_for: impl Fn(Option<KeyId>, WindowUse) -> Option<L>,
    ) -> Option<(RequestId, L)> {
        let lines = self.lines.iter();
        let firsts = lines.filter_map(|(key, line)| line.first(|used| link_for(key, used).is_some()));
        let (_, brand) = firsts.min()?;
        let queue = self.brands.get(brand.0)?;
        let open = |(key, requests): (_, &KeyQueue)| {
            Some((*requests.front()?, key, link_for(key, queue.window_use)?))
        };
        let fronts = queue.by_key.iter().filter_map(open);
        let (front, key, link) = fronts.min_by_key(|(front, ..)| front.id)?;
        let QueuedRequest { id, cost, .. } = front;
        self.remove(brand, key, id);
        self.move_turn(brand, |clock, turn| clock.pay(turn, cost));
        if self.len == 0 {
            self.clock.forget_debts();
        }
        Some((id, link))
    }

    /// Changes the turn of a brand, and moves it in each of its lines.
    fn move_turn(&mut self, brand: BrandIndex, change: impl FnOnce(&mut FairClock, &mut BrandTurn)) {
        let Some(queue) = self.brands.get_mut(brand.0) else { return };
        let before = queue.turn.turn();
        change(&mut self.clock, &mut queue.turn);
        for (key, _) in queue.by_key.iter() {
            let line = self.lines.get_mut(key).part(queue.window_use);
            line.remove(&before);
            line.insert(queue.turn.turn(), brand);
        }
    }

    /// Puts a request into the queue of its brand.
    pub(super) fn push(
        &mut self,
        end: QueueEnd,
        brand: BrandIndex,
        key: Option<KeyId>,
        request: QueuedRequest,
    ) {
        let begins = self.brands.get(brand.0).is_none_or(|queue| queue.len == 0);
        self.len += 1;
        self.change(brand, |queue| {
            queue.len += 1;
            queue.leavable += usize::from(request.may_leave);
            let requests = queue.by_key.get_mut(key);
            match end {
                QueueEnd::Front => requests.push_front(request),
                QueueEnd::Back => requests.push_back(request),
            }
        });
        if begins {
            self.move_turn(brand, FairClock::begin);
        } else if let Some(queue) = self.brands.get(brand.0) {
            self.lines.get_mut(key).part(queue.window_use).insert(queue.turn.turn(), brand);
        }
    }

    /// Takes out a request, if it is in the queue.
    pub(super) fn remove(&mut self, brand: BrandIndex, key: Option<KeyId>, id: RequestId) {
        let Some(queue) = self.brands.get_mut(brand.0) else { return };
        let requests = queue.by_key.get_mut(key);
        // The first request is removed most often, and the last one second most often.
        let at = match requests.back() {
            Some(last) if last.id == id && requests.len() > 1 => Some(requests.len() - 1),
            _ => requests.iter().position(|known| known.id == id),
        };
        let Some(removed) = at.and_then(|at| requests.remove(at)) else { return };
        if requests.is_empty() {
            requests.shrink_to(KEPT_CAPACITY);
            self.lines.get_mut(key).part(queue.window_use).remove(&queue.turn.turn());
        }
        self.len -= 1;
        self.change(brand, |queue| {
            queue.len -= 1;
            queue.leavable -= usize::from(removed.may_leave);
        });
    }

    /// Sets what a brand may use of the links' windows.
    pub(super) fn set_window_use(&mut self, brand: BrandIndex, window_use: WindowUse) {
        let Some(queue) = self.brands.get_mut(brand.0) else { return };
        let before = std::mem::replace(&mut queue.window_use, window_use);
        if before == window_use {
            return;
        }
        for (key, _) in queue.by_key.iter() {
            let line = self.lines.get_mut(key);
            line.part(before).remove(&queue.turn.turn());
            line.part(window_use).insert(queue.turn.turn(), brand);
        }
    }

    /// Counts a request of a brand that waits elsewhere: to be sealed again, or for the end of
    /// another request.
    pub(super) fn hold(&mut self, brand: BrandIndex) {
        self.held += 1;
        self.change(brand, |queue| queue.held += 1);
    }

    /// Stops counting a request that waited elsewhere.
    pub(super) fn release(&mut self, brand: BrandIndex) {
        self.held -= 1;
        self.change(brand, |queue| queue.held -= 1);
    }

    /// Changes a brand's queue, and keeps the state that depends on it.
    fn change(&mut self, brand: BrandIndex, change: impl FnOnce(&mut BrandQueue)) {
        if self.brands.len() <= brand.0 {
            let unit = self.unit;
            self.brands.resize_with(brand.0 + 1, || BrandQueue::new(unit));
        }
        let Some(queue) = self.brands.get_mut(brand.0) else { return };
        let was_busy = queue.is_busy();
        change(queue);
        match (was_busy, queue.is_busy()) {
            (false, true) => self.busy_weight += queue.weight(),
            (true, false) => self.busy_weight -= queue.weight(),
            (true, true) | (false, false) => {}
        }
        if !std::mem::replace(&mut queue.is_changed, true) {
            self.changed.push(brand);
        }
    }

    /// Returns a brand whose number of waiting requests may have changed since it was last
    /// returned.
    pub(super) fn poll_changed(&mut self) -> Option<BrandIndex> {
        let brand = self.changed.pop()?;
        if let Some(queue) = self.brands.get_mut(brand.0) {
            queue.is_changed = false;
        }
        Some(brand)
    }

    /// Marks all brands as changed. The caller found that other keys are now opened by no link, so
    /// other requests count as waiting.
    pub(super) fn mark_all_changed(&mut self) {
        for (index, queue) in self.brands.iter_mut().enumerate() {
            if !std::mem::replace(&mut queue.is_changed, true) {
                self.changed.push(BrandIndex(index));
            }
        }
    }

    /// Returns the keys that requests wait for.
    pub(super) fn keys(&self) -> impl Iterator<Item = KeyId> {
        self.lines.iter().filter_map(|(key, _)| key)
    }

    /// Returns all requests that wait for a key, the oldest first. With `None`, returns those that
    /// are not sealed.
    pub(super) fn of_key(&self, key: Option<KeyId>) -> Vec<RequestId> {
        let mut ids: Vec<RequestId> = self.queues_of(key).flatten().map(|request| request.id).collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests;
