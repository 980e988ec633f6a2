//! Tests of memory that a process leaves behind: a core dump after a crash, and the stack after a
//! function returns.
//!
//! These tests have their own program. One test lets every process that it starts dump core, and
//! another one reads its own stack.

#[cfg(test)]
#[path = "../common/mod.rs"]
mod common;
#[cfg(test)]
mod cores;
#[cfg(test)]
mod stacks;
