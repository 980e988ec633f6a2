//! The report as one page that loads nothing: bars for both sides of each row, and every round as a
//! dot.

#![expect(clippy::float_arithmetic, reason = "a picture is read by people, and decides nothing")]

use std::fmt::Write;

use super::report::{Report, at_load, decimal};
use super::row::{Middle, Row, Target};
use crate::tools::plot::{Plot, Scale, Series, Shape, escaped};

/// Length of the longest bar.
const BAR: f64 = 300.0;

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:800px;margin:2em auto;padding:0 1em}\
section{margin:2.5em 0}h2{font-size:1.1em;margin:0}p{margin:.3em 0}.soft{opacity:.7}\
.bars{font:13px system-ui,sans-serif;width:100%;height:auto}.bars text{fill:currentColor}\
.bars .today{fill:#2563eb}.bars .bridge{fill:#d97706}.bars .most{stroke:currentColor;stroke-dasharray:3 3}\
.reached{color:#059669}.missed{color:#dc2626}";

impl Report {
    /// Returns the page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>cargo measure</title>\
             <style>{STYLE}</style></head><body><h1>What a user has today, and Bridge</h1>\
             <p class=\"soft\">{}; the order of turns was drawn from seed {}</p><p>Both sides of each row were taken in turns in one run. Each bar is the median of \
             its rounds at the load that suits its side best, or their p99 where it says so; the dashed line is where \
             Bridge should be at most, or at least where more is better.</p>\n",
            escaped(&self.machine.to_string()),
            self.seed,
        );
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _written = section(&mut page, row);
        }
        for plot in &self.plots {
            let _written = writeln!(page, "<section>{}</section>", plot.svg());
        }
        page.push_str("</body></html>\n");
        page
    }
}

fn section(page: &mut String, row: &Row) -> std::fmt::Result {
    let p99 = if row.middle == Middle::P99 { ", p99" } else { "" };
    write!(page, "<section><h2>{}</h2><p>ratio {}", row.name, decimal(row.ratio()))?;
    if let (Some(target), Some(reached)) = (row.target, row.reached()) {
        let ratio = if matches!(target, Target::Ratio(_) | Target::RatioAtLeast(_)) { "ratio " } else { "" };
        let target = format!("{ratio}{}", escaped(&target.said(&row.unit, decimal)));
        let (class, reached) = if reached { ("reached", "reached") } else { ("missed", "not reached") };
        write!(page, ", <span class=\"{class}\">target {reached}</span> ({target})")?;
    }
    write!(page, "; {} rounds, {}{p99}</p>", row.pairs.len(), escaped(&row.unit))?;
    for at in row.loads.iter().flat_map(|loads| &loads.all) {
        write!(page, "<p class=\"soft\">{}</p>", escaped(&at_load(at, row)))?;
    }
    for note in &row.notes {
        write!(page, "<p class=\"soft\">{}</p>", escaped(note))?;
    }
    bars(page, row)?;
    writeln!(page, "{}</section>", rounds(row).svg())
}

/// Writes two bars, and a line at the target.
fn bars(page: &mut String, row: &Row) -> std::fmt::Result {
    let (baseline, bridge) = (row.baseline(), row.bridge());
    let most = row.target.map(|target| match target {
        Target::Ratio(limit) | Target::RatioAtLeast(limit) => baseline as f64 * limit as f64 / 1_000.0,
        Target::Bridge(limit) | Target::BridgeAtLeast(limit) => limit as f64,
    });
    let longest = most.unwrap_or(0.0).max(baseline.max(bridge) as f64).max(1.0);
    let length = |value: f64| BAR * value / longest;
    write!(page, "<svg class=\"bars\" viewBox=\"0 0 560 56\" role=\"img\"><title>{}</title>", row.name)?;
    for (y, class, name, value) in [(4, "today", row.against, baseline), (30, "bridge", "Bridge", bridge)] {
        let (name, length) = (escaped(name), length(value as f64));
        write!(
            page,
            "<text x=\"146\" y=\"{}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"154\" y=\"{y}\" width=\"{length:.1}\" height=\"20\" rx=\"2\"/>\
             <text x=\"466\" y=\"{}\">{}</text>",
            y + 15,
            y + 15,
            decimal(value)
        )?;
    }
    if let Some(most) = most {
        let x = 154.0 + length(most);
        write!(page, "<line class=\"most\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"56\"/>")?;
    }
    write!(page, "</svg>")
}

/// Plots every round of both sides.
fn rounds(row: &Row) -> Plot {
    let points = |side: fn(&super::Pair) -> u64| {
        let values = row.pairs.iter().enumerate();
        values.map(|(round, pair)| ((round + 1) as f64, side(pair) as f64 / 1_000.0)).collect()
    };
    let series = |name: &str, points| Series { name: name.to_owned(), shape: Shape::Dots, points };
    Plot {
        title: "every round".to_owned(),
        unit: row.unit.clone(),
        x_unit: "round".to_owned(),
        scale: Scale::Linear,
        series: vec![
            series(row.against, points(|pair| pair.baseline)),
            series("Bridge", points(|pair| pair.bridge)),
        ],
        until: 0.0,
        from: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;

    #[test]
    fn a_page_shows_every_row_and_needs_nothing_from_anywhere() {
        let page = report().page();
        for part in [
            "read_cpu_vs_nginx_cache",
            "target reached",
            "target not reached",
            "15.0",
            "64 callers",
            "Bridge &lt;at&gt; 512 callers",
            "seed 42",
            "reads over time",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(
            page.contains("what &lt;we&gt; have") && page.contains("Abacus &amp; Sons"),
            "text is escaped"
        );
        assert!(!page.contains("<we>"));
        let links = page.replace("http://www.w3.org/2000/svg", "");
        for link in ["http:", "https:", "<script", "<link", "url(", "@import"] {
            assert!(!links.contains(link), "{link}");
        }
    }
}
