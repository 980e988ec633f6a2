//! What a catalogue row holds, as it travels on the feed and rests in a snapshot.
//!
//! The same row is always the same bytes (prost writes fields in order, and lists keep the order that their maker gave
//! them), so that two sides can compare rows by a hash. These messages are all that a replica ever learns.

use bytes::Bytes;

/// A brand.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BrandRow {
    /// ISO 4217 code of all its prices.
    #[prost(string, tag = "1")]
    pub currency: String,
}

/// A category.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CategoryRow {
    /// The category above; `None` at the root.
    #[prost(string, optional, tag = "1")]
    pub parent: Option<String>,
    /// By locale, sorted.
    #[prost(message, repeated, tag = "2")]
    pub names: Vec<Localised>,
    /// Where it stands among its siblings; equal ones stand by their code.
    #[prost(int32, tag = "3")]
    pub position: i32,
}

/// A product with all its variants.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProductRow {
    /// By locale, sorted.
    #[prost(message, repeated, tag = "1")]
    pub names: Vec<Localised>,
    /// By locale, sorted.
    #[prost(message, repeated, tag = "2")]
    pub descriptions: Vec<Localised>,
    /// Whatever else the shop keeps: a JSON object as text, UTF-8; empty for none.
    #[prost(bytes = "bytes", tag = "3")]
    pub document: Bytes,
    /// Where its pictures are, the main one first.
    #[prost(string, repeated, tag = "4")]
    pub images: Vec<String>,
    /// Codes of the categories that it stands in, sorted.
    #[prost(string, repeated, tag = "5")]
    pub categories: Vec<String>,
    /// It is for nobody's eyes before: microseconds since 1970-01-01 UTC; `None` for always.
    #[prost(int64, optional, tag = "6")]
    pub published_from_micros: Option<i64>,
    /// Nor from this moment on.
    #[prost(int64, optional, tag = "7")]
    pub published_until_micros: Option<i64>,
    /// What can be ordered, by position and SKU.
    #[prost(message, repeated, tag = "8")]
    pub variants: Vec<Variant>,
    /// ISO 4217 code of the variants' prices.
    #[prost(string, tag = "9")]
    pub currency: String,
}

/// What can be ordered of a product.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Variant {
    /// Its SKU.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// What sets it apart, such as size and colour; sorted by name.
    #[prost(message, repeated, tag = "2")]
    pub options: Vec<VariantOption>,
    /// What one unit costs now, in minor units.
    #[prost(int64, tag = "3")]
    pub price: i64,
}

/// One option of a variant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct VariantOption {
    /// Such as `size`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Such as `270`.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A text in one language.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Localised {
    /// A BCP 47 tag such as `ko`.
    #[prost(string, tag = "1")]
    pub locale: String,
    /// The text.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// The units of one SKU.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct StockRow {
    /// Units for sale now.
    #[prost(int64, tag = "1")]
    pub available: i64,
}
