//! Queue of events for the tunnel's owner, bounded by number, and for each peer by bytes.
//!
//! A peer decides the size of its frames and the number of its links. Frames that the owner has not
//! taken yet count against that peer only. While its budget is used up, its lanes are not read, and
//! other peers are not delayed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::wire::frame::ORDER_FRAME_BYTES_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::event::TunnelEvent;

/// Events of all peers that the owner has not taken yet: more than the budgets of several peers
/// allow.
const EVENTS_MAX: usize = 8_192;

/// Bytes of a peer's frames that the owner has not taken yet: several of the largest frames.
const ROOM_BYTES: usize = 16 * ORDER_FRAME_BYTES_MAX;

/// Smallest size that a frame counts with, so that a budget allows at most a thousand frames.
const FRAME_BYTES_MIN: usize = 16 * 1024;

/// A frame's share of its peer's budget, returned when dropped.
pub(super) type Share = OwnedSemaphorePermit;

/// The owner's end of the queue.
#[derive(Debug)]
pub struct Events {
    waiting: mpsc::Receiver<QueuedEvent>,
    /// Empty except within [`Self::recv_many`].
    taken: Vec<QueuedEvent>,
}

#[derive(Debug)]
struct QueuedEvent {
    event: TunnelEvent,
    _share: Option<Share>,
}

/// The tunnel's end of the queue.
#[derive(Debug, Clone)]
pub(super) struct EventSender {
    events: mpsc::Sender<QueuedEvent>,
}

/// The owner is gone.
#[derive(Debug)]
pub(super) struct OwnerGone;

pub(super) fn channel() -> (EventSender, Events) {
    let (events, waiting) = mpsc::channel(EVENTS_MAX);
    (EventSender { events }, Events { waiting, taken: Vec::new() })
}

impl Events {
    /// Returns the next event, or `None` after the tunnel has ended. Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<TunnelEvent> {
        self.waiting.recv().await.map(|waiting| waiting.event)
    }

    /// Appends up to `max` events, and waits for the first one. Returns their number, or 0 after
    /// the tunnel has ended. Cancelling it loses nothing.
    pub async fn recv_many(&mut self, events: &mut Vec<TunnelEvent>, max: usize) -> usize {
        let taken = self.waiting.recv_many(&mut self.taken, max).await;
        events.extend(self.taken.drain(..).map(|waiting| waiting.event));
        taken
    }
}

impl EventSender {
    /// Sends an event with its share of the peer's budget.
    pub(super) async fn send(&self, event: TunnelEvent, share: Option<Share>) -> Result<(), OwnerGone> {
        self.events.send(QueuedEvent { event, _share: share }).await.map_err(|_| OwnerGone)
    }
}

/// One budget for each peer with links.
#[derive(Debug, Default)]
pub(super) struct PeerBudgets {
    peers: Mutex<HashMap<SpiffeId, Weak<Semaphore>>>,
}

/// The budget that all frames of a peer share.
#[derive(Debug, Clone)]
pub(super) struct PeerBudget {
    free: Arc<Semaphore>,
}

impl PeerBudgets {
    /// Returns the budget of a peer, the same for all its links.
    pub(super) fn of(&self, peer: &SpiffeId) -> PeerBudget {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = peers.get(peer).and_then(Weak::upgrade) {
            return PeerBudget { free };
        }
        peers.retain(|_, free| free.strong_count() > 0);
        let free = Arc::new(Semaphore::new(ROOM_BYTES));
        peers.insert(peer.clone(), Arc::downgrade(&free));
        PeerBudget { free }
    }
}

impl PeerBudget {
    /// Waits for the share of a frame of this size, at most [`ORDER_FRAME_BYTES_MAX`].
    pub(super) async fn share(&self, bytes: usize) -> Option<Share> {
        let bytes = u32::try_from(bytes.clamp(FRAME_BYTES_MIN, ROOM_BYTES)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        self.free.clone().acquire_many_owned(bytes).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;

    use super::*;
    use crate::tunnel::LinkId;

    fn peer(name: &str) -> SpiffeId {
        format!("spiffe://bridge.test/cloud/{name}").parse().unwrap()
    }

    /// Returns the result of a future if it is ready at once.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn frame() -> TunnelEvent {
        TunnelEvent::Frame { link: LinkId(1), lane: 0, payload: Bytes::new() }
    }

    #[test]
    fn a_peers_frames_wait_by_bytes_without_delaying_another_peer() {
        let (rooms, (sender, mut events)) = (PeerBudgets::default(), channel());
        let (hostile, other) = (rooms.of(&peer("hostile")), rooms.of(&peer("other")));
        let mut sent = 0;
        while let Some(share) = now(hostile.share(ORDER_FRAME_BYTES_MAX)) {
            now(sender.send(frame(), share)).unwrap().unwrap();
            sent += 1;
        }
        assert_eq!(sent, ROOM_BYTES / ORDER_FRAME_BYTES_MAX);
        assert!(
            now(rooms.of(&peer("hostile")).share(1)).is_none(),
            "another link of the peer has a room of its own"
        );
        assert!(now(other.share(ORDER_FRAME_BYTES_MAX)).is_some());
        assert!(now(events.recv()).is_some());
        assert!(
            now(hostile.share(ORDER_FRAME_BYTES_MAX)).is_some(),
            "room is not freed by what the owner took"
        );
    }

    #[test]
    fn small_frames_are_bounded_by_their_number() {
        let (rooms, mut shares) = (PeerBudgets::default(), Vec::new());
        let room = rooms.of(&peer("a"));
        while let Some(share) = now(room.share(1)) {
            shares.push(share);
        }
        assert_eq!(shares.len(), ROOM_BYTES / FRAME_BYTES_MIN);
        drop((room, shares));
        drop(rooms.of(&peer("b")));
        assert_eq!(rooms.peers.lock().unwrap().len(), 1, "a peer without a link has a room");
    }

    #[test]
    fn many_events_are_taken_at_once_and_make_room_at_once() {
        let (rooms, (sender, mut events)) = (PeerBudgets::default(), channel());
        let room = rooms.of(&peer("a"));
        for _ in 0..3 {
            now(sender.send(frame(), now(room.share(ROOM_BYTES / 4)).unwrap())).unwrap().unwrap();
        }
        let mut taken = Vec::new();
        assert_eq!(now(events.recv_many(&mut taken, 2)), Some(2));
        assert_eq!(taken.len(), 2);
        assert!(now(room.share(ROOM_BYTES / 2)).is_some());
    }
}
