//! Imports brands, SKUs and stock from a CSV file with the header
//! `brand,sku,unit_price,currency,quantity`.
//!
//! The whole file is checked before the first write, by itself and against the database. If a row
//! is wrong, every wrong row is reported and nothing is imported. The rows are then written in
//! parts, so no order waits for more than one part. Rows that another session holds come last: the
//! import waits for them without holding anything else.

/// The statements that an import needs.
mod statements;

/// The statements on PostgreSQL.
mod postgres;

/// The statements on SQLite.
mod sqlite;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bridge_protocol::domain::{Brand, Currency, Money, Sku};
use csv::StringRecord;
use serde_json::json;
use tokio::time::sleep;

use self::statements::{ForSaleRow, PriceRow, SaleStatements as _};
use crate::database::{Database, Ends as _, LedgerError, Statement, Transaction, each, held};
use crate::decimal;
use crate::import_file::parts::{HeldItem, HeldUp, LOOK_AGAIN_AFTER, Part, Parts, Patience, Progress};
use crate::import_file::table::{Row as Fields, Table};
use crate::import_file::{GivenFile, Refusal, SPREADSHEET_S, is_spreadsheet_s, leap, suspicions};
use crate::orders::store::{self, Ledger};

const HEADER: [&str; 5] = ["brand", "sku", "unit_price", "currency", "quantity"];

/// Most units of one SKU.
const QUANTITY_MAX: i64 = 1_000_000_000_000;

/// Most rows in one transaction. An order waits for at most one such transaction.
const PART: usize = 2_500;

/// The checked rows of a file.
#[derive(Debug)]
pub struct StockFile {
    rows: Vec<Row>,
    /// The currency of each brand, and the line that named it first.
    brands: BTreeMap<Brand, (Currency, u64)>,
    /// Rows that look like mistakes.
    warned: Vec<Refusal>,
}

#[derive(Debug)]
struct Row {
    line: u64,
    brand: Brand,
    sku: Sku,
    price: Money,
    quantity: i64,
}

/// The result of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// New brands.
    pub brands: u64,
    /// New SKUs.
    pub skus_new: u64,
    /// Existing SKUs that now have the file's price and quantity.
    pub skus_updated: u64,
}

/// Reasons why nothing, or not everything, was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// These rows are wrong.
    #[error("nothing is imported, correct this first:{}", listed(.0))]
    Mistakes(Vec<Refusal>),
    /// The database failed before the first write.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The database failed after some rows were written.
    #[error("{written} of {of} rows are in the database; {AGAIN}")]
    Interrupted {
        /// Written rows.
        written: usize,
        /// Rows of the file.
        of: usize,
        /// The database's error.
        source: LedgerError,
    },
    /// Another session held a needed row for longer than the import waits.
    #[error(
        "{held_up}, and kept it for the {} s of the wait: none of the {rows} rows that need it, or are in its part, was \
         written. {written} of {of} rows are in the database; {AGAIN}", waited.as_secs()
    )]
    HeldUp {
        /// The held row, its line in the file, and its holder.
        held_up: Box<HeldUp>,
        /// Duration of the wait.
        waited: Duration,
        /// Rows of the waiting part.
        rows: usize,
        /// Written rows.
        written: usize,
        /// Rows of the file.
        of: usize,
    },
}

/// Advice after an import that ended early.
const AGAIN: &str = "the same command, given again, imports the rest and writes the other rows once more";

impl StockFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// Fails with every mistake, or with one refusal of the whole file.
    pub fn read<'a>(given: impl Into<GivenFile<'a>>) -> Result<Self, ImportError> {
        let wrong = |refusal| ImportError::Mistakes(vec![refusal]);
        let text = given.into().text(|_| false).map_err(wrong)?;
        let table = Table::of(text).map_err(wrong)?;
        if table.header != *HEADER.as_slice() {
            let reason = format!("the header must be {}", HEADER.join(","));
            return Err(wrong(Refusal { line: 1, field: String::new(), reason }));
        }
        let mut checker = Checker { warned: suspicions(text), ..Checker::default() };
        let mut malformed = Vec::new();
        table
            .read(
                |Fields { line, fields }| checker.row(line, &fields),
                |line, reason| malformed.push(Refusal { line, field: String::new(), reason }),
            )
            .map_err(wrong)?;
        checker.mistakes.extend(malformed);
        checker.finish()
    }

    /// The number of SKUs in the file.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if the file names no SKU. Reading refuses such a file.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

const PRICES: Statement = each!("prices");

impl Ledger {
    /// Returns the file's rows that look like mistakes, also in comparison with the database. It
    /// waits up to `wait` for a table that another session has locked.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer, or if a table stays locked for longer than `wait`.
    pub async fn doubts(
        &self,
        file: &StockFile,
        wait: Duration,
        mut progress: impl FnMut(Progress<'_>) + Send,
    ) -> Result<Vec<Refusal>, ImportError> {
        let mut waiting = ImportWait::of(self.database(), file, wait);
        let mut warned = file.warned.clone();
        for part in file.rows.chunks(PART) {
            let keys = part.iter().map(|row| json!([row.brand.as_str(), row.sku.as_str()]));
            let keys = serde_json::Value::from_iter(keys).to_string();
            // These queries only read and lock nothing.
            let prices = loop {
                waiting.patience.tries();
                match self.database().ask::<PriceRow>(&PRICES, keys.clone()).await {
                    Ok(prices) => break prices,
                    Err(error) => waiting.for_all(error, &mut progress).await?,
                }
            };
            waiting.patience.ends();
            let prices = prices.into_iter().map(|PriceRow { brand, sku, price }| ((brand, sku), price));
            let prices: HashMap<(String, String), i64> = prices.collect();
            warned.extend(part.iter().filter_map(|row| {
                let before = prices.get(&(row.brand.as_str().to_owned(), row.sku.as_str().to_owned()))?;
                let reason = leap(*before, row.price.amount())?;
                Some(Refusal { line: row.line, field: HEADER[2].to_owned(), reason })
            }));
        }
        warned.sort_by_key(|warning| warning.line);
        Ok(warned)
    }

    /// Imports a file in parts. An existing SKU gets the file's price, and the file's quantity
    /// becomes its available units. Sold units stay sold. The import waits up to `wait` for rows
    /// that another session holds.
    ///
    /// `progress` gets the number of written SKUs from time to time, and each held row that the
    /// import waits for.
    ///
    /// # Errors
    ///
    /// Fails if a brand has another currency in the database, if the database does not answer, or
    /// if another session holds a needed row for longer than `wait`. Written rows stay; importing
    /// the file again is safe.
    pub async fn import_stock(
        &self,
        file: &StockFile,
        wait: Duration,
        mut progress: impl FnMut(Progress<'_>) + Send,
    ) -> Result<Imported, ImportError> {
        let waiting = ImportWait::of(self.database(), file, wait);
        Box::pin(Import { file, waiting }.run(&mut progress)).await
    }
}

/// An import that has begun.
struct Import<'a> {
    file: &'a StockFile,
    waiting: ImportWait<'a>,
}

/// Progress of an import, and the time it has waited.
struct ImportWait<'a> {
    database: &'a Database,
    waits: Duration,
    patience: Patience,
    /// Written rows.
    written: usize,
    /// Rows of the file.
    of: usize,
}

/// The result of a part.
struct Written<'a> {
    /// The number of written rows.
    rows: usize,
    /// The number of new SKUs in the part.
    new: u64,
    /// Rows of the part that another session holds.
    held: Vec<&'a Row>,
}

impl<'a> Import<'a> {
    async fn run(
        mut self,
        progress: &mut (impl FnMut(Progress<'_>) + Send),
    ) -> Result<Imported, ImportError> {
        let brands = loop {
            let within = self.waiting.patience.tries();
            match self.brands(within).await {
                Err(Failed::Database(error)) => self.waiting.for_all(error, progress).await?,
                Err(Failed::Import(error)) => return Err(error),
                Ok(brands) => break brands,
            }
        };
        self.waiting.patience.ends();
        // Sorted by SKU, so that two imports add rows in the same order and cannot deadlock.
        let mut rows: Vec<&Row> = self.file.rows.iter().collect();
        rows.sort_unstable_by_key(|row| (row.brand.as_str(), row.sku.as_str()));
        let (all, mut skus_new, mut parts) = (rows.len(), 0, Parts::new(rows, PART));
        while let Some(Part { rows, awaited }) = parts.next() {
            if awaited.is_some() {
                self.waiting.patience.begins();
            }
            let within = self.waiting.patience.tries();
            match write(self.waiting.database, &rows, awaited.as_ref(), within).await {
                Ok(Written { rows: written, new, held }) => {
                    skus_new += new;
                    if let Some(first) = held.first() {
                        let on = first.held();
                        if written == 0 && awaited.is_some() {
                            self.waiting.wait_for(first.line, on.clone(), held.len(), progress).await?;
                        }
                        parts.set_apart(held, on);
                    }
                    self.waiting.wrote(written, parts.is_over(), progress).await;
                }
                Err(error) => match self.waiting.met(error).await? {
                    HeldItem::Unnamed
                        if rows.len() > 1 && !awaited.as_ref().is_some_and(HeldItem::is_a_row) =>
                    {
                        parts.halve(rows)
                    }
                    table @ HeldItem::Table(_) => {
                        self.waiting.wait_for(0, table.clone(), rows.len(), progress).await?;
                        parts.set_apart(rows, table);
                    }
                    met => {
                        let on = awaited.filter(HeldItem::is_a_row).unwrap_or(met);
                        let row = rows.iter().find(|row| row.held() == on).or(rows.first());
                        if let Some(row) = row {
                            self.waiting.wait_for(row.line, on.clone(), rows.len(), progress).await?;
                        }
                        parts.set_apart(rows, on);
                    }
                },
            }
        }
        Ok(Imported { brands, skus_new, skus_updated: all as u64 - skus_new })
    }

    /// Adds the brands. Returns the number of new ones.
    async fn brands(&self, within: Duration) -> Result<u64, Failed> {
        let mut transaction = self.waiting.database.begin_import(within).await?;
        let brands: Vec<(&str, &str)> = (self.file.brands.iter())
            .map(|(brand, (currency, _))| (brand.as_str(), currency.as_str()))
            .collect();
        let new = transaction.add_brands(&brands).await?;
        // If a currency is wrong, the rollback also removes the new brands.
        check_currencies(&mut transaction, self.file).await?;
        transaction.commit().await?;
        Ok(new)
    }
}

impl<'a> ImportWait<'a> {
    fn of(database: &'a Database, file: &StockFile, wait: Duration) -> Self {
        Self { database, waits: wait, patience: Patience::new(wait), written: 0, of: file.rows.len() }
    }

    /// Notes that more rows are written.
    async fn wrote(&mut self, rows: usize, is_over: bool, progress: &mut (impl FnMut(Progress<'_>) + Send)) {
        if rows == 0 {
            return;
        }
        self.written += rows;
        self.patience.ends();
        progress(Progress::Done(self.written));
        if !is_over {
            self.database.give_way().await;
        }
    }

    /// Returns the held item that an error reports. Any other error ends the import.
    async fn met(&self, error: sqlx::Error) -> Result<HeldItem, ImportError> {
        match held(&error) {
            Some(held) => Ok(self.database.named(held).await),
            None => Err(self.interrupted(error)),
        }
    }

    /// Waits for an item that the whole file needs, if the error reports one.
    async fn for_all(
        &mut self,
        error: sqlx::Error,
        progress: &mut (impl FnMut(Progress<'_>) + Send),
    ) -> Result<(), ImportError> {
        let met = held(&error).ok_or_else(|| LedgerError::from(error))?;
        let what = self.database.named(met).await;
        self.wait_for(0, what, self.of, progress).await
    }

    /// Waits for an item that one line needs, or the whole file, unless the import has waited for
    /// too long.
    async fn wait_for(
        &mut self,
        line: u64,
        what: HeldItem,
        rows: usize,
        progress: &mut (impl FnMut(Progress<'_>) + Send),
    ) -> Result<(), ImportError> {
        let by = self.database.holder(&what).await;
        // The statement that locks a named row has already waited for it.
        let pause = (!what.is_a_row()).then_some(LOOK_AGAIN_AFTER);
        let held_up = HeldUp { line, what, by };
        let (waited, written, of) = (self.waits, self.written, self.of);
        let over = |held_up| ImportError::HeldUp { held_up: Box::new(held_up), waited, rows, written, of };
        self.patience.goes_on(held_up, progress).map_err(over)?;
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        Ok(())
    }

    fn interrupted(&self, error: sqlx::Error) -> ImportError {
        ImportError::Interrupted { written: self.written, of: self.of, source: error.into() }
    }
}

/// Reasons why the brands were not added.
enum Failed {
    Database(sqlx::Error),
    Import(ImportError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Writes a part without the rows that another session holds.
async fn write<'a>(
    database: &Database,
    rows: &[&'a Row],
    awaited: Option<&HeldItem>,
    within: Duration,
) -> sqlx::Result<Written<'a>> {
    let mut transaction = database.begin_import(within).await?;
    match write_in(&mut transaction, rows, awaited).await {
        Ok(written) if written.rows > 0 => transaction.commit().await.map(|()| written),
        ended => {
            transaction.give_up().await;
            ended
        }
    }
}

async fn write_in<'a>(
    transaction: &mut Transaction,
    rows: &[&'a Row],
    awaited: Option<&HeldItem>,
) -> sqlx::Result<Written<'a>> {
    transaction.wait_for_sale(awaited).await?;
    let all: Vec<ForSaleRow<'_>> = rows.iter().map(|row| row.for_sale()).collect();
    let held = transaction.lock_for_sale(&all).await?;
    let is_held =
        |row: &&'a Row| held.contains(&(row.brand.as_str().to_owned(), row.sku.as_str().to_owned()));
    let (held, free): (Vec<&Row>, Vec<&Row>) = rows.iter().copied().partition(is_held);
    if free.is_empty() {
        return Ok(Written { rows: 0, new: 0, held });
    }
    let free: Vec<ForSaleRow<'_>> = free.into_iter().map(Row::for_sale).collect();
    let new = transaction.add_skus(&free).await?;
    transaction.set_stock(&free).await?;
    transaction.set_prices(&free).await?;
    Ok(Written { rows: free.len(), new, held })
}

/// Fails if the file gives a brand another currency than the database has. A brand's currency never
/// changes, because its orders are in it.
async fn check_currencies(transaction: &mut Transaction, file: &StockFile) -> Result<(), Failed> {
    let names: Vec<&str> = file.brands.keys().map(Brand::as_str).collect();
    let mut mistakes = Vec::new();
    for row in transaction.brands(&names).await? {
        let (brand, known) = store::brand(row).map_err(|error| Failed::Import(error.into()))?;
        if let Some((currency, line)) = file.brands.get(&brand).filter(|(currency, _)| *currency != known) {
            let reason = format!("is {currency}, but {brand} sells in {known} in this ledger");
            mistakes.push(Refusal { line: *line, field: HEADER[3].to_owned(), reason });
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(Failed::Import(ImportError::Mistakes(mistakes))) }
}

impl Row {
    fn for_sale(&self) -> ForSaleRow<'_> {
        let (brand, sku) = (self.brand.as_str(), self.sku.as_str());
        ForSaleRow { brand, sku, price: self.price.amount(), quantity: self.quantity }
    }

    /// Returns the item of this row that another session may hold.
    fn held(&self) -> HeldItem {
        HeldItem::Sku { brand: self.brand.as_str().to_owned(), sku: self.sku.as_str().to_owned() }
    }
}

#[derive(Default)]
struct Checker {
    rows: Vec<Row>,
    brands: BTreeMap<Brand, (Currency, u64)>,
    seen: HashSet<(Brand, Sku)>,
    mistakes: Vec<Refusal>,
    warned: Vec<Refusal>,
}

impl Checker {
    fn row(&mut self, line: u64, fields: &StringRecord) {
        let [brand, sku, price, currency, quantity] =
            std::array::from_fn(|at| fields.get(at).unwrap_or_default());
        let mut mistake = |field: usize, reason: String| {
            self.mistakes.push(Refusal { line, field: HEADER[field].to_owned(), reason });
        };
        let brand = Brand::new(brand).map_err(|error| mistake(0, error.to_string())).ok();
        let sku = Sku::new(sku);
        if sku.is_none() {
            mistake(1, "must be 1 to 64 printable ASCII characters".to_owned());
        }
        let currency = decimal::currency(currency).map_err(|reason| mistake(3, reason)).ok();
        // Same notation as in the catalogue: with the decimals of the currency.
        let price = currency
            .and_then(|currency| decimal::parse(price, currency).map_err(|reason| mistake(2, reason)).ok());
        // Only digits are accepted. "+1" and "1e3" are more likely mistakes than intended.
        let plain = !quantity.is_empty() && quantity.bytes().all(|byte| byte.is_ascii_digit());
        let quantity = quantity.parse().ok().filter(|units| plain && (0..=QUANTITY_MAX).contains(units));
        if quantity.is_none() {
            mistake(4, format!("must be a whole number from 0 to {QUANTITY_MAX}"));
        }
        let (Some(brand), Some(sku), Some(currency), Some(price), Some(quantity)) =
            (brand, sku, currency, price, quantity)
        else {
            return;
        };
        let (first, named_on) = *self.brands.entry(brand.clone()).or_insert((currency, line));
        if first != currency {
            mistake(3, format!("is {currency}, but line {named_on} says that {brand} sells in {first}"));
        }
        if !self.seen.insert((brand.clone(), sku.clone())) {
            mistake(1, "is on an earlier line already".to_owned());
        }
        if is_spreadsheet_s(sku.as_str()) {
            self.warned.push(Refusal { line, field: HEADER[1].to_owned(), reason: SPREADSHEET_S.to_owned() });
        }
        self.rows.push(Row { line, brand, sku, price, quantity });
    }

    fn finish(mut self) -> Result<StockFile, ImportError> {
        if self.rows.is_empty() && self.mistakes.is_empty() {
            let reason = format!("the file holds no rows below the header {}", HEADER.join(","));
            self.mistakes.push(Refusal { line: 1, field: String::new(), reason });
        }
        self.mistakes.sort_by_key(|mistake| mistake.line);
        if self.mistakes.is_empty() {
            Ok(StockFile { rows: self.rows, brands: self.brands, warned: self.warned })
        } else {
            Err(ImportError::Mistakes(self.mistakes))
        }
    }
}

fn listed(mistakes: &[Refusal]) -> String {
    mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<(u64, String)> {
        match StockFile::read(text.as_bytes()) {
            Err(ImportError::Mistakes(mistakes)) => {
                mistakes.into_iter().map(|one| (one.line, one.field)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    const HEADED: &str = "brand,sku,unit_price,currency,quantity\n";

    #[test]
    fn every_bad_row_is_named_with_line_and_field() {
        let rows = "acme,A,10,KRW,1\n\
            Acme,\u{e9},-1,won,1.5\n\
            acme,A,10,KRW,1\n\
            acme,B,10,USD,1\n\
            acme,\"C\nC\",10,KRW,1\n\
            acme,D,10,KRW\n\
            acme,E,+1,KRW,99999999999999999999\n";
        let expected = [
            (3, "brand"),
            (3, "sku"),
            (3, "currency"),
            (3, "quantity"),
            (4, "sku"),
            (5, "currency"),
            (6, "sku"),
            (8, ""),
            (9, "unit_price"),
            (9, "quantity"),
        ];
        assert_eq!(
            mistakes(&format!("{HEADED}{rows}")),
            expected.map(|(line, field)| (line, field.to_owned()))
        );
    }

    #[test]
    fn the_message_says_what_to_correct() {
        let file = format!("{HEADED}acme,A,1e3,KRW,1\n");
        let error = StockFile::read(file.as_bytes()).unwrap_err();
        let text = "nothing is imported, correct this first:\n  \
            line 2: unit_price: must be a whole number of KRW, such as 19500";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_price_is_in_the_same_notation_as_the_catalogue_s() {
        let file = format!("{HEADED}a,A,3,GBP,1\na,B,3.50,GBP,1\nb,A,3,KRW,1\nc,A,0.125,BHD,1\n");
        let file = StockFile::read(file.as_bytes()).unwrap();
        let prices: Vec<i64> = file.rows.iter().map(|row| row.price.amount()).collect();
        assert_eq!(prices, [300, 350, 3, 125]);
    }

    #[test]
    fn a_file_without_its_header_or_without_rows_is_refused() {
        for text in ["sku,brand\n", HEADED, "", "brand,sku,unit_price,currency,quantity\n,,,,\n"] {
            assert_eq!(mistakes(text), [(1, String::new())], "{text}");
        }
    }

    #[test]
    fn the_reader_is_the_catalogue_s() {
        // A cut file, another encoding, and semicolons: each refuses the whole file.
        assert_eq!(mistakes(&format!("{HEADED}acme,A,1,KRW,4")), [(2, String::new())]);
        let whole = format!("{HEADED}acme,A,1,KRW,4");
        assert_eq!(StockFile::read(GivenFile::whole(whole.as_bytes())).unwrap().len(), 1);
        let encoded = [HEADED.as_bytes(), b"acme,\xbc\xbc,1,KRW,1\nacme,B,x,KRW,1\n"].concat();
        let error = StockFile::read(&encoded[..]).unwrap_err().to_string();
        assert!(error.contains("line 2: is not UTF-8") && !error.contains("line 3"), "{error}");
        assert_eq!(
            mistakes("brand;sku;unit_price;currency;quantity\nacme;A;1;KRW;1\n"),
            [(1, String::new())]
        );
        // A file with CR line ends, rows without a value, spaces around fields, and a code that a
        // spreadsheet changed.
        let file =
            "\u{feff}brand, sku,unit_price,currency,quantity\rx,A , 1,KRW,1\r,,,,\rx,1.5E+12,1,KRW,1\r";
        let file = StockFile::read(file.as_bytes()).unwrap();
        assert_eq!(file.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(file.warned.len(), 1);
    }
}
