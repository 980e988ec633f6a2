//! The changes that cargo-mutants makes: one part of them in each run. The survivors are compared
//! with a list.
//!
//! `.cargo/mutants.toml` names the files to change. The step fails for a survivor that
//! `tests/mutants/survivors.txt` does not list. It also fails for a listed change that a test
//! detects or that no longer exists. So the list is exact, and may only get shorter.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use super::bench::Bench;
use super::say;
use crate::testkit::tied;
use crate::tools::verify::steps::{announce, cargo, tied, without_ours};

/// Version of the tool. Another version makes other changes.
const VERSION: &str = "27.1.0";
/// Number of parts. Each takes less than half an hour on two cores.
const PARTS: u64 = 8;

/// A part of the changes, in cargo-mutants' notation: `0/8` is the first of eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tools::verify) struct Part {
    index: u64,
    of: u64,
}

impl Part {
    fn of_today() -> Part {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Part { index: now.as_secs() / 86_400 % PARTS, of: PARTS }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let part = text
            .split_once('/')
            .and_then(|(index, of)| Some(Part { index: index.parse().ok()?, of: of.parse().ok()? }));
        part.filter(|part| part.index < part.of).ok_or_else(|| "a part is 0/8, 1/8 and so on".to_owned())
    }
}

impl Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// Tries one part of the changes. By default, the day decides which one.
pub(super) fn run(bench: &Bench, root: &Path, part: Option<Part>) -> Result<()> {
    let tool = installed(&bench.target().with_file_name("tool"))?;
    let listed = Survivors::read(&root.join("tests/mutants/survivors.txt"))?;
    let part = part.unwrap_or_else(Part::of_today);

    let mut list = in_copy(&tool, bench);
    let list = list.args(["--list"]).output().context("run cargo-mutants")?;
    ensure!(list.status.success(), "cargo-mutants: {}", String::from_utf8_lossy(&list.stderr).trim());
    let all = names(&String::from_utf8_lossy(&list.stdout));

    let out = bench.target().with_file_name("changes");
    let mut command = in_copy(&tool, bench);
    command.args(["--in-place", "--shard", &part.to_string(), "--output"]).arg(&out);
    announce(&command)?;
    let status = tied::start(tied(&command)).and_then(|mut started| started.wait());
    // 2: there are survivors. 3: some changes only cause a timeout.
    let code = status.context("run cargo-mutants")?.code();
    ensure!(matches!(code, Some(0 | 2 | 3)), "cargo-mutants ended with {code:?}");
    let read = |name: &str| -> Result<BTreeMap<String, usize>> {
        let file = out.join("mutants.out").join(name);
        Ok(names(&fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?))
    };
    let (missed, caught) = (read("missed.txt")?, read("caught.txt")?);
    let count = |names: &BTreeMap<String, usize>| names.values().sum::<usize>();
    say(&format!(
        "part {part}: {} changes noticed, {} not, {} listed in all",
        count(&caught),
        count(&missed),
        count(&listed.0)
    ))?;
    listed.judge(&all, &missed, &caught)
}

/// Returns the path of the tool. Installs it first if it is missing or has another version.
fn installed(folder: &Path) -> Result<PathBuf> {
    let tool = folder.join("bin/cargo-mutants");
    let version = Command::new(&tool).args(["mutants", "--version"]).stdin(Stdio::null()).output();
    let there = version.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).trim() == format!("cargo-mutants {VERSION}")
    });
    if !there {
        let mut install = cargo(["install", "--locked", "--force", "cargo-mutants", "--version", VERSION]);
        install.arg("--root").arg(folder);
        announce(&install)?;
        let status = tied::start(tied(&install)).and_then(|mut started| started.wait());
        ensure!(status.context("run cargo install")?.success(), "cargo-mutants cannot be installed");
    }
    Ok(tool)
}

/// Returns the command of the tool in the copy of the sources. It names the whole workspace.
/// Otherwise the tool takes the default members, and the protocol is none of them.
fn in_copy(tool: &Path, bench: &Bench) -> Command {
    let mut command = Command::new(tool);
    without_ours(&mut command);
    command.args(["mutants", "--workspace", "--no-times", "--colors", "never", "--no-shuffle"]);
    command.env("CARGO_TARGET_DIR", bench.target()).current_dir(bench.tree());
    command
}

/// Returns the names of changes, and the number of each. Several changes in one function may have
/// the same name.
fn names(text: &str) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        *names.entry(name(line)).or_default() += 1;
    }
    names
}

/// Removes line and column, which every edit changes: `src/a.rs:12:5: replace + with -`.
fn name(line: &str) -> String {
    let mut parts = line.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(change)) => format!("{file}:{change}"),
        _ => line.to_owned(),
    }
}

/// The changes that no test detects. The list gives a reason for each.
#[derive(Debug, PartialEq, Eq)]
struct Survivors(BTreeMap<String, usize>);

impl Survivors {
    fn read(file: &Path) -> Result<Survivors> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        Survivors::parse(&text).with_context(|| format!("read {}", file.display()))
    }

    /// Parses one change on each line, and its reason in indented lines below. The line `at most N`
    /// limits the number of changes.
    fn parse(text: &str) -> Result<Survivors> {
        let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
        let most = lines.next().and_then(|line| line.strip_prefix("at most ")?.parse::<usize>().ok());
        let most = most.context("no line \"at most N\" at its head")?;
        let mut survivors = BTreeMap::new();
        while let Some(change) = lines.next() {
            ensure!(!change.starts_with(' '), "a reason without a change: {}", change.trim());
            let mut reason = 0;
            while lines.next_if(|line| line.starts_with("    ")).is_some() {
                reason += 1;
            }
            ensure!(reason > 0, "no reason for: {change}");
            *survivors.entry(change.to_owned()).or_default() += 1;
        }
        let count: usize = survivors.values().sum();
        ensure!(count == most, "{count} survivors are listed, and it says at most {most}");
        Ok(Survivors(survivors))
    }

    /// Fails for each survivor that is not listed, and for each listed change that is no survivor.
    fn judge(
        &self,
        all: &BTreeMap<String, usize>,
        missed: &BTreeMap<String, usize>,
        caught: &BTreeMap<String, usize>,
    ) -> Result<()> {
        let of = |names: &BTreeMap<String, usize>, name: &str| names.get(name).copied().unwrap_or_default();
        let new: Vec<_> = missed
            .iter()
            .filter(|(name, count)| **count > of(&self.0, name))
            .map(|(name, _)| format!("not noticed: {name}"))
            .collect();
        let old = self.0.iter().filter(|(name, count)| {
            // Changes of the same name in the other parts were not tried in this run.
            **count > of(all, name).saturating_sub(of(caught, name))
        });
        let old = old.map(|(name, _)| format!("listed, and noticed or gone: {name}"));
        let wrong: Vec<_> = new.into_iter().chain(old).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        bail!("{} changes differ from tests/mutants/survivors.txt:\n{}", wrong.len(), wrong.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# Changes.\nat most 2\n\nsrc/a.rs: replace < with <= in f\n    Equal never comes.\n\
                        src/a.rs: replace + with - in g\n    Not told apart:\n    it is zero.\n";

    #[test]
    fn a_survivor_is_listed_with_a_reason_and_the_count_is_told() {
        let Survivors(listed) = Survivors::parse(LIST).expect("a list");
        assert_eq!(listed.values().sum::<usize>(), 2);
        assert_eq!(listed["src/a.rs: replace + with - in g"], 1);
        for (from, to) in [("at most 2", "at most 3"), ("    Equal never comes.\n", ""), ("at most 2\n", "")]
        {
            assert!(Survivors::parse(&LIST.replace(from, to)).is_err(), "{from}");
        }
        let real = concat!(env!("CARGO_MANIFEST_DIR"), "/mutants/survivors.txt");
        Survivors::read(Path::new(real)).expect("the list of this repository");
    }

    #[test]
    fn a_part_is_counted_from_zero() {
        assert_eq!("7/8".parse(), Ok(Part { index: 7, of: 8 }));
        assert!(["8/8", "0", "0/0", "-1/8"].iter().all(|text| text.parse::<Part>().is_err()));
        assert!(Part::of_today().to_string().parse::<Part>().is_ok());
    }

    #[test]
    fn the_list_is_exact_and_a_part_judges_what_it_tried() {
        let listed = Survivors::parse(LIST).expect("a list");
        let [f, g, h] = ["4:5: replace < with <= in f", "9:1: replace + with - in g", "8:7: replace h"]
            .map(|change| format!("src/a.rs:{change}"));
        let lines =
            |lines: &[&String]| names(&lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n"));
        let all = lines(&[&f, &g, &h]);
        let judge = |missed: &[&String], caught: &[&String]| {
            listed.judge(&all, &lines(missed), &lines(caught)).map_err(|error| error.to_string())
        };
        judge(&[&f, &g], &[&h]).expect("as listed");
        judge(&[&f], &[]).expect("the rest is in other parts");
        assert!(judge(&[&h], &[]).expect_err("new").contains("not noticed: src/a.rs: replace h"));
        assert!(judge(&[&g], &[&f]).expect_err("old").contains("noticed or gone: src/a.rs: replace <"));
        let gone = listed.judge(&lines(&[&f, &h]), &lines(&[&f]), &lines(&[&h])).expect_err("gone");
        assert!(gone.to_string().contains("noticed or gone: src/a.rs: replace + with - in g"));
    }
}
