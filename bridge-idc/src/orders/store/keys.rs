//! Which keys a ledger was written with. Two agents on one ledger must have the same: what one of them encrypts the other could
//! not read, and a repeated request would look like another one.
//!
//! The ledger keeps a value that is derived from each key and tells nothing of it: that of the first agent which had the key.

use bridge_protocol::domain::UnixMicros;

use super::{Ledger, LedgerError, NotReady};
use crate::database::on_database;
use crate::vault::KeyCheck;

/// What a comparison found.
#[derive(Default)]
struct Compared<'checks> {
    /// Other keys under the same names.
    others: Vec<&'checks KeyCheck>,
    /// Keys that the ledger does not know.
    unknown: Vec<&'checks KeyCheck>,
}

impl Ledger {
    /// Compares an agent's keys with those that the ledger was written with, and notes those that it does not know. Errors
    /// with [`NotReady::OtherKeys`] if one is another key under the same name; then none is noted.
    pub async fn check_keys(&self, checks: &[KeyCheck], at: UnixMicros) -> Result<(), NotReady> {
        let compared = self.compare(checks).await?;
        compared.verdict()?;
        if compared.unknown.is_empty() {
            return Ok(());
        }
        for check in compared.unknown {
            self.note(check, at).await?;
        }
        // Of two agents that note a key at once one is the first, and both read what that one noted.
        self.compare(checks).await?.verdict()
    }

    async fn compare<'checks>(&self, checks: &'checks [KeyCheck]) -> Result<Compared<'checks>, LedgerError> {
        let mut compared = Compared::default();
        for check in checks {
            let known: Option<Vec<u8>> = on_database!(self.database, database =>
                sqlx::query_scalar(include_str!("common/known_key.sql"))
                    .bind(&check.name).fetch_optional(&database.pool).await?);
            match known {
                None => compared.unknown.push(check),
                Some(value) if value != check.value => compared.others.push(check),
                Some(_) => {}
            }
        }
        Ok(compared)
    }

    async fn note(&self, check: &KeyCheck, at: UnixMicros) -> Result<(), LedgerError> {
        let (sql, value) = (include_str!("common/note_key.sql"), check.value.as_slice());
        on_database!(self.database, database => {
            let insert = sqlx::query(sql).bind(&check.name).bind(value).bind(at.get());
            insert.execute(database.writer()).await.map(drop)?;
        });
        Ok(())
    }
}

impl Compared<'_> {
    fn verdict(&self) -> Result<(), NotReady> {
        let files: Vec<_> = self.others.iter().map(|check| check.file()).collect();
        if files.is_empty() { Ok(()) } else { Err(NotReady::OtherKeys(files.join(", "))) }
    }
}
