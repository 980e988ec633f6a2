//! What waits to be sent, by the sealing key that its receiver must have: what has to wait for one link keeps nothing back
//! that another one takes.

use std::collections::{BTreeMap, VecDeque};

use super::output::RequestId;
use crate::seal::KeyId;

/// Requests in order, those of each key by themselves; `None` is for requests that are not sealed.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// None of them empty.
    by_key: BTreeMap<Option<KeyId>, VecDeque<RequestId>>,
}

impl Queue {
    /// How many wait for each key.
    pub(super) fn lens(&self) -> impl Iterator<Item = (Option<KeyId>, usize)> {
        self.by_key.iter().map(|(key, ids)| (*key, ids.len()))
    }

    pub(super) fn push_back(&mut self, key: Option<KeyId>, id: RequestId) {
        self.by_key.entry(key).or_default().push_back(id);
    }

    pub(super) fn push_front(&mut self, key: Option<KeyId>, id: RequestId) {
        self.by_key.entry(key).or_default().push_front(id);
    }

    /// The first of each key.
    pub(super) fn fronts(&self) -> impl Iterator<Item = (Option<KeyId>, RequestId)> {
        self.by_key.iter().filter_map(|(key, ids)| Some((*key, *ids.front()?)))
    }

    /// The keys that something waits for.
    pub(super) fn keys(&self) -> Vec<KeyId> {
        self.by_key.keys().filter_map(|key| *key).collect()
    }

    /// Everything that is not sealed.
    pub(super) fn unsealed(&self) -> Vec<RequestId> {
        self.by_key.get(&None).into_iter().flatten().copied().collect()
    }

    /// Everything that waits for that key.
    pub(super) fn of_key(&self, key: KeyId) -> Vec<RequestId> {
        self.by_key.get(&Some(key)).into_iter().flatten().copied().collect()
    }

    pub(super) fn remove(&mut self, key: Option<KeyId>, id: RequestId) {
        let Some(ids) = self.by_key.get_mut(&key) else { return };
        // The first one is what goes most often: it is looked at first.
        if let Some(at) = ids.iter().position(|known| *known == id) {
            ids.remove(at);
        }
        if ids.is_empty() {
            self.by_key.remove(&key);
        }
    }
}
