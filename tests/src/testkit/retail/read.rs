//! Reader of `catalogue.csv` and `orders-YYYY-MM.csv.gz`. It neither judges nor drops lines.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// Selection of invoices by the date in their time stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Days {
    /// All invoices.
    All,
    /// Invoices of one day, such as `2010-12-01`.
    One(String),
    /// Invoices of the first day in the data.
    First,
}

/// The selected data.
#[derive(Debug, Default)]
pub struct Retail {
    /// Invoices in file order.
    pub invoices: Vec<Invoice>,
    /// The catalogue price of each code, in pence.
    pub catalogue: HashMap<String, i64>,
}

/// One invoice as the shop booked it.
#[derive(Debug)]
pub struct Invoice {
    /// Such as `536365`. It begins with `C` for a cancellation and with `A` for an adjustment.
    pub number: String,
    /// The shop's id of the customer; empty if it is not known.
    pub customer: String,
    /// Time of its first line, such as `2010-12-01 08:26:00`.
    pub at: String,
    /// Lines of the invoice in file order.
    pub lines: Vec<InvoiceLine>,
}

/// One line of an invoice.
#[derive(Debug)]
pub struct InvoiceLine {
    /// The shop's code of the article.
    pub code: String,
    /// Units; negative for a return.
    pub quantity: i64,
    /// Price of one unit; [`None`] if it has fractions of a penny.
    pub price_pence: Option<i64>,
}

/// The reason why the data could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A row differs from the description in the data's README.
    #[error("{}: {what}", path.display())]
    Row {
        /// Path of the file.
        path: PathBuf,
        /// Number of the row, and the error in it.
        what: String,
    },
    /// The folder holds no `orders-*.csv.gz`, or none of the chosen day.
    #[error("{}: {what}", dir.display())]
    Empty {
        /// Path of the folder.
        dir: PathBuf,
        /// Description of the missing files or day.
        what: String,
    },
}

/// Reads the folder `dir`.
///
/// # Errors
///
/// Fails if a file is missing or broken, or no invoice is of the chosen day.
pub fn read(dir: &Path, days: &Days) -> Result<Retail, ReadError> {
    let mut retail = Retail { catalogue: read_catalogue(&dir.join("catalogue.csv"))?, ..Retail::default() };
    let mut by_number = HashMap::new();
    let mut days = days.clone();
    for path in order_files(dir)? {
        let file = File::open(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
        each_row(&path, GzDecoder::new(file), |row| {
            let [number, code, quantity, at, price, customer, _country] = row else {
                return Err("is not of seven columns".to_owned());
            };
            if days == Days::First {
                days = Days::One(at.get(..10).unwrap_or_default().to_owned());
            }
            if matches!(&days, Days::One(day) if !at.starts_with(day.as_str())) {
                return Ok(());
            }
            let quantity = quantity.parse().map_err(|_| format!("has the quantity {quantity:?}"))?;
            let line = InvoiceLine { code: (*code).to_owned(), quantity, price_pence: pence(price)? };
            // Lines of another invoice may stand between an invoice's lines, so the number decides.
            let index = *by_number.entry((*number).to_owned()).or_insert_with(|| {
                let [number, customer, at] = [number, customer, at].map(|field| (*field).to_owned());
                retail.invoices.push(Invoice { number, customer, at, lines: Vec::new() });
                retail.invoices.len() - 1
            });
            retail.invoices[index].lines.push(line);
            Ok(())
        })?;
    }
    if retail.invoices.is_empty() {
        return Err(ReadError::Empty { dir: dir.to_owned(), what: format!("no invoice of {days:?}") });
    }
    Ok(retail)
}

fn read_catalogue(path: &Path) -> Result<HashMap<String, i64>, ReadError> {
    let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    let mut catalogue = HashMap::new();
    each_row(path, file, |row| {
        let [code, _description, price, ..] = row else { return Err("has no price".to_owned()) };
        if let Some(price) = pence(price)? {
            catalogue.insert((*code).to_owned(), price);
        }
        Ok(())
    })?;
    Ok(catalogue)
}

/// Returns the monthly files in the order of their months.
fn order_files(dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let unreadable = |source| ReadError::Io { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in dir.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("orders-") && name.ends_with(".csv.gz") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(ReadError::Empty { dir: dir.to_owned(), what: "no orders-YYYY-MM.csv.gz".to_owned() });
    }
    files.sort();
    Ok(files)
}

/// Passes every row after the header to `take`. An error names the file and the line.
fn each_row(
    path: &Path,
    reader: impl Read,
    mut take: impl FnMut(&[&str]) -> Result<(), String>,
) -> Result<(), ReadError> {
    let wrong = |line: u64, what: String| ReadError::Row {
        path: path.to_owned(),
        what: format!("line {line} {what}"),
    };
    let mut csv = csv::Reader::from_reader(reader);
    let mut record = csv::StringRecord::new();
    while csv.read_record(&mut record).map_err(|error| wrong(csv_line(&error), error.to_string()))? {
        let row: Vec<_> = record.iter().collect();
        take(&row).map_err(|what| wrong(record.position().map_or(0, csv::Position::line), what))?;
    }
    Ok(())
}

fn csv_line(error: &csv::Error) -> u64 {
    error.position().map_or(0, csv::Position::line)
}

/// Converts `-11062.06` to -1106206. Returns [`None`] if there are more than two significant
/// decimals.
fn pence(price: &str) -> Result<Option<i64>, String> {
    let wrong = || format!("has the price {price:?}");
    let (negative, digits) = price.strip_prefix('-').map_or((false, price), |rest| (true, rest));
    let (pounds, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    if !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > 2 {
        return Ok(None);
    }
    let amount: u32 = pounds.parse().map_err(|_| wrong())?;
    let fraction: u32 = format!("{decimals:0<2}").parse().map_err(|_| wrong())?;
    let pence = i64::from(amount) * 100 + i64::from(fraction);
    Ok(Some(if negative { -pence } else { pence }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_become_pence_without_a_float() {
        assert_eq!(pence("2.55"), Ok(Some(255)));
        assert_eq!(pence("0.1"), Ok(Some(10)));
        assert_eq!(pence("38970"), Ok(Some(3_897_000)));
        assert_eq!(pence("-11062.06"), Ok(Some(-1_106_206)));
        assert_eq!(pence("1.250"), Ok(Some(125)));
        assert_eq!(pence("0.001"), Ok(None));
        assert!(pence("2,55").is_err() && pence("").is_err() && pence("1.2.3").is_err());
    }

    #[test]
    fn a_broken_row_is_named_by_file_and_line() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::write(dir.path().join("catalogue.csv"), "a,b,c\nA,\"x, \"\"y\"\"\",1.00\nB,x,cheap\n")
            .expect("write");
        let error = read(dir.path(), &Days::All).expect_err("no price").to_string();
        assert!(
            error.contains("catalogue.csv") && error.contains("line 3") && error.contains("cheap"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_without_invoices_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::write(dir.path().join("catalogue.csv"), "a,b,c\n").expect("write");
        let error = read(dir.path(), &Days::All).expect_err("nothing there").to_string();
        assert!(error.contains("orders-YYYY-MM.csv.gz"), "{error}");
    }
}
