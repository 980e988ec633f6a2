//! Detection of processes that a step leaves running. They are named and killed, and the step has
//! failed.
//!
//! This process adopts the orphans of its descendants (a subreaper, prctl(2)). So a process cannot
//! hide in a session, group or environment of its own: at the end of a step, all descendants of
//! this process are leftovers. Only processes are checked.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use crate::testkit::proc_stat::{Stat, children_of, tree_of};

/// Time for a process that is about to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The subreaper: it adopts the orphans of this process's descendants.
#[derive(Debug)]
pub(super) struct Adopter {
    /// Children from before. They are not leftovers of a step.
    before: Vec<Pid>,
}

impl Adopter {
    pub(super) fn from_now_on() -> Result<Adopter> {
        set_child_subreaper(Some(getpid())).context("become a subreaper")?;
        Ok(Adopter { before: children_of(getpid()) })
    }

    /// Waits for processes that are about to end, kills the others, and fails if there was any.
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
            // The process may have ended by itself meanwhile.
            let _gone = kill_process(*pid, Signal::KILL);
        }
        bail!("left running, and killed now: {}", named.join("; "))
    }

    /// Checks at the end of a step, with the usual patience.
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

/// Reaps every adopted process that has ended. The other children have been waited for by their own
/// code.
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

    /// The test runs itself again in a process of its own, because no other test may run in the
    /// process that adopts.
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
        // The process has its own session, an empty environment, and a parent that has ended.
        step("setsid env -i /bin/sleep 600 & exit 0");
        let error = adopter.nothing_is_left(Duration::from_millis(100)).expect_err("it sleeps").to_string();
        assert!(
            error.starts_with("left running, and killed now: ") && error.contains("sleep 600"),
            "{error}"
        );
        adopter.check().expect("it was killed");
    }
}
