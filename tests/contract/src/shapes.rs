//! Random values made from the API's document alone: values that it allows, most of them at its
//! limits, and values that break one limit.
//!
//! A shape cannot express some rules (sums, one currency, each SKU once, no card number). The
//! caller must adjust the values to these.

use anyhow::{Context as _, Result, bail, ensure};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

/// Characters of the texts: those that a limit could forget. There is only one digit, and no card
/// number begins with it.
const CHARS: [char; 22] = [
    'a',
    'Z',
    '7',
    '~',
    '!',
    '-',
    ' ',
    '"',
    '\\',
    '/',
    '\u{0}',
    '\t',
    '\n',
    '\u{7f}',
    '\u{85}',
    '\u{a0}',
    '\u{e9}',
    '\u{ac00}',
    '\u{200b}',
    '\u{3000}',
    '\u{feff}',
    '\u{1f600}',
];

/// Texts that are tried before the search for a matching one fails.
const TRIES: usize = 2_000;

/// Elements of an array beyond its minimum, unless it is filled to its maximum.
const FEW: usize = 4;

/// The shapes of a document.
#[derive(Clone, Copy, Debug)]
pub struct Shapes<'a> {
    document: &'a Value,
}

/// A change of a value that breaks one limit of its shape.
#[derive(Debug)]
pub struct Break {
    /// JSON pointer of the changed value, or of its parent.
    pub pointer: String,
    /// Name of the broken limit.
    pub what: String,
    /// The value after the change.
    pub value: Value,
}

impl<'a> Shapes<'a> {
    /// Returns the shapes of an OpenAPI document.
    #[must_use]
    pub fn of(document: &'a Value) -> Shapes<'a> {
        Shapes { document }
    }

    /// Returns a shape by its name, with every `$ref` and `allOf` resolved.
    ///
    /// # Errors
    /// Fails if the document has no shape of that name.
    pub fn named(self, name: &str) -> Result<Value> {
        let shape = self.document.pointer(&format!("/components/schemas/{name}"));
        self.plain(shape.with_context(|| format!("no shape {name}"))?)
    }

    fn plain(self, shape: &Value) -> Result<Value> {
        let Value::Object(members) = shape else { return Ok(shape.clone()) };
        let mut plain = Map::new();
        if let Some(name) = members.get("$ref").and_then(Value::as_str) {
            merge(&mut plain, self.named(name.rsplit('/').next().unwrap_or_default())?);
        }
        for part in members.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            merge(&mut plain, self.plain(part)?);
        }
        for (key, value) in members.iter().filter(|(key, _)| !["$ref", "allOf"].contains(&key.as_str())) {
            let value = match (key.as_str(), value) {
                ("properties", Value::Object(properties)) => {
                    let plain = properties.iter().map(|(name, shape)| Ok((name.clone(), self.plain(shape)?)));
                    Value::Object(plain.collect::<Result<_>>()?)
                }
                ("items", shape) => self.plain(shape)?,
                _ => value.clone(),
            };
            merge(&mut plain, json!({ key: value }));
        }
        Ok(Value::Object(plain))
    }
}

/// Adds the limits of another shape. Of two numbers the later one counts, and in this document it
/// is always the narrower one.
fn merge(into: &mut Map<String, Value>, from: Value) {
    let Value::Object(from) = from else { return };
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(known)), value @ Value::Object(_)) => merge(known, value),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Returns a random value that a shape (from [`Shapes::named`]) allows.
///
/// # Errors
/// Fails if no value is found, or if the kind of the shape is not supported here.
pub fn allowed(shape: &Value, rng: &mut ChaCha8Rng) -> Result<Value> {
    if let Some(values) = shape["enum"].as_array() {
        return Ok(values[rng.random_range(0..values.len())].clone());
    }
    match shape["type"].as_str() {
        Some("string") => text(shape, rng, true).map(Value::from),
        Some("integer") => {
            let (least, most) = (bound(shape, "minimum")?, bound(shape, "maximum")?);
            let between = rng.random_range(least..=most);
            Ok(json!([least, least + 1, most - 1, most, between][rng.random_range(0..5)].clamp(least, most)))
        }
        Some("array") => {
            let (least, most) = (length(shape, "minItems", 0), length(shape, "maxItems", FEW));
            let few = rng.random_range(least..=most.min(least + FEW));
            let count = if rng.random_ratio(1, 8) { most } else { few };
            (0..count).map(|_| allowed(&shape["items"], rng)).collect()
        }
        Some("object") => {
            let mut value = Map::new();
            for (name, shape_of_it) in shape["properties"].as_object().into_iter().flatten() {
                if is_required(shape, name) || rng.random() {
                    value.insert(name.clone(), allowed(shape_of_it, rng)?);
                }
            }
            Ok(Value::Object(value))
        }
        _ => bail!("a shape of an unknown kind: {shape}"),
    }
}

/// Returns changes of an allowed value, each of which breaks one limit of its shape.
///
/// # Errors
/// Fails if the kind of the shape is not supported here.
pub fn breaks(shape: &Value, value: &Value, rng: &mut ChaCha8Rng) -> Result<Vec<Break>> {
    let mut found = Vec::new();
    break_below(shape, value, "", rng, &mut |pointer, what, changed: Option<Value>, name| {
        let mut whole = value.clone();
        let Some(at) = whole.pointer_mut(pointer) else { return };
        match (name, changed) {
            (None, Some(changed)) => *at = changed,
            (Some(name), None) => drop(at.as_object_mut().map(|members| members.remove(name))),
            (Some(name), Some(changed)) => {
                drop(at.as_object_mut().map(|members| members.insert(name.to_owned(), changed)));
            }
            (None, None) => return,
        }
        found.push(Break { pointer: pointer.to_owned(), what: what.to_owned(), value: whole });
    })?;
    ensure!(!found.is_empty(), "a shape without a limit: {shape}");
    Ok(found)
}

/// Reports a change: its JSON pointer, the broken limit, the new value (`None` removes it), and the
/// changed member.
type Tell<'t> = &'t mut dyn FnMut(&str, &str, Option<Value>, Option<&str>);

fn break_below(shape: &Value, value: &Value, at: &str, rng: &mut ChaCha8Rng, tell: Tell<'_>) -> Result<()> {
    match value {
        Value::Object(members) => {
            tell(at, "a member that is not told of", Some(json!(1)), Some("unheard-of"));
            for (name, shape_of_it) in shape["properties"].as_object().into_iter().flatten() {
                if is_required(shape, name) {
                    tell(at, "a member that must be there", None, Some(name));
                }
                if let Some(value) = members.get(name) {
                    tell(&format!("{at}/{name}"), "null", Some(Value::Null), None);
                    break_below(shape_of_it, value, &format!("{at}/{name}"), rng, tell)?;
                }
            }
        }
        Value::Array(values) => {
            if let (Some(most), Some(one)) = (shape["maxItems"].as_u64(), values.first()) {
                let many = vec![one.clone(); usize::try_from(most)? + 1];
                tell(at, "maxItems", Some(many.into()), None);
            }
            if shape["minItems"].as_u64().is_some_and(|least| least > 0) {
                tell(at, "minItems", Some(json!([])), None);
            }
            if let Some((index, value)) = values.iter().enumerate().next_back() {
                break_below(&shape["items"], value, &format!("{at}/{index}"), rng, tell)?;
            }
        }
        Value::Number(_) => {
            for (limit, step) in [("minimum", -1), ("maximum", 1)] {
                tell(at, limit, Some(json!(bound(shape, limit)? + step)), None);
            }
            tell(at, "a fraction", Some(json!(1.5)), None);
        }
        Value::String(_) if shape["enum"].is_array() => {
            for text in ["", "zz", "ZZ", "kr", "KOR"] {
                tell(at, "enum", Some(json!(text)), None);
            }
        }
        Value::String(_) => {
            for what in
                ["pattern", "minLength", "maxLength"].into_iter().filter(|what| !shape[what].is_null())
            {
                let other = match what {
                    "pattern" => text(shape, rng, false)?,
                    "minLength" => String::new(),
                    _ => "a".repeat(length(shape, what, 0) + 1),
                };
                tell(at, what, Some(json!(other)), None);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Returns a text within the limits of length that matches the pattern, or does not.
fn text(shape: &Value, rng: &mut ChaCha8Rng, fits: bool) -> Result<String> {
    let validator = jsonschema::validator_for(shape).map_err(|error| anyhow::anyhow!("{shape}: {error}"))?;
    let (least, most) = (length(shape, "minLength", 0), length(shape, "maxLength", 40));
    for _ in 0..TRIES {
        let short = (least + 3).min(most);
        let lengths = [least, (least + 1).min(most), short, most, rng.random_range(least..=most)];
        let length = lengths[rng.random_range(0..lengths.len())];
        // Each text has few kinds of characters, so that some texts match any pattern.
        let kinds: Vec<char> =
            (0..rng.random_range(1..4)).map(|_| CHARS[rng.random_range(0..CHARS.len())]).collect();
        let text: String = (0..length).map(|_| kinds[rng.random_range(0..kinds.len())]).collect();
        if validator.is_valid(&json!(text)) == fits {
            return Ok(text);
        }
    }
    bail!("no text found for {shape}")
}

fn is_required(shape: &Value, name: &str) -> bool {
    shape["required"].as_array().is_some_and(|required| required.iter().any(|known| known == name))
}

fn bound(shape: &Value, name: &str) -> Result<i64> {
    shape[name].as_i64().with_context(|| format!("no {name} in {shape}"))
}

fn length(shape: &Value, name: &str, otherwise: usize) -> usize {
    shape[name].as_u64().and_then(|length| usize::try_from(length).ok()).unwrap_or(otherwise)
}
