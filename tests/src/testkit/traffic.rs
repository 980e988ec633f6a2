//! When page views and orders arrive: calm traffic, then the step of a launch and its decay.
//!
//! A [`Curve`] says how many times the calm rate is asked for, shaped by a real surge where the data is present; a
//! [`Course`] stretches it over the length of a run and draws the moments of arrival from a seed. Integers only: the
//! same seed is the same microsecond on every machine. `views` and `load` call at these moments whatever the answers
//! are.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How many times the calm rate a launch asks for at its peak.
pub const SURGE: u64 = 30;

/// Buckets of the data that stand for the calm before the step, and for the launch from the step on. Few for the
/// launch, so that its peak is not over in an instant of a run that takes seconds.
const BUCKETS_BEFORE: usize = 8;
const BUCKETS_AFTER: usize = 4;
/// The calm rate, as a curve counts.
const CALM: u64 = 1_000;

/// Levels of traffic in thousandths of the calm rate, equally far apart: a step from the calm to [`SURGE`] times it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    before: Vec<u64>,
    after: Vec<u64>,
}

/// Why a file gives no curve.
#[derive(Debug, thiserror::Error)]
pub enum CurveError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A row is not a time stamp and a count.
    #[error("{}: row {row} is not a time and a count", path.display())]
    Row {
        /// In which file.
        path: PathBuf,
        /// Which row after the header, from 1.
        row: usize,
    },
    /// Nowhere do the counts rise from a calm that is long enough.
    #[error("{}: no step from a calm to a surge", path.display())]
    NoStep {
        /// Which file.
        path: PathBuf,
    },
}

impl Curve {
    /// A surge of the usual shape: within a bucket to the peak, three quarters gone in the next.
    #[must_use]
    pub fn built_in() -> Curve {
        let counts = [58, 64, 61, 55, 66, 59, 62, 60, 1_800, 420, 210, 140];
        #[expect(clippy::expect_used, reason = "the counts above rise from 60 to 1,800, which a test holds")]
        Curve::around_the_step(&counts).expect("a step")
    }

    /// Reads a gzipped CSV of time stamps and counts, as those of the Numenta Anomaly Benchmark are.
    ///
    /// # Errors
    /// When it cannot be read or holds no step.
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

    /// The window around the highest rise between two neighbours; its peak is stretched to [`SURGE`] times the calm.
    fn around_the_step(counts: &[u64]) -> Option<Curve> {
        let rise = |step: &usize| counts[*step].saturating_sub(counts[*step - 1]);
        let steps = BUCKETS_BEFORE..counts.len().saturating_sub(BUCKETS_AFTER - 1);
        // Of equals the first.
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
    /// How long the calm takes; the launch begins at its end.
    pub calm: Duration,
    /// How long the launch takes.
    pub launch: Duration,
}

impl Course {
    /// Stretches `curve` over a calm and a launch.
    #[must_use]
    pub fn new(curve: Curve, calm: Duration, launch: Duration) -> Course {
        Course { curve, calm, launch }
    }

    /// From the first moment to the last.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.calm + self.launch
    }

    /// The level at a moment, in thousandths of the calm rate.
    #[must_use]
    pub fn level(&self, at: Duration) -> u64 {
        match at.checked_sub(self.calm) {
            None => between(&self.curve.before, at, self.calm),
            Some(since) => between(&self.curve.after, since, self.launch),
        }
    }

    /// The moments of all arrivals, sorted, when `calm_per_s` come each second of the calm.
    #[must_use]
    pub fn arrivals(&self, calm_per_s: u64, seed: u64) -> Vec<Duration> {
        let mass: u64 = self.levels().sum();
        self.moments(mass / CALM * calm_per_s / 1_000, seed)
    }

    /// `count` moments, sorted, as dense as the curve is high: a Poisson process of which the number is known.
    #[must_use]
    pub fn moments(&self, count: u64, seed: u64) -> Vec<Duration> {
        // The mass up to the end of each millisecond; a uniform draw from all of it falls where the curve is high.
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

    /// The level of each millisecond.
    fn levels(&self) -> impl Iterator<Item = u64> {
        let length = u64::try_from(self.length().as_millis()).unwrap_or(u64::MAX);
        (0..length).map(|ms| self.level(Duration::from_millis(ms)))
    }
}

/// The level at `at` when `levels` are spread over `length`: each is exact in the middle of its bucket, and what lies
/// between two middles is on a straight line.
fn between(levels: &[u64], at: Duration, length: Duration) -> u64 {
    let ([.., last], buckets) = (levels, levels.len() as u128) else { return 0 };
    // In thousandths of a bucket, counted from the middle of the first.
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
        // Of a Poisson process the share of gaps longer than the mean is 1/e; of even steps it is none.
        let flat = Curve { before: vec![CALM], after: vec![CALM] };
        let arrivals = course(flat).arrivals(1_000, 3);
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
