//! Model of the payment gateway: the money that moved, the idempotency key of each movement, and
//! the gateway's answers. It refuses less than a real gateway, so that only the agents can prevent
//! a second charge of an order and a refund of more than was paid.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Order;

/// The id of a payment or a refund, which is the gateway's idempotency key.
pub(in crate::sim) type Id = [u8; 16];

/// Time for which a shopper's agreement is valid, if it expires at all.
const AGREED_FOR: Duration = Duration::from_secs(30 * 60);

/// An agreement of a shopper to pay, which the gateway knows by its token.
#[derive(Debug, Clone)]
pub(in crate::sim) struct Agreement {
    pub(in crate::sim) order: Order,
    pub(in crate::sim) amount: i64,
    /// True if the gateway shows the agreement before the first request to charge.
    pub(in crate::sim) shown: bool,
    /// True if the agreement does not expire, so a late request still charges it.
    pub(in crate::sim) lasts: bool,
    pub(in crate::sim) agreed_at: Duration,
    standing: AgreementState,
    /// Refunds: the key and the amount of each.
    cancels: Vec<(Id, i64)>,
}

/// State of an agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AgreementState {
    Agreed,
    /// Charged under this key.
    Charged(Id),
    Declined,
}

/// Answer of the gateway to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum BankReply {
    Done,
    /// A refusal that is certain and final.
    Refused(&'static str),
    /// An error code that does not prove that nothing happened.
    NoProof(&'static str),
}

/// Answer of the gateway to a query about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Shows {
    Charged,
    NotCharged(&'static str),
    NotConcluded,
    NoTrace,
    NoProof,
}

/// The gateway's books.
#[derive(Debug, Default)]
pub(in crate::sim) struct Bank {
    agreements: BTreeMap<String, Agreement>,
    /// Certain answers (done or refused), by idempotency key.
    answered: BTreeMap<Id, BankReply>,
    /// Number of requests under a key that had been refused for certain before.
    asked_after_refusal: BTreeMap<Id, u32>,
    /// Keys under which refunds were requested, by token.
    asked_back: BTreeMap<String, BTreeSet<Id>>,
}

impl Agreement {
    /// Returns the amount that was charged and not refunded.
    fn kept(&self) -> i64 {
        if !matches!(self.standing, AgreementState::Charged(_)) {
            return 0;
        }
        self.amount - self.back()
    }

    fn back(&self) -> i64 {
        self.cancels.iter().map(|(_, amount)| amount).sum()
    }
}

impl Bank {
    /// Records a shopper's agreement. The pair is the agreement's `shown` and `lasts`.
    pub(in crate::sim) fn agree(
        &mut self,
        token: &str,
        order: Order,
        amount: i64,
        (shown, lasts): (bool, bool),
        agreed_at: Duration,
    ) {
        let (standing, cancels) = (AgreementState::Agreed, Vec::new());
        let agreement = Agreement { order, amount, shown, lasts, agreed_at, standing, cancels };
        self.agreements.insert(token.to_owned(), agreement);
    }

    /// Charges an agreement. A key and a token each charge once.
    pub(in crate::sim) fn charge(
        &mut self,
        key: Id,
        token: &str,
        declines: bool,
        now: Duration,
    ) -> BankReply {
        if let Some(said) = self.replayed(key) {
            return said;
        }
        let Some(agreement) = self.agreements.get_mut(token) else {
            return BankReply::NoProof("NOT_FOUND_PAYMENT");
        };
        let over = !agreement.lasts && now > agreement.agreed_at + AGREED_FOR;
        let said = match agreement.standing {
            AgreementState::Charged(_) => return BankReply::NoProof("ALREADY_PROCESSED_PAYMENT"),
            AgreementState::Declined => return BankReply::NoProof("NOT_FOUND_PAYMENT_SESSION"),
            AgreementState::Agreed if over => return BankReply::NoProof("NOT_FOUND_PAYMENT_SESSION"),
            AgreementState::Agreed if declines => {
                agreement.standing = AgreementState::Declined;
                BankReply::Refused("REJECT_CARD_COMPANY")
            }
            AgreementState::Agreed => {
                agreement.standing = AgreementState::Charged(key);
                BankReply::Done
            }
        };
        self.answered.insert(key, said);
        said
    }

    /// Refunds an amount. A key refunds once.
    pub(in crate::sim) fn give_back(
        &mut self,
        key: Id,
        token: &str,
        amount: i64,
        refuses: bool,
    ) -> BankReply {
        self.asked_back.entry(token.to_owned()).or_default().insert(key);
        if let Some(said) = self.replayed(key) {
            return said;
        }
        let charged = |agreement: &&mut Agreement| matches!(agreement.standing, AgreementState::Charged(_));
        let Some(agreement) = self.agreements.get_mut(token).filter(charged) else {
            return BankReply::NoProof("NOT_FOUND_PAYMENT");
        };
        let said = if refuses { BankReply::Refused("NOT_CANCELABLE_PAYMENT") } else { BankReply::Done };
        if said == BankReply::Done {
            agreement.cancels.push((key, amount));
        }
        self.answered.insert(key, said);
        said
    }

    fn replayed(&mut self, key: Id) -> Option<BankReply> {
        let said = self.answered.get(&key).copied()?;
        if matches!(said, BankReply::Refused(_)) {
            *self.asked_after_refusal.entry(key).or_default() += 1;
        }
        Some(said)
    }

    /// Refunds by hand, as the gateway's staff does. Returns false if less than `amount` is left of
    /// the charge.
    pub(in crate::sim) fn give_back_by_hand(&mut self, key: Id, token: &str, amount: i64) -> bool {
        let left = self.agreements.get_mut(token).filter(|agreement| agreement.kept() >= amount);
        let Some(agreement) = left else { return false };
        agreement.cancels.push((key, amount));
        self.answered.insert(key, BankReply::Done);
        true
    }

    /// Answers a query about a token.
    pub(in crate::sim) fn shows(&self, token: &str, now: Duration) -> Shows {
        let Some(agreement) = self.agreements.get(token) else { return Shows::NoTrace };
        match agreement.standing {
            AgreementState::Charged(_) if agreement.cancels.is_empty() => Shows::Charged,
            AgreementState::Charged(_) => Shows::NoProof,
            AgreementState::Declined => Shows::NotCharged("ABORTED"),
            AgreementState::Agreed if !agreement.shown => Shows::NoTrace,
            AgreementState::Agreed if now > agreement.agreed_at + AGREED_FOR => Shows::NotCharged("EXPIRED"),
            AgreementState::Agreed => Shows::NotConcluded,
        }
    }

    /// Returns the order and the amount of a token.
    pub(in crate::sim) fn agreed(&self, token: &str) -> Option<(Order, i64)> {
        self.agreements.get(token).map(|agreement| (agreement.order, agreement.amount))
    }

    /// Returns the amount to which an order's shopper agreed.
    pub(in crate::sim) fn agreed_for(&self, order: &Order) -> Option<i64> {
        self.agreements.values().find(|agreement| agreement.order == *order).map(|agreement| agreement.amount)
    }

    /// Returns true if the token was charged.
    pub(in crate::sim) fn is_charged(&self, token: &str) -> bool {
        let standing = self.agreements.get(token).map(|agreement| agreement.standing);
        matches!(standing, Some(AgreementState::Charged(_)))
    }

    /// Returns the charged tokens of an order, each with its key and the amount that is not
    /// refunded.
    pub(in crate::sim) fn charges_of(&self, order: &Order) -> Vec<(&str, Id, i64)> {
        let of = self.agreements.iter().filter(|(_, agreement)| agreement.order == *order);
        of.filter_map(|(token, agreement)| match agreement.standing {
            AgreementState::Charged(key) => Some((token.as_str(), key, agreement.kept())),
            _ => None,
        })
        .collect()
    }

    /// Returns all charges: token, key, order, and the amount that is not refunded.
    pub(in crate::sim) fn charges(&self) -> impl Iterator<Item = (&str, Id, Order, i64)> {
        self.agreements.iter().filter_map(|(token, agreement)| match agreement.standing {
            AgreementState::Charged(key) => Some((token.as_str(), key, agreement.order, agreement.kept())),
            _ => None,
        })
    }

    /// Returns all refunds: token, order and key.
    pub(in crate::sim) fn given_back(&self) -> impl Iterator<Item = (&str, Order, Id)> {
        self.agreements.iter().flat_map(|(token, agreement)| {
            agreement.cancels.iter().map(move |(id, _)| (token.as_str(), agreement.order, *id))
        })
    }

    /// Returns the amount that was refunded of a token's charge.
    pub(in crate::sim) fn back(&self, token: &str) -> i64 {
        self.agreements.get(token).map_or(0, Agreement::back)
    }

    /// Returns the amount of each refund of a token's charge.
    pub(in crate::sim) fn amounts_back(&self, token: &str) -> Vec<i64> {
        let cancels = self.agreements.get(token).into_iter().flat_map(|agreement| &agreement.cancels);
        cancels.map(|(_, amount)| *amount).collect()
    }

    /// Returns the certain answer (done or refused) to a key, if there is one.
    pub(in crate::sim) fn answered(&self, key: &Id) -> Option<BankReply> {
        self.answered.get(key).copied()
    }

    /// Returns how often a key was used again after a certain refusal.
    pub(in crate::sim) fn asked_after_refusal(&self, key: &Id) -> u32 {
        self.asked_after_refusal.get(key).copied().unwrap_or_default()
    }

    /// Returns the keys under which refunds of a token's charge were requested.
    pub(in crate::sim) fn asked_back(&self, token: &str) -> impl Iterator<Item = &Id> {
        self.asked_back.get(token).into_iter().flatten()
    }
}
