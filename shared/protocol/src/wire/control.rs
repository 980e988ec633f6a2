//! The control lane's messages: hello first, then heartbeats, at the end perhaps a goodbye.

use bytes::Bytes;

use super::version::{self, Versions};

/// One message on the control lane, either way.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    /// What it says; `None` is a kind that a later version added, to be ignored.
    #[prost(oneof = "message::Kind", tags = "1, 2, 3, 4, 5")]
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
control_from!(Hello, Heartbeat, Goodbye, Refused, Manifest);
