//! One connection's bytes and streams, and which of a thread's connections get on.

/// Which connections get on, and which make room.
pub(super) mod connections;

/// A connection's bytes, watched.
pub(super) mod greeting;

/// Answers that are written together.
mod answer_batcher;

/// Line ends and lengths in requests.
pub(super) mod lines;

/// Where the frames of HTTP/2 end.
mod frames;

/// Which answers of HTTP/2 are taken.
pub(super) mod streams;

/// Bodies that are not whole.
pub(super) mod uploads;
