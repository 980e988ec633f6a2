//! The IDC agent's side of the order link: takes each request once, and remembers the links that
//! wait for its answer.
//!
//! It keeps only pending requests. The ledger guarantees that a key has one effect. The receiver
//! only prevents duplicates from costing work twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use bytes::Bytes;

use super::LinkId;
use super::shares::{self, Shares};
use crate::domain::{Brand, KeyDigest, Money, OrderId, PaymentId};
use crate::seal::sealing::Header;
use crate::wire::order::{Ask, Cancel, Envelope, Refusal, ToCloud, ToIdc, to_cloud, to_idc};
use crate::wire::payment::{AskPayment, PayOrder, RefundPayment};

/// Most bytes of pending orders: enough for a hundred thousand ordinary ones. It holds whatever the
/// window is.
const BYTES_MAX: usize = 128 * 1024 * 1024;

/// Id of one pending request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

/// A sealed order as it was received. Only [`Receiver`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedOrder {
    header: Header,
    envelope: Envelope,
}

impl ReceivedOrder {
    /// Returns the order's brand, id and key.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the sealed envelope.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// A request to work on.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// Commit this order.
    Place(Box<ReceivedOrder>),
    /// Cancel the order that the header names, under the header's key.
    Cancel(Header),
    /// Look up an order.
    Ask {
        /// Brand of the order.
        brand: Brand,
        /// The order's id, as the caller knows it.
        order: OrderId,
        /// The order's idempotency key, if the caller knows it.
        key: Option<KeyDigest>,
    },
    /// Charge for an order.
    Pay(Box<PayOrder>),
    /// Refund a payment.
    Refund(Box<RefundPayment>),
    /// Look up a payment.
    AskPayment {
        /// Brand of the order.
        brand: Brand,
        /// The order's id.
        order: OrderId,
        /// The payment's id, as the caller knows it.
        payment: PaymentId,
        /// The payment's idempotency key, if the caller knows it.
        key: Option<KeyDigest>,
    },
}

/// Result of taking a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// Work on this and answer the token.
    Deliver(Token, Delivery),
    /// Nothing to do. The same request is pending, and its answer will serve both; or the frame
    /// came twice.
    Duplicate,
    /// Send this back.
    Answer(Reply),
}

/// A message for one lane of one link.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The link.
    pub link: LinkId,
    /// Index among the lanes of this receiver.
    pub lane: u8,
    /// The message.
    pub message: ToCloud,
}

/// The receiver's state.
#[derive(Debug)]
pub struct Receiver {
    /// Pending requests. A request above the limit is refused before any work.
    window: Shares,
    /// Bytes of the pending requests.
    bytes: Shares,
    next_token: u64,
    /// Present time, as [`Receiver::set_time`] has it.
    now: Duration,
    /// Links to answer, by token; at most as many tokens as the window.
    waiting: HashMap<Token, PendingRequest>,
    /// Pending writes.
    writes: HashMap<WriteId, Token>,
    /// Number of pending writes by order and by key; never 0.
    written: HashMap<WriteLookup, usize>,
    /// Last sequence number that was taken on each lane of each link.
    sequences: HashMap<(LinkId, u8), u64>,
}

/// Identity of a write: everything that it asks for.
///
/// The ledger decides if a key was used for another request. So a cancellation under the key that
/// placed the order is another write, and so is a payment of another amount.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WriteId {
    asked: WriteContent,
    key: KeyDigest,
    order: OrderId,
}

/// The content of a write without the attempt's id, because every attempt has a new one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum WriteContent {
    /// The order's id and its sealed content belong to one attempt.
    Place,
    Cancel,
    Pay {
        amount: Money,
        payment_key: Box<str>,
    },
    Refund {
        payment: PaymentId,
        amount: Money,
        reason: Box<str>,
    },
}

/// Ways to find a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum WriteLookup {
    Order(OrderId),
    Key(KeyDigest),
}

#[derive(Debug)]
struct PendingRequest {
    write: Option<WriteId>,
    askers: Vec<Asker>,
    /// Link whose share of the window and of the bytes the request uses: the one it came on first.
    link: LinkId,
    bytes: usize,
    /// Time until which the write may take effect, the latest of its frames; `None` if the first
    /// one did not say.
    until: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Asker {
    link: LinkId,
    lane: u8,
    request: u64,
    /// True if its frame said how long its caller waits.
    is_timed: bool,
}

impl Receiver {
    /// Returns the part of a window that one link may use while no other link uses any. The link's
    /// peer is told this number.
    pub const fn window_of_a_link(window_max: usize) -> usize {
        shares::alone(window_max)
    }

    /// Makes a receiver that works on at most `window_max` requests at a time.
    pub fn new(window_max: usize) -> Self {
        Self {
            window: Shares::new(window_max),
            bytes: Shares::new(BYTES_MAX),
            next_token: 0,
            now: Duration::ZERO,
            waiting: HashMap::new(),
            writes: HashMap::new(),
            written: HashMap::new(),
            sequences: HashMap::new(),
        }
    }

    /// Sets the present time, by a clock that never steps back. The times that frames name count
    /// from it.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Returns the present time, as [`Self::set_time`] has it.
    pub fn time(&self) -> Duration {
        self.now
    }

    /// Returns the time until which a request may take effect, by the clock of
    /// [`Self::set_time`]. Returns `None` if nobody knows.
    pub fn until(&self, token: Token) -> Option<Duration> {
        self.waiting.get(&token)?.until
    }

    /// Returns true if the caller of a request no longer waits.
    pub fn is_late(&self, token: Token) -> bool {
        self.until(token).is_some_and(|until| until <= self.now)
    }

    /// Returns the number of pending requests.
    pub fn under_way(&self) -> usize {
        self.waiting.len()
    }

    /// Returns true if a write for this order or under this key is pending.
    pub fn is_writing(&self, order: OrderId, key: Option<KeyDigest>) -> bool {
        let is_written = |written| self.written.contains_key(&written);
        is_written(WriteLookup::Order(order)) || key.is_some_and(|key| is_written(WriteLookup::Key(key)))
    }

    /// Returns the number of pending writes for this order.
    pub fn writes_of(&self, order: OrderId) -> usize {
        self.written.get(&WriteLookup::Order(order)).copied().unwrap_or_default()
    }

    /// Takes one message of one lane.
    pub fn handle_message(&mut self, link: LinkId, lane: u8, message: ToIdc) -> Received {
        let last = self.sequences.entry((link, lane)).or_default();
        if message.sequence <= *last {
            return Received::Duplicate;
        }
        *last = message.sequence;
        let remaining = message.remaining_millis.map(|millis| Duration::from_millis(millis.into()));
        let asker = Asker { link, lane, request: message.request, is_timed: remaining.is_some() };
        let Some(delivery) = message.kind.and_then(delivery) else {
            return Received::Answer(asker.refuse(Refusal::Invalid));
        };
        let write = delivery.write();
        if let Some(waiting) = write
            .as_ref()
            .and_then(|write| self.writes.get(write))
            .and_then(|token| self.waiting.get_mut(token))
        {
            // Each link waits only once: a sender that repeats a request on the same link has given
            // up the earlier one.
            waiting.askers.retain(|known| known.link != link);
            waiting.askers.push(asker);
            if let (Some(until), Some(remaining)) = (&mut waiting.until, remaining) {
                *until = (*until).max(self.now + remaining);
            }
            return Received::Duplicate;
        }
        let bytes = delivery.bytes();
        if !self.bytes.take(link, bytes) {
            return Received::Answer(asker.refuse(Refusal::Busy));
        }
        if !self.window.take(link, 1) {
            self.bytes.give_back(link, bytes);
            return Received::Answer(asker.refuse(Refusal::Busy));
        }
        self.next_token += 1;
        let token = Token(self.next_token);
        if let Some(write) = write.clone() {
            write.written().into_iter().for_each(|written| *self.written.entry(written).or_default() += 1);
            self.writes.insert(write, token);
        }
        let until = remaining.filter(|_| write.is_some()).map(|remaining| self.now + remaining);
        self.waiting.insert(token, PendingRequest { write, askers: vec![asker], link, bytes, until });
        Received::Deliver(token, delivery)
    }

    /// Forgets a link. Its requests continue, and a repeated request gets the outcome.
    pub fn handle_link_down(&mut self, link: LinkId) {
        self.sequences.retain(|(known, _), _| *known != link);
        for waiting in self.waiting.values_mut() {
            waiting.askers.retain(|asker| asker.link != link);
        }
    }

    /// Ends a request. Returns the replies to all links that still wait for it.
    pub fn answer(&mut self, token: Token, kind: to_cloud::Kind) -> Vec<Reply> {
        let Some(waiting) = self.end(token) else { return Vec::new() };
        waiting.askers.into_iter().map(|asker| asker.reply(kind.clone())).collect()
    }

    /// Ends a request whose outcome is unknown. Nobody gets a reply, so the callers will ask again.
    pub fn abandon(&mut self, token: Token) {
        let _nobody_hears = self.end(token);
    }

    fn end(&mut self, token: Token) -> Option<PendingRequest> {
        let waiting = self.waiting.remove(&token)?;
        self.window.give_back(waiting.link, 1);
        self.bytes.give_back(waiting.link, waiting.bytes);
        if let Some(write) = &waiting.write {
            self.writes.remove(write);
            for written in write.written() {
                let Entry::Occupied(mut count) = self.written.entry(written) else { continue };
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        Some(waiting)
    }
}

impl WriteId {
    fn written(&self) -> [WriteLookup; 2] {
        [WriteLookup::Order(self.order), WriteLookup::Key(self.key)]
    }
}

impl Asker {
    fn reply(self, mut kind: to_cloud::Kind) -> Reply {
        if let to_cloud::Kind::Refused(refused) = &mut kind
            && refused.refusal() == Refusal::Late
            && !self.is_timed
        {
            // It asked for the same as another, whose time was shorter. An agent of an
            // earlier release knows no such refusal.
            *refused = Refusal::Busy.into();
        }
        let message = ToCloud { request: self.request, kind: Some(kind) };
        Reply { link: self.link, lane: self.lane, message }
    }

    fn refuse(self, refusal: Refusal) -> Reply {
        self.reply(to_cloud::Kind::Refused(refusal.into()))
    }
}

impl Delivery {
    /// Returns the variable part of its size in memory.
    fn bytes(&self) -> usize {
        match self {
            Self::Place(received) => {
                let Envelope { terms, ciphertext, encapsulation, .. } = &received.envelope;
                terms.len() + ciphertext.len() + encapsulation.len()
            }
            _ => 0,
        }
    }

    fn write(&self) -> Option<WriteId> {
        let (asked, key, order) = match self {
            Self::Place(received) => (WriteContent::Place, received.header.key, received.header.order),
            Self::Cancel(header) => (WriteContent::Cancel, header.key, header.order),
            Self::Pay(pay) => {
                let PayOrder { amount, payment_key, .. } = pay.as_ref();
                let asked = WriteContent::Pay { amount: *amount, payment_key: payment_key.as_str().into() };
                (asked, pay.key, pay.order)
            }
            Self::Refund(refund) => {
                let RefundPayment { payment, amount, reason, .. } = refund.as_ref();
                let asked = WriteContent::Refund {
                    payment: *payment,
                    amount: *amount,
                    reason: reason.as_str().into(),
                };
                (asked, refund.key, refund.order)
            }
            Self::Ask { .. } | Self::AskPayment { .. } => return None,
        };
        Some(WriteId { asked, key, order })
    }
}

/// Converts a wire message to a delivery. Returns `None` if a part of it is invalid.
fn delivery(kind: to_idc::Kind) -> Option<Delivery> {
    let header = |brand: &str, order: &[u8], key: &[u8]| {
        Some(Header {
            brand: Brand::new(brand).ok()?,
            order: OrderId::from_bytes(order).ok()?,
            key: KeyDigest::from_bytes(key)?,
        })
    };
    Some(match kind {
        to_idc::Kind::Place(envelope) => {
            let header = header(&envelope.brand, &envelope.order, &envelope.key)?;
            Delivery::Place(Box::new(ReceivedOrder { header, envelope }))
        }
        to_idc::Kind::Cancel(Cancel { brand, order, key }) => Delivery::Cancel(header(&brand, &order, &key)?),
        to_idc::Kind::Ask(Ask { brand, order, key }) => Delivery::Ask {
            brand: Brand::new(&brand).ok()?,
            order: OrderId::from_bytes(&order).ok()?,
            key: optional_key(key)?,
        },
        to_idc::Kind::Pay(pay) => Delivery::Pay(Box::new(pay.check()?)),
        to_idc::Kind::Refund(refund) => Delivery::Refund(Box::new(refund.check()?)),
        to_idc::Kind::AskPayment(AskPayment { brand, order, payment, key }) => Delivery::AskPayment {
            brand: Brand::new(&brand).ok()?,
            order: OrderId::from_bytes(&order).ok()?,
            payment: PaymentId::from_bytes(&payment).ok()?,
            key: optional_key(key)?,
        },
    })
}

/// Reads an optional key. The outer `None` means an invalid key.
fn optional_key(key: Option<Bytes>) -> Option<Option<KeyDigest>> {
    match key {
        Some(key) => KeyDigest::from_bytes(&key).map(Some),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests;
