//! Progress on standard error: a bar on a terminal, a line per step elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::console::Progress;
use crate::supervisor::Observer;

/// Shows how far a number of runs is.
#[derive(Debug)]
pub struct Meter {
    bar: ProgressBar,
    total: usize,
    verbose: bool,
}

impl Meter {
    /// For `total` runs. With `verbose`, everything that the guests say is shown, too.
    pub fn new(total: usize, verbose: bool) -> Self {
        let bar = ProgressBar::new(total as u64);
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} [{elapsed_precise}] {bar:30} {pos}/{len} {msg}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, total, verbose }
    }

    /// Something begins.
    pub fn start(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// A run has ended.
    pub fn done(&self, what: &str) {
        self.bar.inc(1);
        self.bar.set_message(what.to_owned());
        if self.bar.is_hidden() && self.total > 1 {
            eprintln!("skerry: {}/{} {what}", self.bar.position(), self.total);
        }
    }

    /// A line that stays.
    pub fn line(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Observer for Meter {
    fn progress(&self, progress: &Progress) {
        self.bar.set_message(format!("{} {}/{}", progress.what, progress.done, progress.total));
    }

    fn text(&self, line: &str) {
        if self.verbose {
            self.line(line);
        }
    }
}
