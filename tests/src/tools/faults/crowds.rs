//! Crowds: callers who all ask at the same time, and peers who open a connection or begin a
//! handshake and then stay silent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bridge_protocol::domain::{OrderId, UnixMicros};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connecting, Endpoint};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};

use crate::testkit::http::Client;

/// Callers at the same time, and questions of each.
const ASKERS: usize = 400;
const QUESTIONS: usize = 20;

/// Handshakes that are begun: more than a tunnel keeps unfinished for one address.
const STRANGERS: usize = 500;

/// Connections that are opened: more than a listener keeps for one worker by default.
const CALLERS: usize = 500;

/// The preface of HTTP/2 and an empty SETTINGS frame (RFC 9113 sections 3.4 and 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Asks thousands of times for orders that do not exist. Each question goes to the ledger.
pub(super) async fn ask(storefront: SocketAddr, brand: &str, token: &str) -> Result<()> {
    let mut askers = JoinSet::new();
    for _ in 0..ASKERS {
        let (brand, token) = (brand.to_owned(), token.to_owned());
        askers.spawn(async move {
            let mut client = Client::new(storefront);
            for _ in 0..QUESTIONS {
                let order = OrderId::new(UnixMicros::new(1_795_343_485_000_000), rand::random());
                let path = format!("/v1/{brand}/orders/{order}");
                let answer = client.get(&path, Some(&token)).await?;
                ensure!(
                    matches!(answer.status.as_u16(), 200 | 404 | 503),
                    "a question is answered {}",
                    answer.status
                );
            }
            Ok(())
        });
    }
    askers.join_all().await.into_iter().collect()
}

/// Opens HTTP/2 connections that stay silent. They close when the result is dropped.
pub(super) async fn callers(storefront: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut silent = Vec::with_capacity(CALLERS);
    for _ in 0..CALLERS {
        let mut connection = TcpStream::connect(storefront).await.context("call the storefront")?;
        // The listener may have closed this connection for a newer one.
        let _closed = connection.write_all(PREFACE).await;
        silent.push(connection);
    }
    Ok(silent)
}

/// Handshakes that are begun and never finished. They end when this is dropped.
pub(super) struct Strangers {
    _begun: Vec<Connecting>,
    _endpoint: Endpoint,
    relay: JoinHandle<()>,
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

/// Begins handshakes. The listener's answers do not reach their clients.
pub(super) async fn strangers(tunnel: SocketAddr) -> Result<Strangers> {
    let (near, far) = (UdpSocket::bind(HERE).await?, UdpSocket::bind(HERE).await?);
    let relay_address = near.local_addr()?;
    far.connect(tunnel).await?;
    let relay = tokio::spawn(async move {
        let mut datagram = vec![0; 2_048];
        while let Ok(bytes) = near.recv(&mut datagram).await {
            let _lost = far.send(&datagram[..bytes]).await;
        }
    });
    let client = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));
    let endpoint = Endpoint::client(HERE)?;
    let begin = |_| endpoint.connect_with(client.clone(), relay_address, "stranger");
    let begun = (0..STRANGERS).map(begin).collect::<Result<Vec<_>, _>>()?;
    Ok(Strangers { _begun: begun, _endpoint: endpoint, relay })
}

/// Any free port of this machine.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
