//! Exit codes and error messages of all commands of the harness.
//!
//! The exit code is 0 for success, 1 for failure, and 2 for wrong options or a machine that lacks
//! something. An error is one message on standard error. The message includes its causes, and never
//! a stack trace.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::testkit::machine::NotReady;

/// An error in the command's options. The message says what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Returns the exit code for a command's result, and prints its error. `Ok(false)` means that the
/// command itself ran, but found a failure.
pub fn end(command: &str, ended: Result<bool>) -> ExitCode {
    let error = match ended {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::FAILURE,
        Err(error) => error,
    };
    let _nobody_listens = writeln!(io::stderr(), "{command}: {error:#}");
    let is_for_the_caller = error.is::<Usage>() || error.is::<NotReady>();
    if is_for_the_caller { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Prints a report on standard output: as one JSON object and nothing else, or as text.
///
/// # Errors
///
/// Fails if standard output is closed.
pub fn tell<R: Serialize + Display>(report: &R, as_json: bool) -> Result<()> {
    let mut stdout = io::stdout().lock();
    if as_json {
        serde_json::to_writer(&mut stdout, report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn who_can_mend_it_decides_the_code_however_deep_it_lies() {
        let code = |ended| format!("{:?}", end("a test", ended));
        let exit = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(Ok(true)), exit(0));
        assert_eq!(code(Ok(false)), exit(1));
        assert_eq!(code(Err(anyhow!("broken"))), exit(1));
        let deep = |error: anyhow::Error| Err(error.context("begin").context("measure"));
        assert_eq!(code(deep(Usage("no".to_owned()).into())), exit(2));
        assert_eq!(code(deep(NotReady("no wrk".to_owned()).into())), exit(2));
        assert_eq!(code(Err(io::Error::other("broken")).context("write")), exit(1));
    }
}
