//! Whose fault PostgreSQL's errors are.

use crate::database::blame::Blame;

/// Whose fault a refusal is, by its SQLSTATE and its class (PostgreSQL manual, appendix A). What is not listed says nothing of
/// the database as a whole: a trigger of the shop's can raise any.
pub(in crate::database) fn of(state: &str) -> Blame {
    match (state.get(..2), state) {
        // lock_not_available: lock_timeout has passed, or NOWAIT was asked for
        (_, "55P03") => Blame::Holder,
        // query_canceled
        (_, "57014") => Blame::Cancel,
        // read_only_sql_transaction, idle_in_transaction_session_timeout, statement_completion_unknown
        (_, "25006" | "25P03" | "40003") => Blame::Database,
        // data exception, integrity constraint violation, WITH CHECK OPTION violation, raised by a trigger, more than a limit
        // of the program allows
        (Some("22" | "23" | "44" | "P0" | "54"), _) => Blame::Request,
        // serialization failure, deadlock
        (Some("40"), _) => Blame::Contention,
        // connection exception, invalid authorization, no such database, insufficient resources, operator intervention
        (Some("08" | "28" | "3D" | "53" | "57"), _) => Blame::Database,
        _ => Blame::Statement,
    }
}
