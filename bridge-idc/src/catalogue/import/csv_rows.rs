//! A catalogue as CSV: one row a variant, its columns named by a mapping; rows of the same product are its variants.

use std::collections::{BTreeMap, HashMap};

use bridge_protocol::domain::catalogue::Code;
use bridge_protocol::domain::{Brand, Sku};
use jiff::Timestamp;

use super::mapping::{Mapping, Place};
use super::record::{Document, Product, QUANTITY_MAX, Records, Texts, Variant};
use crate::decimal;

/// Between several categories, or pictures, in one column.
const SEPARATOR: char = '|';

/// What is wrong in a row: which field, and what would be right.
type Wrong = (String, String);

/// Reads a file's bytes. A mapping that the header does not fit refuses the whole file.
pub(super) fn read(bytes: &[u8], mapping: &Mapping) -> Records {
    let mut records = Records::default();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => {
            records.refuse(1, "", unreadable(&error));
            return records;
        }
    };
    let places = match mapping.places(&header) {
        Ok(places) => places,
        Err(mistakes) => {
            mistakes.into_iter().for_each(|mistake| records.refuse(1, "", mistake));
            return records;
        }
    };
    // The reader takes an open quote for the rest of the file, and half a number for a number; whoever wrote the file meant
    // neither. A file that is whole ends with a line's end.
    let is_unended = !bytes.ends_with(b"\n");
    let mut products: HashMap<(Brand, Code), usize> = HashMap::new();
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    let mut lines = Lines { bytes, at: 0, line: 1 };
    loop {
        let begins = reader.position().byte();
        let read = reader.read_record(&mut record);
        let (line, written) = lines.of(begins, reader.position().byte());
        match read {
            Ok(false) => break,
            Ok(true) => rows.push((line, quotes(written), record.clone())),
            Err(error) => {
                records.refuse(line, "", unreadable(&error));
                if error.is_io_error() {
                    break;
                }
            }
        }
    }
    let last = rows.len();
    for (index, (line, quotes, row)) in (1..).zip(&rows) {
        let line = *line;
        if index == last && (is_unended || *quotes == Quotes::Open) {
            records.refuse(
                line,
                "",
                "does not end, with its quote and a line's end: the file seems to be cut here",
            );
            continue;
        }
        if *quotes == Quotes::TextBehind {
            let reason = "has text behind a closing quote: a quote within quotes is written twice";
            records.refuse(line, "", reason);
            continue;
        }
        if row.len() != header.len() {
            records.refuse(line, "", format!("has {} fields instead of {}", row.len(), header.len()));
            continue;
        }
        let fields: BTreeMap<&str, &str> = places
            .iter()
            .map(|(field, place)| match place {
                Place::Column(index) => (*field, row.get(*index).unwrap_or_default().trim()),
                Place::Constant(constant) => (*field, *constant),
            })
            .collect();
        match product(line, &fields) {
            Err((field, reason)) => records.refuse(line, column(&field, mapping, &header), reason),
            Ok(product) => add(&mut records, &mut products, product, line),
        }
    }
    records
}

/// Adds a row to its product, or as a new one.
fn add(records: &mut Records, products: &mut HashMap<(Brand, Code), usize>, mut product: Product, line: u64) {
    let currency = product.variants.first().map(|variant| variant.price.currency());
    if !currency.is_none_or(|currency| records.name_brand(&product.brand, currency, line, "currency")) {
        return;
    }
    let key = (product.brand.clone(), product.product.clone());
    let Some(known) = products.get(&key).and_then(|index| records.products.get_mut(*index)) else {
        records.mention(&product.brand, product.categories.iter().flatten());
        products.insert(key, records.products.len());
        records.products.push(product);
        return;
    };
    let variants = std::mem::take(&mut product.variants);
    let same = Product { line: known.line, variants: Vec::new(), ..product }
        == Product { variants: Vec::new(), ..known.clone() };
    if same {
        known.variants.extend(variants);
    } else {
        let first = known.line;
        records.refuse(line, "product", format!("says something else of its product than line {first}"));
    }
}

fn product(line: u64, fields: &BTreeMap<&str, &str>) -> Result<Product, Wrong> {
    let get = |field: &str| fields.get(field).copied().unwrap_or_default();
    let wrong = |field: &str, reason: String| (field.to_owned(), reason);
    if let Some((field, _)) = fields.iter().find(|(_, value)| value.contains('\0')) {
        return Err(wrong(field, "holds a NUL".to_owned()));
    }
    let brand = Brand::new(get("brand")).map_err(|error| wrong("brand", error.to_string()))?;
    let code = Code::new(get("product")).map_err(|error| wrong("product", error.to_string()))?;
    let currency = decimal::currency(get("currency")).map_err(|reason| wrong("currency", reason))?;
    let price = decimal::parse(get("price"), currency).map_err(|reason| wrong("price", reason))?;
    let sku = if get("sku").is_empty() { get("product") } else { get("sku") };
    let sku =
        Sku::new(sku).ok_or_else(|| wrong("sku", "must be 1 to 64 printable ASCII characters".to_owned()))?;
    let quantity = match get("quantity") {
        "" => None,
        digits => {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let units = digits.parse().ok().filter(|units| plain && (0..=QUANTITY_MAX).contains(units));
            Some(units.ok_or_else(|| {
                wrong("quantity", format!("must be a whole number from 0 to {QUANTITY_MAX}"))
            })?)
        }
    };
    let list = |field: &str| {
        let items = get(field).split(SEPARATOR).map(str::trim).filter(|item| !item.is_empty());
        fields.contains_key(field).then(|| items.map(str::to_owned).collect::<Vec<_>>())
    };
    let categories = match list("category") {
        None => None,
        Some(codes) => {
            let codes = codes.iter().map(|code| Code::new(code)).collect::<Result<Vec<_>, _>>();
            Some(codes.map_err(|error| wrong("category", error.to_string()))?)
        }
    };
    let moment = |field: &str| match fields.get(field) {
        None => Ok(None),
        Some(&"") => Ok(Some(None)),
        Some(text) => {
            let moment = text.parse::<Timestamp>().map(Timestamp::as_microsecond);
            let reason = "must be a moment as RFC 3339 has it, such as 2026-12-01T10:00:00+09:00".to_owned();
            moment.map(|micros| Some(Some(micros))).map_err(|_| wrong(field, reason))
        }
    };
    let document = family(fields, "document");
    let document = document.and_then(|texts| serde_json::to_string(&texts).ok()).map(Document);
    Ok(Product {
        line,
        brand,
        product: code,
        names: family(fields, "name"),
        descriptions: family(fields, "description"),
        document,
        images: list("image"),
        categories,
        published_from: moment("published_from")?,
        published_until: moment("published_until")?,
        variants: vec![Variant {
            line,
            sku,
            options: family(fields, "option"),
            price,
            quantity,
            position: 0,
        }],
    })
}

/// The texts of a family that the mapping names, without those that are empty.
fn family(fields: &BTreeMap<&str, &str>, family: &str) -> Option<Texts> {
    let named = fields
        .iter()
        .filter_map(|(field, value)| Some((field.strip_prefix(family)?.strip_prefix('.')?, *value)));
    let named: Vec<(&str, &str)> = named.collect();
    let texts = named.iter().filter(|(_, value)| !value.is_empty());
    let texts = texts.map(|(part, value)| ((*part).to_owned(), (*value).to_owned())).collect();
    (!named.is_empty()).then_some(texts)
}

/// The column that a field comes from, which is what the file's owner knows it by.
fn column(field: &str, mapping: &Mapping, header: &csv::StringRecord) -> String {
    let places = mapping.places(header).unwrap_or_default();
    let place = places.into_iter().find(|(name, _)| *name == field);
    match place {
        Some((_, Place::Column(index))) => header.get(index).unwrap_or_default().to_owned(),
        _ => field.to_owned(),
    }
}

/// Counts lines: the reader's own count begins before empty lines, and between the two bytes of a line's end.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    /// On which line a row begins, and its bytes: those from where the reader stood to where it stands.
    fn of(&mut self, begins: u64, ends: u64) -> (u64, &'a [u8]) {
        let [begins, ends] = [begins, ends].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        let read = self.bytes.get(begins..ends).unwrap_or_default();
        let empty = read.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let (from, to) = (self.at, (begins + empty).min(self.bytes.len()));
        let passed = self.bytes.get(from..to).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = to;
        (self.line, read.get(empty..).unwrap_or_default())
    }
}

/// How a row's quotes stand (RFC 4180 section 2). One in the middle of a field is a character as any other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Fine,
    /// One that nothing closes.
    Open,
    /// One that closes where it was not meant to.
    TextBehind,
}

fn quotes(row: &[u8]) -> Quotes {
    let (mut is_quoted, mut is_start, mut was_quote) = (false, true, false);
    for byte in row {
        if is_quoted {
            (is_quoted, was_quote) = (*byte != b'"', *byte == b'"');
        } else if *byte == b'"' && (is_start || was_quote) {
            (is_quoted, is_start, was_quote) = (true, false, false);
        } else {
            is_start = matches!(byte, b',' | b'\n' | b'\r');
            if was_quote && !is_start {
                return Quotes::TextBehind;
            }
            was_quote = false;
        }
    }
    if is_quoted { Quotes::Open } else { Quotes::Fine }
}

fn unreadable(error: &csv::Error) -> &'static str {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8",
        _ => "cannot be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> Mapping {
        let pairs = [
            "brand=@retail",
            "currency=@GBP",
            "product=code",
            "sku=sku",
            "price=price",
            "quantity=units",
            "name.en=text",
            "option.size=size",
        ];
        Mapping::parse(pairs).unwrap()
    }

    const HEADER: &str = "code,sku,price,units,text,size\n";

    fn rows(text: &str) -> Records {
        read(format!("{HEADER}{text}").as_bytes(), &mapping())
    }

    fn refused(text: &str) -> Vec<(u64, String)> {
        rows(text).refused.into_iter().map(|one| (one.line, one.field)).collect()
    }

    #[test]
    fn rows_of_one_product_are_its_variants() {
        let records = rows(
            "MUG,MUG-S,2.55,3,\"A \"\"mug\"\", white\",S\r\nTEA,,0.1,,Tea,\r\nMUG,MUG-L,3,0,\"A \"\"mug\"\", white\",L\r\n",
        );
        assert_eq!(records.refused, []);
        let [mug, tea] = &records.products[..] else { panic!("two products") };
        let prices: Vec<_> = mug
            .variants
            .iter()
            .map(|variant| (variant.sku.as_str(), variant.price.amount(), variant.quantity))
            .collect();
        assert_eq!(prices, [("MUG-S", 255, Some(3)), ("MUG-L", 300, Some(0))]);
        assert_eq!(mug.names.as_ref().unwrap()["en"], "A \"mug\", white");
        assert_eq!((tea.variants[0].sku.as_str(), tea.variants[0].quantity), ("TEA", None));
    }

    #[test]
    fn a_bad_row_is_named_by_line_and_column_and_the_others_are_read() {
        let text = "A,,free,1,x,\nB,,1,-1,x,\n..,,1,1,x,\nC,,1\nD,,1,1,x,\nD,D-2,1,1,other,\nE,,1.001,1,x,\nF,,1,1,x,\n";
        let expected = [(2, "price"), (3, "units"), (4, "code"), (5, ""), (7, "product"), (8, "price")];
        assert_eq!(refused(text), expected.map(|(line, column)| (line, column.to_owned())));
        assert_eq!(rows(text).products.len(), 2);
    }

    #[test]
    fn a_file_that_ends_in_the_middle_of_a_row_loses_that_row_alone() {
        for cut in ["A,,1,1,x,\nB,,1", "A,,1,1,x,\nB,,1,1,x,4", "A,,1,1,x,\nB,,1,1,\"x,\nC,,1,1,x,\n"] {
            let records = rows(cut);
            assert_eq!(records.products.len(), 1, "{cut}");
            assert!(records.refused[0].reason.contains("seems to be cut here"), "{}", records.refused[0]);
        }
    }

    #[test]
    fn a_quote_in_the_middle_of_a_field_is_a_character_as_any_other() {
        let records = rows("A,,1,1,12\" ruler,\nB,,1,1,\"5\"\" pipe\",\n");
        assert_eq!(records.refused, []);
        let names: Vec<_> =
            records.products.iter().map(|product| product.names.as_ref().unwrap()["en"].as_str()).collect();
        assert_eq!(names, ["12\" ruler", "5\" pipe"]);
    }

    #[test]
    fn text_behind_a_closing_quote_is_refused_and_the_rows_around_it_are_read() {
        let text = "A,,1,1,x,\nB,,1,1,\"5\" pipe,\nC,,1,1,\"a, b\",\n";
        assert_eq!(refused(text), [(3, String::new())]);
        assert_eq!(rows(text).products.len(), 2);
    }

    #[test]
    fn a_line_is_the_one_that_an_editor_shows() {
        let text = "\r\nA,,free,1,\"two\r\nlines\",\r\n\r\n\r\nB,,free,1,x,\r\n\nC,,free,1,x,\n";
        let expected = [3, 7, 9].map(|line| (line, "price".to_owned()));
        assert_eq!(refused(text), expected);
    }

    #[test]
    fn bytes_that_are_no_text_and_a_nul_are_refused_with_their_line() {
        let bytes = [HEADER.as_bytes(), b"A,,1,1,\xff,\nB,,1,1,\0,\nC,,1,1,x,\n"].concat();
        let records = read(&bytes, &mapping());
        let lines: Vec<u64> = records.refused.iter().map(|refusal| refusal.line).collect();
        assert_eq!((lines, records.products.len()), (vec![2, 3], 1));
    }

    #[test]
    fn a_header_without_the_mapped_columns_refuses_the_file() {
        let records = read(b"a,b\n1,2\n", &mapping());
        assert_eq!((records.products.len(), records.refused.len()), (0, 6));
    }
}
