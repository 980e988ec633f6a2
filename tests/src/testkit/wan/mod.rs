//! A WAN between two ends on this machine: delay, jitter, loss, reordering, rate, packet size and cuts, changed while it runs.
//!
//! There is one model of a line, `core`: pure, and all chance in it is of a seed. Three shells carry something over it:
//!
//! | shell | carries | needs | cannot |
//! |---|---|---|---|
//! | [`Wan`] | IP packets, so UDP and TCP as they are, of any program | root, `/dev/net/tun`, `ip`, `perl` | IPv6 |
//! | [`UdpRelay`] | the datagrams to one address | nothing | be exact to less than a millisecond |
//! | [`TcpRelay`] | the connections to one address | nothing | lose, reorder or limit the size of packets: it has bytes; a cut holds them |
//!
//! A [`Wan`] is a TUN device. Its near end and its far end have addresses of their own, 62 hosts each, all on this machine: a
//! server listens on [`Wan::far`] (or [`Wan::near`]), and who is at the other end sends to [`Wan::from_other_end`] of that
//! address. Who sends to the server's own address does not cross the line.
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

// What the owner holds.
mod line;

// IP packets through a device.
mod device;
mod driver;
mod packet;

// Datagrams and connections through sockets.
mod tcp_relay;
mod udp_relay;

// How exact it is.
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

/// A line of IP packets. When this is dropped, or the process ends in any way, the device is gone with its addresses and routes.
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
    /// Opens a perfect line; [`Wan::line`] makes a worse one of it. Each packet that enters it, dropped or not, is appended
    /// to the file `capture`, as the IP packet that it is.
    ///
    /// # Errors
    /// When this machine lacks something ([`lacks`]), or 512 lines are open.
    pub fn start(seed: u64, capture: Option<&Path>) -> Result<Wan> {
        if let Some(lack) = lacks() {
            bail!("there is no WAN of IP packets without {lack}");
        }
        let line = Line::new(capture).context("make the file for what is captured")?;
        let Device { file, name, network } = Device::open().context("make a device for the WAN")?;
        let (stop, stopped) = UnixStream::pair()?;
        let driver = Driver { device: file, stop: stopped, network, line: line.clone(), seed };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            // A device that is gone is a line that is gone: who uses it says what it misses.
            let _ended = driver.run();
        })?;
        Ok(Wan { line, network, device: name, stop: Some(stop), thread: Some(thread) })
    }

    /// Its conditions and counts.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// The device's name, for tools such as `tcpdump`. The thread that carries packets has the same one.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// A host of the near end, 1 to [`HOSTS`]: what listens there listens on this address.
    #[must_use]
    pub fn near(&self, host: u8) -> Ipv4Addr {
        self.network.near(host.clamp(1, HOSTS))
    }

    /// A host of the far end, 1 to [`HOSTS`].
    #[must_use]
    pub fn far(&self, host: u8) -> Ipv4Addr {
        self.network.far(host.clamp(1, HOSTS))
    }

    /// An address of the first host of the far end that nobody listens on, for TCP and UDP.
    ///
    /// # Errors
    /// When no port is free.
    pub fn free_far_address(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::from((self.far(1), free_address()?.port())))
    }

    /// What the other end sends to, to reach who listens on `listening`.
    ///
    /// # Errors
    /// When that is no address of this line.
    pub fn from_other_end(&self, listening: SocketAddr) -> Result<SocketAddr> {
        let IpAddr::V4(own) = listening.ip() else { bail!("{listening} is no IPv4 address") };
        let seen = self.network.seen_from_other_end(own);
        let seen = seen.with_context(|| format!("{listening} is at neither end of {}", self.device))?;
        Ok(SocketAddr::from((seen, listening.port())))
    }

    /// Makes sure that the kernel dropped no packet before the line saw it; then the machine was too slow for a figure.
    ///
    /// # Errors
    /// When it did.
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
            // A panic there was already printed; there is nothing to add to it here.
            let _ended = thread.join();
        }
        // The owner flushes before it reads; this is for those who only wanted the line.
        let _written = self.line.flush();
    }
}
