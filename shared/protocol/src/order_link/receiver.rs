//! The IDC's side of the order link: takes each request once, and remembers whom to answer.
//!
//! It keeps nothing beyond what is under way. That a key has one effect is the ledger's promise; here duplicates are
//! only kept from costing work twice.

use std::collections::HashMap;

use bytes::Bytes;

use super::LinkId;
use crate::domain::{Brand, KeyDigest, OrderId, PaymentId};
use crate::seal::sealing::Header;
use crate::wire::order::{Ask, Cancel, Envelope, Refusal, ToCloud, ToIdc, to_cloud, to_idc};
use crate::wire::payment::{AskPayment, PayOrder, RefundPayment};

/// Names one request under way at the IDC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

/// A sealed order as it was received; only [`Receiver`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedOrder {
    header: Header,
    envelope: Envelope,
}

impl ReceivedOrder {
    /// Whose order under which key.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What is to be opened.
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
        /// Whose shop.
        brand: Brand,
        /// Its id as the asker knows it.
        order: OrderId,
        /// The key it was sent under, where the asker knows it.
        key: Option<KeyDigest>,
    },
    /// Charge for an order.
    Pay(Box<PayOrder>),
    /// Give back.
    Refund(Box<RefundPayment>),
    /// Look up a payment.
    AskPayment {
        /// Whose shop.
        brand: Brand,
        /// Of which order.
        order: OrderId,
        /// Its id as the asker knows it.
        payment: PaymentId,
        /// The key it was asked for under, where the asker knows it.
        key: Option<KeyDigest>,
    },
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// Work on this and answer the token.
    Deliver(Token, Delivery),
    /// Nothing to do: the same request is under way (its answer will serve both), or the frame came twice.
    Duplicate,
    /// Send this back.
    Answer(Reply),
}

/// A message for one lane of one link.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// To whom.
    pub link: LinkId,
    /// On which of the lanes that this receiver takes from.
    pub lane: u8,
    /// What.
    pub message: ToCloud,
}

/// The receiver's state.
#[derive(Debug)]
pub struct Receiver {
    /// Requests under way at most: what does not fit is refused before work is spent on it.
    window_max: usize,
    next_token: u64,
    /// Whom to answer, by token; at most `window_max` tokens.
    waiting: HashMap<Token, Waiting>,
    /// Writes under way.
    writes: HashMap<WriteId, Token>,
    /// The last sequence number taken on each lane of each link.
    sequences: HashMap<(LinkId, u8), u64>,
}

/// What makes two writes one. Whether the key was used for another one is the ledger's to say, so a cancellation under
/// the key of the order's placing is not that placing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct WriteId {
    kind: WriteKind,
    key: KeyDigest,
    order: OrderId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum WriteKind {
    Place,
    Cancel,
    Pay,
    Refund,
}

#[derive(Debug)]
struct Waiting {
    write: Option<WriteId>,
    askers: Vec<Asker>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Asker {
    link: LinkId,
    lane: u8,
    request: u64,
}

impl Receiver {
    /// A receiver that works on at most `window_max` requests at a time.
    pub fn new(window_max: usize) -> Self {
        Self {
            window_max,
            next_token: 0,
            waiting: HashMap::new(),
            writes: HashMap::new(),
            sequences: HashMap::new(),
        }
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.waiting.len()
    }

    /// Takes one message of one lane.
    pub fn handle_message(&mut self, link: LinkId, lane: u8, message: ToIdc) -> Received {
        let last = self.sequences.entry((link, lane)).or_default();
        if message.sequence <= *last {
            return Received::Duplicate;
        }
        *last = message.sequence;
        let asker = Asker { link, lane, request: message.request };
        let Some(delivery) = message.kind.and_then(delivery) else {
            return Received::Answer(asker.refuse(Refusal::Invalid));
        };
        let write = delivery.write();
        if let Some(waiting) =
            write.and_then(|write| self.writes.get(&write)).and_then(|token| self.waiting.get_mut(token))
        {
            // One asker a link: a sender that asks again on the same link has given up its earlier request.
            waiting.askers.retain(|known| known.link != link);
            waiting.askers.push(asker);
            return Received::Duplicate;
        }
        if self.waiting.len() >= self.window_max {
            return Received::Answer(asker.refuse(Refusal::Busy));
        }
        self.next_token += 1;
        let token = Token(self.next_token);
        self.waiting.insert(token, Waiting { write, askers: vec![asker] });
        if let Some(write) = write {
            self.writes.insert(write, token);
        }
        Received::Deliver(token, delivery)
    }

    /// Forgets a link. What it asked goes on: whoever asks again gets the outcome.
    pub fn handle_link_down(&mut self, link: LinkId) {
        self.sequences.retain(|(known, _), _| *known != link);
        for waiting in self.waiting.values_mut() {
            waiting.askers.retain(|asker| asker.link != link);
        }
    }

    /// Ends a request: the replies to everyone who still waits for it.
    pub fn answer(&mut self, token: Token, kind: to_cloud::Kind) -> Vec<Reply> {
        let Some(waiting) = self.waiting.remove(&token) else { return Vec::new() };
        if let Some(write) = waiting.write {
            self.writes.remove(&write);
        }
        waiting.askers.into_iter().map(|asker| asker.reply(kind.clone())).collect()
    }

    /// Ends a request whose outcome nobody can tell: its askers hear nothing, and ask again.
    pub fn abandon(&mut self, token: Token) {
        if let Some(Waiting { write: Some(write), .. }) = self.waiting.remove(&token) {
            self.writes.remove(&write);
        }
    }
}

impl Asker {
    fn reply(self, kind: to_cloud::Kind) -> Reply {
        let message = ToCloud { request: self.request, kind: Some(kind) };
        Reply { link: self.link, lane: self.lane, message }
    }

    fn refuse(self, refusal: Refusal) -> Reply {
        self.reply(to_cloud::Kind::Refused(refusal.into()))
    }
}

impl Delivery {
    fn write(&self) -> Option<WriteId> {
        let (kind, key, order) = match self {
            Self::Place(received) => (WriteKind::Place, received.header.key, received.header.order),
            Self::Cancel(header) => (WriteKind::Cancel, header.key, header.order),
            Self::Pay(pay) => (WriteKind::Pay, pay.key, pay.order),
            Self::Refund(refund) => (WriteKind::Refund, refund.key, refund.order),
            Self::Ask { .. } | Self::AskPayment { .. } => return None,
        };
        Some(WriteId { kind, key, order })
    }
}

/// A wire message as a delivery; `None` if a part of it is not in its form.
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

/// `None` for a key that is none.
fn optional_key(key: Option<Bytes>) -> Option<Option<KeyDigest>> {
    match key {
        Some(key) => KeyDigest::from_bytes(&key).map(Some),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::domain::UnixMicros;
    use crate::wire::payment::{Pay, Refund};

    fn cancel(request: u64, sequence: u64, key: u8) -> ToIdc {
        let order = OrderId::new(UnixMicros::new(1), [key; 10]);
        let kind = to_idc::Kind::Cancel(Cancel {
            brand: "shoes".into(),
            order: Bytes::copy_from_slice(order.as_bytes()),
            key: Bytes::copy_from_slice(&[key; 32]),
        });
        ToIdc { request, kind: Some(kind), sequence, trace: None }
    }

    fn deliver(receiver: &mut Receiver, link: u64, message: ToIdc) -> Token {
        match receiver.handle_message(LinkId(link), 0, message) {
            Received::Deliver(token, _) => token,
            other => panic!("not delivered: {other:?}"),
        }
    }

    fn busy() -> to_cloud::Kind {
        to_cloud::Kind::Refused(Refusal::Busy.into())
    }

    #[test]
    fn a_request_on_two_links_is_delivered_once_and_answered_to_both() {
        let mut receiver = Receiver::new(8);
        let token = deliver(&mut receiver, 1, cancel(10, 1, 7));
        assert_eq!(receiver.handle_message(LinkId(2), 0, cancel(11, 1, 7)), Received::Duplicate);
        let replies = receiver.answer(token, busy());
        let to: Vec<_> = replies.iter().map(|reply| (reply.link.0, reply.message.request)).collect();
        assert_eq!(to, [(1, 10), (2, 11)]);
        assert_eq!(receiver.under_way(), 0);
    }

    #[test]
    fn a_cancellation_under_the_key_that_places_its_order_is_not_answered_with_that_placing() {
        let mut receiver = Receiver::new(8);
        let cancel = cancel(11, 2, 7);
        let Some(to_idc::Kind::Cancel(Cancel { brand, order, key })) = cancel.kind.clone() else {
            unreachable!("it cancels")
        };
        let place = to_idc::Kind::Place(Envelope { brand, order, key, ..Envelope::default() });
        let placing =
            deliver(&mut receiver, 1, ToIdc { request: 10, kind: Some(place), sequence: 1, trace: None });
        let cancelling = deliver(&mut receiver, 1, cancel);
        for (token, request) in [(placing, 10), (cancelling, 11)] {
            let replies = receiver.answer(token, busy());
            assert_eq!(replies.iter().map(|reply| reply.message.request).collect::<Vec<_>>(), [request]);
        }
    }

    #[test]
    fn a_frame_that_comes_twice_is_taken_once() {
        let mut receiver = Receiver::new(8);
        let token = deliver(&mut receiver, 1, cancel(10, 1, 7));
        receiver.answer(token, busy());
        assert_eq!(receiver.handle_message(LinkId(1), 0, cancel(10, 1, 7)), Received::Duplicate);
        deliver(&mut receiver, 1, cancel(10, 2, 7));
    }

    #[test]
    fn what_exceeds_the_window_is_refused_as_busy() {
        let mut receiver = Receiver::new(1);
        deliver(&mut receiver, 1, cancel(10, 1, 7));
        let Received::Answer(reply) = receiver.handle_message(LinkId(1), 0, cancel(11, 2, 8)) else {
            panic!("the window holds one")
        };
        assert_eq!(reply.message, ToCloud { request: 11, kind: Some(busy()) });
    }

    #[test]
    fn a_lost_link_s_requests_go_on_and_are_answered_to_nobody() {
        let mut receiver = Receiver::new(8);
        let token = deliver(&mut receiver, 1, cancel(10, 1, 7));
        receiver.handle_link_down(LinkId(1));
        assert_eq!(receiver.under_way(), 1);
        assert!(receiver.answer(token, busy()).is_empty());
    }

    #[test]
    fn a_refund_under_the_key_of_its_payment_is_a_request_of_its_own() {
        let mut receiver = Receiver::new(8);
        let id = Bytes::copy_from_slice(OrderId::new(UnixMicros::new(1), [7; 10]).as_bytes());
        let (brand, key, currency) = ("shoes".to_owned(), Bytes::copy_from_slice(&[7; 32]), "KRW".to_owned());
        let pay = to_idc::Kind::Pay(Pay {
            brand: brand.clone(),
            order: id.clone(),
            key: key.clone(),
            payment: id.clone(),
            amount: 1,
            currency: currency.clone(),
            payment_key: "tgen_1".to_owned(),
        });
        let refund = to_idc::Kind::Refund(Refund {
            brand,
            order: id.clone(),
            key,
            payment: id.clone(),
            refund: id,
            amount: 1,
            currency,
            reason: "it came back".to_owned(),
        });
        let send = |sequence, kind: &to_idc::Kind| ToIdc {
            request: sequence,
            kind: Some(kind.clone()),
            sequence,
            trace: None,
        };
        deliver(&mut receiver, 1, send(1, &pay));
        deliver(&mut receiver, 1, send(2, &refund));
        assert_eq!(receiver.handle_message(LinkId(1), 0, send(3, &pay)), Received::Duplicate);
        assert_eq!(receiver.handle_message(LinkId(1), 0, send(4, &refund)), Received::Duplicate);
    }

    #[test]
    fn a_message_in_no_known_form_is_refused_as_invalid() {
        let mut receiver = Receiver::new(8);
        let mut short_key = cancel(10, 1, 7);
        if let Some(to_idc::Kind::Cancel(cancel)) = &mut short_key.kind {
            cancel.key.truncate(31);
        }
        for message in [short_key, ToIdc { request: 11, kind: None, sequence: 2, trace: None }] {
            assert!(matches!(receiver.handle_message(LinkId(1), 0, message), Received::Answer(_)));
        }
        assert_eq!(receiver.under_way(), 0);
    }
}
