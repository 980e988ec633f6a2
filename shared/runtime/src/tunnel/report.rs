//! Log lines and metrics about links: one count for each end of each attempt, and at most one line.
//!
//! A stranger who can reach the port can be refused all day. So the log has only a few lines in ten
//! seconds about refusals for one reason, and the next line has the number of omitted ones.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bridge_protocol::wire::control::Hello;

use super::choice::Reason;
use super::context::Context;
use super::end::LinkEnd;
use super::event::LinkId;
use super::hello::HelloError;
use super::links::LinkRecord;
use super::peers::TooMany;
use crate::config::TransportChoice;
use crate::telemetry::metrics::{RefusalReason, TransportKind};
use crate::transport::{Closed, ConnectError, Connection, Refusal};

/// Difference of clocks above which a warning is logged: validity, receipts and audit entries on
/// both sides depend on the clocks.
const SKEW_WARNING: Duration = Duration::from_secs(60);

/// Reports that dialling failed. A refusal is reported each time, an absent peer only if `before`
/// was something else.
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
        let passes = if context.transport == TransportChoice::Tcp { "TCP" } else { "UDP" };
        tracing::warn!(%address, %error, "cannot reach the peer, trying on: check that it runs, that it listens for this tunnel.transport, and that {passes} passes");
        *before = Some(complaint);
    }
}

/// Reports that a peer's attempt to connect failed.
pub(super) fn not_admitted(context: &Context, address: SocketAddr, error: &ConnectError) {
    if !refusal(context, address, error)
        && let Some(left_out) = count(context, RefusalReason::Handshake, None)
    {
        tracing::warn!(%address, reason = ?RefusalReason::Handshake, left_out, "a peer's handshake did not come to its end: {error}");
    }
}

/// Reports that a handshake was ended to make room for another one.
pub(super) fn crowded_out(context: &Context, newcomer: SocketAddr) {
    if let Some(left_out) = count(context, RefusalReason::Crowded, None) {
        tracing::warn!(
            address = %newcomer,
            reason = ?RefusalReason::Crowded,
            left_out,
            "too many handshakes are begun and not finished: the oldest one made room; keep what is no agent off this port",
        );
    }
}

/// Reports that a source connects too often and gets no answer.
pub(super) fn ignored(context: &Context, address: SocketAddr) {
    if let Some(left_out) = count(context, RefusalReason::TooOften, None) {
        tracing::warn!(%address, reason = ?RefusalReason::TooOften, left_out, "too many handshakes from one source: it is not answered for now");
    }
}

/// Reports that an authenticated peer gets no further link.
pub(super) fn too_many(context: &Context, connection: &dyn Connection, error: &TooMany) {
    let reason = match error {
        TooMany::AtATime(_) => RefusalReason::TooMany,
        TooMany::TooOften => RefusalReason::TooOften,
    };
    let (address, peer) = (connection.remote(), connection.peer().id());
    if let Some(left_out) = count(context, reason, Some(&peer.to_string())) {
        tracing::warn!(%address, %peer, ?reason, left_out, "refused a peer's link: {error}");
    }
}

/// Reports that an attempt made no link while there is none over the other transport either.
pub(super) fn without_link(
    address: SocketAddr,
    transport: TransportKind,
    why: &str,
    before: &mut Option<String>,
) {
    if before.as_deref() != Some(why) {
        let transport = transport.as_str();
        tracing::warn!(%address, transport, why, "cannot reach the peer, trying on: check that it runs, and that UDP or TCP passes");
        *before = Some(why.to_owned());
    }
}

/// Reports that a link has moved to the other transport.
pub(super) fn switched(context: &Context, connection: &dyn Connection, from: TransportKind, reason: &Reason) {
    let (address, peer) = (connection.remote(), connection.peer().id());
    let (from, to) = (from.as_str(), connection.transport().as_str());
    tracing::warn!(%peer, %address, from, to, "the link has moved to the other transport: {reason}");
    context.audit.switched(connection, from, reason);
}

/// Reports a refusal. Returns false if the attempt ended for another reason.
pub(super) fn refusal(context: &Context, address: SocketAddr, error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused(refusal) => refused(context, address, refusal),
        ConnectError::RefusedByPeer(refusal) => refused_by_peer(context, address, refusal),
        ConnectError::NoAnswer(_) | ConnectError::Broken(_) | ConnectError::Local(_) => return false,
    }
    true
}

/// Reports that the handshake succeeded but the hello failed.
pub(super) fn no_link(context: &Context, connection: &dyn Connection, error: &HelloError) {
    let (address, peer) = (connection.remote(), connection.peer().id());
    let reason = match error {
        HelloError::Closed(Closed::RefusedByPeer(refusal)) => {
            return refused_by_peer(context, address, refusal);
        }
        HelloError::Closed(closed) => {
            if let Some(left_out) = context.refusals.due("closed", Instant::now()).map(some) {
                tracing::warn!(%address, %peer, left_out, "the link ended before it was up: {closed}");
            }
            return;
        }
        HelloError::Incompatible(_) | HelloError::RefusedByPeer(_) => RefusalReason::Version,
        HelloError::Violation(_) => RefusalReason::Protocol,
        HelloError::TooSlow => RefusalReason::Other,
    };
    if let Some(left_out) = count(context, reason, Some(&peer.to_string())) {
        tracing::warn!(%address, %peer, ?reason, left_out, "no link: {error}");
    }
}

/// Reports that a link came up.
pub(super) fn up(context: &Context, link: LinkId, record: &LinkRecord, hello: &Hello) {
    let LinkRecord { connection, agent, target, version, lanes, .. } = record;
    let (address, peer, build) = (connection.remote(), connection.peer().id(), &hello.build);
    let dialled = target.is_some();
    tracing::info!(%link, %peer, %address, agent, build, version, lanes, dialled, transport = connection.transport().as_str(), "link up");
    let skew = record.skew.load(Ordering::Relaxed);
    if u128::from(skew.unsigned_abs()) > SKEW_WARNING.as_micros() {
        let seconds = skew / 1_000_000;
        tracing::warn!(%link, %peer, seconds, "the peer's clock differs from this one: set the one that is wrong");
    }
    context.audit.opened(link, &**connection);
    context.metrics.links_opened.of(connection.transport()).inc();
    context.metrics.links_up.of(connection.transport()).inc();
}

/// Reports that a live link has ended.
pub(super) fn down(context: &Context, link: LinkId, connection: &dyn Connection, why: &LinkEnd) {
    let (address, peer) = (connection.remote(), connection.peer().id());
    match why {
        LinkEnd::Here | LinkEnd::ByPeer(_) | LinkEnd::PeerRestarted | LinkEnd::Moved(_) => {
            tracing::info!(%link, %peer, %address, "link down: {why}")
        }
        LinkEnd::Violation(_) => {
            context.metrics.links_refused.of(RefusalReason::Protocol).inc();
            tracing::warn!(%link, %peer, %address, "link down, the peer broke the protocol: {why}; is it an agent of this version?");
        }
        LinkEnd::TimedOut
        | LinkEnd::Broken(_)
        | LinkEnd::NotReading
        | LinkEnd::Replaced
        | LinkEnd::Identity { .. } => {
            tracing::warn!(%link, %peer, %address, "link down: {why}");
        }
    }
    if let LinkEnd::Identity { reason, .. } = why {
        context.metrics.links_refused.of(*reason).inc();
    }
    context.audit.closed(link, connection, why);
    context.metrics.links_closed.of(connection.transport()).inc();
    context.metrics.links_up.of(connection.transport()).dec();
}

fn refused(context: &Context, address: SocketAddr, Refusal { reason, claimed, sentence }: &Refusal) {
    if let Some(left_out) = count(context, *reason, claimed.as_deref()) {
        let peer = claimed.as_deref().unwrap_or("unknown");
        tracing::warn!(%address, peer, ?reason, left_out, "refused a peer: {sentence}");
    }
}

fn refused_by_peer(context: &Context, address: SocketAddr, Refusal { reason, sentence, .. }: &Refusal) {
    if let Some(left_out) = count(context, *reason, None) {
        tracing::warn!(%address, ?reason, left_out, "the peer refused this agent: {sentence}");
    }
}

/// Counts a refusal and writes it to the audit log. If the log gets a line, returns the number of
/// omitted ones.
fn count(context: &Context, reason: RefusalReason, claimed: Option<&str>) -> Option<Option<u64>> {
    context.metrics.links_refused.of(reason).inc();
    context.audit.refused(reason, claimed);
    context.refusals.due(reason.as_str(), Instant::now()).map(some)
}

/// Returns a number unless it is 0.
fn some(left_out: u64) -> Option<u64> {
    (left_out > 0).then_some(left_out)
}
