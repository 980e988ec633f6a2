//! Wipes the clear text that a computation leaves on its thread's stack.
//!
//! The agents' allocator wipes memory that is freed; nothing wipes a stack. A cipher copies its blocks to the stack (1 KiB at a
//! time, where the processor has wide registers), and the copies stay until another call overwrites them. Code that handles
//! clear text runs inside `wiped`, which overwrites that part of the stack afterwards.

use std::hint::black_box;

/// Bytes that are wiped below the caller's frame. Reading, sealing or opening an order uses several times less.
const DEPTH_BYTES: usize = 32 << 10;

/// Runs `work`, then overwrites the stack that it has used, up to 32 KiB.
///
/// The caller's frame is not wiped, and the result moves through it. So the result may own values on the heap, but no array with
/// clear text. `work` is synchronous: an `async` function keeps its values on the heap while it waits.
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
