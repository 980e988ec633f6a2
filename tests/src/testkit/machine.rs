//! The programs that a command needs beside Rust: found on the machine, installed from Debian's
//! packages as root, or named in an error.
//!
//! Packages that contain a service leave it stopped. The harness starts its own servers, on its own
//! ports.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::geteuid;
use tokio::process::Command;

/// Folders with servers. Not every `PATH` has them.
const SERVERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// The file that package scripts run before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// A program, and the Debian package that contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Name of the program.
    pub program: &'static str,
    /// Name of the package.
    pub package: &'static str,
}

/// The reason why the machine is not ready, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("the machine is not ready: {0}")]
pub struct NotReady(pub String);

/// Returns the path of a program.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SERVERS.map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Installs the packages of missing programs.
///
/// # Errors
///
/// Fails if they cannot be installed. The error says what to install.
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

/// Checks that this process runs as root on Debian.
///
/// # Errors
///
/// Fails if this process cannot install packages. The error contains the command for a user who
/// can.
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
///
/// Fails if this process may not install, or apt-get fails.
pub async fn install(packages: &[&str]) -> Result<(), NotReady> {
    may_install(packages)?;
    let names = packages.join(" ");
    // Standard output may be a JSON report, so this goes to standard error.
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

/// While this value lives, no package starts a service.
struct Stopped {
    /// True if this process wrote the policy and must remove it. The machine's owner may have one
    /// already.
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
