//! What the demo's report must say, read from its JSON as any other program would read it.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Report {
    passed: bool,
    orders: Orders,
    stock_balanced: bool,
    personal_values_planted: u64,
    personal_values_found: u64,
}

#[derive(Deserialize)]
struct Orders {
    placed: u64,
    committed: u64,
    sold_out: u64,
    refused: u64,
    unknown: u64,
}

/// Checks one report.
pub(super) fn judge(json: &[u8]) -> Result<()> {
    let report: Report = serde_json::from_slice(json).context("the demo printed no report")?;
    let Orders { placed, committed, sold_out, refused, unknown } = report.orders;
    ensure!(placed > 0 && committed > 0, "no order was committed");
    ensure!(placed == committed + sold_out + refused + unknown, "of {placed} orders some have no outcome");
    ensure!(unknown == 0 && refused == 0, "{unknown} orders stayed unknown, {refused} were refused");
    ensure!(report.stock_balanced, "the stock is not what was ordered");
    ensure!(report.personal_values_planted > 0, "no personal value was planted, so none could be found");
    ensure!(report.personal_values_found == 0, "{} personal values were found", report.personal_values_found);
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
            "orders": {"placed": 7, "committed": 5, "sold_out": 2, "refused": 0, "unknown": 0, "replayed": 0},
            "orders_per_s": 3,
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
            ("/orders/placed", json!(8)),
            ("/orders/sold_out", json!(1)),
            ("/orders", json!({"placed": 7, "committed": 5, "sold_out": 1, "refused": 0, "unknown": 1})),
            ("/orders/unknown", json!(null)),
        ];
        for (pointer, flaw) in flaws {
            let mut flawed = report();
            *flawed.pointer_mut(pointer).expect("it is there") = flaw;
            assert!(judge(flawed.to_string().as_bytes()).is_err(), "{flawed}");
        }
        assert!(judge(b"").is_err());
    }
}
