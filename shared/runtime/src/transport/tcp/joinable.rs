//! Links whose peers dialled, and that their lanes may join.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge_protocol::audit::entry::Digest;
use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::wire::lane::LANES_MAX;
use bridge_protocol::wire::tcp::LinkKey;
use tokio::sync::mpsc;

use super::anchor::LinkState;
use crate::telemetry::metrics::RefusalReason;
use crate::transport::{LaneStream, Refusal, VerifiedPeer};

/// Lanes that may join a link. One more than a link has, so that the link itself refuses the first
/// one too many.
const JOINED_MAX: usize = LANES_MAX as usize + 1;

/// Register of these links; at most one entry for each anchor.
#[derive(Debug, Default)]
pub(super) struct JoinableLinks(Mutex<HashMap<LinkKey, JoinableLink>>);

#[derive(Debug)]
struct JoinableLink {
    peer: SpiffeId,
    certificate: Digest,
    state: Arc<LinkState>,
    lanes: mpsc::Sender<LaneStream>,
    /// At most [`JOINED_MAX`].
    joined: usize,
}

/// A link's entry. Dropping it removes the link.
#[derive(Debug)]
pub(super) struct Registered {
    links: Arc<JoinableLinks>,
    key: LinkKey,
}

impl JoinableLinks {
    /// Adds the link of an anchor. Returns its lanes as they join.
    pub(super) fn add(
        self: &Arc<Self>,
        key: LinkKey,
        peer: &VerifiedPeer,
        state: Arc<LinkState>,
    ) -> (Registered, mpsc::Receiver<LaneStream>) {
        let (lanes, joined) = mpsc::channel(JOINED_MAX);
        let (peer, certificate) = (peer.id().clone(), peer.certificate_digest());
        self.lock().insert(key, JoinableLink { peer, certificate, state, lanes, joined: 0 });
        (Registered { links: self.clone(), key }, joined)
    }

    /// Makes a lane of a connection, and gives it to its link.
    ///
    /// # Errors
    ///
    /// Fails if there is no such link, if it belongs to another peer, or if it has all its lanes.
    pub(super) fn join(
        &self,
        key: LinkKey,
        peer: &VerifiedPeer,
        lane: impl FnOnce(Arc<LinkState>) -> LaneStream,
    ) -> Result<(), Refusal> {
        let mut links = self.lock();
        let Some(link) = links.get_mut(&key) else {
            return Err(refusal(
                peer,
                "its lane names no link of this agent: the link has just ended, or something in between sends the \
                 connections of one link to several agents",
            ));
        };
        if link.peer != *peer.id() {
            let owner = &link.peer;
            return Err(refusal(peer, &format!("its lane names a link of {owner}, which is another agent")));
        }
        if link.certificate != peer.certificate_digest() {
            return Err(refusal(
                peer,
                "its lane has another certificate than its link: it was renewed meanwhile",
            ));
        }
        if link.joined >= JOINED_MAX {
            return Err(refusal(peer, "it opens more lanes than a link has"));
        }
        link.joined += 1;
        let lane = lane(link.state.clone());
        link.lanes.try_send(lane).map_err(|_| refusal(peer, "its link has just ended"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LinkKey, JoinableLink>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.links.lock().remove(&self.key);
    }
}

fn refusal(peer: &VerifiedPeer, sentence: &str) -> Refusal {
    Refusal { claimed: Some(peer.id().to_string()), ..Refusal::new(RefusalReason::Protocol, sentence) }
}
