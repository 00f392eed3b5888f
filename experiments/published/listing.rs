//! The registry as `vlp list published` prints it. A recalled number is never shown, only that it is one.

use std::fmt::Write as _;

use super::paper::{Cell, Difference, Metric, Paper, Table};
use super::{effect_of, papers, sure};
use crate::experiments::failure::Result;
use crate::experiments::fault::{Fault, suggest};
use crate::experiments::record::Status;

/// What stands for a number that is only remembered.
const RECALLED: &str = "?";

/// Every paper with its tables, a line each.
///
/// # Errors
/// As [`papers`].
pub fn overview() -> Result<String> {
    let papers = papers()?;
    let mut text = String::new();
    for paper in papers {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{paper}");
        let width = paper.tables.keys().map(str::len).max().unwrap_or(0);
        for (key, table) in paper.tables.iter() {
            let _ = writeln!(text, "  {key:width$}  {}: {}; {}", table.number, table.title, extent(table));
        }
    }
    text.push_str("`vlp list published PAPER` shows every number of a paper and its effects.");
    Ok(text)
}

/// Everything of one paper.
///
/// # Errors
/// If there is no such paper.
pub fn paper(key: &str) -> Result<String> {
    let papers = papers()?;
    let Some(paper) = papers.iter().find(|paper| paper.key == key) else {
        let fault = Fault::new(format!("no paper `{key}` is in the published registry"));
        return Err(fault.help(suggest(key, papers.iter().map(|paper| paper.key.as_str()))).into());
    };
    let mut text = format!("{paper}\n");
    for (key, table) in paper.tables.iter() {
        let _ = write!(text, "\n{}/{key}  {}: {}\n", paper.key, table.number, table.title);
        described(&mut text, paper, table);
        cells(&mut text, table);
        effects(&mut text, paper, key, table);
    }
    Ok(text.trim_end().to_owned())
}

/// How much a table holds and how sure it is.
fn extent(table: &Table) -> String {
    let cells: Vec<&Cell> = table.arms.iter().flat_map(|(_, row)| row.iter().map(|(_, cell)| cell)).collect();
    let mut statuses: Vec<Status> = table.effects.iter().map(|(_, effect)| table.status(effect)).collect();
    statuses.extend(cells.iter().map(|cell| cell.status.unwrap_or(table.status)));
    statuses.sort_unstable();
    statuses.dedup();
    let statuses: Vec<&str> = statuses.into_iter().map(sure).collect();
    let numbers = match cells.len() {
        0 => "in words".to_owned(),
        1 => "1 number".to_owned(),
        count => format!("{count} numbers"),
    };
    let effects = match table.effects.len() {
        1 => "1 effect".to_owned(),
        count => format!("{count} effects"),
    };
    format!("{numbers}, {effects}; {}", statuses.join("; "))
}

fn described(text: &mut String, paper: &Paper, table: &Table) {
    let _ = writeln!(text, "  {}", table.procedure);
    let source = |word: &str| paper.sources.get(word).map_or_else(|| word.to_owned(), Clone::clone);
    let read = table.source.as_deref().map_or_else(|| "see the cells".to_owned(), source);
    let _ = writeln!(text, "  {}; source: {read}", sure(table.status));
    let mut others: Vec<&str> = table
        .arms
        .iter()
        .flat_map(|(_, row)| row.iter().filter_map(|(_, cell)| cell.source.as_deref()))
        .chain(table.effects.iter().filter_map(|(_, effect)| effect.stated.as_ref()?.source.as_deref()))
        .collect();
    others.sort_unstable();
    others.dedup();
    for word in others {
        let _ = writeln!(text, "  some of it: {}", source(word));
    }
    let width = table.metrics.keys().map(str::len).max().unwrap_or(0);
    for (key, Metric { is, protocol, mean, like, .. }) in table.metrics.iter() {
        let data = table.metrics.get(key).map(Metric::data).unwrap_or_default();
        let of = if mean.is_empty() { String::new() } else { format!(" (mean of {})", mean.join(", ")) };
        let like = if like.is_empty() { String::new() } else { format!("; like {}", like.join(", ")) };
        let _ = writeln!(text, "  {key:width$}  {is}{of} on {data}; {protocol}{like}");
    }
}

/// The numbers, an arm a line.
fn cells(text: &mut String, table: &Table) {
    let columns: Vec<&str> = table
        .metrics
        .keys()
        .filter(|column| table.arms.iter().any(|(_, row)| row.get(column).is_some()))
        .collect();
    if columns.is_empty() {
        return;
    }
    let mut rows =
        vec![std::iter::once("arm".to_owned()).chain(columns.iter().map(ToString::to_string)).collect()];
    for (arm, row) in table.arms.iter().filter(|(_, row)| !row.is_empty()) {
        let numbers = columns.iter().map(|column| {
            row.get(column).map_or_else(String::new, |cell| number(table, cell, digits(table, column)))
        });
        rows.push(std::iter::once(arm.to_owned()).chain(numbers).collect::<Vec<String>>());
    }
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..=columns.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        let _ = writeln!(text, "    {}", line.join("  ").trim_end());
    }
    let all = || table.arms.iter().flat_map(|(_, row)| row.iter().map(|(_, cell)| cell));
    if let Some(runs) = all().filter_map(|cell| cell.runs).max() {
        let _ = writeln!(text, "    ± standard deviation over {runs} runs");
    }
    if all().any(|cell| cell.status.unwrap_or(table.status) == Status::Recalled) {
        let _ = writeln!(text, "    {RECALLED} recalled, unverified: not shown");
    }
}

fn number(table: &Table, cell: &Cell, digits: usize) -> String {
    if cell.status.unwrap_or(table.status) == Status::Recalled {
        return RECALLED.to_owned();
    }
    match cell.spread {
        Some(spread) => format!("{:.digits$}±{spread:.digits$}", cell.value),
        None => format!("{:.digits$}", cell.value),
    }
}

/// The digits after the point of a column's numbers.
fn digits(table: &Table, column: &str) -> usize {
    let cells = table.arms.iter().filter_map(|(_, row)| row.get(column));
    let digits = |cell: &Cell| cell.value.to_string().split_once('.').map_or(0, |(_, digits)| digits.len());
    cells.map(digits).max().unwrap_or(0)
}

fn effects(text: &mut String, paper: &Paper, key: &str, table: &Table) {
    for (name, effect) in table.effects.iter() {
        let Difference { what, metric, arm, minus, .. } = effect;
        let published = effect_of(paper, key, table, name, effect);
        let outcome = match (published.status, published.value, &published.stated) {
            (Status::Recalled, ..) => sure(Status::Recalled).to_owned(),
            (status, Some(value), _) => format!("{value:+.2} ({})", sure(status)),
            (status, None, Some(words)) => format!("\"{words}\" ({})", sure(status)),
            (status, None, None) => format!("no number ({})", sure(status)),
        };
        let _ = writeln!(text, "  {}: {what}\n    {metric}: {arm} minus {minus}: {outcome}", published.key);
    }
}
