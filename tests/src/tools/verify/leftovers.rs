//! What a step started and left running: found, named, ended, and counted as the step's failure.
//!
//! This process adopts whatever its children leave behind (a subreaper, prctl(2)). No session, group or environment of its
//! own hides a process: at the end of a step everything below this process is what the step did not end. It looks at
//! processes alone.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use crate::testkit::proc_stat::{Stat, children_of, tree_of};

/// Until a process that is about to end has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Adopts what this process's children leave behind.
#[derive(Debug)]
pub(super) struct Adopter {
    /// What was below this process before; it is somebody else's.
    before: Vec<Pid>,
}

impl Adopter {
    pub(super) fn from_now_on() -> Result<Adopter> {
        set_child_subreaper(Some(getpid())).context("adopt what tests leave behind")?;
        Ok(Adopter { before: children_of(getpid()) })
    }

    /// Waits a moment for what still ends, kills the rest and fails if there was any.
    pub(super) fn nothing_is_left(&self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        let mut left = self.left();
        while !left.is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
            left = self.left();
        }
        if left.is_empty() {
            return Ok(());
        }
        let named: Vec<_> = left.iter().map(|pid| described(*pid)).collect();
        for pid in &left {
            // It may end by itself just now.
            let _gone = kill_process(*pid, Signal::KILL);
        }
        bail!("left running, and killed now: {}", named.join("; "))
    }

    /// The same with the patience of a whole step.
    pub(super) fn check(&self) -> Result<()> {
        self.nothing_is_left(PATIENCE)
    }

    fn left(&self) -> Vec<Pid> {
        reap();
        let children = children_of(getpid()).into_iter().filter(|child| !self.before.contains(child));
        let tree = children.flat_map(tree_of);
        tree.filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.is_alive())).collect()
    }
}

/// Takes note of every adopted process that has ended; who started one itself has waited for it by now.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

fn described(pid: Pid) -> String {
    let file = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("cmdline");
    let words = fs::read(file).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    format!("{} ({})", words.trim(), pid.as_raw_nonzero())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// This test runs itself once more: the process that adopts must have no other tests in it.
    #[test]
    fn what_a_step_leaves_is_named_and_killed_wherever_it_hides() {
        const ALONE: &str = "BRIDGE_TEST_ADOPTS";
        if std::env::var_os(ALONE).is_none() {
            let name =
                "tools::verify::leftovers::tests::what_a_step_leaves_is_named_and_killed_wherever_it_hides";
            let mut alone = Command::new(std::env::current_exe().expect("this program"));
            let ended = alone.args(["--exact", name]).env(ALONE, "1").output().expect("this program starts");
            let said = String::from_utf8_lossy(&ended.stdout);
            assert!(ended.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let adopter = Adopter::from_now_on().expect("prctl");
        let step = |script: &str| {
            let status = Command::new("sh").args(["-c", script]).status().expect("a shell");
            assert!(status.success());
        };
        step("sleep 0.2 & exit 0");
        adopter.check().expect("it ends by itself");
        // A session of its own, an empty environment, and a parent that is gone.
        step("setsid env -i /bin/sleep 600 & exit 0");
        let error = adopter.nothing_is_left(Duration::from_millis(100)).expect_err("it sleeps").to_string();
        assert!(
            error.starts_with("left running, and killed now: ") && error.contains("sleep 600"),
            "{error}"
        );
        adopter.check().expect("it was killed");
    }
}
