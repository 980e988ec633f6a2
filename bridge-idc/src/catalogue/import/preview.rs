//! Computes the result of an import by reading alone. It locks no row, and on SQLite it begins no
//! write, for a file of any length.
//!
//! Each query is a transaction of its own, so nothing is held between two queries. The data may
//! change before the write; the statements that write keep the tables' rules themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::record::{Product, Records, Refusal, Texts, Variant};
use super::write::{CURRENCIES, category_rows, product_rows, variant_rows};
use super::{Imported, Tally};
use crate::database::{AnyRow, Database, Statement, Touched, each, row};
use crate::import_file::leap;
use bridge_protocol::domain::Brand;
use serde_json::{Value, json};

/// Runs queries on a database's connections for reading.
#[derive(Clone, Copy)]
pub(super) struct Previewer<'a> {
    database: &'a Database,
}

/// Findings of the checks.
#[derive(Default)]
pub(super) struct ImportFindings {
    pub(super) refused: Vec<Refusal>,
    pub(super) warned: Vec<Refusal>,
}

impl ImportFindings {
    /// Removes warnings for products that are set aside. They are checked again later.
    pub(super) fn forget_warnings_of(&mut self, products: &[Product]) {
        let is_of = |line| products.iter().any(|of| of.variants.iter().any(|variant| variant.line == line));
        self.warned.retain(|warning| !is_of(warning.line));
    }
}

/// The expected result of a part.
pub(super) struct Preview {
    pub(super) imported: Imported,
    /// The rows that the part would change.
    pub(super) touched: Touched,
}

row! {
    /// A SKU in the database.
    struct ExistingSku {
        brand: String,
        sku: String,
        product: Option<String>,
        position: i32,
        price: i64,
        options: String,
        available: Option<i64>,
    }
}

row! {
    /// A category in the database, and whether the import changes it.
    struct CategoryRow {
        _brand: String,
        _category: String,
        changes: i32,
    }
}

row! {
    /// A product in the database, and whether the import changes it.
    struct ProductRow {
        brand: String,
        product: String,
        changes: i32,
        from: Option<i64>,
        until: Option<i64>,
    }
}

/// SKUs in the database, by brand and SKU.
struct Skus(HashMap<(String, String), ExistingSku>);

impl Skus {
    fn of(&self, product: &Product, variant: &Variant) -> Option<&ExistingSku> {
        self.0.get(&(product.brand.as_str().to_owned(), variant.sku.as_str().to_owned()))
    }
}

/// A product that exists.
struct ExistingProduct {
    changes: bool,
    from: Option<i64>,
    until: Option<i64>,
}

impl ExistingProduct {
    /// True if, with the file's values in place of the present ones, the publication begins before
    /// it ends.
    fn window_fits(&self, new: &Product) -> bool {
        let (from, until) =
            (new.published_from.unwrap_or(self.from), new.published_until.unwrap_or(self.until));
        from.zip(until).is_none_or(|(from, until)| from < until)
    }
}

fn key(product: &Product) -> (String, String) {
    (product.brand.as_str().to_owned(), product.product.as_str().to_owned())
}

impl<'a> Previewer<'a> {
    pub(super) fn new(database: &'a Database) -> Self {
        Self { database }
    }

    /// Checks brands and categories. Refuses records of a brand that sells in another currency, and
    /// of an unknown brand without a currency.
    pub(super) async fn heads(&self, records: &mut Records) -> sqlx::Result<Imported> {
        let known = self.currencies(records).await?;
        let brands = records.brands.keys().filter(|brand| !known.contains_key(brand.as_str())).count() as u64;
        refuse_other_currencies(records, &known);
        refuse_unknown_brands(records, &known);
        let rows = category_rows(&records.categories);
        let there: Vec<CategoryRow> = self.ask(&each!("judge_categories"), &rows).await?;
        let all = records.categories.len() as u64;
        let categories = tally(all, there.iter().map(|row| row.changes != 0));
        Ok(Imported { brands, categories, ..Imported::default() })
    }

    /// Checks some products. Products that cannot be imported are removed from the part. Returns
    /// the expected result.
    pub(super) async fn part(
        &self,
        part: &mut Vec<Product>,
        found: &mut ImportFindings,
    ) -> sqlx::Result<Preview> {
        let skus = self.skus(part).await?;
        part.retain_mut(|product| {
            let is_another_s = |variant: &Variant| {
                let owner = skus.of(product, variant).and_then(|sku| sku.product.as_deref());
                owner.is_some_and(|owner| owner != product.product.as_str())
            };
            let (taken, free): (Vec<Variant>, Vec<Variant>) =
                product.variants.iter().cloned().partition(is_another_s);
            found.refused.extend(taken.iter().map(|variant| {
                let reason = "is a variant of another product in this database".to_owned();
                Refusal { line: variant.line, field: "sku".to_owned(), reason }
            }));
            product.variants = free;
            // A product that lost all its variants is refused, because nobody could order it.
            taken.is_empty() || !product.variants.is_empty()
        });
        let products = self.products(part).await?;
        part.retain(|product| {
            let is_right = products.get(&key(product)).is_none_or(|there| there.window_fits(product));
            if !is_right {
                let reason = "must be later than published_from, which this database has".to_owned();
                let field = "published_until".to_owned();
                found.refused.push(Refusal { line: product.line, field, reason });
            }
            is_right
        });

        let there =
            part.iter().filter_map(|product| Some((key(product), products.get(&key(product))?.changes)));
        let there: Vec<((String, String), bool)> = there.collect();
        let products = tally(part.len() as u64, there.iter().map(|(_, changes)| *changes));
        let mut imported = Imported { products, ..Imported::default() };
        let products = there.into_iter().filter(|(_, changes)| *changes).map(|(key, _)| key).collect();
        let mut touched = Touched { products, ..Touched::default() };
        for product in part {
            let places = product.variants.iter().map(|variant| {
                let standing = skus.of(product, variant)?;
                standing.product.is_some().then_some(standing.position)
            });
            let places: Vec<Option<i32>> = places.collect();
            give_places(&mut product.variants, &places);
            for variant in &product.variants {
                let standing = skus.of(product, variant);
                let tally = judge_variant(product, variant, standing);
                imported.variants.add(&tally);
                let units = standing.and_then(|standing| standing.available);
                let sets_units = variant.quantity.is_some() && variant.quantity != units;
                imported.stock += u64::from(sets_units);
                let sku = || (product.brand.as_str().to_owned(), variant.sku.as_str().to_owned());
                touched.skus.extend((tally.changed > 0).then(sku));
                touched.stock.extend((sets_units && units.is_some()).then(sku));
                let reason = standing.and_then(|standing| leap(standing.price, variant.price.amount()));
                found.warned.extend(reason.map(|reason| Refusal {
                    line: variant.line,
                    field: "price".to_owned(),
                    reason,
                }));
            }
        }
        Ok(Preview { imported, touched })
    }

    async fn skus(&self, part: &[Product]) -> sqlx::Result<Skus> {
        let rows: Vec<ExistingSku> = self.ask(&each!("standing"), &variant_rows(part)).await?;
        let rows =
            rows.into_iter().map(|standing| ((standing.brand.clone(), standing.sku.clone()), standing));
        Ok(Skus(rows.collect()))
    }

    async fn products(&self, part: &[Product]) -> sqlx::Result<HashMap<(String, String), ExistingProduct>> {
        let rows: Vec<ProductRow> = self.ask(&each!("judge_products"), &product_rows(part)).await?;
        let rows = rows.into_iter().map(|ProductRow { brand, product, changes, from, until }| {
            ((brand, product), ExistingProduct { changes: changes != 0, from, until })
        });
        Ok(rows.collect())
    }

    /// Returns the currencies of a file's brands, for the brands that exist.
    async fn currencies(&self, records: &Records) -> sqlx::Result<HashMap<String, String>> {
        let known: Vec<(String, String)> = self.ask(&CURRENCIES, &named_brands(records)).await?;
        Ok(known.into_iter().collect())
    }

    async fn ask<V: AnyRow>(
        &self,
        statement: &Statement,
        rows: &impl serde::Serialize,
    ) -> sqlx::Result<Vec<V>> {
        let rows = serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))?;
        self.database.ask(statement, rows).await
    }
}

/// Counts new, changed and unchanged rows of `all`. Each item of `there` is an existing row: true
/// if it changes.
fn tally(all: u64, there: impl Iterator<Item = bool>) -> Tally {
    let (mut changed, mut unchanged) = (0, 0);
    there.for_each(|changes| if changes { changed += 1 } else { unchanged += 1 });
    Tally { new: all.saturating_sub(changed + unchanged), changed, unchanged }
}

fn judge_variant(product: &Product, variant: &Variant, standing: Option<&ExistingSku>) -> Tally {
    let Some(standing) = standing else { return Tally { new: 1, ..Tally::default() } };
    let is_same_options = variant.options.as_ref().is_none_or(|options| {
        serde_json::from_str::<Texts>(&standing.options).is_ok_and(|before| before == *options)
    });
    let is_same = is_same_options
        && standing.product.as_deref() == Some(product.product.as_str())
        && (standing.position, standing.price) == (variant.position, variant.price.amount());
    tally(1, [!is_same].into_iter())
}

/// Gives variants their positions in the order of the file. They keep their present positions if
/// these are already in that order. So a file that names only some of a product's variants does not
/// move them.
fn give_places(variants: &mut [Variant], places: &[Option<i32>]) {
    let standing =
        variants.iter().zip(places).map(|(variant, place)| place.map(|place| (place, &variant.sku)));
    let standing: Option<Vec<_>> = standing.collect();
    let in_order = standing.is_some_and(|standing| standing.is_sorted());
    for ((variant, place), index) in variants.iter_mut().zip(places).zip(0..) {
        variant.position = place.filter(|_| in_order).unwrap_or(index);
    }
}

/// Returns every brand that a file names.
fn named_brands(records: &Records) -> Value {
    let named: BTreeSet<&str> = (records.brands.keys())
        .chain(records.categories.keys().map(|(brand, _)| brand))
        .chain(records.products.iter().map(|product| &product.brand))
        .map(Brand::as_str)
        .collect();
    named.into_iter().map(|brand| json!({"brand": brand})).collect()
}

/// Refuses records that give a brand another currency than the database has. A brand's currency
/// never changes, because its orders are in it.
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
        records.brands.remove(&brand);
        records.refuse(line, "currency", reason);
        let of_brand: Vec<u64> = records
            .products
            .iter()
            .filter(|product| product.brand == brand && product.line != line)
            .map(|product| product.line)
            .collect();
        for line in of_brand {
            records.refuse(line, "currency", "is not this brand's currency in this database");
        }
        records.products.retain(|product| product.brand != brand);
    }
}

/// Refuses records of an unknown brand. A brand is created only with its currency, from a line of
/// its own or from a price.
fn refuse_unknown_brands(records: &mut Records, known: &HashMap<String, String>) {
    const REASON: &str = "is not in this database, and nothing in the file says its currency";
    let Records { brands, categories, products, refused, .. } = records;
    let is_known = |brand: &Brand| known.contains_key(brand.as_str()) || brands.contains_key(brand);
    let mut refuse = |line| {
        refused.push(Refusal { line, field: "brand".to_owned(), reason: REASON.to_owned() });
    };
    categories.retain(|(brand, _), category| {
        let is_known = is_known(brand);
        category.line.filter(|_| !is_known).into_iter().for_each(&mut refuse);
        is_known
    });
    products.retain(|product| {
        let is_known = is_known(&product.brand);
        if !is_known {
            refuse(product.line);
        }
        is_known
    });
}
