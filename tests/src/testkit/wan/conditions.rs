//! Conditions of a line, for each direction: delay, jitter, loss, reordering, rate, packet size and
//! cuts.
//!
//! This file has only values; [`core`](super::core) applies them. A share is a number out of a
//! million. A rate is in bits a second. A size is in bytes of an IP packet, with its headers. The
//! default is a perfect line.

use std::time::Duration;

/// The share that means all packets.
pub const MILLION: u32 = 1_000_000;

/// Direction of a packet. Both ends may have servers and may dial. "There" is from the near end to
/// the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The direction from the near end to the far end.
    There,
    /// The direction from the far end to the near end.
    Back,
}

/// Conditions of both directions of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Conditions from the near end to the far end.
    pub there: OneWay,
    /// Conditions from the far end to the near end.
    pub back: OneWay,
}

/// Conditions of one direction of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneWay {
    /// Shortest time that a packet takes.
    pub delay: Duration,
    /// Largest addition to the delay. It is drawn for each packet. Packets still stay in order.
    pub jitter: Duration,
    /// Packets in a million that are lost, each drawn by itself.
    pub loss: u32,
    /// Packets in a million that are held for [`OneWay::reorder_by`] longer, so that later packets
    /// overtake them.
    pub reorder: u32,
    /// Additional delay of a packet that is overtaken.
    pub reorder_by: Duration,
    /// Rate in bits a second; `None` is no limit.
    pub rate: Option<u64>,
    /// Bytes that may wait for a line with a rate. Further packets are dropped.
    pub queue_bytes: u64,
    /// Largest IP packet that passes; `None` is no limit but that of the device.
    pub mtu: Option<Mtu>,
    /// Packets that do not pass. A packet that one of the cuts names is dropped.
    pub cuts: Vec<Cut>,
}

/// Largest packet that passes, and the treatment of larger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu {
    /// Size of the IP packet with its headers, in bytes.
    pub bytes: u16,
    /// True if the line tells the sender (ICMP, "fragmentation needed"). Many firewalls drop that
    /// message.
    pub is_reported: bool,
}

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP, which carries QUIC.
    Udp,
    /// TCP, which carries TLS.
    Tcp,
    /// Any other protocol, such as ICMP.
    Other,
}

/// A rule for packets that do not pass: those that match all its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The protocol; `None` is any.
    pub protocol: Option<Protocol>,
    /// Only IP packets of more than this many bytes; `None` is any size.
    pub larger_than: Option<u16>,
    /// If true, only data after a handshake: QUIC packets with a short header, and TCP segments
    /// behind the first [`HANDSHAKE_BYTES`](super::flows::HANDSHAKE_BYTES) of a connection's
    /// direction.
    pub is_behind_handshake: bool,
}

/// The properties of a packet that a [`Cut`] tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The protocol above IP.
    pub protocol: Protocol,
    /// Size of the IP packet with its headers.
    pub bytes: usize,
    /// True if the packet carries data after a handshake.
    pub is_behind_handshake: bool,
}

impl Default for OneWay {
    fn default() -> OneWay {
        OneWay {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0,
            reorder: 0,
            reorder_by: Duration::from_millis(1),
            rate: None,
            // 40 ms at 50 Mbit/s, as much as a small router has.
            queue_bytes: 256 << 10,
            mtu: None,
            cuts: Vec::new(),
        }
    }
}

impl Conditions {
    /// Makes the same conditions for both directions.
    #[must_use]
    pub fn both(way: OneWay) -> Conditions {
        Conditions { there: way.clone(), back: way }
    }

    /// Makes a line with this round trip and no other conditions.
    #[must_use]
    pub fn round_trip(round_trip: Duration) -> Conditions {
        Conditions::both(OneWay { delay: round_trip / 2, ..OneWay::default() })
    }

    /// Adds a loss to both directions, in packets of a million.
    #[must_use]
    pub fn losing(mut self, per_million: u32) -> Conditions {
        self.change(|way| way.loss = per_million);
        self
    }

    /// Adds a cut to both directions.
    #[must_use]
    pub fn cutting(mut self, cut: Cut) -> Conditions {
        self.change(|way| way.cuts.push(cut));
        self
    }

    /// Changes both directions in the same way.
    pub fn change(&mut self, change: impl Fn(&mut OneWay)) {
        change(&mut self.there);
        change(&mut self.back);
    }

    /// Returns the conditions of one direction.
    #[must_use]
    pub fn of(&self, way: Way) -> &OneWay {
        match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        }
    }
}

impl Cut {
    /// All packets.
    pub const ALL: Cut = Cut { protocol: None, larger_than: None, is_behind_handshake: false };
    /// All UDP packets, as a firewall for web traffic only drops them.
    pub const UDP: Cut = Cut { protocol: Some(Protocol::Udp), ..Cut::ALL };
    /// All TCP packets.
    pub const TCP: Cut = Cut { protocol: Some(Protocol::Tcp), ..Cut::ALL };
    /// Data after a handshake. The handshake itself passes, so the path looks alive but carries no
    /// data.
    pub const DATA: Cut = Cut { is_behind_handshake: true, ..Cut::ALL };

    /// Large packets only, as a tunnel below the line may drop them.
    #[must_use]
    pub const fn larger_than(bytes: u16) -> Cut {
        Cut { larger_than: Some(bytes), ..Cut::ALL }
    }

    /// Limits the cut to one protocol.
    #[must_use]
    pub const fn of(self, protocol: Protocol) -> Cut {
        Cut { protocol: Some(protocol), ..self }
    }

    /// Returns true if the cut names this packet.
    #[must_use]
    pub fn names(self, packet: Traffic) -> bool {
        self.protocol.is_none_or(|protocol| protocol == packet.protocol)
            && self.larger_than.is_none_or(|bytes| packet.bytes > usize::from(bytes))
            && (packet.is_behind_handshake || !self.is_behind_handshake)
    }
}

impl OneWay {
    /// Returns true if a cut names this packet.
    #[must_use]
    pub fn is_cut(&self, packet: Traffic) -> bool {
        self.cuts.iter().any(|cut| cut.names(packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: Protocol, bytes: usize, is_behind_handshake: bool) -> Traffic {
        Traffic { protocol, bytes, is_behind_handshake }
    }

    #[test]
    fn a_cut_names_only_packets_with_all_its_marks() {
        let (udp, tcp) = (packet(Protocol::Udp, 1_280, false), packet(Protocol::Tcp, 1_281, true));
        let named = |cut: Cut| (cut.names(udp), cut.names(tcp));
        assert_eq!(named(Cut::ALL), (true, true));
        assert_eq!(named(Cut::UDP), (true, false));
        assert_eq!(named(Cut::TCP), (false, true));
        assert_eq!(named(Cut::DATA), (false, true));
        assert_eq!(named(Cut::DATA.of(Protocol::Udp)), (false, false));
        assert_eq!(named(Cut::larger_than(1_280)), (false, true));
        assert_eq!(named(Cut::larger_than(1_279).of(Protocol::Udp)), (true, false));
    }

    #[test]
    fn a_round_trip_is_half_of_it_each_way() {
        let line = Conditions::round_trip(Duration::from_millis(10)).losing(10_000).cutting(Cut::UDP);
        for way in [Way::There, Way::Back] {
            let way = line.of(way);
            assert_eq!((way.delay, way.loss), (Duration::from_millis(5), 10_000));
            assert_eq!(way.cuts, [Cut::UDP]);
        }
    }
}
