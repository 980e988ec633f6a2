//! The source in memory: interleaved transactions, a sequencer that numbers their changes,
//! retention and backups. It also keeps its whole history by time, for the oracles only.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::{EntityKey, Position};
use bridge_protocol::feed::Row;
use bridge_protocol::feed::publisher::{Read, ReadResult};
use bridge_protocol::feed::sums::{RowSum, Sums, bucket};
use bytes::Bytes;

use super::super::options::Sabotage;

/// Rows by key.
pub(super) type Rows = BTreeMap<EntityKey, Bytes>;

/// The database's content, which a backup keeps and a restore brings back.
#[derive(Clone, Default)]
pub(super) struct SourceBackup {
    pub(super) rows: Rows,
    /// Committed changes that have no number yet, by the id that each got when it was written.
    pending: BTreeMap<u64, EntityKey>,
    changes: VecDeque<(Position, EntityKey)>,
    pub(super) last: Position,
    /// The last id that the sabotaged sequencer took.
    taken: u64,
}

/// A transaction that is not committed yet.
pub(super) struct Open {
    pub(super) number: u64,
    writes: Vec<(u64, EntityKey, Option<Bytes>)>,
}

/// The source's database, with its open transactions, its backups and its history.
#[derive(Default)]
pub(super) struct Source {
    pub(super) kept: SourceBackup,
    pub(super) open: Vec<Open>,
    pub(super) swept_at: Duration,
    pub(super) changes_max: usize,
    sabotage: Option<Sabotage>,
    backups: Vec<SourceBackup>,
    ids: u64,
    versions: u64,
    /// All values of each key, with the time from which each was valid.
    ever: BTreeMap<EntityKey, Vec<(Duration, Option<Bytes>)>>,
    /// All numbers of this history by key, with the time at which each was given. Trimmed numbers
    /// are included.
    log: BTreeMap<EntityKey, Vec<(Position, Duration)>>,
}

impl Source {
    pub(super) fn new(sabotage: Option<Sabotage>, changes_max: usize) -> Self {
        Self { sabotage, changes_max, ..Self::default() }
    }

    /// Returns a new value that is different from all earlier ones.
    pub(super) fn value(&mut self) -> Bytes {
        self.versions += 1;
        Bytes::copy_from_slice(&self.versions.to_be_bytes())
    }

    /// Writes rows in a transaction. The rows stay locked until it ends.
    pub(super) fn write(&mut self, number: u64, keys: Vec<(EntityKey, bool)>) {
        let mut writes = Vec::new();
        for (key, gone) in keys {
            let locked = self.open.iter().any(|open| open.writes.iter().any(|(_, locked, _)| *locked == key));
            if !locked {
                self.ids += 1;
                let value = self.value();
                writes.push((self.ids, key, (!gone).then_some(value)));
            }
        }
        self.open.push(Open { number, writes });
    }

    /// Commits a transaction. Returns true if a later id was committed before, or `None` if the
    /// transaction is no longer open.
    pub(super) fn commit(&mut self, now: Duration, number: u64) -> Option<bool> {
        let index = self.open.iter().position(|open| open.number == number)?;
        let mut late = false;
        for (id, key, value) in self.open.remove(index).writes {
            late |=
                self.kept.pending.keys().next_back().is_some_and(|last| *last > id) || self.kept.taken > id;
            self.ever.entry(key.clone()).or_default().push((now, value.clone()));
            match value {
                Some(value) => self.kept.rows.insert(key.clone(), value),
                None => self.kept.rows.remove(&key),
            };
            self.kept.pending.insert(id, key);
        }
        Some(late)
    }

    /// Numbers at most `most` committed changes. Returns how many older numbers were trimmed.
    pub(super) fn sequence(&mut self, now: Duration, mark: i64, most: usize) -> usize {
        let kept = &mut self.kept;
        let after = match self.sabotage {
            // The sabotage remembers the last id that it saw. A smaller id that is committed later
            // is then never seen.
            Some(Sabotage::NumberBeforeCommit) => kept.taken + 1,
            _ => 0,
        };
        let taken: Vec<u64> = kept.pending.range(after..).take(most).map(|(id, _)| *id).collect();
        let mut keys = Vec::new();
        for id in taken {
            kept.taken = kept.taken.max(id);
            keys.extend(kept.pending.remove(&id));
        }
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            kept.last = Position { seq: kept.last.seq + 1, mark };
            kept.changes.push_back((kept.last, key.clone()));
            self.log.entry(key).or_default().push((kept.last, now));
        }
        if kept.pending.range(after..).next().is_none() {
            self.swept_at = now;
        }
        let trimmed = kept.changes.len().saturating_sub(self.changes_max.max(1));
        kept.changes.drain(..trimmed);
        trimmed
    }

    pub(super) fn back_up(&mut self) {
        self.backups.push(self.kept.clone());
    }

    /// Restores the newest backup whose last number is below `before`, and ends open transactions.
    /// Returns false if there is no such backup.
    pub(super) fn restore(&mut self, now: Duration, before: u64) -> bool {
        let Some(index) = self.backups.iter().rposition(|backup| backup.last.seq < before) else {
            return false;
        };
        self.backups.truncate(index + 1);
        let Some(backup) = self.backups.last() else { return false };
        let lost = std::mem::replace(&mut self.kept, backup.clone());
        self.open.clear();
        for (key, values) in &mut self.ever {
            let value = self.kept.rows.get(key);
            if value != lost.rows.get(key) {
                values.push((now, value.cloned()));
            }
        }
        let last = self.kept.last.seq;
        self.log.values_mut().for_each(|numbers| numbers.retain(|(position, _)| position.seq <= last));
        true
    }

    /// Returns the result of a read at this moment.
    pub(super) fn read(&self, brands: &[Brand], read: &Read) -> ReadResult {
        let of_brands = |key: &EntityKey| brands.contains(&key.brand);
        match read {
            Read::Page { after, rows_max } => {
                let behind = |key: &EntityKey| after.as_ref().is_none_or(|after| key > after);
                let mut rows = self.kept.rows.iter().filter(|(key, _)| of_brands(key) && behind(key));
                let page = rows.by_ref().take(*rows_max);
                let page = page.map(|(key, row)| Row { key: key.clone(), row: Some(row.clone()) }).collect();
                ReadResult::Page { rows: page, last: rows.next().is_none() }
            }
            Read::Changes { after, rows_max } => self.changes(brands, *after, *rows_max),
            Read::Sums => {
                let mut unsettled: Vec<u32> =
                    self.kept.pending.values().filter_map(|key| u32::try_from(bucket(key)).ok()).collect();
                unsettled.sort_unstable();
                ReadResult::Sums { head: self.kept.last, sums: self.sums(brands), unsettled }
            }
        }
    }

    fn changes(&self, brands: &[Brand], after: Position, most: usize) -> ReadResult {
        let changes = &self.kept.changes;
        let kept = changes.iter().position(|(position, _)| *position == after);
        let from = match self.sabotage {
            // The sabotage accepts a number of any history.
            Some(Sabotage::ResumeAnyHistory) => {
                changes.partition_point(|(position, _)| position.seq <= after.seq)
            }
            _ => match kept {
                Some(index) => index + 1,
                None => return ReadResult::Lost,
            },
        };
        let some: Vec<_> = changes.iter().skip(from).take(most).collect();
        let position = some.last().map_or(after, |(position, _)| *position);
        let mut keys: Vec<_> =
            some.into_iter().map(|(_, key)| key).filter(|key| brands.contains(&key.brand)).collect();
        keys.sort_unstable();
        keys.dedup();
        let row = |key: &EntityKey| Row { key: key.clone(), row: self.kept.rows.get(key).cloned() };
        ReadResult::Changes { rows: keys.into_iter().map(row).collect(), position }
    }

    pub(super) fn sums(&self, brands: &[Brand]) -> Sums {
        sums(self.kept.rows.iter().filter(|(key, _)| brands.contains(&key.brand)))
    }

    /// Returns true if a key had this value at some moment from `since` on.
    pub(super) fn had(&self, key: &EntityKey, value: Option<&Bytes>, since: Duration) -> bool {
        let values = self.ever.get(key).map_or(&[][..], Vec::as_slice);
        // The last value from before `since` was still valid at `since`.
        let first = values.partition_point(|(from, _)| *from < since);
        let at_since = first.checked_sub(1).and_then(|index| values[index].1.as_ref());
        at_since == value || values[first..].iter().any(|(_, later)| later.as_ref() == value)
    }

    /// Describes the last values and numbers of a key, for a story.
    pub(super) fn told(&self, key: &EntityKey) -> String {
        let values = self.ever.get(key).map_or(&[][..], Vec::as_slice);
        let numbers = self.log.get(key).map_or(&[][..], Vec::as_slice);
        let numbers: Vec<_> = numbers.iter().rev().take(3).map(|(position, at)| (position.seq, at)).collect();
        let values: Vec<_> = values.iter().rev().take(4).collect();
        format!("it had {values:?}, was numbered {numbers:?}")
    }

    /// Returns the time at which the last change of a key up to this position was numbered. Returns
    /// `None` if the position belongs to another history, or the key has no such change.
    pub(super) fn numbered(&self, key: &EntityKey, position: Position) -> Option<Duration> {
        let numbers = self.log.get(key).map_or(&[][..], Vec::as_slice);
        let index = numbers.partition_point(|(one, _)| one.seq <= position.seq);
        let (last, at) = index.checked_sub(1).map(|index| numbers[index])?;
        (last.mark <= position.mark).then_some(at)
    }

    /// Returns all keys that ever existed.
    pub(super) fn keys(&self) -> impl Iterator<Item = &EntityKey> {
        self.ever.keys()
    }
}

/// Returns the checksums of rows.
pub(super) fn sums<'a>(rows: impl Iterator<Item = (&'a EntityKey, &'a Bytes)>) -> Sums {
    let mut sums = Sums::default();
    rows.for_each(|(key, row)| sums.add(RowSum::of(key, row)));
    sums
}
