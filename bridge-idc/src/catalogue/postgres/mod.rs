//! What the catalogue asks of PostgreSQL in its own way: rows by their keys, and rounds of the sequencer.

use std::time::Duration;

use bridge_protocol::domain::catalogue::{EntityKey, Position};
use sqlx::{Connection as _, PgConnection, SqlStr};

use super::columns::Dialect;
use super::round::{ChangeLogLimits, FORGET_MAX, PENDING_MAX, Round, micros};
use super::source::{Statements, texts};
use crate::database::postgres::{Postgres, make_durable};
use crate::database::{AnyRow, row};

pub(super) const DIALECT: Dialect = Dialect {
    json_cast: "::text",
    join: "JOIN",
    wanted: "UNNEST($1::text[], $2::text[]) AS wanted (brand, code)",
};

impl Statements for PgConnection {
    async fn head(&mut self) -> sqlx::Result<(i64, i64, i64)> {
        sqlx::query_as(include_str!("head.sql")).fetch_one(self).await
    }

    async fn keyed<C: AnyRow>(&mut self, sql: SqlStr, keys: &[EntityKey]) -> sqlx::Result<Vec<C>> {
        let (brands, codes): (Vec<&str>, Vec<&str>) = keys.iter().map(texts).unzip();
        sqlx::query_as(sql).bind(brands).bind(codes).fetch_all(self).await
    }
}

row! {
    /// What a round came to.
    struct RoundColumns {
        held: bool,
        numbered: i64,
        emptied: bool,
        last_seq: i64,
        last_mark: i64,
        swept_ago: i64,
    }
}

/// A connection of the sequencer's own, so that a round never waits behind orders for one of the pool's. It is taken out for each
/// statement: one that was not answered is closed.
pub(super) type Own = Option<PgConnection>;

/// One round: a function of `0002_catalogue.sql`, which is all that the agent's role may do to the log.
pub(super) async fn round(
    database: &Postgres,
    own: &mut Own,
    agent: &str,
    lease: Duration,
) -> sqlx::Result<Round> {
    let mut connection = take(database, own).await?;
    let round: RoundColumns = sqlx::query_as(include_str!("round.sql"))
        .bind(agent)
        .bind(micros(lease))
        .bind(i32::try_from(PENDING_MAX).unwrap_or(i32::MAX))
        .fetch_one(&mut connection)
        .await?;
    *own = Some(connection);
    let RoundColumns { held, numbered, emptied, .. } = round;
    let position = Position { seq: round.last_seq.unsigned_abs(), mark: round.last_mark };
    Ok(Round {
        held,
        numbered,
        emptied,
        position,
        lag: Duration::from_micros(round.swept_ago.unsigned_abs()),
    })
}

/// Wakes the agent that holds the lease, which may be another process.
pub(super) async fn tell(database: &Postgres, own: &mut Own) -> sqlx::Result<()> {
    let mut connection = take(database, own).await?;
    sqlx::query(include_str!("tell.sql")).execute(&mut connection).await?;
    *own = Some(connection);
    Ok(())
}

/// Forgets some of the log's oldest changes; returns how many.
pub(super) async fn forget(
    database: &Postgres,
    own: &mut Own,
    limits: &ChangeLogLimits,
) -> sqlx::Result<u64> {
    let mut connection = take(database, own).await?;
    let forgotten: i64 = sqlx::query_scalar(include_str!("forget.sql"))
        .bind(i64::try_from(limits.changes_kept).unwrap_or(i64::MAX))
        .bind(micros(limits.changes_kept_for))
        .bind(i32::try_from(FORGET_MAX).unwrap_or(i32::MAX))
        .fetch_one(&mut connection)
        .await?;
    *own = Some(connection);
    Ok(forgotten.unsigned_abs())
}

/// Takes the connection out, or makes one.
async fn take(database: &Postgres, own: &mut Own) -> sqlx::Result<PgConnection> {
    match own.take() {
        Some(connection) => Ok(connection),
        None => {
            // Each statement of a round must see what was committed before it, whatever a DBA made the default.
            let isolation = [("default_transaction_isolation", "read committed")];
            let options = (*database.pool.connect_options()).clone().options(isolation);
            let mut connection = PgConnection::connect_with(&options).await?;
            make_durable(&mut connection).await?;
            Ok(connection)
        }
    }
}
