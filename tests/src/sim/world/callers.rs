//! Callers. Each wants one thing under one idempotency key, and reacts to answers as storefronts
//! do: it retries under the same key (at the same agent or another, patiently or not), asks,
//! cancels, or gives up. A few make mistakes.

use std::time::Duration;

use bridge_protocol::domain::OrderId;
use bridge_protocol::seal::KeyId;
use bridge_protocol::wire::order::Refusal;

use super::super::reference::{self, Row};
use super::super::shop::Body;
use super::clocks::Host;
use super::replies::{CallerReply, NoEffect};
use super::{Event, World, note};

/// Attempts of a caller before it waits until the faults are over.
const TRIES: u32 = 7;
/// Attempts of a caller to learn the outcome of its order after the last fault.
const TRIES_TO_FIND_OUT: u32 = 60;

/// The request that one idempotency key stands for.
pub(super) struct Write {
    pub(super) key: String,
    pub(super) brand: usize,
    pub(super) intent: Intent,
    /// All attempts, as indices into the world's attempts.
    pub(super) attempts: Vec<usize>,
    /// Number of attempts without an answer.
    open: u32,
    tries: u32,
    /// Index of the body that is sent next.
    next_body: usize,
    /// The cloud agent to ask and the order's id, if an answer named them.
    ask_at: Option<(usize, OrderId)>,
    /// Number of further requests that the caller makes once it knows the outcome.
    curiosity: u32,
    /// The first verified receipt.
    pub(super) receipt: Option<Row>,
    /// The outcome that the ledger committed under the key.
    pub(super) row: Option<Row>,
    pub(super) end: CallerEnd,
}

/// The wish of a caller.
pub(super) enum Intent {
    /// To place an order. All bodies but the first are mistakes.
    Place(Vec<Body>),
    /// To cancel an order.
    Cancel(OrderId),
}

/// The end of a caller that has no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallerEnd {
    /// The caller is not done, or it has a receipt.
    Open,
    /// The caller was told that nothing happened, and left.
    GaveUp,
    /// The caller asked, and the order exists.
    FoundThere,
    /// The caller asked, and the order does not exist.
    FoundAbsent,
}

/// One attempt of a caller.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) write: usize,
    pub(super) request: Request,
    /// Index of the cloud agent, and the number of its process.
    pub(super) cloud: usize,
    pub(super) cloud_life: u32,
    /// The id made for a new order, or the id of the order that the request is about.
    pub(super) order: OrderId,
    /// The digest of the key on the wire.
    pub(super) key: Option<reference::Key>,
    /// For a question or a cancellation: true if the ledger had the order when the request was
    /// sent.
    pub(super) existed: bool,
    /// For an order: the keys that it was sealed to so far.
    pub(super) sealed_to: Vec<KeyId>,
    /// For an order: true if it had to be sealed again, and a key for that existed.
    pub(super) sealable: bool,
    pub(super) ending: AttemptEnd,
}

/// Kind of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Place {
        body: usize,
    },
    Cancel,
    /// A mistake: a cancellation under the key that placed the order.
    CancelUnderPlacingKey,
    Ask {
        by_key: bool,
    },
}

/// End of an attempt, as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptEnd {
    Open,
    /// The caller knows an outcome, or the state of an order.
    Known,
    /// The caller was told that this attempt did nothing.
    Denied,
    /// The caller was told, at this moment, that the outcome is unknown.
    Unknown(Duration),
}

impl Write {
    fn new(key: String, brand: usize, intent: Intent, curiosity: u32) -> Self {
        Self {
            key,
            brand,
            intent,
            attempts: Vec::new(),
            open: 0,
            tries: 0,
            next_body: 0,
            ask_at: None,
            curiosity,
            receipt: None,
            row: None,
            end: CallerEnd::Open,
        }
    }

    /// Forgets a receipt for an outcome that a restore removed. The caller may try again, as often
    /// as at first.
    pub(super) fn forget_receipt(&mut self) {
        (self.receipt, self.tries) = (None, 0);
    }
}

impl World {
    /// Schedules the arrival of all callers. A schedule is a product launch of one or a few
    /// seconds.
    pub(super) fn place_orders(&mut self, orders: u64) {
        let micros_each = self.dice.between(300..=5_000);
        for number in 0..orders {
            let brand = self.dice.index(self.shop.brands().len());
            let mut bodies = Vec::from_iter(self.shop.body(&mut self.dice, brand));
            if self.dice.happens(300) {
                bodies.extend(self.shop.body(&mut self.dice, brand));
            }
            let curiosity = u32::try_from(self.dice.between(0..=2)).unwrap_or(0);
            self.wants(Write::new(format!("order-{number}"), brand, Intent::Place(bodies), curiosity));
            let comes = self.dice.micros(0..=orders * micros_each);
            self.faults_until = self.faults_until.max(comes + Duration::from_secs(1));
            self.at(comes, Event::Wake(self.writes.len() - 1));
        }
    }

    /// Adds a caller's wish.
    fn wants(&mut self, write: Write) {
        let brand = self.shop.brands()[write.brand].as_str();
        self.keys_sent.insert(reference::digest(brand, &write.key), self.writes.len());
        self.writes.push(write);
    }

    /// Makes every caller without a known outcome find it out.
    pub(super) fn find_out_all(&mut self) {
        self.finding_out = true;
        for write in 0..self.writes.len() {
            self.writes[write].tries = 0;
            let delay = self.dice.millis(0..=1_000);
            self.after(delay, Event::Wake(write));
        }
    }

    /// Takes the caller's next step.
    pub(super) fn wake(&mut self, id: usize) {
        let write = &self.writes[id];
        if write.end != CallerEnd::Open || write.open > 0 {
            return;
        }
        if write.receipt.is_some() {
            return self.be_curious(id);
        }
        let tries_max = if self.finding_out { TRIES_TO_FIND_OUT } else { TRIES };
        if write.tries >= tries_max {
            if self.finding_out {
                self.violate("LIVENESS", format!("caller {id} cannot find out how its order ended"));
            }
            return;
        }
        if let Some((_, order)) = write.ask_at
            && matches!(write.intent, Intent::Place(_))
            && !self.finding_out
            && self.dice.happens(self.fault_rates.cancels_unseen)
        {
            self.cancel_unseen(id, order, Duration::ZERO);
        }
        let write = &self.writes[id];
        let asks = if write.ask_at.is_some() || self.finding_out { 4_000 } else { 0 };
        if matches!(write.intent, Intent::Place(_)) && self.dice.happens(asks) {
            self.ask(id, true);
        } else {
            self.try_once(id);
        }
    }

    /// Cancels an order whose outcome is unknown. The cancellation may overtake the order itself.
    fn cancel_unseen(&mut self, id: usize, order: OrderId, delay: Duration) {
        self.counts.cancelled_unseen += 1;
        let (brand, number) = (self.writes[id].brand, self.writes.len());
        let key = format!("{}-cancel-unseen-{number}", self.writes[id].key);
        self.wants(Write::new(key, brand, Intent::Cancel(order), 0));
        self.after(delay, Event::Wake(number));
    }

    /// Cancels an order that was paid.
    pub(super) fn cancels_paid(&mut self, order: OrderId, brand: usize, delay: Duration) {
        let number = self.writes.len();
        self.wants(Write::new(format!("cancel-paid-{number}"), brand, Intent::Cancel(order), 0));
        self.after(delay, Event::Wake(number));
    }

    /// Lets a caller whose attempt takes long send its request again, perhaps to another agent.
    pub(super) fn impatient(&mut self, id: usize) {
        if self.writes[id].open > 0 && self.writes[id].receipt.is_none() {
            self.try_once(id);
        }
    }

    /// Places or cancels at a random cloud agent.
    fn try_once(&mut self, id: usize) {
        let cloud = self.dice.index(self.clouds.len());
        let write = &self.writes[id];
        let (request, order) = match &write.intent {
            Intent::Cancel(order) => (Request::Cancel, *order),
            Intent::Place(bodies) => {
                let body =
                    if self.dice.happens(1_000) { self.dice.index(bodies.len()) } else { write.next_body };
                let order = OrderId::new(self.clock(Host::Cloud(cloud)), self.dice.id());
                self.orders.insert(order, self.attempts.len());
                (Request::Place { body: body.min(bodies.len() - 1) }, order)
            }
        };
        self.make(id, request, cloud, order);
        let placing = matches!(request, Request::Place { .. });
        if placing && !self.finding_out && self.dice.happens(self.fault_rates.cancels_at_once) {
            let delay = self.dice.micros(0..=12_000);
            self.cancel_unseen(id, order, delay);
        }
        if self.writes[id].open > 0 && self.dice.happens(1_000) {
            let delay = self.dice.millis(20..=500);
            self.after(delay, Event::Impatient(id));
        }
    }

    /// Asks for the state of the order, at the agent that the caller was told.
    fn ask(&mut self, id: usize, by_key: bool) {
        let write = &self.writes[id];
        let last_placed =
            |attempt: &&usize| matches!(self.attempts[**attempt].request, Request::Place { .. });
        let last = write.attempts.iter().rfind(last_placed).map(|attempt| {
            let Attempt { cloud, order, .. } = self.attempts[*attempt];
            (cloud, order)
        });
        let Some((cloud, order)) = write.ask_at.or(last) else { return self.try_once(id) };
        // After the last fault, every agent must know the order.
        let cloud = if self.finding_out { self.dice.index(self.clouds.len()) } else { cloud };
        self.make(id, Request::Ask { by_key }, cloud, order);
    }

    fn make(&mut self, id: usize, request: Request, cloud: usize, order: OrderId) {
        let attempt = self.attempts.len();
        self.attempts.push(Attempt {
            write: id,
            request,
            cloud,
            cloud_life: self.clouds[cloud].life,
            order,
            key: None,
            existed: false,
            sealed_to: Vec::new(),
            sealable: false,
            ending: AttemptEnd::Open,
        });
        let write = &mut self.writes[id];
        write.attempts.push(attempt);
        write.open += 1;
        write.tries += 1;
        self.counts.calls += 1;
        self.counts.asks += u64::from(matches!(request, Request::Ask { .. }));
        note!(self, "caller {id} makes attempt {attempt}: {request:?} at cloud {cloud}");
        self.call(attempt);
    }

    /// Lets a caller with a receipt check it again, or cancel its order.
    fn be_curious(&mut self, id: usize) {
        let write = &mut self.writes[id];
        let Some(left) = write.curiosity.checked_sub(1) else { return };
        write.curiosity = left;
        let Some(receipt) = write.receipt.clone() else { return };
        let Ok(order) = OrderId::from_bytes(&receipt.order) else { return };
        let placing = matches!(write.intent, Intent::Place(_));
        match self.dice.index(10) {
            0..=1 => self.try_once(id),
            2 if placing => {
                let cloud = self.dice.index(self.clouds.len());
                self.make(id, Request::CancelUnderPlacingKey, cloud, order);
            }
            3..=4 if placing => self.ask(id, true),
            5 if placing => {
                let cloud = self.dice.index(self.clouds.len());
                self.make(id, Request::Ask { by_key: false }, cloud, order);
            }
            6..=9 if receipt.outcome.is_placed() || self.dice.happens(2_000) => {
                let (key, brand) =
                    (format!("{}-cancel-{}", self.writes[id].key, left), self.writes[id].brand);
                self.wants(Write::new(key, brand, Intent::Cancel(order), left));
                self.after(Duration::ZERO, Event::Wake(self.writes.len() - 1));
            }
            _ => {}
        }
        let delay = self.dice.millis(1..=300);
        self.after(delay, Event::Wake(id));
    }

    /// Passes an answer to the caller.
    pub(super) fn tell(&mut self, attempt: usize, told: CallerReply) {
        note!(self, "attempt {attempt} is told {told:?}");
        self.check_told(attempt, &told);
        self.told_placed(attempt, &told);
        let Attempt { write: id, cloud, order, request, .. } = self.attempts[attempt];
        if let (CallerReply::Unknown, Some(total)) =
            (&told, self.body_of(order.as_bytes()).map(|body| body.terms.total))
            && matches!(request, Request::Place { .. })
        {
            self.may_pay_early(order, self.writes[id].brand, total);
        }
        let asked = matches!(request, Request::Ask { .. });
        let write = &mut self.writes[id];
        write.open -= 1;
        let mut ending = AttemptEnd::Known;
        match told {
            CallerReply::Receipt { receipt, .. } => {
                write.receipt.get_or_insert(receipt);
            }
            CallerReply::State(_) if self.finding_out && write.receipt.is_none() => {
                write.end = CallerEnd::FoundThere
            }
            CallerReply::NotFound
                if self.finding_out && write.receipt.is_none() && self.dice.happens(5_000) =>
            {
                write.end = CallerEnd::FoundAbsent;
            }
            CallerReply::State(_) | CallerReply::NotFound | CallerReply::Pending => {}
            // No copy of the request is under way any more that could still place the order.
            CallerReply::Nothing(NoEffect::Refused(Refusal::NotFound)) if self.finding_out => {
                write.end = CallerEnd::FoundAbsent;
                ending = AttemptEnd::Denied;
            }
            CallerReply::Nothing(_) | CallerReply::InProgress => ending = AttemptEnd::Denied,
            CallerReply::KeyReused | CallerReply::KeyTaken => {
                ending = AttemptEnd::Denied;
                if let (Intent::Place(bodies), Request::Place { body }) = (&write.intent, request) {
                    write.next_body = (body + 1) % bodies.len();
                }
            }
            CallerReply::Unknown => {
                ending = AttemptEnd::Unknown(self.now);
                if !asked {
                    write.ask_at = Some((cloud, order));
                }
            }
            CallerReply::Lost => ending = AttemptEnd::Unknown(self.now),
        }
        self.attempts[attempt].ending = ending;
        if ending == AttemptEnd::Denied && !self.finding_out && self.dice.happens(2_000) && self.is_denied(id)
        {
            note!(self, "caller {id} gives up");
            self.writes[id].end = CallerEnd::GaveUp;
        }
        let delay = match ending {
            // A refusal is final only once the sender has settled all earlier requests.
            AttemptEnd::Unknown(_) if self.finding_out => {
                self.sender_limits.settle_for + Duration::from_millis(1)
            }
            _ if self.finding_out => self.dice.millis(20..=200),
            _ => self.dice.millis(1..=250),
        };
        self.after(delay, Event::Wake(id));
    }

    /// Lets a caller pay when it learns for the first time that its order is placed.
    fn told_placed(&mut self, attempt: usize, told: &CallerReply) {
        let write = &self.writes[self.attempts[attempt].write];
        let (brand, first) = (write.brand, write.receipt.is_none());
        if let CallerReply::Receipt { receipt, .. } = told
            && receipt.outcome.is_placed()
            && first
            && let Ok(order) = OrderId::from_bytes(&receipt.order)
            && let Some(total) = self.body_of(&receipt.order).map(|body| body.terms.total)
        {
            self.may_pay(order, brand, total);
        }
    }

    /// Returns true if the caller was told about every attempt that it did nothing.
    pub(super) fn is_denied(&self, id: usize) -> bool {
        let endings = self.writes[id].attempts.iter().map(|attempt| &self.attempts[*attempt]);
        endings
            .filter(|attempt| !matches!(attempt.request, Request::Ask { .. }))
            .all(|attempt| attempt.ending == AttemptEnd::Denied)
    }
}
