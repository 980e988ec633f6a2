//! The dialling side. A name is resolved repeatedly, and every address gets its links. A link that
//! ends is dialled again after a random pause (full jitter), so that a fleet does not return in
//! step.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::context::{Context, Phase};
use super::link::Dialled;
use super::links::Presence;
use super::{link, report};
use crate::config::{DialTarget, TransportChoice};
use crate::telemetry::metrics::TransportKind;

mod auto;

/// Interval at which a name is resolved. New addresses of an autoscaled fleet are found within it.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// Limit of the first pause.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Limit of every pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A link that lived this long was healthy, so the next pause is short again.
const HEALTHY: Duration = Duration::from_secs(5);

/// Keeps links to every address of a target until the tunnel drains. Returns after the last link
/// has ended.
pub(super) async fn keep_dialling(context: Arc<Context>, target: DialTarget) {
    let named: Arc<str> = target.to_string().into();
    let mut addresses: BTreeMap<SocketAddr, watch::Sender<()>> = BTreeMap::new();
    let mut links = JoinSet::new();
    let mut complaint: Option<String> = None;
    loop {
        let resolved = tokio::select! {
            resolved = resolve(&target) => resolved,
            () = context.reached(Phase::Draining) => break,
        };
        match resolved {
            Ok(found) => {
                complaint = None;
                // Dropping the sender tells an address's diallers to stop after their link ends.
                addresses.retain(|address, _| found.contains(address));
                for address in found {
                    addresses.entry(address).or_insert_with(|| {
                        let (wanted, watched) = watch::channel(());
                        for _ in 0..context.links_per_peer {
                            links.spawn(keep_linked(
                                context.clone(),
                                named.clone(),
                                address,
                                watched.clone(),
                            ));
                        }
                        wanted
                    });
                }
            }
            Err(error) => {
                let now = error.to_string();
                if complaint.as_ref() != Some(&now) {
                    tracing::warn!(%target, %error, "cannot resolve the name to dial, trying on: check tunnel.dial and the DNS");
                    complaint = Some(now);
                }
            }
        }
        tokio::select! {
            () = sleep(RESOLVE_EVERY) => {}
            () = context.reached(Phase::Draining) => break,
        }
        while links.try_join_next().is_some() {}
    }
    while links.join_next().await.is_some() {}
}

async fn resolve(target: &DialTarget) -> io::Result<BTreeSet<SocketAddr>> {
    let found: BTreeSet<_> = lookup_host((target.host.as_str(), target.port)).await?.collect();
    if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
}

/// Keeps one link to one address of a target, over the configured transport.
async fn keep_linked(
    context: Arc<Context>,
    target: Arc<str>,
    address: SocketAddr,
    wanted: watch::Receiver<()>,
) {
    match context.transport {
        TransportChoice::Quic => keep_over(TransportKind::Quic, context, target, address, wanted).await,
        TransportChoice::Tcp => keep_over(TransportKind::Tcp, context, target, address, wanted).await,
        TransportChoice::Auto => auto::keep_linked(context, target, address, wanted).await,
    }
}

/// Keeps one link over one transport.
async fn keep_over(
    transport: TransportKind,
    context: Arc<Context>,
    target: Arc<str>,
    address: SocketAddr,
    wanted: watch::Receiver<()>,
) {
    let mut backoff = Backoff::default();
    let mut complaint = None;
    let dialled = context.dialled.begin(target.clone(), address);
    loop {
        let connected = tokio::select! {
            connected = context.transports.dial(transport, address) => connected,
            () = unwanted(&context, &wanted) => return,
        };
        match connected {
            Ok(connection) => {
                complaint = None;
                let dialled = Dialled { target: target.clone(), address: &dialled, is_up: &|| true };
                let presence = Arc::<Presence>::default();
                presence.explain("tunnel.transport");
                let ended = link::run(&context, connection, Some(dialled), presence).await;
                if ended.lived.is_some_and(|lived| lived >= HEALTHY) {
                    backoff = Backoff::default();
                }
            }
            Err(error) => {
                dialled.failed(&error.to_string());
                report::not_reached(&context, address, &error, &mut complaint);
            }
        }
        tokio::select! {
            () = sleep(backoff.next(rand::random())) => {}
            () = unwanted(&context, &wanted) => return,
        }
    }
}

/// Waits until the address no longer belongs to the target, or the tunnel drains.
async fn unwanted(context: &Context, wanted: &watch::Receiver<()>) {
    let mut wanted = wanted.clone();
    tokio::select! {
        _gone = wanted.changed() => {}
        () = context.reached(Phase::Draining) => {}
    }
}

/// Full jitter: each pause is random up to a limit that doubles. The code is pure; randomness comes
/// in.
#[derive(Debug, Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    fn next(&mut self, random: u32) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        let bound = BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX);
        self.attempts = self.attempts.saturating_add(1);
        let nanos = bound.as_nanos() * u128::from(random) / u128::from(u32::MAX);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_the_wait_doubles_up_to_five_seconds() {
        let mut backoff = Backoff::default();
        let bounds: Vec<_> = (0..8).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        for _ in 0..100 {
            assert_eq!(backoff.next(u32::MAX), BACKOFF_MAX);
        }
    }

    #[test]
    fn a_wait_is_anything_below_its_bound() {
        assert_eq!(Backoff::default().next(0), Duration::ZERO);
        let half = Backoff::default().next(u32::MAX / 2);
        assert!((Duration::from_millis(49)..=Duration::from_millis(50)).contains(&half));
    }
}
