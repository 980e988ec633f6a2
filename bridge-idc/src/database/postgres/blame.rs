//! The cause of each error of PostgreSQL.

use crate::database::blame::Blame;

/// Returns the cause of an error by its SQLSTATE and its class (PostgreSQL manual, appendix A). An
/// unlisted code says nothing about the database as a whole, because a shop's own trigger can raise
/// any code.
pub(in crate::database) fn of(state: &str) -> Blame {
    match (state.get(..2), state) {
        // lock_not_available: lock_timeout has passed, or the statement has NOWAIT
        (_, "55P03") => Blame::Holder,
        // query_canceled
        (_, "57014") => Blame::Cancel,
        // read_only_sql_transaction, idle_in_transaction_session_timeout,
        // statement_completion_unknown
        (_, "25006" | "25P03" | "40003") => Blame::Database,
        // data exception, integrity constraint violation, WITH CHECK OPTION violation, error raised
        // by a trigger, program limit exceeded
        (Some("22" | "23" | "44" | "P0" | "54"), _) => Blame::Request,
        // serialization failure, deadlock
        (Some("40"), _) => Blame::Contention,
        // connection exception, invalid authorization, no such database, insufficient resources,
        // operator intervention
        (Some("08" | "28" | "3D" | "53" | "57"), _) => Blame::Database,
        _ => Blame::Statement,
    }
}
