//! Converts rows of SQL to rows of the feed: JSON columns become messages. The same row always
//! gives the same bytes.
//!
//! If this build cannot read a row, for example because a DBA wrote a number in place of a text,
//! the row is published as deleted. One log line names its key and never its content. The row is
//! counted until it can be read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bridge_protocol::domain::catalogue::{Code, EntityKey, EntityKind};
use bridge_protocol::domain::{Brand, Currency, Money, Sku};
use bridge_protocol::feed::Row;
use bridge_protocol::wire::catalogue::{
    BrandRow, CategoryRow, Localised, ProductRow, StockRow, Variant, VariantOption,
};
use bridge_protocol::wire::frame::FEED_ROW_BYTES_MAX;
use bytes::Bytes;
use prost::Message;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::database::row;

row! {
    /// A brand. Its code is its name.
    pub(super) struct BrandColumns {
        brand: String,
        code: String,
        currency: String,
    }
}

row! {
    /// A category.
    pub(super) struct CategoryColumns {
        brand: String,
        category: String,
        parent: Option<String>,
        names: String,
        position: i32,
    }
}

row! {
    /// A product, and the currency of its brand.
    pub(super) struct ProductColumns {
        brand: String,
        pub(super) product: String,
        names: String,
        descriptions: String,
        document: String,
        images: String,
        published_from: Option<i64>,
        published_until: Option<i64>,
        currency: String,
    }
}

row! {
    /// A category that contains a product.
    pub(super) struct StandsInColumns {
        brand: String,
        product: String,
        category: String,
    }
}

row! {
    /// A variant of a product.
    pub(super) struct VariantColumns {
        brand: String,
        product: String,
        sku: String,
        price: i64,
        options: String,
    }
}

row! {
    /// The stock of a SKU.
    pub(super) struct StockColumns {
        brand: String,
        sku: String,
        available: i64,
    }
}

/// A row that was read: its key, and its message or the reason why it has none.
pub(super) struct ReadRow {
    pub(super) brand: String,
    pub(super) code: String,
    pub(super) row: Result<Bytes, &'static str>,
}

impl ReadRow {
    fn new(brand: String, code: String, row: Result<impl Message, &'static str>) -> Self {
        let row = row.and_then(|row| match row.encode_to_vec() {
            row if row.len() > FEED_ROW_BYTES_MAX => Err("it is larger than 1 MiB"),
            row => Ok(Bytes::from(row)),
        });
        Self { brand, code, row }
    }
}

pub(super) fn brand(BrandColumns { brand, code, currency }: BrandColumns) -> ReadRow {
    ReadRow::new(brand, code, brand_row(currency))
}

pub(super) fn category(columns: CategoryColumns) -> ReadRow {
    let CategoryColumns { brand, category, parent, names, position } = columns;
    let row = localised(&names).map(|names| CategoryRow { parent, names, position });
    ReadRow::new(brand, category, row)
}

/// Converts products with their child rows. The children of all products are in two lists, each in
/// the order of its statement.
pub(super) fn products(
    products: Vec<ProductColumns>,
    stand_in: Vec<StandsInColumns>,
    variants: Vec<VariantColumns>,
) -> Vec<ReadRow> {
    let mut below: HashMap<(String, String), ProductChildren> = HashMap::with_capacity(products.len());
    for StandsInColumns { brand, product, category } in stand_in {
        below.entry((brand, product)).or_default().categories.push(category);
    }
    for VariantColumns { brand, product, sku, price, options } in variants {
        below.entry((brand, product)).or_default().variants.push((sku, price, options));
    }
    let found = products.into_iter().map(|mut columns| {
        let key = (std::mem::take(&mut columns.brand), std::mem::take(&mut columns.product));
        let row = product_row(columns, below.remove(&key).unwrap_or_default());
        ReadRow::new(key.0, key.1, row)
    });
    found.collect()
}

/// The child rows of a product.
#[derive(Default)]
struct ProductChildren {
    categories: Vec<String>,
    /// SKU, price and options.
    variants: Vec<(String, i64, String)>,
}

pub(super) fn stock(StockColumns { brand, sku, available }: StockColumns) -> ReadRow {
    ReadRow::new(brand, sku, Ok(StockRow { available }))
}

fn brand_row(currency: String) -> Result<BrandRow, &'static str> {
    Currency::new(&currency).map_err(|_| "currency is no ISO 4217 code")?;
    Ok(BrandRow { currency })
}

fn product_row(columns: ProductColumns, below: ProductChildren) -> Result<ProductRow, &'static str> {
    let ProductColumns { names, descriptions, document, images, currency, .. } = columns;
    let (from, until) = (columns.published_from, columns.published_until);
    let code = Currency::new(&currency).map_err(|_| "its brand's currency is no ISO 4217 code")?;
    let variants = below.variants.into_iter().map(|(sku, price, options)| {
        Sku::new(&sku).ok_or("a variant's SKU is not printable ASCII")?;
        Money::new(price, code).ok_or("a variant's price is out of range")?;
        let options: BTreeMap<String, String> =
            json(&options, "a variant's options is no JSON object of texts")?;
        let options = options.into_iter().map(|(name, value)| VariantOption { name, value }).collect();
        Ok(Variant { sku, options, price })
    });
    Ok(ProductRow {
        names: localised(&names)?,
        descriptions: localised(&descriptions).map_err(|_| "descriptions is no JSON object of texts")?,
        document: object(document)?,
        images: json(&images, "images is no JSON array of texts")?,
        categories: below.categories,
        published_from_micros: from,
        published_until_micros: until,
        variants: variants.collect::<Result<_, &'static str>>()?,
        currency,
    })
}

fn localised(text: &str) -> Result<Vec<Localised>, &'static str> {
    let texts: BTreeMap<String, String> = json(text, "names is no JSON object of texts")?;
    Ok(texts.into_iter().map(|(locale, text)| Localised { locale, text }).collect())
}

/// Returns a JSON object as the database wrote it, or no bytes for an empty object.
fn object(text: String) -> Result<Bytes, &'static str> {
    let members: BTreeMap<String, IgnoredAny> = json(&text, "document is no JSON object")?;
    Ok(if members.is_empty() { Bytes::new() } else { Bytes::from(text) })
}

fn json<'t, V: Deserialize<'t>>(text: &'t str, otherwise: &'static str) -> Result<V, &'static str> {
    serde_json::from_str(text).map_err(|_| otherwise)
}

/// Rows that could not be read at their last attempt. Clones share one list.
#[derive(Clone, Default)]
pub(super) struct Unreadable(Arc<Mutex<HashSet<EntityKey>>>);

/// Most unreadable rows that are remembered. Rows beyond that are logged at each attempt.
const REMEMBERED_MAX: usize = 10_000;

impl Unreadable {
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Removes a key whose row was deleted.
    pub(super) fn forget(&self, key: &EntityKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Makes a row of the feed from a read row. If it cannot be read, the first such attempt is
    /// logged.
    pub(super) fn judge(&self, key: EntityKey, row: Result<Bytes, &'static str>) -> Row {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = match row {
            Ok(row) => {
                if !said.is_empty() {
                    said.remove(&key);
                }
                Some(row)
            }
            Err(reason) => {
                let is_new = !said.contains(&key);
                if is_new && said.len() < REMEMBERED_MAX {
                    said.insert(key.clone());
                }
                if is_new {
                    tracing::warn!(%key, reason, "a catalogue row cannot be read: it is published as deleted");
                }
                None
            }
        };
        Row { key, row }
    }
}

/// Makes a key from the database's texts. `None`, with a log line, if a text is not valid.
pub(super) fn key(kind: EntityKind, brand: &str, code: &str) -> Option<EntityKey> {
    match (Brand::new(brand), Code::new(code)) {
        (Ok(brand), Ok(code)) => Some(EntityKey { kind, brand, code }),
        _ => {
            tracing::warn!(?kind, "a catalogue row's code cannot be published: it is left out");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(names: &str, options: &str) -> Result<ProductRow, &'static str> {
        let columns = ProductColumns {
            brand: String::new(),
            product: String::new(),
            names: names.to_owned(),
            descriptions: r#"{"en": "Grips."}"#.to_owned(),
            document: r#"{"weight_g": 310}"#.to_owned(),
            images: r#"["https://img/1.jpg"]"#.to_owned(),
            published_from: None,
            published_until: Some(7),
            currency: "KRW".to_owned(),
        };
        let below = ProductChildren {
            categories: vec!["men".to_owned(), "shoes".to_owned()],
            variants: vec![("A-270".to_owned(), 219_000, options.to_owned())],
        };
        product_row(columns, below)
    }

    #[test]
    fn texts_are_sorted_by_language_whatever_order_the_database_gives() {
        let row =
            product(r#"{"ko": "신발", "en": "Shoe"}"#, r#"{"size": "270", "colour": "black"}"#).unwrap();
        let again = product(r#"{"en":"Shoe","ko":"신발"}"#, r#"{"colour":"black","size":"270"}"#).unwrap();
        assert_eq!(row.encode_to_vec(), again.encode_to_vec());
        assert_eq!(row.names[0].locale, "en");
        assert_eq!(row.variants[0].options[0].name, "colour");
        assert_eq!(row.categories, ["men", "shoes"]);
        assert_eq!(row.published_until_micros, Some(7));
    }

    #[test]
    fn what_is_no_text_is_named_and_not_quoted() {
        assert_eq!(product(r#"{"en": 7}"#, "{}").unwrap_err(), "names is no JSON object of texts");
        assert!(product("{}", r#"{"size": 270}"#).unwrap_err().starts_with("a variant's options"));
        assert_eq!(object("[1]".to_owned()).unwrap_err(), "document is no JSON object");
        assert_eq!(object("{ }".to_owned()).unwrap(), Bytes::new());
        assert!(brand_row("won".to_owned()).is_err());
    }

    #[test]
    fn an_unreadable_row_counts_until_it_can_be_read() {
        let unreadable = Unreadable::default();
        let key = key(EntityKind::Product, "acme", "A").unwrap();
        for _ in 0..2 {
            assert_eq!(unreadable.judge(key.clone(), Err("no")).row, None);
            assert_eq!(unreadable.count(), 1);
        }
        assert!(unreadable.judge(key, Ok(Bytes::new())).row.is_some());
        assert_eq!(unreadable.count(), 0);
    }
}
