//! The steps of `cargo verify`, in their order: the cheap ones first, so that a slip is told within seconds.
//!
//! All of them build the whole workspace in the one profile, so that they share what is heavy. Each runs the command that
//! a developer would run by hand, and prints it first.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bridge_skips::Machine;
use clap::ValueEnum;

use super::demo;
use super::mutants;
use super::skips::Skips;
use crate::testkit::process::{BUILT, Programs};
use crate::testkit::tied;

/// How many tests of a binary run at once.
const TEST_THREADS: &str = "RUST_TEST_THREADS";
const TESTS_A_CORE: usize = 3;

/// One thing that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Step {
    Format,
    Lint,
    Build,
    Test,
    Doc,
    Deny,
    Ring,
    Fuzz,
    Simulate,
    Demo,
    Year,
    Mutants,
}

/// How a step that did not fail ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// Everything in it was done.
    Whole,
    /// Some tests could not run here, and the machine excuses them.
    Skipped(Skips),
    /// Something was left out, for this reason.
    LeftOut(String),
}

impl Step {
    pub(super) fn name(self) -> &'static str {
        match self {
            Step::Format => "format",
            Step::Lint => "lint",
            Step::Build => "build",
            Step::Test => "test",
            Step::Doc => "doc",
            Step::Deny => "deny",
            Step::Ring => "ring",
            Step::Fuzz => "fuzz",
            Step::Simulate => "simulate",
            Step::Demo => "demo",
            Step::Year => "year",
            Step::Mutants => "mutants",
        }
    }

    pub(super) fn purpose(self) -> &'static str {
        match self {
            Step::Format => "every file is as rustfmt writes it",
            Step::Lint => "neither rustc nor clippy has anything to say",
            Step::Build => "everything compiles, the agents included",
            Step::Test => "every test passes",
            Step::Doc => "the documentation builds, with every link in it",
            Step::Deny => "no banned crate, licence or source",
            Step::Ring => "one cryptographic back end: ring is in no build",
            Step::Fuzz => "no input breaks a parser, in a short hunt",
            Step::Simulate => "no promise breaks in a short simulation",
            Step::Demo => "the whole bridge takes a small launch",
            Step::Year => "kills and cuts change nothing about a year of real invoices (with --with year)",
            Step::Mutants => "every small wrong change fails a test (with --with mutants)",
        }
    }

    /// Whether it runs only when it is asked for.
    pub(super) fn is_extra(self) -> bool {
        matches!(self, Step::Year | Step::Mutants)
    }

    /// Does it; `choice` is for the mutants.
    pub(super) fn run(self, choice: mutants::Choice<'_>) -> Result<Done> {
        match self {
            Step::Format => pass(cargo(["fmt", "--all", "--check"])),
            Step::Lint => {
                pass(cargo(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
            }
            Step::Build => build(),
            Step::Test => test(side_by_side(cargo(["test", "--workspace", "--no-fail-fast"]))),
            Step::Doc => pass(doc()),
            Step::Deny => deny(),
            Step::Ring => no_ring(),
            Step::Fuzz => with_two_seeds(&["fuzz", "--seconds", "2"]),
            // One core each: a simulation is one thread.
            Step::Simulate => {
                pass_together([(); 2].map(|()| with_a_new_seed(&["simulate", "--orders", "25000"])))
            }
            Step::Demo => small_demo(),
            Step::Year => year(),
            Step::Mutants => mutants::run(choice).map(|()| Done::Whole),
        }
    }
}

fn build() -> Result<Done> {
    pass(cargo(["build", "--workspace", "--all-targets"]))?;
    build_agents()
}

/// What tests start, so that none of them compiles anything.
fn build_agents() -> Result<Done> {
    say("and the agents")?;
    Programs::build()?;
    Ok(Done::Whole)
}

/// Runs tests, and says which of them could not run here.
fn test(mut tests: Command) -> Result<Done> {
    build_agents()?;
    tests.env(BUILT, "1");
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let file = folder.path().join("skips");
    tests.env(bridge_skips::FILE, &file);
    let passed = pass(tests);
    let skips = Skips::read(&file)?;
    skips.tell()?;
    passed?;
    skips.judge(&Machine::this().context("ask what this machine has")?)?;
    Ok(if skips.count() == 0 { Done::Whole } else { Done::Skipped(skips) })
}

/// More tests at once than there are cores: most of the time a test waits, for processes, lines and locks.
fn side_by_side(mut tests: Command) -> Command {
    if std::env::var_os(TEST_THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        tests.env(TEST_THREADS, (cores * TESTS_A_CORE).to_string());
    }
    tests
}

/// The test of kills, which otherwise replays a made-up launch.
fn year() -> Result<Done> {
    let mut kills = cargo(["test", "--package", "bridge-tests", "--test", "audit", "kills::"]);
    kills.env("BRIDGE_YEAR", "1");
    test(kills)
}

/// With rustdoc's own flags: rustc's would build every dependency again.
fn doc() -> Command {
    let mut doc = cargo(["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    doc
}

/// What was banned is not here; advisories only where their data is, since this fetches nothing.
fn deny() -> Result<Done> {
    if !quietly(cargo(["deny", "--version"])) {
        return Ok(Done::LeftOut(
            "cargo-deny is not installed (cargo install --locked cargo-deny)".to_owned(),
        ));
    }
    pass(cargo(["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let data = home.map(|home| home.join("advisory-dbs")).filter(|data| data.is_dir());
    if data.is_none() {
        return Ok(Done::LeftOut("advisories, whose data is not here (cargo deny fetch)".to_owned()));
    }
    pass(cargo(["deny", "--offline", "check", "advisories"]))
}

/// The lock file names ring, since features that nobody enables could ask for it; what is built does not.
fn no_ring() -> Result<Done> {
    let mut tree = cargo(["tree", "--workspace", "--invert", "ring"]);
    announce(&tree)?;
    let output = tree.stdin(Stdio::null()).output().context("run cargo tree")?;
    let (found, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() || said.contains("did not match any packages"), "{}", said.trim());
    ensure!(found.is_empty(), "ring is built, see who asks for it:\n{found}");
    Ok(Done::Whole)
}

/// With the seed that everybody has, and with one that nobody has had.
fn with_two_seeds(command: &[&str]) -> Result<Done> {
    let everybodys = cargo(command.iter().copied().chain(["--seed", "1"]));
    pass_together([everybodys, with_a_new_seed(command)])
}

/// With a seed that nobody has had.
fn with_a_new_seed(command: &[&str]) -> Command {
    let seed = rand::random::<u32>().to_string();
    cargo(command.iter().copied().chain(["--seed", &seed]))
}

fn small_demo() -> Result<Done> {
    let command =
        cargo(["demo", "--orders", "2000", "--calm-seconds", "2", "--launch-seconds", "4", "--json"]);
    announce(&command)?;
    let mut demo = tied(&command);
    demo.stdout(Stdio::piped());
    let demo = tied::start(demo).context("run the demo")?;
    let output = demo.wait_with_output().context("wait for the demo")?;
    io::stdout().write_all(&output.stdout)?;
    demo::judge(&output.stdout)?;
    ensure!(output.status.success(), "the demo ended with {}", output.status);
    Ok(Done::Whole)
}

fn pass(command: Command) -> Result<Done> {
    pass_together([command])
}

/// Runs them at once and waits for all, whichever fails.
fn pass_together<const N: usize>(commands: [Command; N]) -> Result<Done> {
    let started = commands.map(|command| {
        announce(&command)?;
        let started = tied::start(tied(&command)).with_context(|| format!("run {}", text(&command)))?;
        anyhow::Ok((started, text(&command)))
    });
    let ends = started.map(|started| {
        let (mut started, command) = started?;
        let status = started.wait().with_context(|| format!("wait for {command}"))?;
        ensure!(status.success(), "{command} ended with {status}");
        Ok(())
    });
    ends.into_iter().collect::<Result<()>>()?;
    Ok(Done::Whole)
}

/// The command as it is run: it dies with this program, and what it runs itself, such as a test, dies with it.
pub(super) fn tied(command: &Command) -> Command {
    let mut tied = tied::like(command);
    tied.stdin(Stdio::null()).env(runner(), tied::WORDS.join(" "));
    tied
}

/// The variable that names what cargo runs a program of this machine's kind by.
fn runner() -> String {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("CARGO_TARGET_{}_UNKNOWN_LINUX_{libc}_RUNNER", std::env::consts::ARCH).to_uppercase()
}

fn quietly(mut command: Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

pub(super) fn announce(command: &Command) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "$ {}", text(command))?;
    out.flush()
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// The command as one would type it.
fn text(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let set = set.map(|(name, value)| format!("{}={:?} ", name.display(), value));
    let arguments = command.get_args().map(|argument| format!(" {}", argument.display()));
    set.chain(["cargo".to_owned()]).chain(arguments).collect()
}

/// The cargo that runs this program, in the workspace.
pub(super) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    without_ours(&mut command);
    command
}

/// With nothing that cargo set for this program alone: a build script that looks at one of these would run again, and
/// everything behind it.
pub(super) fn without_ours(command: &mut Command) {
    let ours = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "LD_LIBRARY_PATH"
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_printed_as_one_would_type_it() {
        assert_eq!(text(&doc()), "RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --no-deps");
    }

    #[test]
    fn every_step_is_named_on_the_command_line_as_in_the_table() {
        for step in Step::value_variants() {
            assert_eq!(Step::from_str(step.name(), false).as_ref(), Ok(step));
        }
    }

    #[test]
    fn a_command_that_fails_fails_the_step_and_names_itself() {
        let error = pass(cargo(["no-such-command"])).expect_err("there is none");
        assert!(error.to_string().contains("cargo no-such-command ended with"), "{error}");
    }
}
