//! What the tests need on the machine beside Rust: PostgreSQL's server and the openssl command.
//!
//! As root what is missing is installed from Debian's packages; otherwise the error says what to install.

use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

use crate::postgres::Postgres;

/// Programs, each with the Debian package that has it.
const PROGRAMS: [(&str, &str); 1] = [("openssl", "openssl")];

/// Why the machine is not ready, and what to do.
#[derive(Debug)]
pub(super) struct NotReady(pub(super) String);

/// Installs what is missing, and proves that PostgreSQL starts here.
pub(super) async fn make_ready() -> Result<(), NotReady> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    // It installs itself; stopped at once, since every test starts its own.
    Postgres::start().await.map(drop).map_err(|error| NotReady(format!("{error:#}")))
}

fn install(packages: &[&str]) -> Result<(), NotReady> {
    let command = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if !geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(NotReady(format!(
            "something is not installed. Install it, for example with\n  sudo {command}"
        )));
    }
    for command in ["apt-get update", command.as_str()] {
        let mut words = command.split(' ');
        let mut apt = Command::new(words.next().unwrap_or_default());
        let status = apt.args(words).env("DEBIAN_FRONTEND", "noninteractive").status();
        if !status.as_ref().is_ok_and(|status| status.success()) {
            return Err(NotReady(format!("{command} did not succeed")));
        }
    }
    Ok(())
}
