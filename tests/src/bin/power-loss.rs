//! `cargo power-loss`: see `bridge_tests::tools::power`.

use std::process::ExitCode;

use anyhow::Result;
use bridge_tests::tools::command::{end, tell};
use bridge_tests::tools::power::{Command, Part, run};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    end("power-loss", power_loss(&Command::parse()).await)
}

async fn power_loss(command: &Command) -> Result<bool> {
    if let Some(Part::Drive { store, root, seed }) = &command.part {
        store.drive(root, *seed).await?;
        return Ok(true);
    }
    let report = run(&command.options, &std::env::current_exe()?).await?;
    tell(&report, command.options.json)?;
    Ok(report.passed())
}
