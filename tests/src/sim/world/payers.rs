//! Callers who pay. Each wants one thing about money under one idempotency key, and reacts to
//! answers as storefronts do. Some make mistakes, or ask for another brand's order.

use std::time::Duration;

use bridge_cloud::admission::{self, Load};
use bridge_idc::orders::store::model::PaymentColumns;
use bridge_protocol::domain::{IdempotencyKey, KeyDigest, OrderId, PaymentId};
use bridge_protocol::order_link::fair_share::BrandIndex;
use bridge_protocol::order_link::sender::{
    BodyMark, CallerAnswer, Output, Rejected, RequestClass, RequestId, Sender,
};
use bridge_protocol::wire::order::{Refusal, ToCloud, to_idc};
use bridge_protocol::wire::payment::{AskPayment, Pay, Refund};
use bytes::Bytes;

use super::super::reference;
use super::super::reference::answer::Payment;
use super::super::reference::bank::Id;
use super::clocks::Host;
use super::cloud_log::AfterLogging;
use super::lines::PAYMENTS;
use super::replies::{CallerReply, NoEffect};
use super::{Event, World, note};

/// Attempts of a payer before it waits until the faults are over.
const TRIES: u32 = 6;

/// The request that one idempotency key stands for.
pub(super) struct PayWrite {
    key: String,
    /// Brand of the storefront that asks.
    pub(super) brand: usize,
    /// Brand of the order.
    pub(super) brand_of_order: usize,
    pub(super) order: OrderId,
    pub(super) intent: PayIntent,
    pub(super) attempts: Vec<usize>,
    open: u32,
    tries: u32,
    /// The final outcome, once it is known.
    pub(super) end: Option<PayEnd>,
}

/// The wish of a payer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PayIntent {
    /// To pay for an order. A few attempts use the token `slips` under the same key by mistake.
    Pay { amount: i64, token: String, slips: Option<String> },
    /// To get a refund.
    Refund { payment: PaymentId, amount: i64, currency: &'static str },
}

/// Final outcome for a payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayEnd {
    Paid,
    NotPaid,
    GivenBack,
    NotGivenBack,
    /// The request had no effect, for this reason.
    Refused(Refusal),
}

/// One attempt of a payer.
#[derive(Debug, Clone)]
pub(super) struct PayAttempt {
    pub(super) write: usize,
    cloud: usize,
    /// The id made for the payment or the refund.
    pub(super) id: Id,
    pub(super) request: PayRequest,
    pub(super) key: reference::Key,
    denied: bool,
    /// True if the order existed when the attempt was sent, or its agent was still placing it.
    pub(super) existed: bool,
}

/// Kind of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PayRequest {
    Pay { token: String },
    Refund,
    Ask,
}

impl World {
    /// Lets a caller pay although the outcome of its order is still unknown.
    pub(super) fn may_pay_early(&mut self, order: OrderId, brand: usize, total: i64) {
        if self.dice.happens(self.fault_rates.pays) {
            let token = self.agree(order, total);
            let delay = self.dice.millis(0..=200);
            self.pays(order, brand, brand, PayIntent::Pay { amount: total, token, slips: None }, delay);
        }
    }

    /// Lets a caller whose order was placed pay. Some pay twice, with a mistake, or from another
    /// brand.
    pub(super) fn may_pay(&mut self, order: OrderId, brand: usize, total: i64) {
        if !self.dice.happens(self.fault_rates.pays) {
            return;
        }
        let token = self.agree(order, total);
        let slips = self.dice.happens(500).then(|| self.agree(order, total));
        let amount = if self.dice.happens(300) { total + 1 } else { total };
        let delay = self.dice.millis(0..=200);
        self.pays(order, brand, brand, PayIntent::Pay { amount, token: token.clone(), slips }, delay);
        if self.dice.happens(2_000) {
            // The same shopper pays in a second window.
            let other = if self.dice.happens(5_000) { token } else { self.agree(order, total) };
            let delay = self.dice.millis(0..=400);
            self.pays(
                order,
                brand,
                brand,
                PayIntent::Pay { amount: total, token: other, slips: None },
                delay,
            );
        }
        if self.dice.happens(200) {
            let token = self.agree(order, total);
            let delay = self.dice.millis(0..=1_000);
            self.pays(order, 1 - brand, brand, PayIntent::Pay { amount: total, token, slips: None }, delay);
        }
    }

    fn agree(&mut self, order: OrderId, total: i64) -> String {
        self.tokens_made += 1;
        let token = format!("tgen_{}", self.tokens_made);
        let (shown, lasts) = (self.dice.happens(5_000), self.dice.happens(5_000));
        self.payment_world.bank.agree(&token, *order.as_bytes(), total, (shown, lasts), self.now);
        token
    }

    fn pays(
        &mut self,
        order: OrderId,
        brand: usize,
        brand_of_order: usize,
        intent: PayIntent,
        delay: Duration,
    ) {
        let number = self.payment_world.writes.len();
        let (key, attempts) = (format!("money-{number}"), Vec::new());
        let write =
            PayWrite { key, brand, brand_of_order, order, intent, attempts, open: 0, tries: 0, end: None };
        self.payment_world.writes.push(write);
        self.after(delay, Event::PayWake(number));
    }

    /// Returns true if every payer knows its outcome.
    pub(super) fn all_payers_know(&self) -> bool {
        let is_settled = |write: &PayWrite| self.payment_world.settled.contains(write.order.as_bytes());
        self.payment_world.writes.iter().all(|write| write.end.is_some() || is_settled(write))
    }

    /// Makes every payer find out its outcome.
    pub(super) fn find_out_payers(&mut self) {
        self.payment_world.finding_out = true;
        for write in 0..self.payment_world.writes.len() {
            self.payment_world.writes[write].tries = 0;
            let delay = self.dice.millis(0..=1_000);
            self.after(delay, Event::PayWake(write));
        }
    }

    pub(super) fn pay_wake(&mut self, id: usize) {
        let write = &self.payment_world.writes[id];
        if write.end.is_some() || write.open > 0 {
            return;
        }
        if write.tries >= TRIES {
            return;
        }
        let asks =
            write.tries > 0 && matches!(write.intent, PayIntent::Pay { .. }) && self.dice.happens(3_000);
        let request = match &self.payment_world.writes[id].intent {
            PayIntent::Pay { .. } if asks => PayRequest::Ask,
            PayIntent::Pay { token, slips, .. } => {
                let slip = slips.clone().filter(|_| self.dice.happens(3_000));
                PayRequest::Pay { token: slip.unwrap_or_else(|| token.clone()) }
            }
            PayIntent::Refund { .. } => PayRequest::Refund,
        };
        self.pay_once(id, request);
        if self.payment_world.writes[id].open > 0 && self.dice.happens(1_500) {
            let delay = self.dice.millis(20..=800);
            self.after(delay, Event::PayImpatient(id));
        }
    }

    /// Lets a payer whose attempt takes long send its request again, perhaps to another agent.
    pub(super) fn pay_impatient(&mut self, id: usize) {
        let PayWrite { open, end, intent, .. } = &self.payment_world.writes[id];
        if *open > 0 && end.is_none() {
            let request = match intent {
                PayIntent::Pay { token, .. } => PayRequest::Pay { token: token.clone() },
                PayIntent::Refund { .. } => PayRequest::Refund,
            };
            self.pay_once(id, request);
        }
    }

    fn pay_once(&mut self, id: usize, request: PayRequest) {
        let cloud = self.dice.index(self.clouds.len());
        let now = self.clock(Host::Cloud(cloud));
        let made = *PaymentId::new(now, self.dice.id()).as_bytes();
        let Some(key) = self.pay_key(id) else { return };
        let attempt = self.payment_world.attempts.len();
        let made_for = PayAttempt {
            write: id,
            cloud,
            id: made,
            request,
            key: *key.as_bytes(),
            denied: false,
            existed: false,
        };
        note!(self, "payer {id} makes attempt {attempt}: {:?} at cloud {cloud}", made_for.request);
        self.payment_world.attempts.push(made_for);
        self.payment_world.made_for.insert(made, attempt);
        let write = &mut self.payment_world.writes[id];
        write.attempts.push(attempt);
        (write.open, write.tries) = (write.open + 1, write.tries + 1);
        self.counts.pay_calls += 1;
        self.pay_call(attempt);
    }

    fn pay_key(&self, id: usize) -> Option<KeyDigest> {
        let PayWrite { key, brand, .. } = &self.payment_world.writes[id];
        Some(IdempotencyKey::parse(key.as_bytes()).ok()?.digest(self.shop.brands().get(*brand)?))
    }

    /// Handles a payer's request: admits it, logs it, and hands it to the order link of payments.
    fn pay_call(&mut self, attempt: usize) {
        let PayAttempt { write, cloud, request, .. } = self.payment_world.attempts[attempt].clone();
        let agent = &self.clouds[cloud];
        if !agent.up {
            return self.tell_payer(attempt, &CallerReply::Nothing(NoEffect::NobodyThere), None);
        }
        let Some(kind) = self.pay_message(attempt) else { return };
        if request == PayRequest::Ask {
            return self.submit_payment(attempt, kind, BodyMark::NONE);
        }
        let brand = BrandIndex(self.payment_world.writes[write].brand);
        let has_room = agent.payments.has_room(RequestClass::Write, brand);
        let load = Load {
            link_open: agent.payments.has_open_link(),
            queued: agent.payments.queued(RequestClass::Write),
            audit_writable: self.cloud_log_is_writable(cloud),
        };
        if let Err(refused) = admission::admit_write(load, has_room, false) {
            return self.tell_payer(attempt, &CallerReply::Nothing(NoEffect::NotAdmitted(refused)), None);
        }
        let mark = match &request {
            PayRequest::Pay { token } => token.bytes().fold(7, |mark, byte| mark * 31 + u64::from(byte)),
            PayRequest::Refund | PayRequest::Ask => 3,
        };
        self.log_at_cloud(cloud, AfterLogging::Pay { attempt, kind: Box::new(kind), mark: BodyMark(mark) });
    }

    /// Returns the message of an attempt.
    fn pay_message(&self, attempt: usize) -> Option<to_idc::Kind> {
        let PayAttempt { write, id, request, key, .. } = &self.payment_world.attempts[attempt];
        let PayWrite { brand, order, intent, .. } = &self.payment_world.writes[*write];
        let brand = self.shop.brands().get(*brand)?.as_str().to_owned();
        let (order, key) = (Bytes::copy_from_slice(order.as_bytes()), Bytes::copy_from_slice(key));
        let id = Bytes::copy_from_slice(id);
        Some(match (request, intent) {
            (PayRequest::Pay { token }, PayIntent::Pay { amount, .. }) => to_idc::Kind::Pay(Pay {
                brand,
                order,
                key,
                payment: id,
                amount: *amount,
                currency: "KRW".to_owned(),
                payment_key: token.clone(),
            }),
            (PayRequest::Refund, PayIntent::Refund { payment, amount, currency }) => {
                to_idc::Kind::Refund(Refund {
                    brand,
                    order,
                    key,
                    payment: Bytes::copy_from_slice(payment.as_bytes()),
                    refund: id,
                    amount: *amount,
                    currency: (*currency).to_owned(),
                    reason: "it came back".to_owned(),
                })
            }
            _ => to_idc::Kind::AskPayment(AskPayment { brand, order, payment: id, key: Some(key) }),
        })
    }

    pub(super) fn submit_payment(&mut self, attempt: usize, kind: to_idc::Kind, mark: BodyMark) {
        let PayAttempt { write, cloud, .. } = self.payment_world.attempts[attempt];
        let (now, order) = (self.cloud_now(cloud), self.payment_world.writes[write].order);
        let is_placing = self.clouds[cloud].sender.is_placing(order);
        self.counts.paid_early += u64::from(is_placing);
        self.payment_world.attempts[attempt].existed =
            is_placing || self.ledger.state_of(&order.as_uuid()).is_some();
        let submit = if is_placing { Sender::submit_while_placed } else { Sender::submit };
        let brand = BrandIndex(self.payment_world.writes[write].brand);
        match submit(&mut self.clouds[cloud].payments, now, brand, order, kind, mark) {
            Ok(id) => {
                self.clouds[cloud].paying.insert(id, attempt);
            }
            Err(rejected) => self.conclude_payer(attempt, CallerReply::rejected(rejected), None),
        }
        self.do_payment_outputs(cloud);
    }

    /// Handles an answer on a payment lane.
    pub(super) fn payment_answered(
        &mut self,
        cloud: usize,
        link: bridge_protocol::order_link::LinkId,
        payload: &[u8],
        message: ToCloud,
    ) {
        let request = RequestId(message.request);
        if let Some(reference::answer::DecodedAnswer::Payment(heard)) = reference::answer::read(payload)
            && self.clouds[cloud].paying.contains_key(&request)
        {
            self.clouds[cloud].paid.insert(request, heard);
        }
        let now = self.cloud_now(cloud);
        self.clouds[cloud].payments.handle_answer(now, link, message);
        self.do_payment_outputs(cloud);
    }

    pub(super) fn pay_timer(&mut self, cloud: usize, at: Duration) {
        if self.clouds[cloud].up && self.clouds[cloud].pay_timer == Some(at) {
            self.clouds[cloud].pay_timer = None;
            let now = self.cloud_now(cloud);
            self.clouds[cloud].payments.handle_timeout(now);
            self.do_payment_outputs(cloud);
        }
    }

    /// Carries out the outputs of the payments' sender, then sets its timer.
    pub(super) fn do_payment_outputs(&mut self, cloud: usize) {
        while let Some(output) = self.clouds[cloud].payments.poll_output() {
            match output {
                Output::Transmit { link, message, .. } => {
                    self.check_logged_send(cloud, message.kind.as_ref());
                    self.send_request(link, PAYMENTS, &message);
                }
                Output::Answer { request, answer } => {
                    let heard = self.clouds[cloud].paid.remove(&request);
                    if let Some(attempt) = self.clouds[cloud].paying.remove(&request) {
                        self.answer_payer(attempt, answer, heard);
                    }
                }
                Output::PushedOut { request } => {
                    if let Some(attempt) = self.clouds[cloud].paying.remove(&request) {
                        self.conclude_payer(attempt, CallerReply::rejected(Rejected::Full), None);
                    }
                }
                Output::SealAgain { .. } => self.violate("SEALING", "a payment is to be sealed".to_owned()),
            }
        }
        let agent = &self.clouds[cloud];
        if let Some(at) = agent.payments.next_timeout().map(|at| agent.born() + at)
            && agent.pay_timer != Some(at)
        {
            self.clouds[cloud].pay_timer = Some(at);
            self.at(at.max(self.now), Event::PayTimer { cloud, at });
        }
    }

    fn answer_payer(&mut self, attempt: usize, answer: CallerAnswer, heard: Option<Payment>) {
        let asks = self.payment_world.attempts[attempt].request == PayRequest::Ask;
        match answer {
            CallerAnswer::Payment(stands) => {
                let fits = heard.as_ref().is_some_and(|heard| {
                    heard.state == stands.state_code() && heard.payment[..] == stands.payment[..]
                });
                if !fits {
                    self.violate(
                        "ANSWERS",
                        format!("payment attempt {attempt} is told {stands:?} in place of {heard:?}"),
                    );
                }
                self.conclude_payer(attempt, CallerReply::Unknown, heard);
            }
            other => self.conclude_payer(attempt, CallerReply::answer(other, asks), None),
        }
    }

    /// Passes an answer to the payer. The answer to a write must first be durable in the log.
    fn conclude_payer(&mut self, attempt: usize, told: CallerReply, stands: Option<Payment>) {
        let PayAttempt { cloud, request, .. } = &self.payment_world.attempts[attempt];
        match request {
            PayRequest::Ask => self.tell_payer(attempt, &told, stands),
            _ => {
                let (cloud, told) = (*cloud, Box::new(told));
                self.log_at_cloud(
                    cloud,
                    AfterLogging::TellPayer { attempt, told, stands: stands.map(Box::new) },
                );
            }
        }
    }

    /// Passes an answer to the payer, with the state of its payment if it is known.
    pub(super) fn tell_payer(&mut self, attempt: usize, told: &CallerReply, stands: Option<Payment>) {
        note!(self, "payment attempt {attempt} is told {told:?} {stands:?}");
        let PayAttempt { write: id, request, .. } = self.payment_world.attempts[attempt].clone();
        self.payment_world.writes[id].open -= 1;
        let end = match stands {
            Some(stands) => self.payment_stands(attempt, &stands),
            None => self.payment_refused(attempt, told),
        };
        if let Some(end) = end {
            self.payment_world.writes[id].end.get_or_insert(end);
            self.pays_again(id, end);
        }
        let delay = match request {
            PayRequest::Ask => self.dice.millis(1..=100),
            _ if self.payment_world.finding_out => self.sender_limits.settle_for + self.dice.millis(1..=500),
            _ => self.dice.millis(1..=400),
        };
        self.after(delay, Event::PayWake(id));
    }

    /// Returns the payer's final outcome, if the state of its payment is final.
    fn payment_stands(&mut self, attempt: usize, stands: &Payment) -> Option<PayEnd> {
        self.check_payment_told(attempt, stands);
        let refunds = self.payment_world.attempts[attempt].request == PayRequest::Refund;
        if refunds {
            return match stands.refund.as_ref()?.1.as_str() {
                "done" => Some(PayEnd::GivenBack),
                "refused" => Some(PayEnd::NotGivenBack),
                _ => None,
            };
        }
        match stands.state.as_str() {
            "paid" | "partially_refunded" | "refunded" => Some(PayEnd::Paid),
            "declined" | "not_paid" | "charged_late" | "returned" => Some(PayEnd::NotPaid),
            _ => None,
        }
    }

    /// Returns the payer's final outcome if the answer is a refusal, and all its attempts were told
    /// that they did nothing.
    fn payment_refused(&mut self, attempt: usize, told: &CallerReply) -> Option<PayEnd> {
        let PayAttempt { write: id, request, .. } = self.payment_world.attempts[attempt].clone();
        let refusal = match told {
            CallerReply::Nothing(NoEffect::Refused(refusal)) => Some(*refusal),
            CallerReply::KeyReused => Some(Refusal::KeyReused),
            CallerReply::NotFound => Some(Refusal::NotFound),
            _ => None,
        };
        if matches!(told, CallerReply::Unknown | CallerReply::Lost | CallerReply::Pending)
            || request == PayRequest::Ask
        {
            return None;
        }
        self.check_payment_denied(attempt, refusal);
        self.payment_world.attempts[attempt].denied = true;
        let refusal = refusal.filter(|refusal| {
            let for_now = matches!(
                refusal,
                Refusal::Busy | Refusal::DatabaseDown | Refusal::Late | Refusal::PaymentInProgress
            );
            // The first use of a key decides its request. Another use of it says nothing about the
            // outcome.
            !for_now && *refusal != Refusal::KeyReused
        })?;
        let denied = |attempt: &&usize| {
            let PayAttempt { request, denied, .. } = &self.payment_world.attempts[**attempt];
            *request == PayRequest::Ask || *denied
        };
        let write = &self.payment_world.writes[id];
        let all = write.attempts.iter().filter(denied).count() == write.attempts.len();
        // If another attempt may still have an effect, the payer tries again.
        (all || self.payment_world.finding_out).then_some(PayEnd::Refused(refusal))
    }

    /// Lets a payer that knows its outcome go on: it asks for a refund, pays in another way, or
    /// cancels the order.
    fn pays_again(&mut self, id: usize, end: PayEnd) {
        if self.payment_world.finding_out {
            return;
        }
        let PayWrite { brand, brand_of_order, order, intent, .. } = &self.payment_world.writes[id];
        let (brand, brand_of_order, order) = (*brand, *brand_of_order, *order);
        let PayIntent::Pay { amount, .. } = *intent else { return };
        match end {
            PayEnd::Paid => {
                for _ in 0..self.dice.index(3) {
                    self.asks_back(order, brand, amount);
                }
                if self.dice.happens(2_000) {
                    let delay = self.dice.millis(0..=300);
                    self.cancels_paid(order, brand, delay);
                }
            }
            PayEnd::NotPaid if brand == brand_of_order && self.dice.happens(6_000) => {
                let token = self.agree(order, amount);
                let delay = self.dice.millis(0..=300);
                self.pays(order, brand, brand, PayIntent::Pay { amount, token, slips: None }, delay);
            }
            _ => {}
        }
    }

    /// Lets the shop ask for a refund of the rest of a payment that has no valid order.
    pub(super) fn asks_for_the_rest(&mut self, row: &PaymentColumns) {
        let left = row.amount - self.payment_world.bank.back(&row.payment_key);
        let brand = self.shop.brands().iter().position(|brand| brand.as_str() == row.brand);
        if let (Some(brand), Ok(order), Ok(payment)) =
            (brand, OrderId::from_uuid(row.order), PaymentId::from_uuid(row.payment))
            && left > 0
        {
            let intent = PayIntent::Refund { payment, amount: left, currency: "KRW" };
            self.pays(order, brand, brand, intent, Duration::ZERO);
        }
    }

    /// Asks for a refund of an order's payment: of a part, all, too much, in another currency, or
    /// from another brand.
    fn asks_back(&mut self, order: OrderId, brand: usize, amount: i64) {
        let found = self.ledger.payments().into_iter().find(|row| {
            row.order == order.as_uuid() && matches!(row.state.as_str(), "paid" | "partially_refunded")
        });
        let Some(Ok(payment)) = found.map(|row| PaymentId::from_uuid(row.payment)) else { return };
        let part = match self.dice.index(8) {
            0..=2 => amount,
            3 => amount + 1,
            _ => {
                1 + i64::try_from(self.dice.between(0..=u64::try_from(amount - 1).unwrap_or(0))).unwrap_or(0)
            }
        };
        let currency = if self.dice.happens(400) { "JPY" } else { "KRW" };
        let asks = if self.dice.happens(800) { 1 - brand } else { brand };
        let delay = self.dice.millis(0..=400);
        self.pays(order, asks, brand, PayIntent::Refund { payment, amount: part, currency }, delay);
    }
}
