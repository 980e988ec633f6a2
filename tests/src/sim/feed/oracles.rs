//! Checks of the feed. Served rows are never older than their position or their age says. A replica
//! reports drift only if there is drift. After the last fault, every replica becomes equal to the
//! source.

use std::time::Duration;

use bridge_protocol::domain::catalogue::EntityKey;
use bridge_protocol::feed::sums::bucket;

use super::source::sums;
use super::{World, note};

/// The promise that all these checks belong to: the catalogue answers, and shows its age.
const PROMISE: &str = "P6";

impl World {
    /// Checks that each served row was the source's at that moment or later.
    pub(super) fn check_fresh(&mut self, index: usize, at: Duration) {
        let older = self.older(index, |_| Some(at));
        if let Some(key) = older {
            note!(self, "{}", self.story_of(index, &key));
            let what =
                format!("replica {index} says that it was equal {:?} ago: {key} is older", self.now - at);
            self.violate(PROMISE, what);
        }
    }

    /// Checks that the served rows have every change up to the position, and only values that the
    /// source had.
    pub(super) fn check_position(&mut self, index: usize) {
        let Some(position) = self.replicas[index].subscriber.position() else { return };
        let older = self.older(index, |key| Some(self.source.numbered(key, position).unwrap_or_default()));
        if let Some(key) = older {
            note!(self, "{}", self.story_of(index, &key));
            self.violate(PROMISE, format!("replica {index} says that it is at {position}: {key} is older"));
        }
    }

    /// Returns a key whose served value the source did not have at any moment from `since` on.
    fn older(&self, index: usize, since: impl Fn(&EntityKey) -> Option<Duration>) -> Option<EntityKey> {
        let replica = &self.replicas[index];
        let foreign = replica.rows.keys().find(|key| !self.brands.contains(&key.brand));
        let mut asked = self.source.keys().filter(|key| self.brands.contains(&key.brand));
        let older = asked.find(|key| {
            !replica.planted.contains(key)
                && since(key).is_some_and(|since| !self.source.had(key, replica.rows.get(key), since))
        });
        foreign.or(older).cloned()
    }

    /// Describes the served value of a key beside the source's values.
    fn story_of(&self, index: usize, key: &EntityKey) -> String {
        format!("{:?} is served, {}", self.replicas[index].rows.get(key), self.source.told(key))
    }

    pub(super) fn check_drifted(&mut self, index: usize, buckets: &[usize]) {
        let planted: Vec<usize> = self.replicas[index].planted.iter().map(bucket).collect();
        note!(self, "replica {index} is drifted");
        self.counts.drifts_found += 1;
        if buckets.iter().any(|one| !planted.contains(one)) {
            self.violate(PROMISE, format!("replica {index} finds itself drifted and is not"));
        }
    }

    /// Returns true if every replica is equal to the source, and has confirmed it.
    pub(super) fn is_settled(&self) -> bool {
        let wanted = self.source.sums(&self.brands);
        let of_brands = || self.source.kept.rows.iter().filter(|(key, _)| self.brands.contains(&key.brand));
        self.replicas.iter().all(|replica| {
            replica.up
                && replica.fresh_at > self.healed_at
                && replica.subscriber.position() == Some(self.source.kept.last)
                && replica.rows.iter().eq(of_brands())
                && sums(replica.rows.iter()) == wanted
        })
    }

    pub(super) fn check_end(&mut self) {
        if self.violation.is_none() && !self.is_settled() {
            self.violate(PROMISE, "a replica does not become equal to the source".to_owned());
        }
    }
}
