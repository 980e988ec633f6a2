//! Wipes clear text that a computation leaves on its thread's stack.
//!
//! The agents' allocator wipes freed memory, but nothing wipes a stack. A cipher copies its blocks
//! to the stack (1 KiB at a time on a processor with wide registers), and the copies stay until
//! another call overwrites them. Code that handles clear text runs inside `wiped`, which
//! overwrites that part of the stack afterwards.

use std::hint::black_box;

/// Bytes that are wiped below the caller's frame. Reading, sealing or opening an order uses only a
/// fraction of it.
const DEPTH_BYTES: usize = 32 << 10;

/// Runs `work`, then overwrites the stack that it used, up to 32 KiB.
///
/// The caller's frame is not wiped, and the result moves through it. So the result may own values
/// on the heap, but must not contain an array with clear text. `work` must be synchronous: an
/// `async` function keeps its values on the heap while it waits.
pub fn wiped<T>(work: impl FnOnce() -> T) -> T {
    let result = run(work);
    wipe();
    result
}

/// Needs a frame of its own. If it were inlined, its locals would be in the caller's frame, which
/// is not wiped.
#[inline(never)]
fn run<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe() {
    let mut bytes = [0_u8; DEPTH_BYTES];
    // The optimiser would remove a write that nothing reads.
    black_box(&mut bytes);
}
