//! Reads a catalogue as JSON Lines, the format that `export` writes. Each line is one object: a
//! brand, a category or a product.
//!
//! A product with a mistake is refused as a whole.

use std::collections::BTreeMap;

use bridge_protocol::domain::catalogue::Code;
use bridge_protocol::domain::{Brand, Money, Sku};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::TEXTS_BYTES_MAX;
use super::record::{
    Category, DOCUMENT_BYTES_MAX, Document, Product, QUANTITY_MAX, Records, Refusal, Texts, Variant,
    bytes_of, stored_bytes,
};
use crate::decimal;
use crate::import_file::strict_json::{self, NotJson};
use crate::import_file::{RECORD_BYTES_MAX, SPREADSHEET_S, is_spreadsheet_s, lines};

/// Members of a product's line.
const PRODUCT: [&str; 10] = [
    "brand",
    "product",
    "names",
    "descriptions",
    "document",
    "images",
    "categories",
    "published_from",
    "published_until",
    "variants",
];
const VARIANT: [&str; 4] = ["sku", "options", "price", "quantity"];
const CATEGORY: [&str; 5] = ["brand", "category", "parent", "names", "position"];
const BRAND: [&str; 2] = ["brand", "currency"];

/// A mistake: its field, and what would be right.
type Wrong = (String, String);

/// Reads a file's text.
pub(super) fn read(text: &str) -> Records {
    if let Some(reason) = other_form(text) {
        return Records::none(vec![Refusal { line: 1, field: String::new(), reason: reason.to_owned() }]);
    }
    let mut records = Records::default();
    for (number, line) in lines(text) {
        // A byte order mark in the middle of a file shows that two files were joined.
        let line = line.trim_start_matches('\u{feff}');
        if line.trim().is_empty() {
            continue;
        }
        if line.len() > RECORD_BYTES_MAX {
            records.refuse(number, "", format!("must be {RECORD_BYTES_MAX} bytes at most"));
            continue;
        }
        let object = match strict_json::parse(line) {
            Ok(Value::Object(object)) => object,
            Ok(_) => {
                records.refuse(number, "", "must be a JSON object");
                continue;
            }
            Err(NotJson::Form { column }) => {
                records.refuse(number, "", format!("is not JSON at column {column}"));
                continue;
            }
            Err(NotJson::Twice { at }) => {
                records.refuse(number, known(&at), "has a repeated member");
                continue;
            }
        };
        if let Err((field, reason)) = take(&mut records, number, &object, line) {
            records.refuse(number, field, reason);
        }
    }
    records
}

/// True if a line needs no line end to be complete, because it is one JSON object.
pub(super) fn closes(line: &str) -> bool {
    matches!(strict_json::parse(line), Ok(Value::Object(_)) | Err(NotJson::Twice { .. }))
}

/// Returns the reason to refuse a text in which no line could be an object.
fn other_form(text: &str) -> Option<&'static str> {
    let is_object = |line: &str| line.trim_start_matches('\u{feff}').starts_with('{') && line.ends_with('}');
    if lines(text).any(|(_, line)| is_object(line.trim())) {
        return None;
    }
    let first = lines(text).map(|(_, line)| line.trim()).find(|line| !line.is_empty())?;
    if first.starts_with(['[', '{']) {
        return Some(
            "is JSON over several lines: write one object a line, as `jq -c` does (`jq -c '.[]'` of a list)",
        );
    }
    first.contains([',', ';', '\t']).then_some("is not JSON: the name of a CSV file ends in .csv")
}

/// Returns the part of a path that has only known names. Names that the file made up are not
/// repeated in a message.
fn known(path: &[String]) -> String {
    let names = [&PRODUCT[..], &VARIANT, &CATEGORY, &BRAND].concat();
    let is_known =
        |step: &&String| names.contains(&step.as_str()) || step.bytes().all(|byte| byte.is_ascii_digit());
    path.iter().take_while(is_known).map(String::as_str).collect::<Vec<_>>().join("/")
}

fn take(records: &mut Records, line: u64, object: &Map<String, Value>, text_of: &str) -> Result<(), Wrong> {
    let brand = Brand::new(text(object, "brand")?).map_err(|error| wrong("brand", error.to_string()))?;
    if object.contains_key("product") {
        only(object, &PRODUCT, "")?;
        let product = product(line, &brand, object, text_of)?;
        for variant in &product.variants {
            if !records.name_brand(&brand, variant.price.currency(), line, "variants/price/currency") {
                return Ok(());
            }
        }
        for variant in product.variants.iter().filter(|variant| is_spreadsheet_s(variant.sku.as_str())) {
            records.warn(variant.line, "variants/sku", SPREADSHEET_S);
        }
        records.mention(&brand, product.categories.iter().flatten());
        records.products.push(product);
    } else if object.contains_key("category") {
        only(object, &CATEGORY, "")?;
        let code = code(object, "category")?;
        let parent = match object.get("parent") {
            None => None,
            Some(Value::Null) => Some(None),
            Some(_) => Some(Some(self::code(object, "parent")?)),
        };
        if parent.iter().flatten().any(|parent| *parent == code) {
            return Err(wrong("parent", "must be another category"));
        }
        let known = records.categories.get(&(brand.clone(), code.clone()));
        if let Some(first) = known.and_then(|known| known.line) {
            return Err(wrong("category", format!("is on line {first} already")));
        }
        let position = match optional(object, "position") {
            None => None,
            Some(value) => Some(
                value
                    .as_i64()
                    .and_then(|at| i32::try_from(at).ok())
                    .ok_or_else(|| wrong("position", "must be a whole number"))?,
            ),
        };
        let names = texts(object, "names")?;
        if names.as_ref().is_some_and(|names| bytes_of(names) > TEXTS_BYTES_MAX) {
            return Err(wrong("names", format!("must be {TEXTS_BYTES_MAX} bytes at most")));
        }
        records.mention(&brand, parent.iter().flatten());
        records.categories.insert((brand, code), Category { line: Some(line), parent, names, position });
    } else {
        only(object, &BRAND, "")?;
        let currency =
            decimal::currency(text(object, "currency")?).map_err(|reason| wrong("currency", reason))?;
        records.name_brand(&brand, currency, line, "currency");
    }
    Ok(())
}

/// The document of a line, exactly as the line has it.
#[derive(Deserialize)]
struct RawDocument<'a> {
    #[serde(borrow)]
    document: Option<&'a RawValue>,
}

fn product(line: u64, brand: &Brand, object: &Map<String, Value>, text_of: &str) -> Result<Product, Wrong> {
    let variants = match object.get("variants") {
        None => Vec::new(),
        Some(Value::Array(variants)) => {
            let variants = variants.iter().enumerate();
            variants
                .map(|(index, value)| variant(line, &format!("variants/{index}"), value))
                .collect::<Result<_, _>>()?
        }
        Some(_) => return Err(wrong("variants", "must be a list")),
    };
    let document = match object.get("document") {
        None => None,
        Some(Value::Object(document)) => Some(document),
        Some(_) => return Err(wrong("document", "must be a JSON object")),
    };
    if document.into_iter().flatten().any(|(name, value)| name.contains('\0') || has_nul(value)) {
        return Err(wrong("document", "must not hold a NUL"));
    }
    let document = match document {
        None => None,
        Some(_) => {
            let written: RawDocument<'_> = serde_json::from_str(text_of)
                .map_err(|_| wrong("document", "must be present once, or not at all"))?;
            written.document.map(|document| Document(document.get().to_owned()))
        }
    };
    if let Some(Document(text)) = &document {
        let stored = stored_bytes(text)
            .ok_or_else(|| wrong("document", "has a number that is too long for a database"))?;
        if stored > DOCUMENT_BYTES_MAX {
            return Err(wrong("document", format!("must be {DOCUMENT_BYTES_MAX} bytes at most")));
        }
    }
    let categories = match strings(object, "categories")? {
        None => None,
        Some(codes) => Some(
            codes
                .iter()
                .map(|code| Code::new(code))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| wrong("categories", error.to_string()))?,
        ),
    };
    Ok(Product {
        line,
        brand: brand.clone(),
        product: code(object, "product")?,
        names: texts(object, "names")?,
        descriptions: texts(object, "descriptions")?,
        document,
        images: strings(object, "images")?,
        categories,
        published_from: moment(object, "published_from")?,
        published_until: moment(object, "published_until")?,
        variants,
    })
}

fn variant(line: u64, at: &str, value: &Value) -> Result<Variant, Wrong> {
    let below = |(field, reason): Wrong| (format!("{at}/{field}"), reason);
    let Value::Object(object) = value else {
        return Err((at.to_owned(), "must be a JSON object".to_owned()));
    };
    only(object, &VARIANT, at)?;
    let sku = Sku::new(text(object, "sku").map_err(below)?);
    let sku = sku.ok_or_else(|| below(wrong("sku", "must be 1 to 64 printable ASCII characters")))?;
    let Some(Value::Object(price)) = object.get("price") else {
        return Err(below(wrong("price", "must be {\"amount\": .., \"currency\": ..}")));
    };
    let in_price = |(field, reason): Wrong| (format!("{at}/price/{field}"), reason);
    only(price, &["amount", "currency"], &format!("{at}/price"))?;
    let currency = decimal::currency(text(price, "currency").map_err(in_price)?)
        .map_err(|reason| in_price(wrong("currency", reason)))?;
    let amount = price.get("amount").and_then(Value::as_i64).and_then(|amount| Money::new(amount, currency));
    let money = amount
        .ok_or_else(|| in_price(wrong("amount", "must be a whole number of minor units, not negative")))?;
    let quantity = match optional(object, "quantity") {
        None => None,
        Some(value) => {
            Some(value.as_i64().filter(|units| (0..=QUANTITY_MAX).contains(units)).ok_or_else(|| {
                below(wrong("quantity", format!("must be a whole number from 0 to {QUANTITY_MAX}")))
            })?)
        }
    };
    let options = texts(object, "options").map_err(below)?;
    Ok(Variant { line, sku, options, price: money, quantity, position: 0 })
}

fn wrong(field: &str, reason: impl Into<String>) -> Wrong {
    (field.to_owned(), reason.into())
}

fn optional<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|value| !value.is_null())
}

fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Result<&'a str, Wrong> {
    object.get(field).and_then(Value::as_str).ok_or_else(|| wrong(field, "must be present, and a text"))
}

fn code(object: &Map<String, Value>, field: &str) -> Result<Code, Wrong> {
    Code::new(text(object, field)?).map_err(|error| wrong(field, error.to_string()))
}

fn texts(object: &Map<String, Value>, field: &str) -> Result<Option<Texts>, Wrong> {
    let Some(value) = object.get(field) else { return Ok(None) };
    let texts = value.as_object().and_then(|texts| {
        texts
            .iter()
            .map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())))
            .collect::<Option<BTreeMap<_, _>>>()
    });
    texts.filter(fits).map(Some).ok_or_else(|| {
        wrong(field, "must be an object of texts without a NUL, 16 KiB at most (a description: 256 KiB)")
    })
}

/// True if a value contains a NUL. PostgreSQL's jsonb cannot hold one.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// True if PostgreSQL can store these texts. Their length is checked against the tables' limits
/// elsewhere.
fn fits(texts: &Texts) -> bool {
    texts.iter().all(|(name, text)| !name.contains('\0') && !text.contains('\0'))
}

fn strings(object: &Map<String, Value>, field: &str) -> Result<Option<Vec<String>>, Wrong> {
    let Some(value) = object.get(field) else { return Ok(None) };
    let texts = value.as_array().and_then(|texts| {
        texts
            .iter()
            .map(|text| text.as_str().filter(|text| !text.contains('\0')).map(str::to_owned))
            .collect::<Option<Vec<_>>>()
    });
    texts.map(Some).ok_or_else(|| wrong(field, "must be a list of texts"))
}

fn moment(object: &Map<String, Value>, field: &str) -> Result<Option<Option<i64>>, Wrong> {
    match object.get(field) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(value) => {
            let moment = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
            let micros = moment.map(Timestamp::as_microsecond);
            micros.map(|micros| Some(Some(micros))).ok_or_else(|| {
                wrong(
                    field,
                    "must be a moment as RFC 3339 has it, such as 2026-12-01T10:00:00+09:00, or null",
                )
            })
        }
    }
}

fn only(object: &Map<String, Value>, known: &[&str], at: &str) -> Result<(), Wrong> {
    if object.keys().all(|name| known.contains(&name.as_str())) {
        return Ok(());
    }
    Err((at.to_owned(), format!("has a member that is none of {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Vec<(u64, String)> {
        read(text).refused.into_iter().map(|one| (one.line, one.field)).collect()
    }

    #[test]
    fn brands_categories_and_products_are_read_line_by_line() {
        let records = read(
            "{\"brand\": \"tea\", \"currency\": \"KRW\"}\r\n\
            \n\
            {\"brand\": \"tea\", \"category\": \"green\", \"parent\": \"all\"}\n\
            {\"brand\": \"tea\", \"product\": \"A\", \"names\": {\"ko\": \"차\"}, \"published_from\": \"2026-12-01T10:00:00+09:00\", \
             \"variants\": [{\"sku\": \"A-1\", \"price\": {\"amount\": 5, \"currency\": \"KRW\"}, \"quantity\": 3}]}\n",
        );
        assert_eq!(records.refused, []);
        assert_eq!((records.brands.len(), records.categories.len()), (1, 2));
        let [product] = &records.products[..] else { panic!("one product") };
        assert_eq!(product.published_from, Some(Some(1_796_086_800_000_000)));
        assert_eq!((product.published_until, &product.images), (None, &None));
        assert_eq!((product.variants[0].price.amount(), product.variants[0].quantity), (5, Some(3)));
    }

    #[test]
    fn a_mistake_is_named_by_line_and_member_and_reading_continues() {
        let text = concat!(
            "[]\n",
            "{\"brand\": \"Tea\", \"currency\": \"KRW\"}\n",
            "{\"brand\": \"tea\", \"currency\": \"won\"}\n",
            "{\"brand\": \"tea\", \"product\": \"..\"}\n",
            "{\"brand\": \"tea\", \"product\": \"A\", \"secret\": 1}\n",
            "{\"brand\": \"tea\", \"product\": \"A\", \"variants\": [{\"sku\": \"A\", \"price\": {\"amount\": -1, \"currency\": \"KRW\"}}]}\n",
            "{\"brand\": \"tea\", \"product\": \"A\", \"variants\": [{\"sku\": \"A\", \"price\": {\"amount\": 1.5, \"currency\": \"KRW\"}}]}\n",
            "{\"brand\": \"tea\", \"product\": \"A\", \"names\": {\"ko\": 1}}\n",
            "{\"brand\": \"tea\", \"product\": \"A\", \"document\": []}\n",
            "{\"brand\": \"tea\", \"product\": \"A\", \"document\": {\"a\": [{\"b\": \"\\u0000\"}]}}\n",
            "{\"brand\": \"tea\", \"category\": \"a\", \"parent\": \"a\"}\n",
            "{\"brand\": \"tea\", \"product\": \"A\", \"published_until\": \"soon\"}\n",
            "{\"brand\": \"tea\", \"product\": \"GOOD\"}\n",
        );
        let fields = [
            "",
            "brand",
            "currency",
            "product",
            "",
            "variants/0/price/amount",
            "variants/0/price/amount",
            "names",
            "document",
            "document",
            "parent",
            "published_until",
        ];
        let expected: Vec<_> = (1_u64..).zip(fields).map(|(line, field)| (line, field.to_owned())).collect();
        assert_eq!(refused(text), expected);
        assert_eq!(read(text).products.len(), 1);
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_as_in_orders() {
        let text = concat!(
            "{\"brand\": \"tea\", \"product\": \"A\", \"names\": {\"ko\": \"x\"}, \"names\": {\"ko\": \"y\"}}\n",
            "{\"brand\": \"tea\", \"product\": \"B\", \"names\": {\"ko\": \"x\", \"ko\": \"y\"}}\n",
            "{\"brand\": \"tea\", \"product\": \"C\", \"document\": {\"a\": {\"b\": 1, \"b\": 2}}}\n",
            "{\"brand\": \"tea\", \"product\": \"D\", \"variants\": [{\"sku\": \"D\", \"price\": {\"amount\": 1, \"amount\": 2, \"currency\": \"KRW\"}}]}\n",
            "{\"brand\": \"tea\", \"product\": \"GOOD\"}\n",
        );
        let fields = ["", "names", "document", "variants/0/price"];
        let expected: Vec<_> = (1_u64..).zip(fields).map(|(line, field)| (line, field.to_owned())).collect();
        assert_eq!(refused(text), expected);
        assert_eq!(read(text).products.len(), 1);
    }

    #[test]
    fn lines_end_with_any_of_three_ends_and_empty_ones_are_skipped() {
        let good = "{\"brand\": \"tea\", \"product\": \"A\"}";
        for end in ["\n", "\r\n", "\r"] {
            let text = [good, "", "  ", "nonsense", ""].join(end);
            assert_eq!(refused(&text), [(4, String::new())], "{end:?}");
            assert_eq!(read(&text).products.len(), 1);
        }
    }

    #[test]
    fn a_file_of_another_format_is_refused_whole_and_named() {
        for (text, name) in [
            ("brand,product\ntea,A\n", ".csv"),
            ("[\n  {\n    \"brand\": \"tea\"\n  }\n]\n", "several lines"),
            ("[{\"brand\": \"tea\"}, {\"brand\": \"tea\"}]\n", "several lines"),
        ] {
            let records = read(text);
            assert!(
                records.refused_whole && records.refused[0].reason.contains(name),
                "{:?}",
                records.refused
            );
        }
    }

    #[test]
    fn a_document_is_as_long_as_a_database_writes_it() {
        for (written, stored) in [
            (r#"{"a":[1,2],"b":"x"}"#, Some(r#"{"a": [1, 2], "b": "x"}"#.len())),
            ("{ \"a\" : \"\\u00e9\\u0041\" }            ", Some(36)),
            (r#"{"a": 1e5}"#, Some(13 + 2)),
            (r#"{"a": 1e-20000}"#, None),
        ] {
            assert_eq!(stored_bytes(written), stored, "{written}");
        }
        let long = format!("[{}1]", "1,".repeat(DOCUMENT_BYTES_MAX / 3));
        let line = format!("{{\"brand\": \"tea\", \"product\": \"A\", \"document\": {{\"a\": {long}}}}}\n");
        assert!(line.len() < DOCUMENT_BYTES_MAX);
        assert_eq!(refused(&line), [(1, "document".to_owned())]);
    }

    #[test]
    fn a_document_keeps_every_digit_of_its_numbers() {
        let document = r#"{"mass": 0.12345678901234567890123, "id": 123456789012345678901234}"#;
        let line = format!("{{\"brand\": \"tea\", \"product\": \"A\", \"document\": {document}}}\n");
        let records = read(&line);
        assert_eq!(records.products[0].document, Some(Document(document.to_owned())));
    }

    #[test]
    fn a_repeated_category_is_refused_and_null_makes_it_a_root() {
        let text = concat!(
            "{\"brand\": \"tea\", \"category\": \"b\", \"parent\": \"a\"}\n",
            "{\"brand\": \"tea\", \"category\": \"a\", \"parent\": null}\n",
            "{\"brand\": \"tea\", \"category\": \"b\"}\n",
        );
        assert_eq!(refused(text), [(3, "category".to_owned())]);
        let parents: Vec<_> = read(text)
            .categories
            .into_values()
            .map(|category| category.parent.map(|at| at.is_some()))
            .collect();
        assert_eq!(parents, [Some(false), Some(true)]);
    }

    #[test]
    fn names_of_a_category_that_its_table_would_not_take_are_refused() {
        let long = "x".repeat(TEXTS_BYTES_MAX);
        let text =
            format!("{{\"brand\": \"tea\", \"category\": \"a\", \"names\": {{\"en\": \"{long}\"}}}}\n");
        assert_eq!(refused(&text), [(1, "names".to_owned())]);
    }

    #[test]
    fn a_brand_of_two_currencies_is_refused_where_the_second_one_stands() {
        let text = concat!(
            "{\"brand\": \"tea\", \"currency\": \"KRW\"}\n",
            "{\"brand\": \"tea\", \"product\": \"A\", \"variants\": [{\"sku\": \"A\", \"price\": {\"amount\": 1, \"currency\": \"JPY\"}}]}\n",
        );
        assert_eq!(refused(text), [(2, "variants/price/currency".to_owned())]);
    }

    #[test]
    fn no_refusal_repeats_what_the_file_says() {
        for text in [
            "{\"brand\": \"hunter2\", \"hunter2\": 1}",
            "hunter2",
            "{\"brand\": \"tea\", \"product\": \"\u{1}hunter2\"}",
            "{\"brand\": \"tea\", \"product\": \"A\", \"published_from\": \"hunter2\"}",
        ] {
            for refusal in read(text).refused {
                assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
            }
        }
    }
}
