//! The bridge-idc program.
fn main() -> std::process::ExitCode {
    bridge_idc::cli::run()
}
