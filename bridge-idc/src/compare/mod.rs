//! Compares the ledger with the commits in the IDC agents' audit logs. The comparison finds
//! requests that a restored ledger lost, that it has with another outcome, and that no log has.
//!
//! The ledger and the logs identify a request by the digest of its brand and key. Digests are
//! evenly distributed, so the comparison runs over ranges of keys, each with its share of the
//! requests. For each range it holds the logs' entries in memory and reads the ledger's rows in the
//! order of their keys. It handles no personal data: only ids, codes and digests.

use std::collections::HashMap;

use bridge_protocol::audit::entry::{Carried, Ended, Entry, Event, Word};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentState, UnixMicros};

use crate::orders::store::by_key::{Keys, OutcomeOfKey, PaymentOfKey};

/// The time range that the logs cover completely.
mod span;
pub use span::{Reach, Span};

/// Operators' decisions.
mod words;
pub use words::{OperatorWord, StandingPayment, StandingRefund};

/// A difference between the ledger and the logs about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Brand of the order.
    pub brand: Brand,
    /// The order.
    pub order: OrderId,
    /// The part of the order that differs.
    pub about: ComparedItem,
    /// The outcome in the logs, if they have one.
    pub log: Option<String>,
    /// The outcome in the ledger, if it has one.
    pub ledger: Option<String>,
    /// The kind of difference.
    pub what: FindingKind,
    /// The operator's decision, if the finding is about one.
    pub word: Option<OperatorWord>,
}

/// The part of an order that a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComparedItem {
    /// The order itself.
    Order,
    /// The order's cancellation, or the refusal of one.
    Cancellation,
    /// A payment.
    Payment,
    /// A refund.
    Refund,
    /// An operator's decision about a payment or a refund.
    Resolution,
}

/// The kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// The logs have a commit, and the ledger has nothing.
    Lost,
    /// The ledger and the logs have different outcomes.
    Otherwise,
    /// The ledger has the request, and no log does.
    NotLogged,
    /// The ledger has the request, and the logs have only its arrival. The agent ended between the
    /// commit and its entry.
    OnlyReceived,
    /// The ledger has the payment or refund in doubt, and the logs have its outcome. The agent will
    /// query the gateway.
    Open,
    /// The logs have the arrival of a payment, refund or cancellation, and neither they nor the
    /// ledger have its outcome. Either the agent ended at that moment, or the ledger was restored
    /// to a time before; then only the gateway knows if money moved.
    Unaccounted,
}

/// The numbers of requests and operators' decisions of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// The ledger and the logs agree.
    pub agreed: u64,
    /// Number of [`FindingKind::Lost`].
    pub lost: u64,
    /// Number of [`FindingKind::Otherwise`].
    pub otherwise: u64,
    /// Number of [`FindingKind::NotLogged`].
    pub not_logged: u64,
    /// Number of the other kinds. Each of these may settle without an operator.
    pub in_doubt: u64,
    /// Rows of the ledger from before the logs begin.
    pub before: u64,
    /// Rows of the ledger from after the logs end.
    pub after: u64,
}

/// A request about an order or a payment. Both may have used the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Request {
    Order(KeyDigest),
    Payment(KeyDigest),
}

/// The logs' entries about one request.
#[derive(Debug, Default)]
struct LoggedRequest {
    /// Outcomes of the request, each once. A payment has only its last one.
    ended: Vec<LoggedEnd>,
    is_refund: bool,
    /// Received requests about money that have no outcome in the logs yet.
    open: Vec<Received>,
}

/// A request that was received.
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
    /// Number of the log with this entry.
    log: u32,
    /// A later outcome in the same log that withdraws this one: the agent logged this one before
    /// its commit, and then did not commit it.
    instead: Option<Word>,
}

/// One range of keys.
pub struct Part<'span> {
    keys: Keys,
    span: &'span Span,
    said: HashMap<Request, LoggedRequest>,
    words: words::Words,
    /// Number of the present log.
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
    /// The number of differences that need an explanation.
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

/// Returns the key that an entry is about, without parsing the whole entry.
fn key_of(bytes: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(bytes).ok()?;
    // An entry is canonical JSON without spaces, and no other member has this name.
    let (_, rest) = text.split_once("\"event\":\"")?;
    let (about, rest) = rest.split_once('-')?;
    let kinds = ["received\"", "committed\"", "answered\"", "resolved\""];
    kinds.iter().find(|kind| matches!(about, "order" | "payment") && rest.starts_with(**kind))?;
    let (_, rest) = rest.split_once("\"key\":\"")?;
    KeyDigest::from_hex(rest.get(..64)?).map(|key| *key.as_bytes())
}

impl<'span> Part<'span> {
    /// Creates a range without entries.
    pub fn new(keys: Keys, span: &'span Span) -> Self {
        Self { keys, span, said: HashMap::new(), words: words::Words::default(), log: 0 }
    }

    /// Begins the entries of the next log. The order of entries is certain within a log, and not
    /// between two logs.
    pub fn begin_log(&mut self) {
        self.log += 1;
    }

    /// The range of keys.
    pub fn keys(&self) -> Keys {
        self.keys
    }

    /// Takes an entry of a log. Returns false if its form is unknown to this version.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        let Some(key) = key_of(bytes) else { return true };
        if !self.keys.has(&key) {
            return true;
        }
        let Ok(Entry { at, event }) = Entry::parse(bytes) else { return false };
        match event {
            Event::OrderReceived(carried) => {
                let said = self.said(Request::Order(carried.key));
                // An order that was not committed has had no effect. A cancellation moves money,
                // because its refund is automatic.
                if carried.action.as_str() == "cancel" {
                    said.open.push(Received::of(carried));
                }
            }
            Event::PaymentReceived(carried) => {
                let said = self.said(Request::Payment(carried.key));
                said.is_refund |= carried.action.as_str() == "refund";
                said.open.push(Received::of(carried));
            }
            // A refused request has had no effect.
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

    /// Compares a row about an order with the logs. `told` gets each difference.
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

    /// Compares a row about a payment or a refund with the logs. `told` gets each difference.
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
            // The agent writes the row after it has logged the arrival, and concludes it after it
            // has logged the outcome.
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
            // A logged `refused` under a payment's key is the outcome of its automatic refund.
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

    /// Ends the range, after all rows of the ledger. A commit in the logs without a row is lost. A
    /// received request about money without an outcome is unaccounted for.
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

    /// Returns the kind of difference if only the ledger has a row. `None` if the logs do not cover
    /// its time.
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
    /// Removes one received request that was refused. `payment` is the payment of the request, if
    /// the log names one.
    fn refused(&mut self, payment: Option<&Word>) {
        if let Some(at) = self.open.iter().position(|received| received.payment.as_ref() == payment) {
            self.open.swap_remove(at);
        }
    }

    /// Keeps the later of the known outcome and this one, and notes a withdrawal.
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

    /// An agent logs a late charge before it commits it. If another payment with the same token
    /// begins in between, the charge belongs to that payment. Then the agent logs the first
    /// payment's old state again and does not commit the late charge.
    fn is_withdrawn_by(&self, later: &Self, is_replayed: bool) -> bool {
        let is_given_up =
            PaymentState::from_code(later.outcome.as_str()).is_some_and(PaymentState::is_given_up);
        self.outcome.as_str() == "charged_late" && is_given_up && !is_replayed && self.log == later.log
    }

    /// True if a request with this outcome may have this state now.
    fn may_stand_as(&self, now: &str) -> bool {
        let instead = self.instead.as_ref().is_some_and(|instead| follows(instead.as_str(), now));
        instead || follows(self.outcome.as_str(), now)
    }

    /// Rank of an outcome in the life of a payment or a refund, then its time. The rank comes first
    /// because agents' clocks differ.
    fn place(&self) -> (u8, UnixMicros) {
        let rank = match self.outcome.as_str() {
            "confirming" | "unknown" => 0,
            "paid" | "declined" | "not_paid" | "done" => 2,
            "partially_refunded" | "charged_late" => 3,
            "refunded" | "returned" => 4,
            // The outcome of a refund. It may be the automatic refund of a payment, whose own state
            // then stays.
            _ => 1,
        };
        (rank, self.at)
    }

    /// Returns the outcome with its position in the ledger.
    fn placed(&self) -> String {
        format!("{} at position {}", self.outcome, self.position.unwrap_or_default())
    }

    fn is(&self, order: OrderId, outcome: &str, position: Option<i64>) -> bool {
        (self.order, self.outcome.as_str(), self.position) == (order, outcome, position)
    }
}

/// True if the outcome of this state is not known yet.
fn is_open(state: &str) -> bool {
    matches!(state, "confirming" | "unknown")
}

/// True if the state in the ledger may follow from the logged outcome: by entries under other keys,
/// or without a further entry.
fn follows(said: &str, now: &str) -> bool {
    if said == now || is_open(said) {
        return true;
    }
    if (said, now) == ("refused", "done") {
        // An operator says that the money went back in another way.
        return true;
    }
    // Each refund has a key of its own.
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
