//! What a command needs on the machine beside Rust: found, installed from Debian's packages as root, or named.
//!
//! Packages that bring a service bring it stopped: what runs here is started by us, on ports of our own.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::geteuid;
use tokio::process::Command;

/// Folders that are not on everybody's `PATH` and hold servers.
const SERVERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// What package scripts ask before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// A program, and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The program's name.
    pub program: &'static str,
    /// The package's name.
    pub package: &'static str,
}

/// Why the machine is not ready, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("the machine is not ready: {0}")]
pub struct NotReady(pub String);

/// Where a program is.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SERVERS.map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Installs the packages of what is missing.
///
/// # Errors
/// When that is not possible here; says what to install.
pub async fn make_ready(needs: &[Need]) -> Result<(), NotReady> {
    let mut missing: Vec<_> =
        needs.iter().filter(|need| find(need.program).is_none()).map(|need| need.package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing).await?;
    match needs.iter().find(|need| find(need.program).is_none()) {
        Some(Need { program, package }) => {
            Err(NotReady(format!("the package {package} was installed and brought no {program}")))
        }
        None => Ok(()),
    }
}

/// Whether we are root and this is Debian.
///
/// # Errors
/// When packages cannot be installed by us; with the command that somebody who may can give.
pub fn may_install(packages: &[&str]) -> Result<(), NotReady> {
    if geteuid().is_root() && Path::new("/usr/bin/apt-get").exists() {
        return Ok(());
    }
    let names = packages.join(" ");
    Err(NotReady(format!(
        "not installed: {names}. Install it, for example with\n  \
         sudo apt-get install --no-install-recommends {names}"
    )))
}

/// Installs Debian's packages.
///
/// # Errors
/// When we may not, or when apt-get does not succeed.
pub async fn install(packages: &[&str]) -> Result<(), NotReady> {
    may_install(packages)?;
    let names = packages.join(" ");
    // Not through `print`: standard output may be a JSON report.
    let _nobody_listens = writeln!(
        io::stderr(),
        "Installing from Debian's packages: apt-get install --no-install-recommends {names}"
    );
    let stopped = Stopped::from_now_on()?;
    let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    for arguments in [&["update"][..], &install] {
        apt(arguments).await?;
    }
    drop(stopped);
    Ok(())
}

async fn apt(arguments: &[&str]) -> Result<(), NotReady> {
    let mut apt = Command::new("apt-get");
    // Another installation may be under way.
    apt.args(["--quiet", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let said = |what: String| NotReady(format!("apt-get {} {what}", arguments.join(" ")));
    let output = apt.output().await.map_err(|error| said(format!("cannot be run: {error}")))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(said(format!("ended with {}:\n{error}", output.status)));
    }
    Ok(())
}

/// While it lives no package starts a service.
struct Stopped {
    /// Whether the policy is ours to remove; the machine's owner may have set it.
    ours: bool,
}

impl Stopped {
    fn from_now_on() -> Result<Stopped, NotReady> {
        if Path::new(POLICY).exists() {
            return Ok(Stopped { ours: false });
        }
        // 101: the action is forbidden by policy.
        let written = fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)));
        written.map_err(|error| NotReady(format!("cannot write {POLICY}: {error}")))?;
        Ok(Stopped { ours: true })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if self.ours {
            let _gone = fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_that_has_everything_is_ready() {
        let shell = Need { program: "sh", package: "no-such-package" };
        assert!(make_ready(&[shell]).await.is_ok());
        assert!(find("sh").is_some() && find("no-such-program").is_none());
    }
}
