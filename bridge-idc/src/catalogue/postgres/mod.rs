//! The catalogue's statements on PostgreSQL: rows by their keys, and rounds of the sequencer.

use std::time::Duration;

use bridge_protocol::domain::catalogue::{EntityKey, Position};
use sqlx::{PgConnection, SqlStr};

use super::columns::{Dialect, Dialects};
use super::numbers::Rounds;
use super::round::{ChangeLogLimits, FORGET_MAX, PENDING_MAX, Round, micros};
use super::source::{HeadColumns, Statements, texts};
use crate::database::postgres::Postgres;
use crate::database::{AnyRow, KeptConnection, row};

pub(super) const DIALECT: Dialect = Dialect {
    json_cast: "::text",
    join: "JOIN",
    wanted: "UNNEST($1::text[], $2::text[]) AS wanted (brand, code)",
};

impl Dialects for Postgres {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }
}

impl Statements for PgConnection {
    async fn head(&mut self) -> sqlx::Result<HeadColumns> {
        sqlx::query_as(include_str!("head.sql")).fetch_one(self).await
    }

    async fn keyed<C: AnyRow>(&mut self, sql: SqlStr, keys: &[EntityKey]) -> sqlx::Result<Vec<C>> {
        let (brands, codes): (Vec<&str>, Vec<&str>) = keys.iter().map(texts).unzip();
        sqlx::query_as(sql).bind(brands).bind(codes).fetch_all(self).await
    }
}

row! {
    /// The result of a round.
    struct RoundColumns {
        held: bool,
        numbered: i64,
        emptied: bool,
        last_seq: i64,
        last_mark: i64,
        swept_ago: i64,
    }
}

impl Rounds for Postgres {
    /// Calls a function of `0002_catalogue.sql`. The agent's role has no other right to write to
    /// the log.
    async fn round(&self, kept: &mut KeptConnection, agent: &str, lease: Duration) -> sqlx::Result<Round> {
        let mut connection = self.take(kept).await?;
        let round: RoundColumns = sqlx::query_as(include_str!("round.sql"))
            .bind(agent)
            .bind(micros(lease))
            .bind(i32::try_from(PENDING_MAX).unwrap_or(i32::MAX))
            .fetch_one(&mut connection)
            .await?;
        kept.keep(connection);
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

    async fn tell(&self, kept: &mut KeptConnection) -> sqlx::Result<()> {
        let mut connection = self.take(kept).await?;
        sqlx::query(include_str!("tell.sql")).execute(&mut connection).await?;
        kept.keep(connection);
        Ok(())
    }

    async fn forget(&self, kept: &mut KeptConnection, limits: &ChangeLogLimits) -> sqlx::Result<u64> {
        let mut connection = self.take(kept).await?;
        let forgotten: i64 = sqlx::query_scalar(include_str!("forget.sql"))
            .bind(i64::try_from(limits.changes_kept).unwrap_or(i64::MAX))
            .bind(micros(limits.changes_kept_for))
            .bind(i32::try_from(FORGET_MAX).unwrap_or(i32::MAX))
            .fetch_one(&mut connection)
            .await?;
        kept.keep(connection);
        Ok(forgotten.unsigned_abs())
    }
}
