//! Progress of a bench. It goes to standard error, since standard output is for the report alone.

use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar for a bench. It is drawn only on a terminal.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn of(bench: &str, steps: usize) -> Progress {
        let style = ProgressStyle::with_template("{prefix:>24} {wide_bar} {human_pos}/{human_len} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr_with_hz(10));
        Progress(bar.with_style(style).with_prefix(bench.to_owned()))
    }

    pub(super) fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Prints one line about the current step.
pub(super) fn tell(what: &str) {
    // A closed standard error is no problem.
    let _told = writeln!(std::io::stderr(), "{what}");
}
