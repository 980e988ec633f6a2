//! `cargo demo`: see `bridge_tests::demo`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use bridge_tests::demo::{Options, run};
use clap::Parser;

/// One thread: the callers share the processors with the agents and the database they call.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let report = run(&options).await?;
    let mut stdout = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
