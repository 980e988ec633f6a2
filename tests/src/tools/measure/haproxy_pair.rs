//! Two HAProxies with mutual TLS between them: a usual way for requests across a line without
//! Bridge.
//!
//! Callers send plain HTTP to the near one. It keeps connections to the far one open, and uses each
//! again as soon as it is free (`http-reuse always`). So a lost packet delays one request, and not
//! those on other connections. The far one asks a local server that answers at once.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bridge_certs::{Authority, IssueOptions, Role};
use tokio::process::Command;

use super::bare::FixedAnswer;
use super::server::Server;
use crate::testkit::machine;
use crate::testkit::ports::free_address;
use crate::testkit::tied;
use crate::testkit::wan::Wan;

/// Most connections of the near one. There are fewer callers.
const CONNECTIONS_MAX: usize = 2_048;

/// Both running HAProxies.
#[derive(Debug)]
pub struct HaproxyPair {
    /// Address for callers.
    pub address: SocketAddr,
    _near: Server,
    _far: Server,
}

impl HaproxyPair {
    /// Starts both ends across a line, in front of a server with one fixed answer. Their
    /// certificates come from the agents' authority.
    ///
    /// # Errors
    ///
    /// Fails if one does not start, or the answer changes on its way.
    pub async fn start(
        dir: &Path,
        wan: &Wan,
        authority: &Authority,
        origin: &Server,
        path: &str,
        answer: &FixedAnswer,
    ) -> Result<HaproxyPair> {
        let (near, far) = (free_address().context("find a free port")?, wan.free_far_address()?);
        let ca = authority.ca_path();
        let far_credentials = credentials(dir, authority, Role::Idc, "haproxy-far")?;
        let far_config = far_config(far, origin.address(), &far_credentials, &ca);
        let mut far_server = spawn("haproxy-far", dir, far, &far_config)?;
        let near_credentials = credentials(dir, authority, Role::Cloud, "haproxy-near")?;
        let dialled = wan.from_other_end(far)?;
        let near_config = near_config(near, dialled, &near_credentials, &ca);
        let mut near_server = spawn("haproxy-near", dir, near, &near_config)?;
        far_server.still_runs()?;
        near_server.wait_for(path, answer).await?;
        Ok(HaproxyPair { address: near, _near: near_server, _far: far_server })
    }
}

/// Makes a file with a certificate and its key, as HAProxy demands.
fn credentials(dir: &Path, authority: &Authority, role: Role, name: &str) -> Result<PathBuf> {
    authority.issue(role, name, &IssueOptions::default()).with_context(|| format!("issue {name}"))?;
    let path = dir.join(format!("{name}.pem"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    for part in [authority.certificate_path(role, name)?, authority.key_path(role, name)?] {
        file.write_all(&fs::read(&part).with_context(|| format!("read {}", part.display()))?)?;
    }
    Ok(path)
}

fn spawn(name: &'static str, dir: &Path, address: SocketAddr, config: &str) -> Result<Server> {
    let file = dir.join(format!("{name}.cfg"));
    fs::write(&file, config).with_context(|| format!("write {}", file.display()))?;
    let program = machine::find("haproxy").context("HAProxy is not installed")?;
    let mut haproxy = Command::from(tied::command(program));
    haproxy.arg("-db").arg("-f").arg(&file);
    Server::spawn(name, haproxy, dir, address)
}

fn near_config(near: SocketAddr, far: SocketAddr, credentials: &Path, ca: &Path) -> String {
    let (credentials, ca) = (credentials.display(), ca.display());
    format!(
        "{}
frontend callers
  bind {near}
  default_backend far
backend far
  http-reuse always
  server far {far} ssl crt {credentials} ca-file {ca} verify required ssl-min-ver TLSv1.3 alpn http/1.1 \
         pool-max-conn {CONNECTIONS_MAX}
",
        defaults()
    )
}

fn far_config(far: SocketAddr, origin: SocketAddr, credentials: &Path, ca: &Path) -> String {
    let (credentials, ca) = (credentials.display(), ca.display());
    format!(
        "{}
frontend near
  bind {far} ssl crt {credentials} ca-file {ca} verify required ssl-min-ver TLSv1.3 alpn http/1.1
  default_backend origin
backend origin
  http-reuse always
  server origin {origin} pool-max-conn {CONNECTIONS_MAX}
",
        defaults()
    )
}

/// Returns the settings of both. HAProxy's authors recommend the settings that it determines by
/// itself.
fn defaults() -> String {
    format!(
        "global
  maxconn {}
defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 60s",
        2 * CONNECTIONS_MAX
    )
}
