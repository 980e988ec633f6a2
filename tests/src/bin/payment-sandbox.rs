//! The payment gateway to test with, as a process: see `bridge_tests::sandbox`.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use bridge_tests::sandbox::{Rates, SECRET_KEY, Sandbox};
use clap::Parser;

/// Speaks Toss Payments' protocol on this machine, keeps books, and misbehaves when told to.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// How often it misbehaves, of a thousand requests each, as in {"fail_after": 200, "hang_after": 50}.
    #[arg(long, default_value = "{}")]
    rates: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let rates: Rates = serde_json::from_str(&options.rates).context("--rates")?;
    let sandbox = Sandbox::listen(options.listen, rates).await.context("listen")?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}  (secret key {SECRET_KEY})", sandbox.url())?;
    stdout.flush()?;
    sandbox.wait().await;
    Ok(())
}
