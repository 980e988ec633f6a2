//! The servers that Bridge is compared with, as processes: nginx, HAProxy, and the bare server.
//!
//! Each listens on a free loopback port with the same number of workers, writes no log of requests,
//! and has its files in a folder that is deleted after the run. One request fills a cache, and then
//! its origin ends, so all later answers come from the cache. All servers send the same headers and
//! the same body.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::Full;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::alike::differences;
use super::bare::FixedAnswer;
use crate::testkit::http::Client;
use crate::testkit::machine;
use crate::testkit::ports::free_address;
use crate::testkit::tied;

const PATIENCE: Duration = Duration::from_secs(20);
/// Paths on every baseline: the product, and on nginx also the static file.
pub(super) const PRODUCT: &str = "/v1/shop/products/one";
pub(super) const FILE: &str = "/static/one.json";

/// Settings of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// The settings in the examples of its manual.
    AsShown,
    /// The settings that its manual offers for small answers and speed alone.
    Tuned,
}

/// Target of a load: processes, address and path.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The root of all its processes.
    pub pid: Pid,
    /// Address of its listener.
    pub address: SocketAddr,
    /// Path of the requests.
    pub path: String,
}

impl Subject {
    /// Sends one request, with the same `Host` as the load, because a cache keeps an answer for
    /// each host.
    ///
    /// # Errors
    ///
    /// Fails if the answer differs, even in one header. The error contains `NoAnswer` if there is
    /// no answer.
    pub async fn answers(&self, answer: &FixedAnswer) -> Result<()> {
        let Subject { address, path, .. } = self;
        let request = Request::get(path).header(HOST, address.to_string()).body(Full::default())?;
        let got = Client::new(*address).send(request).await.context(NoAnswer)?;
        let wrong = differences(&answer.headers()?, answer.body.as_bytes(), &got);
        ensure!(wrong.is_empty(), "{path} has a wrong answer: {}", wrong.join("; "));
        Ok(())
    }
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

/// A server with all its processes. They end when this value is dropped.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    child: Child,
    /// Process group of all its processes.
    group: Pid,
    address: SocketAddr,
    /// Path of its log.
    log: PathBuf,
}

impl Server {
    pub(super) fn spawn(
        name: &'static str,
        mut command: Command,
        dir: &Path,
        address: SocketAddr,
    ) -> Result<Server> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone().context("share a log")?).stderr(file);
        // A group of its own, because nginx's workers survive if only the master is killed.
        command.kill_on_drop(true).process_group(0);
        let child = tied::spawn(command);
        let child = child.with_context(|| format!("start {name}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.with_context(|| format!("{name} ended at once"))?;
        Ok(Server { name, child, group, address, log })
    }

    /// Starts the bare server. `program` is the program that has the command `serve-bare`.
    ///
    /// # Errors
    ///
    /// Fails if the server does not start, or answers differently.
    pub async fn bare(program: &Path, dir: &Path, answer: &FixedAnswer, workers: usize) -> Result<Server> {
        Server::bare_of(program, dir, answer, None, workers).await
    }

    /// Starts the bare server with another answer to reads of the stock.
    ///
    /// # Errors
    ///
    /// Fails as [`Server::bare`].
    pub(super) async fn bare_page(
        program: &Path,
        dir: &Path,
        product: &FixedAnswer,
        stock: &FixedAnswer,
        workers: usize,
    ) -> Result<Server> {
        Server::bare_of(program, dir, product, Some(stock), workers).await
    }

    async fn bare_of(
        program: &Path,
        dir: &Path,
        answer: &FixedAnswer,
        stock: Option<&FixedAnswer>,
        workers: usize,
    ) -> Result<Server> {
        let address = free_address().context("find a free port")?;
        let file = dir.join("answer.json");
        answer.write(&file)?;
        let mut bare = Command::from(tied::command(program));
        bare.args(["serve-bare", "--listen", &address.to_string(), "--workers", &workers.to_string()]);
        bare.arg("--answer").arg(&file);
        if let Some(stock) = stock {
            let file = dir.join("stock.json");
            stock.write(&file)?;
            bare.arg("--stock").arg(&file);
        }
        let mut server = Server::spawn("bare", bare, dir, address)?;
        server.wait_for(PRODUCT, answer).await?;
        Ok(server)
    }

    /// Starts nginx: `proxy_cache` at `PRODUCT`, a static file at `FILE`. It needs a folder of its
    /// own.
    ///
    /// # Errors
    ///
    /// Fails if the server does not start, or answers differently.
    pub async fn nginx(
        dir: &Path,
        origin: &Server,
        answer: &FixedAnswer,
        workers: usize,
        tuning: Tuning,
    ) -> Result<Server> {
        let address = free_address().context("find a free port")?;
        fs::create_dir_all(dir.join("static")).with_context(|| format!("make {}", dir.display()))?;
        fs::write(dir.join(&FILE[1..]), &answer.body).context("write nginx's static file")?;
        let config = dir.join("nginx.conf");
        let text = nginx_config(dir, address, origin.address, workers, answer, tuning)?;
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let mut nginx =
            Command::from(tied::command(machine::find("nginx").context("nginx is not installed")?));
        nginx.arg("-p").arg(dir).args(["-e", "stderr"]).arg("-c").arg(&config);
        let mut server = Server::spawn("nginx", nginx, dir, address)?;
        server.wait_for(PRODUCT, answer).await?;
        server.wait_for(FILE, answer).await?;
        Ok(server)
    }

    /// Starts HAProxy with its cache in memory.
    ///
    /// # Errors
    ///
    /// Fails if the server does not start, or answers differently.
    pub async fn haproxy(
        dir: &Path,
        origin: &Server,
        answer: &FixedAnswer,
        workers: usize,
    ) -> Result<Server> {
        let address = free_address().context("find a free port")?;
        let config = dir.join("haproxy.cfg");
        fs::write(&config, haproxy_config(address, origin.address, workers))
            .with_context(|| format!("write {}", config.display()))?;
        let mut haproxy =
            Command::from(tied::command(machine::find("haproxy").context("HAProxy is not installed")?));
        haproxy.arg("-db").arg("-f").arg(&config);
        let mut server = Server::spawn("haproxy", haproxy, dir, address)?;
        server.wait_for(PRODUCT, answer).await?;
        Ok(server)
    }

    /// Returns this server as the target of a load, with this path.
    #[must_use]
    pub fn asked_for(&self, path: &str) -> Subject {
        Subject { pid: self.group, address: self.address, path: path.to_owned() }
    }

    /// Returns the address of its listener.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Checks that the server still runs.
    pub(super) fn still_runs(&mut self) -> Result<()> {
        let ended = self.child.try_wait().with_context(|| format!("check {}", self.name))?;
        match ended {
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.said()),
            None => Ok(()),
        }
    }

    /// Waits until the server answers correctly. A cache's first answer comes from the origin, so
    /// it may differ; the second may not.
    pub(super) async fn wait_for(&mut self, path: &str, answer: &FixedAnswer) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut otherwise = 0;
        loop {
            self.still_runs()?;
            // The connection fails until the server listens.
            match self.asked_for(path).answers(answer).await {
                Err(error) if error.is::<NoAnswer>() => {}
                Err(_) if otherwise == 0 => otherwise += 1,
                answered => return answered.with_context(|| format!("ask {}", self.name)),
            }
            ensure!(Instant::now() < deadline, "{} does not answer:\n{}", self.name, self.said());
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The group's id cannot be reused until its first process has been waited for.
        if self.child.id().is_none() {
            return;
        }
        // All processes end at once on SIGTERM. nginx's master ends its workers and waits for them.
        let _gone = kill_process_group(self.group, Signal::TERM);
        for _ in 0..200 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _gone = kill_process_group(self.group, Signal::KILL);
    }
}

/// Returns nginx's configuration as its documentation shows it, without a log and with many
/// requests on a connection. If tuned, it has all settings that the documentation offers.
fn nginx_config(
    dir: &Path,
    address: SocketAddr,
    origin: SocketAddr,
    workers: usize,
    answer: &FixedAnswer,
    tuning: Tuning,
) -> Result<String> {
    let ((clock, files), static_headers) = (nginx_tuning(tuning), static_headers(answer)?);
    let dir = dir.display();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    Ok(format!(
        "{user}daemon off;
worker_processes {workers};
pid {dir}/pid;
error_log stderr;
{clock}
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  types {{ application/json json; }}
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  proxy_cache_path {dir}/cache levels=1:2 keys_zone=reads:10m inactive=1h use_temp_path=off;
{files}
  server {{
    listen {address} reuseport;
    location /v1/ {{
      proxy_pass http://{origin};
      proxy_cache reads;
      proxy_cache_valid 200 1h;
    }}
    location /static/ {{
      root {dir};
{static_headers}
    }}
  }}
}}
"
    ))
}

/// Returns nginx's settings for the process and for files. The setting as shown opens a file for
/// each request, and sends it from the page cache with `sendfile`. The head leaves in one packet
/// with the beginning of the body.
fn nginx_tuning(tuning: Tuning) -> (&'static str, &'static str) {
    match tuning {
        Tuning::AsShown => ("", "  sendfile on;\n  tcp_nopush on;"),
        Tuning::Tuned => (
            "# No system call for the time at each event.
timer_resolution 100ms;",
            "  # Its default. For an answer of 1.4 KB one read and one write cost less than what sendfile saves: a head of its own, and
  # TCP_CORK set and taken back (tcp_nopush, which is for sendfile alone) so that both leave in one packet.
  sendfile off;
  # Files stay open: no open, no fstat and no close for a request. Who does this sees a change of a file late.
  open_file_cache max=1000 inactive=1h;
  open_file_cache_valid 1h;",
        ),
    }
}

/// Returns the answer's headers for a static file. They replace those that nginx derives from the
/// file.
fn static_headers(answer: &FixedAnswer) -> Result<String> {
    let mut lines =
        vec!["etag off;".to_owned(), "max_ranges 0;".to_owned(), "add_header Last-Modified '';".to_owned()];
    for (name, value) in &answer.headers()? {
        let value = value.to_str().context("a header's value")?;
        ensure!(!value.contains(['\'', '$', '\\']), "nginx's configuration cannot have {value:?}");
        // nginx derives this header from the file's name.
        if *name != CONTENT_TYPE {
            lines.push(format!("add_header {name} '{value}';"));
        }
    }
    Ok(lines.iter().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n"))
}

/// Returns HAProxy's configuration as its documentation shows it, with enough memory and without a
/// log. HAProxy's authors recommend the settings that it determines by itself on such a machine.
/// The manual advises against the others here: `shards` are for very many threads, `tune.bufsize`
/// should not be changed, and `tune.fd.edge-triggered` is an experiment that may freeze
/// connections.
fn haproxy_config(address: SocketAddr, origin: SocketAddr, workers: usize) -> String {
    format!(
        "global
  nbthread {workers}
  maxconn 1024
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
cache reads
  total-max-size 64
  max-object-size 1000000
  max-age 3600
  process-vary on
frontend reads
  bind {address}
  http-request cache-use reads
  http-response cache-store reads
  default_backend origin
backend origin
  server origin {origin}
"
    )
}
