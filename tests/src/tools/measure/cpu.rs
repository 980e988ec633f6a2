//! CPU time of the processes that take part in a measurement.

use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid};

use super::report::decimal;
use super::row::Thousandths;
use crate::testkit::proc_stat::{cpu_of_machine, cpu_time, tree_of};

/// Name of this process: it has the callers, and the threads that carry the lines' packets.
pub(super) const CALLERS: &str = "callers and line";

/// Name of everything else that used the CPU.
const OTHERS: &str = "others and kernel";

/// CPU time of each process for one order or read, in thousandths of a microsecond.
pub(super) type CpuShares = Vec<(&'static str, Thousandths)>;

/// The processes of a measurement, by name.
#[derive(Clone, Debug)]
pub(super) struct Meter(Vec<(&'static str, Pid)>);

/// CPU times at one moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    at: Instant,
    of: Vec<Duration>,
    /// CPU time of all programs on this machine, and of the kernel.
    machine: Duration,
}

impl Meter {
    /// Makes a meter of these processes with their children, and of this process without.
    pub(super) fn of(mut roots: Vec<(&'static str, Pid)>) -> Meter {
        roots.push((CALLERS, getpid()));
        Meter(roots)
    }

    /// Reads all CPU times.
    pub(super) fn read(&self) -> Reading {
        let own = getpid();
        let of = |pid: Pid| if pid == own { cpu_time(&[pid]) } else { cpu_time(&tree_of(pid)) };
        let of = self.0.iter().map(|(_, pid)| of(*pid)).collect();
        Reading { at: Instant::now(), of, machine: cpu_of_machine() }
    }

    /// Returns the CPU time of each process since `before`.
    pub(super) fn since(&self, before: &Reading) -> Vec<(&'static str, Duration)> {
        self.between(before, &self.read())
    }

    fn between(&self, before: &Reading, now: &Reading) -> Vec<(&'static str, Duration)> {
        let times = now.of.iter().zip(&before.of).map(|(now, before)| now.saturating_sub(*before));
        self.0.iter().map(|(name, _)| *name).zip(times).collect()
    }

    /// Returns the cores that each process has used since `before`, in thousandths of a core; then
    /// those of `more`, which is another process's CPU time; then those that all others used. If
    /// the others used many, the machine was not quiet.
    pub(super) fn cores(&self, before: &Reading, more: Option<(&'static str, Duration)>) -> CpuShares {
        let now = self.read();
        let mut times = self.between(before, &now);
        times.extend(more);
        let own: Duration = times.iter().map(|(_, time)| *time).sum();
        let others = now.machine.saturating_sub(before.machine).saturating_sub(own);
        times.push((OTHERS, others));
        shares(&times, now.at.saturating_duration_since(before.at))
    }
}

/// Divides CPU times by a number of orders or reads.
pub(super) fn each(times: &[(&'static str, Duration)], count: u64) -> CpuShares {
    let share = |time: &Duration| time.as_nanos() / u128::from(count.max(1));
    times.iter().map(|(name, time)| (*name, u64::try_from(share(time)).unwrap_or(u64::MAX))).collect()
}

/// Divides CPU times by the time that passed.
fn shares(times: &[(&'static str, Duration)], passed: Duration) -> CpuShares {
    let share = |time: &Duration| time.as_micros() * 1_000 / passed.as_micros().max(1);
    times.iter().map(|(name, time)| (*name, u64::try_from(share(time)).unwrap_or(u64::MAX))).collect()
}

/// Returns cores as words.
pub(super) fn said(cores: &CpuShares) -> String {
    let each = cores.iter().map(|(name, share)| format!("{name} {}", decimal(*share)));
    format!("cores: {}", each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_that_works_has_cpu_time() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let pid = Pid::from_raw(child.id().cast_signed()).expect("an id");
        let meter = Meter::of(vec![("child", pid)]);
        let before = meter.read();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(200) {
            std::hint::spin_loop();
        }
        let times = meter.since(&before);
        let cores = meter.cores(&before, Some(("more", Duration::ZERO)));
        let names: Vec<_> = cores.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["child", CALLERS, "more", OTHERS]);
        child.kill().and_then(|()| child.wait().map(|_| ())).expect("ended");
        assert_eq!(times.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["child", CALLERS]);
        assert!(
            times[0].1 < Duration::from_millis(50) && times[1].1 > Duration::from_millis(50),
            "{times:?}"
        );
    }

    #[test]
    fn times_are_divided_by_orders_or_by_the_time_that_passed() {
        let times = [("a", Duration::from_millis(30))];
        assert_eq!(each(&times, 1_000), [("a", 30_000)]);
        assert_eq!(shares(&times, Duration::from_millis(60)), [("a", 500)]);
        assert_eq!(said(&vec![("a", 500), ("b", 1_000)]), "cores: a 0.500, b 1.00");
        assert_eq!(each(&times, 0), [("a", 30_000_000)]);
    }
}
