//! The draw: a seed for the places that no side can steer, from halves that are committed to before
//! and revealed after the entrants are known.
//!
//! ```text
//! Commitments ── close(entrants) ──> ClosedDraw ── reveal(half) ── finish ──> PublishedDraw
//! ```
//!
//! The order is in the types: nothing can be revealed before the root is known, and no side can
//! commit after that. The shell logs each step before it takes the next one.
//!
//! `halves` and `published_draw` have the texts that are hashed.

use super::entrants::Entrants;
use super::halves::{BeaconRound, SIDES_MAX, SideName, commitment, is_word};
use super::launch_id::LaunchId;
use super::published_draw::{PublishedDraw, PublishedSide};
use crate::merkle::Hash;

/// Reasons why a step of a draw is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrawError {
    /// The side has committed to another half.
    #[error("{0} has already committed to another half")]
    CommittedBefore(SideName),
    /// There are as many sides as a draw can have.
    #[error("a draw has at most {SIDES_MAX} sides")]
    TooManySides,
    /// The side has not committed to a half.
    #[error("{0} has not committed to a half")]
    NotCommitted(SideName),
    /// The half does not fit the side's commitment.
    #[error("the half of {0} does not fit its commitment")]
    WrongHalf(SideName),
    /// No side revealed, so whoever chose the entrants would have chosen the places.
    #[error("no side has revealed its half, so the places cannot be drawn")]
    NothingRevealed,
    /// The beacon's name cannot stand in a line.
    #[error("the name of a beacon is 1 to 100 printable ASCII characters without spaces")]
    BadBeacon,
}

/// A draw while entrants are taken: the sides commit to their halves.
#[derive(Debug, Clone)]
pub struct Commitments {
    launch: LaunchId,
    sides: Vec<(SideName, Hash)>,
}

impl Commitments {
    /// Begins the draw of a launch.
    pub fn new(launch: LaunchId) -> Self {
        Self { launch, sides: Vec::new() }
    }

    /// Notes the commitment of a side, behind those of the others. The same commitment again
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// Fails if the side has committed to another half, or there are [`SIDES_MAX`] sides.
    pub fn commit(&mut self, side: SideName, commitment: Hash) -> Result<(), DrawError> {
        match self.sides.iter().find(|(known, _)| *known == side) {
            Some((_, known)) if *known == commitment => Ok(()),
            Some(_) => Err(DrawError::CommittedBefore(side)),
            None if self.sides.len() >= SIDES_MAX => Err(DrawError::TooManySides),
            None => {
                self.sides.push((side, commitment));
                Ok(())
            }
        }
    }

    /// Closes the list of entrants. From here on, halves may be revealed.
    pub fn close(self, entrants: Entrants) -> ClosedDraw {
        let side = |(name, commitment)| PublishedSide { name, commitment, half: None };
        let sides = self.sides.into_iter().map(side).collect();
        ClosedDraw { launch: self.launch, entrants, sides }
    }
}

/// A draw whose entrants are known: the sides reveal their halves.
#[derive(Debug, Clone)]
pub struct ClosedDraw {
    launch: LaunchId,
    entrants: Entrants,
    sides: Vec<PublishedSide>,
}

impl ClosedDraw {
    /// Returns the entrants at the closing.
    pub fn entrants(&self) -> Entrants {
        self.entrants
    }

    /// Notes the half of a side.
    ///
    /// # Errors
    ///
    /// Fails if the side has not committed to this half.
    pub fn reveal(&mut self, side: &SideName, half: [u8; 32]) -> Result<(), DrawError> {
        let known = self.sides.iter_mut().find(|known| known.name == *side);
        let known = known.ok_or_else(|| DrawError::NotCommitted(side.clone()))?;
        if commitment(&self.launch.to_string(), side, &half) != known.commitment {
            return Err(DrawError::WrongHalf(side.clone()));
        }
        known.half = Some(half);
        Ok(())
    }

    /// Returns the sides that have not revealed their halves, for the log.
    pub fn withheld(&self) -> impl Iterator<Item = &SideName> {
        self.sides.iter().filter(|side| side.half.is_none()).map(|side| &side.name)
    }

    /// Ends the draw: all sides have revealed, or their time is over.
    ///
    /// # Errors
    ///
    /// Fails if no side has revealed, or the beacon's name cannot stand in a line.
    pub fn finish(&self, beacon: Option<BeaconRound>) -> Result<PublishedDraw, DrawError> {
        if self.sides.iter().all(|side| side.half.is_none()) {
            return Err(DrawError::NothingRevealed);
        }
        if beacon.as_ref().is_some_and(|beacon| !is_word(&beacon.source)) {
            return Err(DrawError::BadBeacon);
        }
        Ok(PublishedDraw::of(&self.launch, self.entrants, self.sides.clone(), beacon))
    }
}

#[cfg(test)]
mod tests {
    use super::super::halves::SecretHalf;
    use super::*;

    fn launch() -> LaunchId {
        LaunchId::for_test("shoes", "aj1")
    }

    fn side(name: &str) -> SideName {
        SideName::new(name).unwrap()
    }

    const ENTRANTS: Entrants = Entrants { root: [3; 32], count: 5 };

    fn committed(halves: &[(&str, u8)]) -> Commitments {
        let mut commitments = Commitments::new(launch());
        for (name, byte) in halves {
            let half = SecretHalf::new([*byte; 32]);
            commitments.commit(side(name), half.commitment(&launch(), &side(name))).unwrap();
        }
        commitments
    }

    #[test]
    fn every_part_of_a_draw_decides_the_seed() {
        let drawn = |halves: &[(&str, u8)], entrants, beacon| {
            let mut closed = committed(halves).close(entrants);
            for (name, byte) in halves {
                closed.reveal(&side(name), [*byte; 32]).unwrap();
            }
            assert_eq!(closed.withheld().count(), 0);
            closed.finish(beacon).unwrap().seed
        };
        let beacon = |round| BeaconRound { source: "drand/quicknet".to_owned(), round, value: [9; 32] };
        let two = [("idc/a", 1), ("cloud/b", 2)];
        let seeds = [
            drawn(&two, ENTRANTS, None),
            drawn(&[two[1], two[0]], ENTRANTS, None),
            drawn(&[("idc/a", 1), ("cloud/b", 3)], ENTRANTS, None),
            drawn(&[("idc/a", 1), ("cloud/c", 2)], ENTRANTS, None),
            drawn(&two[..1], ENTRANTS, None),
            drawn(&two, Entrants { count: 6, ..ENTRANTS }, None),
            drawn(&two, Entrants { root: [4; 32], ..ENTRANTS }, None),
            drawn(&two, ENTRANTS, Some(beacon(1))),
            drawn(&two, ENTRANTS, Some(beacon(2))),
        ];
        for (index, seed) in seeds.iter().enumerate() {
            assert!(seeds[..index].iter().all(|other| other != seed), "case {index}");
        }
    }

    #[test]
    fn a_side_that_reveals_nothing_is_named_and_its_commitment_counts() {
        let mut closed = committed(&[("idc/a", 1), ("cloud/b", 2)]).close(ENTRANTS);
        assert_eq!(closed.finish(None), Err(DrawError::NothingRevealed));
        closed.reveal(&side("idc/a"), [1; 32]).unwrap();
        assert_eq!(closed.withheld().map(SideName::as_str).collect::<Vec<_>>(), ["cloud/b"]);
        let without = closed.finish(None).unwrap();
        assert_eq!(without.verify(), Ok(()));
        closed.reveal(&side("cloud/b"), [2; 32]).unwrap();
        assert_ne!(closed.finish(None).unwrap().seed, without.seed);
    }

    #[test]
    fn a_half_that_was_not_committed_to_is_refused() {
        let mut commitments = committed(&[("idc/a", 1), ("cloud/b", 2)]);
        let known = SecretHalf::new([1; 32]).commitment(&launch(), &side("idc/a"));
        assert_eq!(commitments.commit(side("idc/a"), known), Ok(()), "the same again");
        let again = commitments.commit(side("idc/a"), [0; 32]);
        assert_eq!(again, Err(DrawError::CommittedBefore(side("idc/a"))));
        // A side that copies another one's commitment cannot open it.
        commitments.commit(side("cloud/c"), known).unwrap();
        let mut closed = commitments.close(ENTRANTS);
        assert_eq!(closed.reveal(&side("cloud/c"), [1; 32]), Err(DrawError::WrongHalf(side("cloud/c"))));
        assert_eq!(closed.reveal(&side("idc/a"), [2; 32]), Err(DrawError::WrongHalf(side("idc/a"))));
        assert_eq!(closed.reveal(&side("idc/z"), [1; 32]), Err(DrawError::NotCommitted(side("idc/z"))));
        assert_eq!(closed.withheld().count(), 3);
    }

    #[test]
    fn a_name_that_could_forge_a_line_is_refused() {
        for bad in ["", "idc a", "idc/a\nhalf", "\u{ac00}", &"x".repeat(101)] {
            assert_eq!(SideName::new(bad), None, "{bad:?}");
        }
        let mut closed = committed(&[("idc/a", 1)]).close(ENTRANTS);
        closed.reveal(&side("idc/a"), [1; 32]).unwrap();
        let beacon = BeaconRound { source: "a 1 b\nhalf".to_owned(), round: 1, value: [0; 32] };
        assert_eq!(closed.finish(Some(beacon)), Err(DrawError::BadBeacon));
    }

    #[test]
    fn a_draw_has_a_bounded_number_of_sides() {
        let names: Vec<String> = (0..SIDES_MAX).map(|n| format!("cloud/{n}")).collect();
        let halves: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let mut full = committed(&halves);
        assert_eq!(full.commit(side("cloud/more"), [0; 32]), Err(DrawError::TooManySides));
    }
}
