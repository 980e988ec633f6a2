//! The way of the log's lines to standard error: into a bounded buffer, and from there by a thread of their own.
//!
//! Whoever reads the log may stop reading: a terminal after Ctrl-S, a log driver, a full disk. Then only that thread waits. A line
//! that finds the buffer full is left out and counted, and no request waits for it.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written: some thousands of them, more than any burst at `info`.
const BYTES_MAX: usize = 1 << 20;

/// How long the end of the process waits for what is left.
const FLUSH: Duration = Duration::from_secs(2);

/// The process has one log, as it has one subscriber of `tracing`: whoever ends the process writes out its lines.
static LOG: OnceLock<Lines> = OnceLock::new();

/// Counts for as many [`Metrics`](super::metrics::Metrics) as there are in the process.
static LEFT_OUT: LazyLock<Counter> = LazyLock::new(Counter::default);

/// How many of the log's lines were left out.
pub(super) fn left_out() -> Counter {
    LEFT_OUT.clone()
}

/// Waits until the log's lines are written; gives up after two seconds. To be called before the process ends.
pub fn flush() {
    if let Some(lines) = LOG.get() {
        lines.flush(FLUSH);
    }
}

/// Dropped, it [flushes](flush).
#[derive(Debug)]
pub(super) struct FlushAtEnd;

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        flush();
    }
}

/// Where lines wait, and the thread that writes them. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Told of every line, and of every end of writing.
    changed: Condvar,
    bytes_max: usize,
    left_out: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    /// At most `bytes_max`.
    bytes: Vec<u8>,
    /// Lines that found no room since that was last said.
    left_out: u64,
    /// The thread has lines that are not written yet.
    is_writing: bool,
}

impl Lines {
    /// The log of this process, on standard error.
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
            // There is room for it now, and it stands where they would.
            if left_out > 0 {
                tracing::warn!(
                    left_out,
                    "lines of the log were left out, since whoever reads it did not keep up"
                );
            }
            // One call a line, since others may write to the same file; a line that cannot be written is lost.
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                if out.write_all(line).is_err() {
                    self.0.left_out.inc();
                }
            }
            let _lost = out.flush();
        }
    }

    /// Waits for lines and takes them all; how many were left out before them.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        self.0.changed.notify_all();
        let idle = |waiting: &mut Waiting| waiting.bytes.is_empty();
        let mut waiting = self.0.changed.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
        waiting.is_writing = true;
        (mem::take(&mut waiting.bytes), mem::take(&mut waiting.left_out))
    }

    /// Waits until all lines are written, at most so long; whether they are.
    fn flush(&self, within: Duration) -> bool {
        let busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.bytes.is_empty();
        let ended = self.0.changed.wait_timeout_while(self.lock(), within, busy);
        !ended.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// The subscriber hands over a whole line at a time.
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

    /// A reader that takes a line whenever the test lets it.
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
        // Ten bytes each. The thread may have taken some of the first before the buffer was full.
        for number in 0..100 {
            (&lines).write_all(format!("line {number:04}\n").as_bytes()).unwrap();
        }
        let lost = left_out.get();
        assert!((80..=90).contains(&lost), "{lost}");
        assert!(!lines.flush(Duration::ZERO), "nobody has read anything");
        (0..100 - lost).for_each(|_| lets.send(()).unwrap());
        assert!(lines.flush(Duration::from_secs(60)), "all are written");
        let written: Vec<u8> = taken.try_iter().flatten().collect();
        assert_eq!(written.len() as u64, 10 * (100 - lost));
        assert!(written.starts_with(b"line 0000\nline 0001\n"), "in their order, each as a whole");
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
