//! Reader of the known answers in `vectors/`. A file begins with `#` lines that name its source.
//! Then come cases of `name: value` lines, each after a blank line.

use std::collections::BTreeMap;
use std::path::Path;

/// One case of known answers. The test fails if it reads a value that the case lacks.
pub(crate) struct Case {
    file: String,
    values: BTreeMap<String, String>,
}

/// Returns the cases of a file, in order. The list is never empty.
pub(crate) fn cases(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/house/cryptography/vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.lines().any(|line| line.starts_with("# Source")), "{file} does not name its source");
    let cases: Vec<Case> = text
        .split("\n\n")
        .map(|block| block.lines().filter_map(|line| line.split_once(':')))
        .map(|lines| lines.filter(|(name, _)| !name.starts_with('#')))
        .map(|lines| lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
        .filter(|values: &BTreeMap<_, _>| !values.is_empty())
        .map(|values| Case { file: file.to_owned(), values })
        .collect();
    assert!(!cases.is_empty(), "{file} has no case");
    cases
}

impl Case {
    /// Returns the name of the case, for error messages.
    pub(crate) fn name(&self) -> String {
        let told = |name| self.values.get(name).map_or("", String::as_str);
        format!("{}: case {} {}", self.file, told("case"), told("result"))
    }

    /// Returns true if the operation must succeed, and false if it must be refused.
    pub(crate) fn is_valid(&self) -> bool {
        self.text("result").starts_with("valid")
    }

    /// Returns a value as text.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.values.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.name()))
    }

    /// Returns a value that is written in hexadecimal.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let text = self.text(name);
        assert!(text.len().is_multiple_of(2), "{}: {name} is not in whole bytes", self.name());
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(byte).collect()
    }

    /// Returns a value of this length that is written in hexadecimal.
    pub(crate) fn array<const LEN: usize>(&self, name: &str) -> [u8; LEN] {
        self.bytes(name).try_into().unwrap_or_else(|_| panic!("{}: {name} has another length", self.name()))
    }
}
