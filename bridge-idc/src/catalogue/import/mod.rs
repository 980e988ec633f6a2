//! Brings a catalogue into the database: from JSON Lines, or from CSV under a mapping of its columns.
//!
//! A file is read and checked whole, then written part by part. What is wrong is refused by line and field, and the rest is
//! imported; a second import of the same file changes nothing.

/// What a file says, checked.
pub mod record;

/// Which column is which field.
pub mod mapping;

/// One object a line.
mod json_lines;

/// One row a variant.
mod csv_rows;

/// Into the database.
mod write;

use std::collections::HashSet;

use bridge_protocol::domain::catalogue::Code;
use bridge_protocol::domain::{Brand, Sku};

use self::mapping::Mapping;
use self::record::{Product, Records, Refusal, Variant};
use self::write::{Failed, Writer};
use super::{Catalogue, CatalogueError};

/// Products in one transaction: short enough that no order waits for it.
const PRODUCTS_AT_ONCE: usize = 1_000;

/// Bytes that the tables take of a column, as JSON.
const TEXTS_BYTES_MAX: usize = 16_384;
const DESCRIPTIONS_BYTES_MAX: usize = 262_144;
const IMAGES_BYTES_MAX: usize = 65_536;
const OPTIONS_BYTES_MAX: usize = 4_096;

/// How a file is imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Do everything, and take it back at the end.
    pub dry_run: bool,
    /// Import nothing if anything is refused.
    pub all_or_nothing: bool,
}

/// How many rows of a kind were new, changed, and the same as before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that were not there.
    pub new: u64,
    /// Rows that are otherwise now.
    pub changed: u64,
    /// Rows that were so already.
    pub unchanged: u64,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Brands that were new.
    pub brands: u64,
    /// Categories.
    pub categories: Tally,
    /// Products.
    pub products: Tally,
    /// Variants.
    pub variants: Tally,
    /// SKUs whose units are others now.
    pub stock: u64,
    /// What was not imported, by line.
    pub refused: Vec<Refusal>,
    /// Whether it was kept: not after a dry run, nor when all was wanted and something refused.
    pub kept: bool,
}

impl Imported {
    fn add(&mut self, other: &Self) {
        let add = |to: &mut Tally, from: &Tally| {
            to.new += from.new;
            to.changed += from.changed;
            to.unchanged += from.unchanged;
        };
        add(&mut self.products, &other.products);
        add(&mut self.variants, &other.variants);
        self.stock += other.stock;
    }
}

/// A file, read and checked.
#[derive(Debug)]
pub struct CatalogueFile(Records);

impl CatalogueFile {
    /// Reads JSON Lines.
    pub fn json_lines(bytes: &[u8]) -> Self {
        Self::checked(json_lines::read(bytes))
    }

    /// Reads CSV with a header.
    pub fn csv(bytes: &[u8], mapping: &Mapping) -> Self {
        Self::checked(csv_rows::read(bytes, mapping))
    }

    /// Products that are right so far.
    pub fn len(&self) -> usize {
        self.0.products.len()
    }

    /// Whether nothing in it is right.
    pub fn is_empty(&self) -> bool {
        self.0.products.is_empty() && self.0.categories.is_empty() && self.0.brands.is_empty()
    }

    /// What can only be said of the whole file: products and SKUs that are in it twice, and what is too large.
    fn checked(mut records: Records) -> Self {
        let mut products: HashSet<(Brand, Code)> = HashSet::new();
        let mut skus: HashSet<(Brand, Sku)> = HashSet::new();
        let mut refused = Vec::new();
        let mut refuse = |line, field: &str, reason: String| {
            refused.push(Refusal { line, field: field.to_owned(), reason });
        };
        records.products.retain_mut(|product| {
            let line = product.line;
            if !products.insert((product.brand.clone(), product.product.clone())) {
                refuse(line, "product", "is on an earlier line already".to_owned());
                return false;
            }
            if let Some((field, max)) = too_large(product) {
                refuse(line, field, format!("must be {max} bytes at most"));
                return false;
            }
            if product
                .published_from
                .flatten()
                .zip(product.published_until.flatten())
                .is_some_and(|(from, until)| from >= until)
            {
                refuse(line, "published_until", "must be later than published_from".to_owned());
                return false;
            }
            let had_variants = !product.variants.is_empty();
            product.variants.retain(|variant| {
                let is_new = skus.insert((product.brand.clone(), variant.sku.clone()));
                if !is_new {
                    refuse(variant.line, "sku", "is there already in this file".to_owned());
                }
                is_new
            });
            // With nothing left to order it is not what the file meant.
            !had_variants || !product.variants.is_empty()
        });
        records.refused.extend(refused);
        Self(records)
    }
}

/// Gives variants their places in the file's order: those that they have, if these are in that order. A file that names
/// some of a product's variants leaves them where they are.
fn give_places(variants: &mut [Variant], places: &[Option<i32>]) {
    let standing =
        variants.iter().zip(places).map(|(variant, place)| place.map(|place| (place, &variant.sku)));
    let standing: Option<Vec<_>> = standing.collect();
    let in_order = standing.is_some_and(|standing| standing.is_sorted());
    for ((variant, place), index) in variants.iter_mut().zip(places).zip(0..) {
        variant.position = place.filter(|_| in_order).unwrap_or(index);
    }
}

/// The field of a product that its table would not take, and what it takes.
fn too_large(product: &Product) -> Option<(&'static str, usize)> {
    let texts = |texts: &Option<record::Texts>| texts.as_ref().map_or(0, record::bytes_of);
    let images = product.images.iter().flatten().map(|image| image.len() + 4).sum::<usize>();
    let options = product.variants.iter().map(|variant| texts(&variant.options)).max().unwrap_or(0);
    [
        ("names", texts(&product.names), TEXTS_BYTES_MAX),
        ("descriptions", texts(&product.descriptions), DESCRIPTIONS_BYTES_MAX),
        ("images", images, IMAGES_BYTES_MAX),
        ("options", options, OPTIONS_BYTES_MAX),
    ]
    .into_iter()
    .find_map(|(field, bytes, max)| (bytes > max).then_some((field, max)))
}

impl Catalogue {
    /// Imports a file. `progress` is told how many products have been looked at, now and then.
    ///
    /// Errors when the database does not answer; what was written before that stays, and importing again is safe.
    pub async fn import(
        &self,
        file: CatalogueFile,
        options: Options,
        mut progress: impl FnMut(usize),
    ) -> Result<Imported, CatalogueError> {
        let CatalogueFile(mut records) = file;
        let mut writer = Writer::new(&self.pools, options.dry_run || options.all_or_nothing);
        writer.prepare(&mut records).await?;
        let Records { products, mut refused, .. } = records;
        let mut done = 0;
        let mut products = products.into_iter();
        // Halves of a part in which a row breaks a rule, the first on top.
        let mut halves: Vec<Vec<Product>> = Vec::new();
        loop {
            let next = || products.by_ref().take(PRODUCTS_AT_ONCE).collect();
            let mut part: Vec<Product> = halves.pop().unwrap_or_else(next);
            if part.is_empty() {
                break;
            }
            let owners = writer.owners(&part).await?;
            part.retain_mut(|product| {
                let had_variants = !product.variants.is_empty();
                let mut places = Vec::with_capacity(product.variants.len());
                product.variants.retain(|variant| {
                    let key = (product.brand.as_str().to_owned(), variant.sku.as_str().to_owned());
                    let owner = owners.get(&key);
                    let is_free = owner.is_none_or(|(owner, _)| owner == product.product.as_str());
                    if !is_free {
                        let reason = "is a variant of another product in this database".to_owned();
                        refused.push(Refusal { line: variant.line, field: "sku".to_owned(), reason });
                    }
                    if is_free {
                        places.push(owner.map(|(_, place)| *place));
                    }
                    is_free
                });
                give_places(&mut product.variants, &places);
                !had_variants || !product.variants.is_empty()
            });
            match writer.write(&part).await {
                Ok(()) => {
                    done += part.len();
                    progress(done);
                }
                Err(Failed::Database(error)) => return Err(error.into()),
                Err(Failed::Rule) if part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    halves.extend([second, part]);
                }
                Err(Failed::Rule) => {
                    let line = part.first().map_or(0, |product| product.line);
                    let reason = "breaks a rule of the database's tables".to_owned();
                    refused.push(Refusal { line, field: String::new(), reason });
                }
            }
        }
        refused.sort_by_key(|refusal| refusal.line);
        let kept = !options.dry_run && (refused.is_empty() || !options.all_or_nothing);
        let imported = writer.finish(kept).await?;
        Ok(Imported { refused, kept, ..imported })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sku_or_product_that_is_twice_in_a_file_is_refused_where_it_comes_again() {
        let line = |product: &str, sku: &str| {
            format!(
                "{{\"brand\": \"tea\", \"product\": \"{product}\", \"variants\": [{{\"sku\": \"{sku}\", \"price\": {{\"amount\": 1, \"currency\": \"KRW\"}}}}]}}\n"
            )
        };
        let file =
            CatalogueFile::json_lines([line("A", "1"), line("B", "1"), line("A", "2")].concat().as_bytes());
        let refused: Vec<_> = file.0.refused.iter().map(|one| (one.line, one.field.as_str())).collect();
        assert_eq!(refused, [(2, "sku"), (3, "product")]);
        assert_eq!(file.len(), 1, "a product goes with the last of its variants");
    }

    #[test]
    fn what_no_table_would_take_is_refused_by_its_field() {
        let line = format!(
            "{{\"brand\": \"tea\", \"product\": \"A\", \"names\": {{\"ko\": \"{}\"}}}}\n",
            "x".repeat(TEXTS_BYTES_MAX)
        );
        let file = CatalogueFile::json_lines(line.as_bytes());
        assert_eq!(file.0.refused[0].to_string(), "line 1: names: must be 16384 bytes at most");
    }
}
