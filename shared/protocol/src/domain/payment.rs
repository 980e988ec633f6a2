//! Payments and refunds: their ids, what a gateway knows them by, and their states as a pure table.
//!
//! ```text
//! created ──> confirming ──> paid ──> partially refunded ──> refunded
//!                 │  │         ^                               ^
//!                 │  └──> unknown ──> not paid ──┐             │
//!                 └─────> declined ──────────────┤             │
//!                                      paid ─────│─────────────┘
//!                                                └──> charged late ──> returned
//! ```
//!
//! Unknown is a state of its own: nobody can tell yet whether money moved. It ends only by an answer of the gateway that
//! proves something, or by an operator's word.
//!
//! Charged late is one as well: whoever asked was told that no money moved, and then it did. It goes back by itself, since
//! the order may have been paid otherwise, or been given up.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::UnixMicros;

/// The caller did not send the id of a payment or a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id of a payment or a refund is a version 7 UUID")]
pub struct NotAPaymentId;

/// Makes an id that is a UUIDv7 (RFC 9562 section 5.7).
macro_rules! id {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id from the time and ten random bytes.
            pub fn new(now: UnixMicros, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(now.millis(), &random).into_uuid())
            }

            /// The sixteen bytes on the wire and in tables.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads sixteen bytes from the wire.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAPaymentId> {
                Uuid::from_slice(bytes).map_err(|_| NotAPaymentId).and_then(Self::from_uuid)
            }

            /// The id as a UUID, for a database column of that type.
            pub fn as_uuid(&self) -> Uuid {
                self.0
            }

            /// Checks that a UUID is of version 7.
            pub fn from_uuid(uuid: Uuid) -> Result<Self, NotAPaymentId> {
                if uuid.get_version_num() == 7 { Ok(Self(uuid)) } else { Err(NotAPaymentId) }
            }
        }

        impl FromStr for $name {
            type Err = NotAPaymentId;

            fn from_str(text: &str) -> Result<Self, NotAPaymentId> {
                Uuid::try_parse(text).map_err(|_| NotAPaymentId).and_then(Self::from_uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A payment's id, made by the cloud agent; also the key under which the gateway is asked to charge, so that it charges once.
    PaymentId
}

id! {
    /// A refund's id; also the key under which the gateway is asked to give back, so that it does so once.
    RefundId
}

impl RefundId {
    /// The id of the `nth` refund of a payment (from 0) that nobody asked for, since its order cannot be honoured. Whoever
    /// comes to make it makes the same one.
    pub fn automatic(payment: PaymentId, nth: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"bridge automatic refund v1\0");
        hash.update(payment.as_bytes());
        hash.update(nth.to_be_bytes());
        let hash = hash.finalize();
        let mut bytes = *payment.as_bytes();
        bytes[6..].copy_from_slice(&hash[..10]);
        Self(
            uuid::Builder::from_bytes(bytes)
                .with_version(uuid::Version::SortRand)
                .with_variant(uuid::Variant::RFC4122)
                .into_uuid(),
        )
    }
}

/// What the gateway knows a payment by: the token that the shopper's browser was given for the card. 1 to 200 printable
/// ASCII characters without spaces. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentKey(Box<str>);

impl PaymentKey {
    /// Most characters (docs.tosspayments.com/reference, `paymentKey`).
    pub const CHARS_MAX: usize = 200;

    /// Checks a text; `None` if it is no token.
    pub fn new(text: &str) -> Option<Self> {
        let graphic = text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        (graphic && (1..=Self::CHARS_MAX).contains(&text.len())).then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PaymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaymentKey(..)")
    }
}

/// Why a gateway or an operator ended something: 1 to 64 capital letters, digits and underscores. Never free text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReasonCode(Box<str>);

impl ReasonCode {
    /// Checks a text; `None` if it is no code.
    pub fn new(text: &str) -> Option<Self> {
        let is_code = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        (is_code && (1..=64).contains(&text.len())).then(|| Self(text.into()))
    }

    /// The code that stands for one that is not in the form of a code.
    pub fn other() -> Self {
        Self("OTHER".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes an enum of states with their codes in tables, on the wire and in answers.
macro_rules! states {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $state:ident = $code:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$what])* $state,)+
        }

        impl $name {
            /// Every state.
            pub const ALL: &[Self] = &[$(Self::$state,)+];

            /// The stable code in tables, on the wire and in answers.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$state => $code,)+
                }
            }

            /// Reads a state back from its code.
            pub fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.code() == code)
            }
        }
    };
}

states! {
    /// How a payment stands.
    PaymentState {
        /// Asked for, and not committed anywhere: no gateway may be asked yet.
        Created = "created",
        /// The attempt is committed; the gateway is being asked.
        Confirming = "confirming",
        /// Nobody can tell whether money moved; it is asked about until the gateway proves something.
        Unknown = "unknown",
        /// Money moved.
        Paid = "paid",
        /// The gateway refused: no money moved.
        Declined = "declined",
        /// After a time in doubt: no money moved, and none will.
        NotPaid = "not_paid",
        /// Part of the money was given back.
        PartiallyRefunded = "partially_refunded",
        /// All of it was.
        Refunded = "refunded",
        /// Money moved after it had been said that none did: it goes back by itself.
        ChargedLate = "charged_late",
        /// All that was charged late is back.
        Returned = "returned",
    }
}

/// What happens to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentEvent {
    /// Its attempt is durable.
    Committed,
    /// The gateway, or an operator, says that money moved.
    Charged,
    /// The gateway, or an operator, says that none moved, and none will.
    Refused,
    /// No answer, or one that proves nothing.
    Doubtful,
    /// Part of what was left has been given back.
    GivenBackInPart,
    /// All that was left has been given back.
    GivenBackWhole,
}

impl PaymentEvent {
    /// Every event.
    pub const ALL: &[Self] = &[
        Self::Committed,
        Self::Charged,
        Self::Refused,
        Self::Doubtful,
        Self::GivenBackInPart,
        Self::GivenBackWhole,
    ];
}

impl PaymentState {
    /// The state after an event; `None` if the event cannot happen to a payment in this state. What repeats what is known
    /// already changes nothing.
    pub const fn after(self, event: PaymentEvent) -> Option<Self> {
        use PaymentEvent as E;
        Some(match (self, event) {
            (Self::Created, E::Committed) => Self::Confirming,
            (Self::Confirming | Self::Unknown, E::Charged) => Self::Paid,
            (Self::Confirming, E::Refused) => Self::Declined,
            (Self::Confirming | Self::Unknown, E::Doubtful) => Self::Unknown,
            (Self::Unknown, E::Refused) => Self::NotPaid,
            (Self::Paid | Self::PartiallyRefunded, E::GivenBackInPart) => Self::PartiallyRefunded,
            (Self::Paid | Self::PartiallyRefunded, E::GivenBackWhole) => Self::Refunded,
            (Self::Declined | Self::NotPaid, E::Charged) => Self::ChargedLate,
            (Self::ChargedLate, E::GivenBackInPart) => Self::ChargedLate,
            (Self::ChargedLate, E::GivenBackWhole) => Self::Returned,
            (state, E::Charged) if state.is_charged() => state,
            (Self::Declined | Self::NotPaid, E::Refused) => self,
            _ => return None,
        })
    }

    /// Whether it is to be asked about.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Confirming | Self::Unknown)
    }

    /// Whether money moved, some of which may be back.
    pub const fn is_charged(self) -> bool {
        matches!(self, Self::Paid | Self::PartiallyRefunded | Self::Refunded) || self.is_late()
    }

    /// Whether money moved after it had been said that none did, so that it pays for nothing.
    pub const fn is_late(self) -> bool {
        matches!(self, Self::ChargedLate | Self::Returned)
    }

    /// Whether it is over and no money moved, as far as is known.
    pub const fn is_given_up(self) -> bool {
        matches!(self, Self::Declined | Self::NotPaid)
    }

    /// The nearest state that a peer of the version before knows: what was charged late is not what pays for an order.
    pub const fn for_the_version_before(self) -> Self {
        if self.is_late() { Self::NotPaid } else { self }
    }
}

states! {
    /// How a refund stands.
    RefundState {
        /// Committed; the gateway is being asked.
        Confirming = "confirming",
        /// Nobody can tell; it is asked for again, under the same key.
        Unknown = "unknown",
        /// The money is back.
        Done = "done",
        /// The gateway refused; nothing went back.
        Refused = "refused",
    }
}

impl RefundState {
    /// Whether it is to be asked for again.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Confirming | Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_leads_where_the_table_says() {
        use PaymentEvent as E;
        use PaymentState as S;
        let none = None;
        for (state, committed, charged, refused, doubtful, part, whole) in [
            (S::Created, Some(S::Confirming), none, none, none, none, none),
            (S::Confirming, none, Some(S::Paid), Some(S::Declined), Some(S::Unknown), none, none),
            (S::Unknown, none, Some(S::Paid), Some(S::NotPaid), Some(S::Unknown), none, none),
            (S::Paid, none, Some(S::Paid), none, none, Some(S::PartiallyRefunded), Some(S::Refunded)),
            (S::Declined, none, Some(S::ChargedLate), Some(S::Declined), none, none, none),
            (S::NotPaid, none, Some(S::ChargedLate), Some(S::NotPaid), none, none, none),
            (
                S::PartiallyRefunded,
                none,
                Some(S::PartiallyRefunded),
                none,
                none,
                Some(S::PartiallyRefunded),
                Some(S::Refunded),
            ),
            (S::Refunded, none, Some(S::Refunded), none, none, none, none),
            (S::ChargedLate, none, Some(S::ChargedLate), none, none, Some(S::ChargedLate), Some(S::Returned)),
            (S::Returned, none, Some(S::Returned), none, none, none, none),
        ] {
            let expected = [committed, charged, refused, doubtful, part, whole];
            let found: Vec<_> = E::ALL.iter().map(|event| state.after(*event)).collect();
            assert_eq!(found, expected, "{state:?}");
        }
        assert_eq!(S::ALL.len(), 10, "every state is in the table above");
    }

    #[test]
    fn no_money_that_moved_is_ever_forgotten() {
        for state in PaymentState::ALL.iter().filter(|state| state.is_charged()) {
            for event in PaymentEvent::ALL {
                assert!(state.after(*event).is_none_or(PaymentState::is_charged), "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn money_that_was_charged_late_never_pays_for_an_order() {
        let mut late = vec![PaymentState::ChargedLate];
        while let Some(state) = late.pop() {
            for after in PaymentEvent::ALL.iter().filter_map(|event| state.after(*event)) {
                assert!(after.is_late(), "{state:?} {after:?}");
                late.extend((after != state).then_some(after));
            }
        }
        let told: Vec<_> = PaymentState::ALL.iter().map(|state| state.for_the_version_before()).collect();
        assert_eq!(told[..8], PaymentState::ALL[..8], "what the version before knows is told as it is");
        assert_eq!(told[8..], [PaymentState::NotPaid; 2]);
    }

    #[test]
    fn a_state_is_read_back_from_its_code() {
        for state in PaymentState::ALL {
            assert_eq!(PaymentState::from_code(state.code()), Some(*state));
        }
        for state in RefundState::ALL {
            assert_eq!(RefundState::from_code(state.code()), Some(*state));
        }
        assert_eq!(PaymentState::from_code("PAID"), None);
    }

    #[test]
    fn an_automatic_refund_has_one_id_a_payment_and_number() {
        let [one, two] = [1, 2].map(|n| PaymentId::new(UnixMicros::new(1_795_343_485_000_000), [n; 10]));
        assert_eq!(RefundId::automatic(one, 0), RefundId::automatic(one, 0));
        assert_ne!(RefundId::automatic(one, 0), RefundId::automatic(one, 1));
        assert_ne!(RefundId::automatic(one, 0), RefundId::automatic(two, 0));
        let id = RefundId::automatic(one, 0);
        assert_eq!(id.to_string().parse(), Ok(id), "a UUIDv7");
    }

    #[test]
    fn a_payment_key_is_a_token_and_is_not_shown() {
        let key = PaymentKey::new("5EnNZRJGvaBX7zk2yd8ydw26XvwXkLrx9POLqKQjmAw4b0e1").unwrap();
        assert_eq!(format!("{key:?}"), "PaymentKey(..)");
        for bad in ["", "a b", "한", &"k".repeat(201)] {
            assert!(PaymentKey::new(bad).is_none());
        }
    }

    #[test]
    fn a_reason_is_a_code_and_no_text() {
        assert!(ReasonCode::new("REJECT_CARD_COMPANY").is_some());
        for bad in ["", "no money", "card-4111", &"A".repeat(65)] {
            assert!(ReasonCode::new(bad).is_none());
        }
    }
}
