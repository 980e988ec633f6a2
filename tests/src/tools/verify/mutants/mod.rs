//! Mutants: small wrong changes, each of which a test must detect. They are the patches in
//! `tests/mutants`, and the changes that cargo-mutants makes.
//!
//! A test that passes whatever the code does is worth nothing. So this step breaks the code on
//! purpose, in a copy, and runs the test that each patch names. The test must pass without the
//! mutant and fail with it.

mod bench;
mod patch;
mod tool;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use bench::{Bench, Ended};
use patch::{Check, Mutant};

pub(super) use tool::Part;

/// Result for a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Noticed,
    Passes,
    /// The test fails, but without the expected message.
    SaysElse(String),
    /// The sources have changed, so the patch does not apply. Contains Git's message.
    DoesNotApply(String),
    DoesNotCompile,
    /// The test never ends, so it reports nothing.
    Hangs,
    /// The test fails or does not compile even without the mutant, so it proves nothing.
    RedWithout,
    /// The arguments select no test.
    NoTest,
}

/// Options of the step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    /// Only mutants with this text in their names. Then cargo-mutants is left out.
    pub(super) only: Option<&'a str>,
    /// The part of cargo-mutants' changes to try.
    pub(super) part: Option<Part>,
}

/// Tries the patches, then a part of cargo-mutants' changes.
pub(super) fn run(choice: Choice<'_>) -> Result<()> {
    let root = fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).context("find the sources")?;
    let bench = Bench::set_up(&root, &root.join("target/mutants"))?;
    bench.take_over(&root.join("target/debug"))?;
    let mutants = Mutant::all(&root.join("tests/mutants"), choice.only.unwrap_or_default())?;
    ensure!(!mutants.is_empty() || choice.only.is_none(), "no mutant has that name");
    let verdicts = try_all(&bench, &mutants)?;
    tell(&mutants, &verdicts)?;
    let bad: Vec<_> = mutants
        .iter()
        .zip(&verdicts)
        .filter(|(_, verdict)| **verdict != Verdict::Noticed)
        .map(|(mutant, _)| mutant.name.as_str())
        .collect();
    ensure!(bad.is_empty(), "{} of {} mutants are not noticed: {}", bad.len(), mutants.len(), bad.join(", "));
    if choice.only.is_none() {
        tool::run(&bench, &root, choice.part)?;
    }
    Ok(())
}

/// Runs each test first without a mutant, then with each mutant.
fn try_all(bench: &Bench, mutants: &[Mutant]) -> Result<Vec<Verdict>> {
    let mut without: BTreeMap<&Check, (Ended, Duration)> = BTreeMap::new();
    for check in mutants.iter().flat_map(|mutant| &mutant.checks) {
        if !without.contains_key(check) {
            say(&format!("without: {check}"))?;
            without.insert(check, bench.test(check, Duration::from_secs(600))?);
        }
    }
    let mut verdicts = Vec::new();
    for mutant in mutants {
        let verdict = attempt(bench, mutant, &without)?;
        say(&format!("{}: {}", mutant.name, verdict.text()))?;
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

/// Tries a mutant with each of its tests, and restores the copy. The first test that does not
/// detect the mutant decides.
fn attempt(bench: &Bench, mutant: &Mutant, without: &BTreeMap<&Check, (Ended, Duration)>) -> Result<Verdict> {
    for check in &mutant.checks {
        match &without[check].0 {
            Ended::Passed(0) => return Ok(Verdict::NoTest),
            Ended::Passed(_) => {}
            Ended::Failed | Ended::NotBuilt | Ended::Hung => return Ok(Verdict::RedWithout),
        }
    }
    if let Err(error) = bench.apply(&mutant.file) {
        return Ok(Verdict::DoesNotApply(format!("{error:#}")));
    }
    let mut judged = mutant.checks.iter().map(|check| judge(bench, mutant, check, without[check].1));
    let first = judged.find(|verdict| !matches!(verdict, Ok(Verdict::Noticed)));
    for path in &mutant.changes {
        bench.refresh(path)?;
    }
    first.unwrap_or(Ok(Verdict::Noticed))
}

fn judge(bench: &Bench, mutant: &Mutant, check: &Check, usual: Duration) -> Result<Verdict> {
    Ok(match bench.test(check, usual)?.0 {
        Ended::Passed(_) => Verdict::Passes,
        Ended::Failed => match &mutant.says {
            Some(says) if !bench.said().contains(says) => Verdict::SaysElse(check.to_string()),
            _ => Verdict::Noticed,
        },
        Ended::NotBuilt => Verdict::DoesNotCompile,
        Ended::Hung => Verdict::Hangs,
    })
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Verdict::Noticed => "noticed".to_owned(),
            Verdict::Passes => "PASSES".to_owned(),
            Verdict::SaysElse(check) => format!("IS RED FOR ANOTHER REASON: {check}"),
            Verdict::DoesNotApply(why) => {
                format!("DOES NOT APPLY: {}", why.lines().next().unwrap_or_default())
            }
            Verdict::DoesNotCompile => "DOES NOT COMPILE".to_owned(),
            Verdict::Hangs => "HANGS".to_owned(),
            Verdict::RedWithout => "RED WITHOUT IT".to_owned(),
            Verdict::NoTest => "NO TEST RUNS".to_owned(),
        }
    }
}

fn tell(mutants: &[Mutant], verdicts: &[Verdict]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let width = mutants.iter().map(|mutant| mutant.name.len()).max().unwrap_or_default();
    writeln!(out)?;
    for (mutant, verdict) in mutants.iter().zip(verdicts) {
        writeln!(out, "{:<width$}  {}", mutant.name, verdict.text())?;
        writeln!(out, "{:<width$}  breaks: {}", "", mutant.breaks)?;
        for check in &mutant.checks {
            writeln!(out, "{:<width$}  test:   {check}", "")?;
        }
    }
    Ok(())
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    const SOURCE: &str = "//! Sums.\n\npub fn sum(a: u8, b: u8) -> u8 {\n    a + b\n}\n\n#[cfg(test)]\nmod tests {\n    \
                          #[test]\n    fn one_and_one_make_two() {\n        assert_eq!(super::sum(1, 1), 2);\n    }\n    #[test]\n    \
                          fn one_and_one_make_three() {\n        assert_eq!(super::sum(1, 1), 3);\n    }\n    #[test]\n    fn always() {}\n}\n";

    fn patch(test: &str, from: &str, to: &str) -> String {
        format!(
            "# breaks: the sum\n# test: {test}\n--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -3,3 +3,3 @@\n \
             pub fn sum(a: u8, b: u8) -> u8 {{\n-    {from}\n+    {to}\n }}\n"
        )
    }

    #[test]
    fn every_fate_of_a_mutant_is_distinguished_and_the_copy_is_restored() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let [sources, patches] = ["sources", "patches"].map(|name| dir.path().join(name));
        fs::create_dir_all(sources.join("src"))?;
        fs::create_dir(&patches)?;
        fs::write(sources.join("Cargo.toml"), MANIFEST)?;
        fs::write(sources.join("src/lib.rs"), SOURCE)?;
        let cases = [
            ("1-noticed", patch("--lib make_two", "a + b", "a - b"), Verdict::Noticed),
            // For one and one, the mutant gives 2 as well, so this test cannot detect it.
            ("2-passes", patch("--lib make_two", "a + b", "2 * a * b"), Verdict::Passes),
            ("3-no-code", patch("--lib make_two", "a + b", "a +"), Verdict::DoesNotCompile),
            ("4-no-test", patch("--lib make_four", "a + b", "a - b"), Verdict::NoTest),
            ("5-red-without", patch("--lib make_three", "a + b", "a - b"), Verdict::RedWithout),
            (
                "6-noticed-after-all",
                patch("-p tiny make_two -- --exact tests::one_and_one_make_two", "a + b", "a"),
                Verdict::Noticed,
            ),
            ("7-hangs", patch("--lib make_two", "a + b", "loop { std::thread::park() }"), Verdict::Hangs),
            (
                "71-noticed-with-its-words",
                patch("--lib make_two\n# says: one_and_one_make_two", "a + b", "a - b"),
                Verdict::Noticed,
            ),
            (
                "72-another-reason",
                patch("--lib make_two\n# says: a leak", "a + b", "a - b"),
                Verdict::SaysElse("cargo test --lib make_two".to_owned()),
            ),
            (
                "73-one-of-two-passes",
                patch("--lib make_two\n# test: --lib always", "a + b", "a - b"),
                Verdict::Passes,
            ),
        ];
        for (name, text, _) in &cases {
            fs::write(patches.join(format!("{name}.patch")), text)?;
        }
        fs::write(patches.join("8-old.patch"), patch("--lib make_two", "a.add(b)", "a - b"))?;

        let mut bench = Bench::set_up(&sources, &dir.path().join("bench"))?;
        bench.patience = Duration::from_secs(10);
        let mutants = Mutant::all(&patches, "")?;
        let verdicts = try_all(&bench, &mutants)?;
        for ((name, _, expected), verdict) in cases.iter().zip(&verdicts) {
            assert_eq!(verdict, expected, "{name}: {}", bench.said());
        }
        assert!(
            matches!(verdicts.last(), Some(Verdict::DoesNotApply(why)) if why.contains("src/lib.rs")),
            "{verdicts:?}"
        );
        assert_eq!(fs::read_to_string(bench.tree().join("src/lib.rs"))?, SOURCE);
        assert_eq!(Mutant::all(&patches, "noticed")?.len(), 3);

        // The copy loses files that the sources lost, and gains new ones.
        fs::write(sources.join("src/other.rs"), "//! More.\n")?;
        let bench = Bench::set_up(&sources, &dir.path().join("bench"))?;
        assert!(bench.tree().join("src/other.rs").exists());
        fs::remove_file(sources.join("src/other.rs"))?;
        let bench = Bench::set_up(&sources, &dir.path().join("bench"))?;
        assert!(!bench.tree().join("src/other.rs").exists());
        Ok(())
    }
}
