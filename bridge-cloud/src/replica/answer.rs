//! Prebuilt answers, made from the rows of the feed when a row changes, and shared by all threads.

use std::sync::{Arc, OnceLock};

use bridge_protocol::domain::UnixMicros;
use bridge_protocol::domain::catalogue::{Code, EntityKey, EntityKind};
use bridge_protocol::feed::Row;
use bridge_protocol::wire::catalogue::{CategoryRow, Localised, ProductRow, StockRow, Variant};
use bytes::Bytes;
use http::HeaderValue;
use prost::Message as _;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization as _;

/// Characters of a name by which it is sorted.
const SORTED_CHARS: usize = 64;

/// A body with its entity tag, and its compressed forms after they are made.
#[derive(Debug)]
pub struct CachedAnswer {
    body: Bytes,
    tag: HeaderValue,
    packed: OnceLock<CompressedForms>,
}

/// Compressed forms of a body. A form exists only if it is smaller.
#[derive(Debug, Default)]
pub struct CompressedForms {
    /// gzip (RFC 1952).
    pub gzip: Option<Form>,
    /// Brotli (RFC 7932).
    pub brotli: Option<Form>,
}

/// One form of a body. Each form needs a strong tag of its own (RFC 9110 section 8.8.3.3).
#[derive(Debug)]
pub struct Form {
    /// The bytes.
    pub body: Bytes,
    /// Their entity tag.
    pub tag: HeaderValue,
}

impl CachedAnswer {
    /// Makes an answer with this body.
    pub fn new(body: Vec<u8>) -> Self {
        let tag = tag(&body, "");
        Self { body: body.into(), tag, packed: OnceLock::new() }
    }

    /// Returns the uncompressed body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns its entity tag in quotes.
    pub fn tag(&self) -> &HeaderValue {
        &self.tag
    }

    /// Returns its compressed forms, if they are made.
    pub fn packed(&self) -> Option<&CompressedForms> {
        self.packed.get()
    }

    /// Sets the compressed forms once.
    pub fn pack(&self, gzip: Option<Vec<u8>>, brotli: Option<Vec<u8>>) {
        let form = |body: Option<Vec<u8>>, name: &str| {
            let body = body.filter(|body| body.len() < self.body.len())?;
            Some(Form { tag: tag(&self.body, name), body: body.into() })
        };
        // If another thread was first, it set the same forms.
        let _made_before =
            self.packed.set(CompressedForms { gzip: form(gzip, "-gz"), brotli: form(brotli, "-br") });
    }
}

/// Returns a strong entity tag: a part of a SHA-256 in quotes.
fn tag(body: &[u8], form: &str) -> HeaderValue {
    let hash = Sha256::digest(body);
    let digits: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{digits}{form}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// A row in the form for serving threads.
#[derive(Debug, Clone)]
pub struct PreparedRow {
    /// Key of the row.
    pub key: EntityKey,
    /// Its new state; `None` if it is gone.
    pub item: Option<Item>,
}

/// Content of a row.
#[derive(Debug, Clone)]
pub enum Item {
    /// A brand's category tree, under the brand's own key.
    Tree(Arc<CachedAnswer>),
    /// A category, with its parent.
    Category(Option<Code>),
    /// A product.
    Product(Arc<Product>),
    /// Stock of a SKU.
    Stock(Arc<Stock>),
}

/// A product, ready to be answered.
#[derive(Debug)]
pub struct Product {
    /// Its code.
    pub code: Code,
    /// Its prebuilt answer.
    pub answer: CachedAnswer,
    /// Its entry in a list: a JSON object.
    pub summary: Bytes,
    /// Codes of its categories.
    pub categories: Vec<Code>,
    /// First moment when it is visible, and the first one when it is not any more; microseconds
    /// since 1970-01-01 UTC.
    pub visible: (i64, i64),
    /// Sort key for `newest`: a greater one is newer.
    pub published: i64,
    /// Sort key for `price`: the price of its cheapest variant, in minor units.
    pub price: i64,
    /// Sort key for `name`: the beginning of its name in the first of its languages, in lower case.
    pub name: Arc<str>,
}

impl Product {
    /// Returns true if it may be shown now.
    pub fn is_visible(&self, now: UnixMicros) -> bool {
        (self.visible.0..self.visible.1).contains(&now.get())
    }
}

/// Stock of a SKU with its answer.
#[derive(Debug)]
pub struct Stock {
    /// `{"sku": .., "available": ..}`
    pub item: Bytes,
    answer: OnceLock<CachedAnswer>,
}

impl Stock {
    /// Returns the answer for this SKU alone. It is made at the first request, because most SKUs
    /// are never requested.
    pub fn answer(&self) -> &CachedAnswer {
        let make = || CachedAnswer::new([&br#"{"items":["#[..], &self.item, br#"],"missing":[]}"#].concat());
        self.answer.get_or_init(make)
    }
}

/// Reasons why a row cannot be served. They do not quote its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no message of its kind.
    #[error("it is not in the form of its kind")]
    Form,
    /// Its document is no JSON object.
    #[error("its document is no JSON object")]
    Document,
    /// It has an invalid category code.
    #[error("it names a category by what is no code")]
    Category,
}

/// Makes the form of a row for serving threads. It has no content if the row is gone, unreadable or
/// not needed.
pub fn prepare(row: &Row) -> PreparedRow {
    let Row { key, row } = row;
    let item = row.as_ref().and_then(|row| {
        item(key, row).unwrap_or_else(|error| {
            tracing::warn!(%key, %error, "a row of the catalogue cannot be served, and counts as gone");
            None
        })
    });
    PreparedRow { key: key.clone(), item }
}

fn item(key: &EntityKey, row: &Bytes) -> Result<Option<Item>, Unreadable> {
    Ok(Some(match key.kind {
        // The currency is in every product.
        EntityKind::Brand => return Ok(None),
        EntityKind::Category => {
            let row = CategoryRow::decode(row.clone()).map_err(|_| Unreadable::Form)?;
            let parent = row.parent.map(|parent| Code::new(&parent)).transpose();
            Item::Category(parent.map_err(|_| Unreadable::Category)?)
        }
        EntityKind::Product => {
            let row = ProductRow::decode(row.clone()).map_err(|_| Unreadable::Form)?;
            Item::Product(Arc::new(product(key, &row)?))
        }
        EntityKind::Stock => {
            let row = StockRow::decode(row.clone()).map_err(|_| Unreadable::Form)?;
            Item::Stock(Arc::new(stock(key.code.as_str(), row)?))
        }
    }))
}

fn product(key: &EntityKey, row: &ProductRow) -> Result<Product, Unreadable> {
    let document = if row.document.is_empty() { "{}".as_bytes() } else { &row.document };
    let document: &RawValue = serde_json::from_slice(document).map_err(|_| Unreadable::Document)?;
    if !document.get().trim_start().starts_with('{') {
        return Err(Unreadable::Document);
    }
    let variants = row.variants.iter().map(|variant| VariantBody::of(variant, &row.currency)).collect();
    // A moment beyond the calendar counts as forever.
    let time = |micros: Option<i64>| {
        micros.map(|micros| UnixMicros::new(micros).to_string()).filter(|text| text.ends_with('Z'))
    };
    let body = ProductBody {
        product: key.code.as_str(),
        brand: key.brand.as_str(),
        names: Texts(&row.names),
        descriptions: Texts(&row.descriptions),
        categories: &row.categories,
        images: &row.images,
        published_from: time(row.published_from_micros),
        published_until: time(row.published_until_micros),
        variants,
        document,
    };
    let prices = || row.variants.iter().map(|variant| variant.price);
    let price = |amount: Option<i64>| amount.map(|amount| Price { amount, currency: &row.currency });
    let summary = Summary {
        product: key.code.as_str(),
        names: Texts(&row.names),
        image: row.images.first().map(String::as_str),
        price: price(prices().min()).zip(price(prices().max())).map(|(min, max)| Range { min, max }),
        variants: row.variants.len(),
    };
    let categories: Result<Vec<Code>, _> = row.categories.iter().map(|code| Code::new(code)).collect();
    Ok(Product {
        code: key.code.clone(),
        answer: CachedAnswer::new(json(&body)?),
        summary: json(&summary)?.into(),
        categories: categories.map_err(|_| Unreadable::Category)?,
        visible: (
            row.published_from_micros.unwrap_or(i64::MIN),
            row.published_until_micros.unwrap_or(i64::MAX),
        ),
        published: row.published_from_micros.unwrap_or(0),
        price: prices().min().unwrap_or(i64::MAX),
        name: sorted_by(row.names.first().map_or("", |name| name.text.as_str())),
    })
}

/// Returns a key that is long enough to sort by and short enough for a cursor. Letters are composed
/// first (NFC): some systems write them decomposed (NFD), and such names would not sort with the
/// same names in composed form.
fn sorted_by(name: &str) -> Arc<str> {
    name.nfc().collect::<String>().to_lowercase().chars().take(SORTED_CHARS).collect::<String>().into()
}

fn stock(sku: &str, row: StockRow) -> Result<Stock, Unreadable> {
    let item = json(&StockBody { sku, available: row.available })?;
    Ok(Stock { item: item.into(), answer: OnceLock::new() })
}

/// Serializing these types cannot fail. If it did, the row would not be served.
pub(super) fn json(body: &impl Serialize) -> Result<Vec<u8>, Unreadable> {
    serde_json::to_vec(body).map_err(|_| Unreadable::Form)
}

#[derive(Serialize)]
struct ProductBody<'a> {
    product: &'a str,
    brand: &'a str,
    names: Texts<'a>,
    descriptions: Texts<'a>,
    categories: &'a [String],
    images: &'a [String],
    published_from: Option<String>,
    published_until: Option<String>,
    variants: Vec<VariantBody<'a>>,
    document: &'a RawValue,
}

#[derive(Serialize)]
struct VariantBody<'a> {
    sku: &'a str,
    options: Options<'a>,
    price: Price<'a>,
}

impl<'a> VariantBody<'a> {
    fn of(variant: &'a Variant, currency: &'a str) -> Self {
        let price = Price { amount: variant.price, currency };
        Self { sku: &variant.sku, options: Options(variant), price }
    }
}

#[derive(Serialize)]
struct Price<'a> {
    amount: i64,
    currency: &'a str,
}

#[derive(Serialize)]
struct Summary<'a> {
    product: &'a str,
    names: Texts<'a>,
    image: Option<&'a str>,
    price: Option<Range<'a>>,
    variants: usize,
}

#[derive(Serialize)]
struct Range<'a> {
    min: Price<'a>,
    max: Price<'a>,
}

#[derive(Serialize)]
struct StockBody<'a> {
    sku: &'a str,
    available: i64,
}

/// Writes texts by locale as a JSON object.
pub(super) struct Texts<'a>(pub(super) &'a [Localised]);

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|one| map.serialize_entry(&one.locale, &one.text))?;
        map.end()
    }
}

struct Options<'a>(&'a Variant);

impl Serialize for Options<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.options.len()))?;
        self.0.options.iter().try_for_each(|one| map.serialize_entry(&one.name, &one.value))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::Brand;
    use bridge_protocol::wire::catalogue::VariantOption;

    use super::*;

    fn key(kind: EntityKind, code: &str) -> EntityKey {
        EntityKey { kind, brand: Brand::new("tea").unwrap(), code: Code::new(code).unwrap() }
    }

    fn row(document: &str) -> ProductRow {
        let text = |locale: &str, text: &str| Localised { locale: locale.to_owned(), text: text.to_owned() };
        let variant = |sku: &str, price| Variant {
            sku: sku.to_owned(),
            options: vec![VariantOption { name: "size".to_owned(), value: "M".to_owned() }],
            price,
        };
        ProductRow {
            names: vec![text("en", "A \"Mug\""), text("ko", "머그")],
            document: Bytes::copy_from_slice(document.as_bytes()),
            categories: vec!["cups".to_owned()],
            variants: vec![variant("M-1", 900), variant("M-2", 700)],
            currency: "KRW".to_owned(),
            published_from_micros: Some(1_795_343_485_000_000),
            ..ProductRow::default()
        }
    }

    #[test]
    fn a_name_in_parts_is_sorted_beside_the_same_name_composed() {
        // The word "바지" in the decomposed form that macOS writes, and in the composed form of other
        // systems.
        let [parts, composed] = ["\u{1107}\u{1161}\u{110c}\u{1175}", "바지"].map(sorted_by);
        assert_eq!(parts, composed);
        assert!(sorted_by("가방") < parts && parts < sorted_by("사과"));
        assert_eq!(sorted_by("E\u{301}clair"), sorted_by("Éclair"));
    }

    fn prepared(row: &ProductRow) -> Option<Item> {
        let row = Row { key: key(EntityKind::Product, "MUG"), row: Some(row.encode_to_vec().into()) };
        prepare(&row).item
    }

    #[test]
    fn a_product_is_answered_with_all_that_its_row_holds() {
        let Some(Item::Product(product)) = prepared(&row("{\"a\": 1.50}")) else { panic!("no product") };
        let body = std::str::from_utf8(product.answer.body()).unwrap();
        let expected = concat!(
            r#"{"product":"MUG","brand":"tea","names":{"en":"A \"Mug\"","ko":"머그"},"descriptions":{},"#,
            r#""categories":["cups"],"images":[],"published_from":"2026-11-22T10:31:25.000000Z","published_until":null,"#,
            r#""variants":[{"sku":"M-1","options":{"size":"M"},"price":{"amount":900,"currency":"KRW"}},"#,
            r#"{"sku":"M-2","options":{"size":"M"},"price":{"amount":700,"currency":"KRW"}}],"document":{"a": 1.50}}"#
        );
        assert_eq!(body, expected);
        assert_eq!((product.price, &*product.name), (700, "a \"mug\""));
        let summary = std::str::from_utf8(&product.summary).unwrap();
        assert!(
            summary.contains(r#""price":{"min":{"amount":700,"currency":"KRW"},"max":{"amount":900"#),
            "{summary}"
        );
    }

    #[test]
    fn a_product_is_visible_within_its_window_only() {
        let mut row = row("{}");
        row.published_until_micros = Some(1_795_343_486_000_000);
        let Some(Item::Product(product)) = prepared(&row) else { panic!("no product") };
        let at = |micros| product.is_visible(UnixMicros::new(micros));
        assert!(!at(1_795_343_484_999_999) && at(1_795_343_485_000_000));
        assert!(at(1_795_343_485_999_999) && !at(1_795_343_486_000_000));
    }

    #[test]
    fn a_row_that_cannot_be_read_counts_as_gone() {
        for document in ["[]", "1", "{", "{} {}"] {
            assert!(prepared(&row(document)).is_none(), "{document}");
        }
        let garbage = Row { key: key(EntityKind::Stock, "M-1"), row: Some(Bytes::from_static(b"\xff\xff")) };
        assert!(prepare(&garbage).item.is_none());
    }

    #[test]
    fn each_form_of_a_body_has_its_tag_and_smaller_forms_stay() {
        let answer = CachedAnswer::new(b"hello hello".to_vec());
        answer.pack(Some(vec![1, 2]), Some(vec![0; 100]));
        let packed = answer.packed().unwrap();
        assert!(packed.brotli.is_none());
        assert_ne!(packed.gzip.as_ref().unwrap().tag, *answer.tag());
        assert_eq!(CachedAnswer::new(b"hello hello".to_vec()).tag(), answer.tag());
    }
}
