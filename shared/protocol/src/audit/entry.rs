//! Entries of the log: what happened, as types, and one line of canonical JSON for each.
//!
//! The form is RFC 8785 restricted to what entries need: members sorted, no white space, integers, and strings of
//! visible ASCII that need no escape. There is no free text: ids, digests, codes, sizes. Nothing personal has a place.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::{Brand, KeyDigest, OrderId, PaymentId, UnixMicros};
use crate::seal::sealing::Header;

// The entries that every order has, without a general serializer.
mod line;

/// Bytes of an entry at most.
pub const ENTRY_BYTES_MAX: usize = 2_048;

/// Key ids that one entry names at most; its digest covers all.
const KEYS_MAX: usize = 32;

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// By the clock of the host that logged it.
    #[serde(with = "micros")]
    pub at: UnixMicros,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. The payments' events are as the orders'.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", content = "facts", rename_all = "kebab-case")]
pub enum Event {
    /// The agent serves.
    AgentStarted(Started),
    /// The agent has ended in order.
    AgentStopped(Stopped),
    /// Another configuration is in force than before.
    ConfigurationChanged(Configuration),
    /// Other sealing keys are in use than before.
    KeysChanged(Keys),
    /// A link to a peer is up.
    TunnelOpened(Opened),
    /// A link to a peer is gone.
    TunnelClosed(Closed),
    /// Somebody was not let in, or did not let us in.
    TunnelRefused(Refused),
    /// Cloud: a request about an order goes to the link for the first time.
    OrderSent(Carried),
    /// IDC: a request about an order has come.
    OrderReceived(Carried),
    /// IDC: its outcome is in the ledger.
    OrderCommitted(Ended),
    /// Cloud: what the storefront is told. IDC: what the cloud is told, where nothing was committed.
    OrderAnswered(Ended),
    /// As `order-sent`.
    PaymentSent(Carried),
    /// As `order-received`.
    PaymentReceived(Carried),
    /// As `order-committed`.
    PaymentCommitted(Ended),
    /// As `order-answered`.
    PaymentAnswered(Ended),
    /// IDC: an operator says what became of a payment or a refund that nobody could tell about.
    PaymentResolved(Resolved),
    /// IDC: somebody is about to see an order's personal data.
    PersonalShown(Shown),
}

/// Which agent serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The version of its build.
    pub build: Word,
    /// Its name.
    pub name: Word,
}

/// Why an agent ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    /// A code.
    pub reason: Word,
}

/// Which configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Of what `check --print-config` shows.
    pub digest: Digest,
}

/// Which sealing keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Their ids in hexadecimal.
    pub keys: Vec<Word>,
    /// Of the signed manifest as it travels.
    pub manifest: Digest,
}

/// A link that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Of the peer's certificate, DER.
    pub certificate: Digest,
    /// The key exchange.
    pub group: Word,
    /// The link's number in this process.
    pub link: u64,
    /// The peer's SPIFFE ID.
    pub peer: Word,
    /// The cipher suite.
    pub suite: Word,
}

/// A link that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// The link's number in this process.
    pub link: u64,
    /// The peer's SPIFFE ID.
    pub peer: Word,
    /// A code.
    pub reason: Word,
}

/// Somebody who is not linked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Of the peer's certificate, DER, if it showed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Digest>,
    /// The peer's SPIFFE ID, as far as it showed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Word>,
    /// A code.
    pub reason: Word,
    /// How often since the last entry of this reason: strangers that knock all day do not fill a disk.
    pub times: u64,
}

/// A request on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// `place`, `cancel`, `pay`, `refund`.
    pub action: Word,
    /// Whose shop.
    #[serde(with = "brand")]
    pub brand: Brand,
    /// Bytes of the ciphertext, 0 if nothing in it is sealed.
    pub bytes: u64,
    /// Of the ciphertext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext: Option<Digest>,
    /// The digest of brand and idempotency key.
    #[serde(with = "key")]
    pub key: KeyDigest,
    /// The order.
    #[serde(with = "order")]
    pub order: OrderId,
    /// The payment, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<Word>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Whose shop.
    #[serde(with = "brand")]
    pub brand: Brand,
    /// The digest of brand and idempotency key.
    #[serde(with = "key")]
    pub key: KeyDigest,
    /// The order, as the ledger has it.
    #[serde(with = "order")]
    pub order: OrderId,
    /// The outcome's code, or the refusal's; `unknown` where nobody can tell.
    pub outcome: Word,
    /// The payment, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<Word>,
    /// The ledger's number for the outcome, where it is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
    /// Whether an earlier request under the same key had it committed.
    pub replayed: bool,
}

/// A doubt that an operator ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolved {
    /// Whose shop. Agents of before did not log it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<Word>,
    /// The digest of brand and idempotency key under which it was asked for; of a refund that nobody asked for, its payment's.
    /// Agents of before did not log it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// The payment's order.
    #[serde(with = "order")]
    pub order: OrderId,
    /// How it stands by the operator's word.
    pub outcome: Word,
    /// The payment.
    pub payment: Word,
    /// Why that is known, as a code such as a ticket's number.
    pub reason: Word,
    /// The refund, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund: Option<Word>,
    /// The account on the host.
    pub who: Word,
}

/// Personal data before somebody's eyes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Whose data: the customer's of this order.
    #[serde(with = "order")]
    pub order: OrderId,
    /// Why, as a code such as a ticket's number.
    pub purpose: Word,
    /// The account on the host.
    pub who: Word,
}

/// One word: 1 to 255 letters, digits and `. _ : / @ -`. A space would make it text, and there is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Word(String);

/// What was given is no [`Word`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 letters, digits and . _ : / @ - without spaces")]
pub struct NotAWord;

/// A SHA-256 digest, in hexadecimal where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(#[serde(serialize_with = "key::serialize")] KeyDigest);

/// Why bytes are no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It is longer than an entry may be.
    #[error("an entry has at most {ENTRY_BYTES_MAX} bytes")]
    TooLong,
    /// It is of no kind that this version knows, or not in its canonical form.
    #[error("not an entry in its canonical form")]
    Malformed,
}

impl Carried {
    /// A request about an order under a key, with what is sealed in it.
    pub fn new(header: &Header, action: &str, ciphertext: Option<&[u8]>) -> Self {
        let Header { brand, order, key } = header.clone();
        let bytes = ciphertext.map_or(0, |ciphertext| ciphertext.len() as u64);
        let (action, ciphertext) = (Word::of(action), ciphertext.map(Digest::of));
        Self { action, brand, bytes, ciphertext, key, order, payment: None }
    }

    /// The same about a payment of that order.
    #[must_use]
    pub fn about(self, payment: PaymentId) -> Self {
        Self { payment: Some(Word::of(&payment.to_string())), ..self }
    }
}

/// What the cloud tells a caller whose request stayed where it was: without a link, without room, with another one under
/// its key on the way, the same or not, turned away at the IDC's door before it was looked at, or refused by an IDC whose log could
/// not take it.
const NOT_TAKEN: [&str; 6] = ["not-sent", "full", "in-progress", "key-in-use", "busy", "database-down"];

impl Ended {
    /// A request's end by its code, that is not in the ledger.
    pub fn new(header: &Header, outcome: &str) -> Self {
        let Header { brand, order, key } = header.clone();
        let outcome = Word::of(outcome);
        Self { brand, key, order, outcome, payment: None, position: None, replayed: false }
    }

    /// The same about a payment of that order.
    #[must_use]
    pub fn about(self, payment: PaymentId, replayed: bool) -> Self {
        Self { payment: Some(Word::of(&payment.to_string())), replayed, ..self }
    }

    /// Whether it says that nothing of the request was taken, so that the other side need not know of it.
    pub fn says_not_taken(&self) -> bool {
        NOT_TAKEN.contains(&self.outcome.as_str())
    }
}

impl Entry {
    /// Something that happened now.
    pub fn new(at: UnixMicros, event: Event) -> Self {
        Self { at, event }
    }

    /// The canonical bytes: the leaf of the tree.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let mut bytes = Vec::with_capacity(ENTRY_BYTES_MAX / 4);
        self.encode_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Appends the canonical bytes; after an error nothing is appended.
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

    /// Reads an entry back; only the bytes that [`Self::encode`] gives are one.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong);
        }
        let entry: Self = serde_json::from_slice(bytes).map_err(|_| EntryError::Malformed)?;
        if entry.encode()? == bytes { Ok(entry) } else { Err(EntryError::Malformed) }
    }
}

impl Event {
    /// Every kind's name, as `--kind` takes it.
    pub const KINDS: [&'static str; 17] = [
        "agent-started",
        "agent-stopped",
        "configuration-changed",
        "keys-changed",
        "tunnel-opened",
        "tunnel-closed",
        "tunnel-refused",
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

    /// The name of its kind, one of [`Self::KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AgentStarted(_) => "agent-started",
            Self::AgentStopped(_) => "agent-stopped",
            Self::ConfigurationChanged(_) => "configuration-changed",
            Self::KeysChanged(_) => "keys-changed",
            Self::TunnelOpened(_) => "tunnel-opened",
            Self::TunnelClosed(_) => "tunnel-closed",
            Self::TunnelRefused(_) => "tunnel-refused",
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

    /// Sealing keys by their ids and the manifest as it travels.
    pub fn keys_changed<'id>(manifest: &[u8], ids: impl Iterator<Item = &'id [u8]>) -> Self {
        let keys = ids.take(KEYS_MAX).map(|id| Word::of(&hex(id))).collect();
        Self::KeysChanged(Keys { keys, manifest: Digest::of(manifest) })
    }
}

impl Word {
    /// Checks a word that somebody gave.
    pub fn new(text: &str) -> Result<Self, NotAWord> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(is_of_a_word);
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAWord) }
    }

    /// The nearest word to what cannot be refused: other characters become `-`, what is too long is cut.
    pub fn of(text: &str) -> Self {
        if let Ok(word) = Self::new(text) {
            return word;
        }
        let fitting = |c: char| if u8::try_from(c).is_ok_and(is_of_a_word) { c } else { '-' };
        let word: String = text.chars().take(255).map(fitting).collect();
        Self(if word.is_empty() { "-".to_owned() } else { word })
    }

    /// The word.
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
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(Sha256::digest(bytes).into())
    }

    /// A digest made elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(KeyDigest::from_array(bytes))
    }

    /// 64 hexadecimal digits.
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

/// A time as its microseconds.
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

/// Writes a domain type as its text, and reads it back through its own checked constructor.
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
