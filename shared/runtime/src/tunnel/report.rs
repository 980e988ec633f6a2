//! What the log and the counters are told of links: one line and one count for each end of each attempt, no more.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bridge_protocol::wire::control::Hello;

use super::end::LinkEnd;
use super::hello::HelloError;
use super::links::Record;
use super::{Context, LinkId};
use crate::telemetry::metrics::RefusalReason;
use crate::transport::{Closed, ConnectError, Connection, Refusal};

/// Clocks further apart than this are warned about: validity, receipts and audit entries on both sides rely on them.
const SKEW_WARNING: Duration = Duration::from_secs(60);

/// We dialled and there is no connection. A refusal is told each time; that nobody is there, only when `before` was
/// something else.
pub(super) fn not_reached(
    context: &Context,
    address: SocketAddr,
    error: &ConnectError,
    before: &mut Option<String>,
) {
    if refusal(context, address, error) {
        return;
    }
    let complaint = error.to_string();
    if before.as_ref() != Some(&complaint) {
        tracing::warn!(%address, %error, "cannot reach the peer, trying on: check that it runs and that UDP passes");
        *before = Some(complaint);
    }
}

/// A peer knocked and there is no connection.
pub(super) fn not_admitted(context: &Context, address: SocketAddr, error: &ConnectError) {
    if !refusal(context, address, error) {
        count(context, RefusalReason::Handshake);
        context.audit.refused(RefusalReason::Handshake, None);
        tracing::warn!(%address, reason = ?RefusalReason::Handshake, "a peer's handshake did not come to its end: {error}");
    }
}

/// Whether the attempt ended in a refusal, which is counted and told here.
fn refusal(context: &Context, address: SocketAddr, error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused(refusal) => refused(context, address, refusal),
        ConnectError::RefusedByPeer(refusal) => refused_by_peer(context, address, refusal),
        ConnectError::NoAnswer(_) | ConnectError::Broken(_) | ConnectError::Local(_) => return false,
    }
    true
}

/// The handshake succeeded, the hello did not.
pub(super) fn no_link(context: &Context, connection: &dyn Connection, error: &HelloError) {
    let (address, peer) = (connection.remote(), connection.peer().id());
    let reason = match error {
        HelloError::Closed(Closed::RefusedByPeer(refusal)) => {
            return refused_by_peer(context, address, refusal);
        }
        HelloError::Closed(closed) => {
            tracing::warn!(%address, %peer, "the link ended before it was up: {closed}");
            return;
        }
        HelloError::Incompatible(_) | HelloError::RefusedByPeer(_) => RefusalReason::Version,
        HelloError::Violation(_) => RefusalReason::Protocol,
        HelloError::TooSlow => RefusalReason::Other,
    };
    count(context, reason);
    context.audit.refused(reason, Some(&peer.to_string()));
    tracing::warn!(%address, %peer, ?reason, "no link: {error}");
}

/// A link came up.
pub(super) fn up(context: &Context, link: LinkId, record: &Record, hello: &Hello) {
    let Record { connection, agent, dialled, version, lanes, .. } = record;
    let (address, peer, build) = (connection.remote(), connection.peer().id(), &hello.build);
    tracing::info!(%link, %peer, %address, agent, build, version, lanes, dialled, transport = connection.transport(), "link up");
    let skew = record.skew.load(Ordering::Relaxed);
    if u128::from(skew.unsigned_abs()) > SKEW_WARNING.as_micros() {
        let seconds = skew / 1_000_000;
        tracing::warn!(%link, %peer, seconds, "the peer's clock differs from this one: set the one that is wrong");
    }
    context.audit.opened(link, &**connection);
    context.metrics.links_opened.inc();
    context.metrics.links_up.inc();
}

/// A link that was up has ended.
pub(super) fn down(context: &Context, link: LinkId, connection: &dyn Connection, why: &LinkEnd) {
    let (address, peer) = (connection.remote(), connection.peer().id());
    match why {
        LinkEnd::Here | LinkEnd::ByPeer(_) | LinkEnd::PeerRestarted => {
            tracing::info!(%link, %peer, %address, "link down: {why}")
        }
        LinkEnd::Violation(_) => {
            count(context, RefusalReason::Protocol);
            tracing::warn!(%link, %peer, %address, "link down, the peer broke the protocol: {why}; is it an agent of this version?");
        }
        LinkEnd::TimedOut | LinkEnd::Broken(_) | LinkEnd::NotReading | LinkEnd::Identity { .. } => {
            tracing::warn!(%link, %peer, %address, "link down: {why}");
        }
    }
    if let LinkEnd::Identity { reason, .. } = why {
        count(context, *reason);
    }
    context.audit.closed(link, connection, why);
    context.metrics.links_closed.inc();
    context.metrics.links_up.dec();
}

fn refused(context: &Context, address: SocketAddr, Refusal { reason, claimed, sentence }: &Refusal) {
    count(context, *reason);
    context.audit.refused(*reason, claimed.as_deref());
    let peer = claimed.as_deref().unwrap_or("unknown");
    tracing::warn!(%address, peer, ?reason, "refused a peer: {sentence}");
}

fn refused_by_peer(context: &Context, address: SocketAddr, Refusal { reason, sentence, .. }: &Refusal) {
    count(context, *reason);
    context.audit.refused(*reason, None);
    tracing::warn!(%address, ?reason, "the peer refused this agent: {sentence}");
}

fn count(context: &Context, reason: RefusalReason) {
    context.metrics.links_refused.of(reason).inc();
}
