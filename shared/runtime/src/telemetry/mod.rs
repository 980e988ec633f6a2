//! Logs and metrics: set up once, then handed down; nothing but `tracing`'s subscriber is global.
//!
//! Personal data and secrets never come here: metrics have only labels from closed lists, and of the log's events below
//! INFO only those of crates that never print what passes through them get out.

pub mod metrics;
pub mod payments;

mod labelled;
pub use labelled::{Label, Labelled};

use std::io::{IsTerminal, stderr};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{fmt, registry};

use crate::config::{LogConfig, LogFormat};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is no filter; the configuration's check says so first.
    #[error("log.level is not a filter: {0}")]
    Filter(#[from] ParseError),
    /// This process logs elsewhere already.
    #[error("the log is set up already: {0}")]
    AlreadySet(#[from] TryInitError),
}

/// Starts logging to standard error.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let lines = fmt::layer().with_writer(stderr);
    let lines = match config.format {
        LogFormat::Human => lines.with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let wanted = EnvFilter::try_new(&config.level)?;
    registry().with(wanted).with(lines.with_filter(filter_fn(is_discreet))).try_init()?;
    Ok(())
}

/// Whether an event can be trusted to hold no one's data: hyper and h2 print headers, bearer tokens among them, and sqlx
/// prints statements, so whatever `log.level` asks for, they are not heard below INFO.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    let trusted = ["bridge_", "quinn", "rustls"].iter().any(|name| metadata.target().starts_with(name));
    trusted || *metadata.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use tracing::{debug, info};

    use super::*;

    #[test]
    fn what_passes_through_a_library_stays_out_of_the_log_at_any_level() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines = fmt::layer().with_ansi(false).with_writer(File::create(&path).unwrap());
        let subscriber =
            registry().with(EnvFilter::new("trace")).with(lines.with_filter(filter_fn(is_discreet)));
        tracing::subscriber::with_default(subscriber, || {
            debug!(target: "h2::codec", "authorization: Bearer hunter2");
            debug!(target: "sqlx::query", "insert hunter2");
            info!(target: "h2::server", "a connection ended");
            debug!(target: "bridge_cloud::tunnel", "a heartbeat was late");
        });
        let log = std::fs::read_to_string(path).unwrap();
        assert!(!log.contains("hunter2"), "{log}");
        assert!(log.contains("a connection ended") && log.contains("a heartbeat was late"), "{log}");
    }
}
