//! Settings of a session of PostgreSQL: makes its commits durable, and detects a pooler that does
//! not keep settings.

use sqlx::{PgConnection, Row as _};

use crate::database::error::{LedgerError, NotReady};

/// Makes the session's commits wait for the disk, and for a standby if one is configured. It never
/// weakens the server's own setting, and overrides weaker settings of a role or a database.
pub(crate) async fn make_durable(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(include_str!("make_durable.sql")).execute(connection).await.map(drop)
}

/// Fails if the session's settings are not in force in this or the next statement, or if its
/// commits are not durable.
///
/// Each query is one message without a prepared statement. A pooler may send such a message to
/// another server, which this check then notices.
pub(crate) async fn check(
    connection: &mut PgConnection,
    set: &[(&'static str, &'static str)],
) -> Result<(), NotReady> {
    let nonce = format!("{:016x}", rand::random::<u64>());
    let mark = format!("SELECT pg_backend_pid()::text, set_config('bridge.session', '{nonce}', false)");
    let marked = sqlx::raw_sql(sqlx::AssertSqlSafe(mark)).fetch_one(&mut *connection).await;
    let marked = text(&marked.map_err(LedgerError::from)?, 0)?;
    let session = sqlx::raw_sql(include_str!("session.sql")).fetch_one(&mut *connection).await;
    let session = session.map_err(LedgerError::from)?;
    if text(&session, 0)? != marked || text(&session, 1)? != nonce {
        return Err(NotReady::Pooled("two statements of one connection went to two sessions"));
    }
    for (name, value) in set {
        let show = format!("SHOW {name}");
        let shown = sqlx::raw_sql(sqlx::AssertSqlSafe(show)).fetch_one(&mut *connection).await;
        if text(&shown.map_err(LedgerError::from)?, 0)? != *value {
            return Err(NotReady::Pooled(name));
        }
    }
    match (text(&session, 2)?.as_str(), text(&session, 3)?.as_str()) {
        ("on", "on" | "remote_apply") => Ok(()),
        ("on", _) => Err(NotReady::NotDurable("synchronous_commit")),
        _ => Err(NotReady::NotDurable("fsync")),
    }
}

fn text(row: &sqlx::postgres::PgRow, column: usize) -> Result<String, LedgerError> {
    row.try_get(column).map_err(LedgerError::from)
}
