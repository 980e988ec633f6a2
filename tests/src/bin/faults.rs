//! `cargo faults`: see `bridge_tests::tools::faults`.

use std::process::ExitCode;

use anyhow::Result;
use bridge_tests::tools::command::{end, tell};
use bridge_tests::tools::faults::{Options, run};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    end("faults", faults(&Options::parse()).await)
}

async fn faults(options: &Options) -> Result<bool> {
    let report = run(options).await?;
    tell(&report, options.json)?;
    Ok(report.passed())
}
