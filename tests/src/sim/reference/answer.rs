//! Decoder of the answers in frames from the data centre.

use super::bank::Id;
use super::protobuf::{Value, fields};
use super::receipt::{Signed, signed};
use super::{Line, Order, State, Terms};

/// A decoded answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) enum DecodedAnswer {
    Settled {
        receipt: Signed,
        replayed: bool,
    },
    State(State),
    Payment(Payment),
    /// A refusal, or a kind of answer that the model does not check.
    Other,
}

/// State of a payment, from an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::sim) struct Payment {
    pub(in crate::sim) payment: Id,
    pub(in crate::sim) order: Order,
    pub(in crate::sim) state: String,
    pub(in crate::sim) amount: i64,
    pub(in crate::sim) currency: String,
    pub(in crate::sim) refunded: i64,
    /// The id and state of the refund that the request asked for.
    pub(in crate::sim) refund: Option<(Id, String)>,
    pub(in crate::sim) replayed: bool,
}

/// Decodes the answer in a frame's payload. Returns `None` if the payload is not an answer.
pub(in crate::sim) fn read(payload: &[u8]) -> Option<DecodedAnswer> {
    let mut answer = DecodedAnswer::Other;
    for field in fields(payload) {
        match field? {
            (2, value) => answer = settled(value.bytes()?)?,
            (4, value) => answer = DecodedAnswer::State(state(value.bytes()?)?),
            (5, value) => answer = DecodedAnswer::Payment(payment(value.bytes()?)?),
            _ => {}
        }
    }
    Some(answer)
}

fn settled(bytes: &[u8]) -> Option<DecodedAnswer> {
    let (mut receipt, mut replayed) = (None, false);
    for field in fields(bytes) {
        match field? {
            (1, value) => receipt = Some(signed(value.bytes()?)?),
            (2, value) => replayed = value.number()? == 1,
            _ => {}
        }
    }
    Some(DecodedAnswer::Settled { receipt: receipt?, replayed })
}

fn state(bytes: &[u8]) -> Option<State> {
    let mut state = State::default();
    for field in fields(bytes) {
        match field? {
            (1, value) => state.order = value.array()?,
            (2, value) => state.state = value.text()?,
            (3, value) => state.terms = Some(terms(value)?),
            (4, value) => state.position = value.integer()?,
            (5, value) => state.committed_at = value.integer()?,
            _ => {}
        }
    }
    Some(state)
}

fn payment(bytes: &[u8]) -> Option<Payment> {
    let (mut payment, mut refunds, mut asked_for) = (Payment::default(), Vec::new(), None);
    // Field 12 has the exact state if the previous version does not know it. It comes after field
    // 3, which has the nearest state that version knows, so the last one read wins.
    for field in fields(bytes) {
        match field? {
            (1, value) => payment.payment = value.array()?,
            (2, value) => payment.order = value.array()?,
            (3 | 12, value) => payment.state = value.text()?,
            (4, value) => payment.amount = value.integer()?,
            (5, value) => payment.currency = value.text()?,
            (6, value) => payment.refunded = value.integer()?,
            (9, value) => refunds.push(refund(value)?),
            (10, value) => asked_for = Some(value.array()?),
            (11, value) => payment.replayed = value.number()? == 1,
            _ => {}
        }
    }
    payment.refund = refunds.into_iter().find(|(id, _)| Some(*id) == asked_for);
    Some(payment)
}

fn refund(value: Value<'_>) -> Option<(Id, String)> {
    let (mut id, mut state) = (Id::default(), String::new());
    for field in fields(value.bytes()?) {
        match field? {
            (1, value) => id = value.array()?,
            (2, value) => state = value.text()?,
            _ => {}
        }
    }
    Some((id, state))
}

fn terms(value: Value<'_>) -> Option<Terms> {
    let mut terms = Terms::default();
    for field in fields(value.bytes()?) {
        match field? {
            (1, value) => terms.lines.push(line(value)?),
            (2, value) => terms.currency = value.text()?,
            (3, value) => terms.shipping_fee = value.integer()?,
            (4, value) => terms.total = value.integer()?,
            (5, value) => terms.customer_reference = value.text()?,
            _ => {}
        }
    }
    Some(terms)
}

fn line(value: Value<'_>) -> Option<Line> {
    let mut line = Line::default();
    for field in fields(value.bytes()?) {
        match field? {
            (1, value) => line.sku = value.text()?,
            (2, value) => line.quantity = value.integer()?,
            (3, value) => line.unit_price = value.integer()?,
            _ => {}
        }
    }
    Some(line)
}
