//! What a commented sample file promises, for the test in each agent that holds its sample to the reader.
//!
//! A setting commented out without a space after the `#` stands there with its default; `# ` begins prose.

use std::collections::BTreeSet;

/// The sample with every default commented in.
pub fn complete(sample: &str) -> String {
    let is_setting = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
    sample
        .lines()
        .map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line).to_owned() + "\n")
        .collect()
}

/// Each setting of a file whose values take one line, as `[section] key = value`.
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
