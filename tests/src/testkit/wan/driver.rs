//! The thread of a line of IP packets: reads the device, feeds the [`Core`], and writes what leaves at its time.
//!
//! It waits by `ppoll`, whose times are nanoseconds, without the kernel's usual slack of 50 us.

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

/// Larger than any IP packet.
const PACKET_BYTES_MAX: usize = 65_536;
/// Packets that are read before those that are due are written.
const READS: usize = 64;

/// Asks for the lowest real-time priority: a real line does not wait for a processor until a compiler beside it lets go of one.
/// Without the right to that packets are late on a busy machine, which [`Line::take_late`] tells.
fn go_ahead_of_the_load() {
    let thread = gettid().as_raw_nonzero().to_string();
    let mut chrt = Command::new("chrt");
    chrt.args(["--rr", "--pid", "1", &thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ahead = chrt.status();
}

/// Everything that the thread has.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) device: File,
    /// Its other end is closed to end the thread.
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
            // Who receives a packet finds it counted.
            self.line.publish(core.counts(), &late);
            late.clear();
            for mut packet in leaving.drain(..) {
                late.push(began.elapsed().saturating_sub(packet.at));
                cross(&mut packet.payload);
                self.write(&packet.payload);
            }
        }
    }

    /// Waits for a packet, the end, or so long.
    fn wait(&self, wait: Option<Duration>) -> io::Result<(bool, bool)> {
        // An age that no clock can count is for ever.
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut ready = [PollFd::new(&self.device, PollFlags::IN), PollFd::new(&self.stop, PollFlags::IN)];
        match poll(&mut ready, wait.as_ref()) {
            Ok(_) => Ok((!ready[0].revents().is_empty(), !ready[1].revents().is_empty())),
            Err(rustix::io::Errno::INTR) => Ok((false, false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what the device has, up to a bound.
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
            // The kernel itself speaks IPv6 on a new device; that is not of the line.
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

    /// Hands a packet to the kernel, which may drop it as any router may.
    fn write(&self, packet: &[u8]) {
        let _dropped = (&self.device).write(packet);
    }
}
