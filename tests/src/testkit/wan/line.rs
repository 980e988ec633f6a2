//! The handle of a line for its owner, while the line's own thread carries packets.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::conditions::{Conditions, Cut};
use super::core::Counts;
use crate::testkit::histogram::Histogram;

/// Conditions and counts of a line. Clones belong to the same line.
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
    /// Makes a perfect line. The payload of each packet or datagram that enters it, dropped or not,
    /// is appended to the file `capture`.
    pub(super) fn new(capture: Option<&Path>) -> io::Result<Line> {
        let capture = capture.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Line { shared: Arc::new(Mutex::new(Shared { capture, ..Shared::default() })) })
    }

    /// Returns the current conditions.
    #[must_use]
    pub fn conditions(&self) -> Arc<Conditions> {
        Arc::clone(&self.lock().conditions)
    }

    /// Sets all conditions. They apply to packets that enter from now on. Packets on the line keep
    /// their times.
    pub fn set(&self, conditions: Conditions) {
        self.lock().conditions = Arc::new(conditions);
    }

    /// Changes some conditions.
    pub fn change(&self, change: impl FnOnce(&mut Conditions)) {
        change(Arc::make_mut(&mut self.lock().conditions));
    }

    /// If true, drops everything in both directions. If false, removes all cuts.
    pub fn cut(&self, cut: bool) {
        let cuts = if cut { vec![Cut::ALL] } else { Vec::new() };
        self.change(|line| line.change(|way| way.cuts.clone_from(&cuts)));
    }

    /// Sets the delay of both directions to half of this round trip.
    pub fn delay(&self, round_trip: Duration) {
        self.change(|line| line.change(|way| way.delay = round_trip / 2));
    }

    /// Sets the loss of both directions, in packets of a million.
    pub fn lose(&self, per_million: u32) {
        self.change(|line| line.change(|way| way.loss = per_million));
    }

    /// Returns the counts of the packets so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Returns the lateness of packets since the last call.
    #[must_use]
    pub fn take_late(&self) -> Histogram {
        std::mem::take(&mut self.lock().late)
    }

    /// Writes the captured bytes to the file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        self.lock().capture.as_mut().map_or(Ok(()), Write::flush)
    }

    /// Appends a packet to the capture, if there is one.
    pub(super) fn keep(&self, payload: &[u8]) -> io::Result<()> {
        self.lock().capture.as_mut().map_or(Ok(()), |capture| capture.write_all(payload))
    }

    /// Publishes the counts of the line's own thread, and the lateness of packets.
    pub(super) fn publish(&self, counts: Counts, late: &[Duration]) {
        let mut shared = self.lock();
        shared.counts = counts;
        late.iter().for_each(|late| shared.late.record(*late));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
