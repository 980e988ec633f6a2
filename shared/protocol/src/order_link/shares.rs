//! Shares of a bounded resource: the part of it that each link may use.
//!
//! This is pure arithmetic. A link that is alone may use nearly everything, and the rest is kept
//! for the next link that comes. If there are several, none may use more than twice the free rest.
//! So a peer that floods is the one that is refused.

use std::collections::HashMap;

use super::LinkId;

/// Divisor of the part that is kept for a link that uses nothing yet. Every link may use at least
/// this part.
const PARTS: usize = 8;

/// A resource, and the part that each link uses.
#[derive(Debug)]
pub(super) struct Shares {
    max: usize,
    /// Sum of `links`; at most `max`, unless a single amount is larger.
    used: usize,
    /// Links that use some of it.
    links: HashMap<LinkId, usize>,
}

/// Returns the part of this maximum that one link may use while no other uses any.
pub(super) const fn alone(max: usize) -> usize {
    max - max / PARTS
}

impl Shares {
    /// Makes a resource that nobody uses.
    pub(super) fn new(max: usize) -> Self {
        Self { max, used: 0, links: HashMap::new() }
    }

    /// Takes an amount for a link. Returns false if the link may not have it.
    pub(super) fn take(&mut self, link: LinkId, amount: usize) -> bool {
        let mine = self.links.get(&link).copied().unwrap_or(0);
        let free = self.max.saturating_sub(self.used);
        let may = if mine == self.used {
            self.used == 0 || self.used + amount <= alone(self.max)
        } else {
            amount <= free && mine + amount <= (2 * free).max(self.max / PARTS)
        };
        if may && amount > 0 {
            self.used += amount;
            self.links.insert(link, mine + amount);
        }
        may
    }

    /// Returns an amount that a link took.
    pub(super) fn give_back(&mut self, link: LinkId, amount: usize) {
        self.used = self.used.saturating_sub(amount);
        if let Some(mine) = self.links.get_mut(&link) {
            *mine = mine.saturating_sub(amount);
            if *mine == 0 {
                self.links.remove(&link);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LinkId = LinkId(1);
    const B: LinkId = LinkId(2);

    fn taken(shares: &mut Shares, link: LinkId) -> usize {
        (0..1_000).take_while(|_| shares.take(link, 1)).count()
    }

    #[test]
    fn one_link_may_have_nearly_all_and_the_next_finds_room() {
        let mut shares = Shares::new(80);
        assert_eq!(taken(&mut shares, A), alone(80));
        assert_eq!(taken(&mut shares, B), 10);
        shares.give_back(A, 10);
        assert_eq!(taken(&mut shares, A), 0, "a link with far more than the rest takes nothing");
        assert_eq!(taken(&mut shares, B), 4, "a link takes until it has twice what is left");
        shares.give_back(A, 60);
        assert_eq!(taken(&mut shares, A), 44);
        assert!(shares.take(B, 1));
    }

    #[test]
    fn links_without_end_leave_something_for_one_that_is_modest() {
        let mut shares = Shares::new(8_192);
        for link in 10..42 {
            taken(&mut shares, LinkId(link));
        }
        shares.give_back(LinkId(10), 100);
        assert!(shares.take(A, 1));
        assert!(!shares.take(LinkId(11), 1_000));
    }

    #[test]
    fn the_smallest_whole_holds_one_thing_however_large() {
        let mut shares = Shares::new(1);
        assert!(shares.take(A, 5) && !shares.take(A, 1) && !shares.take(B, 1));
        shares.give_back(A, 5);
        assert!(shares.take(B, 1) && shares.links.len() == 1);
    }
}
