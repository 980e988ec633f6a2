//! Writes the catalogue as JSON Lines that `import` reads. Importing an export changes nothing.

use std::collections::HashMap;
use std::io::{self, Write};

use bridge_protocol::domain::catalogue::EntityKind;
use bridge_protocol::domain::{Brand, UnixMicros};
use bridge_protocol::feed::Row;
use bridge_protocol::wire::catalogue::{BrandRow, CategoryRow, Localised, ProductRow, StockRow};
use prost::Message as _;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Catalogue, CatalogueError};
use crate::database::on_database;

const BRANDS: &str = "SELECT brand FROM brands ORDER BY brand";

/// Rows of one read.
const ROWS_AT_ONCE: usize = 500;

/// Reasons why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database failed.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The output cannot be written: the disk failed, or the reader of standard output has gone.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
}

impl Catalogue {
    /// Returns all brands.
    ///
    /// # Errors
    ///
    /// Fails if the database is not available or the login lacks a right.
    pub async fn brands(&self) -> Result<Vec<Brand>, CatalogueError> {
        let names: Vec<String> = on_database!(self.database, database =>
            sqlx::query_scalar(BRANDS).fetch_all(&database.pool).await?);
        Ok(names.iter().filter_map(|name| Brand::new(name).ok()).collect())
    }

    /// Writes the catalogue of these brands and returns the number of products. Stock is read
    /// before the products, so its numbers are those of that moment.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read or `out` cannot be written.
    pub async fn export(
        &self,
        brands: &[Brand],
        out: &mut impl Write,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, ExportError> {
        // Stock comes after the products in the order of keys, but the line of each product needs
        // its stock. So a first pass reads the stock.
        let mut units: HashMap<(Brand, String), i64> = HashMap::new();
        self.each(brands, |Row { key, row }| {
            if let (EntityKind::Stock, Some(Ok(stock))) = (key.kind, row.map(StockRow::decode)) {
                units.insert((key.brand, key.code.as_str().to_owned()), stock.available);
            }
            Ok(())
        })
        .await?;
        let mut products = 0;
        self.each(brands, |row| {
            if let Some(line) = line(&row, &units) {
                serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
            }
            if row.key.kind == EntityKind::Product {
                products += 1;
                progress(products);
            }
            Ok(())
        })
        .await?;
        out.flush()?;
        Ok(products)
    }

    async fn each(
        &self,
        brands: &[Brand],
        mut take: impl FnMut(Row) -> io::Result<()>,
    ) -> Result<(), ExportError> {
        let mut after = None;
        loop {
            let (rows, last) = self.page(brands, after.as_ref(), ROWS_AT_ONCE).await?;
            after = rows.last().map(|row| row.key.clone()).or(after);
            rows.into_iter().try_for_each(&mut take)?;
            if last {
                return Ok(());
            }
        }
    }
}

/// One line of the file. The document is written as the database has it, so that its numbers keep
/// every digit.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    members: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Box<RawValue>>,
}

fn line(Row { key, row }: &Row, units: &HashMap<(Brand, String), i64>) -> Option<Line> {
    let (brand, code, row) = (key.brand.as_str(), key.code.as_str(), row.clone()?);
    let mut document = None;
    let members = match key.kind {
        EntityKind::Brand => json!({"brand": brand, "currency": BrandRow::decode(row).ok()?.currency}),
        EntityKind::Category => {
            let CategoryRow { parent, names, position } = CategoryRow::decode(row).ok()?;
            json!({"brand": brand, "category": code, "parent": parent, "names": texts(&names), "position": position})
        }
        EntityKind::Product => {
            let row = ProductRow::decode(row).ok()?;
            document = serde_json::from_slice(&row.document).ok();
            let moment = |micros: Option<i64>| micros.map(|micros| UnixMicros::new(micros).to_string());
            let variants = row.variants.iter().map(|variant| {
                let options: Map<String, Value> =
                    variant.options.iter().map(|option| (option.name.clone(), json!(option.value))).collect();
                json!({
                    "sku": variant.sku, "options": options,
                    "price": {"amount": variant.price, "currency": row.currency},
                    "quantity": units.get(&(key.brand.clone(), variant.sku.clone())),
                })
            });
            json!({
                "brand": brand, "product": code, "names": texts(&row.names), "descriptions": texts(&row.descriptions),
                "images": row.images, "categories": row.categories,
                "published_from": moment(row.published_from_micros), "published_until": moment(row.published_until_micros),
                "variants": variants.collect::<Vec<_>>(),
            })
        }
        EntityKind::Stock => return None,
    };
    let Value::Object(members) = members else { return None };
    Some(Line { members, document })
}

fn texts(texts: &[Localised]) -> Map<String, Value> {
    texts.iter().map(|one| (one.locale.clone(), json!(one.text))).collect()
}
