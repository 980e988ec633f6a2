//! The place for mutants: a copy of the sources with its own target folder. So nobody's sources
//! change, and no mutated program gets into the real target folder.
//!
//! The copy stays below the target folder. The next run copies and compiles only what has changed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::patch::Check;
use crate::testkit::tied;
use crate::tools::verify::steps::{cargo, tied};

/// Additional time for a test. It is long, since a compiler may run on the same machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Crates that cargo would optimise for measurements. Here they are compiled very often.
const OFTEN_COMPILED: [&str; 4] = ["bridge-cloud", "bridge-idc", "bridge-protocol", "bridge-runtime"];

/// A copy of some sources, and a target folder.
#[derive(Debug)]
pub(super) struct Bench {
    sources: PathBuf,
    folder: PathBuf,
    /// Time that a test may take in addition to five times its time without the mutant.
    pub(super) patience: Duration,
}

/// Result of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// This number of tests passed, and none failed.
    Passed(usize),
    /// A test failed, or its program crashed.
    Failed,
    /// The code does not compile.
    NotBuilt,
    /// The test did not end in time, and was killed.
    Hung,
}

impl Bench {
    /// Copies `sources` below `folder`, or updates the copy.
    pub(super) fn set_up(sources: &Path, folder: &Path) -> Result<Bench> {
        let bench = Bench { sources: sources.to_owned(), folder: folder.to_owned(), patience: PATIENCE };
        fs::create_dir_all(folder.join(".cargo")).with_context(|| format!("make {}", folder.display()))?;
        let profile: String = OFTEN_COMPILED
            .iter()
            .map(|name| format!("[profile.dev.package.{name}]\nopt-level = 0\n"))
            .collect();
        fs::write(folder.join(".cargo/config.toml"), format!("[profile.dev]\ndebug = false\n{profile}"))?;
        bench.link_data()?;
        let wanted = files_below(sources)?;
        for path in &wanted {
            bench.refresh(path)?;
        }
        for gone in files_below(&bench.tree())?.difference(&wanted) {
            fs::remove_file(bench.tree().join(gone)).with_context(|| format!("remove {}", gone.display()))?;
        }
        Ok(bench)
    }

    /// Returns the folder of the copy.
    pub(super) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    pub(super) fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// Reuses the compiled crates of other projects, so that only the workspace's own crates are
    /// compiled again. The files are hard links, which cargo never writes to, because a crate that
    /// differs has another file name.
    pub(super) fn take_over(&self, compiled: &Path) -> Result<()> {
        let (deps, own) = (compiled.join("deps"), self.target().join("debug"));
        if own.exists() || !deps.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(own.join("deps")).with_context(|| format!("make {}", own.display()))?;
        for entry in fs::read_dir(&deps).context("list the compiled files")? {
            let entry = entry?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if text.starts_with("lib") && !text.starts_with("libbridge") {
                fs::hard_link(entry.path(), own.join("deps").join(&name))
                    .context("link the compiled files")?;
            }
        }
        for part in [".fingerprint", "build"] {
            let copied = Command::new("cp").arg("--archive").arg(compiled.join(part)).arg(&own).status();
            ensure!(copied.context("run cp")?.success(), "{part} cannot be copied");
            for entry in fs::read_dir(own.join(part)).context("list the copied files")? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with("bridge") {
                    fs::remove_dir_all(entry.path()).context("remove the workspace's own files")?;
                }
            }
        }
        Ok(())
    }

    /// Copies a file from the sources if it differs. An equal file is not written, because cargo
    /// would compile it again.
    pub(super) fn refresh(&self, path: &Path) -> Result<()> {
        let (from, to) = (self.sources.join(path), self.tree().join(path));
        let bytes = fs::read(&from).with_context(|| format!("read {}", from.display()))?;
        if fs::read(&to).is_ok_and(|copied| copied == bytes) {
            return Ok(());
        }
        fs::create_dir_all(to.parent().unwrap_or(&to)).context("make a folder")?;
        fs::copy(&from, &to).map(drop).with_context(|| format!("copy {}", from.display()))
    }

    /// Applies a patch to the copy.
    pub(super) fn apply(&self, patch: &Path) -> Result<()> {
        git_apply(&self.tree(), patch, &[])
    }

    /// Compiles and runs a test in the copy. Returns its result and its duration. `usual` is the
    /// duration without a mutant.
    pub(super) fn test(&self, check: &Check, usual: Duration) -> Result<(Ended, Duration)> {
        let build = match check {
            Check::Test(_) => {
                let mut build = check.arguments();
                build.splice(behind_options(&build), ["--no-run".to_owned()]);
                build
            }
            Check::Command(name, _) => {
                ["build", "--quiet", "--package", "bridge-tests", "--bin", name].map(str::to_owned).into()
            }
        };
        if self.run(&build, None)?.0 != Some(true) {
            return Ok((Ended::NotBuilt, Duration::ZERO));
        }
        let start = Instant::now();
        let (success, said) = self.run(&check.arguments(), Some(usual * 5 + self.patience))?;
        let ended = match (success, check) {
            (Some(true), Check::Test(_)) => Ended::Passed(passed(&said)),
            (Some(true), Check::Command(..)) => Ended::Passed(1),
            (Some(false), _) => Ended::Failed,
            (None, _) => Ended::Hung,
        };
        Ok((ended, start.elapsed()))
    }

    /// Returns the output of the last tests or their compiler.
    pub(super) fn said(&self) -> String {
        fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Runs cargo. Returns true if it succeeded, and `None` if it took too long. The text is its
    /// output.
    fn run(&self, arguments: &[String], patience: Option<Duration>) -> Result<(Option<bool>, String)> {
        let mut test = tied(&cargo(arguments.iter().map(String::as_str)));
        let log = File::create(self.log()).context("make a log")?;
        test.current_dir(self.tree()).env("CARGO_TARGET_DIR", self.target());
        test.stdin(Stdio::null()).stdout(log.try_clone().context("share a log")?).stderr(log);
        let start = Instant::now();
        let mut test = tied::start(test).context("run cargo")?;
        loop {
            if let Some(status) = test.try_wait().context("wait for cargo")? {
                return Ok((Some(status.success()), self.said()));
            }
            if patience.is_some_and(|patience| start.elapsed() > patience) {
                // The programs that it started die with it.
                test.kill().and_then(|()| test.wait()).context("end cargo")?;
                return Ok((None, self.said()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Links the test data, which is beside the workspace, to the same place beside the copy.
    fn link_data(&self) -> Result<()> {
        let (data, link) = (self.sources.join("../shared"), self.folder.join("shared"));
        if data.is_dir() && !link.exists() {
            std::os::unix::fs::symlink(fs::canonicalize(data)?, link).context("link the data")?;
        }
        Ok(())
    }
}

/// Applies a patch to the sources in a folder. With `--check` in the options, it only tests the
/// patch. The patch must fit exactly at its lines.
pub(super) fn git_apply(sources: &Path, patch: &Path, options: &[&str]) -> Result<()> {
    let sources = fs::canonicalize(sources).with_context(|| format!("find {}", sources.display()))?;
    let mut git = Command::new("git");
    git.args(["apply", "--whitespace=nowarn"]).args(options).arg(std::path::absolute(patch)?);
    // The copy may be below a Git repository, but must not count as a part of it.
    git.current_dir(&sources).env("GIT_CEILING_DIRECTORIES", sources.parent().unwrap_or(&sources));
    let output = git.output().context("run git")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Returns the position for further options of cargo: before `--`, since the options of the tests
/// follow it.
fn behind_options(arguments: &[String]) -> std::ops::Range<usize> {
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    end..end
}

/// Returns the number of passed tests, from the last line of each test program.
fn passed(said: &str) -> usize {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    results.filter_map(|line| line.split(' ').next()?.parse::<usize>().ok()).sum()
}

/// Returns the relative paths of all files below a folder, without build results and Git's own
/// files.
fn files_below(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        if !next.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&next).with_context(|| format!("list {}", next.display()))? {
            let (name, path) = {
                let entry = entry?;
                (entry.file_name(), entry.path())
            };
            if path.is_dir() {
                folders.extend((name != "target" && name != ".git").then_some(path));
            } else if name != ".git" {
                files.insert(path.strip_prefix(folder).context("it is below")?.to_owned());
            }
        }
    }
    Ok(files)
}
