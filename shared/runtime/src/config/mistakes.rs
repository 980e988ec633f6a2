//! Mistakes in a configuration: collected by the reader and shown together, one line each.
//!
//! A mistake has its place (file and line, or the variable), its key, a description and a remedy.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// Source of a value. Mistakes are shown in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The file as a whole: for a missing key or a default.
    File,
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Variable(String),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mistake {
    origin: Origin,
    key: String,
    problem: String,
}

/// All mistakes of a configuration. As an error it is never empty.
#[derive(Debug)]
pub struct Mistakes {
    file: PathBuf,
    list: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), list: Vec::new() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Adds a mistake. An empty `key` means the file itself.
    pub(super) fn add(&mut self, origin: Origin, key: &str, problem: impl Into<String>) {
        self.list.push(Mistake { origin, key: key.to_owned(), problem: problem.into() });
    }

    pub(super) fn concerns(&self, key: &str) -> bool {
        self.list.iter().any(|mistake| mistake.key == key)
    }

    /// Returns `value` if there are no mistakes, or all mistakes in the order of the file.
    pub(super) fn none_or<T>(mut self, value: T) -> Result<T, Self> {
        self.list.sort();
        if self.list.is_empty() { Ok(value) } else { Err(self) }
    }
}

/// Writes one line for each mistake: `bridge-cloud.toml:12: tunnel.order_lanes: must be 1 to 16, is
/// 40`.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { origin, key, problem }) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match origin {
                Origin::File => write!(f, "{}: ", self.file.display())?,
                Origin::Line(line) => write!(f, "{}:{line}: ", self.file.display())?,
                Origin::Variable(name) => write!(f, "environment variable {name}: ")?,
            }
            if !key.is_empty() {
                write!(f, "{key}: ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Error for Mistakes {}
