//! Reads the catalogue for the feed: pages by key, changes after a position, and checksums of all
//! rows.
//!
//! Rows are in the order of their keys, and one read sees one moment. The row of a change may be
//! newer than its number but never older, because the number is given after the commit.

use std::collections::{BTreeMap, BTreeSet};

use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::{EntityKey, EntityKind, Position};
use bridge_protocol::feed::Row;
use bridge_protocol::feed::sums::{self, RowSum, Sums};
use sqlx::SqlStr;

use super::columns::Select;
use super::rows::{self, ReadRow};
use super::{Catalogue, CatalogueError};
use crate::database::{AnyRow, Ends as _, Transaction, common, on_connection, row, soon};

/// Most rows of one statement.
const ROWS_MAX: usize = 1_000;

row! {
    /// A change of the log.
    struct ChangeColumns {
        seq: i64,
        mark: i64,
        kind: i16,
        brand: String,
        code: String,
    }
}

impl Catalogue {
    /// Returns the position of the change log, and its lag in microseconds. Every change that was
    /// committed more than this time ago has a number up to this position.
    ///
    /// # Errors
    ///
    /// Fails if the database is not available or the login lacks a right.
    pub async fn head(&self) -> Result<(Position, i64), CatalogueError> {
        let mut reader = self.snapshot().await?;
        let head = reader.head().await?;
        reader.commit().await?;
        Ok(head)
    }

    /// Returns the first rows of these brands after a key, and true if no row follows them.
    ///
    /// # Errors
    ///
    /// Fails if the database is not available or the login lacks a right.
    pub async fn page(
        &self,
        brands: &[Brand],
        after: Option<&EntityKey>,
        rows_max: usize,
    ) -> Result<(Vec<Row>, bool), CatalogueError> {
        let mut reader = self.snapshot().await?;
        let page = self.read_page(&mut reader, brands, after, rows_max).await?;
        reader.commit().await?;
        Ok(page)
    }

    /// Returns the last state of each key of these brands that changed after a position, and the
    /// position after these changes. It reads at most `changes_max` changes. `None` if the log no
    /// longer has that position, or if the position is from another history, such as before a
    /// restore.
    ///
    /// # Errors
    ///
    /// Fails if the database is not available or the login lacks a right.
    pub async fn changes(
        &self,
        brands: &[Brand],
        after: Position,
        changes_max: usize,
    ) -> Result<Option<(Vec<Row>, Position)>, CatalogueError> {
        let mut reader = self.snapshot().await?;
        let changes = self.read_changes(&mut reader, brands, after, changes_max).await?;
        reader.commit().await?;
        Ok(changes)
    }

    /// Returns the checksums of all rows of these brands at one moment, the position at that
    /// moment, and the buckets that have changes without a number.
    ///
    /// # Errors
    ///
    /// Fails if the database is not available or the login lacks a right.
    pub async fn sums(&self, brands: &[Brand]) -> Result<(Position, Sums, Vec<u32>), CatalogueError> {
        // Boxed, because the checksums would make every caller's future large.
        Ok(Box::pin(self.read_sums(brands)).await?)
    }

    async fn read_sums(&self, brands: &[Brand]) -> sqlx::Result<(Position, Sums, Vec<u32>)> {
        let mut reader = self.snapshot().await?;
        let (position, _) = reader.head().await?;
        let unsettled = self.unsettled(&mut reader, brands).await?;
        let mut sums = Sums::default();
        let mut after = None;
        loop {
            let (page, last) = self.read_page(&mut reader, brands, after.as_ref(), ROWS_MAX).await?;
            for Row { key, row } in &page {
                if let Some(row) = row {
                    sums.add(RowSum::of(key, row));
                }
            }
            if last {
                break;
            }
            after = page.into_iter().next_back().map(|row| row.key);
        }
        reader.commit().await?;
        Ok((position, sums, unsettled))
    }

    async fn unsettled(&self, reader: &mut Reader, brands: &[Brand]) -> sqlx::Result<Vec<u32>> {
        let mut buckets = BTreeSet::new();
        for PendingColumns { kind, brand, code } in reader.pending().await? {
            if let Some(key) = log_key(kind, &brand, &code, brands) {
                buckets.extend(u32::try_from(sums::bucket(&key)));
            }
        }
        Ok(buckets.into_iter().collect())
    }

    async fn read_page(
        &self,
        reader: &mut Reader,
        brands: &[Brand],
        after: Option<&EntityKey>,
        rows_max: usize,
    ) -> sqlx::Result<(Vec<Row>, bool)> {
        let rows_max = rows_max.max(1);
        let brands: BTreeSet<&Brand> = brands.iter().collect();
        let mut page = Vec::new();
        for kind in EntityKind::ALL {
            for brand in &brands {
                let mut behind = match after {
                    Some(after) if (kind, *brand) < (after.kind, &after.brand) => continue,
                    Some(after) if (kind, *brand) == (after.kind, &after.brand) => after.code.to_string(),
                    _ => String::new(),
                };
                loop {
                    let limit = (rows_max - page.len()).min(ROWS_MAX);
                    let wanted = RowSelection::Page { brand: brand.as_str(), behind: &behind, limit };
                    let found = reader.found(kind, self.selects(kind), wanted).await?;
                    let (read, next) = (found.len(), found.last().map(|row| row.code.clone()));
                    page.extend(found.into_iter().filter_map(|found| self.row(kind, found)));
                    if page.len() == rows_max {
                        return Ok((page, false));
                    }
                    match next {
                        Some(next) if read == limit => behind = next,
                        _ => break,
                    }
                }
            }
        }
        Ok((page, true))
    }

    async fn read_changes(
        &self,
        reader: &mut Reader,
        brands: &[Brand],
        after: Position,
        changes_max: usize,
    ) -> sqlx::Result<Option<(Vec<Row>, Position)>> {
        let Ok(seq) = i64::try_from(after.seq) else { return Ok(None) };
        // The log row of the position itself comes first. Position 0 has no row.
        let limit = changes_max.max(1).saturating_add(usize::from(seq > 0));
        let log = reader.changes(seq, limit).await?;
        let Some(log) = continued(&log, seq, after.mark) else { return Ok(None) };
        let mut keys: BTreeMap<EntityKind, BTreeSet<EntityKey>> = BTreeMap::new();
        let mut position = after;
        for ChangeColumns { seq, mark, kind, brand, code } in log {
            position = Position { seq: seq.unsigned_abs(), mark: *mark };
            if let Some(key) = log_key(*kind, brand, code, brands) {
                keys.entry(key.kind).or_default().insert(key);
            }
        }
        let mut changed = Vec::new();
        for (kind, keys) in keys {
            let keys: Vec<EntityKey> = keys.into_iter().collect();
            for keys in keys.chunks(ROWS_MAX) {
                let found = reader.found(kind, self.selects(kind), RowSelection::Keys(keys)).await?;
                let found = found.into_iter().filter_map(|found| self.row(kind, found));
                let mut found: BTreeMap<EntityKey, Row> = found.map(|row| (row.key.clone(), row)).collect();
                changed.extend(keys.iter().map(|key| {
                    found.remove(key).unwrap_or_else(|| {
                        self.unreadable.forget(key);
                        Row { key: key.clone(), row: None }
                    })
                }));
            }
        }
        Ok(Some((changed, position)))
    }

    fn row(&self, kind: EntityKind, found: ReadRow) -> Option<Row> {
        let key = rows::key(kind, &found.brand, &found.code)?;
        Some(self.unreadable.judge(key, found.row))
    }

    /// Opens a transaction whose statements all see one moment.
    async fn snapshot(&self) -> sqlx::Result<Reader> {
        Ok(Reader(self.database.snapshot().await?))
    }
}

/// Returns the changes after a position. `None` if the log does not have that position, or has a
/// gap after it.
fn continued(log: &[ChangeColumns], seq: i64, mark: i64) -> Option<&[ChangeColumns]> {
    let is_dense = log.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1);
    let follows = match (log.first(), seq) {
        // Position 0 is before the first change. It can continue only if change number 1 still
        // exists.
        (first, 0) => first.is_none_or(|first| first.seq == 1).then_some(log),
        (Some(first), _) => ((first.seq, first.mark) == (seq, mark)).then_some(&log[1..]),
        (None, _) => None,
    };
    follows.filter(|_| is_dense)
}

/// Returns the key of a log row, if it belongs to one of these brands.
fn log_key(kind: i16, brand: &str, code: &str, brands: &[Brand]) -> Option<EntityKey> {
    if !brands.iter().any(|wanted| wanted.as_str() == brand) {
        return None;
    }
    let kind = u32::try_from(kind).ok().and_then(EntityKind::from_number)?;
    rows::key(kind, brand, code)
}

row! {
    /// The last number of the log, its mark, and its lag in microseconds.
    pub(super) struct HeadColumns {
        seq: i64,
        mark: i64,
        lag: i64,
    }
}

row! {
    /// A changed key that has no number yet.
    struct PendingColumns {
        kind: i16,
        brand: String,
        code: String,
    }
}

/// The statements that differ between the databases.
pub(super) trait Statements {
    /// Returns the last number of the log, its mark, and its lag in microseconds.
    async fn head(&mut self) -> sqlx::Result<HeadColumns>;

    /// Returns the rows with these keys.
    async fn keyed<C: AnyRow>(&mut self, sql: SqlStr, keys: &[EntityKey]) -> sqlx::Result<Vec<C>>;
}

/// A transaction whose statements all see one moment. It binds and decodes, and makes no decision.
struct Reader(Transaction);

impl Reader {
    async fn head(&mut self) -> sqlx::Result<(Position, i64)> {
        let head = soon(async { on_connection!(self.0, connection => connection.head().await) });
        let HeadColumns { seq, mark, lag } = head.await?;
        Ok((Position { seq: seq.unsigned_abs(), mark }, lag))
    }

    async fn changes(&mut self, from: i64, limit: usize) -> sqlx::Result<Vec<ChangeColumns>> {
        soon(async {
            on_connection!(self.0, connection =>
                sqlx::query_as(common!("changes")).bind(from).bind(bound(limit)).fetch_all(connection).await)
        })
        .await
    }

    async fn pending(&mut self) -> sqlx::Result<Vec<PendingColumns>> {
        soon(async {
            on_connection!(self.0, connection =>
                sqlx::query_as(common!("pending")).fetch_all(connection).await)
        })
        .await
    }

    /// Returns rows of a kind, with the rows of their child tables.
    async fn found(
        &mut self,
        kind: EntityKind,
        selects: &[Select],
        wanted: RowSelection<'_>,
    ) -> sqlx::Result<Vec<ReadRow>> {
        Ok(match (kind, selects) {
            (EntityKind::Brand, [own]) => {
                self.read(own, wanted).await?.into_iter().map(rows::brand).collect()
            }
            (EntityKind::Category, [own]) => {
                self.read(own, wanted).await?.into_iter().map(rows::category).collect()
            }
            (EntityKind::Stock, [own]) => {
                self.read(own, wanted).await?.into_iter().map(rows::stock).collect()
            }
            (EntityKind::Product, [own, stands_in, variants]) => {
                let products: Vec<rows::ProductColumns> = self.read(own, wanted).await?;
                let (Some(first), Some(last)) = (products.first(), products.last()) else {
                    return Ok(Vec::new());
                };
                let below = wanted.below(&first.product, &last.product);
                let stand_in = self.read(stands_in, below).await?;
                let variants = self.read(variants, below).await?;
                rows::products(products, stand_in, variants)
            }
            _ => {
                return Err(sqlx::Error::Protocol(
                    "the list of columns has other parts than are read".to_owned(),
                ));
            }
        })
    }

    async fn read<C: AnyRow>(&mut self, select: &Select, wanted: RowSelection<'_>) -> sqlx::Result<Vec<C>> {
        soon(async {
            on_connection!(self.0, connection => match wanted {
                RowSelection::Page { brand, behind, limit } => {
                    let page = sqlx::query_as(select.page.clone()).bind(brand).bind(behind).bind(bound(limit));
                    page.fetch_all(connection).await
                }
                RowSelection::Range { brand, first, last } => {
                    let range = sqlx::query_as(select.page.clone()).bind(brand).bind(first).bind(last);
                    range.fetch_all(connection).await
                }
                RowSelection::Keys(keys) => connection.keyed(select.keyed.clone(), keys).await,
            })
        })
        .await
    }

    async fn commit(self) -> sqlx::Result<()> {
        soon(self.0.commit()).await
    }
}

/// The rows to read.
#[derive(Clone, Copy)]
enum RowSelection<'a> {
    /// The first rows of a brand after a code.
    Page { brand: &'a str, behind: &'a str, limit: usize },
    /// Child rows of a brand's rows, from one code to another.
    Range { brand: &'a str, first: &'a str, last: &'a str },
    /// The existing rows among these keys.
    Keys(&'a [EntityKey]),
}

impl<'a> RowSelection<'a> {
    /// Selects the child rows of the rows just read. `first` and `last` are the first and the last
    /// code among them.
    fn below(self, first: &'a str, last: &'a str) -> Self {
        match self {
            Self::Page { brand, .. } | Self::Range { brand, .. } => Self::Range { brand, first, last },
            Self::Keys(keys) => Self::Keys(keys),
        }
    }
}

pub(super) fn texts(key: &EntityKey) -> (&str, &str) {
    (key.brand.as_str(), key.code.as_str())
}

/// Converts to the type of SQL's LIMIT.
fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(numbers: &[(i64, i64)]) -> Vec<ChangeColumns> {
        let change = |(seq, mark): &(i64, i64)| {
            let (brand, code) = ("acme".to_owned(), "A".to_owned());
            ChangeColumns { seq: *seq, mark: *mark, kind: 3, brand, code }
        };
        numbers.iter().map(change).collect()
    }

    #[test]
    fn a_position_continues_only_in_its_own_history_without_gaps() {
        let kept = log(&[(5, 50), (6, 60), (7, 70)]);
        assert_eq!(continued(&kept, 5, 50).unwrap().len(), 2);
        assert!(continued(&kept, 5, 51).is_none(), "the number was given at another moment");
        assert!(continued(&kept, 4, 40).is_none(), "the position is not kept");
        assert!(continued(&[], 5, 50).is_none(), "the position is further than the log");
        assert!(continued(&log(&[(5, 50), (7, 70)]), 5, 50).is_none(), "somebody took a row out");
    }

    #[test]
    fn before_the_first_change_nothing_may_be_forgotten() {
        assert_eq!(continued(&[], 0, 0).unwrap().len(), 0);
        assert_eq!(continued(&log(&[(1, 10), (2, 20)]), 0, 0).unwrap().len(), 2);
        assert!(continued(&log(&[(2, 20)]), 0, 0).is_none());
    }
}
