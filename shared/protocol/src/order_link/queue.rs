//! Queue of requests to send, separated by the sealing key that the receiver needs. A request that
//! waits for one link does not block requests that another link takes.

use std::collections::{BTreeMap, VecDeque};

use super::output::RequestId;
use crate::seal::KeyId;

/// Requests in order, separately for each key. `None` is for requests that are not sealed.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Queues by key; none is empty.
    by_key: BTreeMap<Option<KeyId>, VecDeque<RequestId>>,
}

impl Queue {
    /// Returns the number of waiting requests for each key.
    pub(super) fn lens(&self) -> impl Iterator<Item = (Option<KeyId>, usize)> {
        self.by_key.iter().map(|(key, ids)| (*key, ids.len()))
    }

    pub(super) fn push_back(&mut self, key: Option<KeyId>, id: RequestId) {
        self.by_key.entry(key).or_default().push_back(id);
    }

    pub(super) fn push_front(&mut self, key: Option<KeyId>, id: RequestId) {
        self.by_key.entry(key).or_default().push_front(id);
    }

    /// Returns the first request of each key.
    pub(super) fn fronts(&self) -> impl Iterator<Item = (Option<KeyId>, RequestId)> {
        self.by_key.iter().filter_map(|(key, ids)| Some((*key, *ids.front()?)))
    }

    /// Returns the keys that requests wait for.
    pub(super) fn keys(&self) -> Vec<KeyId> {
        self.by_key.keys().filter_map(|key| *key).collect()
    }

    /// Returns all requests that are not sealed.
    pub(super) fn unsealed(&self) -> Vec<RequestId> {
        self.by_key.get(&None).into_iter().flatten().copied().collect()
    }

    /// Returns all requests that wait for this key.
    pub(super) fn of_key(&self, key: KeyId) -> Vec<RequestId> {
        self.by_key.get(&Some(key)).into_iter().flatten().copied().collect()
    }

    pub(super) fn remove(&mut self, key: Option<KeyId>, id: RequestId) {
        let Some(ids) = self.by_key.get_mut(&key) else { return };
        // The first request is removed most often, so the search starts there.
        if let Some(at) = ids.iter().position(|known| *known == id) {
            ids.remove(at);
        }
        if ids.is_empty() {
            self.by_key.remove(&key);
        }
    }
}
