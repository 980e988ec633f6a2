//! The parts of a file on their way into the database, and the rows that wait for another session.
//!
//! If another session holds a row, only the records that need that row wait. They are set apart
//! until everything else is written. Then the import waits for the held row without holding any
//! lock, up to a time limit.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

pub use crate::database::HeldItem;

/// Default of the longest wait for a held row.
pub const WAIT: Duration = Duration::from_secs(60);

/// Pause between two attempts, if the held item has no name that a lock statement could wait for.
pub(crate) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Progress reports of an import.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// The number of rows that are done.
    Done(usize),
    /// The import waits for this item. Reported once per item.
    Waits(&'a HeldUp),
}

/// An item that another session holds and that an import needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldUp {
    /// The line of the file that needs the item; 0 for the whole file.
    pub line: u64,
    /// The held item.
    pub what: HeldItem,
    /// The session that holds it, if the database can name it.
    pub by: Option<String>,
}

impl fmt::Display for HeldUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, what, by } = self;
        if *line > 0 {
            write!(f, "line {line}: ")?;
        }
        write!(f, "somebody else holds {what}")?;
        by.iter().try_for_each(|by| write!(f, " ({by})"))
    }
}

/// Rows of a file that one transaction writes.
#[derive(Debug)]
pub(crate) struct Part<T> {
    pub(crate) rows: Vec<T>,
    /// The item to wait for before these rows are written.
    pub(crate) awaited: Option<HeldItem>,
}

/// The rows of a file that are not written yet.
pub(crate) struct Parts<T> {
    rest: std::vec::IntoIter<T>,
    at_once: usize,
    /// Pieces of a part that was split, the next one last.
    pieces: Vec<Vec<T>>,
    /// Rows that wait for another session.
    held: VecDeque<Part<T>>,
}

impl<T> Parts<T> {
    /// Takes all rows of a file. A part has at most `at_once` of them.
    pub(crate) fn new(rows: Vec<T>, at_once: usize) -> Self {
        Self { rest: rows.into_iter(), at_once, pieces: Vec::new(), held: VecDeque::new() }
    }

    /// Returns the next part. Waiting rows come last.
    pub(crate) fn next(&mut self) -> Option<Part<T>> {
        let plain = |rows| Part { rows, awaited: None };
        self.pieces.pop().map(plain).or_else(|| {
            let rows: Vec<T> = self.rest.by_ref().take(self.at_once).collect();
            if rows.is_empty() { self.held.pop_front() } else { Some(plain(rows)) }
        })
    }

    /// True if no part is left.
    pub(crate) fn is_over(&self) -> bool {
        self.rest.len() == 0 && self.pieces.is_empty() && self.held.is_empty()
    }

    /// Splits a part into two halves. The first half comes next.
    pub(crate) fn halve(&mut self, mut rows: Vec<T>) {
        let second = rows.split_off(rows.len() / 2);
        self.pieces.extend([second, rows]);
    }

    /// Sets rows apart until another session frees an item.
    pub(crate) fn set_apart(&mut self, rows: Vec<T>, awaited: HeldItem) {
        self.held.push_back(Part { rows, awaited: Some(awaited) });
    }
}

/// Limits the time that an import waits without writing anything.
#[derive(Debug)]
pub(crate) struct Patience {
    wait: Duration,
    since: Option<Instant>,
    /// Start of the current attempt. Its time counts as waiting too.
    tried: Option<Instant>,
    told: Vec<HeldItem>,
}

impl Patience {
    pub(crate) fn new(wait: Duration) -> Self {
        Self { wait, since: None, tried: None, told: Vec::new() }
    }

    /// Begins an attempt. Returns the time that it may wait.
    pub(crate) fn tries(&mut self) -> Duration {
        self.tried = Some(Instant::now());
        self.wait.saturating_sub(self.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// Starts the wait, unless it has started already.
    pub(crate) fn begins(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Ends the wait, because something was written.
    pub(crate) fn ends(&mut self) {
        self.since = None;
    }

    /// Reports the item that the import waits for, once per item. Fails if the wait has taken too
    /// long.
    pub(crate) fn goes_on(
        &mut self,
        held_up: HeldUp,
        progress: &mut (impl FnMut(Progress<'_>) + ?Sized),
    ) -> Result<(), HeldUp> {
        self.since = self.since.or(self.tried);
        self.begins();
        if self.since.is_some_and(|since| since.elapsed() >= self.wait) {
            return Err(held_up);
        }
        if !self.told.contains(&held_up.what) {
            progress(Progress::Waits(&held_up));
            self.told.push(held_up.what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sku(sku: &str) -> HeldItem {
        HeldItem::Sku { brand: "b".to_owned(), sku: sku.to_owned() }
    }

    #[test]
    fn waiting_rows_come_last_and_name_what_they_await() {
        let mut parts = Parts::new((1..=7).collect(), 3);
        let mut order = Vec::new();
        while let Some(Part { rows, awaited }) = parts.next() {
            match rows[..] {
                [1, 2, 3] if awaited.is_none() => {
                    parts.set_apart(vec![2], sku("B2"));
                    order.push(vec![1, 3]);
                }
                [4, 5, 6] => parts.halve(rows),
                _ => order.push(rows),
            }
            assert_eq!(awaited.is_some(), order.last() == Some(&vec![2]));
        }
        assert_eq!(order, [vec![1, 3], vec![4], vec![5, 6], vec![7], vec![2]]);
        assert!(parts.is_over());
    }

    #[test]
    fn each_thing_is_told_once_and_the_wait_ends() {
        let mut told = Vec::new();
        let held_up = |what| HeldUp { line: 2, what, by: Some("process 7 of PostgreSQL".to_owned()) };
        let mut patience = Patience::new(Duration::from_secs(3_600));
        for what in [sku("A"), sku("A"), HeldItem::Unnamed] {
            let told = &mut told;
            let mut progress = |progress: Progress<'_>| {
                if let Progress::Waits(held_up) = progress {
                    told.push(held_up.to_string());
                }
            };
            patience.goes_on(held_up(what), &mut progress).unwrap();
        }
        assert_eq!(told.len(), 2);
        assert_eq!(
            told[0],
            "line 2: somebody else holds the SKU A of brand b, or its stock (process 7 of PostgreSQL)"
        );
        assert!(Patience::new(Duration::ZERO).goes_on(held_up(sku("A")), &mut |_| ()).is_err());
    }

    #[test]
    fn an_attempts_wait_counts_and_the_next_may_wait_the_rest() {
        let table = || HeldUp { line: 0, what: HeldItem::Table("skus".to_owned()), by: None };
        assert_eq!(table().to_string(), "somebody else holds the table skus as a whole");
        let wait = Duration::from_millis(50);
        let mut patience = Patience::new(wait);
        assert_eq!(patience.tries(), wait);
        std::thread::sleep(wait);
        assert!(patience.goes_on(table(), &mut |_| ()).is_err(), "the try itself has waited so long");
        assert_eq!(patience.tries(), Duration::ZERO);
        patience.ends();
        assert_eq!(patience.tries(), wait);
    }
}
