//! Sealed envelopes: personal data that the cloud agent can seal and only the IDC agent can open
//! (promise P5).
//!
//! A sealing session is one export-only context of HPKE (RFC 9180) with X-Wing. Record `i` is
//! encrypted once, under the secret that the context exports for `i` (RFC 9180 section 5.3). The
//! associated data binds the whole header and the digest of the clear terms, so no part of an order
//! can be swapped with another order's. The envelope names its suite, which must be on an
//! allow-list. Nothing is negotiated.

/// The keys to seal to, signed by the IDC.
pub mod manifest;

/// Choice among the sealing keys of several IDC agents.
pub mod preference;

/// The cloud agent's side: sessions that seal.
pub mod sealing;

/// The IDC agent's side: keys, and cached sessions that open.
pub mod opening;

use std::fmt;

use aes_gcm::aead::KeyInit;
use aes_gcm::{Aes256Gcm, Key};
use hpke::aead::ExportOnlyAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::wire::order::Envelope;

/// The only suite so far: X-Wing (KEM 0x647A), HKDF-SHA256, and AES-256-GCM with a single-use key
/// for each record.
pub const SUITE_XWING_AES256GCM: u32 = 1;

/// Sealed plaintext is padded to multiples of this many bytes, so that its length says little about
/// an address.
pub const PADDING_STEP_BYTES: usize = 256;

/// Length of an AES-256-GCM tag.
pub const TAG_BYTES: usize = 16;

type Kem = XWing;
type Kdf = HkdfSha256;
type Aead = ExportOnlyAead;

/// HPKE `info` of every session of this suite.
const INFO: &[u8] = b"bridge sealing session v1";

/// Short name of a public sealing key: the first 8 bytes of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 8]);

/// Name of a sealing session: the first 16 bytes of its encapsulation's SHA-256. So it fits no
/// other encapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

/// Writes hexadecimal digits, as `status` and audit entries show them.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl KeyId {
    /// Reads an id from an envelope. Returns `None` if it is not 8 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn of(public_key: &[u8]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = digest(public_key);
        Self([a, b, c, d, e, f, g, h])
    }
}

impl SessionId {
    fn of(encapsulation: &[u8]) -> Self {
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(digest(encapsulation)) {
            *to = from;
        }
        Self(id)
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Returns the exporter context of a record.
fn exporter_context(record: u64) -> [u8; 22] {
    let mut context = *b"bridge record\0\0\0\0\0\0\0\0\0";
    context[14..].copy_from_slice(&record.to_be_bytes());
    context
}

/// Returns the associated data of an envelope: a hash over everything in it but the ciphertext,
/// each part with its length.
fn associated_data(envelope: &Envelope) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"bridge envelope v1\0");
    hash.update(envelope.suite.to_be_bytes());
    hash.update(envelope.record.to_be_bytes());
    let terms = digest(&envelope.terms);
    for part in [
        envelope.key_id.as_ref(),
        envelope.session.as_ref(),
        envelope.brand.as_bytes(),
        envelope.order.as_ref(),
        envelope.key.as_ref(),
        terms.as_ref(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Returns the cipher of one record. Its key is used only once, so the nonce is zero.
fn cipher(record_secret: &Zeroizing<[u8; 32]>) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(**record_secret))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use bytes::Bytes;
    use prost::Message as _;
    use rand_core::{CryptoRng, Infallible, TryCryptoRng, TryRng};

    use super::manifest::{Manifest, Validity};
    use super::opening::{OpenError, Opener, OpeningKey};
    use super::sealing::{Header, SealingSession};
    use super::*;
    use crate::domain::{Brand, KeyDigest, OrderId, Personal, PersonalData, PersonalField, UnixMicros};
    use crate::wire::lane::LinkId;

    /// A deterministic generator for tests, which is not secure.
    struct Counter(u64);

    impl TryRng for Counter {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            self.try_next_u64().map(|n| n as u32)
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            Ok(self.0)
        }
        fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
            to.iter_mut().for_each(|byte| *byte = (self.try_next_u64().unwrap_or(0) >> 33) as u8);
            Ok(())
        }
    }
    impl TryCryptoRng for Counter {}

    const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn rng() -> impl CryptoRng {
        Counter(7)
    }

    fn key(seed: u8) -> OpeningKey {
        OpeningKey::new(&[seed; 32], Validity { not_before: NOW, not_after: NOW.plus(DAY) }).unwrap()
    }

    fn session(key: &OpeningKey) -> SealingSession {
        let manifest = Manifest { keys: vec![key.sealing_key()] };
        SealingSession::start(manifest.key_at(NOW).unwrap(), NOW, &mut rng()).unwrap()
    }

    fn personal() -> PersonalData {
        let mut data = PersonalData::default();
        data.set(PersonalField::CustomerName, Personal::new("김하나".into()));
        data
    }

    fn header(number: u8) -> Header {
        Header {
            brand: Brand::new("shoes").unwrap(),
            order: OrderId::new(NOW, [number; 10]),
            key: KeyDigest::from_bytes(&[number; 32]).unwrap(),
        }
    }

    fn seal(session: &mut SealingSession, number: u8) -> Envelope {
        session.seal(&header(number), Bytes::from_static(b"terms"), &personal()).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_and_reveals_nothing_on_the_way() {
        let mut sealing = session(&key(1));
        let mut opener = Opener::new(vec![key(1)], 4);
        for number in 0..3 {
            let envelope = seal(&mut sealing, number);
            assert!(!envelope.encode_to_vec().windows(6).any(|bytes| bytes == "김하".as_bytes()));
            assert_eq!(envelope.ciphertext.len(), PADDING_STEP_BYTES + TAG_BYTES);
            let opened =
                opener.open_at_once(LinkId(1), &envelope, NOW).map_err(|error| error.to_string()).unwrap();
            assert!(opened == personal());
        }
    }

    #[test]
    fn no_two_records_of_a_session_are_encrypted_alike() {
        let mut sealing = session(&key(1));
        let blocks = |envelope: &Envelope| envelope.ciphertext[..PADDING_STEP_BYTES].to_vec();
        let records: BTreeSet<_> = (0..300).map(|_| blocks(&seal(&mut sealing, 0))).collect();
        assert_eq!(records.len(), 300);
        assert_eq!(exporter_context(0x0102), *b"bridge record\0\0\0\0\0\0\0\x01\x02");
    }

    #[test]
    fn sealed_data_grows_by_steps_and_opens_at_any_length() {
        let (mut sealing, mut opener) = (session(&key(1)), Opener::new(vec![key(1)], 1));
        // The length takes 4 bytes. A value's field number and length take 5 bytes.
        for (len, steps) in [(1, 1), (246, 1), (247, 1), (248, 2), (503, 2), (504, 3)] {
            let mut personal = PersonalData::default();
            personal.set(PersonalField::DeliveryNote, Personal::new("a".repeat(len)));
            let envelope = sealing.seal(&header(0), Bytes::new(), &personal).unwrap();
            assert_eq!(envelope.ciphertext.len(), steps * PADDING_STEP_BYTES + TAG_BYTES, "{len} bytes");
            assert!(opener.open_at_once(LinkId(1), &envelope, NOW) == Ok(personal), "{len} bytes");
        }
    }

    #[test]
    fn after_its_first_record_a_session_needs_no_encapsulation() {
        let mut sealing = session(&key(1));
        let mut opener = Opener::new(vec![key(1)], 4);
        let first = seal(&mut sealing, 0);
        let bare = |mut envelope: Envelope| {
            envelope.encapsulation = Bytes::new();
            envelope
        };
        assert_eq!(
            opener.open_at_once(LinkId(1), &bare(first.clone()), NOW).err(),
            Some(OpenError::SessionUnknown)
        );
        assert!(opener.open_at_once(LinkId(1), &first, NOW).is_ok());
        assert!(opener.open_at_once(LinkId(1), &bare(seal(&mut sealing, 1)), NOW).is_ok());
    }

    #[test]
    fn the_cache_of_sessions_is_bounded_and_forgets_the_oldest() {
        let mut opener = Opener::new(vec![key(1)], 2);
        let mut rng = rng();
        let sealing_key = key(1).sealing_key();
        let mut start = || SealingSession::start(&sealing_key, NOW, &mut rng).unwrap();
        let mut sessions = [start(), start(), start()];
        for session in &mut sessions {
            assert!(opener.open_at_once(LinkId(1), &seal(session, 0), NOW).is_ok());
        }
        let [oldest, _, newest] = &mut sessions;
        for (session, known) in [(oldest, false), (newest, true)] {
            let mut envelope = seal(session, 1);
            envelope.encapsulation = Bytes::new();
            assert_eq!(opener.open_at_once(LinkId(1), &envelope, NOW).is_ok(), known);
        }
    }

    #[test]
    fn a_links_sessions_evict_no_other_links_and_leave_with_it() {
        let (hostile, honest) = (LinkId(1), LinkId(2));
        let mut opener = Opener::new(vec![key(1)], 2);
        let (mut rng, sealing_key) = (rng(), key(1).sealing_key());
        let mut start = || SealingSession::start(&sealing_key, NOW, &mut rng).unwrap();
        let mut known = start();
        assert!(opener.open_at_once(honest, &seal(&mut known, 0), NOW).is_ok());
        for _ in 0..3 {
            let envelope = seal(&mut start(), 0);
            assert!(matches!(opener.open(hostile, &envelope, NOW), Ok(opening::Opened::Needs(_))));
            assert!(opener.open_at_once(hostile, &envelope, NOW).is_ok());
        }
        let mut envelope = seal(&mut known, 1);
        envelope.encapsulation = Bytes::new();
        assert!(opener.open_at_once(honest, &envelope, NOW).is_ok());
        assert_eq!(opener.open_at_once(hostile, &envelope, NOW).err(), Some(OpenError::SessionUnknown));
        opener.forget(honest);
        assert_eq!(opener.open_at_once(honest, &envelope, NOW).err(), Some(OpenError::SessionUnknown));
    }

    #[test]
    fn an_envelope_with_any_one_bit_flipped_does_not_open() {
        let envelope = seal(&mut session(&key(1)), 0);
        let bytes = envelope.encode_to_vec();
        // Each bit gets a new opener. An opener with the session in its cache would not need the
        // encapsulation.
        let open = |envelope: &Envelope| Opener::new(vec![key(1)], 4).open_at_once(LinkId(1), envelope, NOW);
        assert!(open(&envelope).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(flipped) = Envelope::decode(flipped.as_slice()) {
                assert!(open(&flipped).is_err(), "bit {bit} of {} opens", bytes.len() * 8);
            }
        }
    }

    #[test]
    fn a_key_that_is_unknown_expired_or_not_yet_valid_opens_nothing() {
        let envelope = seal(&mut session(&key(1)), 0);
        assert!(session(&key(1)).is_spent(NOW.plus(DAY + Duration::from_secs(1))));
        let open =
            |key: OpeningKey, now| Opener::new(vec![key], 4).open_at_once(LinkId(1), &envelope, now).err();
        assert_eq!(open(key(2), NOW), Some(OpenError::UnknownKey));
        let grace = opening::EXPIRY_GRACE;
        assert_eq!(open(key(1), NOW.plus(DAY + grace + Duration::from_secs(1))), Some(OpenError::KeyExpired));
        assert_eq!(
            open(key(1), NOW.plus(DAY + Duration::from_secs(1))),
            None,
            "a record under way when its key expired is opened"
        );
    }

    #[test]
    fn keys_come_and_go_while_remaining_keys_sessions_continue() {
        let (mut staying, mut leaving) = (session(&key(1)), session(&key(2)));
        let mut opener = Opener::new(vec![key(1), key(2)], 4);
        for session in [&mut staying, &mut leaving] {
            assert!(opener.open_at_once(LinkId(1), &seal(session, 0), NOW).is_ok());
        }
        opener.set_keys(vec![key(3), key(1)]);
        let mut bare = seal(&mut staying, 1);
        bare.encapsulation = Bytes::new();
        assert!(opener.open_at_once(LinkId(1), &bare, NOW).is_ok());
        assert_eq!(
            opener.open_at_once(LinkId(1), &seal(&mut leaving, 1), NOW).err(),
            Some(OpenError::UnknownKey)
        );
        assert!(opener.open_at_once(LinkId(1), &seal(&mut session(&key(3)), 0), NOW).is_ok());
        assert_eq!(opener.decapsulated(), 3);
        opener.set_keys(vec![key(1), key(2)]);
        let mut forgotten = seal(&mut leaving, 2);
        forgotten.encapsulation = Bytes::new();
        assert_eq!(
            opener.open_at_once(LinkId(1), &forgotten, NOW).err(),
            Some(OpenError::SessionUnknown),
            "a key that returns has no sessions"
        );
    }

    #[test]
    fn a_session_ends_by_age_or_count() {
        let mut sealing = session(&key(1));
        assert!(!sealing.is_spent(NOW));
        assert!(!sealing.is_spent(NOW.plus(sealing::AGE_MAX)));
        assert!(sealing.is_spent(NOW.plus(Duration::from_millis(1_001))));
        assert!(
            sealing.is_spent(UnixMicros::new(NOW.get() - 1)),
            "a clock that was set back ends the session"
        );
        for number in 0..sealing::RECORDS_MAX {
            assert!(sealing.seal(&header(number as u8), Bytes::new(), &personal()).is_some());
        }
        assert!(sealing.is_spent(NOW));
        assert!(sealing.seal(&header(0), Bytes::new(), &personal()).is_none());
    }
}
