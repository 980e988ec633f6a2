//! The bridge-idc program.

use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// An order's memory is allocated on one thread and freed on another. The system's allocator takes
/// locks for that, and mimalloc does not. Freed memory is wiped, because libraries below this
/// program keep personal data in buffers that they do not wipe.
#[global_allocator]
static MEMORY: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> std::process::ExitCode {
    bridge_idc::cli::run()
}
