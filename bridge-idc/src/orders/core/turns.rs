//! Requests that wait, separately for each brand. Brands take turns by [`FairClock`], as in the
//! queues of the cloud agents.
//!
//! Sans-IO. Each brand with waiting requests gets its share by weight, however many the others
//! have. A brand that is alone gets everything. A brand that comes new waits for at most one
//! request of each other brand, whatever their weights.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bridge_protocol::domain::Brand;
use bridge_protocol::order_link::fair_clock::{BrandTurn, FairClock, Turn};
use bridge_protocol::order_link::fair_share::FairShare;

/// Most brands without waiting requests whose debts are remembered. A cloud agent may send any
/// names, so there may be as many brands as it likes.
const DEBTORS_MAX: usize = 1_024;

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
    /// Brands with waiting requests, and those of `debtors`.
    lines: HashMap<Brand, BrandLine<T>>,
    /// Brands with waiting requests, by their turns.
    turns: BTreeMap<Turn, Brand>,
    /// Brands without waiting requests that have not paid yet for those that went.
    debtors: BTreeMap<Turn, Brand>,
    clock: FairClock,
    /// Requests of all brands.
    len: usize,
    /// Sum of the weights of the brands with waiting requests.
    busy_weight: usize,
}

#[derive(Debug)]
struct BrandLine<T> {
    turn: BrandTurn,
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
            debtors: BTreeMap::new(),
            clock: FairClock::default(),
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
        let brand = request.brand().clone();
        self.put(brand, |waiting| waiting.push_back(request));
    }

    /// Puts requests of one brand, which are in their order, before its others, but behind those at
    /// their head that go first by `goes_first`.
    pub(super) fn merge(&mut self, requests: Vec<T>, goes_first: impl Fn(&T, &T) -> bool) {
        let Some(brand) = requests.first().map(|first| first.brand().clone()) else { return };
        self.put(brand, |waiting| {
            let mut head = Vec::with_capacity(requests.len());
            for request in requests {
                while waiting.front().is_some_and(|other| goes_first(other, &request)) {
                    head.extend(waiting.pop_front());
                }
                head.push(request);
            }
            head.into_iter().rev().for_each(|request| waiting.push_front(request));
        });
    }

    /// Puts back a request that was taken. It is the next one of its brand again, and the brand
    /// does not pay for it.
    pub(super) fn put_back(&mut self, request: T) {
        let (brand, cost) = (request.brand().clone(), request.cost());
        self.put(brand.clone(), |waiting| waiting.push_front(request));
        self.move_turn(&brand, |clock, turn| clock.refund(turn, cost));
    }

    /// Changes the requests of a brand, of which there are more than before.
    fn put(&mut self, brand: Brand, put: impl FnOnce(&mut VecDeque<T>)) {
        let line = self.lines.entry(brand.clone()).or_insert_with_key(|brand| BrandLine {
            turn: BrandTurn::new(self.weights.of(brand)),
            waiting: VecDeque::new(),
        });
        let before = line.waiting.len();
        put(&mut line.waiting);
        self.len += line.waiting.len() - before;
        if before == 0 {
            self.debtors.remove(&line.turn.turn());
            self.clock.begin(&mut line.turn);
            self.turns.insert(line.turn.turn(), brand);
            self.busy_weight += line.turn.weight();
        }
    }

    /// Changes the turn of a brand that has waiting requests.
    fn move_turn(&mut self, brand: &Brand, change: impl FnOnce(&mut FairClock, &mut BrandTurn)) {
        let Some(line) = self.lines.get_mut(brand) else { return };
        let Some(name) = self.turns.remove(&line.turn.turn()) else { return };
        change(&mut self.clock, &mut line.turn);
        self.turns.insert(line.turn.turn(), name);
    }

    /// Returns the next request.
    pub(super) fn first(&self) -> Option<&T> {
        let (_, brand) = self.turns.first_key_value()?;
        self.lines.get(brand)?.waiting.front()
    }

    /// Takes the next request, for which its brand pays.
    pub(super) fn pop(&mut self) -> Option<T> {
        let brand = self.turns.first_key_value()?.1.clone();
        let request = self.lines.get_mut(&brand)?.waiting.pop_front()?;
        self.move_turn(&brand, |clock, turn| clock.pay(turn, request.cost()));
        self.end_taking(&brand);
        Some(request)
    }

    /// Takes the next request without its turn: the one behind it takes the turn, and the brand
    /// does not pay.
    pub(super) fn skip(&mut self) -> Option<T> {
        let brand = self.turns.first_key_value()?.1.clone();
        let request = self.lines.get_mut(&brand)?.waiting.pop_front()?;
        self.end_taking(&brand);
        Some(request)
    }

    /// Takes that a request of a brand is gone from its line.
    fn end_taking(&mut self, brand: &Brand) {
        self.len -= 1;
        if let Some(line) = self.lines.get(brand)
            && line.waiting.is_empty()
            && let Some(name) = self.turns.remove(&line.turn.turn())
        {
            self.busy_weight -= line.turn.weight();
            self.debtors.insert(line.turn.turn(), name);
        }
        if self.len == 0 {
            // Nobody waits, so nobody owes another brand anything.
            self.clock.forget_debts();
        }
        while let Some((turn, _)) = self.debtors.first_key_value()
            && (self.clock.has_paid(*turn) || self.debtors.len() > DEBTORS_MAX)
            && let Some((_, paid)) = self.debtors.pop_first()
        {
            self.lines.remove(&paid);
        }
    }

    /// Takes all requests, one brand after the other.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let mut drained = Vec::with_capacity(self.len);
        for brand in std::mem::take(&mut self.turns).into_values() {
            drained.extend(self.lines.remove(&brand).into_iter().flat_map(|line| line.waiting));
        }
        self.lines.clear();
        self.debtors.clear();
        self.clock.forget_debts();
        (self.len, self.busy_weight) = (0, 0);
        drained
    }

    /// Makes room for one more request of a brand among at most this many. If necessary, the newest
    /// request of the brand furthest above its share leaves, but never a brand's only one.
    pub(super) fn make_room(&mut self, brand: &Brand, max: usize) -> Room<T> {
        if self.len < max {
            return Room::Free;
        }
        let weight = self.weights.of(brand);
        let mine = self.lines.get(brand).map_or(0, |line| line.waiting.len());
        let comes_new = if mine == 0 { weight } else { 0 };
        let share = FairShare { weight, busy_weight: self.busy_weight + comes_new, queue_max: max };
        if !share.allows_one_more(mine) {
            return Room::Full;
        }
        let Some(furthest) = share.furthest_above(self.busy()).cloned() else { return Room::Full };
        self.remove_last_of(&furthest).map_or(Room::Full, Room::Instead)
    }

    /// Removes the newest request of the brand with the most for its weight.
    pub(super) fn remove_newest(&mut self) -> Option<T> {
        let (most, ..) = self
            .busy()
            .max_by(|(_, one, waiting), (_, other, others)| (waiting * other).cmp(&(others * one)))?;
        self.remove_last_of(&most.clone())
    }

    /// Returns the brands with waiting requests, each with its weight and their number.
    fn busy(&self) -> impl Iterator<Item = (&Brand, usize, usize)> {
        let busy = self.turns.values().filter_map(|brand| self.lines.get_key_value(brand));
        busy.map(|(brand, line)| (brand, line.turn.weight(), line.waiting.len()))
    }

    fn remove_last_of(&mut self, brand: &Brand) -> Option<T> {
        let last = self.lines.get_mut(brand)?.waiting.pop_back()?;
        self.end_taking(brand);
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn a_heavy_brand_has_as_many_turns_as_it_weighs() {
        let mut turns = turns(&[("b", 3)]);
        push(&mut turns, "a", 1, 10..14);
        push(&mut turns, "b", 1, 20..24);
        assert_eq!(pop(&mut turns, 8), [10, 20, 21, 22, 11, 23, 12, 13]);
    }

    #[test]
    fn after_a_large_request_its_brand_waits_until_others_had_as_much() {
        let mut turns = turns(&[]);
        push(&mut turns, "a", 3, 10..12);
        push(&mut turns, "b", 1, 20..25);
        assert_eq!(pop(&mut turns, 7), [10, 20, 21, 22, 11, 23, 24]);
    }

    #[test]
    fn a_brand_that_sends_one_by_one_gains_nothing() {
        let mut turns = turns(&[]);
        push(&mut turns, "b", 1, 20..30);
        let mut taken = Vec::new();
        for number in 10..14 {
            push(&mut turns, "a", 3, number..number + 1);
            while taken.last() != Some(&number) {
                taken.extend(pop(&mut turns, 1));
            }
        }
        assert_eq!(taken, [20, 10, 21, 22, 11, 23, 24, 25, 12, 26, 27, 28, 13]);
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
        let goes_first = |one: &Numbered, other: &Numbered| one.number < other.number;
        turns.merge(skipped, goes_first);
        turns.merge(vec![Numbered { brand: brand("a"), number: 12, cost: 1 }], goes_first);
        turns.merge(Vec::new(), goes_first);
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
    fn a_light_brand_beside_heavy_ones_waits_for_one_request_of_each() {
        let mut turns = turns(&[("a", 1_000), ("b", 1_000)]);
        ["a", "b"].into_iter().for_each(|heavy| push(&mut turns, heavy, 1, 0..2_000));
        pop(&mut turns, 500);
        push(&mut turns, "light", 1, 9_000..9_001);
        assert!(pop(&mut turns, 3).contains(&9_000));
    }

    #[test]
    fn invented_brands_take_bounded_memory() {
        let mut turns = turns(&[("heavy", 1_000)]);
        push(&mut turns, "heavy", 1, 0..20_000);
        for number in 0..5_000 {
            push(&mut turns, &format!("invented-{number}"), 9, 30_000..30_001);
            while !pop(&mut turns, 1).contains(&30_000) {}
        }
        assert!(turns.lines.len() <= DEBTORS_MAX + 2, "{} brands", turns.lines.len());
        assert_eq!(turns.lines.len(), turns.turns.len() + turns.debtors.len());
        while turns.pop().is_some() {}
        assert_eq!((turns.lines.len(), turns.debtors.len()), (0, 0));
    }

    proptest! {
        /// At any weights and costs, also if requests are passed over or come back, a brand that
        /// comes new waits for at most one request of each other brand. A failure prints the input
        /// that repeats it.
        #[test]
        fn a_new_brand_waits_for_one_request_of_each_other_brand(
            weights in prop::collection::vec(prop_oneof![Just(1), Just(1_000), 1..=1_000_usize], 1..12),
            new_weight in prop_oneof![Just(1), Just(1_000), 1..=1_000_usize],
            costs in prop::collection::vec(1..=9_usize, 1..20),
            steps in prop::collection::vec(0..20_u8, 0..400),
        ) {
            let names: Vec<String> = (0..weights.len()).map(|number| format!("other-{number}")).collect();
            let weighted = names.iter().map(String::as_str).zip(weights);
            let mut turns = turns(&weighted.chain([("new", new_weight)]).collect::<Vec<_>>());
            let mut costs = costs.iter().cycle().copied();
            for number in 0..500 {
                names.iter().for_each(|name| push(&mut turns, name, costs.next().unwrap(), number..number + 1));
            }
            let mut skipped = Vec::new();
            for step in steps {
                match step {
                    0 => skipped.extend(turns.skip()),
                    1 => skipped.drain(..).for_each(|back| turns.merge(vec![back], |one, other| one.number < other.number)),
                    2 => {
                        let taken = turns.pop();
                        taken.into_iter().for_each(|taken| turns.put_back(taken));
                    }
                    _ => drop(turns.pop()),
                }
            }
            push(&mut turns, "new", 9, 9_000..9_001);
            let waits = std::iter::from_fn(|| turns.pop()).position(|taken| taken.brand.as_str() == "new");
            prop_assert!(waits <= Some(names.len()), "it waits for {waits:?}");
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
