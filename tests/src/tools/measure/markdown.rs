//! The report as a table for a document, with everything that a reader needs to judge the numbers.

use std::fmt::Write;

use super::report::{Report, at_load, decimal, range};
use super::row::{Loads, Middle, Row, Target};

impl Report {
    /// Returns the table, and before it the machine, the profile and the seed.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text =
            format!("{}\nThe order of turns was drawn from `--seed {}`.\n\n", self.machine, self.seed);
        text.push_str("| row, unit | today | Bridge | ratio | target |\n|---|---|---|---|---|\n");
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _written = line(&mut text, row);
        }
        for row in &self.rows {
            let loads = row.loads.iter().flat_map(|loads| &loads.all).map(|at| at_load(at, row));
            let more: Vec<_> = loads.chain(row.notes.iter().cloned()).collect();
            if !more.is_empty() {
                let _written = write!(text, "\n- `{}` {}", row.name, more.join("; "));
            }
        }
        text.push('\n');
        text
    }
}

fn line(text: &mut String, row: &Row) -> std::fmt::Result {
    let p99 = if row.middle == Middle::P99 { " (p99)" } else { "" };
    let at = |load: fn(&Loads) -> usize| {
        row.loads.as_ref().map_or(String::new(), |loads| format!(" at {} {}", load(loads), loads.of))
    };
    let (baseline, bridge) = row.spreads();
    write!(text, "| `{}`, {}{p99} | {}: ", row.name, row.unit, row.against)?;
    write!(text, "**{}** ({}){} ", decimal(row.baseline()), range(baseline), at(|loads| loads.baseline))?;
    write!(text, "| **{}** ({}){} ", decimal(row.bridge()), range(bridge), at(|loads| loads.bridge))?;
    let spread = row.ratio_spread().map_or(String::new(), |spread| format!(" ({})", range(spread)));
    write!(text, "| **{}**{spread} | ", decimal(row.ratio()))?;
    if let (Some(target), Some(reached)) = (row.target, row.reached()) {
        let most = match target {
            Target::Ratio(most) => decimal(most),
            Target::RatioAtLeast(least) => format!("at least {}", decimal(least)),
            Target::Bridge(most) => format!("{} {}", decimal(most), row.unit),
            Target::BridgeAtLeast(least) => format!("at least {} {}", decimal(least), row.unit),
        };
        write!(text, "{most}, {}", if reached { "reached" } else { "**not** reached" })?;
    }
    writeln!(text, " |")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;

    #[test]
    fn a_table_has_both_sides_with_spread_and_load_and_the_target() {
        let text = report().markdown();
        for line in [
            "| `read_cpu_vs_nginx_cache`, us | what <we> have: **36.0** (35.0 to 37.5) | **15.0** (14.4 to 15.5) \
             | **0.417** (0.411 to 0.417) | 0.450, reached |",
            "| `freshness_p99_ms`, ms (p99) | what <we> have: **37.5** (36.0 to 37.5) | **15.5** (15.0 to 15.5) \
             | **0.413** | 9.00 ms, **not** reached |",
            "- `order_time` both at 64 callers: 500.0 and 800.0, ratio 1.60; both at 512 callers: 250.0 and 300.0, \
             ratio 1.20; Bridge <at> 512 callers: PostgreSQL 60.0 us CPU an order",
            "The order of turns was drawn from `--seed 42`.",
        ] {
            assert!(text.lines().any(|it| it == line), "{line:?} is not in\n{text}");
        }
        assert!(text.contains("**300.0** (300.0 to 300.0) at 512 callers"), "{text}");
    }
}
