//! Reads a catalogue as CSV: one row a variant, with columns named by a mapping. Rows with the same
//! product are its variants.

use std::collections::{BTreeMap, HashMap};

use bridge_protocol::domain::catalogue::Code;
use bridge_protocol::domain::{Brand, Sku};
use jiff::Timestamp;

use super::mapping::{Mapping, ValueSource};
use super::record::{Document, Product, QUANTITY_MAX, Records, Texts, Variant};
use crate::decimal;
use crate::import_file::table::{Row, Table};
use crate::import_file::{Refusal, SPREADSHEET_S, is_spreadsheet_s};

/// Separates several categories or images in one column.
const SEPARATOR: char = '|';

/// A mistake in a row: its field, and what would be right.
type Wrong = (String, String);

/// Reads a file's text. The whole file is refused if its header does not fit the mapping.
pub(super) fn read(text: &str, mapping: &Mapping) -> Records {
    let mut records = Records::default();
    let table = match Table::of(text) {
        Ok(table) => table,
        Err(refusal) => return Records::none(vec![refusal]),
    };
    let header = table.header.clone();
    let places = match mapping.places(&header) {
        Ok(places) => places,
        Err(mistakes) => {
            let refusal = |reason| Refusal { line: 1, field: String::new(), reason };
            return Records::none(mistakes.into_iter().map(refusal).collect());
        }
    };
    let mut products: HashMap<(Brand, Code), usize> = HashMap::new();
    let mut malformed = Vec::new();
    let take = |Row { line, fields: row }: Row| {
        let fields: BTreeMap<&str, &str> = places
            .iter()
            .map(|(field, place)| match place {
                ValueSource::Column(index) => (*field, row.get(*index).unwrap_or_default()),
                ValueSource::Constant(constant) => (*field, *constant),
            })
            .collect();
        match product(line, &fields) {
            Err((field, reason)) => records.refuse(line, column(&field, mapping, &header), reason),
            Ok(product) => {
                for field in ["product", "sku"] {
                    if fields.get(field).is_some_and(|code| is_spreadsheet_s(code)) {
                        records.warn(line, column(field, mapping, &header), SPREADSHEET_S);
                    }
                }
                add(&mut records, &mut products, product, line);
            }
        }
    };
    if let Err(refusal) = table.read(take, |line, reason| malformed.push((line, reason))) {
        return Records::none(vec![refusal]);
    }
    malformed.into_iter().for_each(|(line, reason)| records.refuse(line, "", reason));
    records
}

/// Adds a row to the product that an earlier row began, or begins a new product.
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
        records.refuse(line, "product", format!("describes its product differently from line {first}"));
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

/// Returns the texts of a family that the mapping names, without empty ones.
fn family(fields: &BTreeMap<&str, &str>, family: &str) -> Option<Texts> {
    let named = fields
        .iter()
        .filter_map(|(field, value)| Some((field.strip_prefix(family)?.strip_prefix('.')?, *value)));
    let named: Vec<(&str, &str)> = named.collect();
    let texts = named.iter().filter(|(_, value)| !value.is_empty());
    let texts = texts.map(|(part, value)| ((*part).to_owned(), (*value).to_owned())).collect();
    (!named.is_empty()).then_some(texts)
}

/// Returns the column that a field comes from. The file's owner knows the field by that name.
fn column(field: &str, mapping: &Mapping, header: &csv::StringRecord) -> String {
    let places = mapping.places(header).unwrap_or_default();
    let place = places.into_iter().find(|(name, _)| *name == field);
    match place {
        Some((_, ValueSource::Column(index))) => header.get(index).unwrap_or_default().to_owned(),
        _ => field.to_owned(),
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
        read(&format!("{HEADER}{text}"), &mapping())
    }

    fn refused(text: &str) -> Vec<(u64, String)> {
        let mut refused = rows(text).refused;
        refused.sort_by_key(|one| one.line);
        refused.into_iter().map(|one| (one.line, one.field)).collect()
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
    fn a_bad_row_is_named_by_line_and_column_and_others_read() {
        let text = "A,,free,1,x,\nB,,1,-1,x,\n..,,1,1,x,\nC,,1\nD,,1,1,x,\nD,D-2,1,1,other,\nE,,1.001,1,x,\nF,,1,1,x,\n";
        let expected = [(2, "price"), (3, "units"), (4, "code"), (5, ""), (7, "product"), (8, "price")];
        assert_eq!(refused(text), expected.map(|(line, column)| (line, column.to_owned())));
        assert_eq!(rows(text).products.len(), 2);
    }

    #[test]
    fn a_quote_inside_a_field_is_an_ordinary_character() {
        let records = rows("A,,1,1,12\" ruler,\nB,,1,1,\"5\"\" pipe\",\n");
        assert_eq!(records.refused, []);
        let names: Vec<_> =
            records.products.iter().map(|product| product.names.as_ref().unwrap()["en"].as_str()).collect();
        assert_eq!(names, ["12\" ruler", "5\" pipe"]);
    }

    #[test]
    fn text_after_a_closing_quote_is_refused_and_other_rows_read() {
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
    fn a_code_that_a_spreadsheet_made_numeric_is_accepted_with_a_warning() {
        let records = rows("A,8.80123E+12,1,1,x,\nB,B-1,1,1,x,\n");
        assert_eq!((records.refused.len(), records.products.len()), (0, 2));
        let warned: Vec<_> = records.warned.iter().map(|one| (one.line, one.field.as_str())).collect();
        assert_eq!(warned, [(2, "sku")]);
    }

    #[test]
    fn what_is_no_plain_number_is_no_price_and_no_quantity() {
        for number in ["1e3", "\"1,000\"", "+1", "-1", "\u{ff11}", "\u{20a9}1", "1 000", "0x1", "free"] {
            assert_eq!(refused(&format!("A,,{number},1,x,\n")), [(2, "price".to_owned())], "{number}");
            assert_eq!(refused(&format!("A,,1,{number},x,\n")), [(2, "units".to_owned())], "{number}");
        }
        assert_eq!(refused("A,,1,1.0,x,\n"), [(2, "units".to_owned())]);
    }

    #[test]
    fn a_header_without_the_mapped_columns_refuses_the_file() {
        let records = read("a,b\n1,2\n", &mapping());
        assert_eq!((records.products.len(), records.refused.len()), (0, 6));
    }
}
