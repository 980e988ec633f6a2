//! State, parent, CPU time and memory of a process, from the kernel.
//!
//! The sources are `/proc/PID/stat`, `/proc/PID/statm` and `/proc/stat` (proc(5)). CPU time counts
//! all threads of the process, ended ones included.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Pid, getpid};

/// State of a process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The state as a letter, such as `R`, `S` or `Z`.
    pub state: char,
    /// Id of the parent process.
    pub parent: i32,
    /// CPU time in clock ticks, in user mode and in kernel mode.
    pub ticks: u64,
    /// CPU time of all ended children that the process has waited for, in clock ticks.
    pub ticks_of_ended: u64,
}

impl Stat {
    /// Reads the state of a process. Returns `None` if there is no such process. A zombie still has
    /// a state.
    #[must_use]
    pub fn of(pid: Pid) -> Option<Stat> {
        let file = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("stat");
        Stat::parse(&String::from_utf8_lossy(&fs::read(file).ok()?))
    }

    /// Parses the file's text. The process's name in it may contain anything, also spaces and
    /// parentheses.
    fn parse(text: &str) -> Option<Stat> {
        let (_, behind) = text.rsplit_once(')')?;
        let fields: Vec<_> = behind.split_ascii_whitespace().collect();
        // proc(5) numbers the fields from 1. The third is the first behind the name.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Stat {
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            ticks: field(14)?.parse::<u64>().ok()?.checked_add(field(15)?.parse().ok()?)?,
            ticks_of_ended: field(16)?.parse::<u64>().ok()?.checked_add(field(17)?.parse().ok()?)?,
        })
    }

    /// Returns true if the process is neither gone nor a zombie.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// Returns the living children of a process.
#[must_use]
pub fn children_of(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    ids.filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.parent == parent.as_raw_nonzero().get()))
        .collect()
}

/// Returns a process and all its descendants.
#[must_use]
pub fn tree_of(root: Pid) -> Vec<Pid> {
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(pid) = tree.get(next) {
        tree.extend(children_of(*pid));
        next += 1;
    }
    tree
}

/// Returns the CPU time, user and system, of all these processes together.
#[must_use]
pub fn cpu_time(pids: &[Pid]) -> Duration {
    let ticks: u64 = pids.iter().filter_map(|pid| Stat::of(*pid)).map(|stat| stat.ticks).sum();
    time_of(ticks)
}

/// Returns the CPU time of all programs on this machine and of the kernel, idle time left out.
/// Returns zero if the kernel does not tell it.
#[must_use]
pub fn cpu_of_machine() -> Duration {
    time_of(machine_ticks(&fs::read_to_string("/proc/stat").unwrap_or_default()))
}

/// Sums up the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn machine_ticks(text: &str) -> u64 {
    let fields = text.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1).take(8);
    let busy = fields.enumerate().filter(|(index, _)| !(3..5).contains(index));
    busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

/// Returns the CPU time, user and system, of all children of this process that have ended.
#[must_use]
pub fn cpu_of_ended_children() -> Duration {
    time_of(Stat::of(getpid()).map_or(0, |stat| stat.ticks_of_ended))
}

/// Returns the resident memory of a process in bytes, or `None` if there is no such process.
#[must_use]
pub fn resident(pid: Pid) -> Option<u64> {
    let file = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("statm");
    let pages: u64 = fs::read_to_string(file).ok()?.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(page_size()).ok()?)
}

/// Returns the CPU time, user and system, of a thread of this process. The thread is found by its
/// name.
///
/// # Errors
///
/// Fails if there is no such thread.
pub fn cpu_of_thread(name: &str) -> io::Result<Duration> {
    for thread in fs::read_dir("/proc/self/task")?.flatten() {
        let text = |file| fs::read(thread.path().join(file)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&text("stat")).into_owned();
        if String::from_utf8_lossy(&text("comm")).trim() == name
            && let Some(stat) = Stat::parse(&stat)
        {
            return Ok(time_of(stat.ticks));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no thread {name}")))
}

fn time_of(ticks: u64) -> Duration {
    Duration::from_micros(ticks.saturating_mul(1_000_000) / clock_ticks_per_second().max(1))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_hides_no_field() {
        let text = "42 (a) S 1 (b) R 7 42 42 0 -1 4194560 100 0 0 0 250 31 9 9 20 0 1 0 5 6 7";
        assert_eq!(Stat::parse(text), Some(Stat { state: 'R', parent: 7, ticks: 281, ticks_of_ended: 18 }));
        for broken in ["", "42 (a", "42 (a) R", "42 (a) R 7 42 42 0 -1 0 0 0 0 0 x 31"] {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_machine_that_is_idle_or_waits_does_not_work() {
        let text = "cpu  100 20 30 5000 600 7 8 9 0 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
        assert_eq!(machine_ticks(text), 174);
        assert_eq!(machine_ticks(""), 0);
        assert!(cpu_of_machine() > Duration::ZERO);
    }

    #[test]
    fn what_a_process_works_is_counted() {
        let me = getpid();
        let before = cpu_time(&[me]);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            std::hint::spin_loop();
        }
        assert!(cpu_time(&[me]) > before);
        assert!(Stat::of(me).is_some_and(|stat| stat.is_alive()));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let pid = Pid::from_raw(child.id().cast_signed()).expect("an id");
        assert!(tree_of(me).contains(&pid));
        assert!(resident(pid).is_some_and(|bytes| (1 << 16..1 << 30).contains(&bytes)));
        child.kill().expect("ours");
        child.wait().expect("ended");
        assert_eq!((Stat::of(pid), resident(pid)), (None, None));
    }
}
