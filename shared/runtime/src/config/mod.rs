//! Configuration: one TOML file and an environment overlay, read once, all mistakes reported together.
//!
//! A [`Reader`] hands out values key by key and keeps the books: what was asked for, where each value came from and what
//! was wrong. What was never asked for is a mistake as well. `sections` holds the structs both agents share; an agent's
//! own config.rs adds its sections. Nothing here is global, and no secret's value ever enters a mistake or the printed
//! configuration.

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
    TunnelConfig,
};

pub mod sample;

/// The process's environment as [`Reader::open`] takes it. Unlike `std::env::vars` it does not panic on a variable that is
/// not UTF-8.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests;
