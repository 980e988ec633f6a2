//! The environment of a data centre's payments: a gateway behind a line that loses, delays and
//! holds up requests, the log's disk, a clock, and randomness. Requests of tasks become events, and
//! an answer lets the task continue.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bridge_idc::orders::store::model::ModelDatabase;
use bridge_idc::payments::audit::{Beside, Log};
use bridge_idc::payments::gateway::{ChargeStatus, Gateway, GatewayAnswer, NoProof};
use bridge_idc::payments::policy;
use bridge_idc::payments::service::Environment;
use bridge_idc::payments::{Charge, GiveBack};
use bridge_protocol::audit::Event as Logged;
use bridge_protocol::domain::ReasonCode;
use bridge_runtime::audit_log::{AuditError, CommandSocketError};
use rand_chacha::ChaCha8Rng;

use super::super::options::Sabotage;
use super::super::reference::bank::{BankReply, Shows};
use super::{Event, World, note};

/// A request of a task to its environment.
#[derive(Debug, Clone)]
pub(super) enum GatewayCall {
    Charge(Charge),
    Find(Charge),
    FindGivenBack(Charge),
    GiveBack(GiveBack),
    Log(Box<Logged>),
}

/// An answer of the environment.
#[derive(Debug, Clone)]
pub(super) enum GatewayReply {
    Answer(GatewayAnswer),
    Found(ChargeStatus),
    GivenBack(Vec<i64>),
    Logged(bool),
}

/// The line between the payments of all data centres and their environment.
#[derive(Debug)]
pub(super) struct GatewayLine {
    asked: Vec<(u64, GatewayCall)>,
    asks_made: u64,
    replies: BTreeMap<u64, GatewayReply>,
    now: Duration,
    chance: ChaCha8Rng,
}

/// A shared handle of the line.
#[derive(Debug, Clone)]
pub(super) struct GatewayHandle(Arc<Mutex<GatewayLine>>);

impl GatewayHandle {
    pub(super) fn new(chance: ChaCha8Rng) -> Self {
        let (asked, replies) = (Vec::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(GatewayLine { asked, asks_made: 0, replies, now: Duration::ZERO, chance })))
    }

    fn line(&self) -> MutexGuard<'_, GatewayLine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_now(&self, now: Duration) {
        self.line().now = now;
    }

    /// Returns the requests since the last call.
    pub(super) fn take_asked(&self) -> Vec<(u64, GatewayCall)> {
        std::mem::take(&mut self.line().asked)
    }

    pub(super) fn reply(&self, ask: u64, reply: GatewayReply) {
        self.line().replies.insert(ask, reply);
    }

    async fn ask(&self, ask: GatewayCall) -> GatewayReply {
        let id = {
            let mut line = self.line();
            line.asks_made += 1;
            let id = line.asks_made;
            line.asked.push((id, ask));
            id
        };
        poll_fn(|_| match self.line().replies.remove(&id) {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        })
        .await
    }
}

impl Gateway for GatewayHandle {
    async fn confirm(&self, charge: &Charge) -> GatewayAnswer {
        answer(self.ask(GatewayCall::Charge(charge.clone())).await)
    }

    async fn find(&self, charge: &Charge) -> ChargeStatus {
        match self.ask(GatewayCall::Find(charge.clone())).await {
            GatewayReply::Found(found) => found,
            _ => ChargeStatus::Unknown(NoProof::TimedOut),
        }
    }

    async fn find_given_back(&self, charge: &Charge) -> Result<Vec<i64>, NoProof> {
        match self.ask(GatewayCall::FindGivenBack(charge.clone())).await {
            GatewayReply::GivenBack(amounts) => Ok(amounts),
            _ => Err(NoProof::TimedOut),
        }
    }

    async fn give_back(&self, refund: &GiveBack) -> GatewayAnswer {
        answer(self.ask(GatewayCall::GiveBack(refund.clone())).await)
    }
}

fn answer(reply: GatewayReply) -> GatewayAnswer {
    match reply {
        GatewayReply::Answer(answer) => answer,
        _ => GatewayAnswer::Unknown(NoProof::TimedOut),
    }
}

/// Environment of one data centre's payments.
pub(super) struct SimulatedEnvironment {
    pub(super) ledger: ModelDatabase,
    pub(super) outside: GatewayHandle,
    /// Any moment. Only differences from it are used.
    pub(super) began: Instant,
}

impl Log for GatewayHandle {
    fn append(&self, event: Logged) -> Pin<Box<dyn Future<Output = Result<(), AuditError>> + Send + '_>> {
        Box::pin(async move {
            match self.ask(GatewayCall::Log(Box::new(event))).await {
                GatewayReply::Logged(true) => Ok(()),
                _ => Err(AuditError::Unwritable("the disk is full".to_owned())),
            }
        })
    }
}

/// Access to the log for a command that runs beside the agent.
impl Beside for GatewayHandle {
    fn append(
        &self,
        event: Logged,
    ) -> Pin<Box<dyn Future<Output = Result<(), CommandSocketError>> + Send + '_>> {
        Box::pin(async move {
            match self.ask(GatewayCall::Log(Box::new(event))).await {
                GatewayReply::Logged(true) => Ok(()),
                _ => Err(CommandSocketError::Refused("the disk is full".to_owned())),
            }
        })
    }
}

impl Environment for SimulatedEnvironment {
    type Ledger = ModelDatabase;

    fn ledger(&self) -> &ModelDatabase {
        &self.ledger
    }

    fn log(&self) -> &dyn Log {
        &self.outside
    }

    fn now(&self) -> Instant {
        self.began + self.outside.line().now
    }

    fn back_off(&self, asks: u32, first: Duration, most: Duration) -> Duration {
        policy::back_off(asks, first, most, &mut self.outside.line().chance)
    }
}

impl World {
    /// Sends a request to the gateway. The request may be lost or late, and its answer may be lost
    /// or be an error of the gateway.
    pub(super) fn ask_gateway(&mut self, task: u64, ask: u64, what: GatewayCall) {
        self.counts.gateway_calls += 1;
        self.payment_world.open_asks.insert(ask);
        let timeout = self.payment_world.limits.timeout;
        let given_up = match &what {
            GatewayCall::Find(_) => GatewayReply::Found(ChargeStatus::Unknown(NoProof::TimedOut)),
            _ if self.sabotage == Some(Sabotage::TakeSilenceForRefusal) => {
                GatewayReply::Answer(GatewayAnswer::Refused(code("TIMED_OUT")))
            }
            _ => GatewayReply::Answer(GatewayAnswer::Unknown(NoProof::TimedOut)),
        };
        self.after(timeout, Event::Replied { task, ask, reply: given_up });
        if self.dice.happens(self.fault_rates.gateway_loses) {
            self.counts.gateway_calls_lost += 1;
            return;
        }
        let mut comes = self.now + self.dice.millis(1..=30);
        if self.dice.happens(self.fault_rates.gateway_late) {
            self.counts.gateway_calls_late += 1;
            let late = timeout.mul_f64(0.5) + self.dice.millis(0..=3_000);
            comes += match &what {
                // The ledger treats a refund as under way for this long after its agent gave up,
                // and nothing queries it again. The request must not arrive later.
                GatewayCall::GiveBack(_) => late.min(timeout + self.payment_world.limits.margin / 2),
                _ => late,
            };
        } else if matches!(what, GatewayCall::Charge(_))
            && self.dice.happens(self.fault_rates.gateway_holds_up)
        {
            self.counts.gateway_calls_held_up += 1;
            let minutes = self.dice.between(1..=300);
            note!(self, "a request to charge is held up for {minutes} minutes");
            return self.payment_world.held_up.push((self.now + Duration::from_secs(60 * minutes), what));
        }
        self.at(comes, Event::Gateway { task, ask, what });
    }

    /// Handles a request that reaches the gateway, even if its task has given up.
    pub(super) fn gateway_takes(&mut self, task: u64, ask: u64, what: &GatewayCall) {
        let reply = self.at_the_bank(what);
        let reply = match reply {
            GatewayReply::Answer(_) if self.dice.happens(self.fault_rates.gateway_errs) => {
                self.counts.gateway_errors += 1;
                GatewayReply::Answer(GatewayAnswer::Unknown(NoProof::Status(500)))
            }
            GatewayReply::Found(_) if self.dice.happens(self.fault_rates.gateway_errs) => {
                GatewayReply::Found(ChargeStatus::Unknown(NoProof::Status(502)))
            }
            reply => reply,
        };
        if !self.dice.happens(self.fault_rates.gateway_loses) {
            let delay = self.dice.millis(1..=30);
            self.after(delay, Event::Replied { task, ask, reply });
        }
    }

    /// Carries out a request at the gateway, and returns its answer.
    pub(super) fn at_the_bank(&mut self, what: &GatewayCall) -> GatewayReply {
        match what {
            GatewayCall::Charge(charge) => {
                let (key, token) = (*charge.payment.as_bytes(), charge.payment_key.as_str());
                self.check_asked_to_charge(charge);
                let declines = self.dice.happens(self.payment_world.declines);
                let before = self.payment_world.bank.is_charged(token);
                let said = self.payment_world.bank.charge(key, token, declines, self.now);
                note!(
                    self,
                    "the gateway gets a charge by {token} of {}, and answers {said:?}",
                    charge.payment
                );
                if !before && self.payment_world.bank.is_charged(token) {
                    self.counts.charges += 1;
                    self.check_charged(charge);
                    self.hint_later(charge.order);
                }
                self.counts.charges_declined += u64::from(matches!(said, BankReply::Refused(_)));
                GatewayReply::Answer(answered(said))
            }
            GatewayCall::GiveBack(refund) => {
                let (key, token) = (*refund.refund.as_bytes(), refund.charge.payment_key.as_str());
                let refuses = self.dice.happens(self.payment_world.refuses_refunds);
                let said = self.payment_world.bank.give_back(key, token, refund.amount.amount(), refuses);
                note!(
                    self,
                    "the gateway gets a refund of {} of {token}, and answers {said:?}",
                    refund.amount
                );
                self.counts.refunds_refused += u64::from(matches!(said, BankReply::Refused(_)));
                self.check_given_back(refund);
                GatewayReply::Answer(answered(said))
            }
            GatewayCall::Find(charge) => {
                let shows = self.payment_world.bank.shows(charge.payment_key.as_str(), self.now);
                note!(self, "the gateway shows {shows:?} of {}", charge.payment_key.as_str());
                GatewayReply::Found(match shows {
                    Shows::Charged => ChargeStatus::Charged,
                    Shows::NotCharged(why) => ChargeStatus::NotCharged(code(why)),
                    Shows::NotConcluded => ChargeStatus::NotConcluded,
                    Shows::NoTrace => ChargeStatus::NoTrace,
                    Shows::NoProof => ChargeStatus::Unknown(NoProof::Mismatch),
                })
            }
            GatewayCall::FindGivenBack(charge) => {
                let amounts = self.payment_world.bank.amounts_back(charge.payment_key.as_str());
                note!(self, "the gateway shows {amounts:?} back of {}", charge.payment_key.as_str());
                GatewayReply::GivenBack(amounts)
            }
            GatewayCall::Log(_) => GatewayReply::Logged(false),
        }
    }
}

fn answered(said: BankReply) -> GatewayAnswer {
    match said {
        BankReply::Done => GatewayAnswer::Done,
        BankReply::Refused(why) => GatewayAnswer::Refused(code(why)),
        BankReply::NoProof(why) => GatewayAnswer::Unknown(NoProof::Code(code(why))),
    }
}

pub(super) fn code(text: &str) -> ReasonCode {
    ReasonCode::new(text).unwrap_or_else(ReasonCode::other)
}
