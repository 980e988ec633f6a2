//! Writes what a catalogue file says: some products a transaction, so that orders are not held up and what is refused is
//! refused alone.
//!
//! Each statement takes a table of rows as one JSON text. It inserts what is new, or changes what is otherwise; a row that is so
//! already is not touched and does not enter the log of changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::Code;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Postgres, Sqlite};

use super::record::{Category, Document, Product, Records, Refusal, Texts, Variant};
use super::{Imported, Tally};
use crate::ledger::{Open, Pools};

/// A statement for either database.
struct Statement {
    postgres: &'static str,
    sqlite: &'static str,
}

macro_rules! statement {
    ($file:literal) => {
        Statement {
            postgres: include_str!(concat!("postgres/", $file)),
            sqlite: include_str!(concat!("sqlite/", $file)),
        }
    };
}

const ADD_BRANDS: Statement = Statement {
    postgres: "INSERT INTO brands (brand, currency) SELECT new.brand, new.currency
        FROM jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text, currency text) ON CONFLICT (brand) DO NOTHING",
    sqlite: "INSERT INTO brands (brand, currency) SELECT value ->> 'brand', value ->> 'currency'
        FROM json_each($1) WHERE true ON CONFLICT (brand) DO NOTHING",
};
const CURRENCIES: Statement = Statement {
    postgres: "SELECT brands.brand, brands.currency FROM brands
        JOIN jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text) ON brands.brand = new.brand",
    sqlite: "SELECT brand, currency FROM brands WHERE brand IN (SELECT value ->> 'brand' FROM json_each($1))",
};
const OWNERS: Statement = statement!("owners.sql");

/// A connection with a transaction open on it.
enum Transaction {
    Postgres(Open<Postgres>),
    Sqlite(Open<Sqlite>),
}

impl Transaction {
    async fn begin(pools: &Pools) -> sqlx::Result<Self> {
        Ok(match pools {
            Pools::Postgres(pool) => Self::Postgres(Open::begin(pool.acquire().await?, "BEGIN").await?),
            Pools::Sqlite { writer, .. } => {
                Self::Sqlite(Open::begin(writer.acquire().await?, "BEGIN IMMEDIATE").await?)
            }
        })
    }

    /// Runs a statement over these rows; how many it changed.
    async fn run(&mut self, statement: &Statement, rows: &impl Serialize) -> sqlx::Result<u64> {
        let rows = serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))?;
        Ok(match self {
            Self::Postgres(open) => {
                sqlx::query(statement.postgres).bind(rows).execute(open.connection()).await?.rows_affected()
            }
            Self::Sqlite(open) => {
                sqlx::query(statement.sqlite).bind(rows).execute(open.connection()).await?.rows_affected()
            }
        })
    }

    async fn ask<V>(&mut self, statement: &Statement, rows: &Value) -> sqlx::Result<Vec<V>>
    where
        V: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let rows = rows.to_string();
        match self {
            Self::Postgres(open) => {
                sqlx::query_as(statement.postgres).bind(rows).fetch_all(open.connection()).await
            }
            Self::Sqlite(open) => {
                sqlx::query_as(statement.sqlite).bind(rows).fetch_all(open.connection()).await
            }
        }
    }

    async fn say(&mut self, statement: &'static str) -> sqlx::Result<()> {
        match self {
            Self::Postgres(open) => sqlx::query(statement).execute(open.connection()).await.map(drop),
            Self::Sqlite(open) => sqlx::query(statement).execute(open.connection()).await.map(drop),
        }
    }

    async fn commit(self) -> sqlx::Result<()> {
        match self {
            Self::Postgres(open) => open.commit().await,
            Self::Sqlite(open) => open.commit().await,
        }
    }
}

/// By brand and SKU: the product that it is a variant of, and its place there.
pub(super) type Owners = HashMap<(String, String), (String, i32)>;

/// Writes products part by part.
pub(super) struct Writer<'a> {
    pools: &'a Pools,
    /// Everything in one transaction, which its owner ends.
    whole: bool,
    open: Option<Transaction>,
    pub(super) imported: Imported,
}

/// Why a part could not be written.
pub(super) enum Failed {
    /// A rule of the tables, which one row of it breaks.
    Rule,
    /// The database.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::error::ErrorKind;
        let Some(refusal) = error.as_database_error() else { return Self::Database(error) };
        let is_rule = matches!(
            refusal.kind(),
            ErrorKind::CheckViolation | ErrorKind::NotNullViolation | ErrorKind::ForeignKeyViolation
        );
        // PostgreSQL's class 22, data exception: a value that its type cannot hold. SQLite's codes are shorter.
        let is_data = refusal.code().is_some_and(|code| code.len() == 5 && code.starts_with("22"));
        if is_rule || is_data { Self::Rule } else { Self::Database(error) }
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(pools: &'a Pools, whole: bool) -> Self {
        Self { pools, whole, open: None, imported: Imported::default() }
    }

    /// Adds the brands, and refuses what is of one that sells in another currency. Then adds and changes categories.
    pub(super) async fn prepare(&mut self, records: &mut Records) -> Result<(), sqlx::Error> {
        let mut transaction = self.begin().await?;
        let brands: Vec<Value> = records
            .brands
            .iter()
            .map(|(brand, (currency, _))| json!({"brand": brand.as_str(), "currency": currency.as_str()}))
            .collect();
        let brands = Value::Array(brands);
        self.imported.brands = transaction.run(&ADD_BRANDS, &brands).await?;
        let named: BTreeSet<&str> = (records.brands.keys())
            .chain(records.categories.keys().map(|(brand, _)| brand))
            .chain(records.products.iter().map(|product| &product.brand))
            .map(Brand::as_str)
            .collect();
        let named = named.into_iter().map(|brand| json!({"brand": brand})).collect();
        let known: Vec<(String, String)> = transaction.ask(&CURRENCIES, &named).await?;
        let known: HashMap<String, String> = known.into_iter().collect();
        refuse_other_currencies(records, &known);
        refuse_unknown_brands(records, &known);

        let categories = category_rows(&records.categories);
        let new = transaction.run(&statement!("add_categories.sql"), &categories).await?;
        let changed = transaction.run(&statement!("change_categories.sql"), &categories).await?;
        let all = categories.as_array().map_or(0, Vec::len) as u64;
        self.imported.categories = Tally { new, changed, unchanged: all - new - changed };
        self.end(transaction).await
    }

    /// Writes these products; nothing of them if one breaks a rule.
    pub(super) async fn write(&mut self, products: &[Product]) -> Result<(), Failed> {
        let mut transaction = self.begin().await?;
        transaction.say("SAVEPOINT part").await?;
        match rows(&mut transaction, products).await {
            Ok(imported) => {
                transaction.say("RELEASE SAVEPOINT part").await?;
                self.end(transaction).await?;
                self.imported.add(&imported);
                Ok(())
            }
            Err(error) => {
                transaction.say("ROLLBACK TO SAVEPOINT part").await?;
                self.end(transaction).await?;
                Err(error.into())
            }
        }
    }

    /// Whose these variants' SKUs are already.
    pub(super) async fn owners(&mut self, products: &[Product]) -> Result<Owners, sqlx::Error> {
        let mut transaction = self.begin().await?;
        let found: Vec<(String, String, String, i32)> =
            transaction.ask(&OWNERS, &variant_rows(products)).await?;
        self.end(transaction).await?;
        let owners = found.into_iter();
        Ok(owners.map(|(brand, sku, product, position)| ((brand, sku), (product, position))).collect())
    }

    /// Makes everything durable that is not yet, or takes it back.
    pub(super) async fn finish(mut self, keep: bool) -> Result<Imported, sqlx::Error> {
        if let Some(transaction) = self.open.take()
            && keep
        {
            transaction.commit().await?;
        }
        Ok(self.imported)
    }

    async fn begin(&mut self) -> sqlx::Result<Transaction> {
        match self.open.take() {
            Some(transaction) => Ok(transaction),
            None => Transaction::begin(self.pools).await,
        }
    }

    async fn end(&mut self, transaction: Transaction) -> sqlx::Result<()> {
        if self.whole {
            self.open = Some(transaction);
            Ok(())
        } else {
            transaction.commit().await
        }
    }
}

async fn rows(transaction: &mut Transaction, products: &[Product]) -> sqlx::Result<Imported> {
    let mut imported = Imported::default();
    let rows = product_rows(products);
    let new = transaction.run(&statement!("add_products.sql"), &rows).await?;
    let changed = transaction.run(&statement!("change_products.sql"), &rows).await?;
    imported.products = Tally { new, changed, unchanged: products.len() as u64 - new - changed };
    let rows = membership_rows(products);
    transaction.run(&statement!("leave_categories.sql"), &rows).await?;
    transaction.run(&statement!("enter_categories.sql"), &rows).await?;
    let rows = variant_rows(products);
    let all = rows.as_array().map_or(0, Vec::len) as u64;
    let new = transaction.run(&statement!("add_variants.sql"), &rows).await?;
    let changed = transaction.run(&statement!("change_variants.sql"), &rows).await?;
    imported.variants = Tally { new, changed, unchanged: all - new - changed };
    imported.stock = transaction.run(&statement!("set_units.sql"), &rows).await?;
    transaction.run(&statement!("open_units.sql"), &rows).await?;
    Ok(imported)
}

/// A brand sells in one currency for ever: its orders are in it.
fn refuse_other_currencies(records: &mut Records, known: &HashMap<String, String>) {
    let others: BTreeMap<Brand, (u64, String)> = records
        .brands
        .iter()
        .filter_map(|(brand, (currency, line))| {
            let known = known.get(brand.as_str()).filter(|known| *known != currency.as_str())?;
            Some((
                brand.clone(),
                (*line, format!("is {currency}, but this brand sells in {known} in this database")),
            ))
        })
        .collect();
    for (brand, (line, reason)) in others {
        records.refuse(line, "currency", reason);
        let of_brand: Vec<u64> = records
            .products
            .iter()
            .filter(|product| product.brand == brand && product.line != line)
            .map(|product| product.line)
            .collect();
        for line in of_brand {
            records.refuse(line, "currency", "is not what this brand sells in in this database");
        }
        records.products.retain(|product| product.brand != brand);
    }
}

/// A brand that is not there can be made only with its currency, which a line of its own or a price says.
fn refuse_unknown_brands(records: &mut Records, known: &HashMap<String, String>) {
    const REASON: &str = "is not in this database, and nothing in the file says its currency";
    let Records { categories, products, refused, .. } = records;
    let mut refuse = |line| {
        refused.push(Refusal { line, field: "brand".to_owned(), reason: REASON.to_owned() });
    };
    categories.retain(|(brand, _), category| {
        let is_known = known.contains_key(brand.as_str());
        category.line.filter(|_| !is_known).into_iter().for_each(&mut refuse);
        is_known
    });
    products.retain(|product| {
        let is_known = known.contains_key(product.brand.as_str());
        if !is_known {
            refuse(product.line);
        }
        is_known
    });
}

fn category_rows(categories: &BTreeMap<(Brand, Code), Category>) -> Value {
    let rows = categories.iter().map(|((brand, code), category)| {
        json!({
            "brand": brand.as_str(), "category": code.as_str(),
            "parent": category.parent.iter().flatten().next().map(Code::as_str), "sets_parent": category.parent.is_some(),
            "names": category.names, "position": category.position,
        })
    });
    rows.collect()
}

/// A product's row; what is `None` is not spoken of.
#[derive(Serialize)]
struct ProductRow<'a> {
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

fn product_rows<'a>(products: &'a [Product]) -> Vec<ProductRow<'a>> {
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

fn variant_rows(products: &[Product]) -> Value {
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
