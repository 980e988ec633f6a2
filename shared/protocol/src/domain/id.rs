//! Order ids and idempotency keys.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Brand, UnixMicros};

/// An order's id: a UUIDv7 (RFC 9562 section 5.7). The cloud agent makes it when it admits the
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(Uuid);

/// The value is no order id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an order id is a version 7 UUID")]
pub struct NotAnOrderId;

impl OrderId {
    /// Makes an id from the time and ten random bytes.
    pub fn new(now: UnixMicros, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(now.millis(), &random).into_uuid())
    }

    /// Returns the 16 bytes that are used on the wire and in tables.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads 16 bytes from the wire or a table.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not a UUIDv7.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAnOrderId> {
        Uuid::from_slice(bytes).map_err(|_| NotAnOrderId).and_then(Self::from_uuid)
    }

    /// Returns the id as a UUID, for a database column of that type.
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// Calls `read` with the text that `Display` gives, without allocating a string.
    pub fn with_text<R>(self, read: impl FnOnce(&str) -> R) -> R {
        read(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }

    /// Takes a UUID as an order id.
    ///
    /// # Errors
    ///
    /// Fails if the UUID is not of version 7.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, NotAnOrderId> {
        if uuid.get_version_num() == 7 { Ok(Self(uuid)) } else { Err(NotAnOrderId) }
    }
}

impl FromStr for OrderId {
    type Err = NotAnOrderId;

    fn from_str(text: &str) -> Result<Self, NotAnOrderId> {
        Uuid::try_parse(text).map_err(|_| NotAnOrderId).and_then(Self::from_uuid)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An idempotency key, as a storefront sends it in `Idempotency-Key`: 1 to 255 printable ASCII
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The value is no idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 255 printable ASCII characters")]
pub struct BadIdempotencyKey;

impl IdempotencyKey {
    /// Reads a header's value.
    ///
    /// # Errors
    ///
    /// Fails unless the value is 1 to 255 printable ASCII characters.
    pub fn parse(value: &[u8]) -> Result<Self, BadIdempotencyKey> {
        let printable = value.iter().all(|byte| (0x20..=0x7e).contains(byte));
        match std::str::from_utf8(value) {
            Ok(text) if printable && (1..=255).contains(&value.len()) => Ok(Self(text.to_owned())),
            _ => Err(BadIdempotencyKey),
        }
    }

    /// Returns the digest that replaces this brand's key everywhere behind the storefront.
    pub fn digest(&self, brand: &Brand) -> KeyDigest {
        let mut hash = Sha256::new();
        hash.update(b"bridge idempotency key v1\0");
        hash.update(brand.as_str());
        hash.update(b"\0");
        hash.update(&self.0);
        KeyDigest(hash.finalize().into())
    }
}

/// SHA-256 of a brand and its idempotency key. The ledger finds repeated requests by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Returns the digest's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Makes a digest from its bytes.
    pub(crate) const fn from_array(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads a digest from the wire or a table. Returns `None` unless it has 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns 64 hexadecimal digits, as a `Location` carries them.
    pub fn to_hex(self) -> String {
        self.with_hex(str::to_owned)
    }

    /// Calls `read` with the hexadecimal digits, without allocating a string: every step of an
    /// order writes an audit entry.
    pub fn with_hex<R>(self, read: impl FnOnce(&str) -> R) -> R {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte)];
        }
        read(std::str::from_utf8(&digits).unwrap_or_default())
    }

    /// Reads 64 hexadecimal digits. Returns `None` for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({})", self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_id_is_a_version_7_uuid_and_nothing_else() {
        let id = OrderId::new(UnixMicros::new(1_795_343_485_000_000), [9; 10]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(OrderId::from_bytes(id.as_bytes()), Ok(id));
        assert_eq!("6b1f7a3e-0000-4000-8000-000000000000".parse::<OrderId>(), Err(NotAnOrderId));
    }

    #[test]
    fn a_key_is_one_to_255_printable_ascii_characters() {
        assert!(IdempotencyKey::parse(&[b'k'; 255]).is_ok());
        for bad in [&b""[..], &[b'k'; 256], b"a\nb", "k\u{e9}".as_bytes()] {
            assert_eq!(IdempotencyKey::parse(bad), Err(BadIdempotencyKey));
        }
    }

    #[test]
    fn the_same_key_of_two_brands_is_two_digests() {
        let key = IdempotencyKey::parse(b"order-1").unwrap();
        let [a, b] = ["a", "b"].map(|brand| key.digest(&Brand::new(brand).unwrap()));
        assert_ne!(a, b);
        assert_eq!(KeyDigest::from_hex(&a.to_hex()), Some(a));
        assert_eq!(KeyDigest::from_hex("+1".repeat(32).as_str()), None);
    }
}
