//! The sandbox's books: charges, refunds, and the answer to each idempotency key.

use std::collections::{BTreeMap, HashMap};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An answer: a status and a JSON body.
pub(super) type SandboxAnswer = (StatusCode, Value);

/// A payment in the sandbox's books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The shop's id of the order.
    pub order: String,
    /// The token of the payment.
    pub payment_key: String,
    /// Amount in minor units.
    pub amount: i64,
    /// State: `IN_PROGRESS`, `DONE`, `PARTIAL_CANCELED`, `CANCELED`, `ABORTED` or `EXPIRED`.
    pub status: String,
    /// Amount of each refund, in minor units.
    pub cancels: Vec<i64>,
    /// Number of times that money was taken. More than one is an error of the caller.
    pub charged: u32,
}

#[derive(Debug, Default)]
pub(super) struct SandboxCharges {
    /// Payments by order and token.
    charges: BTreeMap<(String, String), Charge>,
    /// The last token of each order.
    latest: HashMap<String, String>,
    /// The answer to each idempotency key.
    answered: HashMap<String, SandboxAnswer>,
}

impl SandboxCharges {
    pub(super) fn charges(&self) -> Vec<Charge> {
        self.charges.values().cloned().collect()
    }

    /// Returns the earlier answer to this key.
    pub(super) fn replay(&self, key: Option<&str>) -> Option<SandboxAnswer> {
        key.and_then(|key| self.answered.get(key)).cloned()
    }

    /// Records that the shopper has agreed to pay. The shop has not confirmed yet.
    pub(super) fn authorise(&mut self, order: &str, payment_key: &str, amount: i64) -> &mut Charge {
        self.latest.insert(order.to_owned(), payment_key.to_owned());
        let place = (order.to_owned(), payment_key.to_owned());
        self.charges.entry(place).or_insert_with(|| Charge {
            order: order.to_owned(),
            payment_key: payment_key.to_owned(),
            amount,
            status: "IN_PROGRESS".to_owned(),
            cancels: Vec::new(),
            charged: 0,
        })
    }

    /// Sets the status of an order's payments, as time or the shopper does.
    pub(super) fn set_status(&mut self, order: &str, status: &str) {
        for charge in self.charges.values_mut().filter(|charge| charge.order == order) {
            charge.status = status.to_owned();
        }
    }

    pub(super) fn confirm(
        &mut self,
        key: Option<&str>,
        order: &str,
        payment_key: &str,
        amount: i64,
    ) -> SandboxAnswer {
        if let Some(answer) = self.replay(key) {
            return answer;
        }
        let moved = |charge: &&Charge| charge.order == order && charge.charged > 0;
        if let Some(other) = self.charges.values().find(moved) {
            let same = other.payment_key == payment_key;
            let code = if same { "ALREADY_PROCESSED_PAYMENT" } else { "DUPLICATED_ORDER_ID" };
            return error(StatusCode::BAD_REQUEST, code);
        }
        let charge = self.authorise(order, payment_key, amount);
        if matches!(charge.status.as_str(), "EXPIRED" | "ABORTED") {
            return error(StatusCode::NOT_FOUND, "NOT_FOUND_PAYMENT_SESSION");
        }
        charge.status = "DONE".to_owned();
        charge.charged += 1;
        let answer = (StatusCode::OK, payment_json(charge));
        self.keep(key, &answer);
        answer
    }

    pub(super) fn decline(
        &mut self,
        key: Option<&str>,
        order: &str,
        payment_key: &str,
        amount: i64,
    ) -> SandboxAnswer {
        if let Some(answer) = self.replay(key) {
            return answer;
        }
        self.authorise(order, payment_key, amount).status = "ABORTED".to_owned();
        let answer = error(StatusCode::FORBIDDEN, "REJECT_CARD_COMPANY");
        self.keep(key, &answer);
        answer
    }

    pub(super) fn cancel(&mut self, key: Option<&str>, payment_key: &str, amount: i64) -> SandboxAnswer {
        if let Some(answer) = self.replay(key) {
            return answer;
        }
        let found =
            self.charges.values_mut().find(|charge| charge.payment_key == payment_key && charge.charged > 0);
        let Some(charge) = found else { return error(StatusCode::NOT_FOUND, "NOT_FOUND_PAYMENT") };
        let left = charge.amount - charge.cancels.iter().sum::<i64>();
        let answer = if amount > left {
            error(StatusCode::FORBIDDEN, "NOT_CANCELABLE_AMOUNT")
        } else {
            charge.cancels.push(amount);
            charge.status = if amount == left { "CANCELED" } else { "PARTIAL_CANCELED" }.to_owned();
            (StatusCode::OK, payment_json(charge))
        };
        self.keep(key, &answer);
        answer
    }

    pub(super) fn refuse_cancel(&mut self, key: Option<&str>) -> SandboxAnswer {
        if let Some(answer) = self.replay(key) {
            return answer;
        }
        let answer = error(StatusCode::FORBIDDEN, "NOT_CANCELABLE_PAYMENT");
        self.keep(key, &answer);
        answer
    }

    pub(super) fn find(&self, order: &str) -> SandboxAnswer {
        let latest = self.latest.get(order).map(|key| (order.to_owned(), key.clone()));
        // A payment that moved money is shown, even if the shop tried another one later.
        let moved = self.charges.values().find(|charge| charge.order == order && charge.charged > 0);
        match moved.or_else(|| latest.and_then(|place| self.charges.get(&place))) {
            Some(charge) => (StatusCode::OK, payment_json(charge)),
            None => error(StatusCode::NOT_FOUND, "NOT_FOUND_PAYMENT"),
        }
    }

    fn keep(&mut self, key: Option<&str>, answer: &SandboxAnswer) {
        if let Some(key) = key {
            self.answered.insert(key.to_owned(), answer.clone());
        }
    }
}

pub(super) fn error(status: StatusCode, code: &str) -> SandboxAnswer {
    (status, json!({ "code": code, "message": "sandbox" }))
}

fn payment_json(charge: &Charge) -> Value {
    let cancels: Vec<Value> = charge.cancels.iter().map(|amount| json!({ "cancelAmount": amount })).collect();
    json!({
        "paymentKey": charge.payment_key,
        "orderId": charge.order,
        "status": charge.status,
        "currency": "KRW",
        "totalAmount": charge.amount,
        "balanceAmount": charge.amount - charge.cancels.iter().sum::<i64>(),
        "method": "card",
        "cancels": if cancels.is_empty() { Value::Null } else { Value::Array(cancels) },
    })
}
