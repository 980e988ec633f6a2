//! Helpers that the command lines of all three programs share: standard output whose reader may
//! close it, foreign text on a terminal, and files that a user names.
//!
//! The crate is small, so that `bridge-certs` does not build the agents' dependencies.

#![warn(clippy::missing_errors_doc)]

mod output;
mod shown;
mod user_file;

pub use output::{Output, ReaderGone, out, reader_is_gone};
pub use shown::{Shown, shown, shown_lines};
pub use user_file::{Access, UserFile};
