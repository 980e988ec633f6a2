//! `cargo verify`: all checks before a change is accepted, on any machine with Rust and Debian.
//!
//! [`run`] prepares the machine, runs one step after the other, and reports the result of each. A
//! step that leaves a process running has failed. `steps` defines the steps, and `machine` the
//! programs that they need. The output of a step is passed through without a change, so a reader of
//! the log sees cargo's own messages.

mod demo;
mod leftovers;
mod machine;
mod mutants;
mod skips;
mod steps;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::{Parser, ValueEnum};

use crate::tools::command::Usage;

use leftovers::Adopter;
use steps::{Done, Step};

/// Options of `cargo verify`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cargo verify",
    about = "Formats, lints, builds, tests and tries everything; exits with 1 if a step fails, with 2 if the machine lacks something"
)]
pub struct Options {
    /// Run only this step; may be given several times.
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,

    /// Leave this step out; may be given several times.
    #[arg(long, value_name = "STEP")]
    skip: Vec<Step>,

    /// Run this step as well, which is left out by default because it takes long.
    #[arg(long, value_name = "STEP")]
    with: Vec<Step>,

    /// Run only mutants with this text in their names, and none of cargo-mutants.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,

    /// The part of cargo-mutants' changes to try, such as 0/8 [default: that of the day].
    #[arg(long, value_name = "PART")]
    part: Option<mutants::Part>,

    /// Continue after a failed step.
    #[arg(long)]
    keep_going: bool,

    /// List the steps and do nothing.
    #[arg(long)]
    list: bool,
}

/// Result of a step.
#[derive(Debug)]
struct Row {
    step: Step,
    end: Result<Done>,
    time: Duration,
}

/// Runs the steps, reports on standard output, and returns true if every step passed.
///
/// # Errors
///
/// Fails if the machine lacks something, if no step is left, or if standard output is closed.
pub async fn run(options: &Options) -> Result<bool> {
    if options.list {
        list()?;
        return Ok(true);
    }
    verify(options).await
}

fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for step in Step::value_variants() {
        writeln!(out, "{:<10} {}", step.name(), step.purpose())?;
    }
    Ok(())
}

async fn verify(options: &Options) -> Result<bool> {
    let steps = options.steps();
    if steps.is_empty() {
        return Err(Usage("each step that was named is skipped as well".to_owned()).into());
    }
    if steps.contains(&Step::Test) {
        machine::make_ready().await?;
    }
    let adopter = Adopter::from_now_on()?;
    let mut rows: Vec<Row> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        writeln!(io::stdout(), "\n=== {}/{} {}: {}", index + 1, steps.len(), step.name(), step.purpose())?;
        let start = Instant::now();
        let end = step.run(options.choice());
        let end = match (end, adopter.check()) {
            (Ok(done), Ok(())) => Ok(done),
            (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
            (Err(error), Err(left)) => Err(anyhow!("{error:#}; {left}")),
        };
        let row = Row { step: *step, end, time: start.elapsed() };
        writeln!(io::stdout(), "--- {}", row.text())?;
        let failed = row.end.is_err();
        rows.push(row);
        if failed && !options.keep_going {
            break;
        }
    }
    Ok(sum_up(&rows, steps.len())?)
}

/// Prints the table of steps and a last line with the result. Returns true if every step passed.
fn sum_up(rows: &[Row], steps: usize) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    writeln!(out)?;
    for row in rows {
        writeln!(out, "{}", row.text())?;
    }
    let time: Duration = rows.iter().map(|row| row.time).sum();
    let failed: Vec<_> = rows.iter().filter(|row| row.end.is_err()).map(|row| row.step.name()).collect();
    if failed.is_empty() {
        let skipped: usize = rows.iter().map(Row::skipped).sum();
        let skipped = if skipped == 0 { String::new() } else { format!("; tests skipped: {skipped}") };
        writeln!(
            out,
            "verify: passed, {steps} steps in {}{skipped}; nothing that they started is left",
            seconds(time)
        )?;
        return Ok(true);
    }
    let again: Vec<_> = failed.iter().map(|name| format!("--only {name}")).collect();
    writeln!(
        out,
        "verify: FAILED at {} after {}; try again with: cargo verify {}",
        failed.join(", "),
        seconds(time),
        again.join(" ")
    )?;
    Ok(false)
}

impl Options {
    fn choice(&self) -> mutants::Choice<'_> {
        mutants::Choice { only: self.mutant.as_deref(), part: self.part }
    }

    fn steps(&self) -> Vec<Step> {
        let chosen = |step: &&Step| {
            let named = self.only.contains(step) || self.with.contains(step);
            let usual = self.only.is_empty() && !step.is_extra();
            (named || usual) && !self.skip.contains(step)
        };
        Step::value_variants().iter().filter(chosen).copied().collect()
    }
}

impl Row {
    fn skipped(&self) -> usize {
        if let Ok(Done::Skipped(skips)) = &self.end { skips.count() } else { 0 }
    }

    fn text(&self) -> String {
        let (name, time) = (self.step.name(), seconds(self.time));
        match &self.end {
            Ok(Done::Whole) => format!("{name:<10} {time:>8}  passed"),
            Ok(Done::Skipped(skips)) => format!("{name:<10} {time:>8}  passed, but {skips}"),
            Ok(Done::LeftOut(why)) => format!("{name:<10} {time:>8}  passed, but left out: {why}"),
            Err(error) => format!("{name:<10} {time:>8}  FAILED: {error:#}"),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{}.{} s", time.as_secs(), time.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(arguments: &[&str]) -> Vec<&'static str> {
        let options = Options::try_parse_from([&["verify"], arguments].concat()).expect("valid");
        options.steps().iter().map(|step| step.name()).collect()
    }

    #[test]
    fn steps_are_chosen_and_left_out_by_name_and_keep_their_order() {
        assert_eq!(steps(&["--only", "test", "--only", "format"]), ["format", "test"]);
        assert_eq!(steps(&[]).len(), Step::value_variants().len() - 2);
        assert_eq!(steps(&["--with", "mutants", "--with", "year"]).len(), Step::value_variants().len());
        assert_eq!(steps(&["--only", "mutants"]), ["mutants"]);
        assert!(!steps(&["--skip", "demo"]).contains(&"demo"));
        assert!(Options::try_parse_from(["verify", "--only", "tests"]).is_err());
    }

    #[test]
    fn a_failed_step_says_why_and_a_partial_one_says_so() {
        let row = |end| Row { step: Step::Deny, end, time: Duration::from_millis(1_250) }.text();
        assert_eq!(row(Err(anyhow!("no").context("deny it"))), "deny          1.2 s  FAILED: deny it: no");
        assert!(
            row(Ok(Done::LeftOut("everything".to_owned()))).ends_with("passed, but left out: everything")
        );
    }
}
