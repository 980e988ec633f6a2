//! Whose fault SQLite's errors are.

use crate::database::blame::Blame;

/// Whose fault a refusal is, by its result code (sqlite.org/rescode.html).
pub(in crate::database) fn of(code: i32) -> Blame {
    match code & 0xff {
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT (also raised by a trigger), SQLITE_MISMATCH
        18..=20 => Blame::Request,
        _ => Blame::Database,
    }
}
