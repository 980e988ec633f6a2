//! What the owner of a line sets and reads, while the line's own thread carries packets.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::conditions::{Conditions, Cut};
use super::core::Counts;
use crate::testkit::histogram::Histogram;

/// A line's conditions and counts. Copies are of the same line.
#[derive(Clone, Debug)]
pub struct Line {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    conditions: Arc<Conditions>,
    counts: Counts,
    late: Histogram,
    capture: Option<BufWriter<File>>,
}

impl Line {
    /// A perfect line. The payload of each packet or datagram that enters it, dropped or not, is appended to the file `capture`.
    pub(super) fn new(capture: Option<&Path>) -> io::Result<Line> {
        let capture = capture.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Line { shared: Arc::new(Mutex::new(Shared { capture, ..Shared::default() })) })
    }

    /// The conditions now.
    #[must_use]
    pub fn conditions(&self) -> Arc<Conditions> {
        Arc::clone(&self.lock().conditions)
    }

    /// Sets all conditions. They hold for what enters from now on: what is on the line already keeps its time.
    pub fn set(&self, conditions: Conditions) {
        self.lock().conditions = Arc::new(conditions);
    }

    /// Changes some conditions.
    pub fn change(&self, change: impl FnOnce(&mut Conditions)) {
        change(Arc::make_mut(&mut self.lock().conditions));
    }

    /// Drops everything, both ways, until it is switched back, which takes all other cuts away as well.
    pub fn cut(&self, cut: bool) {
        let cuts = if cut { vec![Cut::ALL] } else { Vec::new() };
        self.change(|line| line.change(|way| way.cuts.clone_from(&cuts)));
    }

    /// Makes a round trip last this much longer than on a perfect line.
    pub fn delay(&self, round_trip: Duration) {
        self.change(|line| line.change(|way| way.delay = round_trip / 2));
    }

    /// Loses this many of a million packets, both ways.
    pub fn lose(&self, per_million: u32) {
        self.change(|line| line.change(|way| way.loss = per_million));
    }

    /// What became of the packets so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// How much later than they should have packets left, since this was asked the last time.
    #[must_use]
    pub fn take_late(&self) -> Histogram {
        std::mem::take(&mut self.lock().late)
    }

    /// Writes out what was captured so far.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        self.lock().capture.as_mut().map_or(Ok(()), Write::flush)
    }

    /// Keeps what enters, if somebody wants it.
    pub(super) fn keep(&self, payload: &[u8]) -> io::Result<()> {
        self.lock().capture.as_mut().map_or(Ok(()), |capture| capture.write_all(payload))
    }

    /// Publishes what the line's own thread has counted, and how late packets left.
    pub(super) fn publish(&self, counts: Counts, late: &[Duration]) {
        let mut shared = self.lock();
        shared.counts = counts;
        late.iter().for_each(|late| shared.late.record(*late));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
