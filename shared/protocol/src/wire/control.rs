//! Messages of the control lane: first a hello, then heartbeats, and perhaps a goodbye at the end.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::version::{self, Versions};

/// Feature that both hellos must name for an IDC agent to send [`Grants`].
pub const CREDITS: &str = "credits";

/// One message on the control lane, in either direction.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    /// Kind of the message. `None` is a kind of a later version, which is ignored.
    #[prost(oneof = "message::Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<message::Kind>,
}

/// The kinds of control messages.
pub mod message {
    /// Content of a control message.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// The first frame on the lane.
        #[prost(message, tag = "1")]
        Hello(super::Hello),
        /// Sent once a second.
        #[prost(message, tag = "2")]
        Heartbeat(super::Heartbeat),
        /// This side will close the link after all pending requests are answered.
        #[prost(message, tag = "3")]
        Goodbye(super::Goodbye),
        /// The hello was refused. The link closes.
        #[prost(message, tag = "4")]
        Refused(super::Refused),
        /// A new sealing-key manifest, sent before its keys are needed.
        #[prost(message, tag = "5")]
        Manifest(super::Manifest),
        /// The current obstacles of an IDC agent. Agents of earlier releases neither send nor
        /// understand it.
        #[prost(message, tag = "6")]
        Readiness(super::Readiness),
        /// The requests that the receiver may have outstanding. Sent only if both hellos name
        /// [`CREDITS`](super::CREDITS).
        #[prost(message, tag = "7")]
        Grants(super::Grants),
    }
}

/// The sender's identity, versions, limits and sealing keys.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Lowest protocol version that the sender speaks.
    #[prost(uint32, tag = "1")]
    pub version_oldest: u32,
    /// Highest protocol version that the sender speaks.
    #[prost(uint32, tag = "2")]
    pub version_newest: u32,
    /// Optional features beyond the version, by name. Unknown names are ignored.
    #[prost(string, repeated, tag = "3")]
    pub features: Vec<String>,
    /// The agent's name in its configuration, for people.
    #[prost(string, tag = "4")]
    pub agent: String,
    /// The build, for people.
    #[prost(string, tag = "5")]
    pub build: String,
    /// The sender's clock, in microseconds since 1970-01-01 UTC.
    #[prost(int64, tag = "6")]
    pub clock_micros: i64,
    /// Order lanes that the dialler opens, 1 to 16.
    #[prost(uint32, tag = "7")]
    pub order_lanes: u32,
    /// Unanswered requests that the sender accepts on the link; 0 from a cloud agent.
    #[prost(uint32, tag = "8")]
    pub window: u32,
    /// The signed sealing-key manifest (a signed note); empty from a cloud agent.
    #[prost(bytes = "bytes", tag = "9")]
    pub manifest: Bytes,
    /// Unanswered requests that the sender accepts on the payment lane; 0 from a cloud agent.
    #[prost(uint32, tag = "10")]
    pub payment_window: u32,
    /// Interval of the sender's heartbeats, in milliseconds; 0 if unstated.
    #[prost(uint32, tag = "11")]
    pub heartbeat_millis: u32,
}

/// Sign of life, sent every second whatever else is sent.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Heartbeat {
    /// The sender's clock, in microseconds since 1970-01-01 UTC.
    #[prost(int64, tag = "1")]
    pub clock_micros: i64,
    /// Unanswered requests that the sender accepts on the link from now on.
    #[prost(uint32, tag = "2")]
    pub window: u32,
}

/// Asks for no new requests. Pending requests are still answered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Goodbye {
    /// Reason, for the log.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// Refusal of a hello.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// A sentence that says why, and who must do what.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// A sealing-key manifest as a signed note.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Manifest {
    /// The note's text, signatures included.
    #[prost(bytes = "bytes", tag = "1")]
    pub note: Bytes,
}

/// The obstacles of an IDC agent. It is sent after a link is up, and again after each change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Readiness {
    /// Numbers of [`Obstacle`]s; empty if there are none.
    #[prost(enumeration = "Obstacle", repeated, tag = "1")]
    pub obstacles: Vec<i32>,
}

/// Limits of the requests that a cloud agent may have outstanding at this IDC agent. A message
/// replaces the one before it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Grants {
    /// Number of the message. It rises with each message of an agent.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Milliseconds after which the message is no longer valid.
    #[prost(uint32, tag = "2")]
    pub expires_millis: u32,
    /// Limits by brand. A brand that is not listed has none.
    #[prost(message, repeated, tag = "3")]
    pub brands: Vec<BrandGrant>,
}

/// Limit of one brand.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BrandGrant {
    /// The brand.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// Orders and cancellations that may be outstanding.
    #[prost(uint32, tag = "2")]
    pub outstanding: u32,
    /// Those that the database commits in a second; 0 if that is not known.
    #[prost(uint32, tag = "3")]
    pub per_second: u32,
}

/// Obstacle of an IDC agent. The list is closed, so no text of a peer is ever shown to an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Obstacle {
    /// An obstacle that this build does not know.
    Other = 0,
    /// The ledger's database does not work. Nothing is committed.
    Database = 1,
    /// The audit log cannot be written. No request is taken.
    AuditLog = 2,
    /// The database fails all requests of some brand, and works for other brands.
    Brand = 3,
    /// The database reports no changes of the catalogue.
    Catalogue = 4,
    /// The audit log cannot be published. Soon no request will be taken.
    AuditUnpublished = 5,
}

impl Obstacle {
    /// Returns the stable code for `status` and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Database => "database",
            Self::AuditLog => "audit_log",
            Self::Brand => "brand",
            Self::Catalogue => "catalogue",
            Self::AuditUnpublished => "audit_unpublished",
        }
    }

    /// Returns true if the agent takes no orders because of it.
    pub const fn stops_orders(self) -> bool {
        matches!(self, Self::Database | Self::AuditLog)
    }
}

impl Readiness {
    /// Makes a message with these obstacles.
    pub fn of(obstacles: &BTreeSet<Obstacle>) -> Self {
        Self { obstacles: obstacles.iter().map(|obstacle| i32::from(*obstacle)).collect() }
    }

    /// Returns the obstacles, without duplicates.
    pub fn known(&self) -> BTreeSet<Obstacle> {
        self.obstacles.iter().map(|number| Obstacle::try_from(*number).unwrap_or(Obstacle::Other)).collect()
    }
}

impl Hello {
    /// Makes a hello with this build's versions. The caller fills in the rest.
    pub fn of_this_build(agent: &str) -> Self {
        Self {
            version_oldest: version::OLDEST,
            version_newest: version::NEWEST,
            agent: agent.to_owned(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            ..Self::default()
        }
    }

    /// Returns the versions that the sender speaks.
    pub fn versions(&self) -> Versions {
        Versions { oldest: self.version_oldest, newest: self.version_newest }
    }
}

macro_rules! control_from {
    ($($kind:ident),*) => { $(
        impl From<$kind> for Control {
            fn from(message: $kind) -> Self {
                Self { kind: Some(message::Kind::$kind(message)) }
            }
        }
    )* };
}
control_from!(Hello, Heartbeat, Goodbye, Refused, Manifest, Readiness, Grants);
