//! What the command lines of both agents have in common: exit codes, `check`, `status`.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use bridge_console::{reader_is_gone, shown_lines};
use serde_json::Value;

pub use bridge_console::{Access, UserFile, out, shown};

use crate::{admin, status_page};

/// How a command ended badly: 1 is failed, 2 is usage or configuration.
pub enum Failure {
    /// The command was right and did not succeed.
    Failed(Box<dyn Display + Send + Sync>),
    /// What it was given is not right.
    Usage(Box<dyn Display + Send + Sync>),
    /// Whoever read its output has seen enough, which is not a fault: `audit tail | head`.
    ReaderGone,
}

/// How a command ended.
pub type Outcome = Result<(), Failure>;

/// A failure that is the caller's to mend.
pub fn usage(what: impl Display + Send + Sync + 'static) -> Failure {
    Failure::Usage(Box::new(what))
}

/// A failure that is nobody's mistake in the call.
pub fn failed(what: impl Display + Send + Sync + 'static) -> Failure {
    Failure::Failed(Box::new(what))
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        if reader_is_gone(error.as_ref()) {
            return Self::ReaderGone;
        }
        Self::Failed(Box::new(Chain(error)))
    }
}

/// An error with its causes, on one line; a cause whose words its effect ends with is not said twice (sqlx does).
struct Chain(Box<dyn Error + Send + Sync>);

impl Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(next) = cause {
            let text = next.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = next.source();
        }
        Ok(())
    }
}

/// All mistakes of several looks at once, each in lines of its own: nobody has to mend one to hear of the next.
pub fn together(looks: impl IntoIterator<Item = Outcome>) -> Outcome {
    let mut mistakes = Vec::new();
    for look in looks {
        match look {
            Err(Failure::Usage(what)) => mistakes.push(what.to_string()),
            other => other?,
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(usage(mistakes.join("\n"))) }
}

/// Says what went wrong on standard error, and gives the exit code.
pub fn exit(outcome: Outcome) -> ExitCode {
    // What is left in the buffer is part of the result: a disk that is full by now is told.
    let (what, code) = match outcome.and_then(|()| out().flush().map_err(Failure::from)) {
        Ok(()) | Err(Failure::ReaderGone) => return ExitCode::SUCCESS,
        Err(Failure::Failed(what)) => (what, 1),
        Err(Failure::Usage(what)) => (what, 2),
    };
    // It may quote a file, a peer or a database.
    let _nobody_listens = writeln!(io::stderr(), "{}", shown_lines(&what.to_string()));
    ExitCode::from(code)
}

/// Serves until its end. What is left behind then, a thread that waits for a disk, is not waited for.
pub fn serve<E: Into<Failure>>(agent: impl Future<Output = Result<(), E>>) -> Outcome {
    let runtime = runtime()?;
    let served = runtime.block_on(agent);
    runtime.shutdown_background();
    served.map_err(E::into)
}

/// The runtime of an agent's tunnel, admin listener and database work.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// What `check` says of a configuration without mistakes.
pub fn checked(path: &Path, effective: Option<&str>) -> io::Result<()> {
    match effective {
        Some(effective) => write!(out(), "{effective}"),
        None => writeln!(out(), "{}: no mistakes", shown(&path.display().to_string())),
    }
}

/// Shows the state of the agent whose admin listener is at `address`: as JSON, or as a page.
pub async fn status(address: SocketAddr, as_json: bool) -> Outcome {
    let (_, body) = admin::get(address, "/status").await?;
    let status: Value = serde_json::from_slice(&body)?;
    if as_json {
        writeln!(out(), "{status:#}")?;
        return Ok(());
    }
    let (_, body) = admin::get(address, "/readyz").await?;
    let ready: Value = serde_json::from_slice(&body)?;
    let sentences = |name: &str| -> Vec<String> {
        let listed = ready[name].as_array().into_iter().flatten();
        listed.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let page = status_page::page(&status, &sentences("because"), &sentences("notes"));
    write!(out(), "{page}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says its own words and, as sqlx does, those of its cause.
    #[derive(Debug, thiserror::Error)]
    #[error("error returned from database: {0}")]
    struct SaysItsCause(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("the database does not answer")]
    struct Outer(#[source] SaysItsCause);

    #[test]
    fn no_cause_is_said_twice() {
        let error = Outer(SaysItsCause(io::Error::other("no such password")));
        let said = Chain(Box::new(error)).to_string();
        assert_eq!(said, "the database does not answer: error returned from database: no such password");
    }
}
