//! How much of a bounded whole each link may have under way.
//!
//! Pure arithmetic. A link that is alone may have nearly all, so that nothing lies idle for nobody; what is kept is for the
//! next one that comes. With several, none may have more than twice what is left, so that a peer that floods is the one that
//! is refused.

use std::collections::HashMap;

use super::LinkId;

/// One part in so many is kept for a link that has nothing under way yet, and is every link's at least.
const PARTS: usize = 8;

/// A whole, and who has how much of it.
#[derive(Debug)]
pub(super) struct Shares {
    max: usize,
    /// The sum of `links`, at most `max` unless a single thing is larger.
    used: usize,
    /// Those that have something.
    links: HashMap<LinkId, usize>,
}

/// What one link may have of this much if no other has any.
pub(super) const fn alone(max: usize) -> usize {
    max - max / PARTS
}

impl Shares {
    /// Nobody has anything.
    pub(super) fn new(max: usize) -> Self {
        Self { max, used: 0, links: HashMap::new() }
    }

    /// Takes so much for a link, if it may have it.
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

    /// A link is done with so much of what it took.
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
        assert_eq!(taken(&mut shares, A), 0, "it has more than is left for the others");
        assert_eq!(taken(&mut shares, B), 4, "up to twice what is left then");
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
