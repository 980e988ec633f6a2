//! The catalogue as both agents name it: which rows there are, each by its key.
//!
//! What a row holds stands in `wire::catalogue`; that it may be published at all is decided in the IDC, by a list of
//! columns. Nothing here knows how rows travel.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::Brand;

/// A product's or category's code: 1 to 64 printable ASCII characters, no space at either end, and neither `.` nor `..`,
/// which every client would take out of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(Arc<str>);

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code is 1 to 64 printable ASCII characters without a space at either end, and not . or ..")]
pub struct NotACode;

impl Code {
    /// Checks a text.
    pub fn new(text: &str) -> Result<Self, NotACode> {
        let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        let plain = printable && text.trim() == text && !matches!(text, "." | "..");
        if plain && (1..=64).contains(&text.len()) { Ok(Self(text.into())) } else { Err(NotACode) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// So that a map is looked up by what a path says, without making a code of it first.
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

/// What kind of row; the number stands on the wire, in the change log and in snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntityKind {
    /// A brand and its currency; its code is its own name.
    Brand = 1,
    /// A category of a brand's tree.
    Category = 2,
    /// A product with its variants and their prices.
    Product = 3,
    /// The units of one SKU; its code is the SKU.
    Stock = 4,
}

impl EntityKind {
    /// Every kind, in the order of its number: a product comes after its categories, stock after its product.
    pub const ALL: [Self; 4] = [Self::Brand, Self::Category, Self::Product, Self::Stock];

    /// The number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Reads a number; `None` for a kind that a later version added.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| u32::from(kind.number()) == number)
    }
}

/// Which row of the catalogue. Keys are ordered by kind, brand and code: a bootstrap reads them in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey {
    /// What it is.
    pub kind: EntityKind,
    /// Whose.
    pub brand: Brand,
    /// Which one.
    pub code: Code,
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, brand, code } = self;
        write!(f, "{kind:?} {brand}/{code}")
    }
}

/// How far a reader of the change log has come: everything up to `seq` is in what it holds.
///
/// `mark` says which history that is: the moment at which the row `seq` was numbered, in microseconds since 1970 by the
/// database's clock. A database that was restored from a backup gives the same numbers again, at other moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The number of the last change that is in; 0 before the first.
    pub seq: u64,
    /// When that number was given; 0 before the first.
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
