//! `cargo simulate`: see `bridge_tests::sim`.

use std::io::{self, Write};
use std::process::ExitCode;

use bridge_tests::sim::{Options, run};
use clap::Parser;

fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    let report = run(&options, &mut io::stderr().lock())?;
    let mut stdout = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
