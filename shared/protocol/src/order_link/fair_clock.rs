//! Turns of brands by start-time fair queueing, without the queues: both agents keep their waiting
//! requests in their own way, and decide here whose turn it is.
//!
//! Sans-IO. Each brand has a time, and the brand with the earliest one goes next. A request moves
//! its brand's time forward by its cost divided by the brand's weight, counted from the clock. The
//! clock reads the time of the brand that went last. So over any time each brand with waiting
//! requests goes by its weight, independently of the other brands. A brand that comes new begins at
//! the clock's reading, so it waits for at most one request of each other brand, however heavy they
//! are. A brand that is alone has every turn.
//!
//! A brand pays after its request went, and saves nothing while it waits. So neither a large
//! request that is removed nor a time without service makes a burst. What a brand has not paid yet
//! stays with it when it has no requests, so it gains nothing by sending them one by one.
//!
//! Start-time fair queueing: P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996.

/// Time that a request of cost 1 takes from a brand of weight 1. Weights are far below it.
const TIME_PER_COST: u64 = 1_000_000;

/// The clock of one queue.
#[derive(Debug, Default)]
pub struct FairClock {
    /// Time of the brand that went last.
    now: u64,
    /// Latest time of any brand.
    latest: u64,
    /// Number of turns given so far, and of those that come before all others of their time.
    turns_given: i64,
    firsts_given: i64,
}

/// Position of a brand. The least goes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    at: u64,
    /// Number of the turn. Among equal times, the brand that got its turn first goes first.
    number: i64,
}

/// A brand's turn, or its next one if it has no requests.
#[derive(Debug, Clone)]
pub struct BrandTurn {
    weight: usize,
    turn: Turn,
    /// Rest of the division by its weight, so that nothing is lost over time.
    rest: u64,
}

impl BrandTurn {
    /// Makes the turn of a brand that has paid for everything. A weight below 1 counts as 1.
    pub fn new(weight: usize) -> Self {
        Self { weight: weight.max(1), turn: Turn::default(), rest: 0 }
    }

    /// Returns the weight of the brand.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Returns its position.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// Returns the time that a request of this cost takes from the brand, in multiples of its
    /// weight.
    fn price(cost: usize) -> u64 {
        u64::try_from(cost).unwrap_or(u64::MAX).saturating_mul(TIME_PER_COST)
    }

    fn divisor(&self) -> u64 {
        u64::try_from(self.weight).unwrap_or(u64::MAX)
    }
}

impl FairClock {
    /// Gives a turn to a brand that gets its first waiting request.
    pub fn begin(&mut self, brand: &mut BrandTurn) {
        let at = self.now.max(brand.turn.at);
        self.give(brand, at);
    }

    /// Takes that a request of this cost went. Gives its brand the next turn.
    pub fn pay(&mut self, brand: &mut BrandTurn, cost: usize) {
        let owed = BrandTurn::price(cost).saturating_add(brand.rest);
        brand.rest = owed % brand.divisor();
        // A brand that could not be served for a while is behind the clock. It goes first once.
        self.now = self.now.max(brand.turn.at);
        let at = self.now.saturating_add(owed / brand.divisor());
        self.latest = self.latest.max(at);
        self.give(brand, at);
    }

    /// Takes that a request of this cost, which went, comes back. Its brand pays nothing for it,
    /// and has the first turn of its time.
    pub fn refund(&mut self, brand: &mut BrandTurn, cost: usize) {
        let price = BrandTurn::price(cost);
        let (mut whole, part) = (price / brand.divisor(), price % brand.divisor());
        if part > brand.rest {
            (whole, brand.rest) = (whole.saturating_add(1), brand.rest + brand.divisor());
        }
        brand.rest -= part;
        self.firsts_given -= 1;
        let at = brand.turn.at.saturating_sub(whole).max(self.now);
        brand.turn = Turn { at, number: self.firsts_given };
    }

    /// Takes that no request waits any more, so nobody owes another brand anything.
    pub fn forget_debts(&mut self) {
        self.now = self.latest;
    }

    /// Returns true if a brand without requests has paid for those that went: it is as good as new.
    pub fn has_paid(&self, turn: Turn) -> bool {
        turn.at <= self.now
    }

    /// Returns the number of turns given so far.
    #[cfg(test)]
    pub(super) fn turns_given(&self) -> u64 {
        self.turns_given.unsigned_abs()
    }

    fn give(&mut self, brand: &mut BrandTurn, at: u64) {
        self.turns_given += 1;
        brand.turn = Turn { at, number: self.turns_given };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn what_comes_back_was_paid_for_exactly() {
        for seed in 0..200 {
            let mut dice = Dice(seed);
            let mut clock = FairClock::default();
            let mut brand = BrandTurn::new(dice.weight());
            clock.begin(&mut brand);
            for _ in 0..100 {
                clock.pay(&mut brand, 1 + dice.usize_below(9));
                let (before, cost) = ((brand.turn.at, brand.rest), 1 + dice.usize_below(9));
                clock.pay(&mut brand, cost);
                clock.refund(&mut brand, cost);
                assert_eq!((brand.turn.at, brand.rest), before, "seed {seed}, weight {}", brand.weight);
            }
        }
    }

    #[test]
    fn a_debt_is_paid_when_the_clock_has_come_to_it() {
        let (mut clock, mut light, mut heavy) = (FairClock::default(), BrandTurn::new(1), BrandTurn::new(2));
        [&mut light, &mut heavy].into_iter().for_each(|brand| clock.begin(brand));
        clock.pay(&mut light, 1);
        for has_paid in [false, false, true] {
            clock.pay(&mut heavy, 1);
            assert_eq!(clock.has_paid(light.turn()), has_paid);
        }
        clock.pay(&mut light, 5);
        clock.forget_debts();
        assert!(clock.has_paid(light.turn()));
    }
}
