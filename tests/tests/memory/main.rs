//! What a process leaves behind of its memory: a core dump when it crashes, and its stack when a function returns.
//!
//! A program of its own: one test lets every process that it starts dump its core, another reads its own stack.

#[cfg(test)]
#[path = "../common/mod.rs"]
mod common;
#[cfg(test)]
mod cores;
#[cfg(test)]
mod stacks;
