//! Requests that wait, separately for each brand. Brands take turns by self-clocked fair queueing.
//!
//! Sans-IO. The first request of each brand has a place: the clock's reading when it became the
//! first, plus its cost divided by its brand's weight. The least place goes next, and the clock
//! then reads that place. So each brand with waiting requests gets its share by weight, however
//! many the others have. A brand that is alone gets everything. A brand that comes new waits for at
//! most one request of each brand of the same weight, and for two of a brand of twice the weight.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bridge_protocol::domain::Brand;
use bridge_protocol::order_link::fair_share::FairShare;

/// Places that a request of cost 1 takes from a brand of weight 1. It is a multiple of many
/// weights, so the division loses little.
const PLACES_PER_COST: u64 = 720_720;

/// Weights of brands. A brand without one has 1.
#[derive(Debug, Clone, Default)]
pub struct BrandWeights(Arc<HashMap<Brand, usize>>);

impl FromIterator<(Brand, usize)> for BrandWeights {
    fn from_iter<I: IntoIterator<Item = (Brand, usize)>>(weights: I) -> Self {
        Self(Arc::new(weights.into_iter().collect()))
    }
}

impl BrandWeights {
    pub(super) fn of(&self, brand: &Brand) -> usize {
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
    /// The same brands by the places of their first requests.
    turns: BTreeMap<TurnKey, Brand>,
    /// Number of places given so far, and of those given to requests that were put back.
    given: i64,
    given_back: i64,
    /// Place of the request that went last.
    clock: u64,
    /// Requests of all brands.
    len: usize,
    /// Sum of the weights of the brands with waiting requests.
    busy_weight: usize,
}

/// A place, and a number that is different for each: among equal places the least number goes
/// first. A request that was put back has a negative number.
type TurnKey = (u64, i64);

#[derive(Debug)]
struct BrandLine<T> {
    weight: usize,
    /// Key of its first request in `turns`.
    place: TurnKey,
    /// The clock's reading when its first request became the first.
    start: u64,
    /// Cost of its first requests that were put back: they have been paid for.
    paid: usize,
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
        Self {
            weights,
            lines: HashMap::new(),
            turns: BTreeMap::new(),
            given: 0,
            given_back: 0,
            clock: 0,
            len: 0,
            busy_weight: 0,
        }
    }

    /// Returns the number of requests of all brands.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the requests, one brand after the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.turns.values().filter_map(|brand| self.lines.get(brand)).flat_map(|line| &line.waiting)
    }

    /// Puts a request behind the others of its brand.
    pub(super) fn push(&mut self, request: T) {
        self.line_of(&request).waiting.push_back(request);
        self.len += 1;
    }

    /// Puts a request before the others of its brand, but behind those at their head for which
    /// `goes_first` returns true. If it becomes the first, it takes the turn of the one that was.
    pub(super) fn insert(&mut self, request: T, goes_first: impl Fn(&T) -> bool) {
        let brand = request.brand().clone();
        let BrandLine { waiting, start, place, .. } = self.line_of(&request);
        let at = waiting.iter().position(|other| !goes_first(other)).unwrap_or(waiting.len());
        waiting.insert(at, request);
        let (start, number) = (*start, place.1);
        self.len += 1;
        if at == 0 {
            self.give_place(&brand, start, Some(number));
        }
    }

    /// Puts back a request that was taken. It is the next one again, and costs its brand nothing
    /// more.
    pub(super) fn put_back(&mut self, request: T) {
        let brand = request.brand().clone();
        let line = self.line_of(&request);
        line.paid += request.cost();
        line.waiting.push_front(request);
        self.len += 1;
        self.give_place(&brand, self.clock, None);
    }

    /// Returns the line of a request's brand. If there is none, makes one with the request's place.
    fn line_of(&mut self, request: &T) -> &mut BrandLine<T> {
        let (brand, start) = (request.brand(), self.clock);
        match self.lines.entry(brand.clone()) {
            Entry::Occupied(line) => line.into_mut(),
            Entry::Vacant(line) => {
                let weight = self.weights.of(brand);
                self.busy_weight += weight;
                self.given += 1;
                let place = (place_of(start, request.cost(), weight), self.given);
                self.turns.insert(place, brand.clone());
                line.insert(BrandLine { weight, place, start, paid: 0, waiting: VecDeque::new() })
            }
        }
    }

    /// Gives a brand the place of its first request, as if that had become the first when the clock
    /// read `start`: with this number, or with a new one.
    fn give_place(&mut self, brand: &Brand, start: u64, number: Option<i64>) {
        let Some(line) = self.lines.get(brand) else { return };
        let cost = line.waiting.front().map_or(0, Waiting::cost);
        let (due, new_number) = if cost <= line.paid {
            self.given_back += 1;
            (0, -self.given_back)
        } else {
            self.given += 1;
            (cost, self.given)
        };
        let place = (place_of(start, due, line.weight), number.unwrap_or(new_number));
        let Some(line) = self.lines.get_mut(brand) else { return };
        self.turns.remove(&line.place);
        (line.place, line.start) = (place, start);
        self.turns.insert(place, brand.clone());
    }

    /// Returns the next request.
    pub(super) fn first(&self) -> Option<&T> {
        let (_, brand) = self.turns.first_key_value()?;
        self.lines.get(brand)?.waiting.front()
    }

    /// Takes the next request.
    pub(super) fn pop(&mut self) -> Option<T> {
        // A place lies before the clock if a large request was the first of its brand for a while,
        // and a smaller one took its turn.
        self.clock = self.clock.max(self.turns.first_key_value()?.0.0);
        let (brand, request) = self.take_first()?;
        self.give_place(&brand, self.clock, None);
        Some(request)
    }

    /// Takes the next request without its turn: the one behind it takes the turn, and the brand is
    /// charged nothing.
    pub(super) fn skip(&mut self) -> Option<T> {
        let (brand, request) = self.take_first()?;
        if let Some(BrandLine { start, place: (_, number), .. }) = self.lines.get(&brand) {
            let (start, number) = (*start, *number);
            self.give_place(&brand, start, Some(number));
        }
        Some(request)
    }

    /// Takes the next request, and leaves the place of its brand as it is.
    fn take_first(&mut self) -> Option<(Brand, T)> {
        let brand = self.turns.first_key_value()?.1.clone();
        let line = self.lines.get_mut(&brand)?;
        let request = line.waiting.pop_front()?;
        line.paid = line.paid.saturating_sub(request.cost());
        self.len -= 1;
        if line.waiting.is_empty() {
            self.remove_line(&brand);
        }
        Some((brand, request))
    }

    /// Removes the line of a brand without requests.
    fn remove_line(&mut self, brand: &Brand) {
        let Some(line) = self.lines.remove(brand) else { return };
        self.busy_weight -= line.weight;
        self.turns.remove(&line.place);
    }

    /// Takes all requests, one brand after the other.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let mut drained = Vec::with_capacity(self.len);
        for brand in std::mem::take(&mut self.turns).into_values() {
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
        let busy = self.turns.values().filter_map(|brand| self.lines.get_key_value(brand));
        let furthest =
            share.furthest_above(busy.map(|(brand, line)| (brand, line.weight, line.waiting.len())));
        let Some(furthest) = furthest.cloned() else { return Room::Full };
        self.remove_last_of(&furthest).map_or(Room::Full, Room::Instead)
    }

    /// Removes the newest request of the brand with the most for its weight.
    pub(super) fn remove_newest(&mut self) -> Option<T> {
        let busy = self.turns.values().filter_map(|brand| self.lines.get_key_value(brand));
        let (most, _) = busy.max_by(|(_, one), (_, other)| {
            (one.waiting.len() * other.weight).cmp(&(other.waiting.len() * one.weight))
        })?;
        self.remove_last_of(&most.clone())
    }

    fn remove_last_of(&mut self, brand: &Brand) -> Option<T> {
        let line = self.lines.get_mut(brand)?;
        let last = line.waiting.pop_back()?;
        self.len -= 1;
        if line.waiting.is_empty() {
            self.remove_line(brand);
        }
        Some(last)
    }
}

/// Returns the place of a request that became the first of its brand when the clock read `start`.
fn place_of(start: u64, cost: usize, weight: usize) -> u64 {
    let cost = u64::try_from(cost).unwrap_or(u64::MAX).saturating_mul(PLACES_PER_COST);
    start.saturating_add(cost / u64::try_from(weight).unwrap_or(1).max(1))
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
        assert_eq!(pop(&mut turns, 8), [20, 21, 10, 22, 23, 11, 12, 13]);
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
    fn what_is_skipped_costs_nothing_and_comes_back_in_its_order() {
        let mut turns = turns(&[]);
        push(&mut turns, "a", 1, 10..20);
        push(&mut turns, "b", 1, 20..30);
        let skipped: Vec<Numbered> = (0..4).filter_map(|_| turns.skip()).collect();
        assert_eq!(turns.first().map(|numbered| numbered.number), Some(14));
        assert_eq!(pop(&mut turns, 4), [14, 20, 15, 21], "the turn of the first one");
        for numbered in skipped.into_iter().rev() {
            let number = numbered.number;
            turns.insert(numbered, |other| other.number < number);
        }
        let between = Numbered { brand: brand("a"), number: 12, cost: 1 };
        turns.insert(between, |other| other.number < 12);
        assert_eq!(pop(&mut turns, 8), [10, 22, 11, 23, 12, 24, 12, 25]);
        assert_eq!((pop(&mut turns, 20).len(), turns.len(), turns.busy_weight), (9, 0, 0));
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
    fn a_new_brand_waits_for_one_request_of_each_other_brand() {
        for weight in [1, 1_000] {
            let names: Vec<String> = (0..16).map(|number| format!("flood-{number}")).collect();
            let weights = names.iter().map(|name| (name.as_str(), weight));
            let mut turns = turns(&weights.chain([("quiet", weight)]).collect::<Vec<_>>());
            names.iter().for_each(|name| push(&mut turns, name, 1, 0..200));
            pop(&mut turns, 500);
            push(&mut turns, "quiet", 1, 1_000..1_001);
            assert!(pop(&mut turns, 17).contains(&1_000), "of weight {weight}");
        }
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
