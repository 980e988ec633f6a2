//! Tests of the places: each count is a bijection, and no entrant is favoured.

use super::*;
use crate::dice::Dice;

fn places(seed: &[u8; 32], count: u32) -> Vec<u32> {
    let permutation = Permutation::new(seed, count);
    (0..count).map(|number| permutation.place_of(EntrantNumber(number)).0).collect()
}

fn is_bijection(places: &[u32]) -> bool {
    let mut taken = vec![false; places.len()];
    places
        .iter()
        .all(|place| taken.get_mut(*place as usize).is_some_and(|taken| !std::mem::replace(taken, true)))
}

#[test]
fn each_place_is_given_once_for_every_count() {
    let powers = (0..=16).flat_map(|k| [(1 << k) - 1, 1 << k, (1 << k) + 1]);
    let counts = (0..=300).chain(powers).chain([999, 1_000, 65_521, 1_000_003]);
    for count in counts {
        let seed = u64::from(count);
        assert!(is_bijection(&places(&Dice(seed).bytes(), count)), "count {count}, seed {seed}");
    }
    for seed in 0..300 {
        let count = Dice(seed).below(5_000) as u32;
        assert!(is_bijection(&places(&Dice(seed).bytes(), count)), "count {count}, seed {seed}");
    }
}

#[test]
fn both_halves_together_hold_every_number() {
    for count in (1..10_000).chain([1_000_003, ENTRANTS_MAX - 1, ENTRANTS_MAX]) {
        let a = ceil_sqrt(count);
        let b = count.div_ceil(a);
        let all = u64::from(a) * u64::from(b);
        assert!(all >= u64::from(count) && all < u64::from(count) + u64::from(a), "count {count}");
        assert!(u64::from(a).pow(2) >= u64::from(count) && u64::from(a - 1).pow(2) < u64::from(count));
    }
}

#[test]
fn who_comes_after_the_closing_stands_behind_the_drawn() {
    let permutation = Permutation::new(&[1; 32], 100);
    for late in [100, 101, 5_000, u32::MAX] {
        assert_eq!(permutation.place_of(EntrantNumber(late)), PlaceNumber(late));
    }
    let nobody = Permutation::new(&[1; 32], 0);
    assert_eq!(nobody.place_of(EntrantNumber(0)), PlaceNumber(0));
}

/// Returns the chi-square statistic of counts that should be equal, in thousandths.
fn chi_square_thousandths(observed: &[u64]) -> u64 {
    let (cells, all) = (observed.len() as u64, observed.iter().sum::<u64>());
    // sum((o - e)^2) / e with e = all / cells, without fractions.
    let squares: u64 = observed.iter().map(|count| (count * cells).abs_diff(all).pow(2)).sum();
    squares * 1_000 / (cells * all)
}

/// Fails if counts that should be equal differ more than by chance in about one of 10^9 runs.
fn assert_uniform(observed: &[u64], context: &str) {
    // For many degrees of freedom, chi-square is about normal with mean k and variance 2k; six
    // standard deviations, and 36 for the skew with few degrees.
    let k = observed.len() as u64 - 1;
    let limit = (k + 6 * (2 * k).isqrt() + 36) * 1_000;
    let found = chi_square_thousandths(observed);
    assert!(found <= limit, "{context}: chi-square {found} / 1000 with {k} degrees of freedom: {observed:?}");
}

#[test]
fn every_order_of_a_few_entrants_is_equally_likely() {
    for (count, orders) in [(2, 2), (3, 6), (4, 24), (5, 120)] {
        let seed = 17;
        let (mut dice, mut observed) = (Dice(seed), vec![0; orders]);
        for _ in 0..orders * 400 {
            observed[rank(&places(&dice.bytes(), count))] += 1;
        }
        assert_uniform(&observed, &format!("{count} entrants, seed {seed}"));
    }
}

/// Returns the number of an order among all orders.
fn rank(order: &[u32]) -> usize {
    let smaller_behind = |at: usize| order[at..].iter().filter(|other| **other < order[at]).count();
    (0..order.len()).fold(0, |rank, at| rank * (order.len() - at) + smaller_behind(at))
}

#[test]
fn each_entrant_gets_each_part_of_the_queue_equally_often() {
    // 1,000 is just below its 32 * 32 numbers; 1,025 is just above such a square.
    for count in [1_000, 1_025] {
        let seed = 41;
        let mut dice = Dice(seed);
        let watched = [0, 1, count / 2, count - 1];
        let mut observed = vec![vec![0; 20]; watched.len()];
        let mut neighbours = vec![0; 20];
        for _ in 0..1_000 {
            let permutation = Permutation::new(&dice.bytes(), count);
            let part =
                |entrant| u64::from(permutation.place_of(EntrantNumber(entrant)).0) * 20 / u64::from(count);
            for (entrant, observed) in watched.iter().zip(&mut observed) {
                observed[part(*entrant) as usize] += 1;
            }
            // Who entered together gains and loses nothing by it.
            neighbours[((part(0) + 20 - part(1)) % 20) as usize] += 1;
        }
        for (entrant, observed) in watched.iter().zip(&observed) {
            assert_uniform(observed, &format!("entrant {entrant} of {count}, seed {seed}"));
        }
        assert_uniform(&neighbours, &format!("neighbours of {count}, seed {seed}"));
    }
}

#[test]
fn a_skewed_draw_would_be_noticed() {
    let skewed: Vec<u64> = (0..20).map(|part| if part == 0 { 400 } else { 190 }).collect();
    assert!(std::panic::catch_unwind(|| assert_uniform(&skewed, "planted")).is_err());
}
