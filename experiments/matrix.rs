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
    /// What the objective needs and the model has not, where it cannot.
    pub reasons: Vec<Why>,
}

/// One reason against a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// What the objective asks for.
    pub wants: String,
    /// What the model offers instead.
    pub offered: String,
    /// What would fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl From<Reason> for Why {
    fn from(Reason { wants, offered, help }: Reason) -> Self {
        Self { wants, offered, help }
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
            let cell = |model: &models::Config| {
                let reasons: Vec<Why> =
                    objectives::fits(&objective, &**model).into_iter().map(Why::from).collect();
                Cell { objective: objective.name(), model: model.name(), fits: reasons.is_empty(), reasons }
            };
            models.iter().map(cell).collect::<Vec<_>>()
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
}

impl Default for Matrix {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Matrix {
    /// A grid of `yes` and numbers, and below it what each number stands for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<&str> = models::Config::all().iter().map(models::Config::name).collect();
        let width = self.cells.iter().map(|cell| cell.objective.len()).max().unwrap_or(0);
        // `no 999` is the widest of what stands in a cell.
        let column = |model: &str| model.len().max(6);
        write!(f, "{:width$}", "")?;
        models.iter().try_for_each(|model| write!(f, "  {model:>0$}", column(model)))?;
        let mut notes: Vec<&[Why]> = Vec::new();
        for row in self.cells.chunks(models.len().max(1)) {
            write!(f, "\n{:width$}", row.first().map_or("", |cell| cell.objective))?;
            for cell in row {
                let text = if cell.fits {
                    "yes".to_owned()
                } else {
                    let known = notes.iter().position(|known| *known == cell.reasons);
                    if known.is_none() {
                        notes.push(&cell.reasons);
                    }
                    format!("no {}", 1 + known.unwrap_or(notes.len() - 1))
                };
                write!(f, "  {text:>0$}", column(cell.model))?;
            }
        }
        for (number, reasons) in (1..).zip(notes) {
            writeln!(f)?;
            for (lead, reason) in std::iter::once(format!("{number:>3}"))
                .chain(std::iter::repeat("   ".to_owned()))
                .zip(reasons)
            {
                write!(f, "\n{lead}  {}\n     {}", reason.wants, reason.offered)?;
                if let Some(help) = &reason.help {
                    write!(f, "\n     {help}")?;
                }
            }
        }
        Ok(())
    }
}
