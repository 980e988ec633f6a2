//! Reader of an agent's `/metrics`: the part of the OpenMetrics text format that reports need.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Buckets of a histogram, at one moment or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Upper bound of each bucket, in the order of the text, with the observations above the
    /// previous bound.
    pub counts: Vec<(String, u64)>,
}

impl Buckets {
    /// Reads the histogram `name` from the text, as the sum of all label sets.
    ///
    /// # Errors
    ///
    /// Fails if the text has no such histogram.
    pub fn read(text: &str, name: &str) -> Result<Buckets> {
        let prefix = format!("{name}_bucket{{");
        let mut bounds: Vec<String> = Vec::new();
        let mut cumulative: BTreeMap<&str, u64> = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(&prefix)) {
            let Some((labels, value)) = line.rsplit_once("} ") else { continue };
            let Some((_, bound)) = labels.split_once("le=\"") else { continue };
            let Some((bound, _)) = bound.split_once('"') else { continue };
            let Some(count) = value.split(' ').next().and_then(|count| count.parse::<u64>().ok()) else {
                continue;
            };
            if !cumulative.contains_key(bound) {
                bounds.push(bound.to_owned());
            }
            *cumulative.entry(bound).or_default() += count;
        }
        if bounds.is_empty() {
            bail!("the agent's /metrics has no histogram {name}");
        }
        let mut below = 0;
        let counts = bounds.into_iter().map(|bound| {
            let total = cumulative.get(bound.as_str()).copied().unwrap_or(below);
            let count = total.saturating_sub(below);
            below = total;
            (bound, count)
        });
        Ok(Buckets { counts: counts.collect() })
    }

    /// Returns the observations since `earlier`.
    #[must_use]
    pub fn since(mut self, earlier: &Buckets) -> Buckets {
        for ((_, count), (_, before)) in self.counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        self
    }

    /// Returns the number of observations.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}

/// Returns the sum of all samples with exactly this name, of a histogram or a counter, rounded to
/// millionths.
#[must_use]
pub fn millionths(text: &str, name: &str) -> u64 {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
        decimal_millionths(value.split(' ').next()?)
    });
    samples.sum()
}

/// Converts `0.0123` to 12,300. A number in scientific notation counts as nothing, because it is
/// very small or wrong.
fn decimal_millionths(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let decimals: String = decimals.chars().chain(std::iter::repeat('0')).take(6).collect();
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(decimals.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE batch histogram
batch_sum{db=\"a\"} 9.5
batch_count{db=\"a\"} 4
batch_bucket{le=\"1.0\",db=\"a\"} 1
batch_bucket{le=\"2.0\",db=\"a\"} 3
batch_bucket{le=\"+Inf\",db=\"a\"} 4
batch_bucket{le=\"1.0\",db=\"b\"} 10
batch_bucket{le=\"2.0\",db=\"b\"} 10
batch_bucket{le=\"+Inf\",db=\"b\"} 10
plain_total 7
# EOF
";

    #[test]
    fn buckets_are_told_apart_and_label_sets_added() {
        let buckets = Buckets::read(TEXT, "batch").expect("a histogram");
        let expected = [("1.0", 11), ("2.0", 2), ("+Inf", 1)].map(|(bound, count)| (bound.to_owned(), count));
        assert_eq!(buckets.counts, expected);
        assert_eq!(buckets.clone().since(&buckets).total(), 0);
        assert!(Buckets::read(TEXT, "bat").is_err());
    }

    #[test]
    fn samples_are_read_without_a_float() {
        assert_eq!(millionths(TEXT, "batch_sum"), 9_500_000);
        assert_eq!(millionths(TEXT, "plain_total"), 7_000_000);
        assert_eq!(millionths(TEXT, "missing"), 0);
        assert_eq!(decimal_millionths("0.0000129"), Some(12));
        assert_eq!(decimal_millionths("1.2e-7"), None);
    }
}
