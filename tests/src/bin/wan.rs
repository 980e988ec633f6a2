//! `cargo wan`: see `bridge_tests::wan`.

use std::process::ExitCode;

use bridge_tests::command::end;
use bridge_tests::wan::command::{Options, run};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    end("wan", run(&Options::parse()).await.map(|()| true))
}
