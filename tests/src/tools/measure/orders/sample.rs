//! One measurement of orders: rate, latency and CPU time of each process.

use std::time::Duration;

use crate::testkit::histogram::Histogram;
use crate::tools::measure::cpu::{CALLERS, CpuShares, Meter, Reading, each};
use crate::tools::measure::report::decimal;
use crate::tools::measure::row::Thousandths;

/// Figures of one side at one load in one round.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// Orders a second.
    pub(super) per_second: Thousandths,
    /// Median and 99th percentile of the latency, in microseconds.
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    /// CPU time an order.
    pub(super) cpu: CpuShares,
    /// Orders that were not placed: refused, or of unknown outcome after a long wait. There should
    /// be none.
    pub(super) not_placed: u64,
}

/// A function that selects one figure.
pub(super) type Figure = fn(&Sample) -> u64;

impl Sample {
    /// Makes the figures of orders that took `took` together, all of which were placed. Their CPU
    /// times count since `before`.
    pub(super) fn of(latency: &Histogram, took: Duration, meter: &Meter, before: &Reading) -> Sample {
        let us = |permille| u64::try_from(latency.quantile(permille).as_micros()).unwrap_or(u64::MAX);
        let (per_second, cpu) = (rate(latency.count(), took), each(&meter.since(before), latency.count()));
        Sample { per_second, p50_us: us(500), p99_us: us(990), cpu, not_placed: 0 }
    }

    /// Returns the figures if only `placed` of these orders were placed.
    pub(super) fn placing(self, placed: u64, orders: u64) -> Sample {
        let per_second = u128::from(self.per_second) * u128::from(placed) / u128::from(orders.max(1));
        let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        Sample { per_second, not_placed: orders.saturating_sub(placed), ..self }
    }

    /// Returns the CPU time of an order in all processes but that of the callers, in thousandths of
    /// a microsecond.
    pub(super) fn served_in(&self) -> u64 {
        self.cpu.iter().filter(|(name, _)| *name != CALLERS).map(|(_, time)| time).sum()
    }
}

/// Returns a number a second.
pub(in crate::tools::measure) fn rate(count: u64, took: Duration) -> Thousandths {
    u64::try_from(u128::from(count) * 1_000_000_000_000 / took.as_nanos().max(1)).unwrap_or(u64::MAX)
}

/// Returns the median of a figure, or zero if there are no samples.
pub(super) fn median(samples: &[Sample], figure: impl Fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<_> = samples.iter().map(figure).collect();
    values.sort_unstable();
    // The same rank as that of a row.
    values.len().checked_sub(1).map_or(0, |last| values[last / 2])
}

/// Says the medians of all figures in one sentence.
pub(super) fn said(what: &str, samples: &[Sample]) -> String {
    let middle = |figure: Figure| decimal(median(samples, figure));
    let processes = samples.first().map_or(&[][..], |sample| &sample.cpu);
    let cpu = processes.iter().enumerate().map(|(index, (name, _))| {
        let own = |sample: &Sample| sample.cpu.get(index).map_or(0, |(_, time)| *time);
        format!("{name} {} us", decimal(median(samples, own)))
    });
    let not_placed: u64 = samples.iter().map(|sample| sample.not_placed).sum();
    let not_placed = if not_placed > 0 { format!("; {not_placed} ORDERS NOT PLACED") } else { String::new() };
    format!(
        "{what}: {}/s, p50 {} ms, p99 {} ms; CPU an order: {}{not_placed}",
        middle(|sample| sample.per_second),
        middle(|sample| sample.p50_us),
        middle(|sample| sample.p99_us),
        cpu.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_has_the_medians_and_each_process() {
        let sample = |per_second, p50_us, idc| Sample {
            per_second,
            p50_us,
            p99_us: 2 * p50_us,
            cpu: vec![("IDC agent", idc), (CALLERS, 1_000)],
            not_placed: 0,
        };
        let samples = [
            sample(65_000, 450_000, 90_000),
            sample(64_000, 460_000, 95_000),
            sample(70_000, 1_000, 100_000),
        ];
        assert_eq!(
            said("SQL, 32 clients", &samples),
            "SQL, 32 clients: 65.0/s, p50 450.0 ms, p99 900.0 ms; CPU an order: IDC agent 95.0 us, callers \
             and line 1.00 us"
        );
        let lost = samples[0].clone().placing(9, 10);
        assert_eq!((lost.per_second, lost.not_placed), (58_500, 1));
        assert!(said("SQL", &[lost]).ends_with("; 1 ORDERS NOT PLACED"));
        assert_eq!(samples[0].served_in(), 90_000);
        assert_eq!((median(&[], |sample| sample.p50_us), rate(500, Duration::from_secs(2))), (0, 250_000));
    }
}
