//! Brands, SKUs and stock from a CSV file with the header `brand,sku,unit_price,currency,quantity`.
//!
//! The whole file is checked before anything is written: every bad row is named, and nothing is imported if one is bad.
//! It stands in for the catalogue until that arrives.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::Read;

use bridge_protocol::domain::{Brand, Currency, Money, Sku};

use super::rows::{self, ForSaleRow};
use super::transaction::{Database, Transaction};
use super::{Ledger, LedgerError, on_database};

const HEADER: [&str; 5] = ["brand", "sku", "unit_price", "currency", "quantity"];

/// The most units of one SKU.
const QUANTITY_MAX: i64 = 1_000_000_000_000;

/// Rows in one statement.
const CHUNK: usize = 5_000;

/// A file's rows, each of them right.
#[derive(Debug)]
pub struct StockFile {
    rows: Vec<Row>,
    /// The currency of each brand, and the line that named it first.
    brands: BTreeMap<Brand, (Currency, u64)>,
}

#[derive(Debug)]
struct Row {
    brand: Brand,
    sku: Sku,
    price: Money,
    quantity: i64,
}

/// What an import changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Brands that were new.
    pub brands: u64,
    /// SKUs that were new.
    pub skus_new: u64,
    /// SKUs that were there and now have the file's price and quantity.
    pub skus_updated: u64,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// These rows are wrong.
    #[error("nothing is imported, correct this first:{}", listed(.0))]
    Mistakes(Vec<Mistake>),
    /// The database is to blame.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What is wrong in one place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: u64,
    /// The column's name; empty for the whole line.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.field.is_empty() { "" } else { ": " };
        write!(f, "line {}: {}{colon}{}", self.line, self.field, self.reason)
    }
}

impl StockFile {
    /// Reads and checks a file.
    pub fn read(file: impl Read) -> Result<Self, ImportError> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
        let mut checker = Checker::default();
        let mut record = csv::StringRecord::new();
        loop {
            match reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => checker.record(&record),
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    checker.mistakes.push(Mistake { line, field: "", reason: unreadable(&error) });
                    if error.is_io_error() {
                        break;
                    }
                }
            }
        }
        checker.finish()
    }

    /// How many SKUs it names.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it names none; such a file is refused.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Ledger {
    /// Imports a file in one transaction. A SKU that is there already gets the file's price, and the file's quantity
    /// becomes what is available from now on; what was sold stays sold.
    ///
    /// `progress` is told how many SKUs have been written, now and then.
    pub async fn import_stock(
        &self,
        file: &StockFile,
        mut progress: impl FnMut(usize) + Send,
    ) -> Result<Imported, ImportError> {
        on_database!(self, database => import(database, file, &mut progress).await)
    }
}

async fn import<D: Database>(
    database: &D,
    file: &StockFile,
    progress: &mut (impl FnMut(usize) + Send),
) -> Result<Imported, ImportError> {
    let mut transaction = database.begin().await.map_err(LedgerError::from)?;
    let brands: Vec<(&str, &str)> =
        file.brands.iter().map(|(brand, (currency, _))| (brand.as_str(), currency.as_str())).collect();
    let brands_new = transaction.add_brands(&brands).await.map_err(LedgerError::from)?;
    check_currencies(&mut transaction, file).await?;

    // By SKU, so that two imports add rows in the same order and never wait for each other in a circle.
    let mut rows: Vec<ForSaleRow<'_>> = file.rows.iter().map(Row::for_sale).collect();
    rows.sort_unstable_by_key(|row| (row.brand, row.sku));
    let mut skus_new = 0;
    for (chunk, rows) in rows.chunks(CHUNK).enumerate() {
        skus_new += transaction.add_skus(rows).await.map_err(LedgerError::from)?;
        progress(chunk * CHUNK + rows.len());
    }
    let finish = async {
        // Whole: the database sorts these by row, as everyone locks them.
        transaction.set_stock(&rows).await?;
        transaction.set_prices(&rows).await?;
        transaction.commit().await
    };
    finish.await.map_err(LedgerError::from)?;
    Ok(Imported { brands: brands_new, skus_new, skus_updated: rows.len() as u64 - skus_new })
}

/// A brand sells in one currency for ever: its orders are in it.
async fn check_currencies<T: Transaction>(transaction: &mut T, file: &StockFile) -> Result<(), ImportError> {
    let names: Vec<&str> = file.brands.keys().map(Brand::as_str).collect();
    let mut mistakes = Vec::new();
    for row in transaction.brands(&names).await.map_err(LedgerError::from)? {
        let (brand, known) = rows::brand(row)?;
        if let Some((currency, line)) = file.brands.get(&brand).filter(|(currency, _)| *currency != known) {
            let reason = format!("is {currency}, but {brand} sells in {known} in this ledger");
            mistakes.push(Mistake { line: *line, field: "currency", reason });
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(ImportError::Mistakes(mistakes)) }
}

impl Row {
    fn for_sale(&self) -> ForSaleRow<'_> {
        let (brand, sku) = (self.brand.as_str(), self.sku.as_str());
        ForSaleRow { brand, sku, price: self.price.amount(), quantity: self.quantity }
    }
}

#[derive(Default)]
struct Checker {
    header_seen: bool,
    rows: Vec<Row>,
    brands: BTreeMap<Brand, (Currency, u64)>,
    seen: HashSet<(Brand, Sku)>,
    mistakes: Vec<Mistake>,
}

impl Checker {
    fn record(&mut self, record: &csv::StringRecord) {
        let line = record.position().map_or(0, csv::Position::line);
        if !self.header_seen {
            self.header_seen = true;
            if record != HEADER.as_slice() {
                self.mistake(line, "", format!("the header must be {}", HEADER.join(",")));
            }
            return;
        }
        if record.len() != HEADER.len() {
            self.mistake(line, "", format!("has {} fields instead of {}", record.len(), HEADER.len()));
            return;
        }
        let brand = Brand::new(&record[0]).map_err(|error| self.mistake(line, HEADER[0], error.to_string()));
        let sku = Sku::new(&record[1]).ok_or_else(|| {
            self.mistake(line, HEADER[1], "must be 1 to 64 printable ASCII characters".into())
        });
        let currency =
            Currency::new(&record[3]).map_err(|error| self.mistake(line, HEADER[3], error.to_string()));
        let price = self.number(line, HEADER[2], &record[2], Money::AMOUNT_MAX);
        let quantity = self.number(line, HEADER[4], &record[4], QUANTITY_MAX);
        let (Ok(brand), Ok(sku), Ok(currency), Some(price), Some(quantity)) =
            (brand, sku, currency, price, quantity)
        else {
            return;
        };
        let (first, named_on) = *self.brands.entry(brand.clone()).or_insert((currency, line));
        if first != currency {
            let reason = format!("is {currency}, but line {named_on} says that {brand} sells in {first}");
            self.mistake(line, HEADER[3], reason);
        }
        if !self.seen.insert((brand.clone(), sku.clone())) {
            self.mistake(line, HEADER[1], "is on an earlier line already".into());
        }
        if let Some(price) = Money::new(price, currency) {
            self.rows.push(Row { brand, sku, price, quantity });
        }
    }

    fn number(&mut self, line: u64, field: &'static str, text: &str, max: i64) -> Option<i64> {
        // Digits alone: "+1" and "1e3" are more likely a mistake than meant.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && (0..=max).contains(number));
        if number.is_none() {
            self.mistake(line, field, format!("must be a whole number from 0 to {max}"));
        }
        number
    }

    fn mistake(&mut self, line: u64, field: &'static str, reason: String) {
        self.mistakes.push(Mistake { line, field, reason });
    }

    fn finish(mut self) -> Result<StockFile, ImportError> {
        if self.rows.is_empty() && self.mistakes.is_empty() {
            self.mistake(1, "", format!("the file holds no rows below the header {}", HEADER.join(",")));
        }
        if self.mistakes.is_empty() {
            Ok(StockFile { rows: self.rows, brands: self.brands })
        } else {
            Err(ImportError::Mistakes(self.mistakes))
        }
    }
}

fn unreadable(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

fn listed(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<(u64, &'static str)> {
        match StockFile::read(text.as_bytes()) {
            Err(ImportError::Mistakes(mistakes)) => {
                mistakes.iter().map(|one| (one.line, one.field)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_bad_row_is_named_with_line_and_field() {
        let text = "brand,sku,unit_price,currency,quantity\n\
            acme,A,10,KRW,1\n\
            Acme, A,-1,won,1.5\n\
            acme,A,10,KRW,1\n\
            acme,B,10,USD,1\n\
            acme,\"C\nC\",10,KRW,1\n\
            acme,D,10,KRW\n\
            acme,E,+1,KRW,99999999999999999999\n";
        assert_eq!(
            mistakes(text),
            [
                (3, "brand"),
                (3, "sku"),
                (3, "currency"),
                (3, "unit_price"),
                (3, "quantity"),
                (4, "sku"),
                (5, "currency"),
                (6, "sku"),
                (8, ""),
                (9, "unit_price"),
                (9, "quantity"),
            ]
        );
    }

    #[test]
    fn the_message_says_what_to_correct() {
        let error =
            StockFile::read(&b"brand,sku,unit_price,currency,quantity\nacme,A,1e3,KRW,1\n"[..]).unwrap_err();
        let text = "nothing is imported, correct this first:\n  \
            line 2: unit_price: must be a whole number from 0 to 1000000000000000";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_file_without_its_header_or_without_rows_is_refused() {
        assert_eq!(mistakes("sku,brand\n"), [(1, "")]);
        assert_eq!(mistakes("brand,sku,unit_price,currency,quantity\n"), [(1, "")]);
        assert_eq!(mistakes(""), [(1, "")]);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        let file = b"brand,sku,unit_price,currency,quantity\nacme,\xff,1,KRW,1\nacme,B,x,KRW,1\n";
        let error = StockFile::read(&file[..]).unwrap_err().to_string();
        assert!(error.contains("line 2: is not UTF-8") && error.contains("line 3: unit_price"), "{error}");
    }
}
