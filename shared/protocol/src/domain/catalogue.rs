//! The catalogue's rows by their keys, for both agents.
//!
//! `wire::catalogue` has the content of a row. The IDC agent decides by a list of columns which
//! content may be published. This module knows nothing of how rows travel.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::Brand;

/// Code of a product or a category: 1 to 64 printable ASCII characters without a space at either
/// end.
///
/// `.` and `..` are no codes, because every HTTP client would remove them from a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(Arc<str>);

/// The text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code is 1 to 64 printable ASCII characters without a space at either end, and not . or ..")]
pub struct NotACode;

impl Code {
    /// Checks a text.
    ///
    /// # Errors
    ///
    /// Fails if the text is not in the form of a code.
    pub fn new(text: &str) -> Result<Self, NotACode> {
        let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        let plain = printable && text.trim() == text && !matches!(text, "." | "..");
        if plain && (1..=64).contains(&text.len()) { Ok(Self(text.into())) } else { Err(NotACode) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map be searched by the text of a path, without making a [`Code`] first.
impl Borrow<str> for Code {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Kind of a catalogue row. The number is used on the wire, in the change log and in snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntityKind {
    /// A brand and its currency. Its code is the brand's name.
    Brand = 1,
    /// A category of a brand's tree.
    Category = 2,
    /// A product with its variants and their prices.
    Product = 3,
    /// The units of one SKU. Its code is the SKU.
    Stock = 4,
}

impl EntityKind {
    /// Every kind, in the order of its number: a product comes after its categories, and stock
    /// after its product.
    pub const ALL: [Self; 4] = [Self::Brand, Self::Category, Self::Product, Self::Stock];

    /// Returns the number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Reads a number. Returns `None` for a kind of a later version.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| u32::from(kind.number()) == number)
    }
}

/// Key of a catalogue row. Keys are ordered by kind, brand and code; a bootstrap reads the rows in
/// this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey {
    /// Kind of the row.
    pub kind: EntityKind,
    /// Brand that the row belongs to.
    pub brand: Brand,
    /// Code within the brand and kind.
    pub code: Code,
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, brand, code } = self;
        write!(f, "{kind:?} {brand}/{code}")
    }
}

/// Position of a reader in the change log: its state includes every change up to `seq`.
///
/// `mark` identifies the history of the database: it is the moment at which row `seq` was numbered,
/// by the database's clock. A database that was restored from a backup gives the same numbers
/// again, but at other moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Number of the last change that is included; 0 before the first.
    pub seq: u64,
    /// Moment at which that number was given, in microseconds since 1970-01-01 UTC; 0 before the
    /// first.
    pub mark: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seq.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_printable_and_survives_a_path() {
        assert!(Code::new("BANK CHARGES").is_ok() && Code::new("DV1748-601/270").is_ok());
        for bad in ["", " A", "A ", ".", "..", "\u{ac00}", "a\nb", &"x".repeat(65)] {
            assert_eq!(Code::new(bad), Err(NotACode));
        }
    }

    #[test]
    fn a_kind_is_read_back_from_its_number() {
        for kind in EntityKind::ALL {
            assert_eq!(EntityKind::from_number(u32::from(kind.number())), Some(kind));
        }
        assert_eq!(EntityKind::from_number(0), None);
        assert_eq!(EntityKind::from_number(256 + 1), None);
    }
}
