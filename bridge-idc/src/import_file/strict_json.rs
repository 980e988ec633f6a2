//! Reads JSON without repeated members (RFC 8259 section 4: names should be unique). Some parsers
//! take the last of two members and others the first, so the meaning of such a file is not known.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reasons to refuse a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotJson {
    /// The text is not JSON from this column on, counted from 1.
    Form { column: usize },
    /// An object has a member twice. `at` is the path to the object from the top.
    Twice { at: Vec<String> },
}

/// Reads one value.
pub(crate) fn parse(text: &str) -> Result<Value, NotJson> {
    let path = RefCell::new(Path::default());
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Strict(&path).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| match path.into_inner() {
        Path { steps, twice: true } => NotJson::Twice { at: steps },
        Path { .. } => NotJson::Form { column: error.column() },
    })
}

/// The reader's position. After an error it stays at the place of the error.
#[derive(Default)]
struct Path {
    steps: Vec<String>,
    twice: bool,
}

#[derive(Clone, Copy)]
struct Strict<'p>(&'p RefCell<Path>);

impl Strict<'_> {
    fn enter(self, step: String) {
        self.0.borrow_mut().steps.push(step);
    }

    fn leave(self) {
        self.0.borrow_mut().steps.pop();
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            self.enter(values.len().to_string());
            match items.next_element_seed(self)? {
                Some(value) => values.push(value),
                None => break,
            }
            self.leave();
        }
        self.leave();
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                self.0.borrow_mut().twice = true;
                return Err(A::Error::custom("a member stands twice"));
            }
            self.enter(name.clone());
            let value = members.next_value_seed(self)?;
            self.leave();
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_once_is_read_as_any_parser_reads_it() {
        let text = r#"{"a": [1, -2, 1.5, true, null, "\u00e9\ud83d\ude00"], "b": {"a": {}}, "": 18446744073709551615}"#;
        assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_member_that_stands_twice_is_found_at_any_depth() {
        let at = |text: &str| match parse(text) {
            Err(NotJson::Twice { at }) => at.join("/"),
            other => panic!("{other:?}"),
        };
        assert_eq!(at(r#"{"names": {"ko": "x"}, "names": {"ko": "y"}}"#), "");
        assert_eq!(at(r#"{"names": {"ko": "x", "\u006bo": "y"}}"#), "names");
        assert_eq!(at(r#"{"a": [{}, {"b": {"c": 1, "c": 1}}]}"#), "a/1/b");
    }

    #[test]
    fn what_is_no_json_is_said_with_its_column() {
        for text in
            [r#"{"a": "\ud800"}"#, r#"{"a": 1} {"b": 2}"#, r#"{"a": 1e999}"#, "{\"a\": \"\u{1}\"}", "NaN", ""]
        {
            assert!(matches!(parse(text), Err(NotJson::Form { .. })), "{text}");
        }
        let deep = [vec!["["; 200], vec!["]"; 200]].concat().concat();
        assert!(matches!(parse(&deep), Err(NotJson::Form { .. })));
    }
}
