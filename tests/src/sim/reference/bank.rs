//! The payment gateway: what money moved, by whose key, and what it says about that. It refuses less than a real one, so that
//! nobody but the agents keeps an order from being charged twice and more from going back than was paid.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Order;

/// The id of a payment or a refund, which is the gateway's idempotency key.
pub(in crate::sim) type Id = [u8; 16];

/// How long a shopper's agreement is valid where it ends at all.
const AGREED_FOR: Duration = Duration::from_secs(30 * 60);

/// What a shopper has agreed to, by its token.
#[derive(Debug, Clone)]
pub(in crate::sim) struct Agreement {
    pub(in crate::sim) order: Order,
    pub(in crate::sim) amount: i64,
    /// Whether the gateway shows it before it was asked to charge.
    pub(in crate::sim) shown: bool,
    /// Whether it is charged all the same where the request comes when it is over.
    pub(in crate::sim) lasts: bool,
    pub(in crate::sim) agreed_at: Duration,
    standing: AgreementState,
    /// What went back: under which key, how much.
    cancels: Vec<(Id, i64)>,
}

/// How an agreement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AgreementState {
    Agreed,
    /// Charged, under this key.
    Charged(Id),
    Declined,
}

/// What the gateway answers to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum BankReply {
    Done,
    /// For certain and for ever.
    Refused(&'static str),
    /// A code that proves nothing.
    NoProof(&'static str),
}

/// What it shows of an agreement.
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
    /// What was answered under each key, for certain.
    answered: BTreeMap<Id, BankReply>,
    /// How often something was asked for after it had been refused for certain.
    asked_after_refusal: BTreeMap<Id, u32>,
    /// The keys under which something went back, by token.
    asked_back: BTreeMap<String, BTreeSet<Id>>,
}

impl Agreement {
    /// What moved and is not back.
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
    /// A shopper agrees.
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

    /// Charges what was agreed to, once a key and once a token.
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

    /// Gives back, once a key.
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

    /// Its people give back by hand, if so much is left of a charge.
    pub(in crate::sim) fn give_back_by_hand(&mut self, key: Id, token: &str, amount: i64) -> bool {
        let left = self.agreements.get_mut(token).filter(|agreement| agreement.kept() >= amount);
        let Some(agreement) = left else { return false };
        agreement.cancels.push((key, amount));
        self.answered.insert(key, BankReply::Done);
        true
    }

    /// What it shows of a token.
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

    /// For which order a token is, and for how much.
    pub(in crate::sim) fn agreed(&self, token: &str) -> Option<(Order, i64)> {
        self.agreements.get(token).map(|agreement| (agreement.order, agreement.amount))
    }

    /// How much an order's shopper agreed to.
    pub(in crate::sim) fn agreed_for(&self, order: &Order) -> Option<i64> {
        self.agreements.values().find(|agreement| agreement.order == *order).map(|agreement| agreement.amount)
    }

    /// Whether money moved by a token.
    pub(in crate::sim) fn is_charged(&self, token: &str) -> bool {
        let standing = self.agreements.get(token).map(|agreement| agreement.standing);
        matches!(standing, Some(AgreementState::Charged(_)))
    }

    /// Tokens of an order by which money moved, under which key, and how much of it is not back.
    pub(in crate::sim) fn charges_of(&self, order: &Order) -> Vec<(&str, Id, i64)> {
        let of = self.agreements.iter().filter(|(_, agreement)| agreement.order == *order);
        of.filter_map(|(token, agreement)| match agreement.standing {
            AgreementState::Charged(key) => Some((token.as_str(), key, agreement.kept())),
            _ => None,
        })
        .collect()
    }

    /// Everything by which money moved: token, key, order, and what is not back.
    pub(in crate::sim) fn charges(&self) -> impl Iterator<Item = (&str, Id, Order, i64)> {
        self.agreements.iter().filter_map(|(token, agreement)| match agreement.standing {
            AgreementState::Charged(key) => Some((token.as_str(), key, agreement.order, agreement.kept())),
            _ => None,
        })
    }

    /// What went back: of which token, for which order, under which key.
    pub(in crate::sim) fn given_back(&self) -> impl Iterator<Item = (&str, Order, Id)> {
        self.agreements.iter().flat_map(|(token, agreement)| {
            agreement.cancels.iter().map(move |(id, _)| (token.as_str(), agreement.order, *id))
        })
    }

    /// What is back of a token's charge.
    pub(in crate::sim) fn back(&self, token: &str) -> i64 {
        self.agreements.get(token).map_or(0, Agreement::back)
    }

    /// Each amount that is back of a token's charge.
    pub(in crate::sim) fn amounts_back(&self, token: &str) -> Vec<i64> {
        let cancels = self.agreements.get(token).into_iter().flat_map(|agreement| &agreement.cancels);
        cancels.map(|(_, amount)| *amount).collect()
    }

    /// What was answered for certain under a key.
    pub(in crate::sim) fn answered(&self, key: &Id) -> Option<BankReply> {
        self.answered.get(key).copied()
    }

    /// How often a key was used again after it had been refused for certain.
    pub(in crate::sim) fn asked_after_refusal(&self, key: &Id) -> u32 {
        self.asked_after_refusal.get(key).copied().unwrap_or_default()
    }

    /// The keys under which something of a token's charge was to go back.
    pub(in crate::sim) fn asked_back(&self, token: &str) -> impl Iterator<Item = &Id> {
        self.asked_back.get(token).into_iter().flatten()
    }
}
