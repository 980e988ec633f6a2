//! Names of launches. A launch is known by its brand and its name.

use std::fmt;
use std::sync::Arc;

use crate::domain::Brand;

/// Name of a launch within its brand: 1 to 32 characters of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaunchName(Arc<str>);

/// The text is no name of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a launch is 1 to 32 characters of a-z, 0-9 and -")]
pub struct NotALaunchName;

impl LaunchName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// Fails unless the name has 1 to 32 characters of `a-z`, `0-9` and `-`.
    pub fn new(name: &str) -> Result<Self, NotALaunchName> {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if plain && (1..=32).contains(&name.len()) { Ok(Self(name.into())) } else { Err(NotALaunchName) }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LaunchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A launch by its brand and name. No two launches share it, not even after one has ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaunchId {
    /// Brand of the launch.
    pub brand: Brand,
    /// Name within the brand.
    pub name: LaunchName,
}

/// Writes `<brand>/<name>`, as it stands in signed and hashed texts. Neither part can have a slash.
impl fmt::Display for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.brand, self.name)
    }
}

#[cfg(test)]
impl LaunchId {
    /// Makes an id for a test.
    pub(super) fn for_test(brand: &str, name: &str) -> Self {
        Self { brand: Brand::new(brand).unwrap(), name: LaunchName::new(name).unwrap() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_s_name_has_one_plain_form() {
        assert!(LaunchName::new("aj1-2026").is_ok() && LaunchName::new(&"x".repeat(32)).is_ok());
        for bad in ["", "AJ1", "a/b", "a b", "a\n", "\u{ac00}", &"x".repeat(33)] {
            assert_eq!(LaunchName::new(bad), Err(NotALaunchName), "{bad:?}");
        }
        assert_eq!(LaunchId::for_test("shoes", "aj1").to_string(), "shoes/aj1");
    }
}
