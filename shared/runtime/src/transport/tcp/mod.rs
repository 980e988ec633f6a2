//! Lanes over TCP: each lane is a TLS connection, and one more, the anchor, stands for the link.
//!
//! The dialler connects the anchor first. Both ends derive the link's key from its TLS session.
//! Each lane's connection has a handshake of its own, and then names its link by this key: a peer
//! can join only a link of its own. [`wire::tcp`](bridge_protocol::wire::tcp) has the bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bridge_protocol::wire::lane::PREAMBLE_BYTES;
use bridge_protocol::wire::tcp::{ANCHOR_PREAMBLE, LINK_KEY_BYTES, LinkKey, Opening};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::anchor::{AnchorTask, Closing, LinkState, Replaceable};
use self::connection::{JoinedLanes, LaneDialler, Lanes, TcpConnection, lane_stream};
use self::handshake::Established;
use self::joinable::JoinableLinks;
use super::live_quic::LiveQuicLinks;
use super::tls::TlsConfigs;
use super::{
    ACCEPT_TIME, Admitted, Arrivals, BoxFuture, CLOSE_TIME, Closed, ConnectError, Connection, HANDSHAKE_TIME,
    Incoming, Refusal, StartError, Transport,
};
use crate::accept;
use crate::telemetry::metrics::RefusalReason;

mod socket;

mod handshake;

mod anchor;

mod joinable;

mod connection;

/// Pause before a peer that must wait comes again.
const WAIT_TIME: Duration = Duration::from_millis(100);

/// Peers that wait so. Further ones are turned away.
const WAITING_MAX: usize = 256;

/// TCP listeners, and dialling.
pub(crate) struct Tcp {
    shared: Arc<Shared>,
    listening: Vec<SocketAddr>,
    /// One task for each listening address.
    accepting: Mutex<JoinSet<()>>,
}

/// State that all of its links share.
pub(super) struct Shared {
    tls: TlsConfigs,
    idle_timeout: Duration,
    links: Arc<JoinableLinks>,
    /// Links over QUIC that a link over TCP may replace.
    quic: LiveQuicLinks,
    /// Tasks of the live links' anchors.
    anchors: Mutex<JoinSet<()>>,
    waiting: Arc<Semaphore>,
}

impl Tcp {
    /// Binds these listening addresses.
    pub(crate) fn start(
        listen: &[SocketAddr],
        idle_timeout: Duration,
        tls: TlsConfigs,
        quic: LiveQuicLinks,
        arrivals: Arrivals,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared {
            tls,
            idle_timeout,
            links: Arc::default(),
            quic,
            anchors: Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        });
        let (mut listening, mut accepting) = (Vec::new(), JoinSet::new());
        for address in listen {
            let unbound = |error| StartError::Listen { protocol: "TCP", address: *address, error };
            let listener = socket::listen(*address).map_err(unbound)?;
            listening.push(listener.local_addr().map_err(unbound)?);
            accepting.spawn(keep_accepting(listener, shared.clone(), arrivals.clone()));
        }
        Ok(Self { shared, listening, accepting: Mutex::new(accepting) })
    }
}

/// Puts the peers that connect to a listener into the common queue.
async fn keep_accepting(listener: TcpListener, shared: Arc<Shared>, arrivals: Arrivals) {
    loop {
        let (stream, from) = accept::next("the tunnel's peers over TCP", || listener.accept()).await;
        if let Err(error) = socket::prepare(&stream, shared.idle_timeout) {
            tracing::debug!(%error, "a connection ended before its options were set");
            continue;
        }
        let incoming = TcpIncoming { stream, from, shared: shared.clone(), arrivals: arrivals.clone() };
        if arrivals.send(Box::new(incoming)).await.is_err() {
            return;
        }
    }
}

/// A peer that has connected and sent nothing yet. TCP has proved its address.
struct TcpIncoming {
    stream: TcpStream,
    from: SocketAddr,
    shared: Arc<Shared>,
    arrivals: Arrivals,
}

impl Incoming for TcpIncoming {
    fn from(&self) -> SocketAddr {
        self.from
    }

    fn is_proved(&self) -> bool {
        true
    }

    fn prove(self: Box<Self>) {}

    fn wait(self: Box<Self>) {
        let Ok(place) = self.shared.waiting.clone().try_acquire_owned() else { return };
        let arrivals = self.arrivals.clone();
        tokio::spawn(async move {
            sleep(WAIT_TIME).await;
            drop(place);
            let _stopped = arrivals.send(self).await;
        });
    }

    fn ignore(self: Box<Self>) {}

    fn handshake(self: Box<Self>) -> BoxFuture<'static, Result<Admitted, ConnectError>> {
        Box::pin(async move {
            let admitted = timeout(ACCEPT_TIME, self.shared.accept(self.stream, self.from)).await;
            admitted.unwrap_or(Err(ConnectError::NoAnswer(ACCEPT_TIME)))
        })
    }
}

impl Shared {
    /// Connects to an address, without TLS yet.
    async fn connect(&self, to: SocketAddr) -> Result<TcpStream, ConnectError> {
        let broken = |error| ConnectError::Broken(format!("{error}"));
        let stream = TcpStream::connect(to).await.map_err(broken)?;
        socket::prepare(&stream, self.idle_timeout).map_err(broken)?;
        Ok(stream)
    }

    async fn dial(self: Arc<Self>, to: SocketAddr) -> Result<Arc<dyn Connection>, ConnectError> {
        let stream = self.connect(to).await?;
        let anchor = handshake::dial(&self.tls, stream).await?;
        let lanes = Lanes::Dialled(LaneDialler { shared: self.clone(), key: anchor.link_key()? });
        let connection = self.begin(anchor, to, lanes, LinkState::new(), &ANCHOR_PREAMBLE);
        // TLS 1.3 lets a dialler finish before the listener has verified it. Lanes can join only
        // after the listener knows the link, which its first pong says.
        match connection.state.open().await {
            // The peer gave a reason of its own. The hello reports it.
            Ok(()) | Err(Closed::ByPeer { .. }) => Ok(Arc::new(connection)),
            Err(Closed::RefusedByPeer(refusal)) => Err(ConnectError::RefusedByPeer(refusal)),
            Err(closed) => Err(ConnectError::Broken(closed.to_string())),
        }
    }

    async fn accept(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) -> Result<Admitted, ConnectError> {
        let mut peer = handshake::accept(&self.tls, stream).await?;
        let mut first = [0; PREAMBLE_BYTES];
        peer.read(&mut first).await?;
        let opening = Opening::from_bytes(first).map_err(|error| peer.refused(&error.to_string()))?;
        let Opening::Lane(lane) = opening else {
            let state = LinkState::new();
            let (registered, joined) = self.links.add(peer.link_key()?, &peer.peer, state.clone());
            let lanes = JoinedLanes {
                joined,
                early: Default::default(),
                has_control: false,
                _registered: registered,
            };
            let lanes = Lanes::Accepted(tokio::sync::Mutex::new(lanes));
            return Ok(Admitted::Link(Arc::new(self.begin(peer, from, lanes, state, &[]))));
        };
        let mut key = [0; LINK_KEY_BYTES];
        peer.read(&mut key).await?;
        let Established { stream, peer } = peer;
        let joined = self.links.join(LinkKey(key), &peer, |state| lane_stream(lane, stream, state));
        joined.map(|()| Admitted::Lane).map_err(ConnectError::Refused)
    }

    /// Starts the task of a link's anchor. `opening` is sent first.
    fn begin(
        &self,
        anchor: Established,
        remote: SocketAddr,
        lanes: Lanes,
        state: Arc<LinkState>,
        opening: &'static [u8],
    ) -> TcpConnection {
        let Established { stream, peer } = anchor;
        let (closing, close) = watch::channel(Closing::None);
        let (replace, replaced) = watch::channel(None);
        let replaceable = Replaceable { links: self.quic.clone(), peer: peer.id().clone() };
        let task = AnchorTask::new(stream, state.clone(), close, replaced, replaceable, self.idle_timeout);
        let mut anchors = self.anchors.lock().unwrap_or_else(PoisonError::into_inner);
        while anchors.try_join_next().is_some() {}
        anchors.spawn(task.run(opening));
        TcpConnection { peer, remote, state, closing, replace, lanes }
    }
}

impl Established {
    /// Reads the first bytes of a connection.
    async fn read(&mut self, bytes: &mut [u8]) -> Result<(), ConnectError> {
        let read = self.stream.read_exact(bytes).await;
        read.map(drop).map_err(|error| match handshake::closed(&error) {
            Closed::RefusedByPeer(refusal) => ConnectError::RefusedByPeer(refusal),
            closed => ConnectError::Broken(closed.to_string()),
        })
    }

    fn refused(&self, sentence: &str) -> ConnectError {
        let claimed = Some(self.peer.id().to_string());
        ConnectError::Refused(Refusal { claimed, ..Refusal::new(RefusalReason::Protocol, sentence) })
    }
}

impl Transport for Tcp {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, Result<Arc<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            let dialled = timeout(HANDSHAKE_TIME, self.shared.clone().dial(to)).await;
            dialled.unwrap_or(Err(ConnectError::NoAnswer(HANDSHAKE_TIME)))
        })
    }

    fn listening(&self) -> Vec<SocketAddr> {
        self.listening.clone()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut accepting =
                std::mem::take(&mut *self.accepting.lock().unwrap_or_else(PoisonError::into_inner));
            accepting.shutdown().await;
            let mut anchors =
                std::mem::take(&mut *self.shared.anchors.lock().unwrap_or_else(PoisonError::into_inner));
            let ended = async { while anchors.join_next().await.is_some() {} };
            if timeout(CLOSE_TIME, ended).await.is_err() {
                tracing::debug!("not every peer confirmed the end in time");
            }
        })
    }
}
