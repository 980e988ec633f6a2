//! A brand: one tenant of Bridge, with a shop of its own.

use std::fmt;
use std::sync::Arc;

/// A brand's name: 1 to 32 characters of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Brand(Arc<str>);

/// The text is no brand name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a brand is 1 to 32 characters of a-z, 0-9 and -")]
pub struct NotABrand;

impl Brand {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// Fails unless the name has 1 to 32 characters of `a-z`, `0-9` and `-`.
    pub fn new(name: &str) -> Result<Self, NotABrand> {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if plain && (1..=32).contains(&name.len()) { Ok(Self(name.into())) } else { Err(NotABrand) }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Brand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
