//! CPU time of the processes that take part in a measurement.

use std::time::Duration;

use rustix::process::{Pid, getpid};

use super::row::Thousandths;
use crate::testkit::proc_stat::{cpu_time, tree_of};

/// Name of this process: it has the callers, and the threads that carry the lines' packets.
pub(super) const CALLERS: &str = "callers and line";

/// CPU time of each process for one order or read, in thousandths of a microsecond.
pub(super) type CpuShares = Vec<(&'static str, Thousandths)>;

/// The processes of a measurement, by name.
#[derive(Clone, Debug)]
pub(super) struct Meter(Vec<(&'static str, Pid)>);

/// CPU times at one moment.
#[derive(Clone, Debug)]
pub(super) struct Reading(Vec<Duration>);

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
        Reading(self.0.iter().map(|(_, pid)| of(*pid)).collect())
    }

    /// Returns the CPU time of each process since `before`.
    pub(super) fn since(&self, before: &Reading) -> Vec<(&'static str, Duration)> {
        let now = self.read();
        let times = now.0.iter().zip(&before.0).map(|(now, before)| now.saturating_sub(*before));
        self.0.iter().map(|(name, _)| *name).zip(times).collect()
    }
}

/// Divides CPU times by a number of orders or reads.
pub(super) fn each(times: &[(&'static str, Duration)], count: u64) -> CpuShares {
    let share = |time: &Duration| time.as_nanos() / u128::from(count.max(1));
    times.iter().map(|(name, time)| (*name, u64::try_from(share(time)).unwrap_or(u64::MAX))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
        child.kill().and_then(|()| child.wait().map(|_| ())).expect("ended");
        assert_eq!(times.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["child", CALLERS]);
        assert!(
            times[0].1 < Duration::from_millis(50) && times[1].1 > Duration::from_millis(50),
            "{times:?}"
        );
    }

    #[test]
    fn times_are_divided_by_orders() {
        let times = [("a", Duration::from_millis(30))];
        assert_eq!(each(&times, 1_000), [("a", 30_000)]);
        assert_eq!(each(&times, 0), [("a", 30_000_000)]);
    }
}
