//! Checks of the demo's report. They read its JSON as any other program would.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Report {
    passed: bool,
    page_views: u64,
    reads: u64,
    read_errors: u64,
    reads_per_s: u64,
    read_p50_ms: f64,
    read_p99_ms: f64,
    freshness_changes: u64,
    freshness_p99_ms: f64,
    replica_equal: bool,
    orders: Orders,
    stock_balanced: bool,
    personal_values_planted: u64,
    personal_values_found: u64,
    audit_verified: bool,
}

#[derive(Deserialize)]
struct Orders {
    placed: u64,
    committed: u64,
    sold_out: u64,
    refused: u64,
    unknown: u64,
}

/// Checks the JSON of a demo's report.
pub(super) fn judge(json: &[u8]) -> Result<()> {
    let report: Report = serde_json::from_slice(json).context("the demo printed no report")?;
    ensure!(report.page_views > 0 && report.reads_per_s > 0, "the launch had no page views");
    ensure!(report.read_errors == 0, "{} page views went wrong", report.read_errors);
    ensure!(report.reads == 2 * report.page_views, "{} reads are not two a page view", report.reads);
    let (p50, p99) = (report.read_p50_ms, report.read_p99_ms);
    ensure!(0.0 < p50 && p50 <= p99, "a read took {p50} ms at the median and {p99} ms at p99");
    let (changes, fresh) = (report.freshness_changes, report.freshness_p99_ms);
    ensure!(changes > 0 && fresh > 0.0, "{changes} changes were served, after {fresh} ms");
    ensure!(report.replica_equal, "the stock that is served is not the stock in the ledger");
    let Orders { placed, committed, sold_out, refused, unknown } = report.orders;
    ensure!(placed > 0 && committed > 0, "no order was committed");
    ensure!(placed == committed + sold_out + refused + unknown, "of {placed} orders some have no outcome");
    ensure!(unknown == 0 && refused == 0, "{unknown} orders stayed unknown, {refused} were refused");
    ensure!(report.stock_balanced, "the stock does not match the orders");
    ensure!(report.personal_values_planted > 0, "no personal value was planted, so none could be found");
    ensure!(report.personal_values_found == 0, "{} personal values were found", report.personal_values_found);
    ensure!(report.audit_verified, "the audit logs do not verify, or differ");
    ensure!(report.passed, "the demo says that something is not as promised");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report() -> Value {
        json!({
            "passed": true, "stock_balanced": true, "personal_values_planted": 9, "personal_values_found": 0,
            "audit_verified": true,
            "orders": {"placed": 7, "committed": 5, "sold_out": 2, "refused": 0, "unknown": 0, "replayed": 0},
            "orders_per_s": 3, "page_views": 4, "reads": 8, "read_errors": 0, "reads_per_s": 2, "replica_equal": true,
            "read_p50_ms": 0.2, "read_p99_ms": 0.4, "freshness_changes": 5, "freshness_p99_ms": 9.5,
        })
    }

    #[test]
    fn a_good_report_passes_and_one_with_any_flaw_does_not() {
        assert!(judge(report().to_string().as_bytes()).is_ok());
        let flaws = [
            ("/passed", json!(false)),
            ("/stock_balanced", json!(false)),
            ("/personal_values_planted", json!(0)),
            ("/personal_values_found", json!(1)),
            ("/audit_verified", json!(false)),
            ("/orders/placed", json!(8)),
            ("/orders/sold_out", json!(1)),
            ("/orders", json!({"placed": 7, "committed": 5, "sold_out": 1, "refused": 0, "unknown": 1})),
            ("/orders/unknown", json!(null)),
            ("/page_views", json!(0)),
            ("/reads", json!(7)),
            ("/read_errors", json!(1)),
            ("/reads_per_s", json!(0)),
            ("/read_p50_ms", json!(0.5)),
            ("/read_p99_ms", json!(null)),
            ("/freshness_changes", json!(0)),
            ("/freshness_p99_ms", json!(0.0)),
            ("/replica_equal", json!(false)),
        ];
        for (pointer, flaw) in flaws {
            let mut flawed = report();
            *flawed.pointer_mut(pointer).expect("it is there") = flaw;
            assert!(judge(flawed.to_string().as_bytes()).is_err(), "{flawed}");
        }
        assert!(judge(b"").is_err());
    }
}
