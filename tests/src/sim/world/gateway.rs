//! What a data centre's payments have around them: a gateway behind a line that loses, delays and holds requests up, the log's disk,
//! a clock, and chance. What they ask becomes events, and an event's answer lets them go on.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bridge_idc::ledger::model::ModelDatabase;
use bridge_idc::payment::audit::{Beside, Log};
use bridge_idc::payment::gateway::{ChargeStatus, Gateway, GatewayAnswer, NoProof};
use bridge_idc::payment::policy;
use bridge_idc::payment::service::Environment;
use bridge_idc::payment::{Charge, GiveBack};
use bridge_protocol::audit::Event as Logged;
use bridge_protocol::domain::ReasonCode;
use bridge_runtime::audit_log::{AuditError, CommandSocketError};
use rand_chacha::ChaCha8Rng;

use super::super::options::Sabotage;
use super::super::reference::bank::{Said, Shows};
use super::{Event, World, note};

/// What is asked of the world.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Charge(Charge),
    Find(Charge),
    GiveBack(GiveBack),
    Log(Box<Logged>),
}

/// What the world answers.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Answer(GatewayAnswer),
    Found(ChargeStatus),
    Logged(bool),
}

/// Between the payments of all data centres and the world.
#[derive(Debug)]
pub(super) struct Counter {
    asked: Vec<(u64, Ask)>,
    asks_made: u64,
    replies: BTreeMap<u64, Reply>,
    now: Duration,
    chance: ChaCha8Rng,
}

/// A handle on it.
#[derive(Debug, Clone)]
pub(super) struct Outside(Arc<Mutex<Counter>>);

impl Outside {
    pub(super) fn new(chance: ChaCha8Rng) -> Self {
        let (asked, replies) = (Vec::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(Counter { asked, asks_made: 0, replies, now: Duration::ZERO, chance })))
    }

    fn counter(&self) -> MutexGuard<'_, Counter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_now(&self, now: Duration) {
        self.counter().now = now;
    }

    /// What was asked since this was last taken.
    pub(super) fn take_asked(&self) -> Vec<(u64, Ask)> {
        std::mem::take(&mut self.counter().asked)
    }

    pub(super) fn reply(&self, ask: u64, reply: Reply) {
        self.counter().replies.insert(ask, reply);
    }

    async fn ask(&self, ask: Ask) -> Reply {
        let id = {
            let mut counter = self.counter();
            counter.asks_made += 1;
            let id = counter.asks_made;
            counter.asked.push((id, ask));
            id
        };
        poll_fn(|_| match self.counter().replies.remove(&id) {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        })
        .await
    }
}

impl Gateway for Outside {
    async fn confirm(&self, charge: &Charge) -> GatewayAnswer {
        answer(self.ask(Ask::Charge(charge.clone())).await)
    }

    async fn find(&self, charge: &Charge) -> ChargeStatus {
        match self.ask(Ask::Find(charge.clone())).await {
            Reply::Found(found) => found,
            Reply::Answer(_) | Reply::Logged(_) => ChargeStatus::Unknown(NoProof::TimedOut),
        }
    }

    async fn give_back(&self, refund: &GiveBack) -> GatewayAnswer {
        answer(self.ask(Ask::GiveBack(refund.clone())).await)
    }
}

fn answer(reply: Reply) -> GatewayAnswer {
    match reply {
        Reply::Answer(answer) => answer,
        Reply::Found(_) | Reply::Logged(_) => GatewayAnswer::Unknown(NoProof::TimedOut),
    }
}

/// A data centre's site, as its payments see it.
pub(super) struct Site {
    pub(super) ledger: ModelDatabase,
    pub(super) outside: Outside,
    /// Any moment: only what is between two counts.
    pub(super) began: Instant,
}

impl Log for Outside {
    fn append(&self, event: Logged) -> Pin<Box<dyn Future<Output = Result<(), AuditError>> + Send + '_>> {
        Box::pin(async move {
            match self.ask(Ask::Log(Box::new(event))).await {
                Reply::Logged(true) => Ok(()),
                _ => Err(AuditError::Unwritable("the disk is full".to_owned())),
            }
        })
    }
}

/// As whoever is no agent reaches the log.
impl Beside for Outside {
    fn append(
        &self,
        event: Logged,
    ) -> Pin<Box<dyn Future<Output = Result<(), CommandSocketError>> + Send + '_>> {
        Box::pin(async move {
            match self.ask(Ask::Log(Box::new(event))).await {
                Reply::Logged(true) => Ok(()),
                _ => Err(CommandSocketError::Refused("the disk is full".to_owned())),
            }
        })
    }
}

impl Environment for Site {
    type Ledger = ModelDatabase;

    fn ledger(&self) -> &ModelDatabase {
        &self.ledger
    }

    fn log(&self) -> &dyn Log {
        &self.outside
    }

    fn now(&self) -> Instant {
        self.began + self.outside.counter().now
    }

    fn back_off(&self, asks: u32, first: Duration, most: Duration) -> Duration {
        policy::back_off(asks, first, most, &mut self.outside.counter().chance)
    }
}

impl World {
    /// A request goes out to the gateway. It may be lost, or come late; and its answer may be lost, or be an error of the gateway's own.
    pub(super) fn ask_gateway(&mut self, task: u64, ask: u64, what: Ask) {
        self.counts.gateway_calls += 1;
        self.money.open_asks.insert(ask);
        let timeout = self.money.limits.timeout;
        let given_up = match &what {
            Ask::Find(_) => Reply::Found(ChargeStatus::Unknown(NoProof::TimedOut)),
            _ if self.sabotage == Some(Sabotage::TakeSilenceForRefusal) => {
                Reply::Answer(GatewayAnswer::Refused(code("TIMED_OUT")))
            }
            _ => Reply::Answer(GatewayAnswer::Unknown(NoProof::TimedOut)),
        };
        self.after(timeout, Event::Replied { task, ask, reply: given_up });
        if self.dice.happens(self.weather.gateway_loses) {
            self.counts.gateway_calls_lost += 1;
            return;
        }
        let mut comes = self.now + self.dice.millis(1..=30);
        if self.dice.happens(self.weather.gateway_late) {
            self.counts.gateway_calls_late += 1;
            let late = timeout.mul_f64(0.5) + self.dice.millis(0..=3_000);
            comes += match &what {
                // For so long after its agent gave up the ledger has it be on its way, and nobody looks at it again.
                Ask::GiveBack(_) => late.min(timeout + self.money.limits.margin / 2),
                _ => late,
            };
        } else if matches!(what, Ask::Charge(_)) && self.dice.happens(self.weather.gateway_holds_up) {
            self.counts.gateway_calls_held_up += 1;
            let minutes = self.dice.between(1..=300);
            note!(self, "a request to charge is held up for {minutes} minutes");
            return self.money.held_up.push((self.now + Duration::from_secs(60 * minutes), what));
        }
        self.at(comes, Event::Gateway { task, ask, what });
    }

    /// A request comes to the gateway, whoever still waits for it.
    pub(super) fn gateway_takes(&mut self, task: u64, ask: u64, what: &Ask) {
        let reply = self.at_the_bank(what);
        let reply = match reply {
            Reply::Answer(_) if self.dice.happens(self.weather.gateway_errs) => {
                self.counts.gateway_errors += 1;
                Reply::Answer(GatewayAnswer::Unknown(NoProof::Status(500)))
            }
            Reply::Found(_) if self.dice.happens(self.weather.gateway_errs) => {
                Reply::Found(ChargeStatus::Unknown(NoProof::Status(502)))
            }
            reply => reply,
        };
        if !self.dice.happens(self.weather.gateway_loses) {
            let delay = self.dice.millis(1..=30);
            self.after(delay, Event::Replied { task, ask, reply });
        }
    }

    /// What the gateway does about a request, and says.
    pub(super) fn at_the_bank(&mut self, what: &Ask) -> Reply {
        match what {
            Ask::Charge(charge) => {
                let (key, token) = (*charge.payment.as_bytes(), charge.payment_key.as_str());
                self.judge_asked_to_charge(charge);
                let declines = self.dice.happens(self.money.declines);
                let before = self.money.bank.is_charged(token);
                let said = self.money.bank.charge(key, token, declines, self.now);
                note!(self, "the gateway is to charge by {token} of {}, and says {said:?}", charge.payment);
                if !before && self.money.bank.is_charged(token) {
                    self.counts.charges += 1;
                    self.judge_charged(charge);
                    self.hint_later(charge.order);
                }
                self.counts.charges_declined += u64::from(matches!(said, Said::Refused(_)));
                Reply::Answer(answered(said))
            }
            Ask::GiveBack(refund) => {
                let (key, token) = (*refund.refund.as_bytes(), refund.charge.payment_key.as_str());
                let refuses = self.dice.happens(self.money.refuses_refunds);
                let said = self.money.bank.give_back(key, token, refund.amount.amount(), refuses);
                note!(self, "the gateway is to give {} of {token} back, and says {said:?}", refund.amount);
                self.counts.refunds_refused += u64::from(matches!(said, Said::Refused(_)));
                self.judge_given_back(refund);
                Reply::Answer(answered(said))
            }
            Ask::Find(charge) => {
                let shows = self.money.bank.shows(charge.payment_key.as_str(), self.now);
                note!(self, "the gateway shows {shows:?} of {}", charge.payment_key.as_str());
                Reply::Found(match shows {
                    Shows::Charged => ChargeStatus::Charged,
                    Shows::NotCharged(why) => ChargeStatus::NotCharged(code(why)),
                    Shows::NotConcluded => ChargeStatus::NotConcluded,
                    Shows::NoTrace => ChargeStatus::NoTrace,
                    Shows::NoProof => ChargeStatus::Unknown(NoProof::Mismatch),
                })
            }
            Ask::Log(_) => Reply::Logged(false),
        }
    }
}

fn answered(said: Said) -> GatewayAnswer {
    match said {
        Said::Done => GatewayAnswer::Done,
        Said::Refused(why) => GatewayAnswer::Refused(code(why)),
        Said::NoProof(why) => GatewayAnswer::Unknown(NoProof::Code(code(why))),
    }
}

pub(super) fn code(text: &str) -> ReasonCode {
    ReasonCode::new(text).unwrap_or_else(ReasonCode::other)
}
