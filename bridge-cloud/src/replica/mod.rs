//! The replica: the catalogue of the served brands, in memory, beside the storefront.
//!
//! ```text
//! feed ─> follow (owns the rows, one task) ─> update ─> view, one a serving thread ─> storefront::reads
//!            └─> snapshot on disk                  └─> compress
//! ```
//!
//! Answers are built once, when a row changes, and shared. Each serving thread finds them in maps of its own, so that a
//! read takes no lock. Nothing here waits for the tunnel, and nothing here knows HTTP beyond bodies and their tags.

// The task that owns the rows.
pub mod follow;

// All rows, as the feed brought them.
pub mod replica_rows;

// From a row to the answers that need it.
pub mod answer;

// The tree of categories as one answer.
mod tree;

// What serving threads are told, and how.
pub mod update;

// What one serving thread answers from.
pub mod view;

// Products of a category in their orders, page by page.
pub mod listing;

// Compressed forms, made beside everything else.
pub mod compress;

// The rows on disk, for a warm start.
pub mod snapshot;
