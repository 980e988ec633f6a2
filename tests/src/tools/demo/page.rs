//! The demo's HTML page: plots of the launch over time, and the figures of the report.
//!
//! It is one file that loads nothing, so it looks the same for ever.

#![expect(clippy::float_arithmetic, reason = "a page is read by people, and decides nothing")]

use std::fmt::Write;
use std::time::Duration;

use super::launch::Launch;
use super::report::{Catalogue, Report};
use crate::testkit::freshness;
use crate::testkit::views::Slice;
use crate::tools::plot::{Plot, Scale, Series, Shape, escaped, number};

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#f6f8fb;--card:#fff;--ink:#1c2430;--soft:#5d6b7e;--rule:#e3e8ef;\
--good:#047857;--bad:#b91c1c}\
@media(prefers-color-scheme:dark){:root{--paper:#10151d;--card:#171e29;--ink:#e6ebf2;--soft:#93a1b5;--rule:#2b3442;\
--good:#34d399;--bad:#f87171}}\
*{box-sizing:border-box}\
body{margin:0;padding:28px 20px 40px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:1180px;margin:auto}h1{font-size:26px;margin:0}p{margin:4px 0 0;color:var(--soft)}\
.verdict{font-weight:600}.good{color:var(--good)}.bad{color:var(--bad)}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:22px 0 12px}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(520px,100%),1fr));gap:12px}\
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 14px}\
.card b{display:block;font-size:24px;line-height:1.25;font-variant-numeric:tabular-nums}\
.card span{color:var(--soft);font-size:13px}.plots svg{display:block;width:100%;height:auto}\
.tables{columns:340px;column-gap:12px;margin-top:12px}.tables .card{break-inside:avoid;margin-bottom:12px}\
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}\
caption{text-align:left;font-weight:600;padding-bottom:4px}td,th{padding:4px 0;border-top:1px solid var(--rule)}\
th{font-weight:400;text-align:left;color:var(--soft)}td,th.n{text-align:right;padding-left:14px}";

/// Events of the launch by time, for plots.
pub(super) struct Timeline {
    launch_at: f64,
    length: f64,
    slice: f64,
    slices: Vec<Slice>,
    due: Vec<Duration>,
    settled: Vec<(Duration, usize)>,
    freshness: freshness::Report,
}

impl Timeline {
    /// Takes the timeline from a launch.
    pub(super) fn of(launch: &Launch) -> Timeline {
        // Slices after the end only have the rest of the work under way. They are too short for a
        // rate.
        let slices = launch.course.length().as_micros().div_ceil(launch.views.slice.as_micros().max(1));
        let slices = launch.views.slices.iter().take(usize::try_from(slices).unwrap_or(usize::MAX));
        Timeline {
            length: launch.course.length().as_secs_f64(),
            launch_at: launch.course.calm.as_secs_f64(),
            slice: launch.views.slice.as_secs_f64(),
            slices: slices.cloned().collect(),
            due: launch.due.clone(),
            settled: launch.settled.clone(),
            freshness: launch.freshness.clone(),
        }
    }

    fn plots(&self) -> Vec<Plot> {
        let mut plots = vec![
            self.plot(
                "Page views and reads",
                "a second",
                Scale::Linear,
                vec![
                    self.series("reads answered", Shape::Area, |slice| Some(self.rate(slice.reads))),
                    self.series("page views due", Shape::Line, |slice| Some(self.rate(slice.arrived))),
                ],
            ),
            self.plot(
                "How long a read takes",
                "ms from the moment it was due",
                Scale::Logarithmic,
                vec![
                    self.series("p99", Shape::Line, |slice| quantile(slice, 990)),
                    self.series("p50", Shape::Line, |slice| quantile(slice, 500)),
                ],
            ),
            self.orders(),
            self.plot(
                "How soon a committed row is served",
                "ms after the commit",
                Scale::Logarithmic,
                vec![Series {
                    name: "a change by plain SQL".to_owned(),
                    shape: Shape::Dots,
                    points: self
                        .freshness
                        .changes
                        .iter()
                        .map(|(at, took)| (at.as_secs_f64(), ms(*took)))
                        .collect(),
                }],
            ),
            self.positions(),
        ];
        if self.slices.iter().any(|slice| slice.flaws > 0) {
            plots.push(self.plot(
                "Page views that went wrong",
                "a second",
                Scale::Linear,
                vec![self.series("errors", Shape::Area, |slice| Some(self.rate(slice.flaws)))],
            ));
        }
        plots
    }

    /// Plots the orders that were due and those that were settled.
    fn orders(&self) -> Plot {
        let mut due = vec![0_u64; self.slices.len()];
        for at in &self.due {
            if let Some(count) = due.get_mut((at.as_secs_f64() / self.slice) as usize) {
                *count += 1;
            }
        }
        let due =
            due.iter().enumerate().map(|(index, count)| (self.middle(index), self.rate(*count))).collect();
        let settled = self.settled.windows(2).filter_map(|pair| {
            let [(from, before), (to, after)] = pair else { return None };
            let seconds = (*to - *from).as_secs_f64();
            let middle = (from.as_secs_f64() + to.as_secs_f64()) / 2.0;
            // A shorter interval is the rest after the last slice, and too short for a rate.
            (seconds > self.slice / 2.0).then(|| (middle, (after - before) as f64 / seconds))
        });
        let settled = settled.collect();
        self.plot(
            "Orders",
            "a second",
            Scale::Linear,
            vec![
                Series { name: "settled".to_owned(), shape: Shape::Area, points: settled },
                Series { name: "due".to_owned(), shape: Shape::Line, points: due },
            ],
        )
    }

    /// Plots the last position of the source and that of the replica.
    fn positions(&self) -> Plot {
        let source = self.freshness.positions.iter();
        let source = source.map(|(at, position)| (at.as_secs_f64(), *position as f64)).collect();
        self.plot(
            "Position in the log of changes",
            "number of the last change",
            Scale::Linear,
            vec![
                Series { name: "source".to_owned(), shape: Shape::Line, points: source },
                self.series("replica, as answered", Shape::Dots, |slice| {
                    slice.position.map(|position| position as f64)
                }),
            ],
        )
    }

    fn plot(&self, title: &str, unit: &str, scale: Scale, series: Vec<Series>) -> Plot {
        Plot {
            title: title.to_owned(),
            unit: unit.to_owned(),
            x_unit: "s".to_owned(),
            scale,
            series,
            until: self.length,
            from: Some((self.launch_at, "launch".to_owned())),
        }
    }

    /// Makes a series with a point in the middle of each slice that has a value.
    fn series(&self, name: &str, shape: Shape, value: impl Fn(&Slice) -> Option<f64>) -> Series {
        let points = self.slices.iter().enumerate();
        let points = points.filter_map(|(index, slice)| Some((self.middle(index), value(slice)?))).collect();
        Series { name: name.to_owned(), shape, points }
    }

    fn middle(&self, slice: usize) -> f64 {
        (slice as f64 + 0.5) * self.slice
    }

    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.slice
    }
}

fn quantile(slice: &Slice, permille: u64) -> Option<f64> {
    (slice.latency.count() > 0).then(|| ms(slice.latency.quantile(permille)))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Returns the page.
pub(super) fn html(report: &Report, timeline: &Timeline) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width\"/><title>Bridge: a launch</title>\
         <style>{STYLE}</style></head><body><main><h1>Bridge: a launch</h1>"
    );
    let Catalogue { brands, products, skus, launched } = report.catalogue;
    let complaints = report.complaints();
    let (class, verdict) = match complaints.as_slice() {
        [] => ("good", "Everything as promised.".to_owned()),
        complaints => ("bad", format!("Not as promised: {}.", complaints.join("; "))),
    };
    put(
        &mut page,
        &format!(
            "<p>{}; {brands} brands, {products} products, {skus} SKUs, {launched} products launched; committed in {}; \
         seed {}, {} callers</p><p class=\"verdict {class}\">{}</p>",
            escaped(&report.source),
            report.database,
            report.seed,
            report.callers,
            escaped(&verdict)
        ),
    );
    cards(&mut page, report);
    page.push_str("<section class=\"plots\">");
    for plot in timeline.plots() {
        put(&mut page, &format!("<div class=\"card\">{}</div>", plot.svg()));
    }
    page.push_str("</section><section class=\"tables\">");
    tables(&mut page, report);
    page.push_str("</section></main></body></html>\n");
    page
}

fn cards(page: &mut String, report: &Report) {
    let count = |value: u64| number(value as f64, 1.0);
    let cards = [
        (count(report.page_views), "page views".to_owned()),
        (count(report.read_errors), "of them went wrong".to_owned()),
        (count(report.reads_per_s_peak), "reads/s at the peak".to_owned()),
        (format!("{} ms", number(report.read_p99_ms, 0.01)), "p99 of a read in the launch".to_owned()),
        (
            count(report.orders.committed),
            format!("orders committed, {} sold out", count(report.orders.sold_out)),
        ),
        (format!("{} ms", number(report.freshness_p50_ms, 0.1)), "p50 from commit to answer".to_owned()),
        (
            count(report.personal_values_found),
            format!("of {} personal values found", count(report.personal_values_planted)),
        ),
    ];
    page.push_str("<section class=\"cards\">");
    for (value, name) in cards {
        put(
            page,
            &format!("<div class=\"card\"><b>{}</b><span>{}</span></div>", escaped(&value), escaped(&name)),
        );
    }
    page.push_str("</section>");
}

fn tables(page: &mut String, report: &Report) {
    let count = |value: u64| number(value as f64, 1.0);
    let time = |value: f64| number(value, 0.01);
    let row = |name: &str, values: [String; 2]| (name.to_owned(), values);
    let (orders, again) = (&report.orders, &report.again);
    let both = |first: u64, again: u64| [count(first), count(again)];
    let yes = |good: bool| if good { "yes" } else { "NO" }.to_owned();
    table(
        page,
        "Reads",
        ["calm", "launch"],
        &[
            row("reads/s", [count(report.reads_per_s_calm), count(report.reads_per_s)]),
            row("a read, p50 ms", [time(report.read_p50_ms_calm), time(report.read_p50_ms)]),
            row("a read, p99 ms", [time(report.read_p99_ms_calm), time(report.read_p99_ms)]),
        ],
    );
    table(
        page,
        "Orders",
        ["launch", "again, same keys"],
        &[
            row("placed", both(orders.placed, again.placed)),
            row("committed", both(orders.committed, again.committed)),
            row("sold out", both(orders.sold_out, again.sold_out)),
            row("refused", both(orders.refused, again.refused)),
            row("unknown", both(orders.unknown, again.unknown)),
            row("cancelled", both(orders.cancelled, again.cancelled)),
            row("replayed", both(orders.replayed, again.replayed)),
        ],
    );
    table(
        page,
        "Latency",
        ["p50 ms", "p99 ms"],
        &[
            row("a page view, two reads", [time(report.page_view_p50_ms), time(report.page_view_p99_ms)]),
            row("an order of the launch", [time(report.order_p50_ms), time(report.order_p99_ms)]),
            row("a committed row is served", [time(report.freshness_p50_ms), time(report.freshness_p99_ms)]),
        ],
    );
    table(
        page,
        "Orders as fast as they go",
        ["orders/s", "mean ms"],
        &[
            row("one hot SKU", [count(report.hot_sku_orders_per_s), String::new()]),
            row("spread SKUs", [count(report.spread_skus_orders_per_s), String::new()]),
            row("one caller alone", [String::new(), time(report.lonely_order_ms)]),
        ],
    );
    table(
        page,
        "Checks",
        ["", ""],
        &[
            row("the ledger agrees with the answers to callers", [String::new(), yes(report.stock_balanced)]),
            row("the stock that is served is the ledger's", [String::new(), yes(report.replica_equal)]),
            row("payments asked for", [String::new(), count(report.payments.asked)]),
            row("paid, and the gateway says the same", [String::new(), count(report.payments.paid)]),
            row("payments of unknown outcome", [String::new(), count(report.payments.unknown)]),
            row("both audit logs verify and say the same", [String::new(), yes(report.audit_verified)]),
            row(
                "personal values found where none may be",
                [String::new(), count(report.personal_values_found)],
            ),
        ],
    );
    if !report.read_errors_by_kind.is_empty() {
        let rows = report.read_errors_by_kind.iter();
        let rows = rows.map(|(kind, errors)| row(kind, [String::new(), count(*errors)])).collect::<Vec<_>>();
        table(page, "Page views that went wrong", ["", ""], &rows);
    }
}

fn table(page: &mut String, caption: &str, columns: [&str; 2], rows: &[(String, [String; 2])]) {
    put(page, &format!("<div class=\"card\"><table><caption>{}</caption>", escaped(caption)));
    if columns.iter().any(|column| !column.is_empty()) {
        let [first, second] = columns.map(escaped);
        put(page, &format!("<tr><th></th><th class=\"n\">{first}</th><th class=\"n\">{second}</th></tr>"));
    }
    for (name, values) in rows {
        let [first, second] = values.each_ref().map(|value| escaped(value));
        put(page, &format!("<tr><th>{}</th><td>{first}</td><td>{second}</td></tr>", escaped(name)));
    }
    page.push_str("</table></div>");
}

fn put(page: &mut String, what: &str) {
    // Writing to a string cannot fail.
    let _written = page.write_str(what);
}
