//! The thread of a line of IP packets. It reads packets from the device, feeds them to the
//! [`Core`], and writes each at its time.
//!
//! It waits with `ppoll`, whose timeout has a resolution of nanoseconds, without the kernel's usual
//! slack of 50 us.

use std::fs::File;
use std::io::{self, Read, Write};
use std::iter;
use std::num::NonZeroU64;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{gettid, set_current_timer_slack};

use super::core::{Core, DropReason};
use super::flows::Flows;
use super::line::Line;
use super::packet::{Network, cross, too_large, traffic};

/// Size of the read buffer in bytes. No IP packet is larger.
const PACKET_BYTES_MAX: usize = 65_536;
/// Most packets that are read before due packets are written.
const READS: usize = 64;

/// Requests the lowest real-time priority. A packet on a real line does not wait until a compiler
/// on the same machine gives up the CPU. Without the right to that priority, packets are late on a
/// busy machine; [`Line::take_late`] reports it.
fn go_ahead_of_the_load() {
    let thread = gettid().as_raw_nonzero().to_string();
    let mut chrt = Command::new("chrt");
    chrt.args(["--rr", "--pid", "1", &thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ahead = chrt.status();
}

/// State of the thread.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) device: File,
    /// The thread ends when the other end of this socket closes.
    pub(super) stop: UnixStream,
    pub(super) network: Network,
    pub(super) line: Line,
    pub(super) seed: u64,
}

impl Driver {
    /// Carries packets until it is stopped or the device is gone.
    pub(super) fn run(self) -> io::Result<()> {
        set_current_timer_slack(NonZeroU64::new(1))?;
        go_ahead_of_the_load();
        let began = Instant::now();
        let (mut core, mut flows) = (Core::new(self.seed), Flows::default());
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let (mut leaving, mut late) = (Vec::new(), Vec::new());
        loop {
            let wait = core.next_leaves().map(|at| at.saturating_sub(began.elapsed()));
            let (readable, stopped) = self.wait(wait)?;
            if stopped {
                return Ok(());
            }
            if readable {
                self.read(&mut core, &mut flows, &mut buffer, began)?;
            }
            leaving.extend(iter::from_fn(|| core.poll_leaving(began.elapsed())));
            // Counted before the packet is written, so that its receiver finds it in the counts.
            self.line.publish(core.counts(), &late);
            late.clear();
            for mut packet in leaving.drain(..) {
                late.push(began.elapsed().saturating_sub(packet.at));
                cross(&mut packet.payload);
                self.write(&packet.payload);
            }
        }
    }

    /// Waits for a packet, for the end, or for a duration. Returns true for the first if there is a
    /// packet, and for the second if the thread must end.
    fn wait(&self, wait: Option<Duration>) -> io::Result<(bool, bool)> {
        // A duration that does not fit into a timespec is treated as no limit.
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut ready = [PollFd::new(&self.device, PollFlags::IN), PollFd::new(&self.stop, PollFlags::IN)];
        match poll(&mut ready, wait.as_ref()) {
            Ok(_) => Ok((!ready[0].revents().is_empty(), !ready[1].revents().is_empty())),
            Err(rustix::io::Errno::INTR) => Ok((false, false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the waiting packets, up to a bound.
    fn read(
        &self,
        core: &mut Core<Vec<u8>>,
        flows: &mut Flows,
        buffer: &mut [u8],
        began: Instant,
    ) -> io::Result<()> {
        let conditions = self.line.conditions();
        for _ in 0..READS {
            let length = match (&self.device).read(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let packet = &mut buffer[..length];
            // The kernel sends IPv6 packets on a new device by itself. They do not belong to the
            // line.
            let Some(way) = self.network.way_of(packet) else { continue };
            let traffic = traffic(packet, flows);
            self.line.keep(packet)?;
            let taken = core.handle_packet(began.elapsed(), way, traffic, packet.to_vec(), &conditions);
            if let Err((DropReason::TooLarge(Some(mtu)), packet)) = taken
                && let Some(message) = too_large(&packet, mtu)
            {
                self.write(&message);
            }
        }
        Ok(())
    }

    /// Writes a packet to the kernel. The kernel may drop it, as any router may.
    fn write(&self, packet: &[u8]) {
        let _dropped = (&self.device).write(packet);
    }
}
