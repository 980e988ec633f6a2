//! Compares the ledger with what the IDC agents' audit logs say was committed: what a ledger has lost that was put back to an
//! earlier time, what it has otherwise, and what it has that no log tells.
//!
//! Both know a request by the digest of its brand and key. The keys are digests, so any range of them has its share of all
//! requests: range by range, what the logs say of its keys is held in memory, and the ledger's rows are read beside it in the
//! order of their keys. Nothing here is personal: ids, codes and digests.

use std::collections::HashMap;

use bridge_protocol::audit::entry::{Carried, Ended, Entry, Event, Word};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentState, UnixMicros};

use crate::orders::store::by_key::{Keys, OutcomeOfKey, PaymentOfKey};

/// The time for which the logs tell everything.
mod span;
pub use span::{Reach, Span};

/// What operators said.
mod words;
pub use words::{OperatorWord, StandingPayment, StandingRefund};

/// What the ledger and the logs tell differently of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whose shop.
    pub brand: Brand,
    /// The order.
    pub order: OrderId,
    /// What of it.
    pub about: ComparedItem,
    /// What the logs say it came to, if they say so.
    pub log: Option<String>,
    /// What the ledger says, if it does.
    pub ledger: Option<String>,
    /// What is wrong.
    pub what: FindingKind,
    /// The operator's word, if it is about one.
    pub word: Option<OperatorWord>,
}

/// What of an order is told differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComparedItem {
    /// The order itself.
    Order,
    /// That it was, or was not, cancelled.
    Cancellation,
    /// A payment.
    Payment,
    /// A refund.
    Refund,
    /// An operator's word about a payment or a refund.
    Resolution,
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// The logs say that it was committed, and the ledger has nothing of it.
    Lost,
    /// The ledger has it otherwise than the logs say.
    Otherwise,
    /// The ledger has it, and no log tells of it.
    NotLogged,
    /// The ledger has it, and the logs that it was received alone: its agent ended in between.
    OnlyReceived,
    /// The ledger has it in doubt, and the logs how it ended: the agent asks the gateway about it.
    Open,
    /// The logs have that a payment, a refund or a cancellation was received, and neither they nor the ledger what became of it. Its
    /// agent ended right then; or the ledger was put back to before it, and money that moved is known to the gateway alone.
    Unaccounted,
}

/// How many requests and operators' words there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// The ledger has them as the logs say.
    pub agreed: u64,
    /// Of [`FindingKind::Lost`].
    pub lost: u64,
    /// Of [`FindingKind::Otherwise`].
    pub otherwise: u64,
    /// Of [`FindingKind::NotLogged`].
    pub not_logged: u64,
    /// Of the others: each settles itself, or may.
    pub in_doubt: u64,
    /// Of the ledger alone, from before the logs begin.
    pub before: u64,
    /// Of the ledger alone, from after the logs end.
    pub after: u64,
}

/// A request about an order, or about a payment: one key may have been used for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Request {
    Order(KeyDigest),
    Payment(KeyDigest),
}

/// What the logs say of one request.
#[derive(Debug, Default)]
struct LoggedRequest {
    /// What it came to, each once; of a payment how far it came.
    ended: Vec<LoggedEnd>,
    is_refund: bool,
    /// Tries at something about money that were received, and of which nothing else is said yet.
    open: Vec<Received>,
}

/// A try that was received.
#[derive(Debug)]
struct Received {
    brand: Brand,
    order: OrderId,
    payment: Option<Word>,
}

#[derive(Debug)]
struct LoggedEnd {
    brand: Brand,
    order: OrderId,
    outcome: Word,
    position: Option<i64>,
    at: UnixMicros,
    /// The log that has it, by its number.
    log: u32,
    /// The same log has behind it that it stands so instead: it was about to be committed, and was not.
    instead: Option<Word>,
}

/// One range of keys.
pub struct Part<'span> {
    keys: Keys,
    span: &'span Span,
    said: HashMap<Request, LoggedRequest>,
    words: words::Words,
    /// The log that is read, by its number.
    log: u32,
}

impl ComparedItem {
    /// The code in `--json`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Cancellation => "cancellation",
            Self::Payment => "payment",
            Self::Refund => "refund",
            Self::Resolution => "resolution",
        }
    }

    fn of_outcome(outcome: &str) -> Self {
        if matches!(outcome, "cancelled" | "not-cancellable") { Self::Cancellation } else { Self::Order }
    }

    fn of_payment(said: &LoggedRequest, outcome: &str) -> Self {
        let is_refund = said.is_refund || matches!(outcome, "done" | "refused");
        if is_refund { Self::Refund } else { Self::Payment }
    }
}

impl FindingKind {
    /// The code in `--json`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Otherwise => "otherwise",
            Self::NotLogged => "not-logged",
            Self::OnlyReceived => "only-received",
            Self::Open => "open",
            Self::Unaccounted => "unaccounted",
        }
    }
}

impl Counts {
    /// Requests that are told differently, for which nothing accounts.
    pub fn differ(&self) -> u64 {
        self.lost + self.otherwise + self.not_logged
    }

    fn count(&mut self, what: FindingKind) {
        *match what {
            FindingKind::Lost => &mut self.lost,
            FindingKind::Otherwise => &mut self.otherwise,
            FindingKind::NotLogged => &mut self.not_logged,
            FindingKind::OnlyReceived | FindingKind::Open | FindingKind::Unaccounted => &mut self.in_doubt,
        } += 1;
    }
}

/// The request that an entry is about, without reading all of it.
fn key_of(bytes: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(bytes).ok()?;
    // The canonical form has no blanks, and no member of another kind is called so.
    let (_, rest) = text.split_once("\"event\":\"")?;
    let (about, rest) = rest.split_once('-')?;
    let kinds = ["received\"", "committed\"", "answered\"", "resolved\""];
    kinds.iter().find(|kind| matches!(about, "order" | "payment") && rest.starts_with(**kind))?;
    let (_, rest) = rest.split_once("\"key\":\"")?;
    KeyDigest::from_hex(rest.get(..64)?).map(|key| *key.as_bytes())
}

impl<'span> Part<'span> {
    /// Nothing is said yet of these keys.
    pub fn new(keys: Keys, span: &'span Span) -> Self {
        Self { keys, span, said: HashMap::new(), words: words::Words::default(), log: 0 }
    }

    /// The entries that come now are another log's. In a log the order of entries is certain, between two of them it is not.
    pub fn begin_log(&mut self) {
        self.log += 1;
    }

    /// Which keys.
    pub fn keys(&self) -> Keys {
        self.keys
    }

    /// Takes an entry of a log. `false` if it is in no form that this version reads.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        let Some(key) = key_of(bytes) else { return true };
        if !self.keys.has(&key) {
            return true;
        }
        let Ok(Entry { at, event }) = Entry::parse(bytes) else { return false };
        match event {
            Event::OrderReceived(carried) => {
                let said = self.said(Request::Order(carried.key));
                // An order that was not committed has had no effect; what is cancelled goes back by itself.
                if carried.action.as_str() == "cancel" {
                    said.open.push(Received::of(carried));
                }
            }
            Event::PaymentReceived(carried) => {
                let said = self.said(Request::Payment(carried.key));
                said.is_refund |= carried.action.as_str() == "refund";
                said.open.push(Received::of(carried));
            }
            // What was refused has had no effect.
            Event::OrderAnswered(Ended { key, .. }) => self.said(Request::Order(key)).refused(None),
            Event::PaymentAnswered(Ended { key, payment, .. }) => {
                self.said(Request::Payment(key)).refused(payment.as_ref());
            }
            Event::OrderCommitted(ended) => {
                let log = self.log;
                let said = self.said(Request::Order(ended.key));
                let end = LoggedEnd::of(ended, at, log);
                if !said.ended.iter().any(|known| known.is(end.order, end.outcome.as_str(), end.position)) {
                    said.ended.push(end);
                }
            }
            Event::PaymentCommitted(ended) => {
                self.words.commit(&ended);
                let (log, is_replayed) = (self.log, ended.replayed);
                let said = self.said(Request::Payment(ended.key));
                said.conclude(LoggedEnd::of(ended, at, log), is_replayed);
            }
            Event::PaymentResolved(said) => return self.words.take(said),
            _ => {}
        }
        true
    }

    fn said(&mut self, request: Request) -> &mut LoggedRequest {
        self.said.entry(request).or_default()
    }

    /// What the ledger has of a request about an order; `told` is given what is wrong with that.
    pub fn outcome(&mut self, row: OutcomeOfKey, counts: &mut Counts, mut told: impl FnMut(Finding)) {
        let said = self.said.remove(&Request::Order(row.key));
        let is_logged = said.as_ref().is_some_and(|said| !said.ended.is_empty());
        let about = ComparedItem::of_outcome(&row.outcome);
        let mut tell = |order, log: Option<String>, ledger: Option<String>, what| {
            told(Finding { brand: row.brand.clone(), order, about, log, ledger, what, word: None });
        };
        if !is_logged {
            if let Some(what) = self.unlogged(said.is_some(), row.committed_at, counts) {
                tell(row.order, None, Some(row.outcome.clone()), what);
            }
            return;
        }
        let before = *counts;
        let mut wrong = |order, log: &str, ledger: Option<&str>, what| {
            counts.count(what);
            tell(order, Some(log.to_owned()), ledger.map(str::to_owned), what);
        };
        for end in said.iter().flat_map(|said| &said.ended) {
            let (said, now) = (end.outcome.as_str(), row.outcome.as_str());
            if end.is(row.order, now, Some(row.position)) {
                continue;
            } else if end.order != row.order {
                wrong(end.order, said, Some("another-order"), FindingKind::Otherwise);
            } else if said != now {
                wrong(end.order, said, Some(now), FindingKind::Otherwise);
            } else {
                wrong(
                    end.order,
                    &end.placed(),
                    Some(&format!("{now} at position {}", row.position)),
                    FindingKind::Otherwise,
                );
            }
        }
        match (row.outcome.as_str(), row.stands.as_deref()) {
            ("placed", None) => wrong(row.order, "placed", None, FindingKind::Lost),
            ("cancelled", None) => wrong(row.order, "cancelled", None, FindingKind::Lost),
            ("cancelled", Some(state)) if state != "cancelled" => {
                wrong(row.order, "cancelled", Some(state), FindingKind::Otherwise);
            }
            _ => {}
        }
        if *counts == before {
            counts.agreed += 1;
        }
    }

    /// The same of a request for a payment or a refund.
    pub fn payment(&mut self, row: PaymentOfKey, counts: &mut Counts, mut told: impl FnMut(Finding)) {
        let Some(said) = self.said.remove(&Request::Payment(row.key)) else {
            let Some(asked) = row.asked else { return };
            let about = if row.is_refund { ComparedItem::Refund } else { ComparedItem::Payment };
            if let Some(what) = self.unlogged(false, asked.at, counts) {
                let (brand, order, ledger) = (asked.brand, asked.order, Some(asked.state));
                told(Finding { brand, order, about, log: None, ledger, what, word: None });
            }
            return;
        };
        let about = if row.is_refund { ComparedItem::Refund } else { ComparedItem::Payment };
        let Some(end) = said.ended.into_iter().next() else {
            // What was received is begun, and concluded once it is logged.
            let Some(asked) = row.asked else { return };
            if is_open(&asked.state) {
                counts.agreed += 1;
            } else if let Some(what) = self.unlogged(true, asked.at, counts) {
                let (brand, order, ledger) = (asked.brand, asked.order, Some(asked.state));
                told(Finding { brand, order, about, log: None, ledger, what, word: None });
            }
            return;
        };
        let outcome = end.outcome.as_str();
        let what = match &row.asked {
            None => Some(FindingKind::Lost),
            Some(asked) if asked.order != end.order => Some(FindingKind::Otherwise),
            Some(asked) if end.may_stand_as(&asked.state) => None,
            // What would have gone back by itself was refused.
            Some(_) if outcome == "refused" && !row.is_refund => None,
            Some(asked) if is_open(&asked.state) => Some(FindingKind::Open),
            Some(_) => Some(FindingKind::Otherwise),
        };
        let Some(what) = what else {
            counts.agreed += 1;
            return;
        };
        counts.count(what);
        let (log, ledger) = (Some(outcome.to_owned()), row.asked.map(|asked| asked.state));
        told(Finding { brand: end.brand, order: end.order, about, log, ledger, what, word: None });
    }

    /// All of the ledger's rows of these keys were given: what the logs say was committed and was not among them is lost, and what
    /// was received and may have moved money is unaccounted for.
    pub fn finish(self, counts: &mut Counts, mut told: impl FnMut(Finding)) {
        for (request, said) in self.said {
            if said.ended.is_empty()
                && let Some(received) = said.open.last()
            {
                let about = match request {
                    Request::Order(_) => ComparedItem::Cancellation,
                    Request::Payment(_) => ComparedItem::of_payment(&said, "received"),
                };
                counts.count(FindingKind::Unaccounted);
                told(Finding {
                    brand: received.brand.clone(),
                    order: received.order,
                    about,
                    log: Some("received".to_owned()),
                    ledger: None,
                    what: FindingKind::Unaccounted,
                    word: None,
                });
            }
            for end in &said.ended {
                let outcome = end.outcome.as_str();
                let about = match request {
                    Request::Order(_) => ComparedItem::of_outcome(outcome),
                    Request::Payment(_) => ComparedItem::of_payment(&said, outcome),
                };
                counts.count(FindingKind::Lost);
                told(Finding {
                    brand: end.brand.clone(),
                    order: end.order,
                    about,
                    log: Some(outcome.to_owned()),
                    ledger: None,
                    what: FindingKind::Lost,
                    word: None,
                });
            }
        }
    }

    /// What it is that the ledger alone has something; `None` if the logs are of another time.
    fn unlogged(&self, was_received: bool, at: UnixMicros, counts: &mut Counts) -> Option<FindingKind> {
        if self.span.begins_after(at) && !was_received {
            counts.before += 1;
            return None;
        }
        if self.span.ends_before(at) {
            counts.after += 1;
            return None;
        }
        let what = if was_received { FindingKind::OnlyReceived } else { FindingKind::NotLogged };
        counts.count(what);
        Some(what)
    }
}

impl LoggedRequest {
    /// One try was refused: the payment's that this is about, where it is about one.
    fn refused(&mut self, payment: Option<&Word>) {
        if let Some(at) = self.open.iter().position(|received| received.payment.as_ref() == payment) {
            self.open.swap_remove(at);
        }
    }

    /// A payment or a refund has come to that.
    fn conclude(&mut self, end: LoggedEnd, is_replayed: bool) {
        match self.ended.first_mut() {
            Some(known) if known.place() > end.place() => {
                if known.is_withdrawn_by(&end, is_replayed) {
                    known.instead = Some(end.outcome);
                }
            }
            _ => self.ended = vec![end],
        }
    }
}

impl Received {
    fn of(Carried { brand, order, payment, .. }: Carried) -> Self {
        Self { brand, order, payment }
    }
}

impl LoggedEnd {
    fn of(Ended { brand, order, outcome, position, .. }: Ended, at: UnixMicros, log: u32) -> Self {
        Self { brand, order, outcome, position, at, log, instead: None }
    }

    /// An agent logs that a payment was charged late, and commits it after that. If another payment by the same token is begun in
    /// between, the charge is that one's: the agent logs how the first one stands, and commits nothing.
    fn is_withdrawn_by(&self, later: &Self, is_replayed: bool) -> bool {
        let is_given_up =
            PaymentState::from_code(later.outcome.as_str()).is_some_and(PaymentState::is_given_up);
        self.outcome.as_str() == "charged_late" && is_given_up && !is_replayed && self.log == later.log
    }

    /// Whether what has come to that may stand so now.
    fn may_stand_as(&self, now: &str) -> bool {
        let instead = self.instead.as_ref().is_some_and(|instead| follows(instead.as_str(), now));
        instead || follows(self.outcome.as_str(), now)
    }

    /// Where it stands among all that became of a payment or a refund: agents' clocks differ, and what became of it has one order.
    fn place(&self) -> (u8, UnixMicros) {
        let rank = match self.outcome.as_str() {
            "confirming" | "unknown" => 0,
            "paid" | "declined" | "not_paid" | "done" => 2,
            "partially_refunded" | "charged_late" => 3,
            "refunded" | "returned" => 4,
            // A refund, which may be the automatic one of a payment: that stands as before.
            _ => 1,
        };
        (rank, self.at)
    }

    /// With its place in the ledger.
    fn placed(&self) -> String {
        format!("{} at position {}", self.outcome, self.position.unwrap_or_default())
    }

    fn is(&self, order: OrderId, outcome: &str, position: Option<i64>) -> bool {
        (self.order, self.outcome.as_str(), self.position) == (order, outcome, position)
    }
}

/// Whether nobody can tell yet.
fn is_open(state: &str) -> bool {
    matches!(state, "confirming" | "unknown")
}

/// Whether a payment or a refund that stood so may stand so now, by what is logged under other keys, or is not logged again.
fn follows(said: &str, now: &str) -> bool {
    if said == now || is_open(said) {
        return true;
    }
    if (said, now) == ("refused", "done") {
        // An operator says that the money went back in another way.
        return true;
    }
    // A refund has a key of its own.
    let state = PaymentState::from_code(said);
    let is_part_back = state.is_some_and(|state| state.is_charged() && !state.is_late());
    match now {
        "partially_refunded" => said == "paid",
        "refunded" => is_part_back,
        "returned" => said == "charged_late",
        _ => false,
    }
}

#[cfg(test)]
mod tests;
