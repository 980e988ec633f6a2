//! A row of the report: pairs of measurements of the baseline and of Bridge, taken in turns in one
//! run.
//!
//! Every figure is a whole number of thousandths of the row's unit, and ratios are in thousandths.
//! Only the report uses floats.

/// A figure in thousandths of the row's unit.
pub type Thousandths = u64;

/// One round: a figure of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Figure of the baseline.
    pub baseline: Thousandths,
    /// Figure of Bridge.
    pub bridge: Thousandths,
}

/// Quantile of all rounds that is the row's figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Middle {
    /// The median.
    Median,
    /// The 99th percentile.
    P99,
}

/// Target in the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Bridge takes at most this many thousandths of the baseline's figure.
    Ratio(u64),
    /// Bridge does at least this many thousandths of the baseline's figure.
    RatioAtLeast(u64),
    /// Bridge takes at most this, independently of the baseline.
    Bridge(Thousandths),
    /// Bridge does at least this, independently of the baseline.
    BridgeAtLeast(Thousandths),
}

/// Rule for the better of two figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Less is better, as with times.
    Less,
    /// More is better, as with rates.
    More,
}

/// All rounds at one load.
#[derive(Clone, Debug)]
pub struct AtLoad {
    /// Number of simultaneous connections or callers.
    pub load: usize,
    /// All rounds, in their order.
    pub pairs: Vec<Pair>,
}

/// The loads of both sides, and the best load of each.
#[derive(Clone, Debug)]
pub struct Loads {
    /// Unit of a load: connections or callers.
    pub of: &'static str,
    /// Rounds at each load.
    pub all: Vec<AtLoad>,
    /// Index of the baseline's best load.
    pub baseline: usize,
    /// Index of Bridge's best load.
    pub bridge: usize,
}

/// Lowest and highest figure of a range of rounds, both included.
pub(super) type Spread = (u64, u64);

/// One row of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name of the row. It stays the same from version to version.
    pub name: &'static str,
    /// Name of the baseline.
    pub against: &'static str,
    /// Unit of the figures.
    pub unit: String,
    /// Quantile of the rounds that is the row's figure.
    pub middle: Middle,
    /// All rounds, in their order.
    pub pairs: Vec<Pair>,
    /// Target in the design, if there is one.
    pub target: Option<Target>,
    /// The loads, if the bench has any.
    pub loads: Option<Loads>,
    /// Sentences about the row for people, such as the CPU time of each process.
    pub notes: Vec<String>,
}

impl Row {
    /// Makes a row whose figures are the medians of these rounds.
    pub(super) fn of_medians(
        name: &'static str,
        against: &'static str,
        unit: &str,
        pairs: Vec<Pair>,
        target: Option<Target>,
    ) -> Row {
        let (unit, middle) = (unit.to_owned(), Middle::Median);
        Row { name, against, unit, middle, pairs, target, loads: None, notes: Vec::new() }
    }

    /// Adds sentences about the row.
    pub(super) fn noting(mut self, notes: impl IntoIterator<Item = String>) -> Row {
        self.notes.extend(notes);
        self
    }

    /// Makes a row in which each side has the load with its best median.
    pub(super) fn at_best(
        name: &'static str,
        against: &'static str,
        unit: &str,
        (of, all): (&'static str, Vec<AtLoad>),
        better: Better,
        target: Option<Target>,
    ) -> Row {
        let best = |side: fn(&Pair) -> u64| {
            let median = |at: &&AtLoad| middle_of(&at.pairs, side);
            match better {
                Better::Less => all.iter().min_by_key(median),
                Better::More => all.iter().max_by_key(median),
            }
        };
        let (baseline, bridge) = (best(|pair| pair.baseline), best(|pair| pair.bridge));
        let rounds = |at: Option<&AtLoad>| at.map_or(Vec::new(), |at| at.pairs.clone());
        let both = rounds(baseline).into_iter().zip(rounds(bridge));
        let pairs = both.map(|(one, other)| Pair { baseline: one.baseline, bridge: other.bridge }).collect();
        let load = |at: Option<&AtLoad>| at.map_or(0, |at| at.load);
        let (baseline, bridge) = (load(baseline), load(bridge));
        let loads = Some(Loads { of, all, baseline, bridge });
        Row { loads, ..Row::of_medians(name, against, unit, pairs, target) }
    }

    /// Returns the baseline's figure.
    #[must_use]
    pub fn baseline(&self) -> Thousandths {
        quantile(&self.of(|pair| pair.baseline), self.middle.permille())
    }

    /// Returns Bridge's figure.
    #[must_use]
    pub fn bridge(&self) -> Thousandths {
        quantile(&self.of(|pair| pair.bridge), self.middle.permille())
    }

    /// Returns the ratio of Bridge's figure to the baseline's, in thousandths.
    #[must_use]
    pub fn ratio(&self) -> u64 {
        ratio(self.bridge(), self.baseline())
    }

    /// Returns the spread of each side's rounds: the middle half, or for a p99 the rounds from the
    /// median up.
    #[must_use]
    pub fn spreads(&self) -> (Spread, Spread) {
        (self.spread(|pair| pair.baseline), self.spread(|pair| pair.bridge))
    }

    /// Returns the spread of the rounds' own ratios. There is none for a p99, because it is not the
    /// figure of one round.
    #[must_use]
    pub fn ratio_spread(&self) -> Option<Spread> {
        match self.middle {
            Middle::Median => Some(self.spread(|pair| ratio(pair.bridge, pair.baseline))),
            Middle::P99 => None,
        }
    }

    /// Returns true if the target is reached, and [`None`] if there is no target.
    #[must_use]
    pub fn reached(&self) -> Option<bool> {
        self.target.map(|target| match target {
            Target::Ratio(most) => self.ratio() <= most,
            Target::RatioAtLeast(least) => self.ratio() >= least,
            Target::Bridge(most) => self.bridge() <= most,
            Target::BridgeAtLeast(least) => self.bridge() >= least,
        })
    }

    fn spread(&self, side: impl Fn(&Pair) -> u64) -> Spread {
        let values = self.of(side);
        let (from, to) = match self.middle {
            Middle::Median => (250, 750),
            Middle::P99 => (500, 1_000),
        };
        (quantile(&values, from), quantile(&values, to))
    }

    fn of(&self, side: impl Fn(&Pair) -> u64) -> Vec<u64> {
        self.pairs.iter().map(side).collect()
    }
}

impl Target {
    /// Returns the target as words, with `decimal` for its figure and the unit of the row.
    pub(super) fn said(self, unit: &str, decimal: impl Fn(u64) -> String) -> String {
        match self {
            Target::Ratio(most) => format!("at most {}", decimal(most)),
            Target::RatioAtLeast(least) => format!("at least {}", decimal(least)),
            Target::Bridge(most) => format!("Bridge at most {} {unit}", decimal(most)),
            Target::BridgeAtLeast(least) => format!("Bridge at least {} {unit}", decimal(least)),
        }
    }
}

impl AtLoad {
    /// Returns the medians of both sides and their ratio, in thousandths.
    pub(super) fn medians(&self) -> (Thousandths, Thousandths, u64) {
        let baseline = middle_of(&self.pairs, |pair| pair.baseline);
        let bridge = middle_of(&self.pairs, |pair| pair.bridge);
        (baseline, bridge, ratio(bridge, baseline))
    }
}

fn middle_of(pairs: &[Pair], side: impl Fn(&Pair) -> u64) -> u64 {
    quantile(&pairs.iter().map(side).collect::<Vec<_>>(), Middle::Median.permille())
}

impl Middle {
    fn permille(self) -> usize {
        match self {
            Middle::Median => 500,
            Middle::P99 => 990,
        }
    }
}

/// Returns the smallest value that `permille` of a thousand values do not exceed, or zero if there
/// are no values.
fn quantile(values: &[u64], permille: usize) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * permille).div_ceil(1_000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Returns the rounded ratio in thousandths, or zero if the baseline is zero.
fn ratio(bridge: u64, baseline: u64) -> u64 {
    let (bridge, baseline) = (u128::from(bridge), u128::from(baseline));
    let rounded = (bridge * 1_000 + baseline / 2).checked_div(baseline).unwrap_or(0);
    u64::try_from(rounded).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(middle: Middle, pairs: &[(u64, u64)]) -> Row {
        let pairs = pairs.iter().map(|(baseline, bridge)| Pair { baseline: *baseline, bridge: *bridge });
        let target = Some(Target::Ratio(450));
        Row {
            name: "r",
            against: "b",
            unit: "us".to_owned(),
            middle,
            pairs: pairs.collect(),
            target,
            loads: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_median_represents_a_row_with_its_middle_half_as_spread() {
        let row = row(
            Middle::Median,
            &[(30_000, 15_000), (36_000, 90_000), (35_000, 14_000), (10, 14_400), (37_000, 1)],
        );
        assert_eq!((row.baseline(), row.bridge(), row.ratio()), (35_000, 14_400, 411));
        assert_eq!(row.spreads(), ((30_000, 36_000), (14_000, 15_000)));
        assert_eq!(row.ratio_spread(), Some((400, 2_500)));
        assert_eq!(row.reached(), Some(true));
    }

    #[test]
    fn a_p99_is_over_all_rounds_and_its_spread_reaches_the_worst() {
        let pairs: Vec<_> = (1..=200).map(|value| (value, 2 * value)).collect();
        let row = row(Middle::P99, &pairs);
        assert_eq!((row.baseline(), row.bridge(), row.ratio()), (198, 396, 2_000));
        assert_eq!(row.spreads(), ((100, 200), (200, 400)));
        assert_eq!((row.ratio_spread(), row.reached()), (None, Some(false)));
    }

    #[test]
    fn nothing_measured_is_zero_and_no_division() {
        let row = row(Middle::Median, &[]);
        assert_eq!((row.baseline(), row.bridge(), row.ratio()), (0, 0, 0));
        assert_eq!(ratio(u64::MAX, 1), u64::MAX);
        assert_eq!(ratio(2, 3), 667);
    }

    #[test]
    fn each_side_stands_with_the_load_that_suits_it_best() {
        let at = |load, pairs: &[(u64, u64)]| {
            let pairs = pairs.iter().map(|(baseline, bridge)| Pair { baseline: *baseline, bridge: *bridge });
            AtLoad { load, pairs: pairs.collect() }
        };
        let all = vec![
            at(16, &[(30, 19), (31, 20), (32, 99)]),
            at(64, &[(40, 11), (1, 30), (41, 31)]),
            at(256, &[(50, 12), (51, 13), (2, 14)]),
        ];
        let row = Row::at_best("r", "b", "us", ("callers", all.clone()), Better::Less, None);
        let loads = row.loads.as_ref().expect("loads");
        assert_eq!((loads.baseline, loads.bridge), (16, 256));
        let pairs = [(30, 12), (31, 13), (32, 14)].map(|(baseline, bridge)| Pair { baseline, bridge });
        assert_eq!(row.pairs, pairs);
        assert_eq!(loads.all[1].medians(), (40, 30, 750));
        let most = Row::at_best("r", "b", "/s", ("callers", all), Better::More, None);
        let loads = most.loads.expect("loads");
        assert_eq!((loads.baseline, loads.bridge), (256, 64));
    }

    #[test]
    fn a_target_is_a_ratio_or_what_bridge_may_take_by_itself() {
        let mut row = row(Middle::Median, &[(1_000, 451)]);
        assert_eq!(row.reached(), Some(false));
        row.target = Some(Target::Bridge(451));
        assert_eq!(row.reached(), Some(true));
        row.target = Some(Target::BridgeAtLeast(451));
        assert_eq!(row.reached(), Some(true));
        row.target = Some(Target::BridgeAtLeast(452));
        assert_eq!(row.reached(), Some(false));
        row.target = Some(Target::RatioAtLeast(451));
        assert_eq!(row.reached(), Some(true));
        row.target = Some(Target::RatioAtLeast(452));
        assert_eq!(row.reached(), Some(false));
        row.target = None;
        assert_eq!(row.reached(), None);
    }
}
