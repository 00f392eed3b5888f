//! The page on every published ablation: what was rerun and how it came out, then every paper's effects, then the way to
//! each experiment.

use maud::{Markup, html};

use super::{badge, document, drawn, lead, rule, table};
use crate::experiments::catalogue::{Catalogue, Paper};
use crate::reports::Error;
use crate::reports::answer::answer;
use crate::reports::plots::{Figure, file_name};
use crate::reports::reproduction::{Rerun, Row, link, paper_table, rerun_table, summary, waiting_table};
use crate::reports::results::Results;
use crate::reports::tables::Cell;

/// The page.
///
/// # Errors
/// When the figure cannot be drawn.
pub fn reproduction(
    catalogue: &Catalogue,
    rows: &[Row],
    all: &[Results],
    forest: Option<&Figure>,
) -> Result<String, Error> {
    let reruns = rerun_table(rows);
    let title = "Published ablations of vision-language pretraining, rerun";
    Ok(document(
        title,
        html! {
            a.skip href="#content" { "Skip to the results" }
            header {
                h1 { (title) }
                p.answer {
                    @for (index, (verdict, text)) in summary(rows).iter().enumerate() {
                        @if index > 0 { "; " }
                        @if let Some(verdict) = verdict { (badge(*verdict)) " " }
                        (text)
                    }
                    "."
                }
                p {
                    "Effects are compared, not scores: whether a change helps, and by how much, in our own training beside \
                     the paper's. A small rerun can show the sign; only one at the published size can show the rest."
                }
                (contents(catalogue, rows))
            }
            main id="content" {
                section aria-labelledby="reruns" {
                    h2 id="reruns" { "Rerun" }
                    @if let Some(figure) = forest { (drawn(figure)?) }
                    @if reruns.rows.is_empty() {
                        p.notice { "No published effect was rerun yet." }
                    } @else {
                        (table(&reruns, true))
                    }
                    (rule(false))
                }
                @for paper in &catalogue.papers { (section(paper, rows)) }
                (experiments(all))
                (waiting(rows))
            }
        },
    ))
}

/// The way to each part of the page.
fn contents(catalogue: &Catalogue, rows: &[Row]) -> Markup {
    html! {
        nav.contents aria-label="On this page" {
            ul {
                li { a href="#reruns" { "Rerun" } }
                @for paper in &catalogue.papers {
                    li { a href={ "#" (file_name(&paper.key)) } { (paper.key) } " " span.count { (extent(paper, rows)) } }
                }
                li { a href="#experiments" { "Experiments" } }
            }
        }
    }
}

/// How many effects a paper has and how many were rerun.
fn extent(paper: &Paper, rows: &[Row]) -> String {
    let own = || rows.iter().filter(|row| row.paper.key == paper.key);
    let mut rerun: Vec<&str> =
        own().filter(|row| row.measured().is_some()).map(|row| row.ablation.published.key.as_str()).collect();
    rerun.dedup();
    format!("{} effects, {} rerun", paper.ablations.len(), rerun.len())
}

fn section(paper: &Paper, rows: &[Row]) -> Markup {
    let id = file_name(&paper.key);
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (paper.title) }
            p.title { (paper.key) ": " (paper.citation) }
            details {
                summary { (extent(paper, rows)) }
                (table(&paper_table(paper, rows), true))
            }
        }
    }
}

/// Question and answer of every experiment that has runs.
fn experiments(all: &[Results]) -> Markup {
    html! {
        section aria-labelledby="experiments" {
            h2 id="experiments" { "Experiments" }
            @if all.is_empty() { p { "No runs were found." } }
            @else {
                p { "Each has a page of its own with curves, examples, fine print and the command that repeats it." }
                ul.experiments {
                    @for results in all {
                        li {
                            @if let Cell::Link { text, address } = link(results) { a href=(address) { (text) } }
                            p { (results.experiment.about.question) }
                            (lead(&answer(results)))
                            @if let Some(chosen) = &results.experiment.about.chosen {
                                details {
                                    summary { "How its settings were chosen" }
                                    p { (chosen) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The commands of the experiments that were not run.
fn waiting(rows: &[Row]) -> Markup {
    let mut commands: Vec<&str> = rows
        .iter()
        .filter_map(|row| match row.rerun {
            Rerun::NotRun(_, command) => Some(command),
            Rerun::Measured(..) | Rerun::Unclaimed => None,
        })
        .collect();
    commands.sort_unstable();
    commands.dedup();
    let claims = waiting_table(rows);
    html! {
        @if !commands.is_empty() {
            section aria-labelledby="waiting" {
                h2 id="waiting" { "Not run" }
                p { "These commands run what is missing; " code { "vlp report --all" } " then puts it on this page." }
                details {
                    summary { (claims.rows.len()) " claims" }
                    (table(&claims, true))
                }
                pre role="region" tabindex="0" aria-label="Commands" { code { (commands.join("\n")) } }
            }
        }
    }
}
