//! The payment gateway for tests, as a process: see `bridge_tests::testkit::sandbox`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use bridge_tests::testkit::sandbox::{Rates, SECRET_KEY, Sandbox};
use bridge_tests::tools::command::end;
use clap::Parser;

const CONTROL: &str = "\
It accepts commands at its own address, by POST with JSON:
  /sandbox/next       [\"fail_after\", \"decline\"]: faults of the next requests
  /sandbox/rates      {\"fail_after\": 200}: rates of faults, as with --rates, for all other requests
  /sandbox/status     {\"order\": \"...\", \"status\": \"EXPIRED\"}: sets the status of a charge
  /sandbox/authorise  {\"order\": \"...\", \"payment_key\": \"...\", \"amount\": 1000}: a shopper agrees to pay
GET /sandbox/charges shows its books. They are lost when it ends.

Example, for bridge-idc with payments.gateway = \"sandbox\" and the key that it prints in payments.secret_key_file:
  payment-sandbox --listen 127.0.0.1:9090
  curl --data '[\"fail_after\"]' http://127.0.0.1:9090/sandbox/next";

/// Speaks the protocol of Toss Payments on this machine, keeps books, and makes errors on request.
#[derive(Parser)]
#[command(after_help = CONTROL)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// Rates of faults in a thousand requests, as in {"fail_after": 200, "hang_after": 50}:
    /// `decline`, `hang_before`, `hang_after`, `fail_before` and `fail_after` (before or after
    /// money moved). `seed` decides which requests.
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
