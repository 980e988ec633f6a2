//! The payment gateway to test with, as a process: see `bridge_tests::sandbox`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use bridge_tests::command::end;
use bridge_tests::sandbox::{Rates, SECRET_KEY, Sandbox};
use clap::Parser;

/// Speaks Toss Payments' protocol on this machine, keeps books, and misbehaves when told to.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// How often it misbehaves, of a thousand requests each, as in {"fail_after": 200, "hang_after": 50}.
    #[arg(long, default_value = "{}", value_parser = |text: &str| serde_json::from_str::<Rates>(text))]
    rates: Rates,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    end("payment-sandbox", sandbox(Options::parse()).await)
}

async fn sandbox(options: Options) -> anyhow::Result<bool> {
    let sandbox = Sandbox::listen(options.listen, options.rates);
    let sandbox = sandbox.await.with_context(|| format!("listen on {}", options.listen))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}  (secret key {SECRET_KEY})", sandbox.url())?;
    stdout.flush()?;
    sandbox.wait().await;
    Ok(true)
}
