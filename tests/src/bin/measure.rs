//! `cargo measure`: see `bridge_tests::measure`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bridge_tests::machine::NotReady;
use bridge_tests::measure::{Options, Report, inner, run};
use clap::Parser;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(command) = &options.inner {
        return inner(command).map(|()| ExitCode::SUCCESS);
    }
    // One thread: it shares the processors with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(run(&options)) {
        Ok(report) => tell(&options, &report).map(|()| ExitCode::SUCCESS),
        Err(error) if error.is::<NotReady>() => {
            writeln!(std::io::stderr(), "measure: {error:#}")?;
            Ok(ExitCode::from(2))
        }
        Err(error) => Err(error),
    }
}

fn tell(options: &Options, report: &Report) -> Result<()> {
    if let Some(file) = &options.html {
        std::fs::write(file, report.page()).with_context(|| format!("write {}", file.display()))?;
    }
    let mut stdout = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut stdout, report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    Ok(())
}
