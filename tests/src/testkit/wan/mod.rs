//! A WAN between two ends on this machine: delay, jitter, loss, reordering, rate, packet size and
//! cuts. All conditions can change while it runs.
//!
//! There is one model of a line, `core`. It does no I/O, and all its randomness comes from a seed.
//! Three drivers carry traffic over it:
//!
//! | driver | carries | needs | cannot |
//! |---|---|---|---|
//! | [`Wan`] | IP packets of any program: UDP, TCP | root, `/dev/net/tun`, `ip`, `perl` | IPv6 |
//! | [`UdpRelay`] | the datagrams to one address | nothing | be exact to less than 1 ms |
//! | [`TcpRelay`] | the connections to one address | nothing | lose or reorder; limit packets |
//!
//! A [`TcpRelay`] has bytes instead of packets, so a cut holds them.
//!
//! A [`Wan`] is a TUN device. Its near end and its far end have 62 addresses each, all on this
//! machine. A server listens on [`Wan::far`] (or [`Wan::near`]). A client at the other end sends to
//! [`Wan::from_other_end`] of that address. Packets to the server's own address do not cross the
//! line.
//!
//! ```no_run
//! use std::time::Duration;
//! use bridge_tests::testkit::wan::{Conditions, Cut, Wan};
//!
//! # fn main() -> anyhow::Result<()> {
//! let wan = Wan::start(1, None)?;
//! let server = std::net::UdpSocket::bind((wan.far(1), 0))?;
//! let dialled = wan.from_other_end(server.local_addr()?)?;
//! wan.line().set(Conditions::round_trip(Duration::from_millis(10)).losing(10_000));
//! // ... a client sends to `dialled`; then UDP alone is cut:
//! wan.line().set(Conditions::default().cutting(Cut::UDP));
//! # Ok(())
//! # }
//! ```

// The model, without I/O.
mod conditions;
mod core;
mod flows;

// The owner's handle.
mod line;

// IP packets through a device.
mod device;
mod driver;
mod packet;

// Datagrams and connections through sockets.
mod tcp_relay;
mod udp_relay;

// Precision of the line.
pub mod precision;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};

use crate::testkit::ports::free_address;
use device::Device;
use driver::Driver;

pub use conditions::{Conditions, Cut, MILLION, Mtu, OneWay, Protocol, Traffic, Way};
pub use core::{Counts, IN_FLIGHT_MAX};
pub use device::{MTU, lacks};
pub use flows::HANDSHAKE_BYTES;
pub use line::Line;
pub use packet::HOSTS;
pub use tcp_relay::TcpRelay;
pub use udp_relay::UdpRelay;

/// A line of IP packets. Its device, addresses and routes are removed when this value is dropped,
/// or when the process ends in any way.
#[derive(Debug)]
pub struct Wan {
    line: Line,
    network: packet::Network,
    device: String,
    /// Dropped to end the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Wan {
    /// Opens a perfect line; [`Wan::line`] changes its conditions. Each IP packet that enters the
    /// line, dropped or not, is appended to the file `capture`.
    ///
    /// # Errors
    ///
    /// Fails if this machine lacks something ([`lacks`]), or if 512 lines are open.
    pub fn start(seed: u64, capture: Option<&Path>) -> Result<Wan> {
        if let Some(lack) = lacks() {
            bail!("there is no WAN of IP packets without {lack}");
        }
        let line = Line::new(capture).context("make the file for captured packets")?;
        let Device { file, name, network } = Device::open().context("make a device for the WAN")?;
        let (stop, stopped) = UnixStream::pair()?;
        let driver = Driver { device: file, stop: stopped, network, line: line.clone(), seed };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            // An error means that the device is gone. The user of the line then notices it.
            let _ended = driver.run();
        })?;
        Ok(Wan { line, network, device: name, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the handle of its conditions and counts.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Returns the device's name, for tools such as `tcpdump`. The thread that carries packets has
    /// the same name.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Returns the address of a host of the near end, 1 to [`HOSTS`]. A server on that host listens
    /// on this address.
    #[must_use]
    pub fn near(&self, host: u8) -> Ipv4Addr {
        self.network.near(host.clamp(1, HOSTS))
    }

    /// Returns the address of a host of the far end, 1 to [`HOSTS`].
    #[must_use]
    pub fn far(&self, host: u8) -> Ipv4Addr {
        self.network.far(host.clamp(1, HOSTS))
    }

    /// Returns an unused address of the far end's first host, for TCP and UDP.
    ///
    /// # Errors
    ///
    /// Fails if no port is free.
    pub fn free_far_address(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::from((self.far(1), free_address()?.port())))
    }

    /// Returns the address that the other end must use to reach a server at `listening`.
    ///
    /// # Errors
    ///
    /// Fails if `listening` is not an address of this line.
    pub fn from_other_end(&self, listening: SocketAddr) -> Result<SocketAddr> {
        let IpAddr::V4(own) = listening.ip() else { bail!("{listening} is no IPv4 address") };
        let seen = self.network.seen_from_other_end(own);
        let seen = seen.with_context(|| format!("{listening} is at neither end of {}", self.device))?;
        Ok(SocketAddr::from((seen, listening.port())))
    }

    /// Checks that the kernel dropped no packet before the line saw it. If it did, the machine was
    /// too slow for a measurement.
    ///
    /// # Errors
    ///
    /// Fails if the kernel dropped packets.
    pub fn has_seen_every_packet(&self) -> Result<()> {
        let dropped = Device::overflowed(&self.device)?;
        ensure!(dropped == 0, "the kernel dropped {dropped} packets before {} saw them", self.device);
        Ok(())
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed.
            let _ended = thread.join();
        }
        // An owner that reads the capture flushes it before. This flush is for all others.
        let _written = self.line.flush();
    }
}
