//! The bytes and streams of connections, and the choice of a connection that must make room.

/// Progress of connections, and the choice which one makes room.
pub(super) mod connections;

/// The watched bytes of a connection.
pub(super) mod greeting;

/// Answers that are written together.
mod answer_batcher;

/// Line ends and lengths in requests.
pub(super) mod lines;

/// Ends of HTTP/2 frames.
mod frames;

/// Delivery of HTTP/2 answers.
pub(super) mod streams;

/// Bodies that are not whole.
pub(super) mod uploads;
