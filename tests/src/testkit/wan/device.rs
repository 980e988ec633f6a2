//! A TUN device of the kernel, with the addresses and routes of one line.
//!
//! The device is not persistent. The kernel removes it with its addresses and routes when its last
//! descriptor is closed, however this process ends. Attaching to a device takes an `ioctl`, which
//! is unsafe code in Rust, and the workspace forbids unsafe code. So a few lines of Perl, which
//! every Debian has, attach to the device, and this process copies their descriptor
//! (pidfd_getfd(2)).

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bridge_skips::{Lack, Machine, is_installed};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::packet::Network;
use crate::testkit::tied;

/// Perl program. It attaches to the first free device of `bridge-wan0`, `bridge-wan1` and so on,
/// prints its number and descriptor, and waits. 0x400454ca is TUNSETIFF. 0x1001 is IFF_TUN and
/// IFF_NO_PI: packets without a header of the device.
const ATTACH: &str = r#"
    $| = 1;
    for my $index (0 .. $ARGV[0] - 1) {
        open(my $device, "+<", "/dev/net/tun") or die "open /dev/net/tun: $!\n";
        my $request = pack("a16 S x22", "bridge-wan$index", 0x1001);
        if (ioctl($device, 0x400454ca, $request)) {
            print "$index ", fileno($device), "\n";
            readline(STDIN);
            exit 0;
        }
        $!{EBUSY} or die "attach to bridge-wan$index: $!\n";
    }
    die "all devices are taken\n";
"#;
/// Networks for lines: one for each third byte of 198.18.0.0/15, which is reserved for benchmarks
/// (RFC 2544).
const NETWORKS: u16 = 512;
/// Packets that wait for the line before the kernel drops some. It is large, because only the
/// line's conditions should drop packets.
const QUEUE_PACKETS: u32 = 10_000;
/// Size of the largest packet, as on Ethernet.
pub const MTU: u16 = 1_500;

/// An attached device that is up.
#[derive(Debug)]
pub(super) struct Device {
    /// Each read or write is one packet. It never blocks.
    pub(super) file: File,
    pub(super) name: String,
    pub(super) network: Network,
}

/// Returns what this machine lacks for a device, or `None` if nothing is missing.
#[must_use]
pub fn lacks() -> Option<&'static str> {
    let machine = Machine::this();
    match machine {
        Ok(machine) if Lack::Tun.is_missing_on(&machine) => {
            Some("/dev/net/tun, or the right to make devices (CAP_NET_ADMIN)")
        }
        Err(_) => Some("/proc, which tells what this process may do"),
        Ok(_) if !is_installed("ip") => Some("the program ip (package iproute2)"),
        Ok(_) if !is_installed("perl") => Some("the program perl (package perl-base)"),
        Ok(_) => None,
    }
}

impl Device {
    /// Makes a device that no other process uses.
    pub(super) fn open() -> Result<Device> {
        let mut attach = tied::command("perl");
        attach.args(["-MErrno", "-e", ATTACH, &NETWORKS.to_string()]);
        attach.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut attached = tied::start(attach).context("start perl")?;
        let mut line = String::new();
        let stdout = attached.stdout.take().context("its output is a pipe")?;
        BufReader::new(stdout).read_line(&mut line).context("read perl's output")?;
        let told =
            line.trim().split_once(' ').and_then(|(index, fd)| Some((index.parse().ok()?, fd.parse().ok()?)));
        let copied = told.map(|(index, fd)| -> Result<(u16, File)> {
            let process = pidfd_open(Pid::from_child(&attached), PidfdFlags::empty())?;
            // The copy is closed in all programs that this process starts.
            Ok((index, File::from(pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?)))
        });
        // Perl ends when its standard input is closed.
        let output = attached.wait_with_output().context("wait for perl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let (index, file) =
            copied.with_context(|| said.trim().to_owned())?.context("copy the device's descriptor")?;
        fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::NONBLOCK)?;
        let [high, low] = index.to_be_bytes();
        let device =
            Device { file, name: format!("bridge-wan{index}"), network: Network([198, 18 + high, low]) };
        device.set_up()?;
        Ok(device)
    }

    /// Sets the addresses and routes of the device, and brings it up.
    fn set_up(&self) -> Result<()> {
        let (name, network) = (&self.name, self.network);
        let (near, far) = (network.near(1), network.far(1));
        let (near_all, far_all) = (network.near(0), network.far(0));
        let (route_there, route_back) = (network.route_there(), network.route_back());
        // All hosts of both ends belong to this machine. The first host of each end is the default
        // source address.
        ip(&format!(
            "link set dev {name} mtu {MTU} txqueuelen {QUEUE_PACKETS} up\n\
             address add {near}/32 dev {name}\n\
             address add {far}/32 dev {name}\n\
             route add local {near_all}/26 dev {name} table local\n\
             route add local {far_all}/26 dev {name} table local\n\
             route add {route_there} dev {name} src {near}\n\
             route add {route_back} dev {name} src {far}\n"
        ))
    }

    /// Returns the number of packets that the kernel dropped before the line saw them. If there are
    /// any, the line was too slow, and a measurement from that time is not valid.
    pub(super) fn overflowed(name: &str) -> Result<u64> {
        let file = Path::new("/sys/class/net").join(name).join("statistics/tx_dropped");
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        text.trim().parse().with_context(|| format!("{} is no number", file.display()))
    }
}

/// Runs commands of iproute2, one on each line. The first error ends the run.
fn ip(commands: &str) -> Result<()> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ip = ip.spawn().context("start ip")?;
    ip.stdin.take().context("its input is a pipe")?.write_all(commands.as_bytes())?;
    let output = ip.wait_with_output().context("wait for ip")?;
    ensure!(output.status.success(), "ip: {}\n{commands}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
