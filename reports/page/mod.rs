//! The report as one HTML page that opens from disk: no network, no script, everything it shows within it.

mod examples;
mod reproduction;
mod rewritten;

use std::path::PathBuf;

pub use reproduction::reproduction;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Error;
use super::answer::{Clause, answer};
use super::fine_print::{Note, notes};
use super::plots::{Figure, Figures, file_name, font_face};
use super::results::Results;
use super::tables::{self, Cell, Table};
use super::verdict::Verdict;

const STYLE: &str = include_str!("page.css");

/// The page over all experiments, one article each, under a summary where there are several; `home` is the page that
/// leads to it, and `empty` names directories without a whole record.
///
/// # Errors
/// When a figure cannot be drawn.
pub fn page(
    empty: &[PathBuf],
    all: &[Results],
    figures: &[Figures],
    home: Option<&str>,
) -> Result<String, Error> {
    let articles: Vec<Markup> = all
        .iter()
        .zip(figures)
        .map(|(results, figures)| article(results, figures))
        .collect::<Result<_, _>>()?;
    let title = match all {
        [one] => one.experiment.about.question.clone(),
        several => format!("{} experiments", several.len()),
    };
    Ok(document(
        &title,
        html! {
            @if let Some(home) = home {
                nav aria-label="Other pages" { a href=(home) { "All published ablations" } }
            }
            @if all.len() > 1 { (contents(all)) }
            main {
                @for article in &articles { (article) }
                @if !empty.is_empty() {
                    section {
                        h2 { "Directories without a whole record" }
                        ul { @for place in empty { li { (place.display()) } } }
                    }
                }
            }
        },
    ))
}

/// A whole HTML document.
fn document(title: &str, body: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content="vlp report";
                title { (title) }
                style { (PreEscaped(font_face())) (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

/// Question and answer of each of several experiments, with the way to its article.
fn contents(all: &[Results]) -> Markup {
    html! {
        header.contents {
            h1 { (all.len()) " experiments" }
            nav aria-label="Experiments" {
                ul {
                    @for results in all {
                        li {
                            a href={ "#" (file_name(&results.experiment.title())) } { (results.experiment.title()) }
                            p { (results.experiment.about.question) }
                            (lead(&answer(results)))
                        }
                    }
                }
            }
        }
    }
}

fn article(results: &Results, figures: &Figures) -> Result<Markup, Error> {
    let experiment = results.experiment;
    let planned = experiment.about.arms.len() * experiment.about.seeds.len();
    Ok(html! {
        article id=(file_name(&experiment.title())) {
            header {
                p.title { (experiment.title()) }
                h1 { (experiment.about.question) }
                (lead(&answer(results)))
                @if experiment.runs.len() < planned {
                    p.notice {
                        (experiment.runs.len()) " of " (planned) " runs are finished; the others are listed under "
                        q { "Runs" } " in the fine print."
                    }
                }
            }
            @if !results.effects.is_empty() {
                section {
                    h2 { "Effects" }
                    @if let Some(figure) = &figures.effects { (drawn(figure)?) }
                    (table(&tables::effects(results), true))
                    (rule(true))
                }
            }
            section {
                h2 { "Arms" }
                @for figure in &figures.arms { (drawn(figure)?) }
                (table(&tables::arms(results), true))
            }
            @if let Some(figure) = &figures.curves {
                section {
                    h2 { "Learning curves" }
                    (drawn(figure)?)
                }
            }
            (examples::section(results))
            (rewritten::section(results))
            section {
                h2 { "Every metric" }
                (table(&tables::metrics(results), false))
            }
            section.fine {
                h2 { "Fine print" }
                @for note in notes(results) { (fine(&note)) }
            }
        }
    })
}

/// The answer, its verdicts set off.
fn lead(clauses: &[Clause]) -> Markup {
    html! {
        p.answer {
            @for (index, clause) in clauses.iter().enumerate() {
                @if index > 0 { "; " }
                @if let Some(verdict) = clause.verdict { (badge(verdict)) " " }
                // A line does not end between a number and its sign.
                (clause.text.replace(" %", "\u{a0}%"))
            }
            "."
        }
    }
}

/// How verdicts are given.
fn rule(open: bool) -> Markup {
    html! {
        details open[open] {
            summary { "How verdicts are given" }
            dl.rule {
                @for verdict in Verdict::ALL {
                    dt { (badge(verdict)) }
                    dd { (verdict.rule()) "." }
                }
            }
        }
    }
}

fn badge(verdict: Verdict) -> Markup {
    html! { strong.verdict.(file_name(verdict.words())) { (verdict.words()) } }
}

/// A figure at both widths, of which the style sheet shows one.
fn drawn(figure: &Figure) -> Result<Markup, Error> {
    // Within HTML the namespace is known.
    let inline = |svg: String| PreEscaped(svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1));
    Ok(html! {
        figure {
            div.wide { (inline(figure.wide.svg(&figure.alt)?)) }
            div.narrow { (inline(figure.narrow.svg(&figure.alt)?)) }
            figcaption { (figure.caption) }
        }
    })
}

/// A table; on a narrow screen it becomes one block a row where `stacks`, else it can be moved sideways.
fn table(table: &Table, stacks: bool) -> Markup {
    html! {
        div.scroll role="region" tabindex="0" aria-label=(table.caption) {
            table.stacks[stacks].matrix[!stacks] role="table" {
                caption { span { (table.caption) } }
                thead role="rowgroup" {
                    tr role="row" {
                        @for name in &table.head { th scope="col" role="columnheader" { (name) } }
                    }
                }
                tbody role="rowgroup" {
                    @for row in &table.rows {
                        tr role="row" {
                            @for (index, (name, cell)) in table.head.iter().zip(row).enumerate() {
                                @if index == 0 {
                                    th scope="row" role="rowheader" { (content(cell)) }
                                } @else {
                                    td.number[matches!(cell, Cell::Number(_) | Cell::Mean { .. })] role="cell" data-head=(name) {
                                        div { (content(cell)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn content(cell: &Cell) -> Markup {
    match cell {
        Cell::Text(text) | Cell::Number(text) => html! { (text) },
        Cell::Mean { mean, interval, n } => html! {
            span.mean { (mean) }
            @if let Some(interval) = interval { " " span.interval { (interval) } }
            " " span.n { "n = " (n) }
        },
        Cell::Link { text, address } => html! { a href=(address) { (text) } },
        Cell::Verdict(verdict, because) => html! { (badge(*verdict)) " " span.because { (because) } },
    }
}

fn fine(note: &Note) -> Markup {
    html! {
        section {
            h3 { (note.title) }
            @if !note.lines.is_empty() {
                ul { @for line in &note.lines { li { (line) } } }
            }
            @if let Some(below) = &note.table { (table(below, true)) }
            @for command in &note.commands { pre role="region" tabindex="0" aria-label="Command" { code { (command) } } }
        }
    }
}
