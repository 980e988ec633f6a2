//! The bridge-idc program.

/// Orders allocate on one thread and free on another, for which the system's allocator takes locks.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    bridge_idc::cli::run()
}
