//! Content of the catalogue's rows, on the feed and in a snapshot.
//!
//! The same row always has the same bytes, so that two sides can compare rows by a hash. (prost
//! writes fields in order, and lists keep the order of their maker.) A replica learns nothing but
//! these messages.

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
    /// Code of the parent category; `None` at the root.
    #[prost(string, optional, tag = "1")]
    pub parent: Option<String>,
    /// Names, sorted by locale.
    #[prost(message, repeated, tag = "2")]
    pub names: Vec<Localised>,
    /// Position among its siblings. Equal positions are ordered by code.
    #[prost(int32, tag = "3")]
    pub position: i32,
}

/// A product with all its variants.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProductRow {
    /// Names, sorted by locale.
    #[prost(message, repeated, tag = "1")]
    pub names: Vec<Localised>,
    /// Descriptions, sorted by locale.
    #[prost(message, repeated, tag = "2")]
    pub descriptions: Vec<Localised>,
    /// Other data of the shop: a JSON object as UTF-8 text; empty for none.
    #[prost(bytes = "bytes", tag = "3")]
    pub document: Bytes,
    /// URLs of its pictures, the main one first.
    #[prost(string, repeated, tag = "4")]
    pub images: Vec<String>,
    /// Codes of its categories, sorted.
    #[prost(string, repeated, tag = "5")]
    pub categories: Vec<String>,
    /// Start of its publication, in microseconds since 1970-01-01 UTC; `None` for always.
    #[prost(int64, optional, tag = "6")]
    pub published_from_micros: Option<i64>,
    /// End of its publication (exclusive), in microseconds since 1970-01-01 UTC; `None` for never.
    #[prost(int64, optional, tag = "7")]
    pub published_until_micros: Option<i64>,
    /// Its variants, ordered by position and SKU.
    #[prost(message, repeated, tag = "8")]
    pub variants: Vec<Variant>,
    /// ISO 4217 code of the variants' prices.
    #[prost(string, tag = "9")]
    pub currency: String,
}

/// A variant: one product in one size, colour and so on, which can be ordered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Variant {
    /// Its SKU.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// Options that distinguish it, such as size and colour; sorted by name.
    #[prost(message, repeated, tag = "2")]
    pub options: Vec<VariantOption>,
    /// Price of one unit now, in minor units.
    #[prost(int64, tag = "3")]
    pub price: i64,
}

/// One option of a variant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct VariantOption {
    /// Name, such as `size`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value, such as `270`.
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
