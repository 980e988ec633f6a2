//! Tests of brands that take turns, with fixed and with random arrivals.

use std::collections::HashMap;

use super::*;
use crate::dice::Dice;

const NO_KEY: Option<KeyId> = None;
const NEW: Option<KeyId> = Some(KeyId([1; 8]));
const OLD: Option<KeyId> = Some(KeyId([2; 8]));

/// Highest cost of a request in these tests.
const COST_MAX: usize = 9;

fn push(queue: &mut FairQueue, brand: usize, key: Option<KeyId>, id: u64, cost: usize) {
    let request = QueuedRequest { id: RequestId(id), cost, may_leave: true };
    queue.push(QueueEnd::Back, BrandIndex(brand), key, request);
}

/// Takes the next request, if links open only these keys.
fn take(queue: &mut FairQueue, keys: &[Option<KeyId>]) -> Option<u64> {
    queue.take_next(|key, _used| keys.contains(&key).then_some(())).map(|(id, ())| id.0)
}

fn take_all(queue: &mut FairQueue, keys: &[Option<KeyId>]) -> Vec<u64> {
    std::iter::from_fn(|| take(queue, keys)).collect()
}

#[test]
fn brands_take_turns_and_one_that_is_alone_sends_everything() {
    let mut queue = FairQueue::new(&[1, 1, 1]);
    for id in 10..15 {
        push(&mut queue, 0, NO_KEY, id, 1);
    }
    for id in [20, 21] {
        push(&mut queue, 1, NO_KEY, id, 1);
    }
    push(&mut queue, 2, NO_KEY, 30, 1);
    assert_eq!(take_all(&mut queue, &[NO_KEY]), [10, 20, 30, 11, 21, 12, 13, 14]);
}

#[test]
fn a_turn_is_as_long_as_its_brand_is_heavy() {
    // Only the ratio of weights counts: the lightest brand's turn is always one small request.
    for weights in [[1, 3], [200, 600]] {
        let mut queue = FairQueue::new(&weights);
        for id in 0..4 {
            push(&mut queue, 0, NO_KEY, 10 + id, 1);
            push(&mut queue, 1, NO_KEY, 20 + id, 1);
        }
        assert_eq!(take_all(&mut queue, &[NO_KEY]), [10, 20, 21, 22, 11, 23, 12, 13]);
    }
}

#[test]
fn after_a_large_request_its_brand_waits_until_others_sent_as_much() {
    let mut queue = FairQueue::new(&[1, 1]);
    push(&mut queue, 0, NO_KEY, 10, 3);
    push(&mut queue, 0, NO_KEY, 11, 1);
    for id in 20..25 {
        push(&mut queue, 1, NO_KEY, id, 1);
    }
    assert_eq!(take_all(&mut queue, &[NO_KEY]), [10, 20, 21, 22, 11, 23, 24]);
}

#[test]
fn a_key_without_a_link_holds_up_neither_key_nor_brand() {
    let mut queue = FairQueue::new(&[1, 1]);
    push(&mut queue, 0, NEW, 1, 1);
    push(&mut queue, 0, OLD, 2, 1);
    push(&mut queue, 1, NEW, 3, 1);
    push(&mut queue, 1, OLD, 4, 1);
    assert_eq!(take_all(&mut queue, &[OLD]), [2, 4]);
    assert_eq!(take_all(&mut queue, &[NEW]), [1, 3]);
}

#[test]
fn a_brand_with_two_keys_takes_no_more_turns_than_others() {
    let mut queue = FairQueue::new(&[1, 1]);
    for id in 0..4 {
        push(&mut queue, 0, if id % 2 == 0 { NEW } else { NO_KEY }, 10 + id, 1);
        push(&mut queue, 1, NEW, 20 + id, 1);
    }
    assert_eq!(take_all(&mut queue, &[NEW, NO_KEY]), [10, 20, 11, 21, 12, 22, 13, 23]);
}

#[test]
fn what_comes_back_is_the_first_of_its_brand() {
    let mut queue = FairQueue::new(&[1, 1]);
    for id in [2, 3] {
        push(&mut queue, 0, NO_KEY, id, 1);
    }
    let back = QueuedRequest { id: RequestId(1), cost: 1, may_leave: false };
    queue.push(QueueEnd::Front, BrandIndex(0), NO_KEY, back);
    assert_eq!(take_all(&mut queue, &[NO_KEY]), [1, 2, 3]);
}

#[test]
fn an_emptied_queue_keeps_little_memory() {
    let mut queue = FairQueue::new(&[1]);
    (0..10_000).for_each(|id| push(&mut queue, 0, NEW, id, 1));
    take_all(&mut queue, &[NEW]);
    push(&mut queue, 0, NO_KEY, 10_000, 1);
    let kept = queue.brands[0].by_key.get_mut(NO_KEY).capacity();
    assert!((1..=2 * KEPT_CAPACITY).contains(&kept), "memory for {kept} requests");
}

#[test]
fn the_brand_furthest_above_its_share_gives_up_its_newest() {
    let mut queue = FairQueue::new(&[1, 2, 1, 1]);
    let leaves = |queue: &FairQueue, brand| match queue.room_for(BrandIndex(brand), 8, &[]) {
        Room::Instead(id) => Some(id.0),
        Room::Full => None,
        room => panic!("{room:?}"),
    };
    // By weight, the first brand is furthest above its share: 3 of 1 against 5 of 2.
    for id in 10..13 {
        push(&mut queue, 0, NO_KEY, id, 1);
    }
    for id in 20..25 {
        push(&mut queue, 1, NO_KEY, id, 1);
    }
    assert_eq!(leaves(&queue, 2), Some(12));
    assert_eq!((leaves(&queue, 0), leaves(&queue, 1)), (None, None), "they have their shares");
    queue.remove(BrandIndex(0), NO_KEY, RequestId(12));
    push(&mut queue, 2, NO_KEY, 30, 1);
    assert_eq!(leaves(&queue, 3), Some(24), "now the second one is: 5 of 2 against 2 of 1");
    // A brand's only request never leaves, even if it is more than its share. Another brand's is
    // let in above the limit.
    let mut crowd = FairQueue::new(&[1; 9]);
    (0..8).for_each(|brand| push(&mut crowd, brand, NO_KEY, 100 + brand as u64, 1));
    assert_eq!(crowd.room_for(BrandIndex(8), 8, &[]), Room::Above);
}

#[test]
fn what_may_not_leave_stays_and_an_older_request_leaves() {
    let mut queue = FairQueue::new(&[1, 1]);
    push(&mut queue, 0, NO_KEY, 1, 1);
    for id in [2, 3] {
        let doubtful = QueuedRequest { id: RequestId(id), cost: 1, may_leave: false };
        queue.push(QueueEnd::Back, BrandIndex(0), NO_KEY, doubtful);
    }
    assert_eq!(queue.room_for(BrandIndex(1), 3, &[]), Room::Instead(RequestId(1)));
    queue.remove(BrandIndex(0), NO_KEY, RequestId(1));
    assert_eq!(queue.room_for(BrandIndex(1), 2, &[]), Room::Above);
    assert_eq!(queue.room_for(BrandIndex(0), 2, &[]), Room::Full);
}

#[test]
fn nothing_is_saved_for_a_large_request_that_left() {
    for taken_before in 0..9 {
        let mut queue = FairQueue::new(&[1, 1]);
        push(&mut queue, 0, NO_KEY, 1, 1);
        push(&mut queue, 0, NO_KEY, 2, COST_MAX);
        for id in 10..30 {
            push(&mut queue, 0, NO_KEY, id, 1);
            push(&mut queue, 1, NO_KEY, 100 + id, 1);
        }
        (0..taken_before).for_each(|_| assert!(take(&mut queue, &[NO_KEY]).is_some()));
        queue.remove(BrandIndex(0), NO_KEY, RequestId(2));
        let next: Vec<u64> = std::iter::from_fn(|| take(&mut queue, &[NO_KEY])).take(10).collect();
        let of_first = next.iter().filter(|id| **id < 100).count();
        assert!(of_first <= 5, "after {taken_before}: {next:?}");
    }
}

#[test]
fn a_new_brand_waits_for_one_request_of_each_other_brand() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let weights: Vec<usize> = (0..2 + dice.usize_below(7)).map(|_| dice.weight()).collect();
        let mut queue = FairQueue::new(&weights);
        let (new, others) = (weights.len() - 1, weights.len() - 1);
        for id in 0..others as u64 * 1_000 {
            push(&mut queue, id as usize % others, NO_KEY, id, 1 + dice.usize_below(COST_MAX));
        }
        for _ in 0..dice.usize_below(others * 500) {
            take(&mut queue, &[NO_KEY]);
        }
        push(&mut queue, new, NO_KEY, u64::MAX, COST_MAX);
        let waits = std::iter::from_fn(|| take(&mut queue, &[NO_KEY])).position(|id| id == u64::MAX);
        assert!(waits <= Some(others), "seed {seed}, weights {weights:?}: it waits for {waits:?}");
    }
}

#[test]
fn brands_that_are_always_busy_share_exactly_by_weight() {
    for seed in 0..50 {
        let mut dice = Dice(seed);
        let weights: Vec<usize> = (0..2 + dice.usize_below(4)).map(|_| dice.weight()).collect();
        let mut queue = FairQueue::new(&weights);
        let (mut sent, mut of) = (vec![0; weights.len()], HashMap::new());
        let mut more = |queue: &mut FairQueue, of: &mut HashMap<u64, (usize, usize)>, brand| {
            let (id, cost) = (of.len() as u64, 1 + dice.usize_below(COST_MAX));
            of.insert(id, (brand, cost));
            push(queue, brand, NO_KEY, id, cost);
        };
        for brand in 0..weights.len() {
            (0..2).for_each(|_| more(&mut queue, &mut of, brand));
        }
        for step in 0..20_000 {
            let (brand, cost) = of[&take(&mut queue, &[NO_KEY]).unwrap()];
            more(&mut queue, &mut of, brand);
            sent[brand] += cost;
            let (least, most) = (0..weights.len()).fold((brand, brand), |(least, most), one| {
                let is_below = |a: usize, b: usize| sent[a] * weights[b] < sent[b] * weights[a];
                (if is_below(one, least) { one } else { least }, if is_below(most, one) { one } else { most })
            });
            // Each has sent its weight times the same amount, except for its largest request. The
            // clock's ticks are exact to one in a million.
            let apart = sent[most] * weights[least] - sent[least] * weights[most];
            assert!(
                apart <= COST_MAX * (weights[least] + weights[most]) + 2,
                "seed {seed}, step {step}, weights {weights:?}: {sent:?}"
            );
        }
    }
}

/// Requests that went in and came out of one brand.
#[derive(Default)]
struct Brand {
    /// Requests that have not come out, as id and cost, in order for each key.
    inside: BTreeMap<Option<KeyId>, VecDeque<(u64, usize)>>,
    /// Cost that it sent since it last had no waiting request.
    sent: usize,
    /// Cost that all brands sent in that time.
    of_all: usize,
}

impl Brand {
    fn is_busy(&self) -> bool {
        self.inside.values().any(|ids| !ids.is_empty())
    }
}

/// Returns the most that a brand may be behind its share over any time. This is one largest request
/// that it has not paid yet, and one of each other brand.
fn may_lack(weights: &[usize], brand: usize) -> usize {
    let all = weights.iter().sum::<usize>();
    let (mine, others) = (weights[brand], all - weights[brand]);
    (others * COST_MAX + (weights.len() - 1) * COST_MAX * mine).div_ceil(all)
}

#[test]
fn each_busy_brand_sends_its_share_in_order_and_nothing_is_lost() {
    for seed in 0..100 {
        let mut dice = Dice(seed);
        let weights: Vec<usize> = (0..2 + dice.usize_below(6)).map(|_| 1 + dice.usize_below(12)).collect();
        let mut queue = FairQueue::new(&weights);
        let mut brands: Vec<Brand> = weights.iter().map(|_| Brand::default()).collect();
        let (mut id, mut inside) = (0, 0);
        let heavy = dice.usize_below(weights.len());
        for step in 0..2_000 {
            for _arrivals in 0..dice.usize_below(4) {
                let brand = if dice.usize_below(2) == 0 { heavy } else { dice.usize_below(weights.len()) };
                let (key, cost) = ([NO_KEY, NEW, OLD][dice.usize_below(3)], 1 + dice.usize_below(COST_MAX));
                id += 1;
                push(&mut queue, brand, key, id, cost);
                brands[brand].inside.entry(key).or_default().push_back((id, cost));
                inside += 1;
            }
            let Some(taken) = take(&mut queue, &[NO_KEY, NEW, OLD]) else { continue };
            inside -= 1;
            let fronts = |brand: &Brand| brand.inside.values().filter_map(|ids| ids.front().copied()).min();
            let of = brands.iter().position(|brand| fronts(brand).is_some_and(|(front, _)| front == taken));
            let of =
                of.unwrap_or_else(|| panic!("seed {seed}, step {step}: {taken} is not its brand's oldest"));
            let mut queues = brands[of].inside.values_mut();
            let ids = queues.find(|ids| ids.front().is_some_and(|(front, _)| *front == taken)).unwrap();
            let (_, cost) = ids.pop_front().unwrap();
            brands[of].sent += cost;
            let mut busy = Vec::new();
            for (index, brand) in brands.iter_mut().enumerate() {
                if brand.is_busy() {
                    brand.of_all += cost;
                    busy.push(index);
                } else {
                    (brand.sent, brand.of_all) = (0, 0);
                }
            }
            for index in busy {
                let (brand, all) = (&brands[index], weights.iter().sum::<usize>());
                let share = brand.of_all * weights[index] / all;
                assert!(
                    brand.sent + may_lack(&weights, index) >= share,
                    "seed {seed}, step {step}, weights {weights:?}: brand {index} sent {} of {}, its share is {share}",
                    brand.sent,
                    brand.of_all
                );
            }
            assert_eq!(queue.waiting(&[]), inside, "seed {seed}, step {step}");
        }
        assert_eq!(take_all(&mut queue, &[NO_KEY, NEW, OLD]).len(), inside, "seed {seed}");
        assert!(
            queue.lines.iter().count() + queue.len + queue.busy_weight == 0,
            "seed {seed}: something is left"
        );
    }
}

#[test]
fn a_thousand_brands_cost_no_more_turns_a_request_than_two() {
    for brands in [2, 1_000] {
        let mut queue = FairQueue::new(&vec![1; brands]);
        let (mut cost, mut dice) = (0, Dice(1));
        for id in 0..10_000 {
            let of_one = 1 + dice.usize_below(COST_MAX);
            cost += of_one as u64;
            // All brands except one wait for a key that no link opens.
            let brand = dice.usize_below(brands);
            push(&mut queue, brand, if brand == 0 { NEW } else { OLD }, id, of_one);
        }
        let before = queue.clock.turns_given();
        let sent = take_all(&mut queue, &[NEW]).len() + take_all(&mut queue, &[NEW, OLD]).len();
        assert_eq!(sent, 10_000);
        assert!(
            queue.clock.turns_given() - before <= cost,
            "{brands} brands: {} turns for {cost}",
            queue.clock.turns_given() - before
        );
    }
}
