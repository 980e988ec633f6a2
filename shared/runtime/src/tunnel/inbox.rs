//! Events on their way to the owner: bounded by their number, and for each peer by bytes.
//!
//! A peer decides how large its frames are and how many links it has. What of them nobody has taken yet is held against
//! that peer alone: while its room is full its lanes are not read, and no other peer's are any slower.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::wire::frame::ORDER_FRAME_BYTES_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::event::TunnelEvent;

/// Events that the owner has not taken yet, of all peers together: more than the rooms of some peers hold.
const EVENTS_MAX: usize = 8_192;

/// Bytes of a peer's frames that the owner has not taken yet: several of the largest.
const ROOM_BYTES: usize = 16 * ORDER_FRAME_BYTES_MAX;

/// The least that a frame takes up, so that a room holds a thousand of them at most.
const FRAME_BYTES_MIN: usize = 16 * 1024;

/// A frame's share of its peer's room; given back when it is dropped.
pub(super) type Share = OwnedSemaphorePermit;

/// The owner's end.
#[derive(Debug)]
pub struct Events {
    waiting: mpsc::Receiver<QueuedEvent>,
    /// Empty but within [`Self::recv_many`].
    taken: Vec<QueuedEvent>,
}

#[derive(Debug)]
struct QueuedEvent {
    event: TunnelEvent,
    _share: Option<Share>,
}

/// The tunnel's end.
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
    /// The next event; `None` once the tunnel has ended. Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<TunnelEvent> {
        self.waiting.recv().await.map(|waiting| waiting.event)
    }

    /// Appends up to `max` events, waiting for the first one; how many. 0 once the tunnel has ended. Cancelling it loses
    /// nothing.
    pub async fn recv_many(&mut self, events: &mut Vec<TunnelEvent>, max: usize) -> usize {
        let taken = self.waiting.recv_many(&mut self.taken, max).await;
        events.extend(self.taken.drain(..).map(|waiting| waiting.event));
        taken
    }
}

impl EventSender {
    /// Tells the owner, with what the event takes up of its peer's room.
    pub(super) async fn send(&self, event: TunnelEvent, share: Option<Share>) -> Result<(), OwnerGone> {
        self.events.send(QueuedEvent { event, _share: share }).await.map_err(|_| OwnerGone)
    }
}

/// One room for each peer that has links.
#[derive(Debug, Default)]
pub(super) struct PeerBudgets {
    peers: Mutex<HashMap<SpiffeId, Weak<Semaphore>>>,
}

/// What a peer's frames share.
#[derive(Debug, Clone)]
pub(super) struct PeerBudget {
    free: Arc<Semaphore>,
}

impl PeerBudgets {
    /// The room of a peer, whichever of its links asks.
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
    /// Waits until a frame of so many bytes, at most [`ORDER_FRAME_BYTES_MAX`], has its share.
    pub(super) async fn share(&self, bytes: usize) -> Option<Share> {
        let bytes = u32::try_from(bytes.clamp(FRAME_BYTES_MIN, ROOM_BYTES)).unwrap_or(u32::MAX);
        // Nobody closes it.
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

    /// What a future comes to without waiting.
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
        assert!(now(rooms.of(&peer("hostile")).share(1)).is_none(), "another link of it has the same room");
        assert!(now(other.share(ORDER_FRAME_BYTES_MAX)).is_some());
        assert!(now(events.recv()).is_some());
        assert!(now(hostile.share(ORDER_FRAME_BYTES_MAX)).is_some(), "what the owner took makes room");
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
        assert_eq!(rooms.peers.lock().unwrap().len(), 1, "who has no link has no room");
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
