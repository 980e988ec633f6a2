//! Power loss: what was not made durable is lost, and everything that was acknowledged has to be there all the same.
//!
//! A store runs as a process of its own on a disk that is written down ([`recorder`]): every write, truncation, name and
//! fsync below one folder, and every acknowledgement, in one ordered log. From that log [`disk`] rebuilds what a power loss
//! at any moment may leave, as often as one likes: each sector of 512 bytes and each name that no fsync covers is there or
//! not, drawn from a seed. Then the real code opens the rebuilt folder, and whatever was acknowledged before that moment
//! must be in it ([`stores`]).
//!
//! # Why a preloaded library
//!
//! Three ways lead to such a disk.
//!
//! - *A trait in the agents, with a page cache in memory under tests.* It is deterministic and fast. But it would stand
//!   between the agents and every file that they write, for the tests alone; it shows nothing of SQLite or PostgreSQL; and
//!   a test that forgets one call of the trait, as code under test may, sees the real disk.
//! - *A file system of SQLite's own (a VFS).* It sees SQLite and nothing else: neither the log, the snapshot nor
//!   PostgreSQL. It also needs unsafe code, which the workspace forbids.
//! - *A library that is preloaded.* It sees whatever any process asks of the C library, so one disk serves the log, the
//!   snapshot, SQLite and PostgreSQL, and the agents' code is what users run. It does not see writes through mmap, and raw
//!   system calls; `recorder.c` says which there are, and why they do not matter here. It needs a C compiler, which
//!   building Bridge needs anyhow.
//!
//! The last one is taken. What a process does under threads cannot be repeated from a seed, so the log of a run that lost
//! something is kept: the seed and that file repeat it exactly.
//!
//! # What the disk promises
//!
//! No more than POSIX does, and so less than most file systems do:
//!
//! - An fsync that has returned covers what was written to that file before it began. A file's name is durable by an fsync
//!   of its folder alone. For PostgreSQL, which relies on it, names follow the order of a journal ([`disk::Names`]).
//! - After an fsync that failed, nobody knows what it wrote. The system takes those pages for written, as Linux does: a
//!   later fsync covers such a page only if it was written again.
//! - A handle whose fsync has failed may lie from then on: the next ones say that they are done, and do nothing.
//!   POSIX promises nothing of such a handle, so who goes on has to open the file again. SQLite keeps its handles and is
//!   spared this; the others are not.

// The disk: written down, read back, and what is left of it.
pub mod disk;
pub mod fate;
pub mod record;
pub mod recorder;

// What runs on it.
pub mod stores;

// Both together, as one command.
mod options;
mod report;
mod run;

pub use options::{Command, Options, Part};
pub use report::{Loss, Report, StoreReport};
pub use run::run;

#[cfg(test)]
mod tests;
