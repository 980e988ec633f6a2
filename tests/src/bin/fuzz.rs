//! `cargo fuzz`: see `bridge_tests::fuzz`.

use std::io;
use std::process::ExitCode;

use bridge_tests::command::end;
use bridge_tests::fuzz::{Options, run};
use clap::Parser;

fn main() -> ExitCode {
    end("fuzz", run(&Options::parse(), &mut io::stdout().lock()).map_err(Into::into))
}
