//! Rules of a commented sample file, for the test in each agent that compares its sample with the
//! reader.
//!
//! A setting behind a `#` without a space has its default value. `# ` begins prose.

use std::collections::BTreeSet;

/// Returns the sample with all defaults uncommented.
pub fn complete(sample: &str) -> String {
    let is_setting = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
    sample
        .lines()
        .map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line).to_owned() + "\n")
        .collect()
}

/// Returns each one-line setting of a file as `[section] key = value`.
pub fn settings(toml: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut settings = BTreeSet::new();
    for line in toml.lines() {
        if line.starts_with('[') {
            section = line;
        } else if !line.starts_with('#') && !line.is_empty() {
            settings.insert(format!("{section} {line}"));
        }
    }
    settings
}
