//! The report as Markdown.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::answer::{answer, sentence};
use super::fine_print::notes;
use super::plots::Figures;
use super::results::Results;
use super::tables::{self, Cell, Table};
use super::verdict::Verdict;

/// One document over all experiments.
pub fn markdown(empty: &[PathBuf], all: &[Results], figures: &[Figures]) -> String {
    let mut out = String::new();
    for (results, figures) in all.iter().zip(figures) {
        section(&mut out, results, figures);
    }
    if !empty.is_empty() {
        line(&mut out, "# Directories without a whole record");
        let places: Vec<String> =
            empty.iter().map(|place| format!("- {}", escaped(&place.display().to_string()))).collect();
        line(&mut out, &places.join("\n"));
    }
    out
}

fn section(out: &mut String, results: &Results, figures: &Figures) {
    line(out, &format!("# {}", escaped(&results.experiment.title())));
    line(out, &format!("**{}**", escaped(&results.experiment.about.question)));
    line(out, &escaped(&sentence(&answer(results))));
    if !results.effects.is_empty() {
        line(out, "## Effects");
        table(out, &tables::effects(results));
        let rule = Verdict::ALL.map(|verdict| format!("- **{}**: {}.", verdict.words(), verdict.rule()));
        line(out, &format!("How verdicts are given:\n\n{}", rule.join("\n")));
    }
    line(out, "## Arms");
    table(out, &tables::arms(results));
    for figure in figures.all() {
        line(out, &format!("![{}]({}.png)", escaped(&figure.alt), figure.name));
        line(out, &format!("*{}*", escaped(&figure.caption)));
    }
    line(out, "## Every metric");
    table(out, &tables::metrics(results));
    line(out, "## Fine print");
    for note in notes(results) {
        line(out, &format!("### {}", note.title));
        let lines: Vec<String> = note.lines.iter().map(|line| format!("- {}", escaped(line))).collect();
        if !lines.is_empty() {
            line(out, &lines.join("\n"));
        }
        if let Some(below) = &note.table {
            table(out, below);
        }
        for command in &note.commands {
            line(out, &format!("```sh\n{command}\n```"));
        }
    }
}

fn table(out: &mut String, table: &Table) {
    line(out, &format!("{}:", escaped(&table.caption)));
    let head: Vec<String> = table.head.iter().map(|name| escaped(name)).collect();
    let number = |column: usize| {
        table
            .rows
            .iter()
            .filter_map(|row| row.get(column))
            .any(|cell| matches!(cell, Cell::Number(_) | Cell::Mean { .. }))
    };
    let rule: Vec<&str> = (0..head.len()).map(|column| if number(column) { "---:" } else { "---" }).collect();
    let _ = writeln!(out, "| {} |\n| {} |", head.join(" | "), rule.join(" | "));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|cell| escaped(&cell.text())).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push('\n');
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push_str("\n\n");
}

/// Text without characters that Markdown gives a meaning.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '`' | '*' | '_' | '<' | '|' | '#' | '[' | ']' | '~') {
            out.push('\\');
        }
        out.push(if letter == '\n' { ' ' } else { letter });
    }
    out
}
