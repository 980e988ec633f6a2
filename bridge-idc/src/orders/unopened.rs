//! Orders that wait here until their sealing session is decapsulated.
//!
//! Sans-IO. A decapsulation takes half a millisecond, and a peer can cause one with every order. So
//! only one runs at a time, the links take turns, and the number of waiting sessions of each link
//! is bounded. A peer that sends nothing but new sessions delays only itself. A cancellation of a
//! waiting order waits behind it.

use std::collections::{HashMap, VecDeque};

use bridge_protocol::domain::OrderId;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{ReceivedOrder, Token};
use bridge_protocol::seal::SessionId;
use bridge_protocol::seal::opening::Encapsulated;
use bridge_protocol::seal::sealing::Header;

/// Most sessions that may wait on one link. Each serving thread of a cloud agent has one at a time.
pub const SESSIONS_WAITING_MAX: usize = 256;

/// A request that waits.
#[derive(Debug)]
pub enum HeldRequest {
    /// An order to open.
    Place(Token, Box<ReceivedOrder>),
    /// A cancellation of an order that waits before it.
    Cancel(Token, Header),
}

/// All requests that wait for a decapsulation.
#[derive(Debug, Default)]
pub struct Unopened {
    /// Links with waiting requests.
    links: HashMap<LinkId, LinkSessions>,
    /// Links with sessions to decapsulate, each once, in the order of their turns.
    turns: VecDeque<LinkId>,
    /// True while a decapsulation runs.
    under_way: bool,
    /// Link and session that each order waits for.
    orders: HashMap<OrderId, (LinkId, SessionId)>,
}

/// Requests and sessions that wait on one link.
#[derive(Debug, Default)]
struct LinkSessions {
    /// Sessions to decapsulate, oldest first.
    next: VecDeque<Encapsulated>,
    /// Requests by the session that they need; at most [`SESSIONS_WAITING_MAX`] sessions, including
    /// the one that is being decapsulated.
    held: HashMap<SessionId, Vec<HeldRequest>>,
}

impl Unopened {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of orders that wait.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Returns true if no order waits.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// Adds an order that waits for its session. Returns false if too many sessions wait on its
    /// link.
    #[must_use]
    pub fn hold(
        &mut self,
        link: LinkId,
        session: Encapsulated,
        token: Token,
        received: Box<ReceivedOrder>,
    ) -> bool {
        let (id, order) = (session.id(), received.header().order);
        let waiting = self.links.entry(link).or_default();
        if !waiting.held.contains_key(&id) {
            if waiting.held.len() >= SESSIONS_WAITING_MAX {
                return false;
            }
            if waiting.next.is_empty() {
                self.turns.push_back(link);
            }
            waiting.next.push_back(session);
        }
        waiting.held.entry(id).or_default().push(HeldRequest::Place(token, received));
        self.orders.insert(order, (link, id));
        true
    }

    /// Adds a cancellation behind its order.
    ///
    /// # Errors
    ///
    /// Returns the header if the order does not wait here.
    pub fn hold_behind(&mut self, token: Token, header: Header) -> Result<(), Header> {
        let place = self.orders.get(&header.order);
        let held = place.and_then(|(link, id)| self.links.get_mut(link)?.held.get_mut(id));
        match held {
            Some(held) => held.push(HeldRequest::Cancel(token, header)),
            None => return Err(header),
        }
        Ok(())
    }

    /// Returns the next session to decapsulate. Returns `None` while a decapsulation runs, or if no
    /// session waits.
    pub fn poll_work(&mut self) -> Option<(LinkId, Encapsulated)> {
        if self.under_way {
            return None;
        }
        let link = self.turns.pop_front()?;
        let next = &mut self.links.get_mut(&link)?.next;
        let session = next.pop_front()?;
        if !next.is_empty() {
            self.turns.push_back(link);
        }
        self.under_way = true;
        Some((link, session))
    }

    /// Takes the end of a decapsulation. Returns the requests that waited for it, in order. If the
    /// link is gone, no request waits.
    pub fn handle_done(&mut self, link: LinkId, session: SessionId) -> Vec<HeldRequest> {
        self.under_way = false;
        let Some(waiting) = self.links.get_mut(&link) else { return Vec::new() };
        let held = waiting.held.remove(&session).unwrap_or_default();
        if waiting.held.is_empty() {
            self.links.remove(&link);
        }
        self.forget(&held, |place| place == (link, session));
        held
    }

    /// Forgets a link. Returns the requests that waited on it.
    pub fn handle_link_down(&mut self, link: LinkId) -> Vec<HeldRequest> {
        self.turns.retain(|known| *known != link);
        let Some(waiting) = self.links.remove(&link) else { return Vec::new() };
        let held: Vec<_> = waiting.held.into_values().flatten().collect();
        self.forget(&held, |(of, _)| of == link);
        held
    }

    fn forget(&mut self, held: &[HeldRequest], waited: impl Fn((LinkId, SessionId)) -> bool) {
        for held in held {
            if let HeldRequest::Place(_, received) = held
                && self.orders.get(&received.header().order).is_some_and(|place| waited(*place))
            {
                self.orders.remove(&received.header().order);
            }
        }
    }
}

#[cfg(test)]
mod tests;
