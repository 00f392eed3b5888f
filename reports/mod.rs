//! What we conclude: statistics, verdicts, tables, plots and the page, from the records of runs alone.
//!
//! [`read`] finds runs, [`Results`] counts them up once, and every format shows those numbers.

use std::path::{Path, PathBuf};

pub mod answer;
pub mod compare;
mod contradicted;
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
pub mod reproduction;
mod results;
pub mod statistics;
pub mod tables;
pub mod verdict;
pub mod worth;

pub use error::Error;
pub use read::{End, Experiment, Found, Run, read};
pub use results::{Arm, Effect, Metric, Results, Value};

use crate::experiments::catalogue::Catalogue;
use output::File;
use plots::{Figure, Figures};

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
    write(&found.empty, &all, out, None)
}

/// Writes the page on every published ablation into a folder, and below it a report on each experiment that has runs.
///
/// # Errors
/// As [`report`], but for there being no runs: then nothing was rerun yet.
pub fn reproduction(catalogue: &Catalogue, runs: &[PathBuf], out: &Path) -> Result<Written, Error> {
    let mut found = read(runs)?;
    for experiment in &mut found.experiments {
        let about = &mut experiment.about;
        about.chosen = about.chosen.take().or_else(|| catalogue.chosen.get(&about.name).cloned());
    }
    let all: Vec<Results> = found.experiments.iter().map(Results::new).collect();
    let rows = reproduction::rows(catalogue, &all);
    let figure = plots::forest(&rows);
    let mut files = vec![
        file("index.html", page::reproduction(catalogue, &rows, &all, figure.as_ref())?.into_bytes()),
        file("ablations.csv", csv::ablations(&rows)?),
    ];
    if let Some(figure) = &figure {
        files.extend(drawn(figure)?);
    }
    let mut written = output::write(out, &files)?;
    for results in all {
        let below = out.join(plots::file_name(&results.experiment.title()));
        written.extend(write(&[], &[results], &below, Some("../index.html"))?.files);
    }
    Ok(Written { page: out.join("index.html"), files: written })
}

/// Writes the report on some experiments; `home` is the page that leads to it.
fn write(empty: &[PathBuf], all: &[Results], out: &Path, home: Option<&str>) -> Result<Written, Error> {
    let prefix = |results: &Results| match all.len() {
        1 => String::new(),
        _ => plots::file_name(&results.experiment.title()) + "-",
    };
    let figures: Vec<Figures> = all.iter().map(|results| Figures::new(results, &prefix(results))).collect();
    let mut files = vec![
        file("report.html", page::page(empty, all, &figures, home)?.into_bytes()),
        file("report.md", markdown::markdown(empty, all, &figures).into_bytes()),
        file("table.tex", latex::latex(all).into_bytes()),
        file("arms.csv", csv::arms(all)?),
        file("effects.csv", csv::effects(all)?),
        file("curves.csv", csv::curves(all)?),
    ];
    for figure in figures.iter().flat_map(Figures::all) {
        files.extend(drawn(figure)?);
    }
    let files = output::write(out, &files)?;
    Ok(Written { page: out.join("report.html"), files })
}

fn file(name: &str, content: Vec<u8>) -> File {
    File { name: name.to_owned(), content }
}

/// The files of a figure.
fn drawn(figure: &Figure) -> Result<[File; 2], Error> {
    Ok([
        file(&format!("{}.svg", figure.name), figure.svg_file()?.into_bytes()),
        file(&format!("{}.png", figure.name), figure.png_file()?),
    ])
}
