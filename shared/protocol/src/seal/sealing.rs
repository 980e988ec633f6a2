//! The cloud agent's side of sealing. A session encapsulates once and seals up to 1,024 orders. It
//! cannot open any of them.

use std::time::Duration;

use aes_gcm::aead::AeadInOut;
use bytes::Bytes;
use hpke::aead::AeadCtxS;
use hpke::{Deserializable as _, OpModeS, Serializable as _};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::manifest::SealingKey;
use super::{
    Aead, INFO, Kdf, Kem, PADDING_STEP_BYTES, SUITE_XWING_AES256GCM, SessionId, TAG_BYTES, associated_data,
    cipher, exporter_context,
};
use crate::domain::{Brand, KeyDigest, OrderId, PersonalData, UnixMicros};
use crate::wire::order::Envelope;

/// Most records of one session.
pub const RECORDS_MAX: u64 = 1_024;

/// Longest use of one session.
pub const AGE_MAX: Duration = Duration::from_secs(1);

/// The order that an envelope belongs to. The associated data binds it to the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Brand of the order.
    pub brand: Brand,
    /// The order's id.
    pub order: OrderId,
    /// Digest of the idempotency key.
    pub key: KeyDigest,
}

/// One encapsulation to one sealing key. One thread owns it.
pub struct SealingSession {
    context: AeadCtxS<Aead, Kdf, Kem>,
    key: SealingKey,
    encapsulation: Bytes,
    id: Bytes,
    started: UnixMicros,
    /// Records sealed so far; at most [`RECORDS_MAX`].
    sealed: u64,
}

impl SealingSession {
    /// Starts a session with one encapsulation, which takes about a third of a millisecond. Returns
    /// `None` if the key is unusable.
    pub fn start(key: &SealingKey, now: UnixMicros, rng: &mut impl CryptoRng) -> Option<Self> {
        let public_key = <Kem as hpke::Kem>::PublicKey::from_bytes(&key.public_key).ok()?;
        let mode = OpModeS::<Kem>::Base;
        let (encapsulation, context) =
            hpke::setup_sender_with_rng::<Aead, Kdf, Kem>(&mode, &public_key, INFO, rng).ok()?;
        let encapsulation = Bytes::copy_from_slice(&encapsulation.to_bytes());
        let id = Bytes::copy_from_slice(&SessionId::of(&encapsulation).0);
        Some(Self { context, key: key.clone(), encapsulation, id, started: now, sealed: 0 })
    }

    /// Returns the key that it seals to.
    pub fn key(&self) -> &SealingKey {
        &self.key
    }

    /// Returns true if a new session must be started.
    pub fn is_spent(&self, now: UnixMicros) -> bool {
        // After the clock was set back, the session's age is unknown.
        let aged = now < self.started || now.since(self.started) > AGE_MAX;
        self.sealed >= RECORDS_MAX || aged || !self.key.validity.holds_at(now)
    }

    /// Seals one order's personal data. Returns `None` if the session has sealed [`RECORDS_MAX`]
    /// records.
    ///
    /// The envelope carries the encapsulation. The sender may leave it out if the lane has carried
    /// it before.
    pub fn seal(&mut self, header: &Header, terms: Bytes, personal: &PersonalData) -> Option<Envelope> {
        if self.sealed >= RECORDS_MAX {
            return None;
        }
        let record = self.sealed;
        self.sealed += 1;
        let mut envelope = Envelope {
            suite: SUITE_XWING_AES256GCM,
            key_id: Bytes::copy_from_slice(&self.key.id.0),
            session: self.id.clone(),
            encapsulation: self.encapsulation.clone(),
            record,
            brand: header.brand.as_str().to_owned(),
            order: Bytes::copy_from_slice(header.order.as_bytes()),
            key: Bytes::copy_from_slice(header.key.as_bytes()),
            terms,
            ciphertext: Bytes::new(),
        };
        let mut secret = Zeroizing::new([0; 32]);
        self.context.export(&exporter_context(record), secret.as_mut()).ok()?;
        let mut buffer = padded(personal);
        let tag = cipher(&secret)
            .encrypt_inout_detached(
                &Default::default(),
                &associated_data(&envelope),
                buffer.as_mut_slice().into(),
            )
            .ok()?;
        buffer.extend_from_slice(&tag);
        envelope.ciphertext = buffer.into();
        Some(envelope)
    }
}

/// Returns length, canonical bytes and zeros up to the step. Room for the tag is reserved, so that
/// encryption copies nothing.
fn padded(personal: &PersonalData) -> Vec<u8> {
    let plain = personal.to_bytes();
    let len = (4 + plain.len()).next_multiple_of(PADDING_STEP_BYTES);
    let mut buffer = Vec::with_capacity(len + TAG_BYTES);
    buffer.extend_from_slice(&u32::try_from(plain.len()).unwrap_or(u32::MAX).to_be_bytes());
    buffer.extend_from_slice(&plain);
    buffer.resize(len, 0);
    buffer
}
