//! Choice of the sealing key when several IDC agents have different keys.
//!
//! An envelope opens only at an agent that has its key. So a key that the agents of all links have
//! comes first, even if another one is newer. A new key is preferred after it has reached all
//! agents, in whatever order their manifests arrived.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::KeyId;
use super::manifest::SealingKey;

/// Returns the keys of all links in order of preference. `links` has the keys that each link's
/// agent opens.
///
/// The key that most links open comes first; among equals the newest, by the start of its validity.
pub fn by_preference(links: &[Vec<&SealingKey>]) -> Vec<SealingKey> {
    let mut known: BTreeMap<KeyId, (usize, &SealingKey)> = BTreeMap::new();
    for link in links {
        let named: BTreeMap<KeyId, &SealingKey> = link.iter().map(|key| (key.id, *key)).collect();
        for (id, key) in named {
            known.entry(id).or_insert((0, key)).0 += 1;
        }
    }
    let mut keys: Vec<(usize, &SealingKey)> = known.into_values().collect();
    keys.sort_by_key(|(reach, key)| Reverse((*reach, key.validity.not_before, key.id)));
    keys.into_iter().map(|(_, key)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UnixMicros;
    use crate::seal::manifest::Validity;
    use crate::seal::opening::OpeningKey;

    /// Returns a key that was made in this hour.
    fn made_at(hour: u8) -> SealingKey {
        let hours = |count: i64| UnixMicros::new(count * 3_600_000_000);
        let validity = Validity { not_before: hours(hour.into()), not_after: hours(2_000) };
        OpeningKey::new(&[hour; 32], validity).unwrap().sealing_key()
    }

    /// Returns the hours of the keys by preference. Each link's manifest lists keys of these hours,
    /// in its own order.
    fn preferred(links: &[&[u8]]) -> Vec<i64> {
        let keys: Vec<Vec<SealingKey>> =
            links.iter().map(|hours| hours.iter().map(|hour| made_at(*hour)).collect()).collect();
        let keys: Vec<Vec<&SealingKey>> = keys.iter().map(|keys| keys.iter().collect()).collect();
        let hours = |key: SealingKey| key.validity.not_before.get() / 3_600_000_000;
        by_preference(&keys).into_iter().map(hours).collect()
    }

    #[test]
    fn a_new_key_is_preferred_once_every_link_has_it() {
        assert_eq!(preferred(&[&[2, 1], &[1]]), [1, 2], "only one agent has key 2");
        assert_eq!(preferred(&[&[1], &[2, 1]]), [1, 2], "the order of the manifests does not matter");
        assert_eq!(preferred(&[&[2, 1], &[2, 1]]), [2, 1], "both agents have key 2");
        assert_eq!(
            preferred(&[&[1, 2], &[2, 1]]),
            [2, 1],
            "the age of a key decides, not its place in a manifest"
        );
    }

    #[test]
    fn a_key_that_an_agent_has_lost_is_not_preferred() {
        assert_eq!(preferred(&[&[2], &[2, 1]]), [2, 1]);
        assert_eq!(preferred(&[&[1], &[1, 2], &[1, 2]]), [1, 2]);
    }

    #[test]
    fn without_a_common_key_the_most_linked_then_newest_is_preferred() {
        assert_eq!(preferred(&[&[2], &[1]]), [2, 1]);
        assert_eq!(preferred(&[&[1], &[2], &[1]]), [1, 2]);
        assert_eq!(preferred(&[]), Vec::<i64>::new());
    }

    #[test]
    fn a_manifest_that_names_a_key_twice_counts_once() {
        assert_eq!(preferred(&[&[1, 1, 1, 2], &[2]]), [2, 1]);
    }
}
