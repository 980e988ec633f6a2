//! The `bridge-certs` command; everything it does is in [`bridge_certs::cli`].

fn main() -> std::process::ExitCode {
    bridge_certs::cli::run()
}
