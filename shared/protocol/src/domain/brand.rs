//! A tenant: one brand's shop.

use std::fmt;
use std::sync::Arc;

/// A brand's name: 1 to 32 characters of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Brand(Arc<str>);

/// A text that is no brand's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a brand is 1 to 32 characters of a-z, 0-9 and -")]
pub struct NotABrand;

impl Brand {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, NotABrand> {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if plain && (1..=32).contains(&name.len()) { Ok(Self(name.into())) } else { Err(NotABrand) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Brand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
