//! The core of the payment lane (sans-IO): requests under way, their callers, and the calls of the
//! service.
//!
//! It is separate from the order core and has its own window, so a gateway that hangs takes no
//! order's place.

use std::collections::VecDeque;
use std::time::Duration;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Delivery, Received, Receiver, Reply, Token};
use bridge_protocol::wire::order::{Refusal, Refused, ToIdc, to_cloud};
use bridge_protocol::wire::payment::{PayOrder, PaymentState, RefundPayment, RefundState};
use bytes::Bytes;

use super::end::ServiceEnd;
use super::{Charge, ChargeRequest, GiveBackRequest, Payment};
use crate::vault::keyring::Keyring;

/// A request to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceRequest {
    /// Charge for an order.
    Pay(Box<ChargeRequest>),
    /// Refund a payment.
    Refund(Box<GiveBackRequest>),
    /// Return the state of a payment.
    LookUp {
        /// Brand of the order.
        brand: Brand,
        /// Order of the payment.
        order: OrderId,
        /// Id of the payment.
        payment: PaymentId,
        /// Idempotency key of the payment. If set, the look-up is by this key.
        key: Option<KeyDigest>,
    },
}

/// The next action of the driver.
#[derive(Debug)]
pub enum Output {
    /// Ask the service and report the end. The last field says if the order or payment may be on
    /// its way into the ledger.
    Ask(Token, ServiceRequest, MayBeArriving),
    /// Send this on the payment lane of its link.
    Send(Reply),
}

/// True if the order or payment of a request may be on its way into the ledger, for example because
/// it waits for a held row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MayBeArriving(pub bool);

impl MayBeArriving {
    /// Changes `NotFound` to `Busy` while the order or payment may be arriving, so that the caller
    /// asks again.
    pub fn judge(self, end: ServiceEnd) -> ServiceEnd {
        match end {
            ServiceEnd::Refused(Refusal::NotFound) if self.0 => ServiceEnd::Refused(Refusal::Busy),
            end => end,
        }
    }
}

/// State of the payment lane. Its size is bounded by the window.
#[derive(Debug)]
pub struct PaymentCore {
    receiver: Receiver,
    /// Answers that wait until the audit log has the outcome of their order.
    held: Vec<(Token, ServiceEnd)>,
    outputs: VecDeque<Output>,
}

impl PaymentCore {
    /// Creates a core that has at most `window_max` requests under way.
    pub fn new(window_max: usize) -> Self {
        Self { receiver: Receiver::new(window_max), held: Vec::new(), outputs: VecDeque::new() }
    }

    /// Sets the present time, by a clock that never steps back.
    pub fn set_time(&mut self, now: Duration) {
        self.receiver.set_time(now);
    }

    /// Returns the time until which the caller of a request waits, by the clock of
    /// [`Self::set_time`]. Returns `None` if nobody knows.
    pub fn until(&self, token: Token) -> Option<Duration> {
        self.receiver.until(token)
    }

    /// Returns the number of requests that are received and not yet answered.
    pub fn under_way(&self) -> usize {
        self.receiver.under_way()
    }

    /// Takes a message of a payment lane. `is_written` returns true if a request about an order is
    /// under way in the order core.
    pub fn handle_message(
        &mut self,
        link: LinkId,
        message: ToIdc,
        keys: &Keyring,
        is_written: impl Fn(OrderId) -> bool,
    ) {
        match self.receiver.handle_message(link, 0, message) {
            Received::Deliver(token, Delivery::Pay(pay)) => {
                let coming = MayBeArriving(is_written(pay.order));
                self.ask(token, ServiceRequest::Pay(Box::new(pay_asked(*pay, keys))), coming);
            }
            Received::Deliver(token, Delivery::Refund(refund)) => {
                // The refund itself is one of the writes of its order.
                let coming =
                    MayBeArriving(is_written(refund.order) || self.receiver.writes_of(refund.order) > 1);
                self.ask(token, ServiceRequest::Refund(Box::new(refund_asked(*refund, keys))), coming);
            }
            Received::Deliver(token, Delivery::AskPayment { brand, order, payment, key }) => {
                let coming = MayBeArriving(self.receiver.is_writing(order, key));
                self.ask(token, ServiceRequest::LookUp { brand, order, payment, key }, coming);
            }
            // Orders have lanes of their own.
            Received::Deliver(token, Delivery::Place(_) | Delivery::Cancel(_) | Delivery::Ask { .. }) => {
                self.answer(token, ServiceEnd::Refused(Refusal::Invalid));
            }
            Received::Answer(reply) => self.outputs.push_back(Output::Send(reply)),
            Received::Duplicate => {}
        }
    }

    /// Takes the end of a request from the service. An answer that this request did not log waits
    /// while the log is behind about its order: a refunded payment reveals that the order was
    /// cancelled.
    pub fn handle_end(&mut self, token: Token, end: ServiceEnd, log_is_behind: impl Fn(OrderId) -> bool) {
        match &end {
            ServiceEnd::Stands { payment, logged: false, .. } if log_is_behind(payment.charge.order) => {
                self.held.push((token, end));
            }
            _ => self.answer(token, end),
        }
    }

    /// Returns true if an answer waits for the audit log.
    pub fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }

    /// Answers the requests for which the audit log is no longer behind.
    pub fn handle_log(&mut self, log_is_behind: impl Fn(OrderId) -> bool) {
        for (token, end) in std::mem::take(&mut self.held) {
            self.handle_end(token, end, &log_is_behind);
        }
    }

    fn ask(&mut self, token: Token, asked: ServiceRequest, coming: MayBeArriving) {
        self.outputs.push_back(Output::Ask(token, asked, coming));
    }

    fn answer(&mut self, token: Token, end: ServiceEnd) {
        let kind = match end {
            ServiceEnd::Stands { payment, refund, replayed, .. } => {
                let refund = refund.map(|refund| Bytes::copy_from_slice(refund.as_bytes()));
                to_cloud::Kind::Payment(PaymentState { refund, replayed, ..wire(&payment) })
            }
            ServiceEnd::Refused(refusal) => to_cloud::Kind::Refused(refusal.into()),
            ServiceEnd::InTheWay(refusal, payment) => {
                to_cloud::Kind::Refused(Refused::for_payment(refusal, payment))
            }
            ServiceEnd::Unknown => return self.receiver.abandon(token),
        };
        self.outputs.extend(self.receiver.answer(token, kind).into_iter().map(Output::Send));
    }

    /// Forgets a link. Its requests continue.
    pub fn handle_link_down(&mut self, link: LinkId) {
        self.receiver.handle_link_down(link);
    }

    /// Returns the next action, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

fn pay_asked(pay: PayOrder, keys: &Keyring) -> ChargeRequest {
    let PayOrder { brand, order, key, payment, amount, payment_key } = pay;
    let fingerprint = keys.fingerprint(&[
        b"pay",
        order.as_bytes(),
        &amount.amount().to_be_bytes(),
        amount.currency().as_str().as_bytes(),
        payment_key.as_str().as_bytes(),
    ]);
    ChargeRequest { brand, key, fingerprint, charge: Charge { payment, order, amount, payment_key } }
}

fn refund_asked(asked: RefundPayment, keys: &Keyring) -> GiveBackRequest {
    let RefundPayment { brand, order, key, payment, refund, amount, reason } = asked;
    let fingerprint = keys.fingerprint(&[
        b"refund",
        order.as_bytes(),
        payment.as_bytes(),
        &amount.amount().to_be_bytes(),
        amount.currency().as_str().as_bytes(),
        reason.as_bytes(),
    ]);
    GiveBackRequest { brand, key, fingerprint, order, payment, refund, amount, reason }
}

/// Converts a payment to its message on the wire.
fn wire(payment: &Payment) -> PaymentState {
    let refunds = payment.refunds.iter().map(|refund| RefundState {
        refund: Bytes::copy_from_slice(refund.refund.as_bytes()),
        state: refund.state.code().to_owned(),
        amount: refund.amount,
        automatic: refund.automatic,
        code: refund.code.as_ref().map(ToString::to_string),
        created_at_micros: refund.created_at.get(),
    });
    let stands = PaymentState {
        payment: Bytes::copy_from_slice(payment.charge.payment.as_bytes()),
        order: Bytes::copy_from_slice(payment.charge.order.as_bytes()),
        amount: payment.charge.amount.amount(),
        currency: payment.charge.amount.currency().to_string(),
        refunded: payment.refunded,
        code: payment.code.as_ref().map(ToString::to_string),
        created_at_micros: payment.created_at.get(),
        refunds: refunds.collect(),
        ..PaymentState::default()
    };
    stands.standing(payment.state)
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::{Currency, Money, PaymentKey, PaymentState as State, UnixMicros};
    use bridge_protocol::wire::order::{Ask, to_idc};
    use bridge_protocol::wire::payment::{AskPayment, Pay, Refund};

    use super::*;

    const LINK: LinkId = LinkId(1);

    fn pay(request: u64, key: u8, amount: i64) -> ToIdc {
        let id = OrderId::new(UnixMicros::new(1), [1; 10]);
        let kind = to_idc::Kind::Pay(Pay {
            brand: "shoes".into(),
            order: Bytes::copy_from_slice(id.as_bytes()),
            key: Bytes::copy_from_slice(&[key; 32]),
            payment: Bytes::copy_from_slice(id.as_bytes()),
            amount,
            currency: "KRW".into(),
            payment_key: "tgen_1".into(),
        });
        ToIdc { request, kind: Some(kind), sequence: request, trace: None, remaining_millis: None }
    }

    fn refused(core: &mut PaymentCore) -> Refusal {
        match core.poll_output() {
            Some(Output::Send(Reply { message, .. })) => match message.kind {
                Some(to_cloud::Kind::Refused(refused)) => refused.refusal(),
                other => panic!("not refused: {other:?}"),
            },
            other => panic!("no answer: {other:?}"),
        }
    }

    #[test]
    fn a_repeated_payment_is_asked_once_and_other_bodies_differ_in_fingerprint() {
        let keys = Keyring::for_tests(1);
        let mut core = PaymentCore::new(8);
        core.handle_message(LINK, pay(1, 7, 100), &keys, |_| false);
        core.handle_message(LinkId(2), pay(1, 7, 100), &keys, |_| false);
        core.handle_message(LINK, pay(2, 8, 101), &keys, |_| false);
        let mut asked = Vec::new();
        while let Some(Output::Ask(token, ServiceRequest::Pay(pay), _)) = core.poll_output() {
            asked.push((token, pay));
        }
        assert_eq!(asked.len(), 2);
        assert_ne!(asked[0].1.fingerprint, asked[1].1.fingerprint);
        core.handle_end(asked[0].0, ServiceEnd::Refused(Refusal::AlreadyPaid), |_| true);
        assert_eq!((refused(&mut core), refused(&mut core)), (Refusal::AlreadyPaid, Refusal::AlreadyPaid));
        core.handle_end(asked[1].0, ServiceEnd::Unknown, |_| true);
        assert!(core.poll_output().is_none(), "whoever asked hears nothing, and asks again");
        assert_eq!(core.under_way(), 0);
    }

    fn id(byte: u8) -> Bytes {
        Bytes::copy_from_slice(OrderId::new(UnixMicros::new(1), [byte; 10]).as_bytes())
    }

    /// Returns the fingerprint by which the ledger compares a request with an earlier one under the
    /// same key.
    fn fingerprint(kind: to_idc::Kind) -> [u8; 32] {
        let mut core = PaymentCore::new(1);
        let message =
            ToIdc { request: 1, kind: Some(kind), sequence: 1, trace: None, remaining_millis: None };
        core.handle_message(LINK, message, &Keyring::for_tests(1), |_| false);
        match core.poll_output() {
            Some(Output::Ask(_, ServiceRequest::Pay(asked), _)) => asked.fingerprint,
            Some(Output::Ask(_, ServiceRequest::Refund(asked), _)) => asked.fingerprint,
            other => panic!("not asked: {other:?}"),
        }
    }

    #[test]
    fn whatever_a_payment_asks_for_is_in_its_fingerprint() {
        let Some(to_idc::Kind::Pay(pay)) = pay(1, 7, 100).kind else { panic!("it is a payment") };
        let of = |pay: &Pay| fingerprint(to_idc::Kind::Pay(pay.clone()));
        let again = Pay { payment: id(2), ..pay.clone() };
        assert_eq!(of(&again), of(&pay), "a second attempt has an id of its own");
        for (what, other) in [
            ("the order", Pay { order: id(2), ..pay.clone() }),
            ("the amount", Pay { amount: 101, ..pay.clone() }),
            ("the currency", Pay { currency: "JPY".into(), ..pay.clone() }),
            ("the payment key", Pay { payment_key: "tgen_2".into(), ..pay.clone() }),
        ] {
            assert_ne!(of(&other), of(&pay), "{what}");
        }
    }

    fn coming(core: &mut PaymentCore) -> bool {
        match core.poll_output() {
            Some(Output::Ask(_, _, MayBeArriving(coming))) => coming,
            other => panic!("not asked: {other:?}"),
        }
    }

    #[test]
    fn a_payment_arriving_in_the_ledger_is_not_called_missing() {
        let keys = Keyring::for_tests(1);
        let mut core = PaymentCore::new(8);
        let ask = |core: &mut PaymentCore, request, kind, order_is_written: bool| {
            let message =
                ToIdc { request, kind: Some(kind), sequence: request, trace: None, remaining_millis: None };
            core.handle_message(LINK, message, &keys, |_| order_is_written);
            coming(core)
        };
        let question = || AskPayment { brand: "shoes".into(), order: id(1), payment: id(1), key: None };
        let refund = Refund {
            brand: "shoes".into(),
            order: id(1),
            key: Bytes::copy_from_slice(&[8; 32]),
            payment: id(1),
            refund: id(1),
            amount: 100,
            currency: "KRW".into(),
            reason: "it came back".into(),
        };
        let pay = |key| pay(1, key, 100).kind.unwrap();
        assert!(!ask(&mut core, 1, to_idc::Kind::AskPayment(question()), false));
        assert!(ask(&mut core, 2, to_idc::Kind::Refund(refund.clone()), true), "its order is coming");
        let mut core = PaymentCore::new(8);
        assert!(!ask(&mut core, 1, to_idc::Kind::Refund(refund.clone()), false), "it is alone");
        assert!(!ask(&mut core, 2, pay(7), false) && ask(&mut core, 3, pay(6), true));
        let another = Refund { amount: 1, ..refund };
        assert!(ask(&mut core, 4, to_idc::Kind::Refund(another), false), "its payment may be coming");
        assert!(ask(&mut core, 5, to_idc::Kind::AskPayment(question()), false));

        let missing = || ServiceEnd::Refused(Refusal::NotFound);
        assert_eq!(MayBeArriving(true).judge(missing()), ServiceEnd::Refused(Refusal::Busy));
        assert_eq!(MayBeArriving(false).judge(missing()), missing());
    }

    #[test]
    fn whatever_a_refund_asks_for_is_in_its_fingerprint() {
        let refund = Refund {
            brand: "shoes".into(),
            order: id(1),
            key: Bytes::copy_from_slice(&[7; 32]),
            payment: id(1),
            refund: id(1),
            amount: 100,
            currency: "KRW".into(),
            reason: "it came back".into(),
        };
        let of = |refund: &Refund| fingerprint(to_idc::Kind::Refund(refund.clone()));
        let again = Refund { refund: id(2), ..refund.clone() };
        assert_eq!(of(&again), of(&refund), "a second attempt has an id of its own");
        for (what, other) in [
            ("the order", Refund { order: id(2), ..refund.clone() }),
            ("the payment", Refund { payment: id(2), ..refund.clone() }),
            ("the amount", Refund { amount: 101, ..refund.clone() }),
            ("the currency", Refund { currency: "JPY".into(), ..refund.clone() }),
            ("the reason", Refund { reason: "it broke".into(), ..refund.clone() }),
        ] {
            assert_ne!(of(&other), of(&refund), "{what}");
        }
    }

    #[test]
    fn the_ledger_judges_another_body_under_a_key_under_way() {
        let keys = Keyring::for_tests(1);
        let mut core = PaymentCore::new(8);
        core.handle_message(LINK, pay(1, 7, 100), &keys, |_| false);
        core.handle_message(LINK, pay(2, 7, 101), &keys, |_| false);
        let mut asked = Vec::new();
        while let Some(Output::Ask(token, ServiceRequest::Pay(pay), _)) = core.poll_output() {
            asked.push((token, pay));
        }
        assert_eq!((asked.len(), asked[0].1.key), (2, asked[1].1.key));
        core.handle_end(asked[1].0, ServiceEnd::Refused(Refusal::KeyReused), |_| true);
        assert_eq!(refused(&mut core), Refusal::KeyReused);
        assert_eq!(core.under_way(), 1, "the first goes on");
    }

    #[test]
    fn a_payments_state_is_told_once_its_orders_outcome_is_logged() {
        let keys = Keyring::for_tests(1);
        let mut core = PaymentCore::new(8);
        let id = OrderId::new(UnixMicros::new(1), [1; 10]);
        let bytes = Bytes::copy_from_slice(id.as_bytes());
        let ask = AskPayment { brand: "shoes".into(), order: bytes.clone(), payment: bytes, key: None };
        let kind = Some(to_idc::Kind::AskPayment(ask));
        core.handle_message(
            LINK,
            ToIdc { request: 1, kind, sequence: 1, trace: None, remaining_millis: None },
            &keys,
            |_| false,
        );
        let Some(Output::Ask(token, ServiceRequest::LookUp { order, payment, brand, .. }, _)) =
            core.poll_output()
        else {
            panic!("it is looked up")
        };
        let charge = Charge {
            payment,
            order,
            amount: Money::new(100, Currency::new("KRW").unwrap()).unwrap(),
            payment_key: PaymentKey::new("tgen_1").unwrap(),
        };
        let payment = Payment {
            brand,
            charge,
            state: State::ChargedLate,
            refunded: 0,
            code: None,
            asks: 0,
            created_at: UnixMicros::new(1),
            concluded_at: None,
            confirm_until: UnixMicros::new(1),
            refunds: Vec::new(),
        };
        let end = ServiceEnd::Stands { payment, refund: None, replayed: false, logged: false };
        core.handle_end(token, end, |order| order == id);
        core.handle_log(|order| order == id);
        assert!(core.poll_output().is_none(), "the log is behind");
        core.handle_log(|_| false);
        let Some(Output::Send(Reply { message, .. })) = core.poll_output() else { panic!("it is told") };
        let Some(to_cloud::Kind::Payment(stands)) = message.kind else { panic!("{message:?}") };
        assert_eq!((stands.state.as_str(), stands.state_code()), ("not_paid", "charged_late"));
    }

    #[test]
    fn what_exceeds_the_window_or_is_no_payment_is_refused() {
        let keys = Keyring::for_tests(1);
        let mut core = PaymentCore::new(1);
        let ask = Ask { brand: "shoes".into(), order: Bytes::copy_from_slice(&[0; 16]), key: None };
        for kind in [to_idc::Kind::Ask(ask), pay(1, 7, 0).kind.unwrap(), pay(1, 7, -5).kind.unwrap()] {
            let sequence = core.outputs.len() as u64 + 1;
            core.handle_message(
                LinkId(sequence + 9),
                ToIdc { request: 1, kind: Some(kind), sequence, trace: None, remaining_millis: None },
                &keys,
                |_| false,
            );
            assert_eq!(refused(&mut core), Refusal::Invalid);
            core.handle_link_down(LinkId(sequence + 9));
        }
        core.handle_message(LINK, pay(1, 7, 100), &keys, |_| false);
        core.handle_message(LINK, pay(2, 8, 100), &keys, |_| false);
        assert!(matches!(core.poll_output(), Some(Output::Ask(..))));
        assert_eq!(refused(&mut core), Refusal::Busy);
    }
}
