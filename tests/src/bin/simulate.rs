//! `cargo simulate`: see `bridge_tests::sim`.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use bridge_tests::sim::{Options, run};
use bridge_tests::tools::command::{end, tell};
use clap::Parser;

fn main() -> ExitCode {
    end("simulate", simulate(&Options::parse()))
}

fn simulate(options: &Options) -> Result<bool> {
    let report = run(options, &mut io::stderr().lock())?;
    tell(&report, options.json)?;
    Ok(report.passed())
}
