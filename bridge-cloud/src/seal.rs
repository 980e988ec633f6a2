//! Seals admitted orders: one session a serving thread, started anew each second or thousand orders.
//!
//! This side has public keys only. A [`SealedOrder`] is made here and nowhere else; only it goes to the order link.

use std::sync::{Arc, Mutex, PoisonError};

use bridge_protocol::domain::UnixMicros;
use bridge_protocol::order_link::sender::BodyMark;
use bridge_protocol::seal::manifest::Manifest;
use bridge_protocol::seal::sealing::{Header, SealingSession};
use bridge_protocol::wire::order::{Envelope, Terms};
use bridge_runtime::telemetry::metrics::Metrics;
use prost::Message as _;
use rand::CryptoRng;
use tokio::sync::watch;

use crate::admission::AdmittedOrder;
use crate::body_mark::BodyMarks;

/// An order whose personal data nobody on this side can read any more.
#[derive(Debug)]
pub struct SealedOrder {
    header: Header,
    envelope: Envelope,
    body: BodyMark,
}

impl SealedOrder {
    /// Whose order under which key.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What tells its body from another one under its key, and says nothing of it.
    pub fn body(&self) -> BodyMark {
        self.body
    }

    /// The envelope to send.
    pub fn into_envelope(self) -> Envelope {
        self.envelope
    }
}

/// Nothing to seal to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data centre has sent no sealing key that is signed by a pinned key and valid now")]
pub struct NoSealingKey;

/// One serving thread's sealer.
pub struct Sealer {
    /// The newest verified manifest, `None` until a link has brought one.
    manifest: watch::Receiver<Option<Arc<Manifest>>>,
    /// Locked by its own thread alone, and never across an await.
    session: Mutex<Option<SealingSession>>,
    /// The process's own.
    marks: BodyMarks,
    metrics: Arc<Metrics>,
}

impl Sealer {
    /// A sealer that seals to whatever key the newest manifest prefers.
    pub fn new(
        manifest: watch::Receiver<Option<Arc<Manifest>>>,
        marks: BodyMarks,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { manifest, session: Mutex::new(None), marks, metrics }
    }

    /// Seals an order. What was personal in it is zeroised when this returns.
    pub fn seal(
        &self,
        admitted: AdmittedOrder,
        now: UnixMicros,
        random: &mut impl CryptoRng,
    ) -> Result<SealedOrder, NoSealingKey> {
        let manifest = self.manifest.borrow().clone().ok_or(NoSealingKey)?;
        let key = manifest.key_at(now).ok_or(NoSealingKey)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.as_ref().is_none_or(|session| session.is_spent(now) || session.key() != key) {
            *session = SealingSession::start(key, now, random);
            self.metrics.seal_sessions.inc();
        }
        let terms = Terms::from(admitted.request().terms()).encode_to_vec();
        let body = self.marks.of_order(&terms, admitted.request().personal());
        let session = session.as_mut().ok_or(NoSealingKey)?;
        let envelope = session
            .seal(admitted.header(), terms.into(), admitted.request().personal())
            .ok_or(NoSealingKey)?;
        Ok(SealedOrder { header: admitted.header().clone(), envelope, body })
    }
}
