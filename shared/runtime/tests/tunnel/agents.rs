//! Agents for the tests: a certificate authority in memory, tunnels that start from its files, and
//! their log.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use bridge_certs::{Ca, Issued, Revoked, Validity};
use bridge_protocol::domain::identity::Role;
use bridge_runtime::config::{ByteSize, DialTarget, PostQuantum, TransportChoice, TunnelConfig};
use bridge_runtime::shutdown::Shutdown;
use bridge_runtime::telemetry::metrics::{Metrics, RefusalReason};
use bridge_runtime::tunnel::{
    Events, FeedEvent, Greeting, LinkUp, Started, Tunnel, TunnelError, TunnelEvent, TunnelHandle,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing_subscriber::fmt::MakeWriter;

/// Upper limit of a wait. It decides no test, and only ends one that would hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const EVERY_REASON: [RefusalReason; 18] = [
    RefusalReason::WrongRole,
    RefusalReason::UnknownCa,
    RefusalReason::Expired,
    RefusalReason::NotYetValid,
    RefusalReason::Revoked,
    RefusalReason::StaleCrl,
    RefusalReason::NoCertificate,
    RefusalReason::BadCertificate,
    RefusalReason::NotAllowed,
    RefusalReason::ForeignProtocol,
    RefusalReason::NoCommonGroup,
    RefusalReason::Handshake,
    RefusalReason::Version,
    RefusalReason::Protocol,
    RefusalReason::Crowded,
    RefusalReason::TooOften,
    RefusalReason::TooMany,
    RefusalReason::Other,
];

pub(crate) fn ca() -> Ca {
    Ca::generate("bridge.test", days(365)).unwrap()
}

pub(crate) fn days(days: u32) -> Validity {
    Validity::days(SystemTime::now(), days).unwrap()
}

/// Returns a validity that begins and ends this many seconds from now.
pub(crate) fn span(from: i64, to: i64) -> Validity {
    let at = |seconds: i64| {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        if seconds < 0 { now - distance } else { now + distance }
    };
    Validity::new(at(from), at(to)).unwrap()
}

pub(crate) fn issue(ca: &Ca, role: Role, name: &str) -> Issued {
    ca.issue(role, name, days(30)).unwrap()
}

thread_local! {
    /// Transport of the test on this thread. Each test has a thread of its own.
    static UNDER_TEST: Cell<TransportChoice> = const { Cell::new(TransportChoice::Quic) };
}

/// Makes all agents and strangers of this test use a transport.
pub(crate) fn over(transport: TransportChoice) {
    UNDER_TEST.set(transport);
}

/// Returns the transport of this test.
pub(crate) fn under_test() -> TransportChoice {
    UNDER_TEST.get()
}

/// An agent's folder, with its four files and its state.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) config: TunnelConfig,
    /// Features that the agent offers in its hello.
    pub(crate) features: Vec<String>,
}

impl Home {
    pub(crate) fn new(ca: &Ca, issued: &Issued) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("agent.pem"), &issued.certificate_pem).unwrap();
        write_key(&path("agent.key"), &issued.key_pem, 0o600);
        fs::write(path("ca.pem"), ca.certificate_pem()).unwrap();
        let config = TunnelConfig {
            certificate: path("agent.pem"),
            key: path("agent.key"),
            ca: path("ca.pem"),
            crl: path("crl.pem"),
            listen: Vec::new(),
            dial: Vec::new(),
            transport: under_test(),
            allow: Vec::new(),
            post_quantum: PostQuantum::Require,
            order_lanes: 3,
            committed_rate: None,
            links_per_peer: 1,
            links_from_peer_max: 32,
            udp_buffer: ByteSize::from_bytes(64 * 1024),
            idle_timeout: Duration::from_secs(12),
            heartbeat: Duration::from_millis(100),
            silent_after: Duration::from_secs(3),
        };
        let home = Self { dir, config, features: Vec::new() };
        home.revoke(ca, 1, &[]);
        home
    }

    /// Replaces the revocation list.
    pub(crate) fn revoke(&self, ca: &Ca, number: u64, revoked: &[&Issued]) {
        let revoked: Vec<_> = revoked
            .iter()
            .map(|issued| Revoked { serial: issued.serial.clone(), at: SystemTime::now() })
            .collect();
        fs::write(&self.config.crl, ca.sign_crl(number, &revoked, days(30)).unwrap()).unwrap();
    }

    pub(crate) fn listening(mut self) -> Self {
        self.config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        self
    }

    pub(crate) fn dialling(mut self, to: SocketAddr) -> Self {
        self.config.dial = vec![DialTarget { host: to.ip().to_string(), port: to.port() }];
        self
    }

    /// Makes the agent offer the feed.
    pub(crate) fn feeding(self) -> Self {
        self.knowing(bridge_protocol::wire::feed::FEATURE)
    }

    /// Makes the agent offer a feature in its hello.
    pub(crate) fn knowing(mut self, feature: &str) -> Self {
        self.features.push(feature.to_owned());
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut TunnelConfig)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) fn try_start(self, role: Role) -> Result<RunningTunnel, TunnelError> {
        let (greeting, greeted) = watch::channel(Greeting {
            agent: format!("test-{role}"),
            window: if role == Role::Idc { 100 } else { 0 },
            features: self.features.clone(),
            ..Greeting::default()
        });
        let metrics = Arc::new(Metrics::default());
        let shutdown = Shutdown::new();
        let state = self.dir.path().join("state");
        let Started { handle, events, feed } =
            Tunnel::start(&self.config, role, &state, greeted, metrics.clone(), None, shutdown.clone())?;
        Ok(RunningTunnel { home: self, handle, events, feed, greeting, metrics, shutdown })
    }

    pub(crate) fn start(self, role: Role) -> RunningTunnel {
        self.try_start(role).unwrap()
    }
}

pub(crate) fn write_key(path: &Path, pem: &str, mode: u32) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).unwrap();
    file.write_all(pem.as_bytes()).unwrap();
}

/// A running tunnel.
pub(crate) struct RunningTunnel {
    pub(crate) home: Home,
    pub(crate) handle: TunnelHandle,
    pub(crate) events: Events,
    pub(crate) feed: mpsc::Receiver<FeedEvent>,
    pub(crate) greeting: watch::Sender<Greeting>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: Shutdown,
}

impl RunningTunnel {
    pub(crate) fn address(&self) -> SocketAddr {
        self.handle.listening()[0]
    }

    /// Drops everything except the files on the disk.
    pub(crate) fn into_home(self) -> Home {
        self.home
    }

    pub(crate) async fn event(&mut self) -> TunnelEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("the tunnel still runs")
    }

    pub(crate) async fn feed_event(&mut self) -> FeedEvent {
        timeout(DEADLINE, self.feed.recv())
            .await
            .expect("a feed event in time")
            .expect("the tunnel still runs")
    }

    /// Waits for an event that `wanted` accepts, and skips others.
    pub(crate) async fn next<T>(&mut self, wanted: impl Fn(TunnelEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.event().await) {
                return found;
            }
        }
    }

    pub(crate) async fn up(&mut self) -> LinkUp {
        self.next(|event| match event {
            TunnelEvent::Up(up) => Some(up),
            _ => None,
        })
        .await
    }

    pub(crate) fn refused(&self, reason: RefusalReason) -> u64 {
        self.metrics.links_refused.of(reason).get()
    }

    /// Waits until a refusal is counted. Checks that it has this reason.
    pub(crate) async fn refusal(&self, reason: RefusalReason) {
        let any = || EVERY_REASON.iter().any(|reason| self.refused(*reason) > 0);
        eventually("a refusal is counted", any).await;
        for other in EVERY_REASON {
            assert_eq!(self.refused(other) > 0, other == reason, "{other:?}");
        }
    }
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, met).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The log of this test. Its runtime is single-threaded, so all of its tasks log here.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _installed: DefaultGuard,
}

impl Log {
    pub(crate) fn capture() -> Self {
        // With a single subscriber in the process, tracing asks the first thread that reaches an
        // event whether anybody listens, and caches the answer for all threads. A thread of another
        // test would then silence this one.
        static OTHERS: LazyLock<[Dispatch; 2]> =
            LazyLock::new(|| [(); 2].map(|()| Dispatch::new(NoSubscriber::new())));
        LazyLock::force(&OTHERS);
        let text = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(Lines(text.clone()))
            .finish();
        Self { text, _installed: tracing::subscriber::set_default(subscriber) }
    }

    /// Returns the lines that contain all of these parts.
    pub(crate) fn lines(&self, parts: &[&str]) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned();
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    }
}

#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
