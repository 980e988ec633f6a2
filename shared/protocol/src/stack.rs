//! What a computation on clear text leaves behind on its thread's stack.
//!
//! Memory that is freed is wiped by the agents' allocator; nothing wipes a stack. A cipher works on copies of its blocks there
//! (1 KiB at a time, where the processor has wide registers), and they stay until another call happens to reach as deep. So
//! who handles clear text runs here: a wipe of the same stretch follows.

use std::hint::black_box;

/// Bytes that are wiped below the caller's frame: several times what reading, sealing or opening an order takes.
const DEPTH_BYTES: usize = 32 << 10;

/// Runs `work`, then overwrites the stack that it has used, up to 32 KiB.
///
/// The result moves through the caller's frame, which is not wiped: values on the heap may be in it, clear text in an array
/// may not. `work` is synchronous: what an `async` function keeps over a wait lies on the heap.
pub fn wiped<T>(work: impl FnOnce() -> T) -> T {
    let result = run(work);
    wipe();
    result
}

/// A frame of its own: inlined, its locals would be the caller's, above what is wiped.
#[inline(never)]
fn run<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe() {
    let mut bytes = [0_u8; DEPTH_BYTES];
    // Nobody reads it, so it would not be written.
    black_box(&mut bytes);
}
