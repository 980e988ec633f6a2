//! `cargo fuzz`: see `bridge_tests::tools::fuzz`.

use std::io;
use std::process::ExitCode;

use bridge_tests::tools::command::end;
use bridge_tests::tools::fuzz::{Options, run};
use clap::Parser;

fn main() -> ExitCode {
    end("fuzz", run(&Options::parse(), &mut io::stdout().lock()).map_err(Into::into))
}
