//! Configuration: one TOML file and an environment overlay, read once, with all mistakes reported
//! together.
//!
//! A [`Reader`] returns values key by key. It records the requested keys, the source of each value
//! and the mistakes. A key that was never requested is a mistake too. `sections` has the structs
//! that both agents share, and an agent's own config.rs adds its sections. Nothing here is global,
//! and no secret's value gets into a mistake or the printed configuration.

mod source;

mod values;
pub use values::{BasePaths, BitRate, ByteSize, CollectorUrl, DialTarget, InputFile, Kind, Setting};

mod secret;
pub use secret::{Secret, SecretFile};

mod mistakes;
pub use mistakes::Mistakes;

mod reader;
pub use reader::{Bounds, Reader, Section};

mod sections;
pub use sections::{
    AdminConfig, AgentConfig, AuditConfig, LINKS_PER_PEER_MAX, LogConfig, LogFormat, PostQuantum,
    TransportChoice, TunnelConfig,
};

pub mod sample;

/// Returns the process's environment for [`Reader::open`]. Unlike `std::env::vars` it does not
/// panic on a variable that is not UTF-8.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests;
