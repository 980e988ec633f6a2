//! The registry of an agent's metrics, with the metrics that both agents have: links, the audit
//! log, files, the log.
//!
//! An agent makes one [`Metrics`], registers its own instruments too, and passes it on. No label is
//! free text. So neither a brand's flood nor a stranger's input can increase the number of series,
//! and no personal value can get in.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::labelled::Labelled;
use super::lines;
use crate::labels;

labels! {
    /// Reason why a link was refused, by either side.
    RefusalReason as "reason" {
        /// A cloud agent where an IDC agent is expected, or the reverse.
        WrongRole = "wrong_role",
        /// Signed by another CA.
        UnknownCa = "unknown_ca",
        /// The certificate has expired.
        Expired = "expired",
        /// The certificate is not valid yet, or a clock is wrong.
        NotYetValid = "not_yet_valid",
        /// On the revocation list.
        Revoked = "revoked",
        /// The revocation list has expired.
        StaleCrl = "stale_crl",
        /// The peer showed no certificate.
        NoCertificate = "no_certificate",
        /// The certificate is not an agent's, or malformed.
        BadCertificate = "bad_certificate",
        /// A good identity that `tunnel.allow` does not list.
        NotAllowed = "not_allowed",
        /// The peer speaks another protocol (ALPN).
        ForeignProtocol = "foreign_protocol",
        /// There is no common key exchange. Usually one side has no ML-KEM.
        NoCommonGroup = "no_common_group",
        /// The handshake failed for another reason.
        Handshake = "handshake",
        /// The hello names no common version.
        Version = "version",
        /// The peer broke the rules of lanes or frames.
        Protocol = "protocol",
        /// Its handshake was unfinished when another one needed the room.
        Crowded = "crowded",
        /// It begins too many handshakes or links in a short time.
        TooOften = "too_often",
        /// It holds as many links as a peer may.
        TooMany = "too_many",
        /// Any other reason.
        Other = "other",
    }
}

labels! {
    /// Transport of a link.
    TransportKind as "transport" {
        /// QUIC, over UDP.
        Quic = "quic",
        /// TLS over TCP, one connection for each lane.
        Tcp = "tcp",
    }
}

labels! {
    /// Direction of a frame.
    Direction as "direction" {
        /// To the peer.
        Sent = "sent",
        /// From the peer.
        Received = "received",
    }
}

labels! {
    /// Kind of a thing that expires.
    Expiring as "what" {
        /// The agent's own certificate.
        Certificate = "certificate",
        /// The certificate of the CA.
        Ca = "ca",
        /// The revocation list.
        RevocationList = "revocation_list",
        /// The last of the sealing keys.
        SealingKey = "sealing_key",
    }
}

labels! {
    /// Files that are read again while the agent runs.
    FilesReread as "files" {
        /// The agent's certificate and key, the CA's certificate, the revocation list.
        Certificates = "certificates",
        /// IDC: the folder of keys.
        Keys = "keys",
    }
}

/// Instruments that both agents have, and the registry for all instruments. Counting is an atomic
/// addition. Share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,

    /// Links that carry traffic now.
    pub links_up: Labelled<TransportKind, Gauge>,
    /// Links that came up.
    pub links_opened: Labelled<TransportKind, Counter>,
    /// Links that went down after they were up.
    pub links_closed: Labelled<TransportKind, Counter>,
    /// Links that never came up, by reason.
    pub links_refused: Labelled<RefusalReason, Counter>,
    /// Frames on all lanes.
    pub frames: Labelled<Direction, Counter>,
    /// Bytes of those frames, with their lengths.
    pub frame_bytes: Labelled<Direction, Counter>,
    /// Durable entries of the audit log.
    pub audit_entries: Counter,
    /// Rounds of the audit log. Each makes its entries durable with one fsync.
    pub audit_rounds: Counter,
    /// 1 while the audit log can be written, 0 while it cannot and no new work is taken.
    pub audit_writable: Gauge,
    /// 1 while the audit log can be published; 0 from an attempt that failed or hangs until one
    /// succeeds.
    pub audit_publishable: Gauge,
    /// 1 while the log's size is noted beside its key; 0 from an attempt that failed or hangs until
    /// one succeeds.
    pub audit_noted: Gauge,
    /// Durable entries of the audit log that no checkpoint covers yet.
    audit_unpublished: Gauge,
    /// Attempts to publish the audit log that failed or took too long.
    pub audit_publish_errors: Counter,
    /// Seconds until the first item of a kind expires; NaN while none is known.
    pub(crate) expires: Labelled<Expiring, Gauge<f64, AtomicU64>>,
    /// Dropped lines of the log, because its reader did not keep up.
    log_lines_left_out: Counter,
    /// 1 while files on the disk are not in use, because they cannot be read or are wrong.
    pub files_not_in_force: Labelled<FilesReread, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("bridge"),
            links_up: Labelled::default(),
            links_opened: Labelled::default(),
            links_closed: Labelled::default(),
            links_refused: Labelled::default(),
            frames: Labelled::default(),
            frame_bytes: Labelled::default(),
            audit_entries: Counter::default(),
            audit_rounds: Counter::default(),
            audit_writable: Gauge::default(),
            audit_publishable: Gauge::default(),
            audit_noted: Gauge::default(),
            audit_unpublished: Gauge::default(),
            audit_publish_errors: Counter::default(),
            expires: Labelled::default(),
            log_lines_left_out: lines::left_out(),
            files_not_in_force: Labelled::default(),
        };
        for what in Expiring::ALL {
            metrics.expires.of(*what).set(f64::NAN);
        }
        metrics.registered()
    }
}

impl Metrics {
    /// Returns the registry for an agent's own instruments.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Sets the number of durable entries of the audit log that no checkpoint covers yet.
    pub fn set_audit_unpublished(&self, entries: u64) {
        self.audit_unpublished.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Returns the text of a scrape (OpenMetrics 1.0).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let _infallible = encode(&mut text, &self.registry);
        text
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register("links_up", "Links that carry traffic", self.links_up.clone());
        registry.register("links_opened", "Links that came up", self.links_opened.clone());
        registry.register("links_closed", "Links that went down", self.links_closed.clone());
        registry.register("links_refused", "Links that never came up", self.links_refused.clone());
        registry.register("frames", "Frames on all lanes", self.frames.clone());
        registry.register_with_unit("frame", "Bytes of those frames", Unit::Bytes, self.frame_bytes.clone());
        let help = "Entries of the audit log that are durable";
        registry.register("audit_entries", help, self.audit_entries.clone());
        let help = "Rounds of the audit log, one fsync each";
        registry.register("audit_rounds", help, self.audit_rounds.clone());
        let help = "1 while the audit log can be written";
        registry.register("audit_writable", help, self.audit_writable.clone());
        let help = "1 while the audit log can be published, 0 from an attempt that failed or hangs until one succeeds";
        registry.register("audit_publishable", help, self.audit_publishable.clone());
        let help = "1 while the audit log's size is noted beside its key, 0 from an attempt that failed or hangs until one succeeds";
        registry.register("audit_noted", help, self.audit_noted.clone());
        let help = "Time until the first of its kind expires; NaN while none is known";
        registry.register_with_unit("expires_in", help, Unit::Seconds, self.expires.clone());
        let help = "1 while files on the disk are not in force, because they cannot be read or used";
        registry.register("files_not_in_force", help, self.files_not_in_force.clone());
        let help = "Lines of the log that were left out, because its reader did not keep up";
        registry.register("log_lines_left_out", help, self.log_lines_left_out.clone());
        let help = "Entries of the audit log that are durable and under no checkpoint yet";
        registry.register("audit_unpublished", help, self.audit_unpublished.clone());
        let help = "Attempts to publish the audit log that failed or took too long";
        registry.register("audit_publish_errors", help, self.audit_publish_errors.clone());
        self
    }
}

/// Makes and registers an instrument.
pub fn entered<M: Metric + Default + Clone>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
