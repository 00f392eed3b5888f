//! What we conclude: statistics, verdicts, tables, plots and the page, from the records of runs alone.
//!
//! [`read`] finds runs, [`Results`] counts them up once, and every format shows those numbers.

use std::path::{Path, PathBuf};

pub mod answer;
pub mod compare;
mod csv;
pub mod curves;
mod error;
pub mod fine_print;
mod latex;
mod markdown;
pub mod number;
mod output;
mod page;
pub mod plots;
mod read;
mod results;
pub mod statistics;
pub mod tables;
pub mod verdict;

pub use error::Error;
pub use read::{End, Experiment, Found, Run, read};
pub use results::{Arm, Effect, Metric, Results, Value};

use output::File;
use plots::Figures;

/// The files of a report.
#[derive(Clone, Debug)]
pub struct Written {
    /// The page to open first.
    pub page: PathBuf,
    /// Every file, the page included.
    pub files: Vec<PathBuf>,
}

/// Writes a report on the runs at or below the given paths into a folder.
///
/// # Errors
/// When there are no runs, records cannot be used, or the folder cannot be written; see [`Error`].
pub fn report(runs: &[PathBuf], out: &Path) -> Result<Written, Error> {
    let found = read(runs)?;
    if found.experiments.is_empty() {
        let path = found.empty.first().cloned().unwrap_or_default();
        return Err(Error::NoRuns { path, problem: "no run has written its first record yet".to_owned() });
    }
    let all: Vec<Results> = found.experiments.iter().map(Results::new).collect();
    let prefix = |results: &Results| match all.len() {
        1 => String::new(),
        _ => plots::file_name(&results.experiment.title()) + "-",
    };
    let figures: Vec<Figures> = all.iter().map(|results| Figures::new(results, &prefix(results))).collect();
    let file = |name: &str, content: Vec<u8>| File { name: name.to_owned(), content };
    let mut files = vec![
        file("report.html", page::page(&found, &all, &figures)?.into_bytes()),
        file("report.md", markdown::markdown(&found, &all, &figures).into_bytes()),
        file("table.tex", latex::latex(&all).into_bytes()),
        file("arms.csv", csv::arms(&all)?),
        file("effects.csv", csv::effects(&all)?),
        file("curves.csv", csv::curves(&all)?),
    ];
    for figure in figures.iter().flat_map(Figures::all) {
        files.push(file(&format!("{}.svg", figure.name), figure.svg_file()?.into_bytes()));
        files.push(file(&format!("{}.png", figure.name), figure.png_file()?));
    }
    let files = output::write(out, &files)?;
    Ok(Written { page: out.join("report.html"), files })
}
