//! `cargo faults`: see `bridge_tests::faults`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use bridge_tests::faults::{Options, run};
use clap::Parser;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let report = run(&options).await?;
    let mut stdout = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
