//! The checked content of a catalogue file: brands, categories and products, and the refused
//! records with reasons.

use std::collections::BTreeMap;

use bridge_protocol::domain::catalogue::Code;
use bridge_protocol::domain::{Brand, Currency, Money, Sku};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

pub use crate::import_file::Refusal;

/// Texts by language.
pub type Texts = BTreeMap<String, String>;

/// Returns the most bytes that a table counts for these texts. A database may write a space after
/// each colon and comma.
pub fn bytes_of(texts: &Texts) -> usize {
    texts.iter().map(|(name, text)| bytes_as_json(name) + bytes_as_json(text) + 4).sum()
}

/// Returns the length of a text as JSON, with its quotes.
pub fn bytes_as_json(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    });
    bytes.sum::<usize>() + 2
}

/// Most digits of a number, written without an exponent. Every database takes this many.
const DIGITS_MAX: usize = 10_000;

/// Returns the length of JSON as a table counts it: as written, or as a database writes it, with a
/// space after each colon and comma and without exponents, whichever is longer. `None` for a number
/// that a database cannot hold.
pub fn stored_bytes(json: &str) -> Option<usize> {
    let (mut bytes, mut rest) = (0, json);
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' => 1 + string_end(rest.get(1..)?)?,
            '-' | '0'..='9' => rest.find([',', '}', ']', ' ', '\n', '\r', '\t']).unwrap_or(rest.len()),
            _ => c.len_utf8(),
        };
        let (token, behind) = rest.split_at_checked(length)?;
        bytes += match c {
            '"' => bytes_as_json(&serde_json::from_str::<String>(token).ok()?),
            '-' | '0'..='9' => digits(token).filter(|digits| *digits <= DIGITS_MAX)?,
            ',' | ':' => 2,
            c if c.is_ascii_whitespace() => 0,
            _ => length,
        };
        rest = behind;
    }
    Some(bytes.max(json.len()))
}

/// Returns the index after the quote that ends a string.
fn string_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.map(|end| end + 1)
}

/// Returns the number of characters of a number without its exponent.
fn digits(number: &str) -> Option<usize> {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else { return Some(number.len()) };
    let exponent: usize = exponent.trim_start_matches(['+', '-']).parse().ok()?;
    number.len().checked_add(exponent).filter(|_| !mantissa.is_empty())
}

/// Most units of one SKU.
pub const QUANTITY_MAX: i64 = 1_000_000_000_000;

/// Most bytes of a document, and of a product's descriptions. The tables have the same limit.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// The content of a file, without refused records.
#[derive(Debug, Default)]
pub struct Records {
    /// The currency of each brand, and the line that named it first.
    pub brands: BTreeMap<Brand, (Currency, u64)>,
    /// Categories by brand and code. A category that is only mentioned has no names.
    pub categories: BTreeMap<(Brand, Code), Category>,
    /// Products, in the order of the file.
    pub products: Vec<Product>,
    /// Mistakes in the file.
    pub refused: Vec<Refusal>,
    /// Records that look wrong and are imported.
    pub warned: Vec<Refusal>,
    /// True if nothing of the file is imported. `refused` then gives the reasons for the whole
    /// file.
    pub refused_whole: bool,
}

/// A category. A field that is `None` stays unchanged in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Category {
    /// Line of the file, from 1. `None` if the category is only mentioned.
    pub line: Option<u64>,
    /// The parent category; `Some(None)` for a root.
    pub parent: Option<Option<Code>>,
    /// Names by language.
    pub names: Option<Texts>,
    /// Position of the category among its siblings.
    pub position: Option<i32>,
}

/// A product. A field that is `None` stays unchanged in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Line of the file, from 1.
    pub line: u64,
    /// Brand of the product.
    pub brand: Brand,
    /// Code of the product.
    pub product: Code,
    /// Names by language.
    pub names: Option<Texts>,
    /// Descriptions by language.
    pub descriptions: Option<Texts>,
    /// Further data of the product.
    pub document: Option<Document>,
    /// Addresses of its images.
    pub images: Option<Vec<String>>,
    /// Categories of the product. They replace those in the database.
    pub categories: Option<Vec<Code>>,
    /// First moment at which it is shown, in microseconds since 1970; `Some(None)` for no limit.
    pub published_from: Option<Option<i64>>,
    /// First moment at which it is no longer shown, in microseconds since 1970; `Some(None)` for no
    /// limit.
    pub published_until: Option<Option<i64>>,
    /// Variants of the product. Other variants in the database stay.
    pub variants: Vec<Variant>,
}

/// A JSON object as the file has it, so that its numbers keep every digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document(pub String);

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// A variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Line of the file, from 1.
    pub line: u64,
    /// SKU of the variant.
    pub sku: Sku,
    /// The options that distinguish it from other variants.
    pub options: Option<Texts>,
    /// Price of one unit.
    pub price: Money,
    /// Units for sale from now on.
    pub quantity: Option<i64>,
    /// Position of the variant in its product.
    pub position: i32,
}

impl Records {
    /// Returns the records of a file that is refused as a whole.
    pub fn none(refused: Vec<Refusal>) -> Self {
        Self { refused, refused_whole: true, ..Self::default() }
    }

    /// Adds a warning.
    pub fn warn(&mut self, line: u64, field: impl Into<String>, reason: impl Into<String>) {
        self.warned.push(Refusal { line, field: field.into(), reason: reason.into() });
    }

    /// Adds a refusal.
    pub fn refuse(&mut self, line: u64, field: impl Into<String>, reason: impl Into<String>) {
        self.refused.push(Refusal { line, field: field.into(), reason: reason.into() });
    }

    /// Notes a brand's currency. If an earlier line named another currency, the method adds a
    /// refusal and returns false.
    pub fn name_brand(&mut self, brand: &Brand, currency: Currency, line: u64, field: &str) -> bool {
        let (first, named_on) = *self.brands.entry(brand.clone()).or_insert((currency, line));
        if first != currency {
            let reason = format!("is {currency}, but line {named_on} says that this brand sells in {first}");
            self.refuse(line, field, reason);
        }
        first == currency
    }

    /// Adds mentioned categories, so that the import creates them if they are missing.
    pub fn mention<'a>(&mut self, brand: &Brand, categories: impl IntoIterator<Item = &'a Code>) {
        for category in categories {
            self.categories.entry((brand.clone(), category.clone())).or_default();
        }
    }
}
