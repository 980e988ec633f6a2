//! The bridge-idc program.

use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// Orders allocate on one thread and free on another, for which the system's allocator takes locks. What is freed is wiped:
/// the libraries between a socket and us keep buffers that held an order, and wipe none of them.
#[global_allocator]
static MEMORY: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> std::process::ExitCode {
    bridge_idc::cli::run()
}
