//! Source of the settings: the TOML file, flattened to dotted keys with their lines, overlaid by
//! the environment.
//!
//! It does not know the settings. The reader takes the keys that it needs, and the rest is unknown.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::mistakes::{Mistakes, Origin};
use super::values::Kind;

/// A value before its meaning is known.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    Scalar(Kind, String),
    List(Vec<Entry>),
    /// A type that no setting has, with its name.
    Other(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    pub(super) raw: Raw,
}

struct Table {
    parent: String,
    /// Line of its header, or of the first key that implied it.
    line: usize,
}

/// All settings that are not taken yet.
pub(super) struct Source {
    prefix: String,
    entries: BTreeMap<String, Entry>,
    tables: BTreeMap<String, Table>,
    /// Variables with our prefix.
    variables: BTreeMap<String, String>,
}

impl Source {
    /// Flattens `text`. Invalid TOML goes to `mistakes`. `prefix` is like `BRIDGE_CLOUD`.
    pub(super) fn new(
        text: &str,
        prefix: &str,
        environment: impl Iterator<Item = (String, String)>,
        mistakes: &mut Mistakes,
    ) -> Self {
        let prefix = format!("{prefix}__");
        let variables = environment.filter(|(name, _)| name.starts_with(&prefix)).collect();
        let mut source = Self { prefix, entries: BTreeMap::new(), tables: BTreeMap::new(), variables };
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut without_quotes = BTreeSet::new();
        for error in errors {
            let line = error.span().map(|span| line_of(text, span.start));
            let origin = line.map_or(Origin::File, Origin::Line);
            match line.filter(|line| is_text_without_quotes(text, *line)) {
                // One such value may be several errors.
                Some(line) if !without_quotes.insert(line) => {}
                Some(_) => mistakes.add(origin, "", "is not valid TOML: write a text in double quotes"),
                // Only the message is used: the error's own Display quotes the line, where the user
                // may have pasted a secret.
                None => mistakes.add(origin, "", format!("is not valid TOML: {}", error.message())),
            }
        }
        source.flatten(text, "", table.get_ref());
        source
    }

    fn flatten(&mut self, text: &str, parent: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = join(parent, &bare_or_quoted(key.get_ref()));
            let line = line_of(text, key.span().start);
            if let DeValue::Table(inner) = value.get_ref() {
                self.tables.insert(path.clone(), Table { parent: parent.to_owned(), line });
                self.flatten(text, &path, inner);
            } else {
                self.entries.insert(path, entry(text, line, value.get_ref()));
            }
        }
    }

    /// Takes a scalar or a list, from the environment if it is there, or else from the file.
    pub(super) fn take(&mut self, path: &str, kind: Kind, list: bool) -> Option<Entry> {
        let from_file = self.entries.remove(path);
        let name = self.variable(path);
        let Some(text) = self.variables.remove(&name) else { return from_file };
        let origin = Origin::Variable(name);
        let raw = if list {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Raw::List(
                items
                    .map(|item| Entry { origin: origin.clone(), raw: Raw::Scalar(kind, item.to_owned()) })
                    .collect(),
            )
        } else {
            Raw::Scalar(kind, text)
        };
        Some(Entry { origin, raw })
    }

    /// Returns the names under `table` in the file, and those only in the environment (with `_` for
    /// `-`).
    pub(super) fn names(&self, table: &str) -> Vec<String> {
        let in_file = self.tables.iter().filter(|(_, child)| child.parent == table);
        let in_file =
            in_file.filter_map(|(path, _)| Some(path.strip_prefix(table)?.strip_prefix('.')?.to_owned()));
        let prefix = format!("{}__", self.variable(table));
        let in_environment =
            self.variables.keys().filter_map(|name| name.strip_prefix(&prefix)?.split("__").next());
        let in_environment = in_environment.map(|name| name.to_lowercase().replace('_', "-"));
        let mut names: Vec<_> = in_file.chain(in_environment).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns the line of a table, for a mistake about a missing key.
    pub(super) fn table_origin(&self, table: &str) -> Origin {
        self.tables.get(table).map_or(Origin::File, |table| Origin::Line(table.line))
    }

    /// Returns the variable that overlays a key: `tunnel.udp_buffer` is
    /// `BRIDGE_CLOUD__TUNNEL__UDP_BUFFER`.
    pub(super) fn variable(&self, path: &str) -> String {
        format!("{}{}", self.prefix, path.to_uppercase().replace('-', "_").replace('.', "__"))
    }

    /// Returns the settings that nobody took, with their places. Of an unknown table it returns
    /// only the table.
    pub(super) fn left_over(&self, known: &[&str]) -> Vec<(Origin, String)> {
        let is_section = |path: &str| {
            known.iter().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
        };
        let unknown_tables: Vec<_> = self.tables.iter().filter(|(path, _)| !is_section(path)).collect();
        let inside_unknown = |path: &str| {
            unknown_tables
                .iter()
                .any(|(table, _)| path.strip_prefix(table.as_str()).is_some_and(|rest| rest.starts_with('.')))
        };
        let tables = unknown_tables.iter().map(|(path, table)| (Origin::Line(table.line), (*path).clone()));
        let entries = self.entries.iter().map(|(path, entry)| (entry.origin.clone(), path.clone()));
        let in_file = tables.chain(entries).filter(|(_, path)| !inside_unknown(path));
        let in_environment = self.variables.keys().map(|name| {
            let path = name.trim_start_matches(&self.prefix).to_lowercase().replace("__", ".");
            (Origin::Variable(name.clone()), path)
        });
        in_file.chain(in_environment).collect()
    }
}

/// Returns a dotted path, without a leading dot at the top level.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

fn entry(text: &str, line: usize, value: &DeValue<'_>) -> Entry {
    let raw = match value {
        DeValue::String(text) => Raw::Scalar(Kind::Text, text.to_string()),
        DeValue::Boolean(value) => Raw::Scalar(Kind::Boolean, value.to_string()),
        DeValue::Integer(value) => {
            let decimal = i128::from_str_radix(value.as_str(), value.radix()).map(|value| value.to_string());
            Raw::Scalar(Kind::Integer, decimal.unwrap_or_else(|_| value.to_string()))
        }
        DeValue::Array(items) => Raw::List(
            items.iter().map(|item| entry(text, line_of(text, item.span().start), item.get_ref())).collect(),
        ),
        DeValue::Float(_) => Raw::Other("a float"),
        DeValue::Datetime(_) => Raw::Other("a date or time"),
        DeValue::Table(_) => Raw::Other("a table"),
    };
    Entry { origin: Origin::Line(line), raw }
}

/// Returns the key as TOML writes it, so that `"a.b"` and `a.b` are different keys.
fn bare_or_quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

/// Returns true if a line's value begins like a text without its quotes. TOML takes it for a
/// boolean, which helps nobody.
fn is_text_without_quotes(text: &str, line: usize) -> bool {
    let value = text.lines().nth(line - 1).and_then(|line| Some(line.split_once('=')?.1.trim()));
    value.is_some_and(|value| value.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '.'))
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
