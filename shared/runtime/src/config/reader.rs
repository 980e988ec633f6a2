//! The reader that fills the structs of an agent's config.rs.
//!
//! Each call names a key, its default and its type, and always returns a value. Mistakes are
//! collected. [`Reader::finish`] returns them together, with every key of the file and the
//! environment that was not requested.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::mistakes::{Mistakes, Origin};
use super::source::{Entry, Raw, Source, join};
use super::values::{BasePaths, Kind, NAME_RULE, Setting, is_name};
use crate::private;

/// A hint is given only if at most one letter in this many differs.
const LETTERS_PER_SLIP: usize = 3;

/// A configuration being read.
pub struct Reader {
    source: Source,
    place: BasePaths,
    /// Requested keys, in order.
    asked: Vec<ReadSetting>,
    /// Tables that hold named sections, such as `brands`.
    of_names: Vec<String>,
    mistakes: Mistakes,
    warnings: Vec<String>,
}

struct ReadSetting {
    path: String,
    origin: Origin,
    /// The effective value as TOML; `None` for an optional setting that is not set.
    shown: Option<String>,
    /// Bounds of the value; `None` if its type has no order.
    bounds: Option<Bounds>,
}

/// Bounds of a setting, both written as in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Key as `section.key`.
    pub key: String,
    /// Smallest value.
    pub smallest: String,
    /// Largest value.
    pub largest: String,
}

impl Reader {
    /// Opens `file`, overlaid by the variables of `environment` that start with `prefix` and two
    /// underscores.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or is not TOML.
    pub fn open(
        file: &Path,
        prefix: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::new(file);
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| {
            mistakes.add(Origin::File, "", format!("cannot be read: {error}"));
            String::new()
        });
        let environment: Vec<_> = environment.collect();
        let credentials = environment.iter().find(|(name, _)| name == private::CREDENTIALS);
        let place = BasePaths {
            folder: file.parent().map(Path::to_owned).unwrap_or_default(),
            credentials: credentials.map(|(_, value)| PathBuf::from(value)),
        };
        let source = Source::new(&text, prefix, environment.into_iter(), &mut mistakes);
        let mistakes = mistakes.none_or(Mistakes::new(file))?;
        Ok(Self { source, place, asked: Vec::new(), of_names: Vec::new(), mistakes, warnings: Vec::new() })
    }

    /// Returns the settings under `[name]`.
    pub fn section(&mut self, name: &str) -> Section<'_> {
        Section { path: name.to_owned(), reader: self }
    }

    /// Reads each table `[table.NAME]` with `read`.
    pub fn named<T>(
        &mut self,
        table: &str,
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> BTreeMap<String, T> {
        self.of_names.push(table.to_owned());
        let mut values = BTreeMap::new();
        for name in self.source.names(table) {
            let path = join(table, &name);
            if !is_name(&name) {
                self.refuse(&path, NAME_RULE);
            }
            values.insert(name, read(&mut self.section(&path)));
        }
        values
    }

    /// Adds a mistake about `path`, unless it already has one: one reason to change a value is
    /// enough.
    pub fn refuse(&mut self, path: &str, problem: impl Into<String>) {
        self.refuse_each(path, [problem.into()]);
    }

    /// Adds several mistakes about `path`, unless it already has one.
    pub fn refuse_each<P: ToString>(&mut self, path: &str, problems: impl IntoIterator<Item = P>) {
        if !self.mistakes.concerns(path) {
            let origin = self.origin(path);
            problems
                .into_iter()
                .for_each(|problem| self.mistakes.add(origin.clone(), path, problem.to_string()));
        }
    }

    /// Refuses each listener that cannot be opened, because an earlier one in this list has its
    /// address.
    pub fn refuse_shared(&mut self, listeners: &[(&str, SocketAddr)]) {
        for (index, (path, address)) in listeners.iter().enumerate() {
            let earlier = listeners.iter().take(index);
            if let Some((other, _)) = earlier.rev().find(|(_, other)| is_shared(*other, *address)) {
                self.refuse(
                    path,
                    format!("must not be an address of {other}: both would listen on {address}"),
                );
            }
        }
    }

    /// Returns true if `path` has a mistake, so that its value says nothing about other settings.
    pub fn is_refused(&self, path: &str) -> bool {
        self.mistakes.concerns(path)
    }

    /// Adds a sentence about a setting that may be right, but rarely is.
    pub fn warn(&mut self, path: &str, doubt: &str) {
        let mut doubts = Mistakes::new(self.mistakes.file());
        doubts.add(self.origin(path), path, format!("warning: {doubt}"));
        self.warnings.push(doubts.to_string());
    }

    /// Returns the sentences of [`Self::warn`], each with file, line and key.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// Returns the bounds of all settings so far. The agent must work with each value within them.
    pub fn bounds(&self) -> Vec<Bounds> {
        self.asked.iter().filter_map(|asked| asked.bounds.clone()).collect()
    }

    /// Returns the effective configuration as TOML. It has the paths of secret files, but not their
    /// content.
    ///
    /// # Errors
    ///
    /// Returns all mistakes if there are any.
    pub fn finish(mut self) -> Result<String, Mistakes> {
        let known: Vec<_> = self.asked.iter().map(|asked| asked.path.as_str()).collect();
        for (origin, path) in self.source.left_over(&known) {
            let problem = if known
                .iter()
                .any(|key| key.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.')))
            {
                format!("is a section: write [{path}]")
            } else {
                format!("is not a known setting{}", self.hint(&path, &known, &origin))
            };
            self.mistakes.add(origin, &path, problem);
        }
        let effective = self.effective();
        self.mistakes.none_or(effective)
    }

    /// Returns a guess which key `path` should be.
    fn hint(&self, path: &str, known: &[&str], origin: &Origin) -> String {
        let sections = known.iter().filter_map(|key| key.rsplit_once('.')).map(|(section, _)| section);
        let candidates = known.iter().copied().chain(sections).map(str::to_owned);
        // A section of any name may be meant, if its table's name is almost right.
        let (table, name) = path.split_at(path.find('.').unwrap_or(path.len()));
        let named =
            self.of_names.iter().filter(|known| *known != table).map(|known| format!("{known}{name}"));
        let candidates = candidates.chain(named).map(|key| (edit_distance(path, &key), key));
        match candidates.min().filter(|(distance, _)| distance * LETTERS_PER_SLIP <= path.len()) {
            Some((_, key)) if matches!(origin, Origin::Variable(_)) => {
                format!(": did you mean {}?", self.source.variable(&key))
            }
            Some((_, key)) => format!(": did you mean {key}?"),
            None => ": remove it, the sample file has all there are".to_owned(),
        }
    }

    fn origin(&self, path: &str) -> Origin {
        let asked = self.asked.iter().find(|asked| asked.path == path);
        asked.map_or_else(|| self.source.table_origin(path), |asked| asked.origin.clone())
    }

    fn effective(&self) -> String {
        let mut text = String::new();
        let mut current = "";
        for ReadSetting { path, shown, .. } in &self.asked {
            let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
            if section != current {
                let gap = if text.is_empty() { "" } else { "\n" };
                let _infallible = writeln!(text, "{gap}[{section}]");
                current = section;
            }
            let _infallible = match shown {
                Some(value) => writeln!(text, "{key} = {value}"),
                None => writeln!(text, "# {key} is not set"),
            };
        }
        text
    }
}

/// Returns true if two listeners of one kind cannot have these addresses. Port 0 is any free port.
fn is_shared(a: SocketAddr, b: SocketAddr) -> bool {
    let is_same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && is_same_ip
}

/// One section of a configuration that is being read.
pub struct Section<'r> {
    path: String,
    reader: &'r mut Reader,
}

impl Section<'_> {
    /// Reads a setting that has no default.
    pub fn required<T: Setting>(&mut self, key: &str) -> T {
        match self.take(key, T::KIND, false) {
            Some(entry) => self.parse(key, &entry),
            None => {
                let origin = self.reader.source.table_origin(&self.path);
                self.record(key, origin.clone(), None);
                self.mistake(origin, key, format!("is missing: give {}", T::EXPECTED));
                T::placeholder()
            }
        }
    }

    /// Reads a setting with a default, written as in the file.
    pub fn or<T: Setting>(&mut self, key: &str, default: &str) -> T {
        let entry = self.take_or(key, T::KIND, default);
        self.parse(key, &entry)
    }

    /// Reads a setting with a default and its own bounds, all written as in the file.
    pub fn within<T: Setting + PartialOrd>(
        &mut self,
        key: &str,
        bounds: RangeInclusive<&str>,
        default: &str,
    ) -> T {
        let entry = self.take_or(key, T::KIND, default);
        self.parse_within(key, bounds, &entry)
    }

    /// Reads a setting that may be absent.
    pub fn optional<T: Setting>(&mut self, key: &str) -> Option<T> {
        let entry = self.take(key, T::KIND, false);
        if entry.is_none() {
            self.record(key, Origin::File, None);
        }
        entry.map(|entry| self.parse(key, &entry))
    }

    /// Reads a setting with a default and bounds, or the word `"off"`.
    pub fn within_or_off<T: Setting + PartialOrd>(
        &mut self,
        key: &str,
        bounds: RangeInclusive<&str>,
        default: &str,
    ) -> Option<T> {
        let entry = self.take_or(key, T::KIND, default);
        if matches!(&entry.raw, Raw::Scalar(Kind::Text, text) if text == "off") {
            self.record(key, entry.origin, Some("\"off\"".to_owned()));
            self.bound(key, &text_bounds(bounds));
            return None;
        }
        Some(self.parse_within(key, bounds, &entry))
    }

    /// Reads a whole number within `range`.
    pub fn number<N: TryFrom<u64> + Default>(
        &mut self,
        key: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> N {
        let entry = self.take_or(key, Kind::Integer, &default.to_string());
        let text = self.scalar(key, &entry, Kind::Integer, "a whole number");
        self.bound(key, &(range.start().to_string()..=range.end().to_string()));
        let Some(text) = text else { return N::default() };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| N::try_from(number).ok()).unwrap_or_else(|| {
            self.mistake(
                entry.origin,
                key,
                format!("must be {} to {}, is {text}", range.start(), range.end()),
            );
            N::default()
        })
    }

    /// Reads one of a few words, each with its meaning.
    pub fn choice<T: Copy + Default>(&mut self, key: &str, default: &str, words: &[(&str, T)]) -> T {
        let names: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let expected = names.join(" or ");
        let entry = self.take_or(key, Kind::Text, default);
        let Some(text) = self.scalar(key, &entry, Kind::Text, &expected) else { return T::default() };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        self.mistake(entry.origin, key, format!("must be {expected}, is {text:?}"));
        T::default()
    }

    /// Reads a list, which is empty if it is absent.
    pub fn list<T: Setting>(&mut self, key: &str) -> Vec<T> {
        let Some(Entry { origin, raw }) = self.take(key, T::KIND, true) else {
            self.record(key, Origin::File, Some("[]".to_owned()));
            return Vec::new();
        };
        let Raw::List(items) = raw else {
            self.mistake(origin, key, format!("must be a list in brackets, each {}", T::EXPECTED));
            return Vec::new();
        };
        let shown: Vec<_> = items.iter().map(|item| shown(&item.raw)).collect();
        self.record(key, origin, Some(format!("[{}]", shown.join(", "))));
        items.iter().filter_map(|item| self.parse_recorded(key, item)).collect()
    }

    /// Adds a mistake about `key`, unless it already has one. It is for rules between several keys.
    pub fn refuse(&mut self, key: &str, problem: impl Into<String>) {
        let path = join(&self.path, key);
        self.reader.refuse(&path, problem);
    }

    /// Does the same as [`Reader::refuse_shared`].
    pub fn refuse_shared(&mut self, listeners: &[(&str, SocketAddr)]) {
        self.reader.refuse_shared(listeners);
    }

    /// Returns the base of relative paths, for a setting whose text contains a path.
    pub fn place(&self) -> &BasePaths {
        &self.reader.place
    }

    fn take(&mut self, key: &str, kind: Kind, list: bool) -> Option<Entry> {
        self.reader.source.take(&join(&self.path, key), kind, list)
    }

    fn take_or(&mut self, key: &str, kind: Kind, default: &str) -> Entry {
        let default = || Entry { origin: Origin::File, raw: Raw::Scalar(kind, default.to_owned()) };
        self.take(key, kind, false).unwrap_or_else(default)
    }

    fn parse<T: Setting>(&mut self, key: &str, entry: &Entry) -> T {
        self.record(key, entry.origin.clone(), Some(shown(&entry.raw)));
        if let Some(bounds) = T::BOUNDS {
            self.bound(key, &text_bounds(bounds));
        }
        self.parse_recorded(key, entry).unwrap_or_else(T::placeholder)
    }

    fn parse_within<T: Setting + PartialOrd>(
        &mut self,
        key: &str,
        bounds: RangeInclusive<&str>,
        entry: &Entry,
    ) -> T {
        self.record(key, entry.origin.clone(), Some(shown(&entry.raw)));
        let place = BasePaths::default();
        let [least, most] = [bounds.start(), bounds.end()].map(|text| T::parse(text, &place).ok());
        let said = format!("must be {:?} to {:?}", bounds.start(), bounds.end());
        self.bound(key, &text_bounds(bounds));
        let value = self.parse_recorded::<T>(key, entry);
        if value.is_some() && !(least <= value && value <= most) {
            self.mistake(entry.origin.clone(), key, format!("{said}, is {}", shown(&entry.raw)));
        }
        value.unwrap_or_else(T::placeholder)
    }

    fn parse_recorded<T: Setting>(&mut self, key: &str, entry: &Entry) -> Option<T> {
        let text = self.typed(key, entry, T::KIND, T::EXPECTED)?;
        match T::parse(&text, &self.reader.place) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.mistake(entry.origin.clone(), key, problem);
                None
            }
        }
    }

    fn scalar(&mut self, key: &str, entry: &Entry, kind: Kind, expected: &str) -> Option<String> {
        self.record(key, entry.origin.clone(), Some(shown(&entry.raw)));
        self.typed(key, entry, kind, expected)
    }

    /// Returns the scalar's text if it has the right TOML type.
    fn typed(&mut self, key: &str, entry: &Entry, kind: Kind, expected: &str) -> Option<String> {
        let actual = match &entry.raw {
            Raw::Scalar(actual, text) if *actual == kind => return Some(text.clone()),
            Raw::Scalar(Kind::Text, _) => "a text",
            Raw::Scalar(Kind::Integer, _) => "a number",
            Raw::Scalar(Kind::Boolean, _) => "true or false",
            Raw::List(_) => "a list",
            Raw::Other(name) => name,
        };
        self.mistake(entry.origin.clone(), key, format!("must be {expected}, is {actual}"));
        None
    }

    fn record(&mut self, key: &str, origin: Origin, shown: Option<String>) {
        self.reader.asked.push(ReadSetting { path: join(&self.path, key), origin, shown, bounds: None });
    }

    /// Notes the bounds of the setting that was recorded last, as TOML.
    fn bound(&mut self, key: &str, bounds: &RangeInclusive<String>) {
        let key = join(&self.path, key);
        let (smallest, largest) = (bounds.start().clone(), bounds.end().clone());
        if let Some(asked) = self.reader.asked.last_mut().filter(|asked| asked.path == key) {
            asked.bounds = Some(Bounds { key, smallest, largest });
        }
    }

    fn mistake(&mut self, origin: Origin, key: &str, problem: String) {
        self.reader.mistakes.add(origin, &join(&self.path, key), problem);
    }
}

/// Writes text bounds as TOML.
fn text_bounds(bounds: RangeInclusive<&str>) -> RangeInclusive<String> {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    quoted(bounds.start())..=quoted(bounds.end())
}

/// Writes the value as TOML.
fn shown(raw: &Raw) -> String {
    match raw {
        Raw::Scalar(Kind::Text, text) => toml::Value::from(text.as_str()).to_string(),
        Raw::Scalar(Kind::Integer | Kind::Boolean, text) => text.clone(),
        Raw::List(items) => {
            format!("[{}]", items.iter().map(|item| shown(&item.raw)).collect::<Vec<_>>().join(", "))
        }
        Raw::Other(name) => format!("({name})"),
    }
}

/// Returns the Levenshtein distance: the fewest letters to add, drop or change.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(from != *to)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
