//! Personal data at rest: each value is encrypted alone with a key of its order, and a key of the
//! data centre wraps that key.
//!
//! Personal data exists in clear only between opening its envelope and this module. This module
//! writes no SQL: it returns ciphertext, and the ledger stores it. Only `personal show` decrypts it
//! again.
//!
//! The key of a value is derived from the order's random data key and is used once, so its nonce is
//! zero. The data key is wrapped with a key that is derived from the key-encryption key and 32
//! random bytes, and is also used once. The associated data binds table, column, row and key
//! version, so no ciphertext can be moved elsewhere.

/// The IDC's keys, as files in one folder.
pub mod keyring;

/// The current keys of a running agent.
pub mod current;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key};
use bridge_protocol::domain::{OrderId, Personal, PersonalData, PersonalField};
use hkdf::Hkdf;
use rand::Rng;
use sha2::Sha256;
use zeroize::Zeroizing;

use keyring::Keyring;

const TABLE: &str = "order_personal";
const SALT_BYTES: usize = 32;

type Secret = Zeroizing<[u8; 32]>;

/// Personal values of one order as the database stores them: ciphertext only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonalAtRest {
    /// Version of the key-encryption key that wraps the order's data key.
    pub key_version: i32,
    /// The wrapped data key: 32 bytes of salt, 32 bytes of ciphertext, 16 bytes of tag.
    pub wrapped_key: Vec<u8>,
    /// The values in the order of `PersonalField::ALL`. `None` if the order has no such value.
    pub fields: [Option<Vec<u8>>; 9],
}

/// A value derived from a key, by which agents compare keys. The key cannot be computed from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCheck {
    /// Name of the key: `fingerprint`, or `kek-1` for the first key-encryption key.
    pub name: String,
    /// The derived value.
    pub value: [u8; 32],
}

impl KeyCheck {
    fn of(name: String, key: &Secret) -> Self {
        let info = [b"bridge key check v1\0", name.as_bytes()].concat();
        let value = *expand(&Hkdf::<Sha256>::new(None, key.as_ref()), &info);
        Self { name, value }
    }

    /// Returns the name of the key's file.
    pub fn file(&self) -> String {
        format!("{}.key", self.name)
    }
}

/// A failure to decrypt personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The folder has no key-encryption key of this version.
    #[error(
        "key-encryption key version {0} is not here: copy kek-{0}.key from another agent, or restore it from its backup"
    )]
    NoSuchKey(i32),
    /// The ciphertext in this column is not the one that this vault wrote there.
    #[error("the {0} column was changed, moved from another row, or encrypted under another key")]
    Tampered(&'static str),
}

/// Encrypts an order's personal data with the newest key-encryption key.
pub fn encrypt(
    order: OrderId,
    personal: &PersonalData,
    keys: &Keyring,
    random: &mut impl Rng,
) -> PersonalAtRest {
    let (key_version, key) = keys.newest_encryption_key();
    let place = CiphertextOwner { order, key_version };
    let mut data_key = Secret::default();
    random.fill_bytes(data_key.as_mut());
    let mut wrapped_key = vec![0; SALT_BYTES];
    random.fill_bytes(&mut wrapped_key);
    let wrapped = seal(&wrapping_key(key, &wrapped_key), data_key.as_ref(), &place.bind("wrapped_key"));
    wrapped_key.extend_from_slice(&wrapped);
    let mut fields = [const { None }; 9];
    for (field, value) in personal.iter() {
        let column = field.column();
        let ciphertext = seal(&value_key(&data_key, column), value.expose().as_bytes(), &place.bind(column));
        if let Some(slot) = slot(&mut fields, field) {
            *slot = Some(ciphertext);
        }
    }
    PersonalAtRest { key_version, wrapped_key, fields }
}

/// Decrypts an order's personal data.
///
/// # Errors
///
/// Fails if the key-encryption key is missing or a ciphertext is not authentic.
pub fn decrypt(order: OrderId, at_rest: &PersonalAtRest, keys: &Keyring) -> Result<PersonalData, VaultError> {
    let place = CiphertextOwner { order, key_version: at_rest.key_version };
    let key = keys.encryption_key(at_rest.key_version).ok_or(VaultError::NoSuchKey(at_rest.key_version))?;
    let tampered = || VaultError::Tampered("wrapped_key");
    let (salt, wrapped) = at_rest.wrapped_key.split_at_checked(SALT_BYTES).ok_or_else(tampered)?;
    let data_key =
        open(&wrapping_key(key, salt), wrapped, &place.bind("wrapped_key")).ok_or_else(tampered)?;
    let data_key = Secret::new(data_key.as_slice().try_into().map_err(|_| tampered())?);
    let mut personal = PersonalData::default();
    for (field, ciphertext) in PersonalField::ALL.into_iter().zip(&at_rest.fields) {
        let Some(ciphertext) = ciphertext else { continue };
        let column = field.column();
        let value = open(&value_key(&data_key, column), ciphertext, &place.bind(column));
        let text = value.and_then(|value| std::str::from_utf8(&value).map(str::to_owned).ok());
        personal.set(field, Personal::new(text.ok_or(VaultError::Tampered(column))?));
    }
    Ok(personal)
}

fn slot(fields: &mut [Option<Vec<u8>>; 9], field: PersonalField) -> Option<&mut Option<Vec<u8>>> {
    PersonalField::ALL.iter().position(|known| *known == field).and_then(|index| fields.get_mut(index))
}

/// The row that a ciphertext belongs to, and the version of its key.
struct CiphertextOwner {
    order: OrderId,
    key_version: i32,
}

impl CiphertextOwner {
    fn bind(&self, column: &str) -> Vec<u8> {
        let version = self.key_version.to_be_bytes();
        [TABLE.as_bytes(), b"\0", column.as_bytes(), b"\0", self.order.as_bytes(), &version].concat()
    }
}

fn wrapping_key(key: &Secret, salt: &[u8]) -> Secret {
    expand(&Hkdf::<Sha256>::new(Some(salt), key.as_ref()), b"bridge data key v1")
}

fn value_key(data_key: &Secret, column: &str) -> Secret {
    derived(data_key, &[b"bridge value v1\0", column.as_bytes()].concat())
}

/// Derives a key of its own from another key.
fn derived(key: &Secret, info: &[u8]) -> Secret {
    expand(&Hkdf::<Sha256>::new(None, key.as_ref()), info)
}

/// HKDF-Expand of RFC 5869 section 2.3, to 32 bytes.
fn expand(hkdf: &Hkdf<Sha256>, info: &[u8]) -> Secret {
    let mut key = Secret::default();
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes (RFC 5869 section 2.3)")]
    hkdf.expand(info, key.as_mut()).expect("32 bytes");
    key
}

fn seal(key: &Secret, plain: &[u8], aad: &[u8]) -> Vec<u8> {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(**key));
    #[expect(clippy::expect_used, reason = "AES-GCM takes up to 64 GiB; an order's body has at most 256 KiB")]
    cipher.encrypt(&Default::default(), Payload { msg: plain, aad }).expect("a short plaintext")
}

fn open(key: &Secret, ciphertext: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(**key));
    cipher.decrypt(&Default::default(), Payload { msg: ciphertext, aad }).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::UnixMicros;

    use super::*;

    fn personal() -> PersonalData {
        let mut data = PersonalData::default();
        data.set(PersonalField::CustomerName, Personal::new("김하나".into()));
        data.set(PersonalField::DeliveryNote, Personal::new("문 앞".into()));
        data
    }

    fn order(number: u8) -> OrderId {
        OrderId::new(UnixMicros::new(1), [number; 10])
    }

    fn at_rest(keys: &Keyring) -> PersonalAtRest {
        encrypt(order(1), &personal(), keys, &mut rand::rng())
    }

    #[test]
    fn what_was_encrypted_is_decrypted() {
        let keys = Keyring::for_tests(1);
        assert!(decrypt(order(1), &at_rest(&keys), &keys) == Ok(personal()));
    }

    #[test]
    fn no_ciphertext_shows_its_value_and_no_two_are_alike() {
        let keys = Keyring::for_tests(1);
        let (a, b) = (at_rest(&keys), at_rest(&keys));
        assert_ne!(a.fields[0], b.fields[0]);
        let stored = a.fields.iter().flatten().flatten().copied().collect::<Vec<u8>>();
        assert!(
            !stored.windows(3).any(|bytes| "김하나문앞".as_bytes().windows(3).any(|plain| plain == bytes))
        );
    }

    #[test]
    fn a_value_moved_to_another_row_or_column_or_changed_is_refused() {
        let keys = Keyring::for_tests(1);
        let good = at_rest(&keys);
        assert!(decrypt(order(2), &good, &keys) == Err(VaultError::Tampered("wrapped_key")));
        let mut moved = good.clone();
        moved.fields.swap(0, 8);
        assert!(decrypt(order(1), &moved, &keys) == Err(VaultError::Tampered("customer_name")));
        let mut changed = good.clone();
        changed.fields[8].as_mut().unwrap()[0] ^= 1;
        assert!(decrypt(order(1), &changed, &keys) == Err(VaultError::Tampered("delivery_note")));
        let mut cut = good;
        cut.wrapped_key.truncate(5);
        assert!(decrypt(order(1), &cut, &keys) == Err(VaultError::Tampered("wrapped_key")));
    }

    #[test]
    fn the_key_of_another_data_centre_opens_nothing() {
        let stored = at_rest(&Keyring::for_tests(1));
        assert!(
            decrypt(order(1), &stored, &Keyring::for_tests(2)) == Err(VaultError::Tampered("wrapped_key"))
        );
        let unknown = PersonalAtRest { key_version: 9, ..stored };
        assert!(decrypt(order(1), &unknown, &Keyring::for_tests(1)) == Err(VaultError::NoSuchKey(9)));
    }
}
