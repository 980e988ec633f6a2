//! What a catalogue file says, checked: brands, categories and products, and what was refused of it and why.

use std::collections::BTreeMap;

use bridge_protocol::domain::catalogue::Code;
use bridge_protocol::domain::{Brand, Currency, Money, Sku};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

pub use crate::import_file::Refusal;

/// Texts by language.
pub type Texts = BTreeMap<String, String>;

/// Bytes that a table counts for texts, at most: a database may write a space after each colon and comma.
pub fn bytes_of(texts: &Texts) -> usize {
    texts.iter().map(|(name, text)| bytes_as_json(name) + bytes_as_json(text) + 4).sum()
}

/// Bytes of a text as JSON, with its quotes.
pub fn bytes_as_json(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    });
    bytes.sum::<usize>() + 2
}

/// Digits of a number, as a database writes it out, that every database takes.
const DIGITS_MAX: usize = 10_000;

/// Bytes of JSON as a table counts them: as it is written, or as a database writes it, with a space after each colon and
/// comma and without exponents. `None` for a number that a database cannot hold.
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

/// Behind the quote that ends a string.
fn string_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.map(|end| end + 1)
}

/// Characters of a number without its exponent.
fn digits(number: &str) -> Option<usize> {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else { return Some(number.len()) };
    let exponent: usize = exponent.trim_start_matches(['+', '-']).parse().ok()?;
    number.len().checked_add(exponent).filter(|_| !mantissa.is_empty())
}

/// The most units of one SKU.
pub const QUANTITY_MAX: i64 = 1_000_000_000_000;

/// Bytes of a document, and of a product's descriptions, as the tables have it.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// What a file says, without what was refused of it.
#[derive(Debug, Default)]
pub struct Records {
    /// The currency of each brand, and the line that said it first.
    pub brands: BTreeMap<Brand, (Currency, u64)>,
    /// Categories by brand and code; those that are only mentioned are there without names.
    pub categories: BTreeMap<(Brand, Code), Category>,
    /// In the order of the file.
    pub products: Vec<Product>,
    /// What is wrong in the file.
    pub refused: Vec<Refusal>,
    /// What looks wrong, and is imported.
    pub warned: Vec<Refusal>,
    /// Nothing of the file is believed: what is refused is said of all of it.
    pub refused_whole: bool,
}

/// A category; what is `None` stays as it is in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Category {
    /// On which line; `None` where it is only mentioned.
    pub line: Option<u64>,
    /// The category above; `Some(None)` for none.
    pub parent: Option<Option<Code>>,
    /// Its names.
    pub names: Option<Texts>,
    /// Its place among its siblings.
    pub position: Option<i32>,
}

/// A product; what is `None` stays as it is in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// On which line.
    pub line: u64,
    /// Whose.
    pub brand: Brand,
    /// Which.
    pub product: Code,
    /// Its names.
    pub names: Option<Texts>,
    /// Its descriptions.
    pub descriptions: Option<Texts>,
    /// Whatever else there is about it.
    pub document: Option<Document>,
    /// Where its pictures are.
    pub images: Option<Vec<String>>,
    /// In which categories it stands: these and no others.
    pub categories: Option<Vec<Code>>,
    /// From when on it is shown, in microseconds since 1970; `Some(None)` for always.
    pub published_from: Option<Option<i64>>,
    /// Until when.
    pub published_until: Option<Option<i64>>,
    /// What can be ordered of it; others that it has stay.
    pub variants: Vec<Variant>,
}

/// A JSON object as the file writes it: its numbers keep every digit.
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
    /// On which line.
    pub line: u64,
    /// Its SKU.
    pub sku: Sku,
    /// What sets it apart.
    pub options: Option<Texts>,
    /// What one unit costs.
    pub price: Money,
    /// Units for sale from now on.
    pub quantity: Option<i64>,
    /// Its place among the variants.
    pub position: i32,
}

impl Records {
    /// What a file says that is not believed.
    pub fn none(refused: Vec<Refusal>) -> Self {
        Self { refused, refused_whole: true, ..Self::default() }
    }

    /// Notes what looks wrong.
    pub fn warn(&mut self, line: u64, field: impl Into<String>, reason: impl Into<String>) {
        self.warned.push(Refusal { line, field: field.into(), reason: reason.into() });
    }

    /// Notes what is wrong.
    pub fn refuse(&mut self, line: u64, field: impl Into<String>, reason: impl Into<String>) {
        self.refused.push(Refusal { line, field: field.into(), reason: reason.into() });
    }

    /// Notes a brand's currency; false if it is known to sell in another one.
    pub fn name_brand(&mut self, brand: &Brand, currency: Currency, line: u64, field: &str) -> bool {
        let (first, named_on) = *self.brands.entry(brand.clone()).or_insert((currency, line));
        if first != currency {
            let reason = format!("is {currency}, but line {named_on} says that this brand sells in {first}");
            self.refuse(line, field, reason);
        }
        first == currency
    }

    /// Mentions categories, so that they are there.
    pub fn mention<'a>(&mut self, brand: &Brand, categories: impl IntoIterator<Item = &'a Code>) {
        for category in categories {
            self.categories.entry((brand.clone(), category.clone())).or_default();
        }
    }
}
