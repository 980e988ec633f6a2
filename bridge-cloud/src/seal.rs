//! Seals admitted orders. Each serving thread has a session, which is replaced each second or
//! thousand orders.
//!
//! This side has only public keys. A [`SealedOrder`] is made only here, and only it goes to the
//! order link.

use std::sync::{Arc, Mutex, PoisonError};

use bridge_protocol::domain::UnixMicros;
use bridge_protocol::order_link::sender::BodyMark;
use bridge_protocol::seal::sealing::{Header, SealingSession};
use bridge_protocol::stack::wiped;
use bridge_protocol::wire::order::{Envelope, Terms};
use prost::Message as _;
use rand::CryptoRng;

use crate::admission::AdmittedOrder;
use crate::body_mark::BodyMarks;
use crate::metrics::Metrics;
use crate::order_link::KeysWatch;

/// An order whose personal data nobody on this side can read any more.
#[derive(Debug)]
pub struct SealedOrder {
    header: Header,
    envelope: Envelope,
    body: BodyMark,
}

impl SealedOrder {
    /// Returns the order's brand, id and key.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the mark that distinguishes its body from another one under its key, without
    /// revealing it.
    pub fn body(&self) -> BodyMark {
        self.body
    }

    /// Returns the envelope to send.
    pub fn into_envelope(self) -> Envelope {
        self.envelope
    }
}

/// There is no key to seal to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data centre has sent no sealing key that is signed by a pinned key and valid now")]
pub struct NoSealingKey;

/// The sealer of one serving thread.
pub struct Sealer {
    keys: KeysWatch,
    /// Locked only by its own thread, and never across an await.
    session: Mutex<Option<SealingSession>>,
    /// Marks of the process.
    marks: BodyMarks,
    metrics: Arc<Metrics>,
}

impl Sealer {
    /// Makes a sealer that always uses the preferred key.
    pub fn new(keys: KeysWatch, marks: BodyMarks, metrics: Arc<Metrics>) -> Self {
        Self { keys, session: Mutex::new(None), marks, metrics }
    }

    /// Seals an order. The caller keeps the personal data until the order is answered, because the
    /// key may be removed before and the order must be sealed again. Dropping the order zeroises
    /// it.
    ///
    /// # Errors
    ///
    /// Fails if there is no key to seal to.
    pub fn seal(
        &self,
        admitted: &AdmittedOrder,
        now: UnixMicros,
        random: &mut impl CryptoRng,
    ) -> Result<SealedOrder, NoSealingKey> {
        let keys = self.keys.borrow().clone();
        let key = keys.iter().find(|key| key.validity.holds_at(now)).ok_or(NoSealingKey)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.as_ref().is_none_or(|session| session.is_spent(now) || session.key() != key) {
            *session = SealingSession::start(key, now, random);
            self.metrics.shared.seal_sessions.inc();
        }
        let terms = Terms::from(admitted.request().terms()).encode_to_vec();
        let session = session.as_mut().ok_or(NoSealingKey)?;
        let personal = admitted.request().personal();
        let (body, envelope) = wiped(|| {
            let body = self.marks.of_order(&terms, personal);
            (body, session.seal(admitted.header(), terms.into(), personal))
        });
        let envelope = envelope.ok_or(NoSealingKey)?;
        Ok(SealedOrder { header: admitted.header().clone(), envelope, body })
    }
}
