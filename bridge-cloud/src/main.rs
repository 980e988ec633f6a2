//! The bridge-cloud program.

use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// Orders allocate on one thread and free on another, and the system's allocator takes locks for
/// that. Freed memory is wiped: libraries between the socket and our code keep buffers with parts
/// of an order and do not wipe them.
#[global_allocator]
static MEMORY: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> std::process::ExitCode {
    bridge_cloud::cli::run()
}
