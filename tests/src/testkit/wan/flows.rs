//! Which TCP segments come behind a connection's handshake.
//!
//! What a TLS handshake is cannot be seen from outside beyond its first messages. So the first bytes of each way of a connection
//! count as its handshake, and what comes behind them as data. Pure: it is told each segment once.

use std::collections::HashMap;
use std::net::SocketAddrV4;

/// As long as a handshake of TLS 1.3 with certificates of both sides and a post-quantum key exchange is, each way, or longer.
pub const HANDSHAKE_BYTES: u64 = 8 << 10;
/// Connections that are known at a time, each way by itself. What comes on top, and does not begin, counts as data.
const FLOWS_MAX: usize = 8_192;

/// One way of a connection.
pub(super) type Flow = (SocketAddrV4, SocketAddrV4);

/// The bytes that each way of each connection has carried.
#[derive(Debug, Default)]
pub(super) struct Flows {
    bytes: HashMap<Flow, u64>,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) flow: Flow,
    /// It begins a connection (SYN).
    pub(super) begins: bool,
    /// It ends one at once (RST).
    pub(super) resets: bool,
    /// What it carries, without headers.
    pub(super) bytes: usize,
}

impl Flows {
    /// Whether a segment has bytes behind the handshake. Segments without bytes never have, so that connections stay open.
    pub(super) fn is_behind_handshake(&mut self, segment: Segment) -> bool {
        if segment.resets {
            self.bytes.remove(&segment.flow);
            return false;
        }
        if segment.begins {
            self.forget_one_if_full();
            self.bytes.insert(segment.flow, 0);
        }
        if segment.bytes == 0 {
            return false;
        }
        let Some(carried) = self.bytes.get_mut(&segment.flow) else { return true };
        *carried = carried.saturating_add(segment.bytes as u64);
        *carried > HANDSHAKE_BYTES
    }

    /// Connections that end are not noticed, since either side may still retransmit: any old one makes room.
    fn forget_one_if_full(&mut self) {
        if self.bytes.len() >= FLOWS_MAX
            && let Some(flow) = self.bytes.keys().next().copied()
        {
            self.bytes.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn flow(port: u16) -> Flow {
        let address = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        (address(port), address(443))
    }

    fn data(port: u16, bytes: usize) -> Segment {
        Segment { flow: flow(port), begins: false, resets: false, bytes }
    }

    fn syn(port: u16) -> Segment {
        Segment { begins: true, ..data(port, 0) }
    }

    #[test]
    fn the_first_bytes_of_each_way_are_its_handshake() {
        let mut flows = Flows::default();
        let all = HANDSHAKE_BYTES as usize;
        for port in [1, 2] {
            assert!(!flows.is_behind_handshake(syn(port)));
            assert!(!flows.is_behind_handshake(data(port, all)));
            assert!(flows.is_behind_handshake(data(port, 1)));
            assert!(!flows.is_behind_handshake(data(port, 0)), "an acknowledgement");
        }
        assert!(!flows.is_behind_handshake(syn(1)), "the port is used again");
        assert!(!flows.is_behind_handshake(data(1, 1)));
        assert!(flows.is_behind_handshake(data(3, 1)), "it began before the line did");
    }

    #[test]
    fn connections_without_number_take_bounded_memory() {
        let mut flows = Flows::default();
        for port in 0..20_000 {
            flows.is_behind_handshake(syn(port));
        }
        assert_eq!(flows.bytes.len(), FLOWS_MAX);
        flows.is_behind_handshake(Segment { resets: true, ..data(19_999, 0) });
        assert_eq!(flows.bytes.len(), FLOWS_MAX - 1);
    }
}
