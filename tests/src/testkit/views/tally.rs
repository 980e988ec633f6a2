//! Results of page views: counts, latencies and flaws, for the whole run and for slices of time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::testkit::histogram::Histogram;

/// An error of a page view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// The generator's own queue was full, so the page view was never sent.
    QueueFull,
    /// The connection could not be opened.
    NoConnection,
    /// The connection broke before the answer was complete.
    NoAnswer,
    /// The answer did not come in time.
    Late,
    /// The answer is no HTTP answer with a length.
    Unreadable,
    /// A status other than 200.
    Status(u16),
    /// An answer about another page, or not in UTF-8.
    WrongAnswer,
    /// The body is not JSON.
    NoJson,
    /// The answer has no `Bridge-Seq` header.
    NoPosition,
    /// A lower `Bridge-Seq` than an earlier answer on the same connection.
    PositionFell,
    /// The answer has no `Age` header in seconds.
    NoAge,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::QueueFull => "queue-full",
            Flaw::NoConnection => "no-connection",
            Flaw::NoAnswer => "no-answer",
            Flaw::Late => "late",
            Flaw::Unreadable => "unreadable",
            Flaw::Status(status) => return write!(f, "status-{status}"),
            Flaw::WrongAnswer => "wrong-answer",
            Flaw::NoJson => "no-json",
            Flaw::NoPosition => "no-position",
            Flaw::PositionFell => "position-fell",
            Flaw::NoAge => "no-age",
        })
    }
}

/// Results of all page views.
#[derive(Clone, Debug)]
pub struct Report {
    /// Page views that arrived.
    pub views: u64,
    /// Reads with a right answer.
    pub reads: u64,
    /// Page views with an error, by its kind. Each page view counts once.
    pub flaws: BTreeMap<Flaw, u64>,
    /// Latency of reads. The first read of a page view counts from its scheduled arrival, the
    /// second from the first's answer.
    pub read_latency: Histogram,
    /// Latency of whole page views, from their scheduled arrivals.
    pub view_latency: Histogram,
    /// Highest `Age`, in seconds.
    pub age_max: u64,
    /// Results of each slice of the run.
    pub slices: Vec<Slice>,
    /// Duration of a slice.
    pub slice: Duration,
}

/// Results of a short part of a run.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Page views that arrived.
    pub arrived: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Page views with an error.
    pub flaws: u64,
    /// Latency of the answered reads.
    pub latency: Histogram,
    /// Highest `Bridge-Seq`, if there was one.
    pub position: Option<u64>,
}

impl Report {
    pub(crate) fn new(slice: Duration) -> Report {
        Report {
            views: 0,
            reads: 0,
            flaws: BTreeMap::new(),
            read_latency: Histogram::default(),
            view_latency: Histogram::default(),
            age_max: 0,
            slices: Vec::new(),
            slice,
        }
    }

    /// Returns the number of page views with an error.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.flaws.values().sum()
    }

    /// Returns the answered reads a second between two moments of the run, rounded to slices.
    #[must_use]
    pub fn reads_per_s(&self, from: Duration, to: Duration) -> u64 {
        let slices = self.slices(from, to);
        let micros = self.slice.as_micros() * slices.len() as u128;
        let reads: u64 = slices.iter().map(|slice| slice.reads).sum();
        u64::try_from(u128::from(reads) * 1_000_000 / micros.max(1)).unwrap_or(u64::MAX)
    }

    /// Returns the answered reads a second in the busiest slice.
    #[must_use]
    pub fn reads_per_s_peak(&self) -> u64 {
        let most = self.slices.iter().map(|slice| u128::from(slice.reads)).max().unwrap_or(0);
        u64::try_from(most * 1_000_000 / self.slice.as_micros().max(1)).unwrap_or(u64::MAX)
    }

    /// Returns the latency of the reads that were answered between two moments of the run.
    #[must_use]
    pub fn read_latency_between(&self, from: Duration, to: Duration) -> Histogram {
        let mut latency = Histogram::default();
        self.slices(from, to).iter().for_each(|slice| latency.merge(&slice.latency));
        latency
    }

    fn slices(&self, from: Duration, to: Duration) -> &[Slice] {
        let (first, end) = (self.index(from), self.index(to).min(self.slices.len()));
        self.slices.get(first..end).unwrap_or_default()
    }

    fn index(&self, at: Duration) -> usize {
        usize::try_from(at.as_micros() / self.slice.as_micros().max(1)).unwrap_or(usize::MAX)
    }

    pub(super) fn at(&mut self, at: Duration) -> &mut Slice {
        let index = self.index(at);
        if self.slices.len() <= index {
            self.slices.resize_with(index + 1, Slice::default);
        }
        &mut self.slices[index]
    }

    pub(crate) fn arrived(&mut self, at: Duration) {
        self.views += 1;
        self.at(at).arrived += 1;
    }

    pub(crate) fn read(&mut self, at: Duration, took: Duration, position: u64, age: u64) {
        self.reads += 1;
        self.read_latency.record(took);
        self.age_max = self.age_max.max(age);
        let slice = self.at(at);
        slice.reads += 1;
        slice.latency.record(took);
        slice.position = slice.position.max(Some(position));
    }

    pub(crate) fn flaw(&mut self, at: Duration, flaw: Flaw) {
        *self.flaws.entry(flaw).or_default() += 1;
        self.at(at).flaws += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_counted_as_a_whole_and_in_its_slice() {
        let ms = Duration::from_millis;
        let mut report = Report::new(ms(500));
        report.arrived(ms(499));
        report.read(ms(600), ms(101), 7, 2);
        report.read(ms(700), ms(1), 9, 0);
        report.flaw(ms(1_600), Flaw::Status(503));
        let counts: Vec<_> =
            report.slices.iter().map(|slice| (slice.arrived, slice.reads, slice.flaws)).collect();
        assert_eq!(counts, [(1, 0, 0), (0, 2, 0), (0, 0, 0), (0, 0, 1)]);
        assert_eq!(report.slices[1].position, Some(9));
        assert_eq!((report.views, report.reads, report.errors(), report.age_max), (1, 2, 1, 2));
        assert_eq!(report.reads_per_s(ms(500), ms(1_000)), 4);
        assert_eq!(report.reads_per_s(ms(0), ms(2_000)), 1);
        assert_eq!(report.reads_per_s_peak(), 4);
        assert_eq!(report.reads_per_s(ms(9_000), ms(9_500)), 0);
        assert_eq!(report.read_latency_between(ms(0), ms(9_000)).count(), 2);
        assert_eq!(Flaw::Status(503).to_string(), "status-503");
    }
}
