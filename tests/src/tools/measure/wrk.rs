//! The load generator wrk: a number of connections, for a fixed time, to one address of this
//! machine.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use crate::testkit::machine;

/// Additional time until wrk is ended.
const GRACE: Duration = Duration::from_secs(20);

/// Result of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Number of answers, good or bad.
    pub(super) requests: u64,
    /// Answers with a status other than 2xx and 3xx.
    pub(super) bad: u64,
    /// Connections that were refused, broke or got no answer.
    pub(super) broken: u64,
    /// Answers a second, in thousandths.
    pub(super) per_second: u64,
}

/// Sends requests for `path` to the server at `to` for this number of whole seconds. Each of the
/// connections has one request under way. `threads` is wrk's own number of threads.
///
/// # Errors
///
/// Fails if wrk cannot be run, if there was no answer, or if an answer was bad.
pub(super) async fn load(
    to: SocketAddr,
    path: &str,
    seconds: u64,
    connections: usize,
    threads: usize,
) -> Result<Load> {
    ensure!(to.ip().is_loopback(), "only this machine is put under load");
    let mut wrk = Command::new(machine::find("wrk").context("wrk is not installed")?);
    wrk.arg(format!("--threads={threads}")).arg(format!("--connections={connections}"));
    wrk.arg(format!("--duration={seconds}s")).arg(format!("http://{to}{path}"));
    wrk.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(Duration::from_secs(seconds) + GRACE, wrk.output()).await;
    let output = output.context("wrk does not end")?.context("run wrk")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk ended with {}:\n{said}", output.status);
    let load = Load::parse(&said).with_context(|| format!("wrk's report cannot be read:\n{said}"))?;
    ensure!(load.requests > 0, "wrk got no answer:\n{said}");
    ensure!(load.bad == 0 && load.broken == 0, "wrk got errors:\n{said}");
    Ok(load)
}

impl Load {
    /// Parses wrk's report. It has lines for errors only if there are any.
    fn parse(text: &str) -> Option<Load> {
        let mut load = Load::default();
        let mut counted = false;
        for line in text.lines().map(str::trim) {
            if let Some((requests, _)) = line.split_once(" requests in ") {
                load.requests = requests.parse().ok()?;
                counted = true;
            } else if let Some(rate) = line.strip_prefix("Requests/sec:") {
                load.per_second = thousandths(rate.trim())?;
            } else if let Some(bad) = line.strip_prefix("Non-2xx or 3xx responses:") {
                load.bad = bad.trim().parse().ok()?;
            } else if let Some(errors) = line.strip_prefix("Socket errors:") {
                let counts = errors.split(',').map(|kind| kind.rsplit(' ').next()?.parse::<u64>().ok());
                load.broken = counts.sum::<Option<u64>>()?;
            }
        }
        counted.then_some(load)
    }
}

/// Converts `1234.56` to 1,234,560.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let decimals: String = decimals.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(decimals.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = "\
Running 1s test @ http://127.0.0.1:8080/
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.19ms  350.13us   7.18ms   82.45%
    Req/Sec    26.89k     2.33k   31.19k    55.00%
  53530 requests in 1.00s, 85.61MB read
Requests/sec:  53470.77
Transfer/sec:     85.51MB
";

    #[test]
    fn requests_and_their_rate_are_read_from_what_wrk_prints() {
        let load = Load { requests: 53_530, bad: 0, broken: 0, per_second: 53_470_770 };
        assert_eq!(Load::parse(FINE), Some(load));
    }

    #[test]
    fn errors_are_counted_of_every_kind() {
        let text = FINE.replace(
            "Requests/sec:",
            "  Socket errors: connect 1, read 20, write 0, timeout 3\n  Non-2xx or 3xx responses: 7\nRequests/sec:",
        );
        let load = Load { requests: 53_530, bad: 7, broken: 24, per_second: 53_470_770 };
        assert_eq!(Load::parse(&text), Some(load));
    }

    #[test]
    fn what_is_no_report_is_none() {
        assert_eq!(Load::parse(""), None);
        assert_eq!(Load::parse("unable to connect to 127.0.0.1:1 Connection refused"), None);
        assert_eq!(Load::parse("many requests in 1.00s"), None);
        assert_eq!(
            [thousandths("7"), thousandths("0.5"), thousandths("1.2e3")],
            [Some(7_000), Some(500), None]
        );
    }

    #[tokio::test]
    async fn no_other_machine_is_put_under_load() {
        let elsewhere = "192.0.2.1:80".parse().expect("an address");
        let error = load(elsewhere, "/", 1, 1, 1).await.expect_err("refused");
        assert_eq!(error.to_string(), "only this machine is put under load");
    }
}
