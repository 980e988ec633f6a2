//! The servers that Bridge is measured against, as processes of their own: nginx, HAProxy, and the bare one.
//!
//! Each listens on a free loopback port with the same number of workers, writes no log of requests, and keeps what it
//! needs in a folder that goes with the run. Caches are filled by one request and their origin is then gone: whatever
//! they answer afterwards comes out of the cache.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Full;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::bare::Answer;
use crate::http::Client;
use crate::machine;
use crate::ports::free_address;
use crate::tied;

const PATIENCE: Duration = Duration::from_secs(20);
/// Every baseline answers the product under this path, and nginx the file under the other.
pub(super) const PRODUCT: &str = "/v1/shop/products/one";
pub(super) const FILE: &str = "/static/one.json";

/// What nginx does with the files that it answers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// It opens them for each request, as it does unless it is told otherwise.
    Opened,
    /// It keeps them open, as an administrator tells it who cares for speed and can wait for a change.
    KeptOpen,
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
    fn spawn(name: &'static str, mut command: Command, dir: &Path, address: SocketAddr) -> Result<Server> {
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
    pub async fn bare(program: &Path, dir: &Path, answer: &Answer, workers: usize) -> Result<Server> {
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
        answer: &Answer,
        workers: usize,
        files: Files,
    ) -> Result<Server> {
        let address = free_address().context("find a free port")?;
        fs::create_dir_all(dir.join("static")).with_context(|| format!("make {}", dir.display()))?;
        fs::write(dir.join(&FILE[1..]), &answer.body).context("write nginx's static file")?;
        let config = dir.join("nginx.conf");
        let text = nginx_config(dir, address, origin.address, workers, files);
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
    pub async fn haproxy(dir: &Path, origin: &Server, answer: &Answer, workers: usize) -> Result<Server> {
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

    /// Waits until it answers as it should.
    async fn wait_for(&mut self, path: &str, answer: &Answer) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) =
                self.child.try_wait().with_context(|| format!("look after {}", self.name))?
            {
                bail!("{} ended with {status}:\n{}", self.name, self.said());
            }
            // Before it listens, the answer is an error of the connection.
            match self.answers(path, answer).await {
                Err(error) if error.is::<NoAnswer>() => {}
                answered => return answered,
            }
            ensure!(Instant::now() < deadline, "{} does not answer:\n{}", self.name, self.said());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks it once, as the load will ask: a cache keeps an answer for each host that was asked.
    ///
    /// # Errors
    /// When it answers something else, or with `NoAnswer` in it when nothing comes back.
    pub async fn answers(&self, path: &str, answer: &Answer) -> Result<()> {
        let request = Request::get(path).header(HOST, self.address.to_string()).body(Full::default())?;
        let got = Client::new(self.address).send(request).await.context(NoAnswer)?;
        ensure!(got.status == StatusCode::OK, "{} answers {} to {path}", self.name, got.status);
        ensure!(got.body == answer.body.as_bytes(), "{} answers something else to {path}", self.name);
        Ok(())
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

/// As its documentation shows it, without a log and with many requests on a connection.
fn nginx_config(dir: &Path, address: SocketAddr, origin: SocketAddr, workers: usize, files: Files) -> String {
    let dir = dir.display();
    let files = match files {
        Files::Opened => "",
        Files::KeptOpen => "open_file_cache max=1000 inactive=1h;\n  open_file_cache_valid 1h;\n",
    };
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;
worker_processes {workers};
pid {dir}/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
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
    location /static/ {{ root {dir}; }}
  }}
}}
"
    )
}

/// As its documentation shows it, with memory to spare.
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
