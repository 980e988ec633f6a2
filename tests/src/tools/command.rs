//! How every command of the harness ends: 0 done, 1 failed, 2 told something that cannot be, or on a machine that lacks
//! something. What went wrong is one message on standard error, its causes among it, and never a stack.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::testkit::machine::NotReady;

/// What a command was told cannot be; says what can.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The exit code of a command that ended like this; whether what it tried came out well is its own answer.
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

/// Says a report on standard output: as one JSON object and nothing else, or as a text.
///
/// # Errors
/// When nobody reads it to its end.
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
