//! Protection of an agent's memory from core dumps and debuggers.
//!
//! `serve` calls it first, before any order or key is in memory.

use rustix::io;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps, which would contain personal data and keys, and debuggers of users other
/// than root.
///
/// The limit alone is not enough: the kernel does not enforce it if it pipes dumps to a program, as
/// systemd's does (core(5)).
///
/// # Errors
///
/// Fails if the system refuses it.
pub fn forbid_core_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{dumpable_behavior, getrlimit};

    #[test]
    fn nothing_is_left_to_dump() {
        forbid_core_dumps().unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
