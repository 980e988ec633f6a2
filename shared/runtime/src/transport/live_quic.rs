//! Links over QUIC that peers dialled, by their keys, so that a link over TCP can end one that it
//! replaces.
//!
//! A firewall that begins to drop UDP leaves a link over QUIC that looks alive on this side until
//! its idle timeout, and requests would wait on it. The dialler notices sooner, and says so over
//! TCP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::wire::tcp::LinkKey;

/// Register of these links; at most one entry for each. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct LiveQuicLinks(Arc<Mutex<HashMap<LinkKey, LiveLink>>>);

#[derive(Debug)]
struct LiveLink {
    peer: SpiffeId,
    connection: quinn::Connection,
}

/// A link's entry. Dropping it removes the link.
#[derive(Debug)]
pub(super) struct LiveQuicLink {
    links: LiveQuicLinks,
    key: LinkKey,
}

impl LiveQuicLinks {
    /// Adds a link of a peer.
    pub(super) fn add(&self, key: LinkKey, peer: SpiffeId, connection: quinn::Connection) -> LiveQuicLink {
        self.lock().insert(key, LiveLink { peer, connection });
        LiveQuicLink { links: self.clone(), key }
    }

    /// Returns the link with this key, if it is this peer's.
    pub(super) fn of(&self, key: LinkKey, peer: &SpiffeId) -> Option<quinn::Connection> {
        self.lock().get(&key).filter(|link| link.peer == *peer).map(|link| link.connection.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LinkKey, LiveLink>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LiveQuicLink {
    fn drop(&mut self) {
        self.links.lock().remove(&self.key);
    }
}
