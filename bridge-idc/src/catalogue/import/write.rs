//! Writes a catalogue file with a few products in each transaction. So orders do not wait for long,
//! and a product that the database refuses does not affect others.
//!
//! The rows to change are locked first. Rows that another session holds are set aside for later: a
//! transaction with locks never waits for them.
//!
//! Each statement takes its rows as one JSON text. It inserts new rows or updates changed rows. An
//! unchanged row is not written, so it does not enter the change log.

use std::collections::BTreeMap;
use std::time::Duration;

use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::Code;
use serde::Serialize;
use serde_json::{Value, json};

use super::record::{Category, Document, Product, Records, Texts, Variant};
use super::{Imported, Tally};
use crate::database::{
    Database, Ends as _, HeldItem, HeldRows, Statement, Touched, Transaction, each, held, on_connection,
};

const ADD_BRANDS: Statement = Statement {
    postgres: "INSERT INTO brands (brand, currency) SELECT new.brand, new.currency
        FROM jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text, currency text) ON CONFLICT (brand) DO NOTHING",
    sqlite: "INSERT INTO brands (brand, currency) SELECT value ->> 'brand', value ->> 'currency'
        FROM json_each($1) WHERE true ON CONFLICT (brand) DO NOTHING",
};
/// Selects the currencies of these brands, for the brands that exist.
pub(super) const CURRENCIES: Statement = Statement {
    postgres: "SELECT brands.brand, brands.currency FROM brands
        JOIN jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text) ON brands.brand = new.brand",
    sqlite: "SELECT brand, currency FROM brands WHERE brand IN (SELECT value ->> 'brand' FROM json_each($1))",
};

/// Runs a statement over these rows. Returns the number of changed rows.
async fn run(
    transaction: &mut Transaction,
    statement: &Statement,
    rows: &impl Serialize,
) -> sqlx::Result<u64> {
    let rows = serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let sql = transaction.text(statement);
    on_connection!(transaction, connection =>
        Ok(sqlx::query(sql).bind(rows).execute(connection).await?.rows_affected()))
}

/// Writes brands, categories and products in parts.
pub(super) struct Writer<'a> {
    pub(super) database: &'a Database,
}

/// Reasons why a part could not be written.
pub(super) enum Failed {
    /// A row breaks a rule of the tables.
    Rule,
    /// Another session holds a needed row. Nothing of the part was written.
    Held(HeldItem),
    /// The database failed.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::error::ErrorKind;
        if let Some(held) = held(&error) {
            return Self::Held(held);
        }
        let Some(refusal) = error.as_database_error() else { return Self::Database(error) };
        let is_rule = matches!(
            refusal.kind(),
            ErrorKind::CheckViolation | ErrorKind::NotNullViolation | ErrorKind::ForeignKeyViolation
        );
        // PostgreSQL's SQLSTATE classes for data exceptions (22), for the CHECK OPTION of a view
        // (44), and for errors raised by a trigger (P0). SQLite's code 1811 is
        // SQLITE_CONSTRAINT_TRIGGER.
        let is_data = refusal.code().is_some_and(|code| match code.len() {
            5 => ["22", "44", "P0"].iter().any(|class| code.starts_with(class)),
            _ => code == "1811",
        });
        if is_rule || is_data { Self::Rule } else { Self::Database(error) }
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(database: &'a Database) -> Self {
        Self { database }
    }

    /// Adds the name of a held item, if the database can find it.
    pub(super) async fn named(&self, held: HeldItem) -> HeldItem {
        self.database.named(held).await
    }

    /// Returns the holder of an item, if the database can name it.
    pub(super) async fn holder(&self, held: &HeldItem) -> Option<String> {
        self.database.holder(held).await
    }

    /// Adds the brands, then adds and changes categories. Returns the number of new brands and the
    /// tally of categories.
    pub(super) async fn heads(&self, records: &Records, within: Duration) -> sqlx::Result<(u64, Tally)> {
        let mut transaction = self.database.begin_import(within).await?;
        let brands: Vec<Value> = records
            .brands
            .iter()
            .map(|(brand, (currency, _))| json!({"brand": brand.as_str(), "currency": currency.as_str()}))
            .collect();
        let brands = run(&mut transaction, &ADD_BRANDS, &brands).await?;
        let categories = category_rows(&records.categories);
        let new = run(&mut transaction, &each!("add_categories"), &categories).await?;
        let changed = run(&mut transaction, &each!("change_categories"), &categories).await?;
        transaction.commit().await?;
        let all = records.categories.len() as u64;
        Ok((brands, Tally { new, changed, unchanged: all.saturating_sub(new + changed) }))
    }

    /// Writes these products, after `awaited` is free. If one breaks a rule, none is written.
    /// Products that another session holds are removed from `products` and returned.
    pub(super) async fn part(
        &self,
        products: &mut Vec<Product>,
        touched: &Touched,
        awaited: Option<&HeldItem>,
        within: Duration,
    ) -> Result<Written, Failed> {
        let mut transaction = self.database.begin_import(within).await?;
        let locked = transaction.lock(touched, awaited).await;
        let apart = locked.map(|held| {
            let on = products.iter().find_map(|product| needs(product, &held));
            SetAside {
                products: products.extract_if(.., |product| needs(product, &held).is_some()).collect(),
                on,
            }
        });
        let written = match apart {
            Ok(apart) if products.is_empty() => Ok(Written { imported: Imported::default(), apart }),
            Ok(apart) => match rows(&mut transaction, products).await {
                Ok(imported) => {
                    transaction.commit().await?;
                    return Ok(Written { imported, apart });
                }
                Err(error) => {
                    products.extend(apart.products);
                    Err(error.into())
                }
            },
            Err(error) => Err(error.into()),
        };
        transaction.give_up().await;
        written
    }
}

/// The result of a part.
pub(super) struct Written {
    pub(super) imported: Imported,
    /// Products that were not written.
    pub(super) apart: SetAside,
}

/// Products that need rows held by another session.
pub(super) struct SetAside {
    pub(super) products: Vec<Product>,
    /// The held row that the first of them needs.
    pub(super) on: Option<HeldItem>,
}

/// Returns the first held row that a product needs.
fn needs(product: &Product, held: &HeldRows) -> Option<HeldItem> {
    let key = |code: &str| (product.brand.as_str().to_owned(), code.to_owned());
    let named = held.products.get(&key(product.product.as_str())).cloned();
    let named = named.map(|(brand, product)| HeldItem::Product { brand, product });
    let sku = |variant: &Variant| held.skus.get(&key(variant.sku.as_str())).cloned();
    let sku = || product.variants.iter().find_map(sku).map(|(brand, sku)| HeldItem::Sku { brand, sku });
    named.or_else(sku)
}

/// Returns the first line of a part that needs a held item.
pub(super) fn line_of(part: &[Product], held: &HeldItem) -> u64 {
    let lines = part.iter().filter_map(|of| match held {
        HeldItem::Product { brand, product } => {
            (of.brand.as_str() == brand && of.product.as_str() == product).then_some(of.line)
        }
        HeldItem::Sku { brand, sku } if of.brand.as_str() == brand => {
            of.variants.iter().find(|variant| variant.sku.as_str() == sku).map(|variant| variant.line)
        }
        HeldItem::Sku { .. } => None,
        HeldItem::Table(_) => Some(0),
        HeldItem::Unnamed | HeldItem::File => Some(of.line),
    });
    lines.min().unwrap_or_default()
}

async fn rows(transaction: &mut Transaction, products: &[Product]) -> sqlx::Result<Imported> {
    let mut imported = Imported::default();
    let rows = product_rows(products);
    let new = run(transaction, &each!("add_products"), &rows).await?;
    let changed = run(transaction, &each!("change_products"), &rows).await?;
    imported.products =
        Tally { new, changed, unchanged: (products.len() as u64).saturating_sub(new + changed) };
    let rows = membership_rows(products);
    run(transaction, &each!("leave_categories"), &rows).await?;
    run(transaction, &each!("enter_categories"), &rows).await?;
    let rows = variant_rows(products);
    let all = rows.as_array().map_or(0, Vec::len) as u64;
    let new = run(transaction, &each!("add_variants"), &rows).await?;
    let changed = run(transaction, &each!("change_variants"), &rows).await?;
    imported.variants = Tally { new, changed, unchanged: all.saturating_sub(new + changed) };
    imported.stock = run(transaction, &each!("set_units"), &rows).await?;
    run(transaction, &each!("open_units"), &rows).await?;
    Ok(imported)
}

pub(super) fn category_rows(categories: &BTreeMap<(Brand, Code), Category>) -> Value {
    let rows = categories.iter().map(|((brand, code), category)| {
        json!({
            "brand": brand.as_str(), "category": code.as_str(),
            "parent": category.parent.iter().flatten().next().map(Code::as_str), "sets_parent": category.parent.is_some(),
            "names": category.names, "position": category.position,
        })
    });
    rows.collect()
}

/// A product's row. `None` leaves the column unchanged.
#[derive(Serialize)]
pub(super) struct ProductRow<'a> {
    brand: &'a str,
    product: &'a str,
    names: &'a Option<Texts>,
    descriptions: &'a Option<Texts>,
    document: &'a Option<Document>,
    images: &'a Option<Vec<String>>,
    published_from: Option<i64>,
    sets_from: bool,
    published_until: Option<i64>,
    sets_until: bool,
}

pub(super) fn product_rows<'a>(products: &'a [Product]) -> Vec<ProductRow<'a>> {
    let row = |product: &'a Product| ProductRow {
        brand: product.brand.as_str(),
        product: product.product.as_str(),
        names: &product.names,
        descriptions: &product.descriptions,
        document: &product.document,
        images: &product.images,
        published_from: product.published_from.flatten(),
        sets_from: product.published_from.is_some(),
        published_until: product.published_until.flatten(),
        sets_until: product.published_until.is_some(),
    };
    products.iter().map(row).collect()
}

fn membership_rows(products: &[Product]) -> Value {
    let rows = products.iter().filter_map(|product| {
        let categories: Vec<&str> = product.categories.as_ref()?.iter().map(|code| code.as_str()).collect();
        Some(json!({"brand": product.brand.as_str(), "product": product.product.as_str(), "categories": categories}))
    });
    rows.collect()
}

pub(super) fn variant_rows(products: &[Product]) -> Value {
    let row = |product: &Product, variant: &Variant| {
        json!({
            "brand": product.brand.as_str(), "product": product.product.as_str(), "sku": variant.sku.as_str(),
            "price": variant.price.amount(), "options": variant.options, "quantity": variant.quantity,
            "position": variant.position,
        })
    };
    let rows = products.iter().flat_map(|product| product.variants.iter().map(move |one| row(product, one)));
    rows.collect()
}
