//! Entries of the log: events as types, and one line of canonical JSON for each.
//!
//! The form is a subset of RFC 8785: sorted members, no white space, integers, and strings of
//! visible ASCII that need no escape. There is no free text, only ids, digests, codes and sizes. So
//! nothing personal can be in an entry.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::{Brand, KeyDigest, OrderId, PaymentId, UnixMicros};
use crate::seal::sealing::Header;

// Fast writing of the most frequent entries.
mod line;

/// Most bytes of an entry.
pub const ENTRY_BYTES_MAX: usize = 2_048;

/// Most key ids in one entry. Its digest covers all keys.
const KEYS_MAX: usize = 32;

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Time by the clock of the host that logged it.
    #[serde(with = "micros")]
    pub at: UnixMicros,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// Events. Those of payments are like those of orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", content = "facts", rename_all = "kebab-case")]
pub enum Event {
    /// The agent started to serve.
    AgentStarted(Started),
    /// The agent shut down in order.
    AgentStopped(Stopped),
    /// The configuration differs from the previous one.
    ConfigurationChanged(Configuration),
    /// The sealing keys differ from the previous ones.
    KeysChanged(Keys),
    /// A link to a peer is up.
    TunnelOpened(Opened),
    /// A link to a peer ended.
    TunnelClosed(Closed),
    /// A peer was refused, or refused us.
    TunnelRefused(Refused),
    /// A link that this side dials moved to the other transport.
    TunnelSwitched(Switched),
    /// Cloud: a request about an order goes to the link for the first time.
    OrderSent(Carried),
    /// IDC: a request about an order arrived.
    OrderReceived(Carried),
    /// IDC: the request's outcome is in the ledger.
    OrderCommitted(Ended),
    /// Cloud: the answer to the storefront. IDC: the answer to the cloud, if nothing was committed.
    OrderAnswered(Ended),
    /// As `order-sent`, for payments.
    PaymentSent(Carried),
    /// As `order-received`, for payments.
    PaymentReceived(Carried),
    /// As `order-committed`, for payments.
    PaymentCommitted(Ended),
    /// As `order-answered`, for payments.
    PaymentAnswered(Ended),
    /// IDC: an operator decided the outcome of a payment or refund that was unknown.
    PaymentResolved(Resolved),
    /// IDC: personal data of an order is about to be shown.
    PersonalShown(Shown),
}

/// Start of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The version of its build.
    pub build: Word,
    /// The agent's name.
    pub name: Word,
}

/// End of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    /// Reason, as a code.
    pub reason: Word,
}

/// A configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Digest of the text that `check --print-config` shows.
    pub digest: Digest,
}

/// Sealing keys in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Ids of the keys, in hexadecimal.
    pub keys: Vec<Word>,
    /// Digest of the signed manifest.
    pub manifest: Digest,
}

/// A link that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Digest of the peer's certificate (DER).
    pub certificate: Digest,
    /// The key exchange group.
    pub group: Word,
    /// The link's number in this process.
    pub link: u64,
    /// The peer's SPIFFE ID.
    pub peer: Word,
    /// The cipher suite.
    pub suite: Word,
    /// The transport: `quic` or `tcp`. Earlier versions did not log it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Word>,
}

/// A link that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// The link's number in this process.
    pub link: u64,
    /// The peer's SPIFFE ID.
    pub peer: Word,
    /// Reason, as a code.
    pub reason: Word,
}

/// A refused peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Digest of the peer's certificate (DER), if it showed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Digest>,
    /// The peer's SPIFFE ID, if it showed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Word>,
    /// Reason, as a code.
    pub reason: Word,
    /// Refusals for this reason since the last entry with it. They are counted so that a stranger
    /// who keeps trying does not fill the disk.
    pub times: u64,
}

/// A link that moved to the other transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switched {
    /// The transport before.
    pub from: Word,
    /// Packets that were lost in the time that was judged, if that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Time of the reason in milliseconds, if it has one: of the silence, or for which it carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millis: Option<u64>,
    /// The peer's SPIFFE ID.
    pub peer: Word,
    /// Reason, as a code.
    pub reason: Word,
    /// Packets that were sent in the time that was judged, if the reason is their loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// The transport now.
    pub to: Word,
}

/// A request that is sent or received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// `place`, `cancel`, `pay`, `refund`.
    pub action: Word,
    /// Brand of the request.
    #[serde(with = "brand")]
    pub brand: Brand,
    /// Length of the ciphertext in bytes; 0 if nothing is sealed.
    pub bytes: u64,
    /// Digest of the ciphertext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext: Option<Digest>,
    /// Digest of brand and idempotency key.
    #[serde(with = "key")]
    pub key: KeyDigest,
    /// The order's id.
    #[serde(with = "order")]
    pub order: OrderId,
    /// The payment's id, if the request is about a payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<Word>,
}

/// Outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Brand of the request.
    #[serde(with = "brand")]
    pub brand: Brand,
    /// Digest of brand and idempotency key.
    #[serde(with = "key")]
    pub key: KeyDigest,
    /// The order's id in the ledger.
    #[serde(with = "order")]
    pub order: OrderId,
    /// Code of the outcome or of the refusal; `unknown` if nobody knows the outcome.
    pub outcome: Word,
    /// The payment's id, if the request is about a payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<Word>,
    /// The ledger's number for the outcome, if it is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
    /// Set if the outcome was committed by an earlier request under the same key.
    pub replayed: bool,
}

/// A decision of an operator that ends an unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolved {
    /// The shop's brand. Earlier versions did not log it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<Word>,
    /// Digest of brand and idempotency key of the request. A refund without a request of its own
    /// has the payment's. Earlier versions did not log it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// Id of the payment's order.
    #[serde(with = "order")]
    pub order: OrderId,
    /// The decided outcome.
    pub outcome: Word,
    /// The payment's id.
    pub payment: Word,
    /// Evidence for the decision, as a code such as a ticket number.
    pub reason: Word,
    /// The refund's id, if the decision is about a refund.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund: Option<Word>,
    /// The operator's account on the host.
    pub who: Word,
}

/// Personal data shown to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Id of the order whose personal data is shown.
    #[serde(with = "order")]
    pub order: OrderId,
    /// Purpose, as a code such as a ticket number.
    pub purpose: Word,
    /// The person's account on the host.
    pub who: Word,
}

/// One word: 1 to 255 letters, digits and `. _ : / @ -`. A space would allow free text, so there is
/// none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Word(String);

/// The text is no [`Word`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 letters, digits and . _ : / @ - without spaces")]
pub struct NotAWord;

/// A SHA-256 digest, written in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(#[serde(serialize_with = "key::serialize")] KeyDigest);

/// Reasons why bytes are no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It is longer than [`ENTRY_BYTES_MAX`].
    #[error("an entry has at most {ENTRY_BYTES_MAX} bytes")]
    TooLong,
    /// Its kind is unknown to this version, or it is not in its canonical form.
    #[error("not an entry in its canonical form")]
    Malformed,
}

impl Carried {
    /// Makes the entry of a request about an order, with the sealed ciphertext if there is one.
    pub fn new(header: &Header, action: &str, ciphertext: Option<&[u8]>) -> Self {
        let Header { brand, order, key } = header.clone();
        let bytes = ciphertext.map_or(0, |ciphertext| ciphertext.len() as u64);
        let (action, ciphertext) = (Word::of(action), ciphertext.map(Digest::of));
        Self { action, brand, bytes, ciphertext, key, order, payment: None }
    }

    /// Adds the payment that the request is about.
    #[must_use]
    pub fn about(self, payment: PaymentId) -> Self {
        Self { payment: Some(Word::of(&payment.to_string())), ..self }
    }
}

/// Answers of the cloud agent that mean the IDC did nothing: there was no link, no room, a request
/// under the same key (same or other body) in progress, or a refusal at the IDC before the request
/// was logged.
const NOT_TAKEN: [&str; 6] = ["not-sent", "full", "in-progress", "key-in-use", "busy", "database-down"];

impl Ended {
    /// Makes the entry of an outcome that is not in the ledger.
    pub fn new(header: &Header, outcome: &str) -> Self {
        let Header { brand, order, key } = header.clone();
        let outcome = Word::of(outcome);
        Self { brand, key, order, outcome, payment: None, position: None, replayed: false }
    }

    /// Adds the payment that the outcome is about.
    #[must_use]
    pub fn about(self, payment: PaymentId, replayed: bool) -> Self {
        Self { payment: Some(Word::of(&payment.to_string())), replayed, ..self }
    }

    /// Returns true if the outcome means that the IDC took nothing, so that its log need not have
    /// the request.
    pub fn says_not_taken(&self) -> bool {
        NOT_TAKEN.contains(&self.outcome.as_str())
    }
}

impl Entry {
    /// Makes an entry of an event at a time.
    pub fn new(at: UnixMicros, event: Event) -> Self {
        Self { at, event }
    }

    /// Returns the canonical bytes, which are the leaf of the tree.
    ///
    /// # Errors
    ///
    /// Fails if they are longer than [`ENTRY_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let mut bytes = Vec::with_capacity(ENTRY_BYTES_MAX / 4);
        self.encode_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Appends the canonical bytes to `bytes`.
    ///
    /// # Errors
    ///
    /// Fails if they are longer than [`ENTRY_BYTES_MAX`]. `bytes` is then unchanged.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), EntryError> {
        let from = bytes.len();
        let encoded =
            if line::write(self, bytes) { Ok(()) } else { serde_json::to_writer(&mut *bytes, self) };
        let written = match encoded {
            Ok(()) if bytes.len() - from > ENTRY_BYTES_MAX => Err(EntryError::TooLong),
            Ok(()) => Ok(()),
            Err(_) => Err(EntryError::Malformed),
        };
        if written.is_err() {
            bytes.truncate(from);
        }
        written
    }

    /// Reads an entry. Only bytes that [`Self::encode`] returns are accepted.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are too long or not in the canonical form.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong);
        }
        let entry: Self = serde_json::from_slice(bytes).map_err(|_| EntryError::Malformed)?;
        if entry.encode()? == bytes { Ok(entry) } else { Err(EntryError::Malformed) }
    }
}

impl Event {
    /// Name of every kind, as `--kind` takes it.
    pub const KINDS: [&'static str; 18] = [
        "agent-started",
        "agent-stopped",
        "configuration-changed",
        "keys-changed",
        "tunnel-opened",
        "tunnel-closed",
        "tunnel-refused",
        "tunnel-switched",
        "order-sent",
        "order-received",
        "order-committed",
        "order-answered",
        "payment-sent",
        "payment-received",
        "payment-committed",
        "payment-answered",
        "payment-resolved",
        "personal-shown",
    ];

    /// Returns the name of the event's kind, one of [`Self::KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AgentStarted(_) => "agent-started",
            Self::AgentStopped(_) => "agent-stopped",
            Self::ConfigurationChanged(_) => "configuration-changed",
            Self::KeysChanged(_) => "keys-changed",
            Self::TunnelOpened(_) => "tunnel-opened",
            Self::TunnelClosed(_) => "tunnel-closed",
            Self::TunnelRefused(_) => "tunnel-refused",
            Self::TunnelSwitched(_) => "tunnel-switched",
            Self::OrderSent(_) => "order-sent",
            Self::OrderReceived(_) => "order-received",
            Self::OrderCommitted(_) => "order-committed",
            Self::OrderAnswered(_) => "order-answered",
            Self::PaymentSent(_) => "payment-sent",
            Self::PaymentReceived(_) => "payment-received",
            Self::PaymentCommitted(_) => "payment-committed",
            Self::PaymentAnswered(_) => "payment-answered",
            Self::PaymentResolved(_) => "payment-resolved",
            Self::PersonalShown(_) => "personal-shown",
        }
    }

    /// Makes an event from the key ids and the signed manifest.
    pub fn keys_changed<'id>(manifest: &[u8], ids: impl Iterator<Item = &'id [u8]>) -> Self {
        let keys = ids.take(KEYS_MAX).map(|id| Word::of(&hex(id))).collect();
        Self::KeysChanged(Keys { keys, manifest: Digest::of(manifest) })
    }
}

impl Word {
    /// Checks a word.
    ///
    /// # Errors
    ///
    /// Fails unless the text is a word.
    pub fn new(text: &str) -> Result<Self, NotAWord> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(is_of_a_word);
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAWord) }
    }

    /// Makes a word from any text: other characters become `-`, and a text that is too long is cut.
    pub fn of(text: &str) -> Self {
        if let Ok(word) = Self::new(text) {
            return word;
        }
        let fitting = |c: char| if u8::try_from(c).is_ok_and(is_of_a_word) { c } else { '-' };
        let word: String = text.chars().take(255).map(fitting).collect();
        Self(if word.is_empty() { "-".to_owned() } else { word })
    }

    /// Returns the word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Word {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<Self, NotAWord> {
        Self::new(&text)
    }
}

impl Digest {
    /// Returns the digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(Sha256::digest(bytes).into())
    }

    /// Makes a digest from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(KeyDigest::from_array(bytes))
    }

    /// Returns 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.to_hex()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        KeyDigest::from_hex(&text).map(Self).ok_or("a digest is 64 hexadecimal digits")
    }
}

fn is_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a time as its microseconds.
mod micros {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::domain::UnixMicros;

    pub(super) fn serialize<S: Serializer>(at: &UnixMicros, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(at.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixMicros, D::Error> {
        i64::deserialize(deserializer).map(UnixMicros::new)
    }
}

/// Writes a domain type as its text, and reads it through its own checked constructor.
macro_rules! as_text {
    ($module:ident, $type:ty, |$value:ident, $serializer:ident| $write:expr, $read:expr) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de};

            pub(super) fn serialize<S: Serializer>(
                $value: &$type,
                $serializer: S,
            ) -> Result<S::Ok, S::Error> {
                $write
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let read: fn(&str) -> Option<$type> = $read;
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                read(&text).ok_or_else(|| de::Error::custom("not in its form"))
            }
        }
    };
}

as_text!(brand, crate::domain::Brand, |brand, serializer| serializer.serialize_str(brand.as_str()), |text| {
    crate::domain::Brand::new(text).ok()
});
as_text!(
    key,
    crate::domain::KeyDigest,
    |key, serializer| key.with_hex(|digits| serializer.serialize_str(digits)),
    crate::domain::KeyDigest::from_hex
);
as_text!(order, crate::domain::OrderId, |order, serializer| serializer.collect_str(order), |text| text
    .parse()
    .ok());

#[cfg(test)]
pub(crate) mod tests;
