//! The rows of orders across a line.

use super::sample::{Figure, Sample, median, said};
use super::scene::{HOT_RTT10, HOT_RTT10_LOSS1, HOT_RTT33, IDLE, LAUNCH_RTT10};
use super::{AtOneLoad, Idle, Measured};
use crate::tools::measure::row::{Pair, Row, Target};

const SQL: &str = "SQL over TLS";
const HOT: &str = "Bridge, hot SKU, RTT 10";

/// Makes all rows of what was measured.
pub(super) fn rows(measured: &[Measured], batches: &[AtOneLoad], idle: &Idle) -> Vec<Row> {
    let mut rows: Vec<_> = measured.iter().map(Measured::rates).collect();
    let of = |name: &str| measured.iter().find(|measured| measured.scene.name == name);
    let (hot, lossy) = (of(HOT_RTT10), of(HOT_RTT10_LOSS1));
    rows.extend(hot.into_iter().flat_map(|hot| {
        [
            hot.at_best("hot_sku_rtt10_p50_ms", "ms", |sample| sample.p50_us),
            hot.at_best("hot_sku_rtt10_p99_ms", "ms", |sample| sample.p99_us),
            hot.at_best("hot_sku_rtt10_cpu_us", "us CPU an order", Sample::served_in),
            hot.open("hot_sku_rtt10_open_p50_ms", |sample| sample.p50_us).noting(hot.open_notes()),
            hot.open("hot_sku_rtt10_open_p99_ms", |sample| sample.p99_us),
        ]
    }));
    rows.extend(lossy.into_iter().flat_map(|lossy| {
        [
            lossy.open("hot_sku_rtt10_loss1_open_p50_ms", |sample| sample.p50_us).noting(lossy.open_notes()),
            lossy.open("hot_sku_rtt10_loss1_open_p99_ms", |sample| sample.p99_us),
        ]
    }));
    let beside = [
        ("hot_sku_rtt33_vs_rtt10", of(HOT_RTT33), Target::RatioAtLeast(800)),
        ("launch_mix_vs_hot_sku", of(LAUNCH_RTT10), Target::RatioAtLeast(1_000)),
    ];
    for (name, other, target) in beside {
        let (Some(hot), Some(other)) = (hot, other) else { continue };
        let pairs = pairs(best(&hot.bridge), best(&other.bridge), |sample| sample.per_second);
        rows.push(Row::of_medians(name, HOT, "orders/s", pairs, Some(target)));
    }
    if let Some(hot) = hot {
        let pairs = pairs(best(batches), best(&hot.bridge), |sample| sample.per_second);
        let against = "PostgreSQL in batches";
        let row = Row::of_medians(
            "commit_vs_batch_limit",
            against,
            "orders/s",
            pairs,
            Some(Target::RatioAtLeast(600)),
        );
        let each = batches.iter().map(|at| said(&format!("batches of {}", at.load), &at.samples));
        rows.push(row.noting(each));
    }
    rows.extend(idle.rows());
    rows
}

/// Returns the load with the best median rate.
pub(super) fn best(loads: &[AtOneLoad]) -> Option<&AtOneLoad> {
    loads.iter().max_by_key(|at| median(&at.samples, |sample| sample.per_second))
}

fn pairs(baseline: Option<&AtOneLoad>, bridge: Option<&AtOneLoad>, figure: Figure) -> Vec<Pair> {
    let samples = |at: Option<&AtOneLoad>| at.map_or(Vec::new(), |at| at.samples.clone());
    both(&samples(baseline), &samples(bridge), figure)
}

fn both(baseline: &[Sample], bridge: &[Sample], figure: Figure) -> Vec<Pair> {
    let both = baseline.iter().zip(bridge);
    both.map(|(baseline, bridge)| Pair { baseline: figure(baseline), bridge: figure(bridge) }).collect()
}

impl Measured {
    /// Makes the row of the rates, with the figures of all loads as notes.
    fn rates(&self) -> Row {
        let row = self.at_best(self.scene.name, "orders/s", |sample| sample.per_second);
        let of = |side: &'static str, what: &'static str, loads: &[AtOneLoad]| {
            let each = loads.iter().map(|at| said(&format!("{side}, {} {what}", at.load), &at.samples));
            each.collect::<Vec<_>>()
        };
        let (sql, bridge) = (of(SQL, "clients", &self.sql), of("Bridge", "callers", &self.bridge));
        Row { target: self.scene.target, ..row }
            .noting(sql.into_iter().chain(bridge).chain(self.notes.iter().cloned()))
    }

    /// Makes a row of both sides at their best loads.
    fn at_best(&self, name: &'static str, unit: &str, figure: Figure) -> Row {
        Row::of_medians(name, SQL, unit, pairs(best(&self.sql), best(&self.bridge), figure), None)
    }

    /// Makes a row of orders that came at given moments.
    fn open(&self, name: &'static str, figure: Figure) -> Row {
        Row::of_medians(name, SQL, "ms", both(&self.sql_open, &self.bridge_open, figure), None)
    }

    fn open_notes(&self) -> [String; 2] {
        let what = |side: &str| format!("{side}, at 70 % of its best rate");
        [said(&what(SQL), &self.sql_open), said(&what("Bridge"), &self.bridge_open)]
    }
}

impl Idle {
    fn rows(&self) -> Vec<Row> {
        let both = self.sql.iter().zip(&self.bridge);
        let times = both.clone().map(|(sql, bridge)| Pair { baseline: *sql, bridge: *bridge });
        let round_trip = u64::try_from(IDLE.as_micros()).unwrap_or(u64::MAX);
        let above = both.zip(&self.commit).map(|((sql, bridge), commit)| {
            let above = |time: &u64| time.saturating_sub(round_trip).saturating_sub(*commit);
            Pair { baseline: above(sql), bridge: above(bridge) }
        });
        let target = Some(Target::Bridge(1_500));
        vec![
            Row::of_medians("idle_order_ms", SQL, "ms", times.collect(), None),
            Row::of_medians("idle_order_overhead_ms", SQL, "ms", above.collect(), target)
                .noting(["time above one round trip and the COMMIT alone".to_owned()]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::SCENES;
    use super::*;

    fn at(load: usize, per_second: u64) -> AtOneLoad {
        let cpu = vec![("IDC agent", 95_000)];
        let sample = Sample { per_second, p50_us: 8_000, p99_us: 30_000, cpu, not_placed: 0 };
        AtOneLoad { load, samples: vec![sample; 3] }
    }

    #[test]
    fn every_scene_and_every_comparison_has_its_row_and_the_designs_targets() {
        let measured: Vec<_> = SCENES
            .iter()
            .map(|scene| Measured {
                scene,
                sql: vec![at(32, 65_000), at(64, 60_000)],
                bridge: vec![at(512, 6_000_000), at(2_000, 6_600_000)],
                sql_open: at(32, 45_000).samples,
                bridge_open: at(0, 4_000_000).samples,
                notes: Vec::new(),
            })
            .collect();
        let idle = Idle { sql: vec![60_000], bridge: vec![12_400], commit: vec![1_000] };
        let rows = rows(&measured, &[at(64, 7_600_000), at(512, 11_000_001)], &idle);
        let row = |name: &str| rows.iter().find(|row| row.name == name).expect("the row is there");
        let figures = |name: &str| (row(name).baseline(), row(name).bridge(), row(name).reached());
        assert!(SCENES.iter().all(|scene| figures(scene.name).0 == 65_000));
        assert_eq!(figures("hot_sku_rtt10_vs_sql"), (65_000, 6_600_000, Some(true)));
        assert_eq!(row("hot_sku_rtt10_vs_sql").notes.len(), 4);
        assert_eq!(figures("hot_sku_rtt10_cpu_us"), (95_000, 95_000, None));
        assert_eq!(figures("commit_vs_batch_limit"), (11_000_001, 6_600_000, Some(true)));
        assert_eq!(figures("launch_mix_vs_hot_sku").2, Some(true));
        assert_eq!(figures("hot_sku_rtt33_vs_rtt10").2, Some(true));
        assert_eq!(figures("idle_order_ms"), (60_000, 12_400, None));
        assert_eq!(figures("idle_order_overhead_ms"), (49_000, 1_400, Some(true)));
        let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len());
    }
}
