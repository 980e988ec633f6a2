//! Parts that the command lines of both agents share: exit codes, `check`, `status`.

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

/// Failure of a command. The exit code is 1 for [`Self::Failed`] and 2 for [`Self::Usage`].
pub enum Failure {
    /// The command was right but failed.
    Failed(Box<dyn Display + Send + Sync>),
    /// Its arguments or configuration are wrong.
    Usage(Box<dyn Display + Send + Sync>),
    /// The reader of its output has closed it (`audit tail | head`). This is no fault.
    ReaderGone,
}

/// Result of a command.
pub type Outcome = Result<(), Failure>;

/// Makes a failure that the caller must correct.
pub fn usage(what: impl Display + Send + Sync + 'static) -> Failure {
    Failure::Usage(Box::new(what))
}

/// Makes a failure that is no mistake of the caller.
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

/// An error with its causes, on one line. If an error's text already ends with its cause's, the
/// cause is left out (sqlx includes it).
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

/// Writes the error to standard error and returns the exit code.
pub fn exit(outcome: Outcome) -> ExitCode {
    // The buffered rest is part of the result, so a full disk is reported.
    let (what, code) = match outcome.and_then(|()| out().flush().map_err(Failure::from)) {
        Ok(()) | Err(Failure::ReaderGone) => return ExitCode::SUCCESS,
        Err(Failure::Failed(what)) => (what, 1),
        Err(Failure::Usage(what)) => (what, 2),
    };
    // The text may quote a file, a peer or a database.
    let _nobody_listens = writeln!(io::stderr(), "{}", shown_lines(&what.to_string()));
    ExitCode::from(code)
}

/// Runs an agent until its end. A thread that waits for a disk at that time is abandoned.
///
/// # Errors
///
/// Fails if the runtime cannot be made or the agent fails.
pub fn serve<E: Into<Failure>>(agent: impl Future<Output = Result<(), E>>) -> Outcome {
    let runtime = runtime()?;
    let served = runtime.block_on(agent);
    runtime.shutdown_background();
    served.map_err(E::into)
}

/// Makes the runtime of an agent's tunnel, admin listener and database work.
///
/// # Errors
///
/// Fails if the system refuses it.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Prints the result of `check` for a configuration without mistakes. Warnings go to standard
/// error.
///
/// # Errors
///
/// Fails if writing fails.
pub fn checked(path: &Path, warnings: &[String], effective: Option<&str>) -> io::Result<()> {
    for warning in warnings {
        writeln!(io::stderr(), "{}", shown_lines(warning))?;
    }
    match effective {
        Some(effective) => write!(out(), "{effective}"),
        None => writeln!(out(), "{}: no mistakes", shown(&path.display().to_string())),
    }
}

/// Shows the state of the agent whose admin listener is at `address`, as JSON or as a page.
///
/// # Errors
///
/// Fails if the agent does not answer.
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

    /// An error whose text includes the text of its cause, as sqlx's errors do.
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
