//! The IDC's side: private keys, a bounded cache of decapsulated sessions, and the one way to open an envelope.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use aes_gcm::aead::AeadInOut;
use hpke::aead::AeadCtxR;
use hpke::{Deserializable as _, OpModeR, Serializable as _};
use zeroize::Zeroizing;

use super::manifest::{ManifestError, SealingKey, Validity};
use super::{
    Aead, INFO, Kdf, Kem, KeyId, PADDING_STEP_BYTES, SUITE_XWING_AES256GCM, SessionId, TAG_BYTES,
    associated_data, cipher, exporter_context,
};
use crate::domain::{PersonalData, UnixMicros};
use crate::wire::order::Envelope;

/// How long after its key expired an envelope still opens: it may have been under way.
pub const EXPIRY_GRACE: Duration = Duration::from_secs(3_600);

type PrivateKey = <Kem as hpke::Kem>::PrivateKey;

/// A private key with its public half. No `Debug`.
pub struct OpeningKey {
    private_key: PrivateKey,
    sealing_key: SealingKey,
}

/// Opens envelopes. One task owns it.
pub struct Opener {
    keys: Vec<OpeningKey>,
    /// Decapsulated sessions; as many as `order`, at most `sessions_max`.
    sessions: HashMap<SessionId, Session>,
    /// The sessions' ids, oldest first.
    order: VecDeque<SessionId>,
    sessions_max: usize,
    /// Sessions ever decapsulated.
    decapsulated: u64,
}

struct Session {
    key: KeyId,
    context: AeadCtxR<Aead, Kdf, Kem>,
}

/// Why an envelope does not open. Nothing of its content is known then, and nothing of it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpenError {
    /// The suite is not on the allow-list.
    #[error("the envelope's suite is not allowed")]
    SuiteNotAllowed,
    /// It is sealed to a key that is not here.
    #[error("the envelope is sealed to a key that is not here")]
    UnknownKey,
    /// It is sealed to a key that is not valid now.
    #[error("the envelope is sealed to a key that is not valid now")]
    KeyExpired,
    /// Its encapsulation was left out and is not known here: ask for the whole envelope.
    #[error("the envelope's session is not known here")]
    SessionUnknown,
    /// The encapsulation is not one, or does not belong to the session it names.
    #[error("the envelope's encapsulation does not fit")]
    BadEncapsulation,
    /// Something in it was changed, or it was sealed for another header.
    #[error("the envelope was changed on the way or sealed for another order")]
    Tampered,
    /// It opened, but holds something else.
    #[error("the envelope does not hold personal data")]
    Malformed,
}

impl OpeningKey {
    /// A key from its 32 secret bytes.
    pub fn new(secret: &[u8; 32], validity: Validity) -> Result<Self, ManifestError> {
        let private_key = PrivateKey::from_bytes(secret).map_err(|_| ManifestError::Malformed)?;
        let public_key = <Kem as hpke::Kem>::sk_to_pk(&private_key).to_bytes();
        Ok(Self { private_key, sealing_key: SealingKey::new(&public_key, validity)? })
    }

    /// The public half, for a manifest.
    pub fn sealing_key(&self) -> SealingKey {
        self.sealing_key.clone()
    }
}

impl Opener {
    /// An opener with these keys that remembers at most `sessions_max` sessions.
    pub fn new(keys: Vec<OpeningKey>, sessions_max: usize) -> Self {
        let sessions_max = sessions_max.max(1);
        Self { keys, sessions: HashMap::new(), order: VecDeque::new(), sessions_max, decapsulated: 0 }
    }

    /// Sessions decapsulated so far, those that were forgotten meanwhile included.
    pub fn decapsulated(&self) -> u64 {
        self.decapsulated
    }

    /// Opens an envelope. Nothing is returned before the tag has been checked.
    pub fn open(&mut self, envelope: &Envelope, now: UnixMicros) -> Result<PersonalData, OpenError> {
        if envelope.suite != SUITE_XWING_AES256GCM {
            return Err(OpenError::SuiteNotAllowed);
        }
        let session = self.session(envelope, now)?;
        let mut secret = Zeroizing::new([0; 32]);
        let exported = session.context.export(&exporter_context(envelope.record), secret.as_mut());
        exported.map_err(|_| OpenError::Tampered)?;
        let body = envelope.ciphertext.len().checked_sub(TAG_BYTES).ok_or(OpenError::Tampered)?;
        let (ciphertext, tag) = envelope.ciphertext.split_at(body);
        let tag = tag.try_into().map_err(|_| OpenError::Tampered)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        cipher(&secret)
            .decrypt_inout_detached(
                &Default::default(),
                &associated_data(envelope),
                buffer.as_mut_slice().into(),
                &tag,
            )
            .map_err(|_| OpenError::Tampered)?;
        unpadded(&buffer)
    }

    fn session(&mut self, envelope: &Envelope, now: UnixMicros) -> Result<&Session, OpenError> {
        let id = SessionId(envelope.session.as_ref().try_into().map_err(|_| OpenError::Tampered)?);
        let key_id = KeyId(envelope.key_id.as_ref().try_into().map_err(|_| OpenError::UnknownKey)?);
        let key = self.keys.iter().find(|key| key.sealing_key.id == key_id).ok_or(OpenError::UnknownKey)?;
        let Validity { not_before, not_after } = key.sealing_key.validity;
        if !(Validity { not_before, not_after: not_after.plus(EXPIRY_GRACE) }).holds_at(now) {
            return Err(OpenError::KeyExpired);
        }
        let carried = &envelope.encapsulation;
        if !carried.is_empty() && SessionId::of(carried) != id {
            return Err(OpenError::BadEncapsulation);
        }
        if !self.sessions.contains_key(&id) {
            if carried.is_empty() {
                return Err(OpenError::SessionUnknown);
            }
            let encapsulation = <Kem as hpke::Kem>::EncappedKey::from_bytes(carried)
                .map_err(|_| OpenError::BadEncapsulation)?;
            let mode = OpModeR::<Kem>::Base;
            let context =
                hpke::setup_receiver::<Aead, Kdf, Kem>(&mode, &key.private_key, &encapsulation, INFO)
                    .map_err(|_| OpenError::BadEncapsulation)?;
            self.decapsulated += 1;
            self.remember(id, Session { key: key_id, context });
        }
        let session = self.sessions.get(&id).ok_or(OpenError::SessionUnknown)?;
        if session.key == key_id { Ok(session) } else { Err(OpenError::Tampered) }
    }

    fn remember(&mut self, id: SessionId, session: Session) {
        if self.order.len() >= self.sessions_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.sessions.remove(&oldest);
        }
        self.order.push_back(id);
        self.sessions.insert(id, session);
    }
}

fn unpadded(buffer: &[u8]) -> Result<PersonalData, OpenError> {
    let (len, rest) = buffer.split_first_chunk::<4>().ok_or(OpenError::Malformed)?;
    let (plain, padding) =
        rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or(OpenError::Malformed)?;
    if padding.len() >= PADDING_STEP_BYTES || padding.iter().any(|byte| *byte != 0) {
        return Err(OpenError::Malformed);
    }
    PersonalData::from_bytes(plain).map_err(|_| OpenError::Malformed)
}
