//! The catalogue's statements on SQLite: rows by their keys, and rounds of the sequencer.
//!
//! A statement costs no round trip here. So this file runs the steps of `catalogue_sequence()` (in
//! PostgreSQL's `0002_catalogue.sql`) one by one.

use std::time::Duration;

use bridge_protocol::domain::catalogue::{EntityKey, Position};
use bridge_runtime::clock;
use sqlx::{SqlStr, SqliteConnection};

use super::columns::{Dialect, Dialects};
use super::numbers::Rounds;
use super::round::{ChangeLogLimits, FORGET_MAX, PENDING_MAX, Round, micros};
use super::source::{HeadColumns, Statements, texts};
use crate::database::sqlite::Sqlite;
use crate::database::{AnyRow, KeptConnection, row};

pub(super) const DIALECT: Dialect = Dialect {
    json_cast: "",
    // SQLite's planner keeps the written order of a CROSS JOIN.
    join: "CROSS JOIN",
    wanted: "(SELECT value ->> 0 AS brand, value ->> 1 AS code FROM json_each($1)) AS wanted",
};

/// Longest valid lease. A lease that ends later was written before the clock was set back. The same
/// limit is in 0002_catalogue.sql.
const LEASE_MICROS_MAX: i64 = 60_000_000;

impl Dialects for Sqlite {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }
}

impl Statements for SqliteConnection {
    async fn head(&mut self) -> sqlx::Result<HeadColumns> {
        sqlx::query_as(include_str!("head.sql")).bind(clock::now().get()).fetch_one(self).await
    }

    async fn keyed<C: AnyRow>(&mut self, sql: SqlStr, keys: &[EntityKey]) -> sqlx::Result<Vec<C>> {
        let keys = serde_json::to_string(&keys.iter().map(texts).collect::<Vec<_>>());
        let keys = keys.map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query_as(sql).bind(keys).fetch_all(self).await
    }
}

row! {
    /// The position of the log, the lease, and true if changes are pending.
    struct StateColumns {
        seq: i64,
        mark: i64,
        swept: i64,
        holder: String,
        expires_at: i64,
        is_pending: bool,
    }
}

impl Rounds for Sqlite {
    /// Runs the steps of `catalogue_sequence()` in 0002_catalogue.sql.
    async fn round(&self, _: &mut KeptConnection, agent: &str, lease: Duration) -> sqlx::Result<Round> {
        let lease = micros(lease);
        let state_sql = include_str!("state.sql");
        // Read the clock before the pending changes: every change that was committed before
        // `started` is then visible.
        let started = clock::now().get();
        let state: StateColumns = sqlx::query_as(state_sql).fetch_one(&self.pool).await?;
        let StateColumns { seq, mark, swept, holder, expires_at, is_pending } = &state;
        let held = holds(agent, holder, *expires_at, started);
        let is_fresh = holder == agent && (started + lease / 3 * 2..=started + lease).contains(expires_at);
        if !held || (!is_pending && is_fresh && lease > 0) {
            let swept = if held { started } else { *swept };
            return Ok(came_to(held, 0, !is_pending, (*seq, *mark), started - swept));
        }

        // The write transaction keeps other agents from numbering.
        let mut open = self.begin().await?;
        let state: StateColumns = sqlx::query_as(state_sql).fetch_one(open.connection()).await?;
        let StateColumns { seq, mark, swept, holder, expires_at, is_pending } = state;
        if !holds(agent, &holder, expires_at, started) {
            open.commit().await?;
            return Ok(came_to(false, 0, !is_pending, (seq, mark), started - swept));
        }
        // Each round has a mark of its own, even if the clock stands still or goes back.
        let new_mark = started.max(mark + 1);
        let number = sqlx::query(include_str!("number.sql")).bind(seq).bind(new_mark).bind(PENDING_MAX);
        let numbered = number.execute(open.connection()).await?.rows_affected().cast_signed();
        let take = sqlx::query(include_str!("take.sql")).bind(PENDING_MAX);
        let taken = take.execute(open.connection()).await?.rows_affected().cast_signed();
        let emptied = taken < PENDING_MAX;
        let (seq, mark) = (seq + numbered, if numbered > 0 { new_mark } else { mark });
        let swept = if emptied { started } else { swept };
        let advance = sqlx::query(include_str!("advance.sql"));
        let advance = advance.bind(seq).bind(mark).bind(swept).bind(agent).bind(started + lease);
        advance.execute(open.connection()).await?;
        open.commit().await?;
        Ok(came_to(true, numbered, emptied, (seq, mark), started - swept))
    }

    /// Does nothing: only one process serves a file, so there is no other agent.
    async fn tell(&self, _: &mut KeptConnection) -> sqlx::Result<()> {
        Ok(())
    }

    async fn forget(&self, _: &mut KeptConnection, limits: &ChangeLogLimits) -> sqlx::Result<u64> {
        let kept = i64::try_from(limits.changes_kept).unwrap_or(i64::MAX);
        let oldest = clock::now().get().saturating_sub(micros(limits.changes_kept_for));
        let forget = sqlx::query(include_str!("forget.sql")).bind(kept).bind(oldest).bind(FORGET_MAX);
        Ok(forget.execute(self.writer()).await?.rows_affected())
    }
}

fn holds(agent: &str, holder: &str, expires_at: i64, now: i64) -> bool {
    holder == agent || expires_at <= now || expires_at > now + LEASE_MICROS_MAX
}

fn came_to(held: bool, numbered: i64, emptied: bool, (seq, mark): (i64, i64), lag: i64) -> Round {
    let position = Position { seq: seq.unsigned_abs(), mark };
    Round { held, numbered, emptied, position, lag: Duration::from_micros(lag.max(0).unsigned_abs()) }
}
