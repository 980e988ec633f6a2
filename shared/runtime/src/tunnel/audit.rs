//! What the audit log is told of links: opened, closed, refused.
//!
//! Whoever can reach the port can be refused all day. Each reason gets an entry at most every so often, with how often it
//! was; the log and the counters still hear of each one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bridge_protocol::audit::Event;
use bridge_protocol::audit::entry::{Closed, Opened, Refused, Word};

use super::LinkId;
use super::end::LinkEnd;
use crate::audit_log::AuditLog;
use crate::config::PostQuantum;
use crate::telemetry::metrics::RefusalReason;
use crate::transport::Connection;

/// Between two entries about refusals of one reason.
const REFUSED_EVERY: Duration = Duration::from_secs(10);

/// Both agents offer TLS 1.3's AES suites alone; which of the two it is, quinn does not tell.
const SUITE: &str = "TLS13_AES_GCM";

/// Tells the audit log, if there is one.
pub(super) struct Auditor {
    log: Option<AuditLog>,
    /// What a link's key exchange can have been.
    group: &'static str,
    /// By reason: when the last entry was, and how often it has been since. At most one for each reason that there is.
    refused: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

impl Auditor {
    pub(super) fn new(log: Option<AuditLog>, post_quantum: PostQuantum) -> Self {
        let group = match post_quantum {
            PostQuantum::Require => "X25519MLKEM768",
            PostQuantum::Prefer => "X25519MLKEM768-or-classical",
            PostQuantum::Off => "classical",
        };
        Self { log, group, refused: Mutex::default() }
    }

    pub(super) fn opened(&self, link: LinkId, connection: &dyn Connection) {
        let Some(log) = &self.log else { return };
        log.record(Event::TunnelOpened(Opened {
            certificate: connection.peer().certificate_digest(),
            group: Word::of(self.group),
            link: link.0,
            peer: Word::of(&connection.peer().id().to_string()),
            suite: Word::of(SUITE),
        }));
    }

    pub(super) fn closed(&self, link: LinkId, connection: &dyn Connection, why: &LinkEnd) {
        let Some(log) = &self.log else { return };
        let peer = Word::of(&connection.peer().id().to_string());
        log.record(Event::TunnelClosed(Closed { link: link.0, peer, reason: Word::of(why.code()) }));
    }

    pub(super) fn refused(&self, reason: RefusalReason, claimed: Option<&str>) {
        let Some(log) = &self.log else { return };
        let Some(times) = self.due(reason) else { return };
        let peer = claimed.map(Word::of);
        let reason = Word::of(reason.as_str());
        log.record(Event::TunnelRefused(Refused { certificate: None, peer, reason, times }));
    }

    /// How often it has been, if it is time for an entry.
    fn due(&self, reason: RefusalReason) -> Option<u64> {
        let now = Instant::now();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((last, since)) = refused.get_mut(reason.as_str()) else {
            refused.insert(reason.as_str(), (now, 0));
            return Some(1);
        };
        *since += 1;
        if now.duration_since(*last) < REFUSED_EVERY {
            return None;
        }
        *last = now;
        Some(std::mem::take(since))
    }
}
