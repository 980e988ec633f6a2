//! Standard output of a command.
//!
//! `audit tail | head` closes the pipe once it has read enough. Rust's runtime ignores SIGPIPE, so
//! the next write fails. This is the reader's wish and no fault of the command. The error gets its
//! own type here, where it surely comes from standard output: a broken connection to a database has
//! the same error code.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

/// Standard output. After the reader has closed it, each write fails with [`ReaderGone`].
#[derive(Debug)]
pub struct Output(io::Stdout);

/// Returns the standard output that every command writes to.
pub fn out() -> Output {
    Output(io::stdout())
}

/// The reader of a command's output has closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the output has closed it")
    }
}

impl Error for ReaderGone {}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(told_apart)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(told_apart)
    }
}

/// Marks a broken pipe as [`ReaderGone`] and leaves every other error alone.
pub(crate) fn told_apart(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        _ => error,
    }
}

/// Returns true if an error, or one of its causes, is [`ReaderGone`].
pub fn reader_is_gone(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<ReaderGone>() || inner.is_some_and(|inner| reader_is_gone(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wraps an error as the commands do.
    #[derive(Debug)]
    struct Wrapped(io::Error);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot write")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn only_a_pipe_of_ours_that_nobody_reads_counts() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(reader_is_gone(&told_apart(broken())));
        assert!(reader_is_gone(&Wrapped(told_apart(broken()))));
        assert!(reader_is_gone(&io::Error::other(told_apart(broken()))));
        assert!(!reader_is_gone(&Wrapped(broken())), "a connection that broke is a fault");
        assert!(!reader_is_gone(&told_apart(io::ErrorKind::StorageFull.into())));
    }
}
