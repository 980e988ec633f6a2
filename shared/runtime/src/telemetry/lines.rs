//! Writing of the log's lines to standard error: into a bounded buffer, and from there by a thread
//! of their own.
//!
//! The reader of the log may stop reading: a terminal after Ctrl-S, a log driver, a full disk. Then
//! only that thread waits. A line that finds the buffer full is dropped and counted, and no request
//! waits for it.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes that wait to be written: some thousands of lines, more than any burst at `info`.
const BYTES_MAX: usize = 1 << 20;

/// Longest wait for the remaining lines at the end of the process.
const FLUSH: Duration = Duration::from_secs(2);

/// The process has one log, as it has one subscriber of `tracing`. So any code that ends the
/// process can write out its lines.
static LOG: OnceLock<Lines> = OnceLock::new();

/// Counts for all [`Metrics`](super::metrics::Metrics) of the process.
static LEFT_OUT: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Returns the counter of dropped lines.
pub(super) fn left_out() -> Counter {
    LEFT_OUT.clone()
}

/// Waits until the log's lines are written, for at most two seconds. Call it before the process
/// ends.
pub fn flush() {
    if let Some(lines) = LOG.get() {
        lines.flush(FLUSH);
    }
}

/// [Flushes](flush) the log when dropped.
#[derive(Debug)]
pub(super) struct FlushAtEnd;

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        flush();
    }
}

/// The waiting lines, with the thread that writes them. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Notified of every line and after every write.
    changed: Condvar,
    bytes_max: usize,
    left_out: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    /// At most `bytes_max`.
    bytes: Vec<u8>,
    /// Lines dropped since the last message about it.
    left_out: u64,
    /// Set while the thread has lines that are not written yet.
    is_writing: bool,
}

impl Lines {
    /// Returns the log of this process, on standard error.
    pub(super) fn to_stderr() -> io::Result<Self> {
        let lines = Self::start(io::stderr(), BYTES_MAX, left_out())?;
        Ok(LOG.get_or_init(|| lines).clone())
    }

    fn start(out: impl Write + Send + 'static, bytes_max: usize, left_out: Counter) -> io::Result<Self> {
        let (waiting, changed) = (Mutex::default(), Condvar::new());
        let lines = Self(Arc::new(Shared { waiting, changed, bytes_max, left_out }));
        let writer = lines.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_to(out))?;
        Ok(lines)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes.len() + line.len() > self.0.bytes_max {
            waiting.left_out += 1;
            self.0.left_out.inc();
            return;
        }
        waiting.bytes.extend_from_slice(line);
        self.0.changed.notify_all();
    }

    /// Runs as long as the process.
    fn write_to(self, mut out: impl Write) {
        loop {
            let (bytes, left_out) = self.take();
            // The buffer has room now, and the message takes the place of the dropped lines.
            if left_out > 0 {
                tracing::warn!(
                    left_out,
                    "lines of the log were left out, because its reader did not keep up"
                );
            }
            // Each line is one write, because other processes may write to the same file. A line
            // that cannot be written is lost.
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                if out.write_all(line).is_err() {
                    self.0.left_out.inc();
                }
            }
            let _lost = out.flush();
        }
    }

    /// Waits for lines and takes all. Also returns the number of lines dropped before them.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        self.0.changed.notify_all();
        let idle = |waiting: &mut Waiting| waiting.bytes.is_empty();
        let mut waiting = self.0.changed.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
        waiting.is_writing = true;
        (mem::take(&mut waiting.bytes), mem::take(&mut waiting.left_out))
    }

    /// Waits until all lines are written, at most this long. Returns true if they are.
    fn flush(&self, within: Duration) -> bool {
        let busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.bytes.is_empty();
        let ended = self.0.changed.wait_timeout_while(self.lock(), within, busy);
        !ended.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// The subscriber writes one whole line in each call.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes a line only when the test allows that.
    struct Reader {
        may: Receiver<()>,
        took: Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.may.recv().map_err(io::Error::other)?;
            self.took.send(line.to_owned()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stopped_reader_blocks_nobody_and_costs_the_lines_without_room() {
        let ((lets, may), (took, taken)) = (channel(), channel());
        let left_out = Counter::default();
        let lines = Lines::start(Reader { may, took }, 100, left_out.clone()).unwrap();
        // Each line has ten bytes. The thread may have taken some of the first lines before the
        // buffer was full.
        for number in 0..100 {
            (&lines).write_all(format!("line {number:04}\n").as_bytes()).unwrap();
        }
        let lost = left_out.get();
        assert!((80..=90).contains(&lost), "{lost}");
        assert!(!lines.flush(Duration::ZERO), "the lines are flushed, though nobody has read one");
        (0..100 - lost).for_each(|_| lets.send(()).unwrap());
        assert!(lines.flush(Duration::from_secs(60)), "all are written");
        let written: Vec<u8> = taken.try_iter().flatten().collect();
        assert_eq!(written.len() as u64, 10 * (100 - lost));
        assert!(written.starts_with(b"line 0000\nline 0001\n"), "the lines are whole and in order");
    }

    #[test]
    fn an_unwritable_line_is_counted_and_the_next_one_tried() {
        let (lets, may) = channel::<()>();
        let (took, _taken) = channel();
        drop(lets);
        let left_out = Counter::default();
        let lines = Lines::start(Reader { may, took }, 100, left_out.clone()).unwrap();
        for wanted in 1..=2 {
            (&lines).write_all(b"a line\n").unwrap();
            assert!(lines.flush(Duration::from_secs(60)));
            assert_eq!(left_out.get(), wanted);
        }
    }
}
