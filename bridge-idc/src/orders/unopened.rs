//! Orders whose sealing session has to be decapsulated first: they wait here, and the work is handed out piece by piece.
//!
//! Sans-IO. A decapsulation is half a millisecond that a peer can ask for with every order. So it is done one at a time, the
//! links take turns, and what waits on one link is bounded: a peer that sends nothing but new sessions delays itself. A
//! request about an order that waits here waits behind it.

use std::collections::{HashMap, VecDeque};

use bridge_protocol::domain::OrderId;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{ReceivedOrder, Token};
use bridge_protocol::seal::SessionId;
use bridge_protocol::seal::opening::Encapsulated;
use bridge_protocol::seal::sealing::Header;

/// Sessions that may wait on one link: each serving thread of a cloud agent has one at a time.
pub const SESSIONS_WAITING_MAX: usize = 256;

/// A request that waits.
#[derive(Debug)]
pub enum HeldRequest {
    /// To be opened.
    Place(Token, Box<ReceivedOrder>),
    /// To be cancelled after that.
    Cancel(Token, Header),
}

/// What waits to be opened.
#[derive(Debug, Default)]
pub struct Unopened {
    /// Those on which something waits.
    links: HashMap<LinkId, LinkSessions>,
    /// Those with work that is not handed out, each once, the next one first.
    turns: VecDeque<LinkId>,
    /// Whether work is handed out that has not come back.
    under_way: bool,
    /// Where each order waits.
    orders: HashMap<OrderId, (LinkId, SessionId)>,
}

/// What waits on one link.
#[derive(Debug, Default)]
struct LinkSessions {
    /// Not handed out, oldest first.
    next: VecDeque<Encapsulated>,
    /// By the session that is needed, handed out or not; at most [`SESSIONS_WAITING_MAX`] sessions.
    held: HashMap<SessionId, Vec<HeldRequest>>,
}

impl Unopened {
    /// Nothing waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Orders that wait.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// Has an order wait for its session; false if too much waits on its link.
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

    /// Has a cancellation wait behind its order, if that waits here; gives it back if not.
    pub fn hold_behind(&mut self, token: Token, header: Header) -> Result<(), Header> {
        let place = self.orders.get(&header.order);
        let held = place.and_then(|(link, id)| self.links.get_mut(link)?.held.get_mut(id));
        match held {
            Some(held) => held.push(HeldRequest::Cancel(token, header)),
            None => return Err(header),
        }
        Ok(())
    }

    /// The next session to decapsulate; `None` while one is under way, or if there is none.
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

    /// The work has come back: who waited for it, in order. Nobody, if the link is gone.
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

    /// A link is gone, and so is what waited on it.
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
