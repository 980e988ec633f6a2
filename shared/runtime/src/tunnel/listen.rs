//! The accepting side: the only owner of incoming connections, pending handshakes, and the number
//! of links of each peer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bridge_protocol::domain::identity::SpiffeId;
use tokio::task::{self, AbortHandle, JoinSet};

use super::context::{Context, Phase};
use super::end::LinkEnd;
use super::handshake_limiter::{HandshakeDecision, HandshakeId, HandshakeLimiter};
use super::links::Presence;
use super::peers::{LinkStart, Peers};
use super::{link, report};
use crate::transport::{Admitted, CloseCode, ConnectError, Incoming};

/// Accepts until the tunnel drains. Returns after the last link has ended.
pub(super) async fn keep_accepting(context: Arc<Context>) {
    let mut acceptor = Acceptor::new(context.clone());
    loop {
        tokio::select! {
            incoming = context.transports.accept() => match incoming {
                Some(incoming) => acceptor.handle_incoming(incoming),
                None => break,
            },
            Some(ended) = acceptor.handshakes.join_next() => {
                // A handshake that was ended to make room has no result.
                if let Ok(ended) = ended {
                    acceptor.handle_handshake(ended);
                }
            }
            Some(ended) = acceptor.links.join_next_with_id() => {
                acceptor.handle_link_end(ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
            () = context.reached(Phase::Draining) => break,
        }
    }
    // Unfinished handshakes and new connections are dropped at once, so that these peers try
    // another agent.
    acceptor.handshakes.shutdown().await;
    loop {
        tokio::select! {
            ended = acceptor.links.join_next() => if ended.is_none() { break },
            Some(_turned_away) = context.transports.accept() => {}
        }
    }
}

struct Acceptor {
    context: Arc<Context>,
    limiter: HandshakeLimiter,
    peers: Peers,
    handshakes: JoinSet<Handshake>,
    /// Handles to end the unfinished handshakes; as many as the limiter has.
    unfinished: HashMap<HandshakeId, AbortHandle>,
    links: JoinSet<()>,
    /// Peer of each task in `links`. Links that are being replaced are no longer here.
    holders: HashMap<task::Id, HeldLink>,
}

/// A link that counts for its peer.
struct HeldLink {
    peer: SpiffeId,
    presence: Arc<Presence>,
    since: Instant,
}

/// Result of a handshake.
struct Handshake {
    place: HandshakeId,
    from: SocketAddr,
    admitted: Result<Admitted, ConnectError>,
}

impl Acceptor {
    fn new(context: Arc<Context>) -> Self {
        Self {
            limiter: HandshakeLimiter::default(),
            peers: Peers::new(context.links_from_peer_max),
            handshakes: JoinSet::new(),
            unfinished: HashMap::new(),
            links: JoinSet::new(),
            holders: HashMap::new(),
            context,
        }
    }

    fn handle_incoming(&mut self, incoming: Box<dyn Incoming>) {
        let from = incoming.from();
        match self.limiter.admit(from.ip(), incoming.is_proved(), Instant::now()) {
            HandshakeDecision::Begin(place, makes_room) => {
                if let Some(ended) = makes_room.and_then(|place| self.unfinished.remove(&place)) {
                    ended.abort();
                    report::crowded_out(&self.context, from);
                }
                let handshake = incoming.handshake();
                let handle = self
                    .handshakes
                    .spawn(async move { Handshake { place, from, admitted: handshake.await } });
                self.unfinished.insert(place, handle);
            }
            HandshakeDecision::Prove => incoming.prove(),
            HandshakeDecision::Wait => incoming.wait(),
            HandshakeDecision::Ignore => {
                report::ignored(&self.context, from);
                incoming.ignore();
            }
        }
    }

    fn handle_handshake(&mut self, Handshake { place, from, admitted }: Handshake) {
        self.unfinished.remove(&place);
        self.limiter.handle_end(place, admitted.is_ok());
        let connection = match admitted {
            Ok(Admitted::Link(connection)) => connection,
            Ok(Admitted::Lane) => return,
            Err(error) => return report::not_admitted(&self.context, from, &error),
        };
        let (peer, since) = (connection.peer().id().clone(), Instant::now());
        let silent = self.oldest_silent(&peer);
        match self.peers.begin(&peer, silent.is_some(), since) {
            Ok(LinkStart::Beside) => {}
            Ok(LinkStart::InPlaceOfSilent) => {
                if let Some(replaced) = silent.and_then(|link| self.holders.remove(&link)) {
                    replaced.presence.end(LinkEnd::Replaced);
                }
            }
            Err(error) => {
                report::too_many(&self.context, &*connection, &error);
                return connection.close(CloseCode::TooMany, &error.to_string());
            }
        }
        let (context, presence) = (self.context.clone(), Arc::<Presence>::default());
        presence.explain("the peer chose it");
        let seen = presence.clone();
        let link = self.links.spawn(async move {
            let _lived = link::run(&context, connection, None, seen).await;
        });
        self.holders.insert(link.id(), HeldLink { peer, presence, since });
    }

    /// Returns the oldest link of this peer that misses heartbeats. A peer that crashed returns
    /// before its old links are known to be dead.
    fn oldest_silent(&self, peer: &SpiffeId) -> Option<task::Id> {
        let silent =
            self.holders.iter().filter(|(_, holder)| holder.peer == *peer && holder.presence.is_silent());
        silent.min_by_key(|(_, holder)| holder.since).map(|(link, _)| *link)
    }

    fn handle_link_end(&mut self, link: task::Id) {
        if let Some(holder) = self.holders.remove(&link) {
            self.peers.handle_end(&holder.peer, Instant::now());
        }
    }
}
