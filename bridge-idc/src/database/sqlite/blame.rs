//! The cause of each error of SQLite.

use crate::database::blame::Blame;

/// Returns the cause of an error by its result code (sqlite.org/rescode.html).
pub(in crate::database) fn of(code: i32) -> Blame {
    match code & 0xff {
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT (also raised by a trigger), SQLITE_MISMATCH
        18..=20 => Blame::Request,
        _ => Blame::Database,
    }
}
