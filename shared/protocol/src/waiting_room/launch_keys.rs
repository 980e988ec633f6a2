//! The keys of a launch. All of them come from one secret of 32 bytes.
//!
//! Every agent that takes entrants of a launch has its secret, so a customer gets the same ticket
//! from each of them. A secret is of one launch and serves no longer than the launch.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::launch_id::LaunchId;
use crate::note::{NoteError, NoteSigner};

/// Block size of SHA-256. HMAC uses a key of this length without hashing it (RFC 2104 section 2).
const BLOCK_BYTES: usize = 64;

/// Computes HMAC-SHA-256 of several parts, one after the other.
pub(super) fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = Zeroizing::new([0; BLOCK_BYTES]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Tag of a customer in one launch: the first 16 bytes of HMAC-SHA-256 of the customer's reference,
/// under a key of the launch.
///
/// A bare hash of a phone number can be reversed by trying all of them; this tag cannot, without
/// the key. The tags of one customer in two launches have nothing in common. With 16 bytes, two of
/// 16 million customers share a tag with a probability below 2^-80.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectTag(pub [u8; SubjectTag::BYTES]);

impl SubjectTag {
    /// Length of a tag.
    pub const BYTES: usize = 16;
}

/// Writes hexadecimal digits.
impl fmt::Display for SubjectTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SubjectTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubjectTag({self})")
    }
}

/// Key of the subject tags of one launch. There is no `Debug`.
pub struct SubjectKey(Zeroizing<[u8; 32]>);

impl SubjectKey {
    /// Derives the key from the launch's secret.
    pub fn derive(launch: &LaunchId, secret: &[u8; 32]) -> Self {
        Self(derive(secret, "bridge launch subject key v1", launch))
    }

    /// Returns the tag of a customer, by the storefront's opaque reference.
    pub fn tag(&self, customer_reference: &str) -> SubjectTag {
        let mac = hmac_sha256(&self.0, &[customer_reference.as_bytes()]);
        let mut tag = [0; SubjectTag::BYTES];
        for (to, from) in tag.iter_mut().zip(mac) {
            *to = from;
        }
        SubjectTag(tag)
    }
}

/// Derives the signer of the launch's tickets from its secret. The verifier key's name is
/// `<brand>/<launch>`.
///
/// # Errors
///
/// Never fails for a checked launch: its name is a valid name of a key.
pub fn ticket_signer(launch: &LaunchId, secret: &[u8; 32]) -> Result<NoteSigner, NoteError> {
    NoteSigner::new(&launch.to_string(), &derive(secret, "bridge launch ticket key v1", launch))
}

fn derive(secret: &[u8; 32], purpose: &str, launch: &LaunchId) -> Zeroizing<[u8; 32]> {
    let text = format!("{purpose}\n{launch}\n");
    Zeroizing::new(hmac_sha256(secret, &[text.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_gives_the_bytes_of_rfc_4231() {
        let key: [u8; 32] = std::array::from_fn(|at| if at < 20 { 0x0b } else { 0 });
        let mac = hmac_sha256(&key, &[b"Hi ", b"There"]);
        assert_eq!(mac[..6], [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb], "test case 1");
    }

    #[test]
    fn a_tag_is_of_one_customer_in_one_launch() {
        let launch = LaunchId::for_test("shoes", "aj1");
        let tag = SubjectKey::derive(&launch, &[7; 32]).tag("c-1");
        assert_eq!(tag, SubjectKey::derive(&launch, &[7; 32]).tag("c-1"));
        let others = [
            SubjectKey::derive(&launch, &[7; 32]).tag("c-2"),
            SubjectKey::derive(&launch, &[8; 32]).tag("c-1"),
            SubjectKey::derive(&LaunchId::for_test("shoes", "aj2"), &[7; 32]).tag("c-1"),
            SubjectKey::derive(&LaunchId::for_test("hats", "aj1"), &[7; 32]).tag("c-1"),
        ];
        assert!(others.iter().all(|other| *other != tag));
    }

    #[test]
    fn the_two_keys_of_a_secret_are_independent() {
        let launch = LaunchId::for_test("shoes", "aj1");
        let subject = derive(&[7; 32], "bridge launch subject key v1", &launch);
        let ticket = derive(&[7; 32], "bridge launch ticket key v1", &launch);
        assert_ne!(*subject, *ticket);
        let signer = ticket_signer(&launch, &[7; 32]).unwrap();
        assert_eq!(signer.verifier().name(), "shoes/aj1");
    }
}
