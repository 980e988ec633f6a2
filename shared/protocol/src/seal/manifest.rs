//! The sealing-key manifest: the IDC's public keys with their validity, as a signed note.
//!
//! The cloud agent pins the key that signs manifests, so it refuses a sealing key that an attacker
//! inserted.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hpke::Deserializable as _;

use super::{Kem, KeyId, SUITE_XWING_AES256GCM};
use crate::domain::UnixMicros;
use crate::note::{self, NoteError, NoteSigner, NoteVerifier};

const TITLE: &str = "bridge sealing keys v1";

/// Most keys in a manifest that peers receive, so that a hello fits its frame after any number of
/// rotations.
const KEYS_TOLD_MAX: usize = 16;

/// Time in which a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: UnixMicros,
    /// Last moment.
    pub not_after: UnixMicros,
}

impl Validity {
    /// Returns true if `now` is within the validity.
    pub fn holds_at(&self, now: UnixMicros) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// A public key that orders are sealed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealingKey {
    /// Its short name.
    pub id: KeyId,
    /// X-Wing public key: 1,216 bytes.
    pub public_key: Bytes,
    /// Time in which it may be used.
    pub validity: Validity,
}

/// The keys that the IDC agent can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The keys, in order of preference.
    pub keys: Vec<SealingKey>,
}

/// Reasons to refuse a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The note around it is refused.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// It is signed, but it is not a manifest.
    #[error("the signed note is not a sealing-key manifest of a version that this build knows")]
    Malformed,
    /// No key in it is valid now.
    #[error(
        "no sealing key in the manifest is valid now: run `bridge-idc keys rotate` there, or compare both clocks"
    )]
    NoValidKey,
}

impl SealingKey {
    /// Makes a key from its bytes.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not an X-Wing public key.
    pub fn new(public_key: &[u8], validity: Validity) -> Result<Self, ManifestError> {
        <Kem as hpke::Kem>::PublicKey::from_bytes(public_key).map_err(|_| ManifestError::Malformed)?;
        Ok(Self { id: KeyId::of(public_key), public_key: Bytes::copy_from_slice(public_key), validity })
    }
}

impl Manifest {
    /// Returns the manifest for peers: its first keys that have not expired.
    pub fn told_at(self, now: UnixMicros) -> Self {
        let keys = self.keys.into_iter().filter(|key| now <= key.validity.not_after);
        Self { keys: keys.take(KEYS_TOLD_MAX).collect() }
    }

    /// Returns the manifest as a note, signed by the IDC's signing key.
    ///
    /// # Errors
    ///
    /// Fails if the note cannot be made.
    pub fn sign(&self, signer: &NoteSigner) -> Result<Bytes, ManifestError> {
        let mut text = format!("{TITLE}\n");
        for key in &self.keys {
            let Validity { not_before, not_after } = key.validity;
            let (from, to) = (not_before.get(), not_after.get());
            let _ = writeln!(text, "{SUITE_XWING_AES256GCM} {from} {to} {}", BASE64.encode(&key.public_key));
        }
        Ok(signer.sign_note(&text)?.into())
    }

    /// Reads a manifest that a pinned key signed and that has a key valid now.
    ///
    /// Keys of unknown suites are left out, so that an IDC can introduce a new suite.
    ///
    /// # Errors
    ///
    /// Fails if no pinned key signed the note, if it is no manifest, or if none of its keys is
    /// valid now.
    pub fn verify(note: &[u8], pinned: &[NoteVerifier], now: UnixMicros) -> Result<Self, ManifestError> {
        let text = note::verify_note(note, pinned)?;
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(ManifestError::Malformed);
        }
        let mut keys = Vec::new();
        for line in lines {
            let fields: Vec<&str> = line.split(' ').collect();
            let [suite, from, to, public_key] = fields[..] else { return Err(ManifestError::Malformed) };
            if suite.parse() != Ok(SUITE_XWING_AES256GCM) {
                continue;
            }
            let time = |text: &str| text.parse().map(UnixMicros::new).map_err(|_| ManifestError::Malformed);
            let validity = Validity { not_before: time(from)?, not_after: time(to)? };
            let public_key = BASE64.decode(public_key).map_err(|_| ManifestError::Malformed)?;
            keys.push(SealingKey::new(&public_key, validity)?);
        }
        let manifest = Self { keys };
        manifest.key_at(now).is_some().then_some(manifest).ok_or(ManifestError::NoValidKey)
    }

    /// Returns the first key that is valid now.
    pub fn key_at(&self, now: UnixMicros) -> Option<&SealingKey> {
        self.keys.iter().find(|key| key.validity.holds_at(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::opening::OpeningKey;

    fn signed(not_after: i64) -> Bytes {
        let validity = Validity { not_before: UnixMicros::new(10), not_after: UnixMicros::new(not_after) };
        let key = OpeningKey::new(&[1; 32], validity).unwrap();
        Manifest { keys: vec![key.sealing_key()] }.sign(&signer(1)).unwrap()
    }

    fn signer(seed: u8) -> NoteSigner {
        NoteSigner::new("idc", &[seed; 32]).unwrap()
    }

    fn verify(note: &[u8], pinned: u8, now: i64) -> Result<Manifest, ManifestError> {
        Manifest::verify(note, &[signer(pinned).verifier().clone()], UnixMicros::new(now))
    }

    #[test]
    fn a_manifest_is_read_under_the_pinned_key() {
        for now in [10, 15, 20] {
            assert_eq!(verify(&signed(20), 1, now).unwrap().keys.len(), 1);
        }
    }

    #[test]
    fn an_unsigned_a_foreign_and_an_expired_manifest_are_refused() {
        let unsigned = String::from_utf8(signed(20).to_vec()).unwrap();
        let unsigned = unsigned.split("\n\n").next().unwrap().to_owned();
        assert_eq!(verify(unsigned.as_bytes(), 1, 15), Err(ManifestError::Note(NoteError::NotANote)));
        assert_eq!(verify(&signed(20), 2, 15), Err(ManifestError::Note(NoteError::UnknownSigner)));
        assert_eq!(verify(&signed(20), 1, 21), Err(ManifestError::NoValidKey));
        assert_eq!(verify(&signed(20), 1, 9), Err(ManifestError::NoValidKey));
    }

    #[test]
    fn peers_are_told_of_few_keys_and_no_expired_one() {
        let key = |seed: u8, not_after| {
            let validity =
                Validity { not_before: UnixMicros::new(10), not_after: UnixMicros::new(not_after) };
            OpeningKey::new(&[seed; 32], validity).unwrap().sealing_key()
        };
        let keys = (0..40).map(|seed| key(seed, 20 + i64::from(seed))).collect();
        let told = Manifest { keys }.told_at(UnixMicros::new(22));
        assert_eq!((told.keys.len(), &told.keys[0]), (KEYS_TOLD_MAX, &key(2, 22)));
        assert!(told.sign(&signer(1)).unwrap().len() < crate::wire::frame::CONTROL_FRAME_BYTES_MAX / 2);
    }

    #[test]
    fn another_note_of_the_same_signer_is_no_manifest() {
        let note = signer(1).sign_note("some other text\n").unwrap();
        assert_eq!(verify(note.as_bytes(), 1, 15), Err(ManifestError::Malformed));
    }
}
