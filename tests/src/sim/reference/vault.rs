//! Decryption of the vault's table. Each value has its own key, derived from the order's data key.
//! The data key is wrapped under a key that is derived from the data centre's key (RFC 5869,
//! AES-256-GCM with a zero nonce, since each key is used once).

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key};
use hkdf::Hkdf;
use sha2::Sha256;

use super::Order;

/// The columns, in the table's order.
const COLUMNS: [&str; 9] = [
    "customer_name",
    "customer_phone",
    "customer_email",
    "delivery_name",
    "delivery_phone",
    "delivery_postal_code",
    "delivery_address",
    "delivery_country",
    "delivery_note",
];

/// A row of the vault's table.
pub(in crate::sim) struct Stored<'a> {
    pub(in crate::sim) key_version: i32,
    pub(in crate::sim) wrapped_key: &'a [u8],
    pub(in crate::sim) fields: &'a [Option<Vec<u8>>; 9],
}

/// Decrypts the values of an order's row. Returns `None` if a value does not decrypt in its row and
/// column.
pub(in crate::sim) fn open(
    order: &Order,
    stored: &Stored<'_>,
    key: &[u8; 32],
) -> Option<BTreeMap<&'static str, String>> {
    let bound = |column: &str| {
        let version = stored.key_version.to_be_bytes();
        [b"order_personal\0", column.as_bytes(), b"\0", order, &version].concat()
    };
    let (salt, wrapped) = stored.wrapped_key.split_at_checked(32)?;
    let wrapping = derived(Some(salt), key, b"bridge data key v1")?;
    let data_key = decrypted(&wrapping, wrapped, &bound("wrapped_key"))?;
    let mut values = BTreeMap::new();
    for (column, ciphertext) in COLUMNS.into_iter().zip(stored.fields) {
        let Some(ciphertext) = ciphertext else { continue };
        let info = [b"bridge value v1\0", column.as_bytes()].concat();
        let value = decrypted(&derived(None, &data_key, &info)?, ciphertext, &bound(column))?;
        values.insert(column, String::from_utf8(value).ok()?);
    }
    Some(values)
}

fn derived(salt: Option<&[u8]>, secret: &[u8], info: &[u8]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(salt, secret).expand(info, &mut key).ok()?;
    Some(key)
}

fn decrypted(key: &[u8; 32], ciphertext: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key));
    cipher.decrypt(&Default::default(), Payload { msg: ciphertext, aad }).ok()
}
