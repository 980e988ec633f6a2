//! The `bridge-certs` command. All of its code is in [`bridge_certs::cli`].

fn main() -> std::process::ExitCode {
    bridge_certs::cli::run()
}
