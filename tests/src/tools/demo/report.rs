//! The demo's report. Its fields are the keys of the JSON output; `text` and `page` show them to
//! people.
//!
//! This file computes the report from the results of the steps. It alone decides if the run
//! [`passed`](Report::passed).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Options;
use super::launch::Launch;
use super::measure::{Commits, Rates};
use super::shop::{Input, Shop};
use crate::testkit::audits::Audits;
use crate::testkit::load::{self, Tally};
use crate::testkit::payers::Paid;
use crate::testkit::privacy::Searched;

/// The demo's report. Its fields are the keys of `--json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(super) passed: bool,
    pub(super) source: String,
    pub(super) database: &'static str,
    pub(super) seed: u64,
    pub(super) callers: u32,
    /// Seconds from the moment at which cargo made the target folder until everything was built.
    /// `None` if this is not the first demo from that folder.
    pub(super) first_build_s: Option<u64>,
    /// Number of invoices, 0 for a made-up launch.
    pub(super) invoices: usize,
    pub(super) left_out: BTreeMap<&'static str, usize>,
    pub(super) catalogue: Catalogue,
    /// Page views of the calm and the launch.
    pub(super) page_views: u64,
    pub(super) reads: u64,
    /// Page views with an error.
    pub(super) read_errors: u64,
    pub(super) read_errors_by_kind: BTreeMap<String, u64>,
    /// Mean rate in the launch.
    pub(super) reads_per_s: u64,
    pub(super) reads_per_s_calm: u64,
    /// Rate in the busiest half second.
    pub(super) reads_per_s_peak: u64,
    /// Latency in the launch, from the moment at which the read was due.
    pub(super) read_p50_ms: f64,
    pub(super) read_p99_ms: f64,
    pub(super) read_p50_ms_calm: f64,
    pub(super) read_p99_ms_calm: f64,
    /// Latency of both reads of a page view, in the calm and the launch.
    pub(super) page_view_p50_ms: f64,
    pub(super) page_view_p99_ms: f64,
    /// Highest `Age` in an answer, in seconds.
    pub(super) read_age_max_s: u64,
    /// Time from a row's commit by plain SQL until the first answer with the new value.
    pub(super) freshness_p50_ms: f64,
    pub(super) freshness_p99_ms: f64,
    pub(super) freshness_changes: u64,
    /// Changes that were not served within ten seconds.
    pub(super) freshness_missed: u64,
    pub(super) orders: Tally,
    pub(super) refusals: BTreeMap<String, u64>,
    /// Outcomes of the same steps, sent again under the same keys.
    pub(super) again: Tally,
    /// Number of steps with another outcome the second time.
    pub(super) again_changed: usize,
    /// Payments of the launch's orders, at a gateway with faults.
    pub(super) payments: Paid,
    pub(super) orders_per_s: u64,
    pub(super) order_p50_ms: f64,
    pub(super) order_p99_ms: f64,
    pub(super) batches: Vec<Batches>,
    pub(super) hot_sku_orders_per_s: u64,
    pub(super) spread_skus_orders_per_s: u64,
    pub(super) lonely_order_ms: f64,
    pub(super) lonely_commit_ms: f64,
    pub(super) stock_balanced: bool,
    pub(super) differences: Vec<String>,
    /// True if the replica's stock is the ledger's.
    pub(super) replica_equal: bool,
    pub(super) replica_differences: Vec<String>,
    /// True if both audit logs verify and agree.
    pub(super) audit_verified: bool,
    pub(super) audits: Audits,
    pub(super) personal_values_planted: u64,
    pub(super) personal_values_found: u64,
    pub(super) privacy: Searched,
    /// True if both agents exited with 0 after SIGTERM.
    pub(super) ended_in_order: bool,
    /// Path of the page with plots.
    pub(super) html: PathBuf,
}

/// Size of the imported catalogue.
#[derive(Debug, Serialize)]
pub(super) struct Catalogue {
    pub(super) brands: usize,
    pub(super) products: usize,
    pub(super) skus: usize,
    pub(super) launched: usize,
}

/// Number of transactions with at most `up_to` orders, and more than in the row before.
#[derive(Debug, Serialize)]
pub(super) struct Batches {
    pub(super) up_to: String,
    pub(super) transactions: u64,
}

/// Results of all steps.
pub(super) struct Findings {
    pub(super) input: Input,
    pub(super) database: &'static str,
    pub(super) first_build: Option<Duration>,
    pub(super) shop: Shop,
    pub(super) launch: Launch,
    pub(super) paid: Paid,
    pub(super) again: load::Report,
    pub(super) commits: Commits,
    pub(super) rates: Rates,
    pub(super) differences: Vec<String>,
    pub(super) replica_differences: Vec<String>,
    pub(super) privacy: Searched,
    pub(super) audits: Audits,
    pub(super) ended_in_order: bool,
    pub(super) html: PathBuf,
}

impl Report {
    pub(super) fn new(options: &Options, found: Findings) -> Report {
        let Findings { input, shop, launch, again, commits, rates, privacy, .. } = found;
        let Launch { course, orders: first, views, freshness, .. } = launch;
        let (calm, end) = (course.calm, course.length());
        let reads = views.read_latency_between(calm, Duration::MAX);
        let calm_reads = views.read_latency_between(Duration::ZERO, calm);
        let fresh = freshness.latency();
        let both = first.settled.iter().zip(&again.settled);
        let batches = commits.batches.counts.into_iter();
        let mut report = Report {
            passed: false,
            source: input.source,
            database: found.database,
            seed: options.seed,
            callers: options.callers,
            first_build_s: found.first_build.map(|took| took.as_secs()),
            invoices: input.invoices,
            left_out: input.left_out.into_iter().collect(),
            catalogue: Catalogue {
                brands: shop.brands.len(),
                products: shop.products.len(),
                skus: shop.skus(),
                launched: shop.hot.len(),
            },
            page_views: views.views,
            reads: views.reads,
            read_errors: views.errors(),
            read_errors_by_kind: views.flaws.iter().map(|(flaw, count)| (flaw.to_string(), *count)).collect(),
            reads_per_s: views.reads_per_s(calm, end),
            reads_per_s_calm: views.reads_per_s(Duration::ZERO, calm),
            reads_per_s_peak: views.reads_per_s_peak(),
            read_p50_ms: ms(reads.quantile(500)),
            read_p99_ms: ms(reads.quantile(990)),
            read_p50_ms_calm: ms(calm_reads.quantile(500)),
            read_p99_ms_calm: ms(calm_reads.quantile(990)),
            page_view_p50_ms: ms(views.view_latency.quantile(500)),
            page_view_p99_ms: ms(views.view_latency.quantile(990)),
            read_age_max_s: views.age_max,
            freshness_p50_ms: ms(fresh.quantile(500)),
            freshness_p99_ms: ms(fresh.quantile(990)),
            freshness_changes: fresh.count(),
            freshness_missed: freshness.missed,
            orders: first.tally(),
            refusals: first
                .refusals()
                .into_iter()
                .map(|(problem, count)| (problem.to_owned(), count))
                .collect(),
            again: again.tally(),
            again_changed: both.filter(|(first, again)| first.outcome != again.outcome).count(),
            payments: found.paid,
            orders_per_s: first.per_second(),
            order_p50_ms: ms(first.latency.quantile(500)),
            order_p99_ms: ms(first.latency.quantile(990)),
            batches: batches.map(|(up_to, transactions)| Batches { up_to, transactions }).collect(),
            hot_sku_orders_per_s: rates.hot_per_s,
            spread_skus_orders_per_s: rates.spread_per_s,
            lonely_order_ms: ms(rates.lonely_order),
            lonely_commit_ms: ms(rates.lonely_commit),
            stock_balanced: found.differences.is_empty(),
            differences: found.differences,
            replica_equal: found.replica_differences.is_empty(),
            replica_differences: found.replica_differences,
            audit_verified: found.audits.agree(),
            audits: found.audits,
            personal_values_planted: privacy.planted,
            personal_values_found: privacy.found(),
            privacy,
            ended_in_order: found.ended_in_order,
            html: found.html,
        };
        report.passed = report.complaints().is_empty();
        report
    }

    /// Returns true if all results are as promised.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// Returns the results that are not as promised.
    pub(super) fn complaints(&self) -> Vec<&'static str> {
        let decided = self.orders.committed + self.orders.sold_out;
        let rules = [
            (self.page_views > 0 && self.read_errors == 0, "a page view went wrong"),
            (self.reads == 2 * self.page_views, "a page view was not two reads"),
            (self.freshness_changes > 0 && self.freshness_missed == 0, "a committed row was not served"),
            (self.replica_equal, "the stock that is served is not the stock in the ledger"),
            (self.orders.unknown == 0, "an order's outcome stayed unknown"),
            (self.orders.refused == 0, "an order was refused"),
            (self.orders.not_cancelled == 0, "an order could not be cancelled"),
            (self.orders.replayed == 0, "an order was answered as a replay the first time"),
            (self.again_changed == 0, "an outcome changed when its key came again"),
            (self.again.replayed == decided, "a key that came again was not answered as a replay"),
            (self.payments.paid > 0 || self.orders.committed == 0, "no payment succeeded"),
            (self.payments.agrees(), "a payment stayed unknown, or the gateway's books say something else"),
            (self.stock_balanced, "the ledger differs from the answers to callers"),
            (self.audit_verified, "the audit logs do not verify, or do not say the same"),
            (self.personal_values_found == 0, "personal values were found where none may be"),
            (self.privacy.can_find(), "the search for personal values could not have found one"),
            (self.ended_in_order, "an agent did not exit with 0 after SIGTERM"),
        ];
        rules.into_iter().filter(|(kept, _)| !kept).map(|(_, complaint)| complaint).collect()
    }
}

#[expect(
    clippy::float_arithmetic,
    reason = "a report is read by people and plots, and decides nothing by it"
)]
fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use clap::Parser;

    use super::super::{launch, page};
    use super::*;
    use crate::testkit::generated;
    use crate::testkit::histogram::Histogram;
    use crate::testkit::load::{Outcome, Settled};
    use crate::testkit::privacy::SearchedPlace;
    use crate::testkit::{freshness, views};

    /// Returns the results of a good run, with a simple wave as its launch.
    fn findings(options: &Options) -> Findings {
        let plan = Arc::new(generated::hot(1, 900));
        let (course, _) = launch::course(options).expect("a course");
        let due = course.moments(900, 1);
        let took = course.length();
        let orders = |replayed| load::Report {
            plan: Arc::clone(&plan),
            settled: vec![
                Settled {
                    outcome: Outcome::Placed { order: "o".to_owned() },
                    replayed,
                    attempts: 1
                };
                900
            ],
            latency: Histogram::default(),
            took,
        };
        let mut viewed = views::Report::new(Duration::from_millis(500));
        for (index, at) in course.arrivals(u64::from(options.page_views), 1).into_iter().enumerate() {
            let took = Duration::from_micros(150 + course.level(at) / 8 + index as u64 % 97 * 9);
            viewed.arrived(at);
            viewed.read(at, took, 1_000 + index as u64 / 7, 0);
            viewed.read(at + took, took * 2 / 3, 1_000 + index as u64 / 7, 0);
            viewed.view_latency.record(took * 5 / 3);
        }
        let slices = (0_u32..40).map(|slice| Duration::from_millis(500) * slice);
        let settled = slices.clone().map(|at| (at, due.iter().filter(|due| **due <= at).count())).collect();
        let changes = (0..300_u32)
            .map(|index| {
                (
                    Duration::from_millis(66) * index,
                    Duration::from_micros(u64::from(3_000 + index * 7_919 % 5_000)),
                )
            })
            .collect();
        let positions =
            slices.map(|at| (at, 1_000 + i64::try_from(at.as_millis() / 9).unwrap_or(0))).collect();
        Findings {
            input: Input { source: "a made-up launch of 900 orders".to_owned(), ..Input::default() },
            database: "SQLite",
            first_build: Some(Duration::from_secs(300)),
            shop: Shop { hot: vec![0, 1, 2], ..Shop::default() },
            launch: Launch {
                course,
                orders: orders(false),
                views: viewed,
                freshness: freshness::Report { changes, missed: 0, positions },
                due,
                settled,
            },
            paid: Paid { asked: 9, paid: 8, declined: 1, ..Paid::default() },
            again: orders(true),
            commits: Commits::default(),
            rates: Rates::default(),
            differences: Vec::new(),
            replica_differences: Vec::new(),
            privacy: Searched {
                planted: 9,
                found_in_the_orders: 9,
                orders_in_frames: Some(9),
                places: vec![SearchedPlace {
                    what: "files".to_owned(),
                    files: 1,
                    bytes: 1,
                    ..SearchedPlace::default()
                }],
                not_searched: Vec::new(),
            },
            audits: Audits { verified: true, entries: 9, agreed: 3, ..Audits::default() },
            ended_in_order: true,
            html: PathBuf::from("target/demo.html"),
        }
    }

    #[test]
    fn a_good_run_passes_and_one_with_a_flaw_fails() {
        let options = Options::parse_from(["demo"]);
        let report = Report::new(&options, findings(&options));
        assert_eq!(report.complaints(), Vec::<&str>::new());
        assert!(report.passed() && report.to_string().ends_with("Everything as promised.\n"));
        assert!(report.reads_per_s > 8 * report.reads_per_s_calm, "{report}");
        assert!((5_500..6_500).contains(&report.reads_per_s_peak), "{report}");

        let flaws: [fn(&mut Findings); 8] = [
            |found| found.paid.doubled = 1,
            |found| found.audits.differing = 1,
            |found| found.launch.views.flaw(Duration::ZERO, views::Flaw::Late),
            |found| found.launch.views.arrived(Duration::ZERO),
            |found| found.launch.freshness.missed = 1,
            |found| found.replica_differences.push("units of A available".to_owned()),
            |found| found.privacy.places[0].found = 1,
            |found| found.privacy.orders_in_frames = Some(0),
        ];
        for flaw in flaws {
            let mut found = findings(&options);
            flaw(&mut found);
            let report = Report::new(&options, found);
            assert_eq!(report.complaints().len(), 1, "{report}");
            assert!(!report.passed());
        }
    }

    #[test]
    fn programs_find_what_they_look_for_in_the_json() {
        let options = Options::parse_from(["demo"]);
        let json = serde_json::to_value(Report::new(&options, findings(&options))).expect("JSON");
        let keys: BTreeSet<_> = json.as_object().expect("an object").keys().map(String::as_str).collect();
        let promised = [
            "passed",
            "first_build_s",
            "reads_per_s",
            "read_p50_ms",
            "read_p99_ms",
            "read_errors",
            "orders",
            "stock_balanced",
            "payments",
            "audit_verified",
            "personal_values_found",
            "orders_per_s",
            "freshness_p50_ms",
            "freshness_p99_ms",
            "replica_equal",
            "html",
        ];
        assert!(promised.iter().all(|key| keys.contains(key)), "{keys:?}");
        for key in ["placed", "committed", "sold_out", "refused", "unknown"] {
            assert!(json["orders"][key].is_u64(), "{key}");
        }
    }

    #[test]
    fn the_page_is_well_formed_and_loads_nothing() {
        let options = Options::parse_from(["demo"]);
        for flawed in [false, true] {
            let mut found = findings(&options);
            found.input.source = "<b> & \"quotes\"".to_owned();
            if flawed {
                found.launch.views.flaw(Duration::from_secs(9), views::Flaw::Status(503));
            }
            let timeline = page::Timeline::of(&found.launch);
            let html = page::html(&Report::new(&options, found), &timeline);
            crate::tools::plot::tests::well_formed(&html).unwrap_or_else(|error| panic!("{error}\n{html}"));
            assert_eq!(html.matches("<svg").count(), if flawed { 6 } else { 5 });
            assert!(html.contains("&lt;b&gt; &amp; &quot;quotes&quot;"));
            let outside = html.matches("http").count() - html.matches("http://www.w3.org/2000/svg").count();
            assert!(outside == 0 && !html.contains("<script") && !html.contains("url("), "{html}");
            assert_eq!(html.contains("Everything as promised."), !flawed);
        }
    }
}
