//! Payments and refunds: their ids, the gateway's token, and their states as a pure table.
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
//! Unknown is a state of its own: nobody knows yet if money moved. Only an answer of the gateway
//! that proves something, or an operator's decision, ends it.
//!
//! Charged late is a state of its own too: the caller was told that no money moved, and then it did
//! move. The money goes back automatically, because the order may be paid in another way or
//! abandoned.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::UnixMicros;

/// The value is no id of a payment or a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id of a payment or a refund is a version 7 UUID")]
pub struct NotAPaymentId;

/// Defines an id that is a UUIDv7 (RFC 9562 section 5.7).
macro_rules! id {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes an id from the time and ten random bytes.
            pub fn new(now: UnixMicros, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(now.millis(), &random).into_uuid())
            }

            /// Returns the 16 bytes that are used on the wire and in tables.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads 16 bytes from the wire.
            ///
            /// # Errors
            ///
            /// Fails if the bytes are not a UUIDv7.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAPaymentId> {
                Uuid::from_slice(bytes).map_err(|_| NotAPaymentId).and_then(Self::from_uuid)
            }

            /// Returns the id as a UUID, for a database column of that type.
            pub fn as_uuid(&self) -> Uuid {
                self.0
            }

            /// Takes a UUID as an id.
            ///
            /// # Errors
            ///
            /// Fails if the UUID is not of version 7.
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
    /// A payment's id, made by the cloud agent. It is also the idempotency key of the charge at the
    /// gateway.
    PaymentId
}

id! {
    /// A refund's id. It is also the idempotency key of the refund at the gateway.
    RefundId
}

impl RefundId {
    /// Returns the id of the `nth` (from 0) automatic refund of a payment whose order cannot be
    /// fulfilled. Every agent that makes this refund derives the same id.
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

/// The gateway's token of a payment, which the shopper's browser received for the card: 1 to 200
/// printable ASCII characters without spaces. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentKey(Box<str>);

impl PaymentKey {
    /// Most characters (docs.tosspayments.com/reference, `paymentKey`).
    pub const CHARS_MAX: usize = 200;

    /// Checks a text. Returns `None` if it is no token.
    pub fn new(text: &str) -> Option<Self> {
        let graphic = text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        (graphic && (1..=Self::CHARS_MAX).contains(&text.len())).then(|| Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PaymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaymentKey(..)")
    }
}

/// Reason of a gateway or an operator for an ending: 1 to 64 capital letters, digits and
/// underscores. It is never free text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReasonCode(Box<str>);

impl ReasonCode {
    /// Checks a text. Returns `None` if it is no code.
    pub fn new(text: &str) -> Option<Self> {
        let is_code = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        (is_code && (1..=64).contains(&text.len())).then(|| Self(text.into()))
    }

    /// Returns the code that replaces a reason of another form.
    pub fn other() -> Self {
        Self("OTHER".into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Defines an enum of states with their codes in tables, on the wire and in answers.
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

            /// Returns the stable code that is used in tables, on the wire and in answers.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$state => $code,)+
                }
            }

            /// Reads a state from its code.
            pub fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.code() == code)
            }
        }
    };
}

states! {
    /// State of a payment.
    PaymentState {
        /// Requested, but committed nowhere. No gateway may be called yet.
        Created = "created",
        /// The attempt is committed and the gateway is being called.
        Confirming = "confirming",
        /// Nobody knows if money moved. The agent asks the gateway until it gets a proof.
        Unknown = "unknown",
        /// Money moved.
        Paid = "paid",
        /// The gateway refused. No money moved.
        Declined = "declined",
        /// The outcome was unknown for a time. No money moved, and none will move.
        NotPaid = "not_paid",
        /// Part of the money was refunded.
        PartiallyRefunded = "partially_refunded",
        /// All of the money was refunded.
        Refunded = "refunded",
        /// Money moved after the payment was reported as failed. It is refunded automatically.
        ChargedLate = "charged_late",
        /// All money that was charged late is refunded.
        Returned = "returned",
    }
}

/// Event of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentEvent {
    /// Its attempt is durable.
    Committed,
    /// The gateway or an operator says that money moved.
    Charged,
    /// The gateway or an operator says that no money moved and none will move.
    Refused,
    /// There was no answer, or one that proves nothing.
    Doubtful,
    /// Part of the remaining money was refunded.
    GivenBackInPart,
    /// All remaining money was refunded.
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
    /// Returns the state after an event, or `None` if the event cannot happen in this state. An
    /// event that repeats a known fact changes nothing.
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

    /// Returns true if the gateway must be asked about the payment.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Confirming | Self::Unknown)
    }

    /// Returns true if money moved. Some or all of it may be refunded.
    pub const fn is_charged(self) -> bool {
        matches!(self, Self::Paid | Self::PartiallyRefunded | Self::Refunded) || self.is_late()
    }

    /// Returns true if money moved after the payment was reported as failed. Such a payment pays
    /// for nothing.
    pub const fn is_late(self) -> bool {
        matches!(self, Self::ChargedLate | Self::Returned)
    }

    /// Returns true if the payment ended and, as far as is known, no money moved.
    pub const fn is_given_up(self) -> bool {
        matches!(self, Self::Declined | Self::NotPaid)
    }

    /// Returns the nearest state that a peer of the previous version knows. A late charge does not
    /// pay for an order.
    pub const fn for_the_version_before(self) -> Self {
        if self.is_late() { Self::NotPaid } else { self }
    }
}

states! {
    /// State of a refund.
    RefundState {
        /// Committed; the gateway is being called.
        Confirming = "confirming",
        /// Nobody knows. The refund is requested again under the same key.
        Unknown = "unknown",
        /// The money is refunded.
        Done = "done",
        /// The gateway refused. No money went back.
        Refused = "refused",
    }
}

impl RefundState {
    /// Returns true if the gateway must be called again.
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
        assert_eq!(told[..8], PaymentState::ALL[..8], "states that the version before knows are unchanged");
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
