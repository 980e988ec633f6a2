//! A relay that ends the tunnel's TLS on both sides, and writes the agents' frames to files.
//!
//! TLS encrypts everything on the line, whether the content is sealed or not. A search for personal
//! data must therefore read the frames before TLS encrypts them. The agents have no switch for
//! that, because such a switch might stay on in production. Instead, the relay has the
//! certificates and private keys of both agents, and acts towards each agent as the other one.
//!
//! ```text
//! FOLDER/link-001.control.idc-to-cloud    one file for each lane and direction; its frames as they
//!                                         came, without the lane's preamble
//! ```
//!
//! The relay stands behind the [line](crate::testkit::wan), before the agent that listens. It
//! passes on lanes, their ends and the reason of a link's end without a change. It runs on its own
//! thread.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bridge_protocol::wire::lane::{Lane, PREAMBLE_BYTES};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    Connection, ConnectionError, Endpoint, Incoming, ReadError, RecvStream, SendStream, TransportConfig,
    VarInt, WriteError,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;

use crate::testkit::relay_thread::RelayThread;

/// The agents' protocol name in the handshake (RFC 7301).
const ALPN: &[u8] = b"bridge/1";
/// Time for the listening agent's answer. It is the same as the dialling agent's own limit.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Most bytes that are read from a stream at once.
const CHUNK: usize = 64 << 10;
/// Flow-control window in bytes. It is much larger than the agents' own, so the relay never slows
/// them.
const WINDOW: u32 = 64 << 20;
/// Most lanes; a link has fewer.
const LANES_MAX: u32 = 64;
/// Close code for a link whose other half ended without a code. The agents do not know this code,
/// and treat it as one of a later version.
const OTHER_HALF_BROKE: VarInt = VarInt::from_u32(99);

/// Certificate and key of an agent.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Name of the agent's side in file names: `cloud` or `idc`.
    pub side: &'static str,
    /// Path of the certificate.
    pub certificate: PathBuf,
    /// Path of the private key.
    pub key: PathBuf,
}

/// A running relay. It ends when this value is dropped.
#[derive(Debug)]
pub struct FrameTap {
    address: SocketAddr,
    _relay: RelayThread,
}

impl FrameTap {
    /// Starts a relay to `target`. The dialling agent connects to [`FrameTap::address`], a port of
    /// `at`. The relay writes the frames into the new folder `kept`.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be made, the credentials cannot be used or no socket can be
    /// bound.
    pub fn start(
        at: IpAddr,
        target: SocketAddr,
        dials: Credentials,
        listens: Credentials,
        kept: &Path,
    ) -> Result<FrameTap> {
        fs::create_dir_all(kept).with_context(|| format!("make {}", kept.display()))?;
        let runtime = RelayThread::runtime()?;
        let (sides, kept) = ([dials.side, listens.side], kept.to_owned());
        let (server, client) = (server_config(&listens)?, client_config(&dials)?);
        // An endpoint belongs to the runtime in which it was made.
        let (near, far) = {
            let _entered = runtime.enter();
            let (near, mut far) =
                (Endpoint::server(server, SocketAddr::new(at, 0))?, Endpoint::client(HERE)?);
            far.set_default_client_config(client);
            (near, far)
        };
        let address = near.local_addr()?;
        let relay = move || relay(near, far, target, sides, kept);
        let relay = RelayThread::start("frame tap", runtime, relay)?;
        Ok(FrameTap { address, _relay: relay })
    }

    /// Returns the address for the dialling agent.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Any free loopback port.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn relay(near: Endpoint, far: Endpoint, target: SocketAddr, sides: [&'static str; 2], folder: PathBuf) {
    let mut number = 0;
    while let Some(incoming) = near.accept().await {
        number += 1;
        let kept = FrameFiles { folder: folder.clone(), link: number, sides };
        tokio::spawn(link(incoming, far.clone(), target, kept));
    }
}

/// Relays one link. It is up once the listening agent has answered, and ends as soon as either half
/// ends.
async fn link(incoming: Incoming, endpoint: Endpoint, target: SocketAddr, kept: FrameFiles) {
    let dialled = async { endpoint.connect(target, "bridge").ok()?.await.ok() };
    let Ok(Some(far)) = timeout(ANSWERS_WITHIN, dialled).await else {
        // The dialling agent sees an address without a listener.
        return incoming.ignore();
    };
    let near = match incoming.accept() {
        Ok(connecting) => connecting.await,
        Err(error) => Err(error),
    };
    match near {
        Ok(near) => {
            let lanes = lanes(&near, &far, &kept);
            tokio::select! {
                _ = lanes => {}
                why = near.closed() => close(&far, &why),
                why = far.closed() => close(&near, &why),
            }
        }
        Err(why) => close(&far, &why),
    }
}

/// Closes one half with the reason why the other half was closed.
fn close(half: &Connection, why: &ConnectionError) {
    match why {
        ConnectionError::ApplicationClosed(close) => half.close(close.error_code, &close.reason),
        why => half.close(OTHER_HALF_BROKE, format!("the other half of the link: {why}").as_bytes()),
    }
}

/// Relays every lane that the dialling agent opens.
async fn lanes(near: &Connection, far: &Connection, kept: &FrameFiles) {
    while let Ok((back, mut there)) = near.accept_bi().await {
        let (far, kept) = (far.clone(), kept.clone());
        tokio::spawn(async move {
            let mut preamble = [0; PREAMBLE_BYTES];
            // A stream without a valid preamble is not relayed. The agents' own tests cover such
            // streams.
            there.read_exact(&mut preamble).await.ok()?;
            let lane = Lane::from_preamble(preamble).ok()?;
            let (mut onwards, returning) = far.open_bi().await.ok()?;
            onwards.write_all(&preamble).await.ok()?;
            let [dials, listens] = kept.sides;
            let (asked, answered) =
                (kept.file(lane, dials, listens).ok()?, kept.file(lane, listens, dials).ok()?);
            for stream in [&onwards, &back] {
                // Fails only on a stream that is already closed.
                let _closed_already = stream.set_priority(priority(lane));
            }
            tokio::join!(carry(there, onwards, asked), carry(returning, back, answered));
            Some(())
        });
    }
}

/// Returns a lane's priority. It is the agents' own, so that the relay does not change the order of
/// lanes.
fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Control => 1,
        Lane::Order(_) | Lane::Payment => 0,
        Lane::Feed => -1,
    }
}

/// Relays one direction of a lane to its end. The lane also ends if a chunk cannot be written to
/// the file.
async fn carry(mut from: RecvStream, mut to: SendStream, mut kept: File) {
    loop {
        let chunk = match from.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) => {
                let _closed_already = to.finish();
                return;
            }
            Err(ReadError::Reset(code)) => {
                let _closed_already = to.reset(code);
                return;
            }
            Err(_) => return,
        };
        if kept.write_all(&chunk).is_err() {
            return;
        }
        match to.write_chunk(chunk).await {
            Ok(()) => {}
            Err(WriteError::Stopped(code)) => {
                let _closed_already = from.stop(code);
                return;
            }
            Err(_) => return,
        }
    }
}

/// Files for the frames of one link.
#[derive(Clone, Debug)]
struct FrameFiles {
    folder: PathBuf,
    link: u32,
    sides: [&'static str; 2],
}

impl FrameFiles {
    fn file(&self, lane: Lane, from: &str, to: &str) -> std::io::Result<File> {
        let lane = match lane {
            Lane::Control => "control".to_owned(),
            Lane::Order(index) => format!("order-{index}"),
            Lane::Feed => "feed".to_owned(),
            Lane::Payment => "payment".to_owned(),
        };
        File::create(self.folder.join(format!("link-{:03}.{lane}.{from}-to-{to}", self.link)))
    }
}

fn certificates(of: &Credentials) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let chain = CertificateDer::pem_slice_iter(&read(&of.certificate)?).collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_slice(&read(&of.key)?)?))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Makes the configuration of the side that accepts. It demands no client certificate, because the
/// relay is only reachable from this machine.
fn server_config(listens: &Credentials) -> Result<quinn::ServerConfig> {
    let (chain, key) = certificates(listens)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}

fn client_config(dials: &Credentials) -> Result<quinn::ClientConfig> {
    let (chain, key) = certificates(dials)?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
        .with_client_auth_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_sni = false;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}

/// Sets no idle timeout: the agents' own timeouts end idle links, since QUIC takes the shorter of
/// both (RFC 9000, section 10.1).
fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(LANES_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(WINDOW.into())
        .send_fairness(false)
        .initial_rtt(Duration::from_millis(50))
        .max_idle_timeout(None)
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

/// Accepts any certificate of the listening agent.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
