//! Lanes over QUIC: a lane is a bidirectional stream, opened by the dialler.
//!
//! There is one endpoint for each listening address and one for each address family for dialling.
//! Each handshake uses the credentials of that moment.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::time::timeout;

use self::connection::{QuicConnection, connect_error, link_key};
use super::live_quic::LiveQuicLinks;
use super::reset_key::ResetKey;
use super::tls::{TlsConfigs, VerdictSlot, unusable};
use super::{ACCEPT_TIME, CLOSE_TIME, HANDSHAKE_TIME, udp};
use super::{
    Admitted, Arrivals, BoxFuture, CloseCode, ConnectError, Connection, Incoming, StartError, Transport,
};
use crate::config::TunnelConfig;

mod connection;

mod limits;

/// QUIC endpoints for listening and dialling.
pub(crate) struct Quic {
    shared: Arc<Shared>,
    listeners: Vec<Endpoint>,
    dial_v4: OnceLock<Endpoint>,
    dial_v6: OnceLock<Endpoint>,
}

struct Shared {
    tls: TlsConfigs,
    live: LiveQuicLinks,
    listening: Arc<TransportConfig>,
    dialling: Arc<TransportConfig>,
    reset_key: ResetKey,
    udp_buffer: usize,
}

impl Quic {
    /// Binds every listening address. Dialling sockets are made when first needed.
    pub(crate) fn start(
        config: &TunnelConfig,
        tls: TlsConfigs,
        state_dir: &Path,
        live: LiveQuicLinks,
        arrivals: Arrivals,
    ) -> Result<Self, StartError> {
        let reset_key = ResetKey::load(state_dir).map_err(StartError::ResetKey)?;
        let shared = Arc::new(Shared {
            tls,
            live,
            listening: limits::listening(config),
            dialling: limits::dialling(config),
            reset_key,
            udp_buffer: config.udp_buffer.bytes(),
        });
        let mut listeners = Vec::new();
        for address in &config.listen {
            let endpoint = shared.endpoint(*address, true).map_err(|error| StartError::Listen {
                protocol: "UDP",
                address: *address,
                error,
            })?;
            tokio::spawn(forward(endpoint.clone(), shared.clone(), arrivals.clone()));
            listeners.push(endpoint);
        }
        Ok(Self { shared, listeners, dial_v4: OnceLock::new(), dial_v6: OnceLock::new() })
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

/// Puts the peers of an endpoint into the common queue.
async fn forward(endpoint: Endpoint, shared: Arc<Shared>, arrivals: Arrivals) {
    while let Some(incoming) = endpoint.accept().await {
        let incoming = QuicIncoming { incoming, shared: shared.clone() };
        if arrivals.send(Box::new(incoming)).await.is_err() {
            return;
        }
    }
}

/// A peer that has sent its first packet.
struct QuicIncoming {
    incoming: quinn::Incoming,
    shared: Arc<Shared>,
}

impl Incoming for QuicIncoming {
    fn from(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    fn is_proved(&self) -> bool {
        self.incoming.remote_address_validated() || !self.incoming.may_retry()
    }

    /// Sends a Retry (RFC 9000 section 8.1.2). This side keeps no state until the address has
    /// answered.
    fn prove(self: Box<Self>) {
        let _proved_already = self.incoming.retry();
    }

    /// QUIC repeats the first packet by itself.
    fn wait(self: Box<Self>) {
        self.incoming.ignore();
    }

    fn ignore(self: Box<Self>) {
        self.incoming.ignore();
    }

    fn handshake(self: Box<Self>) -> BoxFuture<'static, Result<Admitted, ConnectError>> {
        Box::pin(async move { self.shared.accept(self.incoming).await.map(Admitted::Link) })
    }
}

impl Shared {
    fn endpoint(&self, address: SocketAddr, listens: bool) -> std::io::Result<Endpoint> {
        let socket = udp::bind(address, self.udp_buffer)?;
        // Only its transport and limits are used: every handshake has a TLS configuration of its
        // own.
        let server = if listens {
            Some(self.server_config(VerdictSlot::default()).map_err(std::io::Error::other)?)
        } else {
            None
        };
        Endpoint::new(self.reset_key.endpoint_config(), server, socket, Arc::new(TokioRuntime))
    }

    fn server_config(&self, slot: VerdictSlot) -> Result<ServerConfig, ConnectError> {
        let crypto = QuicServerConfig::try_from(self.tls.server(slot)?).map_err(unusable)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(self.listening.clone());
        limits::bound_incoming(&mut config);
        Ok(config)
    }

    fn client_config(&self, slot: VerdictSlot) -> Result<quinn::ClientConfig, ConnectError> {
        let crypto = QuicClientConfig::try_from(self.tls.client(slot)?).map_err(unusable)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.dialling.clone());
        Ok(config)
    }

    async fn accept(&self, incoming: quinn::Incoming) -> Result<Arc<dyn Connection>, ConnectError> {
        let slot = VerdictSlot::default();
        let config = self.server_config(slot.clone())?;
        let connecting =
            incoming.accept_with(Arc::new(config)).map_err(|error| connect_error(error, &slot))?;
        let connection = established(connecting, slot, ACCEPT_TIME).await?;
        let QuicConnection { quic, peer, .. } = &connection;
        let live = link_key(quic).map(|key| self.live.add(key, peer.id().clone(), quic.clone()));
        Ok(Arc::new(QuicConnection { _live: live, ..connection }))
    }
}

async fn established(
    connecting: quinn::Connecting,
    slot: VerdictSlot,
    time: Duration,
) -> Result<QuicConnection, ConnectError> {
    let connected = timeout(time, connecting).await.map_err(|_| ConnectError::NoAnswer(time))?;
    let quic = connected.map_err(|error| connect_error(error, &slot))?;
    match slot.get() {
        Some(Ok(peer)) => Ok(QuicConnection { quic, peer: peer.clone(), _live: None }),
        // rustls completes no handshake without the verifier's consent.
        _ => Err(ConnectError::Broken("the handshake ended without a verdict on the peer".to_owned())),
    }
}

impl Transport for Quic {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, Result<Arc<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            let slot = VerdictSlot::default();
            let config = self.shared.client_config(slot.clone())?;
            // The name is not sent (no SNI) and not compared: peers are identified by their SPIFFE
            // ID.
            let connecting = self.dialler(to)?.connect_with(config, to, "bridge");
            let connecting =
                connecting.map_err(|error| ConnectError::Local(format!("cannot dial {to}: {error}")))?;
            let connection: Arc<dyn Connection> =
                Arc::new(established(connecting, slot, HANDSHAKE_TIME).await?);
            Ok(connection)
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
