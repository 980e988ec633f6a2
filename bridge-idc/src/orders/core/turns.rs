//! Requests that wait, separately for each brand. Brands take turns by deficit round robin.
//!
//! Sans-IO. A brand's turn lasts while its credit pays for its next request. When the turn ends,
//! the brand goes to the end, and its credit grows by its weight. So each brand with waiting
//! requests gets its share by weight, however many the others have, and a brand that is alone gets
//! everything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bridge_protocol::domain::Brand;
use bridge_protocol::order_link::fair_share::FairShare;

/// Weights of brands. A brand without one has 1.
#[derive(Debug, Clone, Default)]
pub struct BrandWeights(Arc<HashMap<Brand, usize>>);

impl FromIterator<(Brand, usize)> for BrandWeights {
    fn from_iter<I: IntoIterator<Item = (Brand, usize)>>(weights: I) -> Self {
        Self(Arc::new(weights.into_iter().collect()))
    }
}

impl BrandWeights {
    fn of(&self, brand: &Brand) -> usize {
        self.0.get(brand).copied().unwrap_or(1).max(1)
    }
}

/// A request that waits for its brand's turn.
pub(super) trait Waiting {
    /// Returns its brand.
    fn brand(&self) -> &Brand;

    /// Returns the credit that it takes from its brand: at least 1.
    fn cost(&self) -> usize;
}

/// Requests in order, separately for each brand.
#[derive(Debug)]
pub(super) struct BrandTurns<T> {
    weights: BrandWeights,
    /// Brands with waiting requests; none is empty.
    lines: HashMap<Brand, BrandLine<T>>,
    /// The same brands. The first one has its turn.
    turns: VecDeque<Brand>,
    /// Requests of all brands.
    len: usize,
    /// Sum of the weights of the brands with waiting requests.
    busy_weight: usize,
}

#[derive(Debug)]
struct BrandLine<T> {
    weight: usize,
    credit: usize,
    waiting: VecDeque<T>,
}

/// Room for one more request of a brand.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room<T> {
    Free,
    /// This request of another brand is removed to make room.
    Instead(T),
    /// The queue is full, and the brand has its share of it.
    Full,
}

impl<T: Waiting> BrandTurns<T> {
    /// Creates an empty queue.
    pub(super) fn new(weights: BrandWeights) -> Self {
        Self { weights, lines: HashMap::new(), turns: VecDeque::new(), len: 0, busy_weight: 0 }
    }

    /// Returns the number of requests of all brands.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the requests, one brand after the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.turns.iter().filter_map(|brand| self.lines.get(brand)).flat_map(|line| &line.waiting)
    }

    /// Puts a request behind the others of its brand.
    pub(super) fn push(&mut self, request: T) {
        let weight = self.weights.of(request.brand());
        self.line_of(request.brand(), weight, VecDeque::push_back).waiting.push_back(request);
        self.len += 1;
    }

    /// Puts back a request that was taken. It is its brand's next one again and has been paid for.
    pub(super) fn put_back(&mut self, request: T) {
        let line = self.line_of(request.brand(), 0, VecDeque::push_front);
        line.credit += request.cost();
        line.waiting.push_front(request);
        self.len += 1;
    }

    /// Returns a brand's line. If it has none, it gets one with this credit, and its turn where
    /// `enter` puts it.
    fn line_of(
        &mut self,
        brand: &Brand,
        credit: usize,
        enter: impl FnOnce(&mut VecDeque<Brand>, Brand),
    ) -> &mut BrandLine<T> {
        let weight = self.weights.of(brand);
        if !self.lines.contains_key(brand) {
            enter(&mut self.turns, brand.clone());
            self.busy_weight += weight;
        }
        let new = || BrandLine { weight, credit, waiting: VecDeque::new() };
        self.lines.entry(brand.clone()).or_insert_with(new)
    }

    /// Takes the next request.
    pub(super) fn pop(&mut self) -> Option<T> {
        loop {
            let line = self.lines.get_mut(self.turns.front()?)?;
            let cost = line.waiting.front()?.cost();
            let Some(left) = line.credit.checked_sub(cost) else {
                line.credit += line.weight;
                self.turns.rotate_left(1);
                continue;
            };
            line.credit = left;
            let request = line.waiting.pop_front()?;
            self.len -= 1;
            if line.waiting.is_empty() {
                self.remove_line(request.brand());
            }
            return Some(request);
        }
    }

    /// Removes the line of a brand without requests.
    fn remove_line(&mut self, brand: &Brand) {
        let Some(line) = self.lines.remove(brand) else { return };
        self.busy_weight -= line.weight;
        if let Some(at) = self.turns.iter().position(|known| known == brand) {
            self.turns.remove(at);
        }
    }

    /// Takes all requests, one brand after the other.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let mut drained = Vec::with_capacity(self.len);
        for brand in std::mem::take(&mut self.turns) {
            drained.extend(self.lines.remove(&brand).into_iter().flat_map(|line| line.waiting));
        }
        (self.len, self.busy_weight) = (0, 0);
        drained
    }

    /// Makes room for one more request of a brand among at most this many. If necessary, the newest
    /// request of the brand furthest above its share leaves, but never a brand's only one.
    pub(super) fn make_room(&mut self, brand: &Brand, max: usize) -> Room<T> {
        if self.len < max {
            return Room::Free;
        }
        let (weight, mine) = (self.weights.of(brand), self.lines.get(brand));
        let comes_new = if mine.is_none() { weight } else { 0 };
        let share = FairShare { weight, busy_weight: self.busy_weight + comes_new, queue_max: max };
        if !share.allows_one_more(mine.map_or(0, |line| line.waiting.len())) {
            return Room::Full;
        }
        let above = self.turns.iter().filter_map(|brand| self.lines.get_key_value(brand));
        let above = above.filter(|(_, line)| {
            let share = FairShare { weight: line.weight, ..share };
            line.waiting.len() > 1 && share.is_exceeded_by(line.waiting.len())
        });
        let furthest = above.max_by(|(_, one), (_, other)| {
            let (mine, its) = (one.waiting.len(), other.waiting.len());
            mine.saturating_mul(other.weight).cmp(&its.saturating_mul(one.weight))
        });
        let Some(furthest) = furthest.map(|(brand, _)| brand.clone()) else { return Room::Full };
        let leaves = self.lines.get_mut(&furthest).and_then(|line| line.waiting.pop_back());
        self.len -= usize::from(leaves.is_some());
        leaves.map_or(Room::Full, Room::Instead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Numbered {
        brand: Brand,
        number: usize,
        cost: usize,
    }

    impl Waiting for Numbered {
        fn brand(&self) -> &Brand {
            &self.brand
        }

        fn cost(&self) -> usize {
            self.cost
        }
    }

    fn brand(name: &str) -> Brand {
        Brand::new(name).unwrap()
    }

    fn turns(weights: &[(&str, usize)]) -> BrandTurns<Numbered> {
        BrandTurns::new(weights.iter().map(|(name, weight)| (brand(name), *weight)).collect())
    }

    fn push(turns: &mut BrandTurns<Numbered>, name: &str, cost: usize, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| turns.push(Numbered { brand: brand(name), number, cost }));
    }

    fn pop(turns: &mut BrandTurns<Numbered>, count: usize) -> Vec<usize> {
        (0..count).filter_map(|_| turns.pop()).map(|numbered| numbered.number).collect()
    }

    #[test]
    fn brands_take_turns_and_one_that_is_alone_gets_everything() {
        let mut turns = turns(&[]);
        push(&mut turns, "a", 1, 10..15);
        push(&mut turns, "b", 1, 20..22);
        push(&mut turns, "c", 1, 30..31);
        assert_eq!(pop(&mut turns, 9), [10, 20, 30, 11, 21, 12, 13, 14]);
        assert_eq!((turns.len(), turns.busy_weight, turns.lines.len(), turns.turns.len()), (0, 0, 0, 0));
    }

    #[test]
    fn a_turn_is_as_long_as_its_brand_is_heavy() {
        let mut turns = turns(&[("b", 3)]);
        push(&mut turns, "a", 1, 10..14);
        push(&mut turns, "b", 1, 20..24);
        assert_eq!(pop(&mut turns, 8), [10, 20, 21, 22, 11, 23, 12, 13]);
    }

    #[test]
    fn a_large_request_waits_until_its_brand_has_saved_for_it() {
        let mut turns = turns(&[]);
        push(&mut turns, "a", 3, 10..11);
        push(&mut turns, "b", 1, 20..25);
        assert_eq!(pop(&mut turns, 6), [20, 21, 10, 22, 23, 24]);
    }

    #[test]
    fn what_is_put_back_is_next_and_costs_nothing_more() {
        for others in [0, 3] {
            let mut turns = turns(&[]);
            push(&mut turns, "a", 2, 10..11 + others);
            push(&mut turns, "b", 2, 20..24);
            let first = turns.pop().unwrap();
            turns.put_back(first.clone());
            assert_eq!((turns.pop(), turns.len()), (Some(first), 4 + others));
            assert_eq!(pop(&mut turns, 1), [20]);
        }
    }

    #[test]
    fn a_flood_leaves_room_for_another_brand() {
        let mut turns = turns(&[("c", 2)]);
        push(&mut turns, "a", 1, 10..18);
        assert_eq!(turns.make_room(&brand("a"), 8), Room::Full);
        let mut left = Vec::new();
        for (name, number) in [("b", 20), ("b", 21), ("b", 22), ("b", 23), ("c", 30), ("c", 31), ("c", 32)] {
            match turns.make_room(&brand(name), 8) {
                Room::Instead(leaves) => left.push(leaves.number),
                Room::Full => continue,
                Room::Free => panic!("{left:?}"),
            }
            push(&mut turns, name, 1, number..number + 1);
        }
        // The flood's newest request leaves first. While two brands exceed their shares, the one
        // that exceeds it more loses a request.
        assert_eq!(left, [17, 16, 15, 14, 23, 13, 22]);
        assert_eq!(turns.make_room(&brand("a"), 8), Room::Full, "it has its share");
        assert_eq!(turns.iter().count(), 8);
        assert_eq!(turns.drain().len(), 8);
        assert_eq!((turns.len(), turns.busy_weight), (0, 0));
        assert_eq!(turns.make_room(&brand("a"), 8), Room::Free);
    }

    #[test]
    fn each_brand_gets_its_share_by_weight() {
        let mut turns = turns(&[("b", 2), ("c", 4)]);
        for (name, cost) in [("a", 1), ("b", 3), ("c", 5)] {
            push(&mut turns, name, cost, 0..1_000);
        }
        let mut got = [0; 3];
        for _ in 0..500 {
            let numbered = turns.pop().unwrap();
            let at = ["a", "b", "c"].iter().position(|name| *name == numbered.brand.as_str()).unwrap();
            got[at] += numbered.cost;
        }
        let [a, b, c] = got;
        assert!(b.abs_diff(2 * a) <= 6 && c.abs_diff(4 * a) <= 10, "{got:?}");
    }
}
