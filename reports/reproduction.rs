//! Every published ablation with what became of its reruns: ours beside theirs, the verdict and what it cost.

use super::number;
use super::plots::file_name;
use super::read::Run;
use super::results::{Effect, Results, before};
use super::tables::{self, Cell, NOTHING, Table};
use super::verdict::{Judgement, Verdict};
use crate::experiments::catalogue::{Ablation, Catalogue, Paper};

/// What stands where an experiment file claims an effect and no run of it was found.
const NOT_RUN: &str = "not run";

/// One rerun of a published ablation.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The paper.
    pub paper: &'a Paper,
    /// The published effect.
    pub ablation: &'a Ablation,
    /// What became of it.
    pub rerun: Rerun<'a>,
}

/// What became of a published ablation here.
#[derive(Clone, Copy, Debug)]
pub enum Rerun<'a> {
    /// Runs of it were found.
    Measured(&'a Results<'a>, &'a Effect<'a>, &'a Judgement),
    /// An experiment file claims it, and no run of it was found: the experiment and its command.
    NotRun(&'a str, &'a str),
    /// No experiment file claims it.
    Unclaimed,
}

impl<'a> Row<'a> {
    /// The verdict, where there is one.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.rerun {
            Rerun::Measured(_, _, judgement) => Some(judgement.verdict),
            Rerun::NotRun(..) | Rerun::Unclaimed => None,
        }
    }

    /// The results, the effect and the judgement of a rerun that was found.
    pub fn measured(&self) -> Option<(&'a Results<'a>, &'a Effect<'a>, &'a Judgement)> {
        match self.rerun {
            Rerun::Measured(results, effect, judgement) => Some((results, effect, judgement)),
            Rerun::NotRun(..) | Rerun::Unclaimed => None,
        }
    }
}

/// Every published ablation with each of its reruns, in the order of the registry.
pub fn rows<'a>(catalogue: &'a Catalogue, all: &'a [Results<'a>]) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for paper in &catalogue.papers {
        for ablation in &paper.ablations {
            let found: Vec<Rerun> = all.iter().flat_map(|results| measured(ablation, results)).collect();
            let missing = ablation.reruns.iter().filter(|rerun| {
                !all.iter().any(|results| {
                    results.experiment.about.name == rerun.experiment
                        && measured(ablation, results).next().is_some()
                })
            });
            let missing = missing.map(|rerun| Rerun::NotRun(&rerun.experiment, &rerun.command));
            let mut reruns: Vec<Rerun> = found.into_iter().chain(missing).collect();
            if reruns.is_empty() {
                reruns.push(Rerun::Unclaimed);
            }
            rows.extend(reruns.into_iter().map(|rerun| Row { paper, ablation, rerun }));
        }
    }
    rows
}

fn measured<'a>(ablation: &'a Ablation, results: &'a Results<'a>) -> impl Iterator<Item = Rerun<'a>> {
    results.effects.iter().filter_map(move |effect| {
        let (claim, judgement) = effect.claim.as_ref()?;
        let own = claim.published.as_ref()?.key == ablation.published.key;
        // Where one of the arms was left out nothing was rerun.
        let compared = effect.paired.is_some() || judgement.verdict != Verdict::Inconclusive;
        (own && compared).then_some(Rerun::Measured(results, effect, judgement))
    })
}

/// How many published effects there are, how many of them were rerun or wait for a run, and how the reruns came out.
pub fn summary(rows: &[Row]) -> Vec<(Option<Verdict>, String)> {
    let count = |is: &dyn Fn(&Row) -> bool| {
        let mut keys: Vec<&str> =
            rows.iter().filter(|row| is(row)).map(|row| row.ablation.published.key.as_str()).collect();
        keys.dedup();
        keys.len()
    };
    let (all, rerun) = (count(&|_| true), count(&|row| row.measured().is_some()));
    let mut parts = vec![(None, format!("Rerun: {rerun} of {all} published effects"))];
    for verdict in Verdict::ALL {
        let reached = rows.iter().filter(|row| row.verdict() == Some(verdict)).count();
        if reached > 0 {
            parts.push((Some(verdict), reached.to_string()));
        }
    }
    let waiting = count(&|row| matches!(row.rerun, Rerun::NotRun(..)));
    if waiting > 0 {
        parts.push((None, format!("{waiting} have an experiment that was not run")));
    }
    parts
}

/// The reruns that were measured, all papers in one table.
pub fn rerun_table(rows: &[Row]) -> Table {
    let caption = "Ours: difference of the two arms paired by seed, mean and 95 % interval over seeds, and the number of \
                   seeds. Published: the paper's difference in its own metric, at its own size. Cost: what all runs of \
                   both arms took, with the stages that they begin with.";
    claims_table(caption, rows, |rerun| matches!(rerun, Rerun::Measured(..)))
}

/// The ablations that an experiment claims and nobody has run.
pub fn waiting_table(rows: &[Row]) -> Table {
    claims_table("Claims of experiments that were not run", rows, |rerun| matches!(rerun, Rerun::NotRun(..)))
}

fn claims_table(caption: &str, rows: &[Row], meant: impl Fn(&Rerun) -> bool) -> Table {
    let head = ["Ablation", "Published in", "Ours", "Published", "Verdict", "Cost", "Experiment"];
    let row = |row: &Row| {
        let mut cells = vec![Cell::Text(row.ablation.what.clone()), Cell::Text(place(row))];
        cells.extend(outcome(row));
        cells
    };
    Table {
        caption: caption.to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: rows.iter().filter(|row| meant(&row.rerun)).map(row).collect(),
    }
}

/// Every published effect of one paper.
pub fn paper_table(paper: &Paper, rows: &[Row]) -> Table {
    let own = rows.iter().filter(|row| row.paper.key == paper.key);
    let head = ["Ablation", "Measured", "Ours", "Published", "Verdict", "Cost", "Experiment"];
    let row = |row: &Row| {
        let measured = format!("{}: {}", row.ablation.table, row.ablation.measured);
        let mut cells = vec![Cell::Text(row.ablation.what.clone()), Cell::Text(measured)];
        cells.extend(outcome(row));
        cells
    };
    Table {
        caption: format!("Every published effect of {}", paper.key),
        head: head.map(str::to_owned).to_vec(),
        rows: own.map(row).collect(),
    }
}

/// Ours, theirs, the verdict, the cost and the experiment.
fn outcome(row: &Row) -> Vec<Cell> {
    let nothing = || Cell::Text(NOTHING.to_owned());
    let published = Cell::Text(tables::published_words(&row.ablation.published));
    match row.rerun {
        Rerun::Measured(results, effect, judgement) => vec![
            tables::difference(effect),
            published,
            Cell::Verdict(judgement.verdict, judgement.because.clone()),
            Cell::Number(cost(results, effect).map_or_else(|| NOTHING.to_owned(), number::duration)),
            link(results),
        ],
        Rerun::NotRun(experiment, _) => {
            vec![
                nothing(),
                published,
                Cell::Text(NOT_RUN.to_owned()),
                nothing(),
                Cell::Text(experiment.to_owned()),
            ]
        }
        Rerun::Unclaimed => {
            vec![nothing(), published, Cell::Text("no experiment".to_owned()), nothing(), nothing()]
        }
    }
}

/// The way to an experiment's own page.
pub fn link(results: &Results) -> Cell {
    let text = results.experiment.title();
    Cell::Link { address: format!("{}/report.html", file_name(&text)), text }
}

/// Seconds that all runs of the effect's two arms took, with what they begin with.
pub fn cost(results: &Results, effect: &Effect) -> Option<f64> {
    let arms = [effect.arm, effect.minus].into_iter().filter_map(|arm| results.arm(arm));
    let runs: Vec<&Run> = arms.flat_map(|arm| arm.runs.iter().copied()).collect();
    let seconds: Vec<f64> = runs.iter().filter_map(|run| Some(run.done()?.seconds)).collect();
    (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() + before(&runs))
}

/// Where an effect was published: `ALBEF, Table 1`.
fn place(row: &Row) -> String {
    format!("{}, {}", row.paper.key, row.ablation.table)
}
