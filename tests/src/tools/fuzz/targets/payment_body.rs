//! The storefront's JSON bodies of payments and refunds: an accepted body keeps every rule, no card
//! number is accepted, and no error repeats a value.

use bridge_protocol::domain::card_number::{IN_TEXT, holds_card_number};
use bridge_protocol::domain::payment_body::{PayRequest, RefundRequest, is_reason};
use serde_json::json;

use super::{SECRET, demand, order_body};
use crate::tools::fuzz::hunt::{Target, Verdict};

/// `PayRequest::parse` and `RefundRequest::parse`.
pub(super) const TARGET: Target = Target { name: "payment-body", corpus, change: order_body::change, check };

fn corpus() -> Vec<Vec<u8>> {
    let amount = json!({"amount": 222_000, "currency": "KRW"});
    let bodies = [
        json!({"amount": amount, "payment_key": "PLNT_20261124"}),
        json!({"amount": amount, "reason": "PLNT 변심 4111 1111"}),
    ];
    bodies.map(|body| body.to_string().into_bytes()).into()
}

fn check(input: &[u8]) -> Result<Verdict, String> {
    let (pay, refund) = (PayRequest::parse(input), RefundRequest::parse(input));
    if let Ok(pay) = &pay {
        demand(pay.amount.amount() > 0, "a payment of nothing")?;
        demand(!holds_card_number(pay.payment_key.as_str(), &IN_TEXT), "a card number as a token")?;
    }
    if let Ok(refund) = &refund {
        demand(refund.amount.amount() > 0, "a refund of nothing")?;
        demand(is_reason(&refund.reason), "the IDC would refuse this reason")?;
        demand(!holds_card_number(&refund.reason, &IN_TEXT), "a card number as a reason")?;
    }
    let accepted = pay.is_ok() || refund.is_ok();
    for mistakes in [pay.err(), refund.err()].into_iter().flatten() {
        demand(!mistakes.is_empty(), "refused without a reason")?;
        for mistake in &mistakes {
            let text = mistake.to_string();
            demand(!text.contains(SECRET), &format!("an error repeats a value: {text}"))?;
        }
    }
    Ok(if accepted { Verdict::Accepted } else { Verdict::Refused })
}
