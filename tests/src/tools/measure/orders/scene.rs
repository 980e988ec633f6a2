//! The scenes: lines and mixes of orders.

use std::time::Duration;

use super::mix::Mix;
use crate::testkit::wan::Conditions;
use crate::tools::measure::row::Target;

/// Round trip of the line for single orders.
pub(super) const IDLE: Duration = Duration::from_millis(10);
/// Loss of a lossy line, in packets of a million: 1 %.
const LOSSY: u32 = 10_000;

/// A line and a mix of orders.
#[derive(Debug)]
pub(super) struct Scene {
    /// Name of the row of its rates.
    pub(super) name: &'static str,
    pub(super) mix: Mix,
    round_trip_ms: u64,
    loss: u32,
    /// True if orders also come at given moments.
    pub(super) is_open: bool,
    pub(super) target: Option<Target>,
}

/// The scene that the others are compared with.
pub(super) const HOT_RTT10: &str = "hot_sku_rtt10_vs_sql";
pub(super) const HOT_RTT10_LOSS1: &str = "hot_sku_rtt10_loss1_vs_sql";
pub(super) const HOT_RTT33: &str = "hot_sku_rtt33_vs_sql";
pub(super) const LAUNCH_RTT10: &str = "launch_mix_rtt10_vs_sql";

/// All scenes, in their order.
pub(super) const SCENES: &[Scene] = &[
    scene("hot_sku_rtt0_vs_sql", Mix::HotSku, 0, 0),
    Scene {
        is_open: true,
        target: Some(Target::RatioAtLeast(100_000)),
        ..scene(HOT_RTT10, Mix::HotSku, 10, 0)
    },
    scene(HOT_RTT33, Mix::HotSku, 33, 0),
    Scene { is_open: true, ..scene(HOT_RTT10_LOSS1, Mix::HotSku, 10, LOSSY) },
    scene("hot_sku_rtt33_loss1_vs_sql", Mix::HotSku, 33, LOSSY),
    scene(LAUNCH_RTT10, Mix::Launch, 10, 0),
    scene("uniform_rtt10_vs_sql", Mix::Uniform, 10, 0),
    scene("invoices_rtt10_vs_sql", Mix::Invoices, 10, 0),
];

const fn scene(name: &'static str, mix: Mix, round_trip_ms: u64, loss: u32) -> Scene {
    Scene { name, mix, round_trip_ms, loss, is_open: false, target: None }
}

impl Scene {
    /// Returns the conditions of its line.
    pub(super) fn conditions(&self) -> Conditions {
        Conditions::round_trip(Duration::from_millis(self.round_trip_ms)).losing(self.loss)
    }
}
