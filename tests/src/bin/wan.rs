//! `cargo wan`: see `bridge_tests::tools::wan`.

use std::process::ExitCode;

use bridge_tests::tools::command::end;
use bridge_tests::tools::wan::{Options, run};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    end("wan", run(&Options::parse()).await.map(|()| true))
}
