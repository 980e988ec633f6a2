//! The control lane's messages: hello first, then heartbeats, at the end perhaps a goodbye.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::version::{self, Versions};

/// One message on the control lane, either way.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    /// What it says; `None` is a kind that a later version added, to be ignored.
    #[prost(oneof = "message::Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<message::Kind>,
}

/// The kinds of control messages.
pub mod message {
    /// What a control message says.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// The first frame on the lane.
        #[prost(message, tag = "1")]
        Hello(super::Hello),
        /// Once a second.
        #[prost(message, tag = "2")]
        Heartbeat(super::Heartbeat),
        /// This side will close the link when what is under way has been answered.
        #[prost(message, tag = "3")]
        Goodbye(super::Goodbye),
        /// The hello was refused; the link closes.
        #[prost(message, tag = "4")]
        Refused(super::Refused),
        /// A new sealing-key manifest, before its keys are needed.
        #[prost(message, tag = "5")]
        Manifest(super::Manifest),
        /// What is in the way of an IDC agent now. An agent of an earlier release says and hears nothing of it.
        #[prost(message, tag = "6")]
        Readiness(super::Readiness),
    }
}

/// Who speaks, which versions, and the keys to seal to.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Lowest protocol version spoken.
    #[prost(uint32, tag = "1")]
    pub version_oldest: u32,
    /// Highest protocol version spoken.
    #[prost(uint32, tag = "2")]
    pub version_newest: u32,
    /// Optional abilities beyond the version, by name; unknown names are ignored.
    #[prost(string, repeated, tag = "3")]
    pub features: Vec<String>,
    /// The agent's name in its configuration, for people.
    #[prost(string, tag = "4")]
    pub agent: String,
    /// The build, for people.
    #[prost(string, tag = "5")]
    pub build: String,
    /// The sender's clock: microseconds since 1970-01-01 UTC.
    #[prost(int64, tag = "6")]
    pub clock_micros: i64,
    /// Order lanes that the dialler opens, 1 to 16.
    #[prost(uint32, tag = "7")]
    pub order_lanes: u32,
    /// Unanswered requests that the sender of this hello accepts on the link; 0 from a cloud agent.
    #[prost(uint32, tag = "8")]
    pub window: u32,
    /// The signed sealing-key manifest (a signed note); empty from a cloud agent.
    #[prost(bytes = "bytes", tag = "9")]
    pub manifest: Bytes,
    /// Unanswered requests that the sender of this hello accepts on the payment lane; 0 from a cloud agent.
    #[prost(uint32, tag = "10")]
    pub payment_window: u32,
    /// How often the sender of this hello will be heard, in milliseconds; 0 from one that does not say.
    #[prost(uint32, tag = "11")]
    pub heartbeat_millis: u32,
}

/// "I am here": sent every second, whatever else is.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Heartbeat {
    /// The sender's clock: microseconds since 1970-01-01 UTC.
    #[prost(int64, tag = "1")]
    pub clock_micros: i64,
    /// Unanswered requests that the sender accepts on the link from now on.
    #[prost(uint32, tag = "2")]
    pub window: u32,
}

/// No new requests, please; what is under way is still answered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Goodbye {
    /// Why, for the log.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// Why a hello is not accepted, in a sentence that says who must do what.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// The sentence.
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

/// What is in the way of an IDC agent: said once a link is up, and again whenever it changes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Readiness {
    /// Numbers of [`Obstacle`]s; none if nothing is in the way.
    #[prost(enumeration = "Obstacle", repeated, tag = "1")]
    pub obstacles: Vec<i32>,
}

/// What can be in the way of an IDC agent. A closed list: nothing that a peer writes is ever shown to an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Obstacle {
    /// One that this build has no word for.
    Other = 0,
    /// The ledger's database does not work: nothing is committed.
    Database = 1,
    /// The audit log cannot be written: nothing is taken.
    AuditLog = 2,
    /// The database does nothing of what some brand asks for, and works for others.
    Brand = 3,
    /// The database tells nothing of the catalogue's changes.
    Catalogue = 4,
    /// The audit log cannot be published: soon nothing is taken.
    AuditUnpublished = 5,
}

impl Obstacle {
    /// Its stable code, in `status` and in the metrics.
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

    /// Whether the agent takes no order while this is in its way.
    pub const fn stops_orders(self) -> bool {
        matches!(self, Self::Database | Self::AuditLog)
    }
}

impl Readiness {
    /// Says that these are in the way.
    pub fn of(obstacles: &BTreeSet<Obstacle>) -> Self {
        Self { obstacles: obstacles.iter().map(|obstacle| i32::from(*obstacle)).collect() }
    }

    /// What is in the way, each once, however often it was said.
    pub fn known(&self) -> BTreeSet<Obstacle> {
        self.obstacles.iter().map(|number| Obstacle::try_from(*number).unwrap_or(Obstacle::Other)).collect()
    }
}

impl Hello {
    /// A hello with this build's versions; the caller fills in the rest.
    pub fn of_this_build(agent: &str) -> Self {
        Self {
            version_oldest: version::OLDEST,
            version_newest: version::NEWEST,
            agent: agent.to_owned(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            ..Self::default()
        }
    }

    /// The versions that its sender speaks.
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
control_from!(Hello, Heartbeat, Goodbye, Refused, Manifest, Readiness);
