//! `cargo verify`: see `bridge_tests::tools::verify`.

use std::process::ExitCode;

use bridge_tests::tools::command::end;
use bridge_tests::tools::verify::{Options, run};
use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    end("verify", run(&Options::parse()).await)
}
