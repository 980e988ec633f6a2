//! Logs, traces and metrics: made once, then passed on. Only `tracing`'s subscriber and the writing
//! of its lines are global.
//!
//! Personal data and secrets never get here. Metrics have labels from closed lists only. Log events
//! below INFO are accepted only from crates that never print the data that passes through them.

pub mod metrics;
pub mod shared;

mod labelled;
pub use labelled::{Label, Labelled};

mod lines;
pub use lines::flush;

mod log_rate_limit;
pub use log_rate_limit::LogRateLimit;

mod otlp;
pub use otlp::continue_trace;

use std::io::{self, IsTerminal, stderr};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, ParseError, filter_fn};
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{fmt, registry};

use crate::config::{LogConfig, LogFormat};
use lines::{FlushAtEnd, Lines};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is no filter. The check of the configuration reports it first.
    #[error("log.level is not a filter: {0}")]
    Filter(#[from] ParseError),
    /// This process already has a log.
    #[error("the log is set up already: {0}")]
    AlreadySet(#[from] TryInitError),
    /// The thread for its lines cannot be started.
    #[error("start the log's thread: {0}")]
    Thread(#[from] io::Error),
    /// Traces cannot be sent to `log.otlp`.
    #[error("start to send traces: {0}")]
    Traces(#[from] otlp::Error),
}

/// Source of the traces.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Name of the program.
    pub name: &'static str,
    /// Name of the agent.
    pub instance: &'a str,
}

/// Background work of log and traces. Drop it at the end of the process, so that no trace and no
/// line is lost.
#[must_use]
#[derive(Debug)]
pub struct Telemetry {
    _traces: Option<otlp::Exporter>,
    /// After the traces, whose end may log something.
    _lines: FlushAtEnd,
}

/// Starts logging to standard error, and sends traces if `log.otlp` has an address. Do not call it
/// within an async runtime.
///
/// # Errors
///
/// Fails if the filter is wrong, a log exists already, or a thread cannot be started.
pub fn init(config: &LogConfig, service: &Service<'_>) -> Result<Telemetry, LogError> {
    let lines = fmt::layer().with_writer(Lines::to_stderr()?);
    let lines = match config.format {
        LogFormat::Human => lines.with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let lines = lines.with_filter(discreet(EnvFilter::try_new(&config.level)?));
    let exporter = config.otlp.as_ref().map(|collector| otlp::Exporter::start(collector, service));
    let exporter = exporter.transpose()?;
    registry().with(lines).with(exporter.as_ref().map(|exporter| exporter.layer())).try_init()?;
    Ok(Telemetry { _traces: exporter, _lines: FlushAtEnd })
}

/// Returns the filter of the log's lines. It is separate from the traces, which do not depend on
/// `log.level`.
fn discreet<S: Subscriber>(wanted: EnvFilter) -> impl Filter<S>
where
    EnvFilter: Filter<S>,
{
    wanted.and(filter_fn(is_discreet).with_max_level_hint(LevelFilter::TRACE))
}

/// Returns true if an event surely has no one's data. hyper and h2 print headers with bearer
/// tokens, and sqlx prints statements. So their events below INFO are dropped, whatever `log.level`
/// says.
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
    fn a_librarys_data_stays_out_of_the_log_at_any_level() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines = fmt::layer().with_ansi(false).with_writer(File::create(&path).unwrap());
        let subscriber = registry().with(lines.with_filter(discreet(EnvFilter::new("trace"))));
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
