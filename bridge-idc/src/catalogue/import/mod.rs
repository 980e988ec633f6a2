//! Imports a catalogue into the database, from JSON Lines or from CSV with a mapping of its
//! columns.
//!
//! A file is read and checked as a whole, then written in parts. Each mistake is refused by line
//! and field, and the rest is imported. A second import of the same file changes nothing. No lock
//! is held between two parts. Checks of the whole file only read.

/// The checked content of a file.
pub mod record;

/// Maps columns of a CSV file to fields.
pub mod mapping;

/// Reads JSON Lines: one object a line.
mod json_lines;

/// Reads CSV: one row a variant.
mod csv_rows;

/// Computes the result of an import without writing.
mod preview;

/// Writes to the database.
mod write;

/// Imports brands, SKUs and stock from a CSV file.
pub mod stock;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use bridge_protocol::domain::catalogue::Code;
use bridge_protocol::domain::{Brand, Sku};
use tokio::time::sleep;

use self::mapping::Mapping;
use self::preview::{ImportFindings, Previewer};
use self::record::{Product, Records, Refusal};
use self::write::{Failed, SetAside, Writer, Written, line_of};
use super::{Catalogue, CatalogueError};
use crate::database::held;
use crate::import_file::parts::{HeldItem, HeldUp, LOOK_AGAIN_AFTER, Part, Parts, Patience, Progress, WAIT};
use crate::import_file::{GivenFile, suspicions};

/// Most products in one transaction. An order waits for at most one such transaction.
const PRODUCTS_AT_ONCE: usize = 1_000;

/// Most bytes of a column as JSON. The tables have the same limits.
const TEXTS_BYTES_MAX: usize = 16_384;
const DESCRIPTIONS_BYTES_MAX: usize = 262_144;
const IMAGES_BYTES_MAX: usize = 65_536;
const OPTIONS_BYTES_MAX: usize = 4_096;

/// Options of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Report the result, and write nothing.
    pub dry_run: bool,
    /// Import nothing if anything is refused: the whole file is checked, also against the database,
    /// before the first write.
    pub all_or_nothing: bool,
    /// Longest wait for rows that another session holds.
    pub wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { dry_run: false, all_or_nothing: false, wait: WAIT }
    }
}

/// The numbers of new, changed and unchanged rows of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that did not exist.
    pub new: u64,
    /// Rows that changed.
    pub changed: u64,
    /// Rows that already had these values.
    pub unchanged: u64,
}

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// New brands.
    pub brands: u64,
    /// Counts of categories.
    pub categories: Tally,
    /// Counts of products.
    pub products: Tally,
    /// Counts of variants.
    pub variants: Tally,
    /// SKUs with a new number of units.
    pub stock: u64,
    /// Refused records, by line.
    pub refused: Vec<Refusal>,
    /// Imported records that look like mistakes.
    pub warned: Vec<Refusal>,
    /// True if the import was written. False after a dry run, and after `all_or_nothing` with a
    /// refusal.
    pub kept: bool,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.new += other.new;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
    }
}

impl Imported {
    /// Adds the findings and sorts them by line.
    fn with(self, found: ImportFindings, kept: bool) -> Self {
        let ImportFindings { mut refused, mut warned } = found;
        refused.sort_by_key(|refusal| refusal.line);
        warned.sort_by_key(|warning| warning.line);
        Self { refused, warned, kept, ..self }
    }

    fn add(&mut self, other: &Self) {
        self.products.add(&other.products);
        self.variants.add(&other.variants);
        self.stock += other.stock;
    }
}

/// Reasons why an import ended early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The database does not answer or cannot work.
    #[error("{left}")]
    Database {
        /// Progress of the import.
        left: ImportRemainder,
        /// The database's error.
        source: CatalogueError,
    },
    /// With `all_or_nothing`, every check passed and a later write was refused: another writer
    /// changed the data meanwhile, or a DBA's own rule on the tables refuses a row.
    #[error("{left}: the database now refuses records that passed the check of the file:{}", listed(refused))]
    Changed {
        /// Progress of the import.
        left: ImportRemainder,
        /// The refused records.
        refused: Vec<Refusal>,
    },
    /// Another session held a needed row for longer than the import waits.
    #[error(
        "{held_up}, and kept it for the {} s of the wait: none of the {products} products that need it, or are in its part, \
         was written. {left}", waited.as_secs()
    )]
    HeldUp {
        /// Progress of the import.
        left: ImportRemainder,
        /// The held row, its line in the file, and its holder.
        held_up: Box<HeldUp>,
        /// Duration of the wait.
        waited: Duration,
        /// Products of the waiting part.
        products: usize,
    },
}

/// The progress of an import that ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportRemainder {
    written: usize,
    of: usize,
}

impl fmt::Display for ImportRemainder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { written, of } = self;
        match written {
            0 => f.write_str("no product of the file is known to be in the database"),
            _ => write!(
                f,
                "{written} of {of} products are in the database; the same command, given again, imports the rest and changes nothing \
                 twice"
            ),
        }
    }
}

impl ImportRemainder {
    fn after(self) -> impl Fn(sqlx::Error) -> ImportError {
        move |error| ImportError::Database { left: self, source: error.into() }
    }
}

fn listed(refused: &[Refusal]) -> String {
    refused.iter().map(|refusal| format!("\n  {refusal}")).collect()
}

/// A file that was read and checked.
#[derive(Debug)]
pub struct CatalogueFile(Records);

impl CatalogueFile {
    /// Reads JSON Lines.
    pub fn json_lines<'a>(given: impl Into<GivenFile<'a>>) -> Self {
        Self::read(given.into(), json_lines::closes, json_lines::read)
    }

    /// Reads CSV with a header.
    pub fn csv<'a>(given: impl Into<GivenFile<'a>>, mapping: &Mapping) -> Self {
        Self::read(given.into(), |_| false, |text| csv_rows::read(text, mapping))
    }

    fn read(given: GivenFile<'_>, closes: impl Fn(&str) -> bool, read: impl Fn(&str) -> Records) -> Self {
        match given.text(closes) {
            Err(refusal) => Self(Records::none(vec![refusal])),
            Ok(text) => {
                let mut records = read(text);
                records.warned.extend(suspicions(text));
                Self::checked(records)
            }
        }
    }

    /// The number of products that passed the checks so far.
    pub fn len(&self) -> usize {
        self.0.products.len()
    }

    /// True if the file has no valid record.
    pub fn is_empty(&self) -> bool {
        self.0.products.is_empty() && self.0.categories.is_empty() && self.0.brands.is_empty()
    }

    /// Checks the whole file: repeated products and SKUs, and values that are too large.
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
                    refuse(variant.line, "sku", "is repeated in this file".to_owned());
                }
                is_new
            });
            // A product that lost all its variants is refused, because nobody could order it.
            !had_variants || !product.variants.is_empty()
        });
        records.refused.extend(refused);
        Self(records)
    }
}

/// Returns the first field of a product that is too large for its table, with the table's limit in
/// bytes.
fn too_large(product: &Product) -> Option<(&'static str, usize)> {
    let texts = |texts: &Option<record::Texts>| texts.as_ref().map_or(0, record::bytes_of);
    let images = product.images.iter().flatten().map(|image| record::bytes_as_json(image) + 2).sum::<usize>();
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
    /// Imports a file. `progress` gets the number of checked products if the whole file is checked
    /// first, then the number of written products, and each held row that the import waits for.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer, if another session holds a needed row for too long,
    /// or if a check that passed before fails at the write (`all_or_nothing`). Written products
    /// stay; importing the file again is safe.
    pub async fn import(
        &self,
        file: CatalogueFile,
        options: Options,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<Imported, ImportError> {
        let CatalogueFile(mut records) = file;
        let of = records.products.len();
        if records.refused_whole {
            return Ok(Imported { refused: records.refused, ..Imported::default() });
        }
        let (previewer, writer) = (Previewer::new(&self.database), Writer::new(&self.database));
        let patience = Patience::new(options.wait);
        let mut writing = Writing { writer, previewer, options, of, written: 0, patience };
        let judged = writing.asked(&mut progress, async || previewer.heads(&mut records).await);
        let mut imported = judged.await?;
        let mut found = ImportFindings {
            refused: std::mem::take(&mut records.refused),
            warned: std::mem::take(&mut records.warned),
        };
        let mut products = std::mem::take(&mut records.products);
        if options.dry_run || options.all_or_nothing {
            let mut right = Vec::with_capacity(products.len());
            let mut parts = Parts::new(products, PRODUCTS_AT_ONCE);
            while let Some(Part { rows: mut part, .. }) = parts.next() {
                let judged =
                    writing.asked(&mut progress, async || previewer.part(&mut part, &mut found).await);
                imported.add(&judged.await?.imported);
                writing.patience.ends();
                right.extend(part);
                progress(Progress::Done(right.len()));
            }
            if options.dry_run || !found.refused.is_empty() {
                return Ok(imported.with(found, false));
            }
            products = right;
        }

        let (brands, categories) = writing.heads(&records, &mut progress).await?;
        let imported = Imported { brands, categories, ..Imported::default() };
        // Boxed, because its future is large.
        Box::pin(writing.products(products, imported, found, &mut progress)).await
    }
}

/// An import that has begun.
struct Writing<'a> {
    writer: Writer<'a>,
    previewer: Previewer<'a>,
    options: Options,
    /// Products in the file.
    of: usize,
    /// Written products.
    written: usize,
    patience: Patience,
}

impl Writing<'_> {
    /// Runs a query, and repeats it while another session holds a table that the query reads.
    async fn asked<T>(
        &mut self,
        progress: &mut impl FnMut(Progress<'_>),
        mut ask: impl AsyncFnMut() -> sqlx::Result<T>,
    ) -> Result<T, ImportError> {
        loop {
            self.patience.tries();
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let met = self.met(error).await?;
                    self.wait(&[], met, progress).await?;
                }
            }
        }
    }

    /// Returns the held item that an error reports. Any other error ends the import.
    async fn met(&self, error: sqlx::Error) -> Result<HeldItem, ImportError> {
        match held(&error) {
            Some(held) => Ok(self.writer.named(held).await),
            None => Err(self.left().after()(error)),
        }
    }

    async fn heads(
        &mut self,
        records: &Records,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<(u64, Tally), ImportError> {
        loop {
            let within = self.patience.tries();
            match self.writer.heads(records, within).await {
                Ok(heads) => {
                    self.patience.ends();
                    return Ok(heads);
                }
                Err(error) => {
                    let met = self.met(error).await?;
                    self.wait(&[], met, progress).await?;
                }
            }
        }
    }

    async fn products(
        mut self,
        products: Vec<Product>,
        mut imported: Imported,
        mut found: ImportFindings,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<Imported, ImportError> {
        let mut parts = Parts::new(products, PRODUCTS_AT_ONCE);
        while let Some(Part { rows: mut part, awaited }) = parts.next() {
            if awaited.is_some() {
                self.patience.begins();
            }
            // After a check of the whole file, this check finds only what changed since.
            let mut new = ImportFindings::default();
            let previewer = self.previewer;
            let judged = self.asked(progress, async || previewer.part(&mut part, &mut new).await).await?;
            self.allow(&new)?;
            let within = self.patience.tries();
            let written = self.writer.part(&mut part, &judged.touched, awaited.as_ref(), within).await;
            let written = match written {
                Err(Failed::Held(met)) => Err(Failed::Held(self.writer.named(met).await)),
                written => written,
            };
            match written {
                Ok(Written { imported: of_part, apart: SetAside { products, on } }) => {
                    imported.add(&of_part);
                    new.forget_warnings_of(&products);
                    if !self.options.all_or_nothing {
                        found.warned.append(&mut new.warned);
                    }
                    if let Some(on) = on {
                        if part.is_empty() && awaited.is_some() {
                            self.wait(&products, on.clone(), progress).await?;
                        }
                        parts.set_apart(products, on);
                    }
                    self.wrote(part.len(), parts.is_over(), progress).await;
                }
                Err(Failed::Held(HeldItem::Unnamed))
                    if part.len() > 1 && !awaited.as_ref().is_some_and(HeldItem::is_a_row) =>
                {
                    parts.halve(part);
                }
                Err(Failed::Held(met)) => {
                    let named = awaited.filter(|_| !matches!(met, HeldItem::Table(_)));
                    let on = named.filter(HeldItem::is_a_row).unwrap_or(met);
                    self.wait(&part, on.clone(), progress).await?;
                    parts.set_apart(part, on);
                }
                Err(Failed::Rule) if part.len() > 1 => parts.halve(part),
                Err(Failed::Rule) => {
                    let line = part.first().map_or(0, |product| product.line);
                    let reason = "breaks a rule of the database's tables".to_owned();
                    new.refused.push(Refusal { line, field: String::new(), reason });
                    self.allow(&new)?;
                }
                Err(Failed::Database(error)) => return Err(self.left().after()(error)),
            }
            found.refused.extend(new.refused);
        }
        Ok(imported.with(found, true))
    }

    /// Fails if the import must be complete and this part has a refusal.
    fn allow(&self, new: &ImportFindings) -> Result<(), ImportError> {
        if self.options.all_or_nothing && !new.refused.is_empty() {
            return Err(ImportError::Changed { left: self.left(), refused: new.refused.clone() });
        }
        Ok(())
    }

    /// Notes that more products are written.
    async fn wrote(&mut self, products: usize, is_over: bool, progress: &mut impl FnMut(Progress<'_>)) {
        if products > 0 {
            self.written += products;
            self.patience.ends();
            progress(Progress::Done(self.written));
            if !is_over {
                self.writer.database.give_way().await;
            }
        }
    }

    /// Waits for a held item. Fails if the import has waited for too long.
    async fn wait(
        &mut self,
        part: &[Product],
        what: HeldItem,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<(), ImportError> {
        let by = self.writer.holder(&what).await;
        // The statement that locks a named row has already waited for it.
        let pause = (!what.is_a_row()).then_some(LOOK_AGAIN_AFTER);
        let held_up = HeldUp { line: line_of(part, &what), what, by };
        let (left, waited) = (self.left(), self.options.wait);
        // Without a part, the whole file needs the item.
        let products = if part.is_empty() { self.of } else { part.len() };
        let over = |held_up| ImportError::HeldUp { left, held_up: Box::new(held_up), waited, products };
        self.patience.goes_on(held_up, progress).map_err(over)?;
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        Ok(())
    }

    fn left(&self) -> ImportRemainder {
        ImportRemainder { written: self.written, of: self.of }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_sku_or_product_in_a_file_is_refused_there() {
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
