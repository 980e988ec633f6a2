//! Arrival times of page views and orders: calm traffic, then the step of a launch and its decay.
//!
//! A [`Curve`] gives the load as a multiple of the calm rate. Its shape is that of a real surge if
//! the data is present. A [`Course`] stretches the curve over the length of a run and draws the
//! arrivals from a seed. All arithmetic is in integers, so the same seed gives the same
//! microseconds on every machine. `views` and `load` call at these moments, whatever the answers
//! are.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Peak rate of a launch, as a multiple of the calm rate.
pub const SURGE: u64 = 30;

/// Number of the data's buckets for the calm before the step, and for the launch from the step on.
/// The launch has few, so that its peak lasts long enough in a run of a few seconds.
const BUCKETS_BEFORE: usize = 8;
const BUCKETS_AFTER: usize = 4;
/// The calm rate in a curve's unit.
const CALM: u64 = 1_000;

/// Levels of traffic in thousandths of the calm rate, at equal intervals. A step leads from the
/// calm to [`SURGE`] times the calm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    before: Vec<u64>,
    after: Vec<u64>,
}

/// The reason why a file gives no curve.
#[derive(Debug, thiserror::Error)]
pub enum CurveError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A row is not a time stamp and a count.
    #[error("{}: row {row} is not a time and a count", path.display())]
    Row {
        /// Path of the file.
        path: PathBuf,
        /// Number of the row after the header, from 1.
        row: usize,
    },
    /// The counts have no rise after a long enough calm.
    #[error("{}: no step from a calm to a surge", path.display())]
    NoStep {
        /// Path of the file.
        path: PathBuf,
    },
}

impl Curve {
    /// Returns a surge of the usual shape: it reaches its peak within a bucket, and loses three
    /// quarters in the next.
    #[must_use]
    pub fn built_in() -> Curve {
        let counts = [58, 64, 61, 55, 66, 59, 62, 60, 1_800, 420, 210, 140];
        #[expect(clippy::expect_used, reason = "the counts above rise from 60 to 1,800, which a test holds")]
        Curve::around_the_step(&counts).expect("a step")
    }

    /// Returns the same level at all times, for a load without a launch.
    #[must_use]
    pub fn flat() -> Curve {
        Curve { before: vec![CALM], after: vec![CALM] }
    }

    /// Reads a gzipped CSV file of time stamps and counts, such as those of the Numenta Anomaly
    /// Benchmark.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or has no step.
    pub fn read(path: &Path) -> Result<Curve, CurveError> {
        let io = |source| CurveError::Io { path: path.to_owned(), source };
        let mut csv = csv::Reader::from_reader(GzDecoder::new(File::open(path).map_err(io)?));
        let mut counts = Vec::new();
        for record in csv.records() {
            let record = record.map_err(|error| io(error.into()))?;
            let count = record.get(1).and_then(|count| count.parse().ok());
            let row = counts.len() + 1;
            counts.push(count.ok_or_else(|| CurveError::Row { path: path.to_owned(), row })?);
        }
        Curve::around_the_step(&counts).ok_or_else(|| CurveError::NoStep { path: path.to_owned() })
    }

    /// Returns the window around the highest rise between two neighbours. The peak is stretched to
    /// [`SURGE`] times the calm.
    fn around_the_step(counts: &[u64]) -> Option<Curve> {
        let rise = |step: &usize| counts[*step].saturating_sub(counts[*step - 1]);
        let steps = BUCKETS_BEFORE..counts.len().saturating_sub(BUCKETS_AFTER - 1);
        // Of equal rises, the first one counts.
        let step = steps.rev().max_by_key(rise).filter(|step| rise(step) > 0)?;
        let (before, after) = (&counts[step - BUCKETS_BEFORE..step], &counts[step..step + BUCKETS_AFTER]);
        let mut sorted = before.to_vec();
        sorted.sort_unstable();
        let calm = sorted[BUCKETS_BEFORE / 2].max(1);
        let peak = counts[step].checked_sub(calm).filter(|above| *above > 0)?;
        let above_the_calm = (SURGE - 1) * CALM;
        Some(Curve {
            before: before.iter().map(|count| count * CALM / calm).collect(),
            after: after
                .iter()
                .map(|count| CALM + (count.saturating_sub(calm) * above_the_calm / peak).min(above_the_calm))
                .collect(),
        })
    }
}

/// A curve over the length of a run.
#[derive(Clone, Debug)]
pub struct Course {
    curve: Curve,
    /// Duration of the calm. The launch begins at its end.
    pub calm: Duration,
    /// Time for which the launch stays at its peak.
    pub held: Duration,
    /// Duration of the launch behind that.
    pub launch: Duration,
}

impl Course {
    /// Stretches `curve` over a calm and a launch.
    #[must_use]
    pub fn new(curve: Curve, calm: Duration, launch: Duration) -> Course {
        Course { curve, calm, held: Duration::ZERO, launch }
    }

    /// Adds a time for which the launch stays at its peak, between the calm and the rest of the
    /// launch.
    #[must_use]
    pub fn holding(self, held: Duration) -> Course {
        Course { held, ..self }
    }

    /// Returns the duration from the first moment to the last.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.calm + self.held + self.launch
    }

    /// Returns the level at a moment, in thousandths of the calm rate.
    #[must_use]
    pub fn level(&self, at: Duration) -> u64 {
        match at.checked_sub(self.calm) {
            None => between(&self.curve.before, at, self.calm),
            Some(since) => between(&self.curve.after, since.saturating_sub(self.held), self.launch),
        }
    }

    /// Returns the sorted moments of all arrivals, at `calm_per_s` arrivals a second in the calm.
    #[must_use]
    pub fn arrivals(&self, calm_per_s: u64, seed: u64) -> Vec<Duration> {
        let mass: u64 = self.levels().sum();
        self.moments(mass / CALM * calm_per_s / 1_000, seed)
    }

    /// Returns `count` sorted moments, as dense as the curve is high. They form a Poisson process
    /// with a known number of events.
    #[must_use]
    pub fn moments(&self, count: u64, seed: u64) -> Vec<Duration> {
        // The integral of the curve up to the end of each millisecond. A uniform draw from the
        // whole integral falls more often where the curve is high.
        let mut ends = Vec::new();
        let mass = self.levels().fold(0, |mass, level| {
            ends.push(mass + level);
            mass + level
        });
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let moment = |drawn: u64| {
            let slot = ends.partition_point(|end| *end <= drawn);
            let start = slot.checked_sub(1).map_or(0, |before| ends[before]);
            let level = ends[slot] - start;
            Duration::from_micros(slot as u64 * 1_000 + (drawn - start) * 1_000 / level)
        };
        let mut moments: Vec<_> = match mass {
            0 => Vec::new(),
            mass => (0..count).map(|_| moment(rng.random_range(0..mass))).collect(),
        };
        moments.sort_unstable();
        moments
    }

    /// Returns the level of each millisecond.
    fn levels(&self) -> impl Iterator<Item = u64> {
        let length = u64::try_from(self.length().as_millis()).unwrap_or(u64::MAX);
        (0..length).map(|ms| self.level(Duration::from_millis(ms)))
    }
}

/// Returns the level at `at` if `levels` are spread over `length`. Each level is exact in the
/// middle of its bucket. Between two middles the level is interpolated.
fn between(levels: &[u64], at: Duration, length: Duration) -> u64 {
    let ([.., last], buckets) = (levels, levels.len() as u128) else { return 0 };
    // In thousandths of a bucket, from the middle of the first.
    let place = (at.as_micros() * buckets * 1_000 / length.as_micros().max(1)).saturating_sub(500);
    let (Ok(bucket), Ok(part)) = (usize::try_from(place / 1_000), u64::try_from(place % 1_000)) else {
        return *last;
    };
    match levels.get(bucket..) {
        Some([here, next, ..]) => (here * (1_000 - part) + next * part) / 1_000,
        _ => *last,
    }
}

#[cfg(test)]
mod tests {
    use bridge_skips::{Lack, skipped};

    use super::*;

    fn course(curve: Curve) -> Course {
        Course::new(curve, Duration::from_secs(8), Duration::from_secs(12))
    }

    fn within(moments: &[Duration], from_ms: u64, to_ms: u64) -> usize {
        let range = Duration::from_millis(from_ms)..Duration::from_millis(to_ms);
        moments.iter().filter(|at| range.contains(*at)).count()
    }

    #[test]
    fn a_launch_jumps_to_thirty_times_the_calm_and_decays() {
        let course = course(Curve::built_in());
        let level = |ms| course.level(Duration::from_millis(ms));
        assert!((0..8_000).all(|ms| (900..=1_150).contains(&level(ms))), "the calm is calm");
        assert_eq!(level(8_000), SURGE * CALM);
        assert_eq!(level(9_400), SURGE * CALM, "the peak is not over at once");
        let decay: Vec<_> = (9_500..20_000).step_by(500).map(level).collect();
        assert!(decay.is_sorted_by(|earlier, later| earlier >= later), "{decay:?}");
        assert!((CALM..4 * CALM).contains(&level(19_999)));
    }

    #[test]
    fn arrivals_follow_the_curve_and_the_same_seed_is_the_same_microsecond() {
        let course = course(Curve::built_in());
        let arrivals = course.arrivals(100, 7);
        assert_eq!(arrivals, course.arrivals(100, 7));
        assert_ne!(arrivals, course.arrivals(100, 8));
        assert!(arrivals.is_sorted() && arrivals.iter().all(|at| *at < course.length()));
        let (calm, peak) = (within(&arrivals, 0, 8_000), within(&arrivals, 8_000, 9_000));
        assert!((700..900).contains(&calm), "{calm} in eight calm seconds");
        assert!((2_800..3_200).contains(&peak), "{peak} in the second of the peak");
    }

    #[test]
    fn a_held_launch_stays_at_its_peak_and_then_decays() {
        let held = course(Curve::built_in()).holding(Duration::from_secs(60));
        assert_eq!(held.length(), Duration::from_secs(80));
        assert!((8_000..68_000).step_by(500).all(|ms| held.level(Duration::from_millis(ms)) == SURGE * CALM));
        let other = course(Curve::built_in());
        for ms in (8_000..20_000).step_by(100) {
            let (at, later) = (Duration::from_millis(ms), Duration::from_millis(ms + 60_000));
            assert_eq!(held.level(later), other.level(at), "{ms}");
        }
    }

    #[test]
    fn the_requested_number_of_moments_follows_the_curve() {
        let course = course(Curve::built_in());
        let moments = course.moments(1_000, 1);
        assert_eq!(moments.len(), 1_000);
        assert!(within(&moments, 8_000, 20_000) > 900);
        let instant = Course::new(Curve::built_in(), Duration::ZERO, Duration::ZERO);
        assert!(instant.moments(10, 1).is_empty() && instant.arrivals(10, 1).is_empty());
    }

    #[test]
    fn gaps_between_arrivals_are_those_of_chance() {
        // In a Poisson process, a share of 1/e of the gaps is longer than the mean. With even steps
        // there would be none.
        let arrivals = course(Curve::flat()).arrivals(1_000, 3);
        let long = arrivals.windows(2).filter(|pair| pair[1] - pair[0] > Duration::from_millis(1)).count();
        assert_eq!(arrivals.len(), 20_000);
        assert!((7_000..7_700).contains(&long), "{long} of 20,000");
    }

    #[test]
    fn a_curve_is_cut_around_the_highest_step() {
        let quiet = [50, 50, 40, 60, 50, 50, 50, 50];
        let counts = [&[50, 90][..], &quiet, &[150, 100, 75, 20, 50, 100]].concat();
        let curve = Curve::around_the_step(&counts).expect("a step");
        assert_eq!(curve.before, [1_000, 1_000, 800, 1_200, 1_000, 1_000, 1_000, 1_000]);
        assert_eq!(curve.after, [30_000, 15_500, 8_250, 1_000]);
        assert_eq!(Curve::around_the_step(&[9; 40]), None);
        assert_eq!(Curve::around_the_step(&[1, 2, 3]), None);
    }

    #[test]
    fn the_real_surge_has_the_shape_that_is_built_in() {
        let path = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shared/data/traffic/event-surge-5min.csv.gz"
        ));
        if !path.is_file() {
            return skipped(Lack::Data, "the real surge is not on this machine");
        }
        let real = Curve::read(path).expect("readable");
        assert_eq!(real.after[0], SURGE * CALM);
        for (real, built_in) in real.after.iter().zip(Curve::built_in().after) {
            assert!(real.abs_diff(built_in) <= built_in / 3, "{real} is not like {built_in}");
        }
        assert!(real.before.iter().all(|level| (700..1_300).contains(level)), "{:?}", real.before);
    }

    #[test]
    fn a_file_without_counts_is_refused_with_its_row() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("surge.csv.gz");
        let file = File::create(&path).expect("create");
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        io::Write::write_all(
            &mut gzip,
            b"timestamp,value\n2015-03-11 20:57:53,60\n2015-03-11 21:02:53,many\n",
        )
        .and_then(|()| gzip.try_finish())
        .expect("write");
        assert!(Curve::read(&path).expect_err("no count").to_string().contains("row 2"));
        assert!(matches!(Curve::read(dir.path()), Err(CurveError::Io { .. })));
    }
}
