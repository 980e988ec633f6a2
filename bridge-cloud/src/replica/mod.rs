//! The replica: the catalogue of the served brands, in memory, beside the storefront.
//!
//! ```text
//! feed ─> follow (one task owns the rows) ─> update ─> view (one in each serving thread)
//!            └─> snapshot on disk               │          └─> storefront::reads
//!                                               └─> compress
//! ```
//!
//! Answers are built once, when a row changes, and shared. Each serving thread finds them in its
//! own maps, so that a read takes no lock. Nothing here waits for the tunnel, and nothing here
//! knows HTTP except bodies and their tags.

// The task that owns the rows.
pub mod follow;

// All rows as the feed brought them.
pub mod replica_rows;

// Prebuilt answers from rows.
pub mod answer;

// The tree of categories as one answer.
mod tree;

// Updates for serving threads.
pub mod update;

// The maps of one serving thread.
pub mod view;

// Products of a category, sorted and page by page.
pub mod listing;

// Compressed forms of answers.
pub mod compress;

// The rows on disk, for a warm start.
pub mod snapshot;
