//! Audit entries about links: opened, closed, refused.
//!
//! A stranger who can reach the port can be refused all day. So each reason gets an entry at most
//! every ten seconds, with a count. The metrics count every refusal.

use std::time::{Duration, Instant};

use bridge_protocol::audit::Event;
use bridge_protocol::audit::entry::{Closed, Opened, Refused, Switched, Word};

use super::choice::Reason;
use super::end::LinkEnd;
use super::event::LinkId;
use crate::audit_log::AuditLog;
use crate::config::PostQuantum;
use crate::telemetry::LogRateLimit;
use crate::telemetry::metrics::RefusalReason;
use crate::transport::Connection;

/// Both agents offer only TLS 1.3's AES suites. quinn does not tell which of the two was chosen.
const SUITE: &str = "TLS13_AES_GCM";

/// Writes to the audit log, if there is one.
pub(super) struct Auditor {
    log: Option<AuditLog>,
    /// Name of the possible key exchanges of a link.
    group: &'static str,
    refusals: LogRateLimit,
}

impl Auditor {
    pub(super) fn new(log: Option<AuditLog>, post_quantum: PostQuantum) -> Self {
        let group = match post_quantum {
            PostQuantum::Require => "X25519MLKEM768",
            PostQuantum::Prefer => "X25519MLKEM768-or-classical",
            PostQuantum::Off => "classical",
        };
        Self { log, group, refusals: LogRateLimit::new(1) }
    }

    pub(super) fn opened(&self, link: LinkId, connection: &dyn Connection) {
        let Some(log) = &self.log else { return };
        log.record(Event::TunnelOpened(Opened {
            certificate: connection.peer().certificate_digest(),
            group: Word::of(self.group),
            link: link.0,
            peer: Word::of(&connection.peer().id().to_string()),
            suite: Word::of(SUITE),
            transport: Some(Word::of(connection.transport().as_str())),
        }));
    }

    pub(super) fn closed(&self, link: LinkId, connection: &dyn Connection, why: &LinkEnd) {
        let Some(log) = &self.log else { return };
        let peer = Word::of(&connection.peer().id().to_string());
        log.record(Event::TunnelClosed(Closed { link: link.0, peer, reason: Word::of(why.code()) }));
    }

    pub(super) fn switched(&self, connection: &dyn Connection, from: &str, reason: &Reason) {
        let Some(log) = &self.log else { return };
        let millis = |time: &Duration| u64::try_from(time.as_millis()).ok();
        let (millis, lost, sent) = match reason {
            Reason::NoLink(time) | Reason::Silent(time) | Reason::Carries(time) => (millis(time), None, None),
            Reason::Lossy { lost, sent } => (None, Some(*lost), Some(*sent)),
            Reason::Failed(_) | Reason::TcpEnded(_) => (None, None, None),
        };
        log.record(Event::TunnelSwitched(Switched {
            from: Word::of(from),
            lost,
            millis,
            peer: Word::of(&connection.peer().id().to_string()),
            reason: Word::of(reason.code()),
            sent,
            to: Word::of(connection.transport().as_str()),
        }));
    }

    pub(super) fn refused(&self, reason: RefusalReason, claimed: Option<&str>) {
        let Some(log) = &self.log else { return };
        let Some(left_out) = self.refusals.due(reason.as_str(), Instant::now()) else { return };
        let (peer, times) = (claimed.map(Word::of), left_out + 1);
        let reason = Word::of(reason.as_str());
        log.record(Event::TunnelRefused(Refused { certificate: None, peer, reason, times }));
    }
}
