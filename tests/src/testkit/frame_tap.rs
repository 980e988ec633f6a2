//! A relay that ends the tunnel's TLS on either side, and writes down the frames that the two agents hand to it.
//!
//! On the line there is nothing to find, sealed or not: TLS hides all of it. So whoever asks what an agent gives away has
//! to look before TLS does. The agents have no switch for that, which could be left on: the relay has both agents' own
//! certificates and private keys, as nobody else does, and is to each agent the other one.
//!
//! ```text
//! FOLDER/link-001.control.idc-to-cloud    a file a lane and direction: its frames as they came, without the lane's preamble
//! ```
//!
//! It stands behind the [line](crate::testkit::wan), before the agent that listens. Lanes, their ends and the reason why a link was
//! closed pass as they are. Like the line it runs on a thread of its own.

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

/// As the agents name their protocol (RFC 7301).
const ALPN: &[u8] = b"bridge/1";
/// How long the agent that listens may take to answer; as long as the one that dials waits.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Taken from a stream at a time.
const CHUNK: usize = 64 << 10;
/// Much more than the agents allow each other, so that the relay is never what holds them up.
const WINDOW: u32 = 64 << 20;
/// More lanes than a link has.
const LANES_MAX: u32 = 64;
/// Closes a link whose other half ended without a word. The agents have no such code, and take it for one of a later version.
const OTHER_HALF_BROKE: VarInt = VarInt::from_u32(99);

/// What an agent proves by that it is one.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `cloud` or `idc`: how the files name its side.
    pub side: &'static str,
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The private key's file.
    pub key: PathBuf,
}

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub struct FrameTap {
    address: SocketAddr,
    _relay: RelayThread,
}

impl FrameTap {
    /// Relays between whoever dials [`FrameTap::address`], a port of `at`, and `target`, and keeps the frames in the new folder
    /// `kept`.
    ///
    /// # Errors
    /// When the folder cannot be made, the credentials cannot be used or no socket can be bound.
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
        // An endpoint belongs to the runtime that it is made in.
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

    /// Where the agent that dials is led to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Any port of this machine.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn relay(near: Endpoint, far: Endpoint, target: SocketAddr, sides: [&'static str; 2], folder: PathBuf) {
    let mut number = 0;
    while let Some(incoming) = near.accept().await {
        number += 1;
        let kept = FrameFiles { folder: folder.clone(), link: number, sides };
        tokio::spawn(link(incoming, far.clone(), target, kept));
    }
}

/// One link: it stands once the agent behind the relay has answered, and ends as soon as either half does.
async fn link(incoming: Incoming, endpoint: Endpoint, target: SocketAddr, kept: FrameFiles) {
    let dialled = async { endpoint.connect(target, "bridge").ok()?.await.ok() };
    let Ok(Some(far)) = timeout(ANSWERS_WITHIN, dialled).await else {
        // As if nobody listened there.
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

/// Ends one half as the other one was ended.
fn close(half: &Connection, why: &ConnectionError) {
    match why {
        ConnectionError::ApplicationClosed(close) => half.close(close.error_code, &close.reason),
        why => half.close(OTHER_HALF_BROKE, format!("the other half of the link: {why}").as_bytes()),
    }
}

/// Carries every lane that the dialling agent opens.
async fn lanes(near: &Connection, far: &Connection, kept: &FrameFiles) {
    while let Ok((back, mut there)) = near.accept_bi().await {
        let (far, kept) = (far.clone(), kept.clone());
        tokio::spawn(async move {
            let mut preamble = [0; PREAMBLE_BYTES];
            // What opens no lane is no lane to carry; the agents' own tests hold what they do with it.
            there.read_exact(&mut preamble).await.ok()?;
            let lane = Lane::from_preamble(preamble).ok()?;
            let (mut onwards, returning) = far.open_bi().await.ok()?;
            onwards.write_all(&preamble).await.ok()?;
            let [dials, listens] = kept.sides;
            let (asked, answered) =
                (kept.file(lane, dials, listens).ok()?, kept.file(lane, listens, dials).ok()?);
            for stream in [&onwards, &back] {
                // Fails only on a stream that is closed already.
                let _closed_already = stream.set_priority(priority(lane));
            }
            tokio::join!(carry(there, onwards, asked), carry(returning, back, answered));
            Some(())
        });
    }
}

/// As the agents have it, so that the relay does not change what waits for what.
fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Control => 1,
        Lane::Order(_) | Lane::Payment => 0,
        Lane::Feed => -1,
    }
}

/// Carries one direction of a lane to its end; what is not kept is not carried.
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

/// Where the frames of one link go.
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

/// The relay asks nobody who he is: it is on this machine, and has to be found by the agents alone.
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

/// Idle links are ended by the agents' own time-outs, of which QUIC takes the shorter.
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

/// Takes whoever answers for the agent that listens.
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
