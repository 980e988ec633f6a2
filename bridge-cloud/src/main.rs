//! The bridge-cloud program.
fn main() -> std::process::ExitCode {
    bridge_cloud::cli::run()
}
