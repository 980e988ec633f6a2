//! `cargo fuzz`: see `bridge_tests::fuzz`.

use std::io;
use std::process::ExitCode;

use bridge_tests::fuzz::{Options, run};
use clap::Parser;

fn main() -> io::Result<ExitCode> {
    let clean = run(&Options::parse(), &mut io::stdout().lock())?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
