//! Skipped tests: the call that reports one, and the list of things that a machine may lack.
//!
//! A test that only returns counts as passed. A test that calls [`skipped`] first is counted and
//! named in the summary of `cargo verify`. `cargo verify` fails if this machine has the thing that
//! the test reports as missing. This is a crate of its own because the tests of every other crate
//! use it. It depends on none of them.

use std::fmt::{self, Display};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::panic::Location;
use std::path::Path;

/// Environment variable with the file for skips, one on each line.
pub const FILE: &str = "BRIDGE_SKIPS";

/// Folder of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A thing that a test needs and a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// The right to mount a file system.
    Mounts,
    /// The right to mount a file system, or devices for a file system in a file.
    LoopDisks,
    /// The right to give the machine an address.
    Addresses,
    /// The right to give a file to another user.
    Owners,
    /// The right to make namespaces that stand for other hosts.
    Namespaces,
    /// Devices that hand packets to a program (`/dev/net/tun`), and the right to make them.
    Tun,
    /// The right to read another process's memory.
    Memory,
    /// Core dumps: a limit above 0, and a place to which the kernel writes them.
    CoreDumps,
    /// The real data, in a folder beside the workspace that is not in the repository.
    Data,
    /// One of the languages of the examples.
    Languages,
}

/// Things that tests need and a machine has.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Effective capabilities of the process, as a mask (capabilities(7)).
    pub capabilities: u64,
    /// True if there are loop devices.
    pub loop_devices: bool,
    /// True if there is `/dev/net/tun`.
    pub tun: bool,
    /// True if the kernel writes a core dump of a process that crashes.
    pub core_dumps: bool,
    /// True if the real data exist.
    pub data: bool,
    /// True if all of [`LANGUAGES`] are installed.
    pub languages: bool,
}

/// Programs that run the examples.
pub const LANGUAGES: [&str; 3] = ["python3", "node", "java"];

/// Returns true if a program is on the `PATH`.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A test that did not run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skip {
    /// The thing that the machine lacks.
    pub lack: Lack,
    /// Name of the test, and its place in the sources.
    pub test: String,
    /// The missing thing in the test's own words.
    pub why: String,
}

/// Reports that the calling test cannot run on this machine. The test then returns.
///
/// # Panics
/// Panics if the skip cannot be written, because an unreported skip would look like a passed test.
#[track_caller]
#[expect(clippy::panic, reason = "only tests call this, and it fails the calling test")]
pub fn skipped(lack: Lack, why: &str) {
    let place = Location::caller();
    let thread = std::thread::current();
    // The test's name, unless there is one thread for all tests.
    let name = thread.name().unwrap_or("main");
    let skip =
        Skip { lack, test: format!("{name} ({}:{})", place.file(), place.line()), why: why.to_owned() };
    // The test runner hides the output of `eprintln!` for a test that passes.
    let _nobody_listens = writeln!(io::stderr(), "skipped: {}: {}", skip.test, skip.why);
    if let Some(file) = std::env::var_os(FILE)
        && let Err(error) = skip.write(Path::new(&file))
    {
        panic!("the skip cannot be written to {}: {error}", Path::new(&file).display());
    }
}

impl Lack {
    /// All variants.
    pub const ALL: [Lack; 10] = [
        Lack::Mounts,
        Lack::LoopDisks,
        Lack::Addresses,
        Lack::Owners,
        Lack::Namespaces,
        Lack::Tun,
        Lack::Memory,
        Lack::CoreDumps,
        Lack::Data,
        Lack::Languages,
    ];

    /// Returns true if a machine lacks this.
    #[must_use]
    pub fn is_missing_on(self, machine: &Machine) -> bool {
        // The bits' numbers are in capabilities(7) and linux/capability.h.
        const CHOWN: u32 = 0;
        const NET_ADMIN: u32 = 12;
        const SYS_PTRACE: u32 = 19;
        const SYS_ADMIN: u32 = 21;
        let may = |bit: u32| machine.capabilities & (1 << bit) != 0;
        match self {
            Lack::Mounts => !may(SYS_ADMIN),
            Lack::LoopDisks => !may(SYS_ADMIN) || !machine.loop_devices,
            Lack::Addresses => !may(NET_ADMIN),
            Lack::Owners => !may(CHOWN),
            Lack::Namespaces => !may(SYS_ADMIN) || !may(NET_ADMIN),
            Lack::Tun => !may(NET_ADMIN) || !machine.tun,
            Lack::Memory => !may(SYS_PTRACE),
            Lack::CoreDumps => !machine.core_dumps,
            Lack::Data => !machine.data,
            Lack::Languages => !machine.languages,
        }
    }

    fn named(name: &str) -> Option<Lack> {
        Lack::ALL.into_iter().find(|lack| lack.to_string() == name)
    }
}

impl Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lack::Mounts => "the right to mount",
            Lack::LoopDisks => "loop devices",
            Lack::Addresses => "the right to add an address",
            Lack::Owners => "the right to change owners",
            Lack::Namespaces => "the right to make namespaces",
            Lack::Tun => "/dev/net/tun",
            Lack::Memory => "the right to read another process's memory",
            Lack::CoreDumps => "core dumps",
            Lack::Data => "../shared/data",
            Lack::Languages => "python3, node or java",
        })
    }
}

impl Machine {
    /// Returns the state of this machine.
    ///
    /// # Errors
    /// Fails if the kernel does not report the rights of this process.
    pub fn this() -> io::Result<Machine> {
        let status = fs::read_to_string("/proc/self/status")?;
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let capabilities = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let capabilities = capabilities.ok_or_else(|| io::Error::other("no CapEff in /proc/self/status"))?;
        let limits = fs::read_to_string("/proc/self/limits")?;
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
        let hard = core.and_then(|limits| limits.split_whitespace().nth(1));
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
        Ok(Machine {
            capabilities,
            core_dumps: hard.is_some_and(|limit| limit != "0") && !pattern.trim().is_empty(),
            loop_devices: Path::new("/dev/loop-control").exists(),
            tun: Path::new("/dev/net/tun").exists(),
            data: Path::new(ROOT).join("../shared/data").exists(),
            languages: LANGUAGES.into_iter().all(is_installed),
        })
    }
}

impl Skip {
    /// Reads the skips in a file.
    ///
    /// # Errors
    /// Fails if the file cannot be read or has a malformed line.
    pub fn read(file: &Path) -> io::Result<Vec<Skip>> {
        let text = fs::read_to_string(file)?;
        let skip = |line: &str| {
            let mut fields = line.splitn(3, '\t');
            let (lack, test, why) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Skip { lack: Lack::named(lack)?, test: test.to_owned(), why: why.to_owned() })
        };
        let strange = |line: &str| io::Error::other(format!("{} has {line:?}", file.display()));
        text.lines().map(|line| skip(line).ok_or_else(|| strange(line))).collect()
    }

    /// Appends the skip in a single write, because several threads and programs share the file.
    fn write(&self, file: &Path) -> io::Result<()> {
        let line = format!("{}\t{}\t{}\n", self.lack, self.test, self.why);
        OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Machine = Machine {
        capabilities: u64::MAX,
        loop_devices: true,
        tun: true,
        core_dumps: true,
        data: true,
        languages: true,
    };

    #[test]
    fn a_machine_that_has_everything_excuses_nothing() {
        for lack in Lack::ALL {
            assert!(!lack.is_missing_on(&EVERYTHING), "{lack}");
        }
    }

    #[test]
    fn a_machine_excuses_what_it_lacks_and_nothing_else() {
        let excused = |machine: Machine| {
            Lack::ALL.into_iter().filter(|lack| lack.is_missing_on(&machine)).collect::<Vec<_>>()
        };
        let without = |bit: u32| Machine { capabilities: !(1 << bit), ..EVERYTHING };
        assert_eq!(excused(Machine { data: false, ..EVERYTHING }), [Lack::Data]);
        assert_eq!(excused(Machine { loop_devices: false, ..EVERYTHING }), [Lack::LoopDisks]);
        assert_eq!(excused(Machine { tun: false, ..EVERYTHING }), [Lack::Tun]);
        assert_eq!(excused(Machine { languages: false, ..EVERYTHING }), [Lack::Languages]);
        assert_eq!(excused(Machine { core_dumps: false, ..EVERYTHING }), [Lack::CoreDumps]);
        assert_eq!(excused(without(0)), [Lack::Owners]);
        assert_eq!(excused(without(19)), [Lack::Memory]);
        assert_eq!(excused(without(12)), [Lack::Addresses, Lack::Namespaces, Lack::Tun]);
        assert_eq!(excused(without(21)), [Lack::Mounts, Lack::LoopDisks, Lack::Namespaces]);
        assert!(Machine::this().is_ok());
    }

    #[test]
    fn what_is_written_is_read_again_and_anything_else_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("skips");
        let skips = Lack::ALL.map(|lack| Skip {
            lack,
            test: format!("a::test (tests/a.rs:{})", lack as u8),
            why: "a thing\tis missing".to_owned(),
        });
        for skip in &skips {
            skip.write(&file).unwrap();
        }
        assert_eq!(Skip::read(&file).unwrap(), skips);
        fs::write(&file, "nothing\ta\tb\n").unwrap();
        assert!(Skip::read(&file).is_err());
    }

    /// This test starts itself again as a process in which it is skipped.
    #[test]
    fn a_skipped_test_is_recorded_with_its_name_and_place() {
        const AS_THE_SKIPPED: &str = "BRIDGE_TEST_IS_SKIPPED";
        if std::env::var_os(AS_THE_SKIPPED).is_some() {
            return skipped(Lack::Owners, "nobody to give it to");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("skips");
        let name = "tests::a_skipped_test_is_recorded_with_its_name_and_place";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name]).env(AS_THE_SKIPPED, "1").env(FILE, &file);
        let ended = again.output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        let skips = Skip::read(&file).unwrap();
        assert_eq!(
            (skips.len(), skips[0].lack, &skips[0].why[..]),
            (1, Lack::Owners, "nobody to give it to")
        );
        assert!(skips[0].test.contains("src/lib.rs:"), "{}", skips[0].test);
        assert!(String::from_utf8_lossy(&ended.stderr).contains("skipped: "), "{ended:?}");
    }
}
