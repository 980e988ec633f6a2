//! The transports that the configuration asks for, as one: QUIC, TCP or both.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use super::live_quic::LiveQuicLinks;
use super::quic::Quic;
use super::tcp::Tcp;
use super::tls::TlsConfigs;
use super::{ConnectError, Connection, Incoming, StartError, Transport};
use crate::config::{TransportChoice, TunnelConfig};
use crate::telemetry::metrics::TransportKind;

/// Peers that connected and are not yet accepted by the tunnel. Further ones wait in quinn's own
/// queue, or in the kernel's.
const KNOCKS: usize = 16;

/// Times that a port of the system's choice is tried, until both UDP and TCP have it.
const PORTS_TRIED: usize = 16;

/// The started transports.
pub(crate) struct Transports {
    quic: Option<Quic>,
    tcp: Option<Tcp>,
    arrivals: Mutex<mpsc::Receiver<Box<dyn Incoming>>>,
}

impl Transports {
    /// Binds every listening address, for each transport.
    pub(crate) fn start(
        config: &TunnelConfig,
        tls: &TlsConfigs,
        state_dir: &Path,
    ) -> Result<Self, StartError> {
        let mut tries = 1;
        loop {
            match Self::bind(config, tls, state_dir) {
                Err(StartError::Listen { protocol: "TCP", .. })
                    if config.transport == TransportChoice::Auto
                        && config.listen.iter().any(|address| address.port() == 0)
                        && tries < PORTS_TRIED =>
                {
                    tries += 1;
                }
                bound => return bound,
            }
        }
    }

    fn bind(config: &TunnelConfig, tls: &TlsConfigs, state_dir: &Path) -> Result<Self, StartError> {
        let (arrivals, waiting) = mpsc::channel(KNOCKS);
        let live = LiveQuicLinks::default();
        let quic = match config.transport {
            TransportChoice::Auto | TransportChoice::Quic => {
                Some(Quic::start(config, tls.clone(), state_dir, live.clone(), arrivals.clone())?)
            }
            TransportChoice::Tcp => None,
        };
        let listen = quic.as_ref().map_or_else(|| config.listen.clone(), Quic::listening);
        let tcp = match config.transport {
            TransportChoice::Auto | TransportChoice::Tcp => {
                Some(Tcp::start(&listen, config.idle_timeout, tls.clone(), live, arrivals)?)
            }
            TransportChoice::Quic => None,
        };
        Ok(Self { quic, tcp, arrivals: Mutex::new(waiting) })
    }

    /// Connects over one transport, and authenticates both sides.
    pub(crate) async fn dial(
        &self,
        transport: TransportKind,
        to: SocketAddr,
    ) -> Result<Arc<dyn Connection>, ConnectError> {
        let not_started = || ConnectError::Local(format!("{} is not started", transport.as_str()));
        match transport {
            TransportKind::Quic => self.quic.as_ref().ok_or_else(not_started)?.dial(to).await,
            TransportKind::Tcp => self.tcp.as_ref().ok_or_else(not_started)?.dial(to).await,
        }
    }

    /// Waits for the next peer that connects; `None` after the transports are closed.
    pub(crate) async fn accept(&self) -> Option<Box<dyn Incoming>> {
        self.arrivals.lock().await.recv().await
    }

    /// Returns the listening addresses, with the port that the system chose if the configured port
    /// is 0. Both transports have the same.
    pub(crate) fn listening(&self) -> Vec<SocketAddr> {
        let quic = self.quic.as_ref().map(Quic::listening);
        quic.or_else(|| self.tcp.as_ref().map(Tcp::listening)).unwrap_or_default()
    }

    /// Closes the remaining connections and waits for a limited time until the peers know.
    pub(crate) async fn close(&self) {
        let quic = async {
            if let Some(quic) = &self.quic {
                quic.close().await;
            }
        };
        let tcp = async {
            if let Some(tcp) = &self.tcp {
                tcp.close().await;
            }
        };
        tokio::join!(quic, tcp);
    }
}
