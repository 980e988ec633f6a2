//! The IDC agent's side of the order link: takes each request once, and remembers the links that
//! wait for its answer.
//!
//! It keeps only pending requests. The ledger guarantees that a key has one effect. The receiver
//! only prevents duplicates from costing work twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

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
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Asker {
    link: LinkId,
    lane: u8,
    request: u64,
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
            waiting: HashMap::new(),
            writes: HashMap::new(),
            written: HashMap::new(),
            sequences: HashMap::new(),
        }
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
        let asker = Asker { link, lane, request: message.request };
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
        self.waiting.insert(token, PendingRequest { write, askers: vec![asker], link, bytes });
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
    fn reply(self, kind: to_cloud::Kind) -> Reply {
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
mod tests {

    use super::*;
    use crate::domain::UnixMicros;
    use crate::wire::payment::{Pay, Refund};

    fn order(n: u8) -> OrderId {
        OrderId::new(UnixMicros::new(1), [n; 10])
    }

    fn key(n: u8) -> KeyDigest {
        KeyDigest::from_bytes(&[n; 32]).unwrap()
    }

    fn cancel(request: u64, sequence: u64, key: u8) -> ToIdc {
        let kind = to_idc::Kind::Cancel(Cancel {
            brand: "shoes".into(),
            order: Bytes::copy_from_slice(order(key).as_bytes()),
            key: Bytes::copy_from_slice(&[key; 32]),
        });
        ToIdc { request, kind: Some(kind), sequence, trace: None }
    }

    fn envelope(n: u8) -> Envelope {
        Envelope {
            brand: "shoes".into(),
            order: Bytes::copy_from_slice(order(n).as_bytes()),
            key: Bytes::copy_from_slice(&[n; 32]),
            ..Envelope::default()
        }
    }

    /// Returns an order as the `n`th message of its lane.
    fn place(n: u8, envelope: Envelope) -> ToIdc {
        let n = u64::from(n);
        ToIdc { request: n, kind: Some(to_idc::Kind::Place(envelope)), sequence: n, trace: None }
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
    fn a_cancellation_under_its_orders_key_is_not_answered_as_placed() {
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
    fn a_link_that_floods_is_refused_and_another_is_not() {
        let mut receiver = Receiver::new(80);
        let mut flood = Vec::new();
        for n in 1..=100 {
            if let Received::Deliver(token, _) = receiver.handle_message(LinkId(1), 0, cancel(n, n, n as u8))
            {
                flood.push(token);
            }
        }
        assert_eq!(flood.len(), Receiver::window_of_a_link(80));
        deliver(&mut receiver, 2, cancel(1, 1, 200));
        receiver.answer(flood[0], busy());
        receiver.handle_link_down(LinkId(1));
        assert!(matches!(receiver.handle_message(LinkId(1), 0, cancel(1, 1, 201)), Received::Answer(_)));
        deliver(&mut receiver, 2, cancel(2, 2, 202));
        for token in flood {
            receiver.answer(token, busy());
        }
        deliver(&mut receiver, 1, cancel(2, 2, 203));
    }

    #[test]
    fn large_orders_are_bounded_by_their_bytes() {
        let mut receiver = Receiver::new(10_000);
        let ciphertext = Bytes::from(vec![0; 1 << 20]);
        let mut placed = 0;
        for n in 1..=200_u64 {
            let Some(to_idc::Kind::Cancel(Cancel { brand, order, key })) = cancel(n, n, n as u8).kind else {
                unreachable!("it cancels")
            };
            let envelope =
                Envelope { brand, order, key, ciphertext: ciphertext.clone(), ..Envelope::default() };
            let message =
                ToIdc { request: n, kind: Some(to_idc::Kind::Place(envelope)), sequence: n, trace: None };
            placed +=
                usize::from(matches!(receiver.handle_message(LinkId(1), 0, message), Received::Deliver(..)));
        }
        // An eighth of 128 MiB is reserved for other links.
        assert_eq!(placed, 112);
        deliver(&mut receiver, 1, cancel(201, 201, 201));
    }

    #[test]
    fn the_bytes_of_an_order_are_those_of_all_its_parts() {
        let half = Bytes::from(vec![0; shares::alone(BYTES_MAX) / 2]);
        let parts: [fn(&mut Envelope) -> &mut Bytes; 3] =
            [|order| &mut order.terms, |order| &mut order.ciphertext, |order| &mut order.encapsulation];
        for part in parts {
            let mut receiver = Receiver::new(8);
            let mut send = |n: u8| {
                let mut envelope = envelope(n);
                *part(&mut envelope) = half.clone();
                receiver.handle_message(LinkId(1), 0, place(n, envelope))
            };
            assert!(matches!([send(1), send(2)], [Received::Deliver(..), Received::Deliver(..)]));
            assert!(
                matches!(send(3), Received::Answer(Reply { message, .. }) if message.kind == Some(busy()))
            );
        }
    }

    #[test]
    fn an_order_is_handed_over_as_it_came() {
        let sent = Envelope { terms: Bytes::from_static(b"terms"), ..envelope(7) };
        let received = Receiver::new(8).handle_message(LinkId(1), 0, place(1, sent.clone()));
        let Received::Deliver(_, Delivery::Place(received)) = received else {
            panic!("not delivered: {received:?}")
        };
        assert_eq!(received.envelope(), &sent);
        let header = Header { brand: Brand::new("shoes").unwrap(), order: order(7), key: key(7) };
        assert_eq!(received.header(), &header);
    }

    #[test]
    fn a_question_is_delivered_with_or_without_its_key_if_valid() {
        let (brand, id) = (Brand::new("shoes").unwrap(), Bytes::copy_from_slice(order(7).as_bytes()));
        let payment = PaymentId::from_bytes(&id).unwrap();
        let keys = [(None, Some(None)), (Some(32), Some(Some(key(7)))), (Some(31), None)];
        for (bytes, expected) in keys {
            let asked = bytes.map(|bytes| Bytes::from(vec![7; bytes]));
            let ask = Ask { brand: "shoes".into(), order: id.clone(), key: asked.clone() };
            let (brand, order) = (brand.clone(), order(7));
            let expected_of_payment =
                expected.map(|key| Delivery::AskPayment { brand: brand.clone(), order, payment, key });
            assert_eq!(
                delivery(to_idc::Kind::Ask(ask)),
                expected.map(|key| Delivery::Ask { brand: brand.clone(), order, key })
            );
            let (order, payment) = (id.clone(), id.clone());
            let ask = AskPayment { brand: "shoes".into(), order, payment, key: asked };
            assert_eq!(delivery(to_idc::Kind::AskPayment(ask)), expected_of_payment);
        }
    }

    #[test]
    fn a_write_is_found_by_order_and_key_until_it_ends() {
        let mut receiver = Receiver::new(8);
        let none = |receiver: &Receiver| {
            (receiver.writes_of(order(7)), receiver.is_writing(order(7), Some(key(7)))) == (0, false)
        };
        assert!(none(&receiver));
        let placing = deliver(&mut receiver, 1, place(1, envelope(7)));
        let cancelling = deliver(&mut receiver, 1, cancel(2, 2, 7));
        assert_eq!(receiver.writes_of(order(7)), 2);
        for n in 7..9 {
            assert_eq!(receiver.is_writing(order(n), None), n == 7);
            assert_eq!(receiver.is_writing(order(9), Some(key(n))), n == 7);
        }
        assert!(receiver.is_writing(order(7), Some(key(8))));
        receiver.answer(placing, busy());
        assert_eq!((receiver.writes_of(order(7)), receiver.under_way()), (1, 1));
        assert!(receiver.is_writing(order(7), None));
        receiver.answer(cancelling, busy());
        assert!(none(&receiver));
        assert!(receiver.written.is_empty(), "a count of zero is kept");
    }

    #[test]
    fn an_abandoned_request_is_not_answered_and_delivered_when_asked_again() {
        let mut receiver = Receiver::new(1);
        let token = deliver(&mut receiver, 1, cancel(10, 1, 7));
        receiver.abandon(token);
        assert_eq!(receiver.under_way(), 0);
        let again = deliver(&mut receiver, 1, cancel(11, 2, 7));
        assert!(receiver.answer(token, busy()).is_empty());
        assert_eq!(receiver.answer(again, busy()).len(), 1);
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
    fn nothing_is_kept_of_a_link_that_is_down() {
        let mut receiver = Receiver::new(8);
        let mut tokens = Vec::new();
        for link in 1..=1_000 {
            tokens.push(deliver(&mut receiver, link, cancel(1, 1, 7)));
            // A message on another lane, and a frame that comes twice.
            let Received::Answer(_) =
                receiver.handle_message(LinkId(link), 1, ToIdc { kind: None, ..cancel(2, 1, 7) })
            else {
                panic!("the message has no kind, and is not answered")
            };
            assert_eq!(receiver.handle_message(LinkId(link), 0, cancel(1, 1, 7)), Received::Duplicate);
            receiver.handle_link_down(LinkId(link));
            assert!(receiver.answer(tokens[tokens.len() - 1], busy()).is_empty());
        }
        assert_eq!(receiver.sequences.len(), 0, "frames of ended links are still counted");
        assert_eq!((receiver.waiting.len(), receiver.writes.len()), (0, 0));
    }

    #[test]
    fn a_refund_under_its_payments_key_is_a_separate_request() {
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
        // Another body is another request, pending or not. The ledger answers that the key is used.
        let mut other = pay.clone();
        if let to_idc::Kind::Pay(pay) = &mut other {
            pay.amount = 2;
        }
        deliver(&mut receiver, 1, send(5, &other));
        let mut other = refund.clone();
        if let to_idc::Kind::Refund(refund) = &mut other {
            refund.reason = "it is too small".to_owned();
        }
        deliver(&mut receiver, 1, send(6, &other));
        let mut again = pay.clone();
        if let to_idc::Kind::Pay(pay) = &mut again {
            pay.payment = Bytes::copy_from_slice(OrderId::new(UnixMicros::new(2), [8; 10]).as_bytes());
        }
        assert_eq!(receiver.handle_message(LinkId(1), 0, send(7, &again)), Received::Duplicate);
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
