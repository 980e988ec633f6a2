//! Lanes over QUIC: a lane is a bidirectional stream, opened by whoever dialled.
//!
//! One endpoint a listen address and one a family for dialling. Each handshake takes the credentials as they are at that
//! moment. Windows are bounded everywhere; the limits stand below with their reasons.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bridge_protocol::wire::lane::{Lane, PREAMBLE_BYTES};
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;

use super::credentials::Credentials;
use super::floor::FlooredCubicConfig;
use super::judge::{Judge, Peer};
use super::refusal::printable;
use super::reset_key::ResetKey;
use super::tls::{self, Slot};
use super::udp;
use super::{
    BoxFuture, CloseCode, Closed, ConnectError, Connection, Incoming, LaneError, LaneStream, Refusal,
    Transport,
};
use crate::config::{PostQuantum, TunnelConfig};
use crate::identity::SpiffeId;

/// A handshake that takes longer is given up: three round trips across the world with a packet lost.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Most lanes a dialler may open: a control lane and 16 order lanes.
const LANES_MAX: u32 = 17;

/// A lane buffers this much that we have not read yet; enough for 20 MB/s on four lanes at a round trip of 50 ms.
const LANE_RECEIVE_WINDOW: u32 = 256 * 1024;

/// All lanes together; bounds what a peer can make us hold.
const RECEIVE_WINDOW: u32 = 32 * 1024 * 1024;

/// Sent and not yet acknowledged, all lanes together.
const SEND_WINDOW: u64 = 8 * 1024 * 1024;

/// Before the first measurement; quinn's 333 ms would make the first lost packet of a handshake cost a third of a second.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// Keeps NAT and firewall state alive below their usual shortest timeouts.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Peers that knocked and were not yet asked for by the tunnel; beyond it quinn's own queue holds them.
const KNOCKS: usize = 16;

/// Peers that knocked and wait in quinn, and the bytes of theirs that it keeps meanwhile.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long closing waits for the peers to have been told.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// QUIC endpoints, listening and dialling.
pub(crate) struct Quic {
    shared: Arc<Shared>,
    listeners: Vec<Endpoint>,
    dial_v4: OnceLock<Endpoint>,
    dial_v6: OnceLock<Endpoint>,
    knocks: Mutex<mpsc::Receiver<quinn::Incoming>>,
}

struct Shared {
    credentials: watch::Receiver<Arc<Credentials>>,
    allow: Arc<[SpiffeId]>,
    post_quantum: PostQuantum,
    listening: Arc<TransportConfig>,
    dialling: Arc<TransportConfig>,
    reset_key: ResetKey,
    udp_buffer: usize,
}

impl Quic {
    /// Binds every listen address; dialling sockets follow when they are first needed.
    pub(crate) fn start(
        config: &TunnelConfig,
        allow: Arc<[SpiffeId]>,
        credentials: watch::Receiver<Arc<Credentials>>,
        state_dir: &Path,
    ) -> Result<Self, QuicError> {
        let reset_key = ResetKey::load(state_dir).map_err(QuicError::ResetKey)?;
        let shared = Arc::new(Shared {
            credentials,
            allow,
            post_quantum: config.post_quantum,
            listening: Arc::new(transport_config(config, LANES_MAX)),
            // Lanes are the dialler's to open; what a listener opens is against the protocol.
            dialling: Arc::new(transport_config(config, 0)),
            reset_key,
            udp_buffer: config.udp_buffer.bytes(),
        });
        let (knocks, waiting) = mpsc::channel(KNOCKS);
        let mut listeners = Vec::new();
        for address in &config.listen {
            let endpoint = shared
                .endpoint(*address, true)
                .map_err(|error| QuicError::Listen { address: *address, error })?;
            tokio::spawn(forward(endpoint.clone(), knocks.clone()));
            listeners.push(endpoint);
        }
        Ok(Self {
            shared,
            listeners,
            dial_v4: OnceLock::new(),
            dial_v6: OnceLock::new(),
            knocks: Mutex::new(waiting),
        })
    }

    fn dialler(&self, to: SocketAddr) -> Result<&Endpoint, ConnectError> {
        let (slot, any) = match to {
            SocketAddr::V4(_) => (&self.dial_v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.dial_v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        if let Some(endpoint) = slot.get() {
            return Ok(endpoint);
        }
        let made = self.shared.endpoint(any, false);
        let made = made.map_err(|error| {
            ConnectError::Local(format!("cannot open a UDP socket to dial from: {error}"))
        })?;
        Ok(slot.get_or_init(|| made))
    }

    fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.listeners.iter().chain(self.dial_v4.get()).chain(self.dial_v6.get())
    }
}

/// Why there is no QUIC transport.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The state directory does not hold the reset key.
    #[error("cannot keep the QUIC reset key in the state directory: {0}")]
    ResetKey(std::io::Error),
    /// A listen address cannot be had.
    #[error("cannot listen on UDP {address}: {error}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

/// All endpoints' peers in one queue. While it fills, a peer must first prove that its address is its own.
async fn forward(endpoint: Endpoint, knocks: mpsc::Sender<quinn::Incoming>) {
    while let Some(incoming) = endpoint.accept().await {
        if knocks.capacity() < KNOCKS / 2 && incoming.may_retry() {
            let _asked_before = incoming.retry();
        } else if knocks.send(incoming).await.is_err() {
            return;
        }
    }
}

impl Shared {
    fn endpoint(&self, address: SocketAddr, listens: bool) -> std::io::Result<Endpoint> {
        let socket = udp::bind(address, self.udp_buffer)?;
        // Only its transport and limits count: every handshake brings a TLS configuration of its own.
        let server = if listens {
            Some(self.server_config(Slot::default()).map_err(std::io::Error::other)?)
        } else {
            None
        };
        Endpoint::new(self.reset_key.endpoint_config(), server, socket, Arc::new(TokioRuntime))
    }

    fn judge(&self) -> Judge {
        Judge::new(self.credentials.borrow().clone(), self.allow.clone())
    }

    fn server_config(&self, slot: Slot) -> Result<ServerConfig, ConnectError> {
        let tls = tls::server_config(self.judge(), self.post_quantum, slot).map_err(local)?;
        let crypto = QuicServerConfig::try_from(tls).map_err(local)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(self.listening.clone())
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_MAX);
        Ok(config)
    }

    fn client_config(&self, slot: Slot) -> Result<quinn::ClientConfig, ConnectError> {
        let tls = tls::client_config(self.judge(), self.post_quantum, slot).map_err(local)?;
        let crypto = QuicClientConfig::try_from(tls).map_err(local)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.dialling.clone());
        Ok(config)
    }

    async fn accept(&self, incoming: quinn::Incoming) -> Result<Arc<dyn Connection>, ConnectError> {
        let slot = Slot::default();
        let config = self.server_config(slot.clone())?;
        let connecting =
            incoming.accept_with(Arc::new(config)).map_err(|error| connect_error(error, &slot))?;
        established(connecting, slot).await
    }
}

fn local(error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Local(format!("the TLS configuration cannot be used: {error}"))
}

async fn established(connecting: quinn::Connecting, slot: Slot) -> Result<Arc<dyn Connection>, ConnectError> {
    let connected =
        timeout(HANDSHAKE_TIME, connecting).await.map_err(|_| ConnectError::NoAnswer(HANDSHAKE_TIME))?;
    let quic = connected.map_err(|error| connect_error(error, &slot))?;
    match slot.get() {
        Some(Ok(peer)) => Ok(Arc::new(QuicConnection { quic, peer: peer.clone() })),
        // rustls completes no handshake without the verifier's yes.
        _ => Err(ConnectError::Broken("the handshake ended without a verdict on the peer".to_owned())),
    }
}

impl Transport for Quic {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, Result<Arc<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            let slot = Slot::default();
            let config = self.shared.client_config(slot.clone())?;
            // The name goes nowhere (no SNI) and is compared with nothing: peers are known by their SPIFFE ID.
            let connecting = self.dialler(to)?.connect_with(config, to, "bridge");
            let connecting =
                connecting.map_err(|error| ConnectError::Local(format!("cannot dial {to}: {error}")))?;
            established(connecting, slot).await
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Incoming>> {
        Box::pin(async {
            let incoming = self.knocks.lock().await.recv().await?;
            let from = incoming.remote_address();
            let shared = self.shared.clone();
            Some(Incoming { from, handshake: Box::pin(async move { shared.accept(incoming).await }) })
        })
    }

    fn listening(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|endpoint| endpoint.local_addr().ok()).collect()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for endpoint in self.endpoints() {
                endpoint.close(VarInt::from_u32(CloseCode::Done.number()), b"the agent has stopped");
            }
            let idle = async {
                for endpoint in self.endpoints() {
                    endpoint.wait_idle().await;
                }
            };
            if timeout(CLOSE_TIME, idle).await.is_err() {
                tracing::debug!("not every peer confirmed the end in time");
            }
        })
    }
}

/// A QUIC connection with a peer that was found good.
struct QuicConnection {
    quic: quinn::Connection,
    peer: Peer,
}

impl Connection for QuicConnection {
    fn transport(&self) -> &'static str {
        "quic"
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn remote(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    fn open_lane(&self, lane: Lane) -> BoxFuture<'_, Result<LaneStream, LaneError>> {
        Box::pin(async move {
            let (mut send, recv) =
                self.quic.open_bi().await.map_err(|error| LaneError::Closed(closed(error)))?;
            send.write_all(&lane.preamble()).await.map_err(|_| self.cut())?;
            Ok(lane_stream(lane, send, recv))
        })
    }

    fn accept_lane(&self) -> BoxFuture<'_, Result<LaneStream, LaneError>> {
        Box::pin(async {
            let (send, mut recv) =
                self.quic.accept_bi().await.map_err(|error| LaneError::Closed(closed(error)))?;
            let mut preamble = [0; PREAMBLE_BYTES];
            AsyncReadExt::read_exact(&mut recv, &mut preamble).await.map_err(|_| self.cut())?;
            Ok(lane_stream(Lane::from_preamble(preamble)?, send, recv))
        })
    }

    fn close(&self, code: CloseCode, sentence: &str) {
        self.quic.close(VarInt::from_u32(code.number()), sentence.as_bytes());
    }

    fn ended(&self) -> Option<Closed> {
        self.quic.close_reason().map(closed)
    }

    fn closed(&self) -> BoxFuture<'static, Closed> {
        let quic = self.quic.clone();
        Box::pin(async move { closed(quic.closed().await) })
    }

    fn rtt(&self) -> Duration {
        self.quic.rtt()
    }
}

impl QuicConnection {
    /// Why a stream broke: usually since the connection did.
    fn cut(&self) -> LaneError {
        self.ended().map_or(LaneError::Cut, LaneError::Closed)
    }
}

fn lane_stream(lane: Lane, send: quinn::SendStream, recv: quinn::RecvStream) -> LaneStream {
    let priority = match lane {
        Lane::Control => 1,
        Lane::Order(_) => 0,
    };
    // Fails only on a stream that is closed already, which its first write will tell.
    let _closed_already = send.set_priority(priority);
    LaneStream { lane, reader: Box::new(recv), writer: Box::new(send) }
}

fn transport_config(tunnel: &TunnelConfig, lanes_from_peer: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(lanes_from_peer))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(LANE_RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        // Fairness splits every packet among the lanes; frames are small and want to go out whole.
        .send_fairness(false)
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(tunnel.idle_timeout.try_into().ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(None);
    match tunnel.committed_rate {
        Some(rate) => config.congestion_controller_factory(Arc::new(FlooredCubicConfig {
            committed_bytes_per_second: rate.bytes_per_second(),
        })),
        None => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
    };
    config
}

/// TLS alerts travel as QUIC transport errors 0x100 to 0x1ff (RFC 9001 section 4.8).
fn alert(code: quinn::TransportErrorCode) -> Option<u8> {
    u8::try_from(u64::from(code).checked_sub(0x100)?).ok()
}

fn connect_error(error: ConnectionError, slot: &Slot) -> ConnectError {
    if let Some(Err(refusal)) = slot.get() {
        return ConnectError::Refused(refusal.clone());
    }
    if let ConnectionError::TransportError(ours) = &error
        && let Some(code) = alert(ours.code)
    {
        return ConnectError::Refused(Refusal::by_our_alert(code, &ours.reason));
    }
    match closed(error) {
        Closed::RefusedByPeer(refusal) => ConnectError::RefusedByPeer(refusal),
        Closed::TimedOut => ConnectError::NoAnswer(HANDSHAKE_TIME),
        other => ConnectError::Broken(other.to_string()),
    }
}

fn closed(error: ConnectionError) -> Closed {
    match error {
        ConnectionError::ApplicationClosed(close) => Closed::ByPeer {
            code: CloseCode::from_number(close.error_code.into_inner()),
            sentence: printable(&String::from_utf8_lossy(&close.reason)),
        },
        ConnectionError::ConnectionClosed(close) => {
            let said = String::from_utf8_lossy(&close.reason);
            match alert(close.error_code) {
                Some(code) => Closed::RefusedByPeer(Refusal::by_peers_alert(code, &said)),
                None => {
                    Closed::Broken(format!("the peer gave up: {} {}", close.error_code, printable(&said)))
                }
            }
        }
        ConnectionError::TimedOut => Closed::TimedOut,
        ConnectionError::Reset => Closed::Reset,
        ConnectionError::LocallyClosed => Closed::Here,
        other => Closed::Broken(other.to_string()),
    }
}
