//! A mutant in the repository: a patch, what it breaks, and the tests that must detect it.
//!
//! A file in `tests/mutants` begins with the lines `# breaks: ...` and `# test: ...`, the arguments
//! of `cargo test`. If several tests must detect the mutant, each has a line. `# command: ...`
//! names a command of the project, such as `cargo demo`. `# says: ...` is a message that each of
//! them must print. A unified diff, relative to the workspace's folder, follows.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A small wrong change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// Name of its file, without the extension.
    pub(super) name: String,
    /// Description of the damage, for the table.
    pub(super) breaks: String,
    /// The tests and commands that must detect it; at least one.
    pub(super) checks: Vec<Check>,
    /// The message that each of them must print. A failure for another reason does not count.
    pub(super) says: Option<String>,
    /// The changed files, as paths from the workspace's folder.
    pub(super) changes: Vec<PathBuf>,
    /// Path of the patch.
    pub(super) file: PathBuf,
}

/// A test or command that succeeds without a mutant and must fail with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Check {
    /// `cargo test` with these arguments.
    Test(Vec<String>),
    /// A command of the project, with its arguments.
    Command(String, Vec<String>),
}

impl Check {
    fn read(line: &str) -> Option<Check> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if let Some(arguments) = line.strip_prefix("# test:") {
            return Some(Check::Test(words(arguments))).filter(|check| *check != Check::Test(Vec::new()));
        }
        let mut words = words(line.strip_prefix("# command:")?).into_iter();
        Some(Check::Command(words.next()?, words.collect()))
    }

    /// Returns the arguments for cargo.
    pub(super) fn arguments(&self) -> Vec<String> {
        let (first, rest) = match self {
            Check::Test(arguments) => (vec!["test".to_owned(), "--quiet".to_owned()], arguments),
            Check::Command(name, arguments) => (vec![name.clone()], arguments),
        };
        [&first[..], rest].concat()
    }
}

/// The command as a user would type it.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Test(arguments) => write!(f, "cargo test {}", arguments.join(" ")),
            Check::Command(name, arguments) => write!(f, "cargo {name} {}", arguments.join(" ")),
        }
    }
}

impl Mutant {
    /// Returns the mutants of a folder with `part` in their names, sorted by name.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, or lacks the line about what it breaks or about its test.
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
        let head = || text.lines().take_while(|line| line.starts_with('#'));
        let said = |what: &str| {
            let mut lines = head().filter_map(|line| line.strip_prefix("# ")?.strip_prefix(what));
            lines.next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
        };
        let breaks = said("breaks:").context("no line \"# breaks: ...\" at its head")?;
        let checks: Vec<_> = head().filter_map(Check::read).collect();
        ensure!(!checks.is_empty(), "no line \"# test: ...\" at its head");
        let changed = text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        let changes: Vec<_> = changed.map(|path| PathBuf::from(path.trim_end())).collect();
        ensure!(!changes.is_empty(), "no line \"+++ b/PATH\": it is no diff from the workspace's folder");
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Mutant { name, breaks, checks, says: said("says:"), changes, file: file.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::verify::mutants::bench::git_apply;

    #[test]
    fn every_patch_of_this_repository_applies_to_its_sources() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mutants = Mutant::all(&root.join("tests/mutants"), "")?;
        let stale: Vec<_> = mutants
            .iter()
            .filter_map(|mutant| Some((&mutant.name, git_apply(&root, &mutant.file, &["--check"]).err()?)))
            .map(|(name, error)| format!("{name}: {error}"))
            .collect();
        ensure!(!mutants.is_empty() && stale.is_empty(), "made for other sources:\n{}", stale.join("\n"));
        Ok(())
    }

    /// A filter that matches no test would be noticed only when the mutants are tried, which takes
    /// an hour.
    #[test]
    fn every_test_that_a_patch_names_is_in_the_sources() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut sources = Vec::new();
        for folder in ["bridge-cloud", "bridge-idc", "shared", "certs", "tests"] {
            read_sources(&root.join(folder), &mut sources)?;
        }
        let mut missing = Vec::new();
        for mutant in Mutant::all(&root.join("tests/mutants"), "")? {
            for check in &mutant.checks {
                let Check::Test(arguments) = check else { continue };
                let filter = arguments.last().context("a filter")?;
                if !sources.iter().any(|(path, text)| has_test(path, text, filter)) {
                    missing.push(format!("{}: {filter}", mutant.name));
                }
            }
        }
        ensure!(missing.is_empty(), "no test has this name:\n{}", missing.join("\n"));
        Ok(())
    }

    #[test]
    fn a_test_is_found_by_modules_and_part_of_its_name() {
        let text = "#[test]\nfn a_batch_is_committed() {}";
        let found = |filter| has_test("bridge-idc/src/orders/core/tests.rs", text, filter);
        assert!(found("core::tests::a_batch_is_committed") && found("batch_is"));
        assert!(!found("cores::tests::a_batch_is_committed") && !found("core::tests::batch"));
        assert!(!found("a_batch_is_refused"));
    }

    /// True if a source has a function that the filter of `cargo test` can match, in the modules
    /// that the filter names.
    fn has_test(path: &str, text: &str, filter: &str) -> bool {
        let (modules, name) = filter.rsplit_once("::").unwrap_or(("", filter));
        let path = path.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/tests");
        let within = modules.trim_end_matches("tests").trim_end_matches("::").replace("::", "/");
        let mut functions = text.split("fn ").skip(1);
        path.ends_with(&within)
            && (within.is_empty() || path.trim_end_matches(&within).ends_with('/'))
            && functions.any(|function| {
                let end = function.find(['(', '<']).unwrap_or(0);
                if modules.is_empty() {
                    function[..end].contains(name)
                } else {
                    function[..end].starts_with(name)
                }
            })
    }

    fn read_sources(folder: &Path, sources: &mut Vec<(String, String)>) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                read_sources(&path, sources)?;
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources.push((path.display().to_string(), fs::read_to_string(&path)?));
            }
        }
        Ok(())
    }

    #[test]
    fn a_patch_says_what_it_breaks_and_which_test_notices_it() {
        let text = "# breaks: P8: an entry is told durable and is not\n# test: -p bridge-runtime --lib a_test\n\
                    --- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1 +1 @@\n-a\n+b\n";
        let mutant = Mutant::parse(Path::new("mutants/01-sync.patch"), text).expect("a mutant");
        let test = ["-p", "bridge-runtime", "--lib", "a_test"].map(str::to_owned);
        assert_eq!((&mutant.name[..], &mutant.checks[..]), ("01-sync", &[Check::Test(test.into())][..]));
        assert_eq!(mutant.breaks, "P8: an entry is told durable and is not");
        assert_eq!(mutant.changes, [PathBuf::from("src/lib.rs")]);
        for missing in ["# breaks", "# test", "+++ b"] {
            assert!(Mutant::parse(Path::new("a.patch"), &text.replace(missing, "")).is_err(), "{missing}");
        }
    }

    #[test]
    fn several_checks_may_have_to_notice_it_and_say_so() {
        let text = "# breaks: P5\n# test: -p tiny leak\n# command: demo --orders 2\n# says: in the frames\n\
                    --- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1 +1 @@\n-a\n+b\n";
        let mutant = Mutant::parse(Path::new("leak.patch"), text).expect("a mutant");
        let typed: Vec<_> = mutant.checks.iter().map(Check::to_string).collect();
        assert_eq!(typed, ["cargo test -p tiny leak", "cargo demo --orders 2"]);
        assert_eq!(mutant.checks[1].arguments(), ["demo", "--orders", "2"]);
        assert_eq!(mutant.says.as_deref(), Some("in the frames"));
    }
}
