//! The made-up catalogue that the benches import.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

/// Decides what is made up.
pub(super) const SEED: u64 = 1;

/// Writes so many products as JSON Lines.
pub(super) fn write(path: &Path, products: usize) -> Result<()> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    let mut out = BufWriter::new(file);
    for number in 0..products {
        let text = "x".repeat(600);
        let row = json!({"product": format!("p-{number:06}"), "names": {"en": text}});
        writeln!(out, "{row}")?;
    }
    out.flush().with_context(|| format!("write {}", path.display()))
}
