//! `cargo wan`: see `bridge_tests::testkit::wan`.

use std::process::ExitCode;

use bridge_tests::testkit::wan::command::{Options, run};
use bridge_tests::tools::command::end;
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    end("wan", run(&Options::parse()).await.map(|()| true))
}
