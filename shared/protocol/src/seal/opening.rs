//! The IDC agent's side of sealing: private keys, bounded caches of sessions, and the only way to
//! open an envelope.
//!
//! A decapsulation takes half a millisecond, and the sender decides how many are needed. So it is
//! returned as `Encapsulated`, for the caller to run where it blocks nobody. Each link has a
//! cache of its own, so one peer cannot evict another's sessions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aes_gcm::aead::AeadInOut;
use bytes::Bytes;
use hpke::aead::AeadCtxR;
use hpke::{Deserializable as _, OpModeR, Serializable as _};
use zeroize::Zeroizing;

use super::manifest::{ManifestError, SealingKey, Validity};
use super::{
    Aead, INFO, Kdf, Kem, KeyId, PADDING_STEP_BYTES, SUITE_XWING_AES256GCM, SessionId, TAG_BYTES,
    associated_data, cipher, exporter_context,
};
use crate::domain::{PersonalData, UnixMicros};
use crate::wire::lane::LinkId;
use crate::wire::order::Envelope;

/// Time after a key's expiry in which envelopes under it still open, because they may have been on
/// the way.
pub const EXPIRY_GRACE: Duration = Duration::from_secs(3_600);

type PrivateKey = <Kem as hpke::Kem>::PrivateKey;

/// A private key with its public half. There is no `Debug`.
pub struct OpeningKey {
    private_key: PrivateKey,
    sealing_key: SealingKey,
}

/// Opens envelopes. One task owns it.
pub struct Opener {
    keys: Vec<Arc<OpeningKey>>,
    links: HashMap<LinkId, Sessions>,
    /// Limit for each link.
    sessions_max: usize,
    /// Sessions remembered so far.
    decapsulated: u64,
}

/// The decapsulated sessions of one link.
#[derive(Default)]
struct Sessions {
    /// Has the same sessions as `order`, at most `sessions_max`.
    by_id: HashMap<SessionId, Session>,
    /// Ids, the oldest first.
    order: VecDeque<SessionId>,
}

/// Result of a look at an envelope.
pub enum Opened {
    /// The opened data.
    Personal(PersonalData),
    /// A session that must be decapsulated and remembered first.
    Needs(Encapsulated),
}

/// A session that is not decapsulated yet, with its private key.
pub struct Encapsulated {
    id: SessionId,
    key: Arc<OpeningKey>,
    encapsulation: Bytes,
}

/// Result of a decapsulation.
pub struct Decapsulated {
    id: SessionId,
    session: Result<Session, OpenError>,
}

struct Session {
    key: KeyId,
    context: AeadCtxR<Aead, Kdf, Kem>,
}

/// Reasons why an envelope does not open. Its content stays unknown, so no error describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpenError {
    /// The suite is not on the allow-list.
    #[error("the envelope's suite is not allowed")]
    SuiteNotAllowed,
    /// It is sealed to an unknown key.
    #[error("the envelope is sealed to a key that is not here")]
    UnknownKey,
    /// It is sealed to a key that is not valid now.
    #[error("the envelope is sealed to a key that is not valid now")]
    KeyExpired,
    /// Its encapsulation was left out and is not in the cache. The sender must send it again.
    #[error("the envelope's session is not known here")]
    SessionUnknown,
    /// The encapsulation is malformed, or does not belong to the session that the envelope names.
    #[error("the envelope's encapsulation does not fit")]
    BadEncapsulation,
    /// It was changed, or sealed for another header.
    #[error("the envelope was changed on the way or sealed for another order")]
    Tampered,
    /// It opened, but its content is not personal data.
    #[error("the envelope does not hold personal data")]
    Malformed,
}

impl OpeningKey {
    /// Makes a key from its 32 secret bytes.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are no private key.
    pub fn new(secret: &[u8; 32], validity: Validity) -> Result<Self, ManifestError> {
        let private_key = PrivateKey::from_bytes(secret).map_err(|_| ManifestError::Malformed)?;
        let public_key = <Kem as hpke::Kem>::sk_to_pk(&private_key).to_bytes();
        Ok(Self { private_key, sealing_key: SealingKey::new(&public_key, validity)? })
    }

    /// Returns the public half, for a manifest.
    pub fn sealing_key(&self) -> SealingKey {
        self.sealing_key.clone()
    }
}

impl Opener {
    /// Makes an opener with these keys that remembers at most `sessions_max` sessions of each link.
    pub fn new(keys: Vec<OpeningKey>, sessions_max: usize) -> Self {
        let keys = keys.into_iter().map(Arc::new).collect();
        Self { keys, links: HashMap::new(), sessions_max: sessions_max.max(1), decapsulated: 0 }
    }

    /// Replaces the keys. Envelopes under a removed key no longer open, and the key's sessions are
    /// forgotten.
    pub fn set_keys(&mut self, keys: Vec<OpeningKey>) {
        let is_kept = |id: KeyId| keys.iter().any(|key| key.sealing_key.id == id);
        for sessions in self.links.values_mut() {
            sessions.by_id.retain(|_, session| is_kept(session.key));
            sessions.order.retain(|id| sessions.by_id.contains_key(id));
        }
        self.keys = keys.into_iter().map(Arc::new).collect();
    }

    /// Returns the sessions decapsulated so far, including forgotten ones.
    pub fn decapsulated(&self) -> u64 {
        self.decapsulated
    }

    /// Opens an envelope that came on this link, if its session is known there. No plaintext is
    /// returned before its tag is checked.
    ///
    /// # Errors
    ///
    /// Fails if the envelope's suite or key is not accepted, if its session is unknown, or if it
    /// was changed.
    pub fn open(&self, link: LinkId, envelope: &Envelope, now: UnixMicros) -> Result<Opened, OpenError> {
        if envelope.suite != SUITE_XWING_AES256GCM {
            return Err(OpenError::SuiteNotAllowed);
        }
        let id = SessionId(envelope.session.as_ref().try_into().map_err(|_| OpenError::Tampered)?);
        let key = self.key(envelope, now)?;
        let carried = &envelope.encapsulation;
        if !carried.is_empty() && SessionId::of(carried) != id {
            return Err(OpenError::BadEncapsulation);
        }
        match self.links.get(&link).and_then(|sessions| sessions.by_id.get(&id)) {
            Some(session) if session.key == key.sealing_key.id => {
                session.open(envelope).map(Opened::Personal)
            }
            Some(_) => Err(OpenError::Tampered),
            None if carried.is_empty() => Err(OpenError::SessionUnknown),
            None => Ok(Opened::Needs(Encapsulated { id, key: key.clone(), encapsulation: carried.clone() })),
        }
    }

    /// Returns the key that an envelope is sealed to, if it is valid now.
    fn key(&self, envelope: &Envelope, now: UnixMicros) -> Result<&Arc<OpeningKey>, OpenError> {
        let id = KeyId(envelope.key_id.as_ref().try_into().map_err(|_| OpenError::UnknownKey)?);
        let key = self.keys.iter().find(|key| key.sealing_key.id == id).ok_or(OpenError::UnknownKey)?;
        let Validity { not_before, not_after } = key.sealing_key.validity;
        if (Validity { not_before, not_after: not_after.plus(EXPIRY_GRACE) }).holds_at(now) {
            Ok(key)
        } else {
            Err(OpenError::KeyExpired)
        }
    }

    /// Remembers the result of a decapsulation. It evicts the link's oldest session if the cache is
    /// full.
    ///
    /// # Errors
    ///
    /// Fails if the decapsulation failed.
    pub fn remember(
        &mut self,
        link: LinkId,
        Decapsulated { id, session }: Decapsulated,
    ) -> Result<(), OpenError> {
        let session = session?;
        self.decapsulated += 1;
        let sessions = self.links.entry(link).or_default();
        if sessions.order.len() >= self.sessions_max
            && let Some(oldest) = sessions.order.pop_front()
        {
            sessions.by_id.remove(&oldest);
        }
        if sessions.by_id.insert(id, session).is_none() {
            sessions.order.push_back(id);
        }
        Ok(())
    }

    /// Opens an envelope and runs a needed decapsulation at once. For callers that block nobody
    /// with it.
    ///
    /// # Errors
    ///
    /// Fails as [`Self::open`] and [`Self::remember`] do.
    pub fn open_at_once(
        &mut self,
        link: LinkId,
        envelope: &Envelope,
        now: UnixMicros,
    ) -> Result<PersonalData, OpenError> {
        if let Opened::Needs(encapsulated) = self.open(link, envelope, now)? {
            self.remember(link, encapsulated.decapsulate())?;
        }
        match self.open(link, envelope, now)? {
            Opened::Personal(personal) => Ok(personal),
            Opened::Needs(_) => Err(OpenError::SessionUnknown),
        }
    }

    /// Forgets the sessions of a link that is down.
    pub fn forget(&mut self, link: LinkId) {
        self.links.remove(&link);
    }
}

impl Encapsulated {
    /// Returns the session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Decapsulates; takes about half a millisecond.
    pub fn decapsulate(&self) -> Decapsulated {
        let session = <Kem as hpke::Kem>::EncappedKey::from_bytes(&self.encapsulation)
            .and_then(|encapsulation| {
                let (mode, key) = (OpModeR::<Kem>::Base, &self.key.private_key);
                hpke::setup_receiver::<Aead, Kdf, Kem>(&mode, key, &encapsulation, INFO)
            })
            .map(|context| Session { key: self.key.sealing_key.id, context })
            .map_err(|_| OpenError::BadEncapsulation);
        Decapsulated { id: self.id, session }
    }
}

/// Shows the session's id and no secret.
impl std::fmt::Debug for Encapsulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Encapsulated").field(&self.id).finish()
    }
}

impl std::fmt::Debug for Decapsulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Decapsulated").field(&self.id).finish()
    }
}

impl Decapsulated {
    /// Returns the session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }
}

impl Session {
    fn open(&self, envelope: &Envelope) -> Result<PersonalData, OpenError> {
        let mut secret = Zeroizing::new([0; 32]);
        let exported = self.context.export(&exporter_context(envelope.record), secret.as_mut());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_length_data_and_short_zero_padding_is_personal_data() {
        let name = [1, 0, 0, 0, 1, b'a'];
        let padded = |len: u8, padding: &[u8]| [&[0, 0, 0, len], name.as_slice(), padding].concat();
        let read = |buffer: &[u8]| unpadded(buffer).map(|personal| personal.iter().count());
        assert_eq!(read(&padded(6, &[])), Ok(1));
        assert_eq!(read(&padded(6, &[0; PADDING_STEP_BYTES - 1])), Ok(1));
        for bad in [
            padded(6, &[0; PADDING_STEP_BYTES]),
            padded(6, &[0, 0, 1]),
            padded(6, &[1; PADDING_STEP_BYTES]),
            padded(7, &[]),
            padded(5, &[0, 0]),
            vec![0, 0, 0],
        ] {
            assert_eq!(read(&bad), Err(OpenError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn a_session_shows_its_name_and_no_secret() {
        let validity = Validity { not_before: UnixMicros::new(0), not_after: UnixMicros::new(1) };
        let key = Arc::new(OpeningKey::new(&[1; 32], validity).unwrap());
        let encapsulated = Encapsulated { id: SessionId([7; 16]), key, encapsulation: Bytes::new() };
        let name = format!("{:?}", SessionId([7; 16]));
        assert_eq!(format!("{encapsulated:?}"), format!("Encapsulated({name})"));
        assert_eq!(format!("{:?}", encapsulated.decapsulate()), format!("Decapsulated({name})"));
    }
}
