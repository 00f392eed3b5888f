//! Which objective can train which model, and for every "no" both sides' reason.

use std::fmt;

use serde::Serialize;

use super::failure::Result;
use super::fault::Fault;
use crate::models;
use crate::objectives::{self, Reason};

/// One objective asked of one model, both with their defaults.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The objective's word.
    pub objective: &'static str,
    /// The model's word.
    pub model: &'static str,
    /// Whether it can be trained.
    pub fits: bool,
    /// The setting with which it can, where it cannot by default, and what the setting does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// What the objective needs and the model has not, where it cannot.
    pub reasons: Vec<Reason>,
}

impl Cell {
    fn new(objective: &objectives::Config, model: &models::Config) -> Self {
        let mut reasons = objectives::fits(objective, model.name(), &**model);
        let mut setting = None;
        if !reasons.is_empty()
            && let Some(other) = objectives::otherwise(objective, model.name(), &**model)
        {
            reasons.clear();
            setting = Some(other.to_string());
        }
        let fits = reasons.is_empty();
        Self { objective: objective.name(), model: model.name(), fits, setting, reasons }
    }
}

/// Every objective with every model.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Matrix {
    /// Row by row: one objective with all models, then the next.
    pub cells: Vec<Cell>,
}

impl Matrix {
    /// Every objective with every model.
    pub fn new() -> Self {
        let models = models::Config::all();
        let row = |objective: objectives::Config| {
            models.iter().map(|model| Cell::new(&objective, model)).collect::<Vec<_>>()
        };
        Self { cells: objectives::Config::all().into_iter().flat_map(row).collect() }
    }

    /// The cells as JSON.
    ///
    /// # Errors
    /// None is known: every cell is plain text.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).map_err(|error| Fault::new(error.to_string()))?)
    }

    fn models(&self) -> Vec<&'static str> {
        once_each(self.cells.iter().map(|cell| cell.model))
    }

    /// What a model lacks, with every reason why.
    fn lacks<'a>(&'a self, model: &str) -> Vec<&'a str> {
        let column = self.cells.iter().filter(|cell| cell.model == model);
        once_each(column.flat_map(|cell| &cell.reasons).map(|reason| reason.offered.as_str()))
    }

    fn settings(&self) -> Vec<&str> {
        once_each(self.cells.iter().filter_map(|cell| cell.setting.as_deref()))
    }

    /// What stands in the grid for a cell: `yes`, `yes a` or `no 1,2`.
    fn mark(&self, cell: &Cell) -> String {
        let mut letters = ('a'..).zip(self.settings());
        match letters.find(|(_, setting)| cell.setting.as_deref() == Some(*setting)) {
            Some((letter, _)) => format!("yes {letter}"),
            None if cell.fits => "yes".to_owned(),
            None => {
                let says = |lack: &str| cell.reasons.iter().any(|reason| reason.offered == lack);
                let numbers = (1..).zip(self.lacks(cell.model)).filter(|(_, lack)| says(lack));
                let numbers: Vec<String> = numbers.map(|(number, _)| number.to_string()).collect();
                format!("no {}", numbers.join(","))
            }
        }
    }

    /// A row for each objective and a column for each model.
    fn grid(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models = self.models();
        let first = self.cells.iter().map(|cell| cell.objective.len()).max().unwrap_or(0);
        let marks: Vec<String> = self.cells.iter().map(|cell| self.mark(cell)).collect();
        let width = |column: usize| {
            let marks = marks.iter().skip(column).step_by(models.len());
            marks.map(String::len).chain([models[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..models.len()).map(width).collect();
        write!(f, "{:first$}", "")?;
        models.iter().zip(&widths).try_for_each(|(model, &width)| write!(f, "  {model:>width$}"))?;
        let rows = self.cells.chunks(models.len()).zip(marks.chunks(models.len()));
        for (cells, marks) in rows {
            write!(f, "\n{:first$}", cells[0].objective)?;
            marks.iter().zip(&widths).try_for_each(|(mark, &width)| write!(f, "  {mark:>width$}"))?;
        }
        Ok(())
    }

    /// What a model lacks, by number, and below each what for.
    fn notes(&self, model: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n\n{model}")?;
        for (number, lack) in (1..).zip(self.lacks(model)) {
            write!(f, "\n{number:>3}  {lack}")?;
            let asked: Vec<(&str, &str)> = self
                .cells
                .iter()
                .filter(|cell| cell.model == model)
                .flat_map(|cell| cell.reasons.iter().map(move |reason| (cell.objective, reason)))
                .filter(|(_, reason)| reason.offered == lack)
                .map(|(objective, reason)| (objective, reason.need.as_str()))
                .collect();
            for need in once_each(asked.iter().map(|(_, need)| *need)) {
                let who = asked.iter().filter(|(_, other)| *other == need).map(|(objective, _)| *objective);
                write!(f, "\n       {}: {need}", who.collect::<Vec<_>>().join(", "))?;
            }
        }
        Ok(())
    }
}

impl Default for Matrix {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Matrix {
    /// The grid, and below it what its letters and numbers stand for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.grid(f)?;
        write!(f, "\n\nA letter is a setting with which the objective fits, where it does not by default:")?;
        for (letter, setting) in ('a'..).zip(self.settings()) {
            write!(f, "\n  {letter}  {setting}")?;
        }
        write!(f, "\n\nA number is what the model lacks; below it stand the objectives and what they need:")?;
        self.models().into_iter().try_for_each(|model| self.notes(model, f))
    }
}

/// Each word once, where it occurs first.
fn once_each<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut each = Vec::new();
    for word in words {
        if !each.contains(&word) {
            each.push(word);
        }
    }
    each
}
