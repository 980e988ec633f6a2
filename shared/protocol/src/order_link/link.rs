//! State of one link in the sender: its lanes, its window, and the keys that its agent opens.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::credits::WritesOnLink;
use super::fair_share::{BrandIndex, FairShare};
use super::request::RequestClass;
use super::window_use::{LinkSlot, WindowUse};
use crate::domain::OrderId;
use crate::seal::KeyId;
use crate::wire::order::to_idc;

/// Sealing sessions remembered for each lane, so that each encapsulation travels once.
const SESSIONS_PER_LANE: usize = 16;

/// Part of a link's window, one in this many, that questions may take. The rest is left to writes.
const QUESTION_PART: usize = 8;

#[derive(Debug)]
pub(super) struct Link {
    /// Lanes of the link. Each has its next sequence number and the sessions whose encapsulation it
    /// has carried.
    pub(super) lanes: Vec<Lane>,
    /// Requests that the IDC agent accepts without an answer.
    window: usize,
    /// Part of these that is kept for brands with little in flight.
    reserve: usize,
    /// Requests on the link without an answer.
    pub(super) in_flight: usize,
    /// Number of these that are questions.
    questions: usize,
    /// Number of these questions of each brand; never 0.
    questions_of: HashMap<BrandIndex, usize>,
    /// Number of the writes of each brand.
    writes_of: Vec<BrandWrites>,
    /// Most writes of the brands for which its agent has a limit.
    granted: HashMap<BrandIndex, usize>,
    /// Its number in sets of links; `None` if there are too many links.
    slot: Option<LinkSlot>,
    /// True if the link takes new requests. It does not while the peer is silent or draining.
    pub(super) open: bool,
    /// Sealing keys that its agent opens.
    pub(super) keys: Vec<KeyId>,
    /// End of the time in which its agent counts as unable to commit, after it refused a request
    /// for that reason.
    pub(super) away_until: Option<Duration>,
    /// True if its agent reports that it takes no orders.
    pub(super) is_stopped: bool,
}

/// Writes of a brand on a link.
#[derive(Debug, Clone, Copy, Default)]
struct BrandWrites {
    /// Writes whose callers wait.
    waited_for: usize,
    /// Writes whose callers were told that the outcome is unknown.
    settling: usize,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) sequence: u64,
    sessions: VecDeque<Bytes>,
}

impl Link {
    /// Makes a link without keys, without a window and without limits of brands.
    pub(super) fn new(lanes: u8, slot: Option<LinkSlot>) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        Self {
            lanes,
            window: 0,
            reserve: 0,
            in_flight: 0,
            questions: 0,
            questions_of: HashMap::new(),
            writes_of: Vec::new(),
            granted: HashMap::new(),
            slot,
            open: true,
            keys: Vec::new(),
            away_until: None,
            is_stopped: false,
        }
    }

    /// Sets its window, and the part of it that is the reserve.
    pub(super) fn set_window(&mut self, window: usize, reserve: usize) {
        (self.window, self.reserve) = (window, reserve);
    }

    /// Returns the part of its window that is the reserve.
    pub(super) fn reserve(&self) -> usize {
        self.reserve
    }

    /// Returns its number in sets of links.
    pub(super) fn slot(&self) -> Option<LinkSlot> {
        self.slot
    }

    /// Replaces the limits of its agent: most writes of a brand. A brand that is not listed has
    /// none.
    pub(super) fn set_granted(&mut self, granted: HashMap<BrandIndex, usize>) -> HashMap<BrandIndex, usize> {
        std::mem::replace(&mut self.granted, granted)
    }

    /// Returns the most writes of a brand that its agent takes at a time, if there is such a limit.
    pub(super) fn granted_to(&self, brand: BrandIndex) -> Option<usize> {
        self.granted.get(&brand).copied()
    }

    /// Returns true if a brand has as many writes on the link as its agent grants it.
    pub(super) fn is_spent(&self, brand: BrandIndex) -> bool {
        let spent = || {
            let WritesOnLink { waited_for, settling } = self.writes(brand);
            waited_for as usize + settling as usize
        };
        self.granted_to(brand).is_some_and(|granted| spent() >= granted)
    }

    /// Returns the writes of a brand that count in its limit. Those that nobody waits for spend at
    /// most half of a grant, so they do not keep out all of the brand's new ones, however long they
    /// take. From one and a half grants on, each of them counts again: there are never more than
    /// two grants of writes.
    pub(super) fn writes(&self, brand: BrandIndex) -> WritesOnLink {
        let BrandWrites { waited_for, settling } = self.writes_of.get(brand.0).copied().unwrap_or_default();
        let spends = |granted: usize| {
            let half = granted / 2;
            settling.min(half) + settling.saturating_sub(granted.saturating_add(half))
        };
        let settling = self.granted_to(brand).map_or(settling, spends);
        let [waited_for, settling] =
            [waited_for, settling].map(|writes| u32::try_from(writes).unwrap_or(u32::MAX));
        WritesOnLink { waited_for, settling }
    }

    /// Returns true if it takes new requests, and its agent opens what is sealed to this key.
    pub(super) fn opens(&self, key: Option<KeyId>) -> bool {
        self.open && key.is_none_or(|key| self.keys.contains(&key))
    }

    /// Returns true if its agent accepts one more request of this class. `window_use` is what its
    /// brand may use.
    pub(super) fn has_room(&self, class: RequestClass, window_use: WindowUse) -> bool {
        let kept = if window_use.reserve { 0 } else { self.reserve };
        self.in_flight < self.window - kept
            && match class {
                RequestClass::Write => !self.slot.is_some_and(|slot| window_use.spent.contains(slot)),
                RequestClass::Question => self.questions < self.questions_max(),
            }
    }

    /// Returns the most questions that the queue sends on the link. One may always go, because a
    /// window may be as small as 1.
    pub(super) fn questions_max(&self) -> usize {
        (self.window / QUESTION_PART).max(1)
    }

    /// Returns true if its agent accepts a question that another agent has answered with "not
    /// found". Such a question cannot wait in the queue, which serves any link. So its brand's
    /// share of the questions' part lets it in although the part is full, until twice as many are
    /// on the link.
    pub(super) fn has_room_further(&self, brand: BrandIndex, share: FairShare) -> bool {
        let mine = self.questions_of.get(&brand).copied().unwrap_or(0);
        self.in_flight < self.window
            && self.questions < 2 * self.questions_max()
            && share.allows_one_more(mine)
    }

    /// Counts a request that is sent on the link. `is_waited_for` tells if a caller waits for it.
    pub(super) fn begin(&mut self, class: RequestClass, brand: BrandIndex, is_waited_for: bool) {
        self.in_flight += 1;
        match class {
            RequestClass::Write => {
                if self.writes_of.len() <= brand.0 {
                    self.writes_of.resize(brand.0 + 1, BrandWrites::default());
                }
                if let Some(writes) = self.writes_of.get_mut(brand.0) {
                    *writes.count(is_waited_for) += 1;
                }
            }
            RequestClass::Question => {
                self.questions += 1;
                *self.questions_of.entry(brand).or_default() += 1;
            }
        }
    }

    /// Takes that nobody waits any more for a write that is on the link.
    pub(super) fn caller_left(&mut self, brand: BrandIndex) {
        if let Some(writes) = self.writes_of.get_mut(brand.0) {
            writes.waited_for = writes.waited_for.saturating_sub(1);
            writes.settling += 1;
        }
    }

    /// Stops counting a request that was on the link. `is_waited_for` tells if a caller waits for
    /// it.
    pub(super) fn end(&mut self, class: RequestClass, brand: BrandIndex, is_waited_for: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match class {
            RequestClass::Write => {
                if let Some(writes) = self.writes_of.get_mut(brand.0) {
                    let count = writes.count(is_waited_for);
                    *count = count.saturating_sub(1);
                }
            }
            RequestClass::Question => {
                if let Entry::Occupied(mut of_brand) = self.questions_of.entry(brand) {
                    self.questions -= 1;
                    *of_brand.get_mut() -= 1;
                    if *of_brand.get() == 0 {
                        of_brand.remove();
                    }
                }
            }
        }
    }

    /// Returns true if its agent cannot commit: it says so, or a request was refused for that
    /// reason a moment ago.
    pub(super) fn is_away(&self, now: Duration) -> bool {
        self.is_stopped || self.away_until.is_some_and(|until| now < until)
    }

    /// Makes each lane carry encapsulations again.
    pub(super) fn forget_sessions(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.sessions.clear());
    }
}

impl BrandWrites {
    fn count(&mut self, is_waited_for: bool) -> &mut usize {
        if is_waited_for { &mut self.waited_for } else { &mut self.settling }
    }
}

impl Lane {
    /// Returns the request for this lane, without the encapsulation if the lane has carried it.
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

/// Returns the lane of an order. The random part of the id spreads orders over the lanes, and all
/// requests about one order take the same lane.
pub(super) fn lane_of(order: OrderId, lanes: usize) -> usize {
    usize::from(order.as_bytes()[15]) % lanes.max(1)
}
