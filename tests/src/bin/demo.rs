//! `cargo demo`: see `bridge_tests::tools::demo`.

use std::process::ExitCode;

use anyhow::Result;
use bridge_tests::tools::command::{end, tell};
use bridge_tests::tools::demo::{Options, run};
use clap::Parser;

/// One thread, because the callers share the CPU with the agents and the database.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    end("demo", Box::pin(demo(&Options::parse())).await)
}

async fn demo(options: &Options) -> Result<bool> {
    let report = Box::pin(run(options)).await?;
    tell(&report, options.json)?;
    Ok(report.passed())
}
