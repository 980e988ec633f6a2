//! Description of the machine. Absolute figures mean nothing without it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use serde::Serialize;
use tokio::process::Command;

use crate::testkit::machine;

/// The machine, and the versions of the programs that Bridge is compared with.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// Profile of the agents and the bare server.
    profile: &'static str,
    /// True for a rough measurement: few and short rounds, a tenth of the products.
    quick: bool,
    versions: BTreeMap<&'static str, String>,
}

/// Programs and the arguments with which they print their versions.
const PROGRAMS: [(&str, &str); 4] =
    [("nginx", "-v"), ("haproxy", "-v"), ("wrk", "-v"), ("pg_basebackup", "--version")];

impl Machine {
    pub(super) async fn this(quick: bool) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut versions = BTreeMap::new();
        for (program, argument) in PROGRAMS {
            let Some(path) = machine::find(program) else { continue };
            // wrk prints its version and then an error about the argument.
            if let Ok(output) = Command::new(path).arg(argument).output().await {
                let said = [output.stdout, output.stderr].concat();
                versions.insert(program, version(&String::from_utf8_lossy(&said)));
            }
        }
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: cores(),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1_024),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            profile: PROFILE,
            quick,
            versions,
        }
    }
}

/// Returns the number of threads for a server and for the load.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Profile of the agents and of this program, which is also the bare server: see the workspace's
/// manifest. Both have the same allocator.
pub(super) const PROFILE: &str = if cfg!(debug_assertions) {
    "dev, with checks: its figures say nothing"
} else {
    "release (opt-level 3, as shipped; mimalloc that wipes on both sides)"
};

/// Returns the value of a line `name : value` of a file in `/proc`.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the first word with a digit and a dot.
fn version(text: &str) -> String {
    let word = text.split([' ', '\n', '/']).find(|word| {
        word.contains('.') && word.chars().any(|letter| letter.is_ascii_digit()) && !word.contains(':')
    });
    word.unwrap_or("unknown").trim_end_matches(',').to_owned()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, memory_mib, kernel, profile, .. } = self;
        write!(f, "{cores} cores of {cpu}, {memory_mib} MiB, {kernel}, profile {profile}")?;
        for (program, version) in &self.versions {
            write!(f, ", {program} {version}")?;
        }
        if self.quick { write!(f, "\nA quick run: only a first look.") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Machine {
        /// Returns a machine with fixed values, for tests.
        pub(in super::super) fn of_tests() -> Machine {
            Machine {
                cpu: "Abacus & Sons".to_owned(),
                cores: 2,
                memory_mib: 1,
                kernel: "Linux 0".to_owned(),
                profile: "dev",
                quick: true,
                versions: BTreeMap::from([("nginx", "1.2".to_owned())]),
            }
        }
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let said = [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u3 2025/01/01 - https://haproxy.org/\n", "2.6.12-1+deb12u3"),
            ("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer\nUsage: wrk", "4.1.0-3+b2"),
            ("pg_basebackup (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", "15.14"),
            ("no idea", "unknown"),
        ];
        for (text, expected) in said {
            assert_eq!(version(text), expected);
        }
    }

    #[tokio::test]
    async fn this_machine_is_named() {
        let machine = Machine::this(true).await;
        assert!(machine.cores > 0 && machine.memory_mib > 0 && machine.kernel.len() > "Linux ".len());
        assert!(machine.to_string().contains("first look"));
    }
}
