//! Places by a keyed permutation of the entrant numbers: nobody needs a table of places, and
//! anybody can recompute each place from the seed.
//!
//! The permutation `bridge-feistel-v1` of `count` numbers under a seed of 32 bytes:
//!
//! ```text
//! a = ceil(sqrt(count)),  b = ceil(count / a)           so count <= a * b < count + a
//! F(r, x) = first 8 bytes, as a big-endian number, of HMAC-SHA-256 with the seed as key over
//!           `bridge place v1\n` (16 bytes), r (1 byte), count (4 bytes), x (4 bytes), big-endian
//!
//! step(n):  left = n / b (whole part), right = n mod b
//!           for r = 0 to 23:
//!               if r is even:  left  = (left  + F(r, right)) mod a
//!               if r is odd:   right = (right + F(r, left))  mod b
//!           return left * b + right
//! place(n): n = step(n), again and again until n < count
//! ```
//!
//! A step is an alternating Feistel network on pairs from `a` times `b`, so it is a bijection of
//! the `a * b` numbers. Repeating it until the result is in range (cycle walking, Black and Rogaway
//! 2002) makes it one of the `count` numbers. A number goes more than one step with a probability
//! below `a / count`.
//!
//! Each two rounds make what is left of a preference about `b` times smaller. The ten rounds of FF1
//! (NIST SP 800-38G) are enough for thousands of entrants. But among five, they would favour one
//! entrant by a hundredth; 24 rounds leave a ten-thousandth.
//!
//! `F` has only `a + b` different inputs in two rounds, so its values are computed once: a million
//! places cost 24,000 HMACs.

use super::launch_keys::hmac_sha256;
use super::{ENTRANTS_MAX, EntrantNumber, PlaceNumber};

/// Rounds of a step. An even number: each pair of rounds changes both halves.
const ROUNDS: u8 = 24;

/// The places of a launch. Its tables take 96 KB for a million entrants.
#[derive(Debug, Clone)]
pub struct Permutation {
    count: u32,
    /// Size of the left half; at least 1.
    a: u32,
    /// Size of the right half; at least 1.
    b: u32,
    /// For each pair of rounds, the values of the even one by `right`, below `a`, and those of the
    /// odd one by `left`, below `b`.
    rounds: Vec<(Vec<u32>, Vec<u32>)>,
}

impl Permutation {
    /// Makes the permutation of `count` entrant numbers, at most [`ENTRANTS_MAX`].
    pub fn new(seed: &[u8; 32], count: u32) -> Self {
        let count = count.min(ENTRANTS_MAX);
        let a = ceil_sqrt(count).max(1);
        let b = count.div_ceil(a).max(1);
        let table = |round: u8, inputs: u32, modulus: u32| -> Vec<u32> {
            (0..inputs).map(|input| round_value(seed, round, count, input, modulus)).collect()
        };
        let rounds = (0..ROUNDS / 2).map(|pair| (table(2 * pair, b, a), table(2 * pair + 1, a, b))).collect();
        Self { count, a, b, rounds }
    }

    /// Returns the number of entrants that were drawn.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the place of an entrant.
    ///
    /// Who came after the closing stands behind the drawn, in the order of arrival: the place of
    /// such a number is the number.
    pub fn place_of(&self, entrant: EntrantNumber) -> PlaceNumber {
        let mut number = entrant.0;
        if number >= self.count {
            return PlaceNumber(number);
        }
        // Ends: a step is a bijection, so its walk comes back to `entrant`, which is in range.
        loop {
            number = self.step(number);
            if number < self.count {
                return PlaceNumber(number);
            }
        }
    }

    fn step(&self, number: u32) -> u32 {
        let (mut left, mut right) = (number / self.b, number % self.b);
        let value = |table: &[u32], at: u32| table.get(at as usize).copied().unwrap_or(0);
        for (even, odd) in &self.rounds {
            left = sum_below(left, value(even, right), self.a);
            right = sum_below(right, value(odd, left), self.b);
        }
        left * self.b + right
    }
}

/// Returns the sum of two numbers modulo `modulus`; both are below it.
fn sum_below(x: u32, y: u32, modulus: u32) -> u32 {
    let sum = x + y;
    if sum >= modulus { sum - modulus } else { sum }
}

fn ceil_sqrt(number: u32) -> u32 {
    let floor = number.isqrt();
    floor + u32::from(floor * floor < number)
}

/// Computes `F(round, input)` modulo `modulus`. With 64 bits for at most 2^12 values, each value is
/// as likely as the others up to 2^-52.
fn round_value(seed: &[u8; 32], round: u8, count: u32, input: u32, modulus: u32) -> u32 {
    let parts = [b"bridge place v1\n".as_slice(), &[round], &count.to_be_bytes(), &input.to_be_bytes()];
    let mac = hmac_sha256(seed, &parts);
    let first = mac.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    u32::try_from(first % u64::from(modulus)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
