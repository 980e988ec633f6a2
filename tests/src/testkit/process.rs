//! The agents as processes, as in production: started, killed and started again.
//!
//! The harness builds both binaries once, gives each process a log file, and waits for `/readyz`
//! instead of sleeping. It does not know the agents' configuration: `site` writes that.

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

/// Limit of every wait. It is long, since a compiler may run on the same two cores. A condition
/// ends each wait much earlier.
const PATIENCE: Duration = Duration::from_secs(60);

/// Environment variable which says that the agents have just been built, so that a test program
/// need not call cargo.
pub const BUILT: &str = "BRIDGE_AGENTS_ARE_BUILT";

/// Paths of the two agents' programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Path of `bridge-cloud`.
    pub cloud: PathBuf,
    /// Path of `bridge-idc`.
    pub idc: PathBuf,
}

impl Programs {
    /// Builds both programs and `bridge-certs`, with the cargo, profile and target folder of the
    /// running program. Each process does it once.
    ///
    /// # Errors
    ///
    /// Fails if they do not compile.
    pub fn build() -> Result<Programs> {
        static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
        BUILT
            .get_or_init(|| build(None).map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(anyhow::Error::msg)
    }

    /// Builds both programs with a feature that both have, and puts them below `folder`. Compiled
    /// code is shared with [`Programs::build`]. The programs in the target folder do not change,
    /// because other tests and users start those.
    ///
    /// # Errors
    ///
    /// Fails if they do not compile.
    pub fn build_with(feature: &str, folder: &Path) -> Result<Programs> {
        build(Some((feature, folder)))
    }
}

fn build(variant: Option<(&str, &Path)>) -> Result<Programs> {
    let this = std::env::current_exe().context("find this program")?;
    // The program is target/debug/demo, or target/debug/deps/e2e-0123 for a test.
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
    // With this package in the list, the features are the same as in its own build. Otherwise cargo
    // would compile large dependencies twice.
    cargo.args(["--package", "bridge-tests", "--package", "bridge-cloud", "--package", "bridge-idc"]);
    cargo.args(["--bin", "bridge-cloud", "--bin", "bridge-idc"]);
    // The test of the operator's document needs this tool. It shares all compiled dependencies.
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

/// The command that starts an agent.
#[derive(Clone, Debug)]
pub struct AgentCommand {
    /// Name of the agent in messages.
    pub name: String,
    /// Path of the program.
    pub program: PathBuf,
    /// Arguments of the program.
    pub arguments: Vec<String>,
    /// File of its standard output and error. Restarts append to it.
    pub log: PathBuf,
    /// Address of its admin listener, which serves `/readyz`.
    pub admin: SocketAddr,
}

/// An agent that runs. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Running {
    agent: AgentCommand,
    child: Child,
}

impl AgentCommand {
    /// Starts the agent and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Fails if the agent cannot be started, ends by itself or is not ready in time. The error
    /// contains the end of its log.
    pub async fn start(&self) -> Result<Running> {
        let mut running = self.spawn()?;
        running.wait_until_ready().await?;
        Ok(running)
    }

    /// Returns the command for [`tied::spawn`]. The agent dies with this process, and is killed
    /// when its child is dropped.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::from(tied::command(&self.program));
        command.args(&self.arguments).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts the agent, and does not wait until it is ready.
    ///
    /// # Errors
    ///
    /// Fails if the agent cannot be started.
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
    /// Returns the path of its log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.agent.log
    }

    /// Returns the address of its admin listener.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.agent.admin
    }

    /// Returns its process id, or `None` once the process has been waited for.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    ///
    /// Fails if the agent ends first, or takes too long.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut admin = Client::new(self.agent.admin);
        loop {
            if let Some(status) = self.child.try_wait().context("check the process")? {
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

    /// Waits until `/readyz` answers with another status than 200, such as after the loss of the
    /// last link.
    ///
    /// # Errors
    ///
    /// Fails if the agent stays ready, or does not answer.
    pub async fn wait_until_not_ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut admin = Client::new(self.agent.admin);
        while admin.get("/readyz", None).await?.status.is_success() {
            ensure!(Instant::now() < deadline, "{} is still ready after {PATIENCE:?}", self.agent.name);
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Returns the text of `/metrics`.
    ///
    /// # Errors
    ///
    /// Fails if the agent does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let answer = Client::new(self.agent.admin).get("/metrics", None).await?;
        ensure!(answer.status.is_success(), "{} answers {} to /metrics", self.agent.name, answer.status);
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Sends SIGKILL. The agent cannot write another byte.
    ///
    /// # Errors
    ///
    /// Fails if this user may not kill the process.
    pub async fn kill9(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.agent.name))
    }

    /// Sends SIGTERM, and waits until the agent has drained and ended.
    ///
    /// # Errors
    ///
    /// Fails if the agent does not end in time.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::TERM).with_context(|| format!("terminate {}", self.agent.name))?;
        }
        match self.ended_within(PATIENCE).await? {
            Some(status) => Ok(status),
            None => bail!("{} did not end {PATIENCE:?} after SIGTERM:\n{}", self.agent.name, self.log_end()),
        }
    }

    /// Returns the exit status if the agent ends by itself within this time.
    ///
    /// # Errors
    ///
    /// Fails if the process cannot be waited for.
    pub async fn ended_within(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        match timeout(patience, self.child.wait()).await {
            Ok(status) => Ok(Some(status.with_context(|| format!("wait for {}", self.agent.name))?)),
            Err(_) => Ok(None),
        }
    }

    /// Starts the agent again after it has ended, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Fails as [`AgentCommand::start`].
    pub async fn restart(&mut self) -> Result<()> {
        *self = self.agent.spawn()?;
        self.wait_until_ready().await
    }

    fn log_end(&self) -> String {
        log_end(&self.agent.log)
    }
}

/// Runs a command of an agent to its end. Returns its standard output.
///
/// # Errors
///
/// Fails if the command fails. The error contains its standard error.
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
