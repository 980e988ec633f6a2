//! Callers: each wants one thing under one idempotency key, and does about an answer what storefronts do: try again
//! under the same key (here or elsewhere, patiently or not), ask, cancel, give up; now and then with a mistake.

use std::time::Duration;

use bridge_protocol::domain::OrderId;
use bridge_protocol::seal::KeyId;
use bridge_protocol::wire::order::Refusal;

use super::super::reference::{self, Row};
use super::super::shop::Body;
use super::clocks::Host;
use super::replies::{CallerReply, NoEffect};
use super::{Event, World, note};

/// Attempts that a caller makes before it waits for better times.
const TRIES: u32 = 7;
/// Attempts to find out how an order ended, when nothing goes wrong any more.
const TRIES_TO_FIND_OUT: u32 = 60;

/// What one idempotency key stands for.
pub(super) struct Write {
    pub(super) key: String,
    pub(super) brand: usize,
    pub(super) intent: Intent,
    /// Every attempt, by its number.
    pub(super) attempts: Vec<usize>,
    /// Attempts that are not answered.
    open: u32,
    tries: u32,
    /// The body that is sent next.
    next_body: usize,
    /// Where the caller was told to ask, if it was: the cloud agent and the order.
    ask_at: Option<(usize, OrderId)>,
    /// What it does once it knows: so many more things.
    curiosity: u32,
    /// The first verified receipt.
    pub(super) receipt: Option<Row>,
    /// What the ledger committed under the key.
    pub(super) row: Option<Row>,
    pub(super) end: CallerEnd,
}

/// What a caller wants.
pub(super) enum Intent {
    /// To place an order; all bodies but the first are mistakes.
    Place(Vec<Body>),
    /// To cancel one.
    Cancel(OrderId),
}

/// How a caller without a receipt has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallerEnd {
    /// It has not, or it has a receipt.
    Open,
    /// It was told that nothing happened, and left.
    GaveUp,
    /// It asked, and the order is there.
    FoundThere,
    /// It asked, and the order is not there.
    FoundAbsent,
}

/// One request of a caller.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) write: usize,
    pub(super) request: Request,
    /// The cloud agent, and which process of it.
    pub(super) cloud: usize,
    pub(super) cloud_life: u32,
    /// The id made for it, or the order that it is about.
    pub(super) order: OrderId,
    /// The digest it travelled under.
    pub(super) key: Option<reference::Key>,
    /// For a question or a cancellation: whether the ledger had the order when it was sent.
    pub(super) existed: bool,
    /// For an order: the keys that it was sealed to so far.
    pub(super) sealed_to: Vec<KeyId>,
    /// For an order: whether it was to be sealed again, and could be.
    pub(super) sealable: bool,
    pub(super) ending: AttemptEnd,
}

/// What an attempt is.
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

/// How an attempt ended for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptEnd {
    Open,
    /// It was told an outcome, or how an order stands.
    Known,
    /// It was told that this attempt did nothing.
    Denied,
    /// It was told that nobody knows, at this moment.
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

    /// What its receipt says is gone: it may try again, and has so many tries as at first.
    pub(super) fn forget_receipt(&mut self) {
        (self.receipt, self.tries) = (None, 0);
    }
}

impl World {
    /// Lets every caller come at its time; a schedule is a launch of a second or a few.
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

    /// A caller wants something.
    fn wants(&mut self, write: Write) {
        let brand = self.shop.brands()[write.brand].as_str();
        self.keys_sent.insert(reference::digest(brand, &write.key), self.writes.len());
        self.writes.push(write);
    }

    /// Every caller who does not know how its order ended is to find out.
    pub(super) fn find_out_all(&mut self) {
        self.finding_out = true;
        for write in 0..self.writes.len() {
            self.writes[write].tries = 0;
            let delay = self.dice.millis(0..=1_000);
            self.after(delay, Event::Wake(write));
        }
    }

    /// The caller does the next thing.
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

    /// Cancels an order that may be there or not, or be there in a moment: this may overtake the order itself.
    fn cancel_unseen(&mut self, id: usize, order: OrderId, delay: Duration) {
        self.counts.cancelled_unseen += 1;
        let (brand, number) = (self.writes[id].brand, self.writes.len());
        let key = format!("{}-cancel-unseen-{number}", self.writes[id].key);
        self.wants(Write::new(key, brand, Intent::Cancel(order), 0));
        self.after(delay, Event::Wake(number));
    }

    /// A shopper who has paid has the order cancelled.
    pub(super) fn cancels_paid(&mut self, order: OrderId, brand: usize, delay: Duration) {
        let number = self.writes.len();
        self.wants(Write::new(format!("cancel-paid-{number}"), brand, Intent::Cancel(order), 0));
        self.after(delay, Event::Wake(number));
    }

    /// An open attempt takes long: some callers hang up and try elsewhere.
    pub(super) fn impatient(&mut self, id: usize) {
        if self.writes[id].open > 0 && self.writes[id].receipt.is_none() {
            self.try_once(id);
        }
    }

    /// Places or cancels, at any cloud agent.
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

    /// Asks how the order stands, at the place that the caller was told.
    fn ask(&mut self, id: usize, by_key: bool) {
        let write = &self.writes[id];
        let last_placed =
            |attempt: &&usize| matches!(self.attempts[**attempt].request, Request::Place { .. });
        let last = write.attempts.iter().rfind(last_placed).map(|attempt| {
            let Attempt { cloud, order, .. } = self.attempts[*attempt];
            (cloud, order)
        });
        let Some((cloud, order)) = write.ask_at.or(last) else { return self.try_once(id) };
        // Once nothing goes wrong any more, any agent must know.
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

    /// A caller with a receipt looks whether it is still so, or cancels.
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

    /// The caller is told something.
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
            // Nothing is under way any more that could bring the order.
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
            // A refusal is final once nothing is settled any more that was sent before.
            AttemptEnd::Unknown(_) if self.finding_out => {
                self.sender_limits.settle_for + Duration::from_millis(1)
            }
            _ if self.finding_out => self.dice.millis(20..=200),
            _ => self.dice.millis(1..=250),
        };
        self.after(delay, Event::Wake(id));
    }

    /// Who is told for the first time that its order is placed may pay for it.
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

    /// Whether the caller was told of every attempt that it did nothing.
    pub(super) fn is_denied(&self, id: usize) -> bool {
        let endings = self.writes[id].attempts.iter().map(|attempt| &self.attempts[*attempt]);
        endings
            .filter(|attempt| !matches!(attempt.request, Request::Ask { .. }))
            .all(|attempt| attempt.ending == AttemptEnd::Denied)
    }
}
