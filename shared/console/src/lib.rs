//! What the command lines of all three programs do alike: results whose reader may go away, text of others on a terminal,
//! and files that a user names.
//!
//! It is small, so that `bridge-certs` need not build what the agents need.

mod output;
mod shown;
mod user_file;

pub use output::{Output, ReaderGone, out, reader_is_gone};
pub use shown::{Shown, shown, shown_lines};
pub use user_file::{Access, UserFile};
