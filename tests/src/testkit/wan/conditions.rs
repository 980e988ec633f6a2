//! What a line does to what it carries: delay, jitter, loss, reordering, rate, packet size and cuts, for each way.
//!
//! Values alone; [`core`](super::core) applies them. A share is a number out of a million, a rate is bits a second, a size is
//! the bytes of an IP packet with its headers. The default is a perfect line.

use std::time::Duration;

/// A share that is all of it.
pub const MILLION: u32 = 1_000_000;

/// Which way a packet goes. Each end has servers and dials; "there" is from the near end to the far one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the near end to the far end.
    There,
    /// From the far end to the near end.
    Back,
}

/// Both ways of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// From the near end to the far end.
    pub there: OneWay,
    /// From the far end to the near end.
    pub back: OneWay,
}

/// One way of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneWay {
    /// How long a packet takes at least.
    pub delay: Duration,
    /// Up to so much is added to the delay, drawn for each packet. Packets stay in order all the same.
    pub jitter: Duration,
    /// So many of a million packets are lost, each drawn by itself.
    pub loss: u32,
    /// So many of a million packets are held for [`OneWay::reorder_by`] more, while later ones pass them.
    pub reorder: u32,
    /// How long a packet that is to be overtaken is held.
    pub reorder_by: Duration,
    /// Bits a second; `None` is no limit.
    pub rate: Option<u64>,
    /// Bytes that wait for a line with a rate; what comes on top is dropped.
    pub queue_bytes: u64,
    /// The largest IP packet that passes; `None` is no limit but that of the device.
    pub mtu: Option<Mtu>,
    /// What does not pass at all. A packet that one of them names is dropped.
    pub cuts: Vec<Cut>,
}

/// The largest packet that passes, and what comes of a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu {
    /// The largest IP packet, with its headers, in bytes.
    pub bytes: u16,
    /// Whether the sender is told (ICMP, "fragmentation needed"). Many firewalls swallow that message.
    pub is_reported: bool,
}

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP, and so QUIC.
    Udp,
    /// TCP.
    Tcp,
    /// Any other one, ICMP among them.
    Other,
}

/// Packets that do not pass: those for which all of this holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Of this protocol; `None` is any.
    pub protocol: Option<Protocol>,
    /// IP packets of more than so many bytes; `None` is any size.
    pub larger_than: Option<u16>,
    /// Only what comes behind a handshake: QUIC packets with a short header, and TCP segments beyond the first
    /// [`HANDSHAKE_BYTES`](super::flows::HANDSHAKE_BYTES) of a connection's way.
    pub is_behind_handshake: bool,
}

/// What a [`Cut`] asks about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The protocol above IP.
    pub protocol: Protocol,
    /// The IP packet with its headers.
    pub bytes: usize,
    /// Whether it comes behind a handshake.
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
            // 40 ms of 50 Mbit/s, as much as a small router has.
            queue_bytes: 256 << 10,
            mtu: None,
            cuts: Vec::new(),
        }
    }
}

impl Conditions {
    /// The same for both ways.
    #[must_use]
    pub fn both(way: OneWay) -> Conditions {
        Conditions { there: way.clone(), back: way }
    }

    /// A line on which a round trip lasts so long, and nothing else happens.
    #[must_use]
    pub fn round_trip(round_trip: Duration) -> Conditions {
        Conditions::both(OneWay { delay: round_trip / 2, ..OneWay::default() })
    }

    /// Loses so many of a million packets, each way.
    #[must_use]
    pub fn losing(mut self, per_million: u32) -> Conditions {
        self.change(|way| way.loss = per_million);
        self
    }

    /// Drops what this cut names, each way.
    #[must_use]
    pub fn cutting(mut self, cut: Cut) -> Conditions {
        self.change(|way| way.cuts.push(cut));
        self
    }

    /// Changes both ways alike.
    pub fn change(&mut self, change: impl Fn(&mut OneWay)) {
        change(&mut self.there);
        change(&mut self.back);
    }

    /// One way of them.
    #[must_use]
    pub fn of(&self, way: Way) -> &OneWay {
        match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        }
    }
}

impl Cut {
    /// Everything.
    pub const ALL: Cut = Cut { protocol: None, larger_than: None, is_behind_handshake: false };
    /// UDP, as a firewall that knows only the web.
    pub const UDP: Cut = Cut { protocol: Some(Protocol::Udp), ..Cut::ALL };
    /// TCP.
    pub const TCP: Cut = Cut { protocol: Some(Protocol::Tcp), ..Cut::ALL };
    /// Data behind a handshake that passes: the path looks alive and carries nothing.
    pub const DATA: Cut = Cut { is_behind_handshake: true, ..Cut::ALL };

    /// Large packets alone, as a tunnel below the line that swallows them.
    #[must_use]
    pub const fn larger_than(bytes: u16) -> Cut {
        Cut { larger_than: Some(bytes), ..Cut::ALL }
    }

    /// The same of one protocol alone.
    #[must_use]
    pub const fn of(self, protocol: Protocol) -> Cut {
        Cut { protocol: Some(protocol), ..self }
    }

    /// Whether it names this packet.
    #[must_use]
    pub fn names(self, packet: Traffic) -> bool {
        self.protocol.is_none_or(|protocol| protocol == packet.protocol)
            && self.larger_than.is_none_or(|bytes| packet.bytes > usize::from(bytes))
            && (packet.is_behind_handshake || !self.is_behind_handshake)
    }
}

impl OneWay {
    /// Whether a cut names this packet.
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
