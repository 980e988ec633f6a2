//! The agents as what they are in production: processes, started, killed and started again.
//!
//! The harness builds both binaries once, gives each process a log file, and waits for `/readyz` instead of sleeping.
//! It knows nothing of configuration: `site` writes that.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::testkit::http::Client;
use crate::testkit::tied;

/// Generous, since two cores may be shared with a compiler; a condition ends every wait long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// The environment variable that says that the agents were just built, so that each test's program need not ask cargo.
pub const BUILT: &str = "BRIDGE_AGENTS_ARE_BUILT";

/// The two agents' programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `bridge-cloud`.
    pub cloud: PathBuf,
    /// `bridge-idc`.
    pub idc: PathBuf,
}

impl Programs {
    /// Builds both programs, and `bridge-certs` beside them, with the cargo, profile and target folder that built this one; once a process.
    ///
    /// # Errors
    /// When they do not compile.
    pub fn build() -> Result<Programs> {
        static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
        BUILT
            .get_or_init(|| build(None).map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(anyhow::Error::msg)
    }

    /// Builds both programs with a feature that both have and puts them below `folder`. What is compiled is shared with
    /// [`Programs::build`], and the programs in the target folder stay what they are: whoever starts those by hand, or in a test
    /// beside this one, must not get these.
    ///
    /// # Errors
    /// When they do not compile.
    pub fn build_with(feature: &str, folder: &Path) -> Result<Programs> {
        build(Some((feature, folder)))
    }
}

fn build(variant: Option<(&str, &Path)>) -> Result<Programs> {
    let this = std::env::current_exe().context("find this program")?;
    // target/debug/demo, or target/debug/deps/e2e-0123 for a test.
    let folder = this.parent().context("find the target folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let target = folder.parent().context("find the target folder")?;
    let profile = folder.file_name().context("find the profile's folder")?;
    let place = variant.map_or(target, |(_, place)| place).join(profile);
    let programs = Programs { cloud: place.join("bridge-cloud"), idc: place.join("bridge-idc") };
    let there = programs.cloud.is_file() && programs.idc.is_file();
    if !there || std::env::var_os(BUILT).is_none() {
        compile(variant, target, profile == "release")?;
    }
    Ok(programs)
}

fn compile(variant: Option<(&str, &Path)>, target: &Path, release: bool) -> Result<()> {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "--manifest-path",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"),
    ]);
    // With this package among them the features are those it was built with, and nothing heavy is compiled twice.
    cargo.args(["--package", "bridge-tests", "--package", "bridge-cloud", "--package", "bridge-idc"]);
    cargo.args(["--bin", "bridge-cloud", "--bin", "bridge-idc"]);
    // The operator's own tool, for the test of the operator's document; it shares all that is compiled.
    cargo.args(["--package", "bridge-certs", "--bin", "bridge-certs"]);
    if release {
        cargo.arg("--release");
    }
    if let Some((feature, place)) = variant {
        cargo.args(["--features", &format!("bridge-cloud/{feature},bridge-idc/{feature}")]);
        cargo.env("CARGO_BUILD_BUILD_DIR", target).arg("--target-dir").arg(place);
    } else {
        cargo.arg("--target-dir").arg(target);
    }
    let status = cargo.stdin(Stdio::null()).stdout(Stdio::null()).status().context("run cargo build")?;
    ensure!(status.success(), "the agents do not compile: cargo build ended with {status}");
    Ok(())
}

/// How to start one agent.
#[derive(Clone, Debug)]
pub struct AgentCommand {
    /// Its name in messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where its standard error and output go, appended over restarts.
    pub log: PathBuf,
    /// Its admin listener, where `/readyz` is.
    pub admin: SocketAddr,
}

/// An agent that runs; it is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    agent: AgentCommand,
    child: Child,
}

impl AgentCommand {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, ends by itself or is not ready in time; the end of its log is in the error.
    pub async fn start(&self) -> Result<Running> {
        let mut running = self.spawn()?;
        running.wait_until_ready().await?;
        Ok(running)
    }

    /// What starts it, for [`tied::spawn`]: it dies with this process, and is killed when its child is dropped.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::from(tied::command(&self.program));
        command.args(&self.arguments).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self) -> Result<Running> {
        let log = open_log(&self.log)?;
        let mut command = self.command();
        command.stdout(log.try_clone().with_context(|| format!("share {}", self.log.display()))?);
        command.stderr(log);
        let child = tied::spawn(command).with_context(|| format!("start {}", self.program.display()))?;
        Ok(Running { agent: self.clone(), child })
    }
}

impl Running {
    /// Where its log is.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.agent.log
    }

    /// Its admin listener.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.agent.admin
    }

    /// Its process, until that has ended and was waited for.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it ends first, or takes too long.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut admin = Client::new(self.agent.admin);
        loop {
            if let Some(status) = self.child.try_wait().context("look after the process")? {
                bail!("{} ended with {status} before it was ready:\n{}", self.agent.name, self.log_end());
            }
            if matches!(admin.get("/readyz", None).await, Ok(answer) if answer.status.is_success()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {PATIENCE:?}:\n{}", self.agent.name, self.log_end());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `/readyz` answers something else than 200, as when it has lost its last link.
    ///
    /// # Errors
    /// When it stays ready, or does not answer.
    pub async fn wait_until_not_ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut admin = Client::new(self.agent.admin);
        while admin.get("/readyz", None).await?.status.is_success() {
            ensure!(Instant::now() < deadline, "{} is still ready after {PATIENCE:?}", self.agent.name);
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let answer = Client::new(self.agent.admin).get("/metrics", None).await?;
        ensure!(answer.status.is_success(), "{} answers {} to /metrics", self.agent.name, answer.status);
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// SIGKILL: it gets no chance to write another byte.
    ///
    /// # Errors
    /// When it is not ours to kill.
    pub async fn kill9(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.agent.name))
    }

    /// SIGTERM: waits for it to drain and end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::TERM).with_context(|| format!("terminate {}", self.agent.name))?;
        }
        match self.ended_within(PATIENCE).await? {
            Some(status) => Ok(status),
            None => bail!("{} did not end {PATIENCE:?} after SIGTERM:\n{}", self.agent.name, self.log_end()),
        }
    }

    /// Its exit status, if it ends by itself in this time.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn ended_within(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        match timeout(patience, self.child.wait()).await {
            Ok(status) => Ok(Some(status.with_context(|| format!("wait for {}", self.agent.name))?)),
            Err(_) => Ok(None),
        }
    }

    /// Starts it again after it was killed or terminated, and waits until it is ready.
    ///
    /// # Errors
    /// As [`AgentCommand::start`].
    pub async fn restart(&mut self) -> Result<()> {
        *self = self.agent.spawn()?;
        self.wait_until_ready().await
    }

    fn log_end(&self) -> String {
        log_end(&self.agent.log)
    }
}

/// Runs a command of an agent to its end and returns what it printed on standard output.
///
/// # Errors
/// When it fails; with what it said on standard error.
pub async fn run(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await;
    let output = output.with_context(|| format!("start {}", program.display()))?;
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        output.status.success(),
        "{name} {} ended with {}:\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

fn log_end(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
