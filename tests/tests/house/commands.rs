//! Tests the exit codes and messages of the project's commands. A usage error ends with 2, and a
//! failure with 1. The message has no stack, whatever the environment says about backtraces.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

fn program(name: &str) -> &'static str {
    match name {
        "demo" => env!("CARGO_BIN_EXE_demo"),
        "faults" => env!("CARGO_BIN_EXE_faults"),
        "fuzz" => env!("CARGO_BIN_EXE_fuzz"),
        "measure" => env!("CARGO_BIN_EXE_measure"),
        "payment-sandbox" => env!("CARGO_BIN_EXE_payment-sandbox"),
        "power-loss" => env!("CARGO_BIN_EXE_power-loss"),
        "wan" => env!("CARGO_BIN_EXE_wan"),
        "simulate" => env!("CARGO_BIN_EXE_simulate"),
        _ => env!("CARGO_BIN_EXE_verify"),
    }
}

fn run(name: &str, arguments: &[&str], stdout: Stdio) -> Result<Output> {
    let mut command = Command::new(program(name));
    command.args(arguments).env("RUST_BACKTRACE", "1").stdin(Stdio::null()).stdout(stdout);
    command.stderr(Stdio::piped()).output().with_context(|| format!("start {name}"))
}

/// Checks that standard error names the mistake in a few lines, and nothing of the program's
/// inside.
fn says_plainly(output: &Output, what: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains(what), "the message lacks {what:?}: {said}");
    ensure!(!said.contains("backtrace") && !said.contains("::"), "the message has a stack: {said}");
    ensure!(said.lines().count() <= 8, "{said}");
    Ok(())
}

#[test]
fn what_a_command_cannot_be_told_is_a_usage_error() -> Result<()> {
    for (name, arguments, what) in [
        ("measure", &["orders", "reads", "--grown"][..], "cargo measure orders --without-audit"),
        ("measure", &["reads", "--without-audit"], "cargo measure orders --without-audit"),
        ("measure", &["tunnels"], "tunnels"),
        ("demo", &["--all"], "--data"),
        ("demo", &["--database", "mysql://shop"], "a database is sqlite:PATH"),
        ("demo", &["--data", "no/such/folder"], "no/such/folder"),
        ("faults", &["--sqlite", "--only", "kill-database"], "kill-database is left out"),
        ("faults", &["--rate", "0"], "--rate"),
        ("fuzz", &["--input", "zz"], "--input"),
        ("power-loss", &["--store", "nothing"], "--store"),
        ("wan", &["--loss", "1000001"], "--loss"),
        ("simulate", &["--sabotage", "nothing"], "--sabotage"),
        ("verify", &["--only", "test", "--skip", "test"], "skipped as well"),
        ("payment-sandbox", &["--rates", r#"{"hang": 1}"#], "--rates"),
    ] {
        let output = run(name, arguments, Stdio::piped())?;
        let tried = || format!("{name} {arguments:?}: {}", output.status);
        ensure!(output.status.code() == Some(2) && output.stdout.is_empty(), tried());
        says_plainly(&output, what).with_context(tried)?;
    }
    Ok(())
}

#[test]
fn a_command_that_fails_says_why_without_a_stack() -> Result<()> {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").map(Stdio::from);
    // An address for documentation (RFC 5737), which no machine has.
    for (name, arguments, stdout, what) in [
        ("payment-sandbox", &["--listen", "192.0.2.1:9"][..], Stdio::piped(), "192.0.2.1:9"),
        ("simulate", &["--schedules", "1", "--json"], full()?, "No space left"),
        ("fuzz", &["--target", "order-body", "--input", "7b"], full()?, "No space left"),
        ("verify", &["--list"], full()?, "No space left"),
    ] {
        let output = run(name, arguments, stdout)?;
        ensure!(output.status.code() == Some(1), "{name} {arguments:?}: {}", output.status);
        says_plainly(&output, what).with_context(|| format!("{name} {arguments:?}"))?;
    }
    Ok(())
}

#[test]
fn every_command_ends_in_the_one_way() -> Result<()> {
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin"))? {
        let path = file?.path();
        let text = fs::read_to_string(&path)?;
        ensure!(
            text.contains("main() -> ExitCode {\n    end(\""),
            "{} does not end by `end`",
            path.display()
        );
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        ensure!(program(&name).ends_with(&*name), "{name} is in no test above");
    }
    Ok(())
}
