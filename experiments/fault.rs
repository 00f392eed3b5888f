//! One thing that is wrong with an experiment file or a command: what, where, why, and what to do.

use std::fmt::{self, Write};
use std::sync::Arc;

pub use crate::nearest::{nearest, suggest};

/// A text that settings come from: a file, or a flag of the command.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text {
    /// The file as it was named, or `command line`.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// A stretch of one line of a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The text.
    pub text: Arc<Text>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In characters.
    pub width: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.text.name, self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render(Paint::Plain))]
pub struct Fault {
    /// What, in one clause.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// Why: the sides that disagree.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
}

/// Whether a rendered fault carries the escape codes of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Bare text.
    Plain,
    /// Red, blue and bold.
    Colour,
}

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const BLUE: &str = "\x1b[1;34m";

impl Paint {
    fn on(self, style: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("{style}{text}\x1b[0m"),
        }
    }
}

impl Fault {
    /// A fault of which no more is known yet.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, notes: Vec::new(), help: Vec::new() }
    }

    /// Adds where it is, unless a nearer place is known already.
    #[must_use]
    pub fn at(mut self, place: Option<&Place>) -> Self {
        self.place = self.place.or_else(|| place.cloned());
        self
    }

    /// Adds a reason.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// The fault with the line it lies on, as compilers print theirs.
    pub fn render(&self, paint: Paint) -> String {
        let mut out = format!("{}: {}", paint.on(RED, "error"), paint.on(BOLD, &self.message));
        let margin = self.place.as_ref().map_or(1, |place| place.line.to_string().len());
        if let Some(place) = &self.place {
            let line = place.text.text.lines().nth(place.line - 1).unwrap_or_default();
            let lead: String =
                line.chars().take(place.column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            let bar = paint.on(BLUE, "|");
            let marks = paint.on(RED, &"^".repeat(place.width.max(1)));
            // Writing to a string cannot fail.
            let _ = write!(out, "\n{:margin$}{} {place}", "", paint.on(BLUE, "-->"));
            let _ = write!(out, "\n{:margin$} {bar}", "");
            let _ = write!(out, "\n{} {bar} {line}", paint.on(BLUE, &format!("{:margin$}", place.line)));
            let _ = write!(out, "\n{:margin$} {bar} {lead}{marks}", "");
        }
        let lines = self.notes.iter().map(|note| (paint.on(BLUE, "="), note));
        let help = self.help.iter().map(|help| (paint.on(BOLD, "help:"), help));
        for (sign, text) in lines.chain(help) {
            let _ = write!(out, "\n{:margin$} {sign} {text}", "");
        }
        out
    }
}

/// Faults on their way to be printed, each once.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds one.
    pub fn push(&mut self, fault: Fault) {
        if !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }

    /// Adds what is wrong, or gives what is right.
    pub fn take<T>(&mut self, read: Result<T, Vec<Fault>>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(faults) => {
                self.extend(faults);
                None
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them in the order of their places; those without a place first.
    pub fn sorted(mut self) -> Vec<Fault> {
        self.0.sort_by(|a, b| a.place.cmp(&b.place));
        self.0
    }
}

impl Extend<Fault> for Faults {
    fn extend<I: IntoIterator<Item = Fault>>(&mut self, faults: I) {
        faults.into_iter().for_each(|fault| self.push(fault));
    }
}
