//! The report of `cargo measure`, as text in columns and as JSON.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::machine::Machine;
use super::row::{AtLoad, Loads, Middle, Row, Spread};
use crate::tools::plot::Plot;

/// The report. Its fields are the keys of `--json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(super) machine: Machine,
    /// Seed of the order of turns.
    pub(super) seed: u32,
    pub(super) rows: Vec<Row>,
    /// Plots over time, for the page.
    #[serde(skip)]
    pub(super) plots: Vec<Plot>,
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let both = |(low, high): Spread| [units(low), units(high)];
        let (baseline, bridge) = self.spreads();
        let mut row = serializer.serialize_struct("Row", 12)?;
        row.serialize_field("name", self.name)?;
        row.serialize_field("baseline", &units(self.baseline()))?;
        row.serialize_field("bridge", &units(self.bridge()))?;
        row.serialize_field("ratio", &units(self.ratio()))?;
        row.serialize_field("unit", &self.unit)?;
        row.serialize_field("rounds", &self.pairs.len())?;
        row.serialize_field("against", self.against)?;
        row.serialize_field("baseline_spread", &both(baseline))?;
        row.serialize_field("bridge_spread", &both(bridge))?;
        row.serialize_field("ratio_spread", &self.ratio_spread().map(both))?;
        row.serialize_field("loads", &self.loads)?;
        row.serialize_field("notes", &self.notes)?;
        row.end()
    }
}

impl Serialize for Loads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut loads = serializer.serialize_struct("Loads", 4)?;
        loads.serialize_field("of", self.of)?;
        loads.serialize_field("baseline_at", &self.baseline)?;
        loads.serialize_field("bridge_at", &self.bridge)?;
        loads.serialize_field("all", &self.all)?;
        loads.end()
    }
}

impl Serialize for AtLoad {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (baseline, bridge, ratio) = self.medians();
        let mut at = serializer.serialize_struct("AtLoad", 4)?;
        at.serialize_field("load", &self.load)?;
        at.serialize_field("baseline", &units(baseline))?;
        at.serialize_field("bridge", &units(bridge))?;
        at.serialize_field("ratio", &units(ratio))?;
        at.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\nThe order of turns was drawn from --seed {}.", self.machine, self.seed)?;
        for row in &self.rows {
            let (baseline, bridge) = row.spreads();
            writeln!(f, "\n{}  ({}, {} rounds)", row.name, row.unit, row.pairs.len())?;
            let at = |load: fn(&Loads) -> usize| {
                row.loads.as_ref().map(|loads| format!("at {} {}", load(loads), loads.of))
            };
            side(f, row.against, row.baseline(), baseline, row.middle, at(|loads| loads.baseline))?;
            side(f, "Bridge", row.bridge(), bridge, row.middle, at(|loads| loads.bridge))?;
            write!(f, "  {:<20} {:>12}", "ratio", decimal(row.ratio()))?;
            if let Some(spread) = row.ratio_spread() {
                write!(f, "   {}", range(spread))?;
            }
            if let (Some(target), Some(reached)) = (row.target, row.reached()) {
                let reached = if reached { "reached" } else { "NOT reached" };
                write!(f, "   target: {}, {reached}", target.said(&row.unit, decimal))?;
            }
            writeln!(f)?;
            for at in row.loads.iter().flat_map(|loads| &loads.all) {
                writeln!(f, "  {}", at_load(at, row))?;
            }
            row.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))?;
        }
        writeln!(
            f,
            "\nEach number is the median of its rounds, behind it the middle half of them; of a p99, all from the median up."
        )
    }
}

/// Formats both sides at one load, in one line.
pub(super) fn at_load(at: &AtLoad, row: &Row) -> String {
    let (baseline, bridge, ratio) = at.medians();
    let of = row.loads.as_ref().map_or("", |loads| loads.of);
    let (baseline, bridge, ratio) = (decimal(baseline), decimal(bridge), decimal(ratio));
    format!("both at {} {of}: {baseline} and {bridge}, ratio {ratio}", at.load)
}

fn side(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    value: u64,
    spread: Spread,
    middle: Middle,
    at: Option<String>,
) -> fmt::Result {
    let p99 = (middle == Middle::P99).then(|| "(p99)".to_owned());
    let note: String = p99.into_iter().chain(at).map(|note| format!("  {note}")).collect();
    writeln!(f, "  {name:<20} {:>12}   {}{note}", decimal(value), range(spread))
}

/// Formats a range.
pub(super) fn range((low, high): Spread) -> String {
    format!("{} to {}", decimal(low), decimal(high))
}

/// Formats thousandths for people: with the decimals that are significant, and commas between
/// thousands.
pub(super) fn decimal(thousandths: u64) -> String {
    let whole = thousandths / 1_000;
    match whole {
        0 => format!("0.{:03}", thousandths),
        1..10 => format!("{whole}.{:02}", thousandths % 1_000 / 10),
        10..1_000 => format!("{whole}.{}", thousandths % 1_000 / 100),
        _ => grouped(whole),
    }
}

fn grouped(whole: u64) -> String {
    let digits = whole.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[expect(
    clippy::float_arithmetic,
    reason = "a report is read by people and plots, and decides nothing by it"
)]
fn units(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::row::{Better, Pair, Target};
    use super::*;

    /// Returns a report of two rows. One reaches its target.
    pub(in super::super) fn report() -> Report {
        let pair = |baseline, bridge| Pair { baseline, bridge };
        let row = |name, unit: &str, middle, target| Row {
            name,
            against: "what <we> have",
            unit: unit.to_owned(),
            middle,
            pairs: vec![pair(36_000, 15_000), pair(35_000, 14_400), pair(37_500, 15_500)],
            target: Some(target),
            loads: None,
            notes: Vec::new(),
        };
        let at = |load, baseline, bridge| AtLoad { load, pairs: vec![pair(baseline, bridge)] };
        let loads = ("callers", vec![at(64, 500_000, 800_000), at(512, 250_000, 300_000)]);
        let target = Some(Target::Ratio(1_050));
        let orders = Row::at_best("order_time", "what <we> have", "us an order", loads, Better::Less, target)
            .noting(["Bridge <at> 512 callers: PostgreSQL 60.0 us CPU an order".to_owned()]);
        Report {
            machine: Machine::of_tests(),
            seed: 42,
            rows: vec![
                row("read_cpu_vs_nginx_cache", "us", Middle::Median, Target::Ratio(450)),
                row("freshness_p99_ms", "ms", Middle::P99, Target::Bridge(9_000)),
                orders,
            ],
            plots: vec![Plot { title: "reads over time".to_owned(), ..Plot::default() }],
        }
    }

    #[test]
    fn programs_get_exactly_the_agreed_keys() {
        let json = serde_json::to_value(report()).expect("JSON");
        let expected = serde_json::json!({
            "name": "read_cpu_vs_nginx_cache", "baseline": 36.0, "bridge": 15.0, "ratio": 0.417, "unit": "us", "rounds": 3,
            "against": "what <we> have", "baseline_spread": [35.0, 37.5], "bridge_spread": [14.4, 15.5],
            "ratio_spread": [0.411, 0.417], "loads": null, "notes": [],
        });
        assert_eq!(json["rows"][0], expected);
        assert_eq!(json["rows"][1]["bridge"], 15.5);
        let mut keys: Vec<_> = json.as_object().expect("an object").keys().cloned().collect();
        keys.sort_unstable();
        assert_eq!(keys, ["machine", "rows", "seed"]);
        assert_eq!(json["seed"], 42);
        let loads = serde_json::json!({
            "of": "callers", "baseline_at": 512, "bridge_at": 512, "all": [
                {"load": 64, "baseline": 500.0, "bridge": 800.0, "ratio": 1.6},
                {"load": 512, "baseline": 250.0, "bridge": 300.0, "ratio": 1.2},
            ],
        });
        assert_eq!(json["rows"][2]["loads"], loads);
        for key in ["cores", "cpu", "kernel", "profile"] {
            assert!(!json["machine"][key].is_null(), "{key}");
        }
    }

    #[test]
    fn people_see_both_sides_their_spread_and_the_target_beside_the_ratio() {
        let text = report().to_string();
        for line in [
            "read_cpu_vs_nginx_cache  (us, 3 rounds)",
            "  what <we> have               36.0   35.0 to 37.5",
            "  Bridge                       15.0   14.4 to 15.5",
            "  ratio                       0.417   0.411 to 0.417   target: at most 0.450, reached",
            "  Bridge                       15.5   15.0 to 15.5  (p99)",
            "  ratio                       0.413   target: Bridge at most 9.00 ms, NOT reached",
            "  Bridge                      300.0   300.0 to 300.0  at 512 callers",
            "  both at 64 callers: 500.0 and 800.0, ratio 1.60",
            "  Bridge <at> 512 callers: PostgreSQL 60.0 us CPU an order",
            "The order of turns was drawn from --seed 42.",
        ] {
            assert!(text.lines().any(|it| it == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn numbers_have_the_decimals_that_say_something() {
        let numbers = [0, 45, 417, 1_150, 36_250, 999_999, 53_470_770, 1_000_000_000].map(decimal);
        assert_eq!(numbers, ["0.000", "0.045", "0.417", "1.15", "36.2", "999.9", "53,470", "1,000,000"]);
    }
}
