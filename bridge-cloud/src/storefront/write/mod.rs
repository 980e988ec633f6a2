//! Writes: admitted, logged, carried to the data centre and back, and answered.

/// Admission.
mod admit;

/// The way to the data centre and back.
pub(super) mod carry;

/// Responses to writes of an order.
pub(super) mod answer;

/// Refusals.
pub(super) mod refusals;
