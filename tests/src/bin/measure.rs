//! `cargo measure`: see `bridge_tests::tools::measure`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use bridge_tests::tools::command::{end, tell};
use bridge_tests::tools::measure::{Options, inner, run};
use clap::Parser;
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// The same allocator as the agents have, because this program is also the bare server that Bridge
/// is compared with.
#[global_allocator]
static MEMORY: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    end("measure", measure(&Options::parse()))
}

fn measure(options: &Options) -> Result<bool> {
    if let Some(command) = &options.inner {
        return inner(command).map(|()| true);
    }
    // One thread, because it shares the CPU with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run(options))?;
    if let Some(file) = &options.html {
        std::fs::write(file, report.page()).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &options.markdown {
        std::fs::write(file, report.markdown()).with_context(|| format!("write {}", file.display()))?;
    }
    tell(&report, options.json)?;
    Ok(true)
}
