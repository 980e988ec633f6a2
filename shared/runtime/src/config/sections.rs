//! Sections that both agents have: the agent itself, its admin listener, its audit log, its log and
//! its tunnel.
//!
//! Each key has one line with its default. The agents' sample files explain the keys.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_protocol::domain::identity::Role;
use bridge_protocol::wire::lane::ORDER_LANES_MAX;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::beside::Beside;

use super::reader::Reader;
use super::secret::SecretFile;
use super::values::{BitRate, ByteSize, CollectorUrl, DialTarget, InputFile, NAME_RULE, is_name};

/// Most connections that an agent may be configured to hold to one address.
pub const LINKS_PER_PEER_MAX: u8 = 8;

/// `[agent]`: the agent's name and the folder for its lasting state.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name for peers and for `status`. The certificate is the agent's identity, not this name.
    pub name: String,
    /// Folder, created at the start if it is missing.
    pub state_dir: PathBuf,
}

impl AgentConfig {
    /// Reads `[agent]`.
    pub fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("agent");
        let config = Self { name: section.required("name"), state_dir: section.required("state_dir") };
        if !is_name(&config.name) {
            section.refuse("name", NAME_RULE);
        }
        config
    }
}

/// `[admin]`: health, metrics and status.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// A loopback address, because the listener needs no password.
    pub listen: SocketAddr,
}

impl AdminConfig {
    /// Reads `[admin]`. The agents have different default addresses.
    pub fn read(reader: &mut Reader, listen: &str) -> Self {
        let mut section = reader.section("admin");
        let config = Self { listen: section.or("listen", listen) };
        if !config.listen.ip().is_loopback() {
            section.refuse(
                "listen",
                "must be a loopback address such as 127.0.0.1 or [::1]: it answers without a password",
            );
        }
        config
    }
}

/// `[audit]`: folder, key and name of the audit log.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Folder of the log, created at the first start.
    pub dir: PathBuf,
    /// The log's signing key, created at the first start, readable by its owner only. It is not in
    /// the folder, so that a copy of the log cannot be signed.
    pub key_file: PathBuf,
    /// Name of the log, in its key and every checkpoint.
    pub origin: String,
    /// Time between two checkpoints while there are new entries.
    pub publish_every: Duration,
    /// Longest time that the disk may take to make an entry durable. After it, waiting callers get
    /// an answer, and no new entries are taken until the disk answers.
    pub write_within: Duration,
}

impl AuditConfig {
    /// Reads `[audit]` of an agent of this role.
    pub fn read(reader: &mut Reader, role: Role, agent: &AgentConfig) -> Self {
        let mut section = reader.section("audit");
        let dir: Option<PathBuf> = section.optional("dir");
        let key_file: Option<PathBuf> = section.optional("key_file");
        let origin: Option<String> = section.optional("origin");
        let fits = |origin: &str| {
            (1..=100).contains(&origin.len()) && !origin.contains(|c: char| c.is_whitespace() || c == '+')
        };
        if !origin.as_deref().is_none_or(fits) {
            section.refuse(
                "origin",
                "must be 1 to 100 characters without spaces and plus signs, such as \"shop.example/audit/seoul-1\"",
            );
        }
        let is_taken = |key: &Path| {
            let ending = key.extension().and_then(OsStr::to_str);
            Beside::ALL.iter().any(|beside| Some(beside.ending()) == ending)
        };
        if key_file.as_deref().is_some_and(is_taken) {
            section.refuse(
                "key_file",
                "must not end in .seen, .last, .sock or .new: files beside the key have such names; \"audit.key\" is usual",
            );
        }
        Self {
            dir: dir.unwrap_or_else(|| agent.state_dir.join("audit")),
            key_file: key_file.unwrap_or_else(|| agent.state_dir.join("audit.key")),
            origin: origin.unwrap_or_else(|| format!("bridge.internal/{role}/{}", agent.name)),
            publish_every: section.within("publish_every", "10ms"..="1h", "1s"),
            write_within: section.within("write_within", "1s"..="1m", "5s"),
        }
    }
}

/// `[log]`: form and destination of the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Form of a log line.
    pub format: LogFormat,
    /// Filter in the syntax of `tracing_subscriber::EnvFilter`.
    pub level: String,
    /// OpenTelemetry collector for traces, if any.
    pub otlp: Option<CollectorUrl>,
}

/// Names under which the agents' own crates log.
const OWN_PARTS: [&str; 4] = ["bridge_cloud", "bridge_idc", "bridge_protocol", "bridge_runtime"];

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for each event.
    #[default]
    Human,
    /// One JSON object for each event.
    Json,
}

impl LogConfig {
    /// Reads `[log]`.
    pub fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("log");
        let config = Self {
            format: section.choice(
                "format",
                "human",
                &[("human", LogFormat::Human), ("json", LogFormat::Json)],
            ),
            level: section.or("level", "info"),
            otlp: section.optional("otlp"),
        };
        let expected =
            "must be off, error, warn, info, debug, trace or a filter such as \"info,bridge_runtime=debug\"";
        if let Err(error) = EnvFilter::try_new(&config.level) {
            section.refuse("level", format!("{expected}: {error}"));
        }
        if let Some(word) = unknown_word(&config.level) {
            section.refuse("level", format!("{expected}: {word:?} is no level and no part of the agents"));
        }
        config
    }
}

/// Returns the first single word of a filter that is no level and no part of the agents. The filter
/// takes it for a part's name, and logs nothing of all other parts.
fn unknown_word(filter: &str) -> Option<&str> {
    let is_single = |word: &&str| !word.is_empty() && !word.contains(['=', '[']);
    let is_known = |word: &str| {
        let is_own = OWN_PARTS.contains(&word.split("::").next().unwrap_or_default());
        is_own || word.parse::<LevelFilter>().is_ok()
    };
    filter.split(',').map(str::trim).filter(is_single).find(|word| !is_known(word))
}

/// `[tunnel]`: the encrypted links between the agents.
#[derive(Clone, Debug)]
pub struct TunnelConfig {
    /// Certificate chain of this agent (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM), readable by its owner only.
    pub key: PathBuf,
    /// Certificate of the CA (PEM). Peers that it has not signed are refused.
    pub ca: PathBuf,
    /// Revocation list of the CA (PEM).
    pub crl: PathBuf,
    /// Addresses for peers that dial in; may be empty if `dial` is not.
    pub listen: Vec<SocketAddr>,
    /// Peers to dial; may be empty if `listen` is not.
    pub dial: Vec<DialTarget>,
    /// Transport of the links that this side dials, and of those that it accepts.
    pub transport: TransportChoice,
    /// SPIFFE IDs of the peers that may link; empty for all agents of the other role under this CA.
    pub allow: Vec<String>,
    /// Requirement on the key exchange.
    pub post_quantum: PostQuantum,
    /// Lanes for orders, 1 to [`ORDER_LANES_MAX`].
    pub order_lanes: u8,
    /// Rate that congestion control keeps in spite of random loss; `None` is plain CUBIC.
    pub committed_rate: Option<BitRate>,
    /// Connections to each address of a peer, 1 to [`LINKS_PER_PEER_MAX`].
    pub links_per_peer: u8,
    /// Most links that one peer may dial, [`LINKS_PER_PEER_MAX`] to 1024.
    pub links_from_peer_max: usize,
    /// Kernel buffer to ask for, for each UDP socket and direction.
    pub udp_buffer: ByteSize,
    /// Time without a packet after which a link is closed.
    pub idle_timeout: Duration,
    /// Interval of heartbeats on the control lane.
    pub heartbeat: Duration,
    /// Time without a heartbeat after which a link gets no new orders; longer than `heartbeat`,
    /// shorter than `idle_timeout`.
    pub silent_after: Duration,
}

/// Transports that an agent dials with and listens for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// Both: an agent dials with the one that carries data, and accepts each.
    Auto,
    /// QUIC, over UDP.
    #[default]
    Quic,
    /// TLS over TCP.
    Tcp,
}

/// Requirement on the tunnel's key exchange to withstand a quantum computer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostQuantum {
    /// Only X25519MLKEM768 is offered.
    #[default]
    Require,
    /// X25519MLKEM768 is offered first, then classical groups.
    Prefer,
    /// Only classical groups are offered.
    Off,
}

impl TunnelConfig {
    /// Returns the addresses that the tunnel listens on over TCP, with their setting. No other
    /// listener can have them.
    pub fn tcp_listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        if self.transport == TransportChoice::Quic {
            return Vec::new();
        }
        self.listen.iter().map(|address| ("tunnel.listen", *address)).collect()
    }

    /// Reads `[tunnel]`.
    pub fn read(reader: &mut Reader) -> Self {
        let post_quantum =
            [("require", PostQuantum::Require), ("prefer", PostQuantum::Prefer), ("off", PostQuantum::Off)];
        let transport =
            [("auto", TransportChoice::Auto), ("quic", TransportChoice::Quic), ("tcp", TransportChoice::Tcp)];
        let mut section = reader.section("tunnel");
        let config = Self {
            certificate: section.required::<InputFile>("certificate").into_path(),
            key: section.required::<SecretFile>("key").into_path(),
            ca: section.required::<InputFile>("ca").into_path(),
            crl: section.required::<InputFile>("crl").into_path(),
            listen: section.list("listen"),
            dial: section.list("dial"),
            transport: section.choice("transport", "quic", &transport),
            allow: section.list("allow"),
            post_quantum: section.choice("post_quantum", "require", &post_quantum),
            order_lanes: section.number("order_lanes", 1..=u64::from(ORDER_LANES_MAX), 4),
            committed_rate: section.within_or_off("committed_rate", "64 kbit/s"..="100 Gbit/s", "50 Mbit/s"),
            links_per_peer: section.number("links_per_peer", 1..=u64::from(LINKS_PER_PEER_MAX), 1),
            // A peer that is configured to hold the most links must be let in.
            links_from_peer_max: section.number(
                "links_from_peer_max",
                u64::from(LINKS_PER_PEER_MAX)..=1_024,
                32,
            ),
            udp_buffer: section.within("udp_buffer", "64 KiB"..="1 GiB", "8 MiB"),
            idle_timeout: section.within("idle_timeout", "2s"..="10m", "12s"),
            heartbeat: section.within("heartbeat", "100ms"..="30s", "1s"),
            silent_after: section.within("silent_after", "500ms"..="2m", "3s"),
        };
        if config.listen.is_empty() && config.dial.is_empty() {
            section.refuse(
                "listen",
                "must not be empty while tunnel.dial is: one side must dial and the other must listen",
            );
        }
        if config.allow.iter().any(|id| !id.starts_with("spiffe://")) {
            section.refuse("allow", "must hold SPIFFE IDs such as \"spiffe://example.com/idc/seoul\"");
        }
        let listeners: Vec<_> = config.listen.iter().map(|address| ("tunnel.listen", *address)).collect();
        section.refuse_shared(&listeners);
        if config.silent_after <= config.heartbeat {
            section.refuse(
                "silent_after",
                "must be longer than tunnel.heartbeat, or every link is always silent",
            );
        }
        if config.idle_timeout <= config.silent_after {
            section.refuse(
                "idle_timeout",
                "must be longer than tunnel.silent_after, or a link is closed before it is spared",
            );
        }
        config
    }
}
