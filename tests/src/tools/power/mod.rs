//! Power losses: changes that were not made durable may be lost, but all acknowledged data must
//! survive.
//!
//! A store runs as a process on a recorded disk ([`recorder`]). One log has every write,
//! truncation, name change and fsync below one folder, and every acknowledgement, in order. From
//! that log, [`disk`] rebuilds the content of the folder after a power loss at any moment, as often
//! as needed. Each sector of 512 bytes and each name change that no fsync covers is kept or lost,
//! drawn from a seed. Then the real code opens the rebuilt folder, and all data that was
//! acknowledged before that moment must be in it ([`stores`]).
//!
//! # Reasons for a preloaded library
//!
//! There are three ways to make such a disk.
//!
//! - *A trait in the agents, with a page cache in memory in tests.* This is deterministic and fast.
//!   But it would stand between the agents and all their files, only for the tests. It does not
//!   cover SQLite and PostgreSQL. If the code under test forgets one call of the trait, it uses the
//!   real disk.
//! - *A file system for SQLite (a VFS).* This covers SQLite alone: neither the audit log, the
//!   snapshot nor PostgreSQL. It also needs unsafe code, which the workspace forbids.
//! - *A preloaded library.* This covers all calls of any process to the C library. So one disk
//!   serves the audit log, the snapshot, SQLite and PostgreSQL, and the agents' code is what users
//!   run. It does not see writes through mmap, or raw system calls; `recorder.c` lists them, and
//!   says why they do not matter here. It needs a C compiler, which building Bridge needs as well.
//!
//! The last way is used here. A process with threads cannot be repeated from a seed. So the log of
//! a run that lost data is kept: with the seed and that file, the loss repeats exactly.
//!
//! # Promises of the disk
//!
//! The disk promises no more than POSIX, and so less than most file systems:
//!
//! - An fsync that has returned covers the writes to that file from before it began. A file's name
//!   becomes durable only by an fsync of its folder. For PostgreSQL, which relies on more, names
//!   follow the order of a journal ([`disk::Names`]).
//! - After a failed fsync, it is unknown what was written. The operating system treats those pages
//!   as written, as Linux does: a later fsync covers such a page only if it was written again.
//! - A file handle whose fsync has failed may lie from then on: later fsyncs report success and do
//!   nothing. POSIX promises nothing for such a handle, so a program must open the file again to go
//!   on. SQLite keeps its handles and is spared this fault; the other stores are not.

// The disk: its recording, and its content after a power loss.
pub mod disk;
pub mod fate;
pub mod record;
pub mod recorder;

// The stores that use the disk.
pub mod stores;

// The command.
mod options;
mod report;
mod run;

pub use options::{Command, Options, Part};
pub use report::{Loss, Report, StoreReport};
pub use run::run;

#[cfg(test)]
mod tests;
