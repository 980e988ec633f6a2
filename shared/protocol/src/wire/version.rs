//! Protocol versions. Every build speaks a range, and release N speaks with release N-1 (promise
//! P10).

use std::cmp::{max, min};

/// The version that this build prefers. History: 1 (orders, cancellations, questions; the first
/// release).
pub const NEWEST: u32 = 1;

/// The oldest version that this build still speaks: the one before `NEWEST`, after there is one.
pub const OLDEST: u32 = 1;

/// The range of versions that a build speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Lowest version.
    pub oldest: u32,
    /// Highest version.
    pub newest: u32,
}

impl Versions {
    /// The versions of this build.
    pub const OURS: Self = Self { oldest: OLDEST, newest: NEWEST };

    /// Returns the highest version that both sides speak.
    ///
    /// # Errors
    ///
    /// Fails if there is no common version. The error names the side that must upgrade.
    pub fn agree(self, theirs: Self) -> Result<u32, Incompatible> {
        let version = min(self.newest, theirs.newest);
        if version >= max(self.oldest, theirs.oldest) {
            Ok(version)
        } else if self.newest < theirs.oldest {
            Err(Incompatible { who: "this agent", speaks: self.newest, needed: theirs.oldest })
        } else {
            Err(Incompatible { who: "the peer", speaks: theirs.newest, needed: self.oldest })
        }
    }
}

/// Two builds have no common version. The text says which side must upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{who} speaks protocol versions up to {speaks} and version {needed} is needed: upgrade {who}")]
pub struct Incompatible {
    /// The side that must upgrade, as seen from here.
    pub who: &'static str,
    /// Newest version that this side speaks.
    pub speaks: u32,
    /// Oldest version that the other side accepts.
    pub needed: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken() {
        let ours = Versions { oldest: 3, newest: 4 };
        assert_eq!(ours.agree(Versions { oldest: 4, newest: 5 }), Ok(4));
        assert_eq!(ours.agree(Versions { oldest: 2, newest: 3 }), Ok(3));
    }

    #[test]
    fn without_a_common_version_the_older_side_is_told_to_upgrade() {
        let ours = Versions { oldest: 3, newest: 4 };
        assert_eq!(ours.agree(Versions { oldest: 5, newest: 6 }).unwrap_err().who, "this agent");
        assert_eq!(ours.agree(Versions { oldest: 1, newest: 2 }).unwrap_err().who, "the peer");
    }
}
