//! Check that an agent has the keys of its ledger. Two agents on one ledger need the same keys.
//! Otherwise one could not decrypt the other's personal data, and would take a repeated request for
//! a different one.
//!
//! The ledger keeps a check value of each key, from the first agent that had the key. The check
//! value does not reveal the key.

use bridge_protocol::domain::UnixMicros;

use super::{Ledger, LedgerError, NotReady};
use crate::database::on_database;
use crate::vault::KeyCheck;

/// Result of a comparison.
#[derive(Default)]
struct Compared<'checks> {
    /// Keys that differ from the ledger's key of the same name.
    others: Vec<&'checks KeyCheck>,
    /// Keys that the ledger does not know.
    unknown: Vec<&'checks KeyCheck>,
}

impl Ledger {
    /// Compares an agent's keys with the ledger's, and records the ones that the ledger does not
    /// know.
    ///
    /// # Errors
    ///
    /// Fails with [`NotReady::OtherKeys`] if a key differs from the ledger's key of the same name.
    /// No key is then recorded. Also fails if the database does not answer.
    pub async fn check_keys(&self, checks: &[KeyCheck], at: UnixMicros) -> Result<(), NotReady> {
        let compared = self.compare(checks).await?;
        compared.verdict()?;
        if compared.unknown.is_empty() {
            return Ok(());
        }
        for check in compared.unknown {
            self.note(check, at).await?;
        }
        // If two agents record a key at the same time, one of them is first. Both then read that
        // one's value.
        self.compare(checks).await?.verdict()
    }

    /// Returns the files of the ledger's key-encryption keys that are newer than all of these.
    /// Another agent has them, and encrypts with the newest one. Older keys do not count: to make
    /// old personal data unreadable, a DBA has their files deleted.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
    pub async fn newer_keys(&self, checks: &[KeyCheck]) -> Result<Vec<String>, LedgerError> {
        let known: Vec<String> = on_database!(self.database, database =>
            sqlx::query_scalar(include_str!("common/known_keys.sql")).fetch_all(&database.pool).await?);
        let newest = checks.iter().filter_map(|check| encryption_version(&check.name)).max();
        let newer = known.iter().filter(|name| encryption_version(name) > newest);
        Ok(newer.map(|name| format!("{name}.key")).collect())
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

/// Returns the version of a key-encryption key's name. `None` for another key.
fn encryption_version(name: &str) -> Option<i32> {
    name.strip_prefix("kek-")?.parse().ok()
}

impl Compared<'_> {
    fn verdict(&self) -> Result<(), NotReady> {
        let files: Vec<_> = self.others.iter().map(|check| check.file()).collect();
        if files.is_empty() { Ok(()) } else { Err(NotReady::OtherKeys(files.join(", "))) }
    }
}
