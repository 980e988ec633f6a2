//! Protocol versions: every build speaks a range, and N speaks with N-1 (promise P10).

use std::cmp::{max, min};

/// The version this build prefers. History: 1 (orders, cancellations, questions; the first release).
pub const NEWEST: u32 = 1;

/// The oldest version this build still speaks: the one before `NEWEST`, once there is one.
pub const OLDEST: u32 = 1;

/// The range of versions that a build speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Lowest version spoken.
    pub oldest: u32,
    /// Highest version spoken.
    pub newest: u32,
}

impl Versions {
    /// What this build speaks.
    pub const OURS: Self = Self { oldest: OLDEST, newest: NEWEST };

    /// The highest version that both sides speak.
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

/// Two builds without a version in common; its text says who must upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{who} speaks protocol versions up to {speaks} and version {needed} is needed: upgrade {who}")]
pub struct Incompatible {
    /// The side that must upgrade, as seen from here.
    pub who: &'static str,
    /// The newest version which that side speaks.
    pub speaks: u32,
    /// The oldest version that the other side accepts.
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
