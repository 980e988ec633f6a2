//! What `cargo measure` says at the end: to people in columns, to programs in JSON.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::machine::Machine;
use super::row::{Middle, Row, Spread, Target};

/// The report; its fields are the keys of `--json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Row", 6)?;
        row.serialize_field("name", self.name)?;
        row.serialize_field("baseline", &units(self.baseline()))?;
        row.serialize_field("bridge", &units(self.bridge()))?;
        row.serialize_field("ratio", &units(self.ratio()))?;
        row.serialize_field("unit", &self.unit)?;
        row.serialize_field("rounds", &self.pairs.len())?;
        row.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.machine)?;
        for row in &self.rows {
            let (baseline, bridge) = row.spreads();
            writeln!(f, "\n{}  ({}, {} rounds)", row.name, row.unit, row.pairs.len())?;
            side(f, row.against, row.baseline(), baseline, row.middle)?;
            side(f, "Bridge", row.bridge(), bridge, row.middle)?;
            write!(f, "  {:<20} {:>12}", "ratio", decimal(row.ratio()))?;
            if let Some(spread) = row.ratio_spread() {
                write!(f, "   {}", range(spread))?;
            }
            if let (Some(target), Some(reached)) = (row.target, row.reached()) {
                let (what, most) = match target {
                    Target::Ratio(most) => ("", decimal(most)),
                    Target::Bridge(most) => ("Bridge ", format!("{} {}", decimal(most), row.unit)),
                };
                let reached = if reached { "reached" } else { "NOT reached" };
                write!(f, "   target: {what}at most {most}, {reached}")?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "\nEach number is the median of its rounds, behind it the middle half of them; of a p99, all from the median up."
        )
    }
}

fn side(f: &mut fmt::Formatter<'_>, name: &str, value: u64, spread: Spread, middle: Middle) -> fmt::Result {
    let note = if middle == Middle::P99 { "  (p99)" } else { "" };
    writeln!(f, "  {name:<20} {:>12}   {}{note}", decimal(value), range(spread))
}

fn range((low, high): Spread) -> String {
    format!("{} to {}", decimal(low), decimal(high))
}

/// Thousandths as people read them: as many decimals as say something, commas between thousands.
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
    use super::super::row::Pair;
    use super::*;

    /// A report of two rows, one of which reaches its target.
    pub(in super::super) fn report() -> Report {
        let pair = |baseline, bridge| Pair { baseline, bridge };
        let row = |name, unit: &str, middle, target| Row {
            name,
            against: "what <we> have",
            unit: unit.to_owned(),
            middle,
            pairs: vec![pair(36_000, 15_000), pair(35_000, 14_400), pair(37_500, 15_500)],
            target: Some(target),
        };
        Report {
            machine: Machine::of_tests(),
            rows: vec![
                row("read_cpu_vs_nginx_cache", "us", Middle::Median, Target::Ratio(450)),
                row("freshness_p99_ms", "ms", Middle::P99, Target::Bridge(9_000)),
            ],
        }
    }

    #[test]
    fn programs_get_exactly_the_agreed_keys() {
        let json = serde_json::to_value(report()).expect("JSON");
        let expected = serde_json::json!({
            "name": "read_cpu_vs_nginx_cache", "baseline": 36.0, "bridge": 15.0, "ratio": 0.417, "unit": "us", "rounds": 3,
        });
        assert_eq!(json["rows"][0], expected);
        assert_eq!(json["rows"][1]["bridge"], 15.5);
        let keys: Vec<_> = json.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(keys, ["machine", "rows"]);
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
