//! Halves of a seed: what a side commits to before the entrants are known, and reveals after that.
//!
//! A commitment is the SHA-256 of a text of lines, each ended by a line feed, so that `sha256sum`
//! checks it:
//!
//! ```text
//! bridge draw commitment v1
//! launch <brand>/<launch>
//! side <name>
//! half <64 hexadecimal digits>
//! ```
//!
//! It has the side's name, so nobody can commit to a half that is somebody else's.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::hex;
use super::launch_id::LaunchId;
use crate::merkle::Hash;

/// Most sides of one draw.
pub const SIDES_MAX: usize = 64;

/// Name of a side: 1 to 100 printable ASCII characters without spaces, such as `idc/seoul`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SideName(String);

impl SideName {
    /// Checks a name. Returns `None` if it is not in the form of one.
    pub fn new(name: &str) -> Option<Self> {
        is_word(name).then(|| Self(name.to_owned()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SideName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or("expected 1 to 100 printable ASCII characters without spaces")
    }
}

impl From<SideName> for String {
    fn from(name: SideName) -> Self {
        name.0
    }
}

impl fmt::Display for SideName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns true for a word that may stand in a hashed line: it cannot end the line or the word.
pub(super) fn is_word(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One side's half of the seed: 32 random bytes, secret until they are revealed. There is no
/// `Debug`.
pub struct SecretHalf(Zeroizing<[u8; 32]>);

impl SecretHalf {
    /// Takes 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(random))
    }

    /// Returns the commitment of a side to this half.
    pub fn commitment(&self, launch: &LaunchId, side: &SideName) -> Hash {
        commitment(&launch.to_string(), side, &self.0)
    }

    /// Returns the bytes. To be called only after the entrants' root is logged on both sides.
    pub fn reveal(&self) -> [u8; 32] {
        *self.0
    }
}

/// Computes the commitment to a half.
pub(super) fn commitment(launch: &str, side: &SideName, half: &[u8; 32]) -> Hash {
    let half = hex::encode(half);
    let text = format!("bridge draw commitment v1\nlaunch {launch}\nside {side}\nhalf {half}\n");
    Sha256::digest(text).into()
}

/// A round of a public randomness beacon that lies after the closing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeaconRound {
    /// Name of the beacon: printable ASCII without spaces. It is announced with the launch.
    pub source: String,
    /// Number of the round. It is announced with the launch.
    pub round: u64,
    /// Randomness of the round.
    #[serde(with = "hex")]
    pub value: [u8; 32],
}
