//! A published draw: one JSON object with everything that a stranger needs to recompute each place.
//!
//! `docs/launch.md` describes it, with a script that checks it. The seed is the SHA-256 of a text
//! of lines, each ended by a line feed:
//!
//! ```text
//! bridge draw seed v1
//! launch <brand>/<launch>
//! count <decimal>
//! root <64 hexadecimal digits>
//! half <name> <64 digits>                      a side that revealed its half
//! withheld <name> <its commitment, 64 digits>  a side that did not
//! beacon <source> <round> <64 digits>          only if there is one
//! ```
//!
//! The sides' lines are in the order in which their commitments were logged.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entrants::{EntrantList, Entrants};
use super::halves::{BeaconRound, SIDES_MAX, SideName, commitment, is_word};
use super::launch_id::{LaunchId, LaunchName};
use super::launch_keys::SubjectTag;
use super::permutation::Permutation;
use super::{ENTRANTS_MAX, hex};
use crate::domain::Brand;
use crate::merkle::Hash;

/// Name of the form of a published draw.
pub const FORMAT: &str = "bridge-draw-v1";

/// Name of the permutation.
pub const PERMUTATION: &str = "bridge-feistel-v1";

/// A draw with all halves that were revealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedDraw {
    /// [`FORMAT`].
    pub format: String,
    /// Brand of the launch.
    pub brand: String,
    /// Name of the launch.
    pub launch: String,
    /// Number of entrants at the closing.
    pub count: u32,
    /// RFC 6962 root over the subject tags, in the order of the entrant numbers.
    #[serde(with = "hex")]
    pub root: Hash,
    /// The sides, in the order in which their commitments were logged.
    pub sides: Vec<PublishedSide>,
    /// The beacon's round, if the launch has one.
    pub beacon: Option<BeaconRound>,
    /// The seed that follows from all of these.
    #[serde(with = "hex")]
    pub seed: [u8; 32],
    /// [`PERMUTATION`].
    pub permutation: String,
}

/// A side with its commitment, and its half if it revealed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedSide {
    /// Name of the side.
    pub name: SideName,
    /// Commitment, logged while entrants were taken.
    #[serde(with = "hex")]
    pub commitment: Hash,
    /// The half, or `None` if the side withheld it.
    #[serde(with = "half", default)]
    pub half: Option<[u8; 32]>,
}

/// A false claim of a published draw.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrawFault {
    /// The form or the permutation has another name, a name is not in its form, or there are too
    /// many sides or entrants.
    #[error("the draw is not in the form {FORMAT}")]
    Form,
    /// A half does not fit the commitment.
    #[error("the half of {0} does not fit its commitment")]
    Commitment(SideName),
    /// No side revealed a half.
    #[error("no side revealed its half")]
    NothingRevealed,
    /// The seed does not follow from the rest.
    #[error("the seed does not follow from halves, root and count")]
    Seed,
    /// The entrants are not those of root and count.
    #[error("root and count are not those of these entrants")]
    Entrants,
}

impl PublishedDraw {
    /// Makes the published form, and computes the seed.
    pub(super) fn of(
        launch: &LaunchId,
        entrants: Entrants,
        sides: Vec<PublishedSide>,
        beacon: Option<BeaconRound>,
    ) -> Self {
        let unseeded = Self {
            format: FORMAT.to_owned(),
            brand: launch.brand.as_str().to_owned(),
            launch: launch.name.as_str().to_owned(),
            count: entrants.count,
            root: entrants.root,
            sides,
            beacon,
            seed: [0; 32],
            permutation: PERMUTATION.to_owned(),
        };
        Self { seed: unseeded.computed_seed(), ..unseeded }
    }

    /// Checks the form, the commitments and the seed.
    ///
    /// # Errors
    ///
    /// Returns the first false claim.
    pub fn verify(&self) -> Result<(), DrawFault> {
        let names = Brand::new(&self.brand).is_ok() && LaunchName::new(&self.launch).is_ok();
        let named = self.format == FORMAT && self.permutation == PERMUTATION && names;
        let bounded = self.sides.len() <= SIDES_MAX && self.count <= ENTRANTS_MAX;
        let beacon = self.beacon.as_ref().is_none_or(|beacon| is_word(&beacon.source));
        if !(named && bounded && beacon) {
            return Err(DrawFault::Form);
        }
        let launch = self.launch_text();
        for side in &self.sides {
            if side.half.is_some_and(|half| commitment(&launch, &side.name, &half) != side.commitment) {
                return Err(DrawFault::Commitment(side.name.clone()));
            }
        }
        if self.sides.iter().all(|side| side.half.is_none()) {
            return Err(DrawFault::NothingRevealed);
        }
        if self.computed_seed() == self.seed { Ok(()) } else { Err(DrawFault::Seed) }
    }

    /// Checks that these are the entrants, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// Fails if root or count is another one.
    pub fn verify_entrants(&self, subjects: impl Iterator<Item = SubjectTag>) -> Result<(), DrawFault> {
        let mut list = EntrantList::default();
        // One more than there should be is enough to notice a longer list.
        subjects.take(self.count as usize + 1).for_each(|subject| list.push(subject));
        let expected = Entrants { root: self.root, count: self.count };
        if list.close() == Some(expected) { Ok(()) } else { Err(DrawFault::Entrants) }
    }

    /// Returns the permutation that gives the places.
    pub fn permutation(&self) -> Permutation {
        Permutation::new(&self.seed, self.count)
    }

    fn launch_text(&self) -> String {
        format!("{}/{}", self.brand, self.launch)
    }

    fn computed_seed(&self) -> [u8; 32] {
        let (launch, root) = (self.launch_text(), hex::encode(&self.root));
        let mut text = format!("bridge draw seed v1\nlaunch {launch}\ncount {}\nroot {root}\n", self.count);
        for side in &self.sides {
            text += &match side.half {
                Some(half) => format!("half {} {}\n", side.name, hex::encode(&half)),
                None => format!("withheld {} {}\n", side.name, hex::encode(&side.commitment)),
            };
        }
        if let Some(BeaconRound { source, round, value }) = &self.beacon {
            text += &format!("beacon {source} {round} {}\n", hex::encode(value));
        }
        Sha256::digest(text).into()
    }
}

/// JSON form of a half that may be missing.
mod half {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::hex;

    #[derive(Serialize, Deserialize)]
    struct Digits(#[serde(with = "hex")] [u8; 32]);

    pub(super) fn serialize<S: Serializer>(half: &Option<[u8; 32]>, to: S) -> Result<S::Ok, S::Error> {
        half.map(Digits).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<[u8; 32]>, D::Error> {
        Ok(Option::<Digits>::deserialize(from)?.map(|digits| digits.0))
    }
}

#[cfg(test)]
mod tests;
