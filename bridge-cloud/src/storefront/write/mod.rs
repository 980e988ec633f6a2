//! Writes: admitted, logged, carried to the data centre and back, and answered.

/// Whether there is room.
mod admit;

/// The way there and back.
pub(super) mod carry;

/// How the answer to an order's write reads.
pub(super) mod answer;

/// What is refused, and how.
pub(super) mod refusals;
