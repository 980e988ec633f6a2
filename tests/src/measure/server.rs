//! The servers that Bridge is measured against, as processes of their own: nginx, HAProxy, and the bare one.
//!
//! Each listens on a free loopback port with the same number of workers, writes no log of requests, and keeps what it
//! needs in a folder that goes with the run. Caches are filled by one request and their origin is then gone: whatever
//! they answer afterwards comes out of the cache. All of them send the same headers and the same body.

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
use crate::http::Client;
use crate::machine;
use crate::ports::free_address;
use crate::tied;

const PATIENCE: Duration = Duration::from_secs(20);
/// Every baseline answers the product under this path, and nginx the file under the other.
pub(super) const PRODUCT: &str = "/v1/shop/products/one";
pub(super) const FILE: &str = "/static/one.json";

/// How a server is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// As the examples of its manual have it.
    AsShown,
    /// As its manual lets an administrator do who serves small answers and cares for speed alone.
    Tuned,
}

/// What is put under load: which processes, where, and for what path.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The process at the root of all its processes.
    pub pid: Pid,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is asked for.
    pub path: String,
}

impl Subject {
    /// Asks it once, as the load will ask: a cache keeps an answer for each host that was asked.
    ///
    /// # Errors
    /// When it answers something else, if only in a header, or with `NoAnswer` in it when nothing comes back.
    pub async fn answers(&self, answer: &FixedAnswer) -> Result<()> {
        let Subject { address, path, .. } = self;
        let request = Request::get(path).header(HOST, address.to_string()).body(Full::default())?;
        let got = Client::new(*address).send(request).await.context(NoAnswer)?;
        let wrong = differences(&answer.headers()?, answer.body.as_bytes(), &got);
        ensure!(wrong.is_empty(), "{path} is answered otherwise than it should be: {}", wrong.join("; "));
        Ok(())
    }
}

/// Nothing came back.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

/// A server with all its processes; they end when this is dropped.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    child: Child,
    /// The group of all its processes.
    group: Pid,
    address: SocketAddr,
    /// What it says; not much.
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
        // A group of its own: nginx's workers outlive a master that is killed alone.
        command.kill_on_drop(true).process_group(0);
        let child = tied::spawn(command);
        let child = child.with_context(|| format!("start {name}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.with_context(|| format!("{name} ended at once"))?;
        Ok(Server { name, child, group, address, log })
    }

    /// The bare server: `program` is the one that knows `serve-bare`.
    ///
    /// # Errors
    /// When it does not start, or answers something else.
    pub async fn bare(program: &Path, dir: &Path, answer: &FixedAnswer, workers: usize) -> Result<Server> {
        let address = free_address().context("find a free port")?;
        let file = dir.join("answer.json");
        answer.write(&file)?;
        let mut bare = Command::from(tied::command(program));
        bare.args(["serve-bare", "--listen", &address.to_string(), "--workers", &workers.to_string()]);
        bare.arg("--answer").arg(&file);
        let mut server = Server::spawn("bare", bare, dir, address)?;
        server.wait_for(PRODUCT, answer).await?;
        Ok(server)
    }

    /// nginx: `proxy_cache` at `PRODUCT`, a static file at `FILE`. Its folder must be its own.
    ///
    /// # Errors
    /// When it does not start, or answers something else.
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

    /// HAProxy with its cache in memory.
    ///
    /// # Errors
    /// When it does not start, or answers something else.
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

    /// This server, asked for `path`.
    #[must_use]
    pub fn asked_for(&self, path: &str) -> Subject {
        Subject { pid: self.group, address: self.address, path: path.to_owned() }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Fails once it has ended.
    pub(super) fn still_runs(&mut self) -> Result<()> {
        let ended = self.child.try_wait().with_context(|| format!("look after {}", self.name))?;
        match ended {
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.said()),
            None => Ok(()),
        }
    }

    /// Waits until it answers as it should. What a cache does not have yet may be answered a little otherwise, but not twice.
    pub(super) async fn wait_for(&mut self, path: &str, answer: &FixedAnswer) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut otherwise = 0;
        loop {
            self.still_runs()?;
            // Before it listens, the answer is an error of the connection.
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
        // The group's number is its own as long as nobody has waited for its first process.
        if self.child.id().is_none() {
            return;
        }
        // All of them end at once on SIGTERM; nginx's master ends its workers and waits for them.
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

/// As its documentation shows it, without a log and with many requests on a connection; tuned as far as that says.
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

/// What its manual has for the process, and for files. As shown: a file is opened for each request and goes in the kernel from the
/// disk's cache to the socket, the head in one packet with the beginning of the body.
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

/// The headers of the answer on a static file, in place of those that nginx makes of the file.
fn static_headers(answer: &FixedAnswer) -> Result<String> {
    let mut lines =
        vec!["etag off;".to_owned(), "max_ranges 0;".to_owned(), "add_header Last-Modified '';".to_owned()];
    for (name, value) in &answer.headers()? {
        let value = value.to_str().context("a header's value")?;
        ensure!(!value.contains(['\'', '$', '\\']), "nginx's configuration cannot have {value:?}");
        // By the file's name.
        if *name != CONTENT_TYPE {
            lines.push(format!("add_header {name} '{value}';"));
        }
    }
    Ok(lines.iter().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n"))
}

/// As its documentation shows it, with memory to spare and without a log. Its makers find that the settings it determines by
/// itself are the best for such a machine. Of the rest its manual says: `shards` are for very many threads, `tune.bufsize` is better
/// left alone, and `tune.fd.edge-triggered` is an experiment that may freeze connections.
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
