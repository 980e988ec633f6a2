//! The random choices of a power loss: which changes survive that no fsync covers. They depend on a
//! seed.

use std::fmt::{self, Display};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::record::{Event, Recording};

/// Chances, in percent, that an uncovered change survives: never, rarely, even odds, mostly,
/// always.
const LIKELY: [u8; 5] = [0, 3, 50, 97, 100];

/// A power loss: its moment, and the chances of what is left.
#[derive(Debug)]
pub struct Fate {
    /// The power is lost before this event of the recording.
    pub at: usize,
    /// Chance in percent that a sector survives.
    sectors: u8,
    /// Chance in percent that a name change survives.
    names: u8,
    /// True if all sectors of a file survive or are lost together.
    whole_files: bool,
    dice: StdRng,
}

/// Chance for the sectors of one file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileFate {
    likely: u8,
}

impl Fate {
    /// Draws a power loss for a recording.
    #[must_use]
    pub fn draw(recording: &Recording, seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let (begin, end) = (recording.begin, recording.events.len());
        // Data is most likely to be missing just after its acknowledgement.
        let acknowledged = |event: &usize| matches!(recording.events[*event], Event::Acknowledged { .. });
        let after = (begin..end).filter(acknowledged).map(|event| event + 1).collect::<Vec<_>>();
        let at = match after.choose(&mut dice) {
            Some(after) if dice.random_bool(0.5) => *after,
            _ => dice.random_range(begin..=end),
        };
        let mut draw = || LIKELY[dice.random_range(0..LIKELY.len())];
        let (sectors, names) = (draw(), draw());
        let whole_files = dice.random_bool(0.3);
        Self { at, sectors, names, whole_files, dice }
    }

    /// Makes a power loss that leaves only the durable changes.
    #[must_use]
    pub fn worst(at: usize) -> Self {
        Self { at, sectors: 0, names: 0, whole_files: false, dice: StdRng::seed_from_u64(0) }
    }

    /// Makes a power loss that leaves all changes.
    #[must_use]
    pub fn best(at: usize) -> Self {
        Self { sectors: 100, names: 100, ..Self::worst(at) }
    }

    /// Draws if an uncovered name change survives.
    pub(super) fn keeps_name(&mut self) -> bool {
        self.dice.random_range(0..100) < self.names
    }

    /// Draws how many of `of` uncovered name changes survive, in order.
    pub(super) fn names_in_order(&mut self, of: usize) -> usize {
        match self.names {
            0 => 0,
            100 => of,
            _ => self.dice.random_range(0..=of),
        }
    }

    pub(super) fn file(&mut self) -> FileFate {
        let all = if self.whole_files && self.dice.random_range(0..100) < self.sectors { 100 } else { 0 };
        FileFate { likely: if self.whole_files { all } else { self.sectors } }
    }

    /// Draws the event up to which the changes survive, from `floor` on.
    pub(super) fn until(&mut self, file: FileFate, floor: usize) -> usize {
        if floor >= self.at || self.dice.random_range(0..100) < file.likely {
            return self.at;
        }
        // Sometimes half-way, since the operating system may have written the data between two
        // changes.
        if self.dice.random_ratio(1, 8) && file.likely > 0 {
            self.dice.random_range(floor..=self.at)
        } else {
            floor
        }
    }
}

impl Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, sectors, names, whole_files, .. } = self;
        let unit = if *whole_files { "files" } else { "sectors" };
        write!(
            f,
            "before event {at}; of the changes that no fsync covers, {sectors} % of the {unit} and {names} % of the names survive"
        )
    }
}
