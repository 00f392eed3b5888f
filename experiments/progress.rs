//! What a person sees while runs go: a bar with rate and time left on a terminal, plain lines now and then elsewhere.
//!
//! Everything that experiments print while they work goes through here, to standard error; results go to standard
//! output, so that a pipe receives results alone.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Between two plain lines of one run.
const PAUSE: Duration = Duration::from_secs(5);

/// The bars of all runs that go side by side, one below the other.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Not at all.
    Nothing,
    /// As plain lines.
    Lines,
    /// As a bar that is drawn over itself.
    Bar,
}

impl Show {
    /// A bar on a terminal, lines elsewhere, nothing if `quiet`.
    pub fn fitting(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Bar,
            (false, false) => Self::Lines,
        }
    }

    /// Prints one line.
    pub fn line(self, text: &str) {
        if self != Self::Nothing {
            // Whoever closed standard error does not want to hear of it.
            let write = || drop(writeln!(std::io::stderr(), "{text}"));
            if self == Self::Bar { BARS.suspend(write) } else { write() }
        }
    }
}

/// The progress of one run.
pub struct Progress {
    show: Show,
    bar: ProgressBar,
    title: String,
    begun: Instant,
    first: u64,
    steps: u64,
    spoke: Instant,
}

impl Progress {
    /// A run called `title` of `steps` updates, of which `first` were made before.
    pub fn new(show: Show, title: &str, first: u64, steps: u64) -> Self {
        let bar = if show == Show::Bar { BARS.add(ProgressBar::new(steps)) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(title.to_owned());
        bar.set_position(first);
        let now = Instant::now();
        Self { show, bar, title: title.to_owned(), begun: now, first, steps, spoke: now }
    }

    /// `step` updates are made; `loss` is the latest mean, if one was read.
    pub fn update(&mut self, step: u64, loss: Option<f64>) {
        self.bar.set_position(step);
        let (seconds, made) = (self.begun.elapsed().as_secs_f64(), step.saturating_sub(self.first));
        let Some(loss) = loss else { return };
        let rate = made as f64 / seconds.max(1e-9);
        let left = duration(self.steps.saturating_sub(step) as f64 / rate.max(1e-9));
        let text = format!("loss {loss:.3}, {rate:.1} steps/s, {left} left");
        self.bar.set_message(text.clone());
        if self.show == Show::Lines && self.spoke.elapsed() >= PAUSE {
            self.spoke = Instant::now();
            self.show.line(&format!("{}: step {step}/{}, {text}", self.title, self.steps));
        }
    }

    /// So many of what is counted are done.
    pub fn count(&mut self, done: u64, of: &str) {
        self.bar.set_position(done);
        let rate = (done.saturating_sub(self.first)) as f64 / self.begun.elapsed().as_secs_f64().max(1e-9);
        let left = duration(self.steps.saturating_sub(done) as f64 / rate.max(1e-9));
        let text = format!("{rate:.1} {of}/s, {left} left");
        self.bar.set_message(text.clone());
        if self.show == Show::Lines && self.spoke.elapsed() >= PAUSE {
            self.spoke = Instant::now();
            self.show.line(&format!("{}: {done}/{} {of}, {text}", self.title, self.steps));
        }
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
