//! Register of live links, for `/status`. No decision depends on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::end::LinkEnd;
use super::event::LinkId;
use crate::transport::Connection;
use crate::transport::refusal::printable;

/// One live link as `/status` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LinkStatus {
    /// Its id.
    pub link: u64,
    /// The peer's SPIFFE ID.
    pub peer: String,
    /// The peer's name for people.
    pub agent: String,
    /// The peer's address now.
    pub address: String,
    /// Name of its transport: `quic` or `tcp`.
    pub transport: &'static str,
    /// Reason for this transport, for people.
    pub why_transport: String,
    /// Set if this side dialled.
    pub dialled: bool,
    /// Agreed protocol version.
    pub version: u32,
    /// Number of order lanes.
    pub lanes: u8,
    /// Set if it has a feed lane.
    pub feed: bool,
    /// Set if it has a payment lane.
    pub payments: bool,
    /// Smoothed round-trip time in microseconds.
    pub rtt_micros: u64,
    /// Seconds since the link came up.
    pub up_seconds: u64,
    /// Set while its heartbeats are missing.
    pub silent: bool,
    /// The peer's clock minus ours, in milliseconds. The error is up to half a round trip.
    pub skew_millis: i64,
}

/// The register.
#[derive(Default)]
pub(super) struct Links {
    live: Mutex<BTreeMap<LinkId, Arc<LinkRecord>>>,
    next: AtomicU64,
}

/// State that a link's own tasks share with the task that dialled or accepted it.
#[derive(Debug, Default)]
pub(super) struct Presence {
    silent: AtomicBool,
    /// Reason to end the link, if another link takes its place.
    end: OnceLock<LinkEnd>,
    ended: Notify,
    /// Reason for its transport, for people.
    why_transport: OnceLock<String>,
}

impl Presence {
    /// Returns true while the peer's heartbeats are missing.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    pub(super) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// Ends the link because another one of the same peer takes its place. The first reason stays.
    pub(super) fn end(&self, why: LinkEnd) {
        self.end.get_or_init(|| why);
        self.ended.notify_one();
    }

    /// Waits until another link takes this one's place.
    pub(super) async fn ended(&self) -> LinkEnd {
        self.ended.notified().await;
        self.end.get().cloned().unwrap_or(LinkEnd::Replaced)
    }

    /// Sets the reason for its transport. The first one stays.
    pub(super) fn explain(&self, why_transport: &str) {
        self.why_transport.get_or_init(|| printable(why_transport));
    }

    fn why_transport(&self) -> String {
        self.why_transport.get().cloned().unwrap_or_default()
    }
}

/// One link in the register.
pub(super) struct LinkRecord {
    pub(super) connection: Arc<dyn Connection>,
    pub(super) agent: String,
    /// Target that this side dialled; `None` if the peer dialled.
    pub(super) target: Option<Arc<str>>,
    pub(super) version: u32,
    pub(super) lanes: u8,
    pub(super) feed: bool,
    pub(super) payments: bool,
    pub(super) since: Instant,
    pub(super) presence: Arc<Presence>,
    /// In microseconds.
    pub(super) skew: AtomicI64,
}

impl Links {
    /// Returns a new id, starting at 1.
    pub(super) fn new_id(&self) -> LinkId {
        LinkId(1 + self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn insert(&self, link: LinkId, record: Arc<LinkRecord>) {
        self.lock().insert(link, record);
    }

    pub(super) fn remove(&self, link: LinkId) {
        self.lock().remove(&link);
    }

    pub(super) fn status(&self) -> Vec<LinkStatus> {
        self.lock().iter().map(|(link, record)| record.status(*link)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LinkId, Arc<LinkRecord>>> {
        // No code panics while it holds the lock, and a register that lacks half a link does no
        // harm.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

impl LinkRecord {
    fn status(&self, link: LinkId) -> LinkStatus {
        LinkStatus {
            link: link.0,
            peer: self.connection.peer().id().to_string(),
            agent: self.agent.clone(),
            address: self.connection.remote().to_string(),
            transport: self.connection.transport().as_str(),
            why_transport: self.presence.why_transport(),
            dialled: self.target.is_some(),
            version: self.version,
            lanes: self.lanes,
            feed: self.feed,
            payments: self.payments,
            rtt_micros: u64::try_from(self.connection.rtt().as_micros()).unwrap_or(u64::MAX),
            up_seconds: self.since.elapsed().as_secs(),
            silent: self.presence.is_silent(),
            skew_millis: self.skew.load(Ordering::Relaxed) / 1000,
        }
    }
}
