//! A mutant as it lies in the repository: a patch, what it breaks, and the test that must notice it.
//!
//! The first lines of a file in `tests/mutants` are `# breaks: ...` and `# test: ...`, the arguments of `cargo test`. A
//! unified diff from the workspace's folder follows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// One small wrong change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// Its file's name without the ending.
    pub(super) name: String,
    /// What it breaks, for the table.
    pub(super) breaks: String,
    /// The arguments of `cargo test` that run the test which notices it.
    pub(super) test: Vec<String>,
    /// The files that it changes, by their paths from the workspace's folder.
    pub(super) changes: Vec<PathBuf>,
    /// The patch.
    pub(super) file: PathBuf,
}

impl Mutant {
    /// Those of a folder whose names have `part` in them, by name.
    ///
    /// # Errors
    /// When one cannot be read, or says not what it breaks and which test notices it.
    pub(super) fn all(folder: &Path, part: &str) -> Result<Vec<Mutant>> {
        let mut mutants = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            let file = entry?.path();
            if file.extension().is_some_and(|ending| ending == "patch") {
                mutants.push(Mutant::read(&file)?);
            }
        }
        mutants.retain(|mutant| mutant.name.contains(part));
        mutants.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(mutants)
    }

    fn read(file: &Path) -> Result<Mutant> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        Mutant::parse(file, &text).with_context(|| format!("read {}", file.display()))
    }

    fn parse(file: &Path, text: &str) -> Result<Mutant> {
        let said = |what: &str| {
            let head = text.lines().take_while(|line| line.starts_with('#'));
            let mut lines = head.filter_map(|line| line.strip_prefix("# ")?.strip_prefix(what));
            let line = lines.next().map(str::trim).filter(|line| !line.is_empty());
            line.with_context(|| format!("no line \"# {what} ...\" at its head"))
        };
        let test: Vec<_> = said("test:")?.split_whitespace().map(str::to_owned).collect();
        let changed = text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        let changes: Vec<_> = changed.map(|path| PathBuf::from(path.trim_end())).collect();
        ensure!(!changes.is_empty(), "no line \"+++ b/PATH\": it is no diff from the workspace's folder");
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Mutant { name, breaks: said("breaks:")?.to_owned(), test, changes, file: file.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_what_it_breaks_and_which_test_notices_it() {
        let text = "# breaks: P8: an entry is told durable and is not\n# test: -p bridge-runtime --lib a_test\n\
                    --- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1 +1 @@\n-a\n+b\n";
        let mutant = Mutant::parse(Path::new("mutants/01-sync.patch"), text).expect("a mutant");
        assert_eq!((&mutant.name[..], mutant.test.len()), ("01-sync", 4));
        assert_eq!(mutant.breaks, "P8: an entry is told durable and is not");
        assert_eq!(mutant.changes, [PathBuf::from("src/lib.rs")]);
        for missing in ["# breaks", "# test", "+++ b"] {
            assert!(Mutant::parse(Path::new("a.patch"), &text.replace(missing, "")).is_err(), "{missing}");
        }
    }
}
