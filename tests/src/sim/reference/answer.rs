//! Answers, as they stand in a frame from the data centre.

use super::protobuf::{Value, fields};
use super::receipt::{Signed, signed};
use super::{Line, State, Terms};

/// An answer that says how something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) enum Answer {
    Settled {
        receipt: Signed,
        replayed: bool,
    },
    State(State),
    /// A refusal, or a kind that is not looked at.
    Other,
}

/// Reads the answer in a frame's payload; `None` if it is none.
pub(in crate::sim) fn read(payload: &[u8]) -> Option<Answer> {
    let mut answer = Answer::Other;
    for field in fields(payload) {
        match field? {
            (2, value) => answer = settled(value.bytes()?)?,
            (4, value) => answer = Answer::State(state(value.bytes()?)?),
            _ => {}
        }
    }
    Some(answer)
}

fn settled(bytes: &[u8]) -> Option<Answer> {
    let (mut receipt, mut replayed) = (None, false);
    for field in fields(bytes) {
        match field? {
            (1, value) => receipt = Some(signed(value.bytes()?)?),
            (2, value) => replayed = value.number()? == 1,
            _ => {}
        }
    }
    Some(Answer::Settled { receipt: receipt?, replayed })
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
