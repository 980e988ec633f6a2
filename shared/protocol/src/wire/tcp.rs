//! A link over TCP: the bytes that come before a lane's own, and the messages of its anchor.
//!
//! Each lane is a TLS connection. The connection that opens first carries no lane: it is the
//! anchor, and stands for the link. Both ends derive the link's key from the anchor's TLS session.
//! Each lane opens with its preamble, as over QUIC, and then with this key, which shows to which
//! link it belongs. After that its bytes are those of a lane over QUIC.
//!
//! The anchor carries what QUIC does for a whole connection: signs of life, the round trip, and the
//! reason of the end.

use std::fmt;

use bytes::Bytes;

use super::lane::{Lane, PREAMBLE_BYTES, PreambleError};

/// Largest frame on an anchor: the end of the link with its sentence.
pub const ANCHOR_FRAME_BYTES_MAX: usize = 2 * 1024;

/// Label under which both ends derive the link's key from the anchor's TLS session (an exporter,
/// RFC 8446 section 7.5, without context).
pub const LINK_KEY_LABEL: &[u8] = b"EXPORTER-bridge-link-key";

/// Length of a link's key.
pub const LINK_KEY_BYTES: usize = 32;

/// A link's secret, which only the two ends of its anchor know.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkKey(pub [u8; LINK_KEY_BYTES]);

/// The key is a secret, so it is not shown.
impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(..)")
    }
}

/// The first eight bytes of an anchor. They have the form of a lane's preamble, with a kind that no
/// lane has.
pub const ANCHOR_PREAMBLE: [u8; PREAMBLE_BYTES] = *b"BRDG\x01\x80\x00\x00";

/// Opening of a TLS connection, read from its first eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It is the anchor of a new link.
    Anchor,
    /// It is this lane. The key of its link follows.
    Lane(Lane),
}

impl Opening {
    /// Reads the first eight bytes of a connection.
    ///
    /// # Errors
    ///
    /// Fails if the bytes open neither an anchor nor a lane that this build knows.
    pub fn from_bytes(bytes: [u8; PREAMBLE_BYTES]) -> Result<Self, PreambleError> {
        if bytes == ANCHOR_PREAMBLE { Ok(Self::Anchor) } else { Lane::from_preamble(bytes).map(Self::Lane) }
    }
}

/// Returns the bytes that open a lane of the link with this key.
pub fn lane_opening(lane: Lane, key: LinkKey) -> [u8; PREAMBLE_BYTES + LINK_KEY_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES + LINK_KEY_BYTES];
    let (preamble, rest) = bytes.split_at_mut(PREAMBLE_BYTES);
    preamble.copy_from_slice(&lane.preamble());
    rest.copy_from_slice(&key.0);
    bytes
}

/// One message on an anchor, in either direction.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Anchor {
    /// Kind of the message. `None` is a kind of a later version, which is ignored.
    #[prost(oneof = "anchor::Kind", tags = "1, 2, 3, 4")]
    pub kind: Option<anchor::Kind>,
}

/// The kinds of an anchor's messages.
pub mod anchor {
    /// Content of an anchor's message.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// Asks for a pong at once.
        #[prost(message, tag = "1")]
        Ping(super::Ping),
        /// Answers a ping.
        #[prost(message, tag = "2")]
        Pong(super::Pong),
        /// Ends the link. It is the last message.
        #[prost(message, tag = "3")]
        Close(super::Close),
        /// Ends another link of the sender, which this one replaces.
        #[prost(message, tag = "4")]
        Replaces(super::Replaces),
    }
}

/// Asks for a pong, as a sign of life and to measure the round trip. The dialler's first one
/// follows its preamble, and the pong says that lanes may open.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ping {
    /// Number for the pong.
    #[prost(uint64, tag = "1")]
    pub number: u64,
}

/// Answers a ping.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pong {
    /// Number of the ping.
    #[prost(uint64, tag = "1")]
    pub number: u64,
}

/// Ends the link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Close {
    /// Code of the reason, as in QUIC's close.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// The reason for the peer's log.
    #[prost(string, tag = "2")]
    pub sentence: String,
}

/// Ends another link of the sender, which this one replaces: a link over QUIC, whose own packets do
/// not arrive any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Replaces {
    /// The other link's key, derived from its TLS session under [`LINK_KEY_LABEL`]; 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
}

macro_rules! anchor_from {
    ($($kind:ident),*) => { $(
        impl From<$kind> for Anchor {
            fn from(message: $kind) -> Self {
                Self { kind: Some(anchor::Kind::$kind(message)) }
            }
        }
    )* };
}
anchor_from!(Ping, Pong, Close, Replaces);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_opens_as_an_anchor_as_a_lane_or_not() {
        assert_eq!(Opening::from_bytes(ANCHOR_PREAMBLE), Ok(Opening::Anchor));
        assert_eq!(Opening::from_bytes(Lane::Order(3).preamble()), Ok(Opening::Lane(Lane::Order(3))));
        assert_eq!(Opening::from_bytes(*b"GET / HT"), Err(PreambleError::NotBridge));
        assert_eq!(Lane::from_preamble(ANCHOR_PREAMBLE), Err(PreambleError::Kind(128)));
    }

    #[test]
    fn a_lane_opens_with_its_preamble_and_its_links_secret_key() {
        let key = LinkKey([0xab; LINK_KEY_BYTES]);
        let bytes = lane_opening(Lane::Feed, key);
        assert_eq!((&bytes[..8], &bytes[8..]), (&Lane::Feed.preamble()[..], &[0xab; 32][..]));
        assert_eq!(format!("{key:?}"), "LinkKey(..)");
    }
}
