//! Logs, traces and metrics: set up once, then handed down; nothing but `tracing`'s subscriber and its lines' way is global.
//!
//! Personal data and secrets never come here: metrics have only labels from closed lists, and of the log's events below
//! INFO only those of crates that never print what passes through them get out.

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
    /// `log.level` is no filter; the configuration's check says so first.
    #[error("log.level is not a filter: {0}")]
    Filter(#[from] ParseError),
    /// This process logs elsewhere already.
    #[error("the log is set up already: {0}")]
    AlreadySet(#[from] TryInitError),
    /// Nothing writes its lines.
    #[error("start the log's thread: {0}")]
    Thread(#[from] io::Error),
    /// Nothing can be sent to `log.otlp`.
    #[error("start to send traces: {0}")]
    Traces(#[from] otlp::Error),
}

/// Whose traces these are.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// The program.
    pub name: &'static str,
    /// Which of its agents.
    pub instance: &'a str,
}

/// What works behind the log; to be dropped when the process has done its work, so that no trace and no line is lost.
#[must_use]
#[derive(Debug)]
pub struct Telemetry {
    _traces: Option<otlp::Exporter>,
    /// Behind the traces, whose end has something to say.
    _lines: FlushAtEnd,
}

/// Starts logging to standard error, and sending traces if `log.otlp` says where to. Not to be called within an async runtime.
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

/// What of the wanted lines may be written. It is the lines' own filter: which traces go out is not a matter of `log.level`.
fn discreet<S: Subscriber>(wanted: EnvFilter) -> impl Filter<S>
where
    EnvFilter: Filter<S>,
{
    wanted.and(filter_fn(is_discreet).with_max_level_hint(LevelFilter::TRACE))
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
