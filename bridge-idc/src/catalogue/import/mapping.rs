//! Maps columns of a CSV file to fields of the catalogue: `field=column`, or `field=@constant`.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization as _;

/// Fields with a fixed name.
const FIELDS: [&str; 10] = [
    "brand",
    "currency",
    "product",
    "sku",
    "price",
    "quantity",
    "category",
    "image",
    "published_from",
    "published_until",
];

/// Families of fields. The second part of such a field is a language, or the name of an option or a
/// member.
const FAMILIES: [&str; 4] = ["name", "description", "option", "document"];

/// Fields that every mapping must have.
const REQUIRED: [&str; 4] = ["brand", "currency", "product", "price"];

/// A checked mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping(BTreeMap<String, Source>);

/// The source of a field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A column, by its name in the header.
    Column(String),
    /// The same value for every row.
    Constant(String),
}

impl Mapping {
    /// Reads pairs such as `product=stock_code` or `currency=@GBP`.
    ///
    /// # Errors
    ///
    /// Fails with every mistake, not only the first.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<String>> {
        let (mut fields, mut mistakes) = (BTreeMap::new(), Vec::new());
        for pair in pairs {
            let Some((field, source)) = pair.split_once('=') else {
                mistakes.push(format!("{pair:?} is not FIELD=COLUMN or FIELD=@CONSTANT"));
                continue;
            };
            let family = field.split_once('.').filter(|(_, part)| !part.is_empty());
            if !FIELDS.contains(&field) && !family.is_some_and(|(family, _)| FAMILIES.contains(&family)) {
                let families: Vec<String> = FAMILIES.iter().map(|family| format!("{family}.X")).collect();
                mistakes.push(format!("{field:?} is none of {}, {}", FIELDS.join(", "), families.join(", ")));
                continue;
            }
            let source = match source.strip_prefix('@') {
                Some(constant) => Source::Constant(constant.to_owned()),
                None => Source::Column(source.to_owned()),
            };
            if fields.insert(field.to_owned(), source).is_some() {
                mistakes.push(format!("{field:?} is mapped twice"));
            }
        }
        for field in REQUIRED.iter().filter(|field| !fields.contains_key(**field)) {
            mistakes
                .push(format!("{field:?} is not mapped: name its column, or a constant as in {field}=@..."));
        }
        if mistakes.is_empty() { Ok(Self(fields)) } else { Err(mistakes) }
    }

    /// Reads a mapping from TOML, `field = "column"`. A family may be a table.
    ///
    /// # Errors
    ///
    /// Fails with every mistake, not only the first.
    pub fn from_toml(text: &str) -> Result<Self, Vec<String>> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
        let (mut pairs, mut mistakes) = (Vec::new(), Vec::new());
        for (field, value) in &table {
            match value {
                toml::Value::String(source) => pairs.push(format!("{field}={source}")),
                toml::Value::Table(parts) => parts.iter().for_each(|(part, source)| match source.as_str() {
                    Some(source) => pairs.push(format!("{field}.{part}={source}")),
                    None => mistakes.push(format!("\"{field}.{part}\" must be a text")),
                }),
                _ => mistakes.push(format!("{field:?} must be a text")),
            }
        }
        let parsed = Self::parse(pairs.iter().map(String::as_str));
        match (parsed, mistakes.is_empty()) {
            (Ok(mapping), true) => Ok(mapping),
            (Ok(_), false) => Err(mistakes),
            (Err(more), _) => Err([mistakes, more].concat()),
        }
    }

    /// Returns the position of each field in a file with this header. Fails with all columns that
    /// the header lacks or repeats.
    pub(super) fn places<'a>(
        &'a self,
        header: &csv::StringRecord,
    ) -> Result<Vec<(&'a str, ValueSource<'a>)>, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut places = Vec::new();
        for (field, source) in &self.0 {
            match source {
                Source::Constant(constant) => places.push((field.as_str(), ValueSource::Constant(constant))),
                Source::Column(column) if header.iter().filter(|name| is_same(name, column)).count() > 1 => {
                    mistakes.push(format!(
                        "the file has more than one column {column:?}, which {field:?} is mapped to"
                    ));
                }
                Source::Column(column) => match header.iter().position(|name| is_same(name, column)) {
                    Some(index) => places.push((field.as_str(), ValueSource::Column(index))),
                    None => mistakes
                        .push(format!("the file has no column {column:?}, which {field:?} is mapped to")),
                },
            }
        }
        if mistakes.is_empty() { Ok(places) } else { Err(mistakes) }
    }
}

/// True if two names are equal in Unicode's form NFC. A file may have composed letters (NFC) and
/// the command line decomposed ones (NFD), or the reverse.
fn is_same(name: &str, column: &str) -> bool {
    name == column || name.nfc().eq(column.nfc())
}

/// The position of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum ValueSource<'a> {
    Column(usize),
    Constant(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 5] =
        ["brand=@retail", "currency=@GBP", "product=code", "price=unit_price", "name.en=text"];

    #[test]
    fn a_mapping_is_the_same_from_command_line_and_file() {
        let toml = "brand = \"@retail\"\ncurrency = \"@GBP\"\nproduct = \"code\"\nprice = \"unit_price\"\n[name]\nen = \"text\"\n";
        assert_eq!(Mapping::from_toml(toml), Mapping::parse(GOOD));
        assert!(Mapping::parse(GOOD).is_ok());
    }

    #[test]
    fn all_mistakes_of_a_mapping_are_told_at_once() {
        let mistakes =
            Mapping::parse(["brand=@a", "brand=b", "colour=c", "name.=d", "nonsense"]).unwrap_err();
        assert_eq!(mistakes.len(), 7, "{mistakes:?}");
        let mapping = Mapping::parse(GOOD).unwrap();
        let missing = mapping.places(&csv::StringRecord::from(vec!["code"])).unwrap_err();
        assert_eq!(missing.len(), 2, "{missing:?}");
        let decomposed = Mapping::parse(["brand=@a", "currency=@KRW", "product=p", "price=가격"]).unwrap();
        let header = csv::StringRecord::from(vec!["p", "\u{1100}\u{1161}\u{1100}\u{1167}\u{11a8}"]);
        assert!(decomposed.places(&header).is_ok());
        let twice = csv::StringRecord::from(vec!["code", "unit_price", "text", "code"]);
        assert_eq!(mapping.places(&twice).unwrap_err().len(), 1);
    }
}
