//! What the sender knows of one link: its lanes, its room, and what its agent opens.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::OrderId;
use crate::seal::KeyId;
use crate::wire::order::to_idc;

/// Sealing sessions remembered a lane, so that an encapsulation travels once.
const SESSIONS_PER_LANE: usize = 16;

#[derive(Debug)]
pub(super) struct Link {
    /// One a lane: the next sequence number, and the sessions whose encapsulation the lane has carried.
    pub(super) lanes: Vec<Lane>,
    /// Requests the IDC accepts unanswered.
    pub(super) window: usize,
    /// Requests on it that are not answered.
    pub(super) in_flight: usize,
    /// Whether it takes new requests: not while the peer is silent or draining.
    pub(super) open: bool,
    /// The sealing keys that its agent opens.
    pub(super) keys: Vec<KeyId>,
    /// Until when it is taken to be unable to commit: it said so.
    pub(super) away_until: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) sequence: u64,
    sessions: VecDeque<Bytes>,
}

impl Link {
    /// A link without keys.
    pub(super) fn new(lanes: u8, window: u32) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        Self { lanes, window: window as usize, in_flight: 0, open: true, keys: Vec::new(), away_until: None }
    }

    /// Whether it has room for one more request, sealed to that key or not sealed.
    pub(super) fn takes(&self, key: Option<KeyId>) -> bool {
        self.open && self.has_room() && key.is_none_or(|key| self.keys.contains(&key))
    }

    /// Whether its agent accepts one more.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.window
    }

    /// Whether its agent said a moment ago that it cannot commit.
    pub(super) fn is_away(&self, now: Duration) -> bool {
        self.away_until.is_some_and(|until| now < until)
    }

    /// Has each lane carry encapsulations again.
    pub(super) fn forget_sessions(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.sessions.clear());
    }
}

impl Lane {
    /// The request as this lane needs it: without the encapsulation if the lane has carried it.
    pub(super) fn carry(&mut self, kind: &to_idc::Kind) -> to_idc::Kind {
        let mut kind = kind.clone();
        if let to_idc::Kind::Place(envelope) = &mut kind {
            if self.sessions.contains(&envelope.session) {
                envelope.encapsulation = Bytes::new();
            } else {
                if self.sessions.len() >= SESSIONS_PER_LANE {
                    self.sessions.pop_front();
                }
                self.sessions.push_back(envelope.session.clone());
            }
        }
        kind
    }
}

/// Orders are spread over the lanes by the random part of their id; all about one order takes one lane.
pub(super) fn lane_of(order: OrderId, lanes: usize) -> usize {
    usize::from(order.as_bytes()[15]) % lanes.max(1)
}
