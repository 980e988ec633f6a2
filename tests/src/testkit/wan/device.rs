//! A TUN device of the kernel's, with the addresses and routes of one line.
//!
//! It is not persistent: it goes, with its addresses and routes, when the last descriptor of it is closed, however this process
//! ends. Attaching to one takes an `ioctl`, which is unsafe code to Rust and which the workspace forbids. So a few lines of Perl,
//! which every Debian has, attach to it, and their descriptor is copied from there (pidfd_getfd(2)).

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

/// Attaches to the first of the devices `bridge-wan0`, `bridge-wan1` ... that is nobody's, says which and under which descriptor,
/// and waits. 0x400454ca is TUNSETIFF; 0x1001 is IFF_TUN and IFF_NO_PI: packets without a header of the device's own.
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
/// Networks that lines may have: one for each third byte of 198.18.0.0/15, which is set apart for such lines (RFC 2544).
const NETWORKS: u16 = 512;
/// Packets that wait to be read from the device before the kernel drops some: what is dropped should be by the line's conditions.
const QUEUE_PACKETS: u32 = 10_000;
/// The largest packet, as on Ethernet.
pub const MTU: u16 = 1_500;

/// An attached device that is up.
#[derive(Debug)]
pub(super) struct Device {
    /// One packet a read or write; never blocks.
    pub(super) file: File,
    pub(super) name: String,
    pub(super) network: Network,
}

/// What this machine lacks for a device; `None` if nothing.
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
    /// Makes one that nobody else has.
    pub(super) fn open() -> Result<Device> {
        let mut attach = tied::command("perl");
        attach.args(["-MErrno", "-e", ATTACH, &NETWORKS.to_string()]);
        attach.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut attached = tied::start(attach).context("start perl")?;
        let mut line = String::new();
        let stdout = attached.stdout.take().context("its output is a pipe")?;
        BufReader::new(stdout).read_line(&mut line).context("hear from perl")?;
        let told =
            line.trim().split_once(' ').and_then(|(index, fd)| Some((index.parse().ok()?, fd.parse().ok()?)));
        let copied = told.map(|(index, fd)| -> Result<(u16, File)> {
            let process = pidfd_open(Pid::from_child(&attached), PidfdFlags::empty())?;
            // Closed in every program that this one starts.
            Ok((index, File::from(pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?)))
        });
        // Without its standard input it ends.
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

    /// Gives it addresses and routes, and switches it on.
    fn set_up(&self) -> Result<()> {
        let (name, network) = (&self.name, self.network);
        let (near, far) = (network.near(1), network.far(1));
        let (near_all, far_all) = (network.near(0), network.far(0));
        let (route_there, route_back) = (network.route_there(), network.route_back());
        // All hosts of both ends are this machine; the first of each is whom it is by itself.
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

    /// Packets that the kernel dropped before the line saw them: it was too slow. A figure that was taken meanwhile is of that.
    pub(super) fn overflowed(name: &str) -> Result<u64> {
        let file = Path::new("/sys/class/net").join(name).join("statistics/tx_dropped");
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        text.trim().parse().with_context(|| format!("{} is no number", file.display()))
    }
}

/// Runs commands of iproute2, one a line, all or none.
fn ip(commands: &str) -> Result<()> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ip = ip.spawn().context("start ip")?;
    ip.stdin.take().context("its input is a pipe")?.write_all(commands.as_bytes())?;
    let output = ip.wait_with_output().context("wait for ip")?;
    ensure!(output.status.success(), "ip: {}\n{commands}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
