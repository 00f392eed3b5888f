//! The fine print under a report's tables: everything a reader needs to doubt or to repeat it.

use std::collections::BTreeMap;

use super::contradicted::discussion;
use super::read::{End, Run};
use super::results::{Effect, REPORTED, Results, before};
use super::statistics::{MOST_SEEDS, detectable, seeds_needed};
use super::tables::{Cell, NOTHING, Table, difference_name};
use super::{number, verdict};
use crate::experiments::record::{ClaimRecord, Machine, PublishedEffect, Rewritten, Status};

/// One heading of the fine print.
#[derive(Clone, Debug)]
pub struct Note {
    /// Its heading.
    pub title: &'static str,
    /// What it says, one entry a line.
    pub lines: Vec<String>,
    /// A table under it.
    pub table: Option<Table>,
    /// A command to be copied as it stands.
    pub commands: Vec<String>,
}

impl Note {
    fn lines(title: &'static str, lines: Vec<String>) -> Self {
        Self { title, lines, table: None, commands: Vec::new() }
    }
}

/// The notes on one experiment, without empty ones.
pub fn notes(results: &Results) -> Vec<Note> {
    let notes = [
        Note::lines("What speaks for and against the contradicted effects", discussion(results)),
        uncertainty(results),
        power(results),
        runs(results),
        overrides(results),
        cost(results),
        rewritten(results),
        published(results),
        deviations(results),
        data(results),
        origin(results),
    ];
    let empty = |note: &Note| note.lines.is_empty() && note.table.is_none() && note.commands.is_empty();
    notes.into_iter().filter(|note| !empty(note)).collect()
}

fn uncertainty(results: &Results) -> Note {
    let seeds: Vec<String> = results.experiment.about.seeds.iter().map(u64::to_string).collect();
    let items: Vec<usize> = items(results);
    let items = match items.as_slice() {
        [] => String::new(),
        [one] => format!(" ({} test items)", number::count(*one as u64)),
        several => {
            let each: Vec<String> = several.iter().map(|items| number::count(*items as u64)).collect();
            format!(" ({} test items)", each.join(" and "))
        }
    };
    Note::lines(
        "How values were chosen and how sure they are",
        vec![
            format!("Selection: {}; values are those of the {REPORTED} split.", results.experiment.about.select),
            format!("Seeds: {}. Arms are compared seed by seed, over the seeds that both have.", seeds.join(", ")),
            "Intervals: 95 %, Student's t with n \u{2212} 1 degrees of freedom, over seeds; they say how another seed would \
             come out on the same data. One seed has no interval."
                .to_owned(),
            "The claims of the experiment are corrected for each other by Holm's rule: p is Holm's, and the interval beside \
             it has the confidence at which the rule tests that claim, so that it excludes zero exactly where p is below \
             0.05. Differences that are not claimed are not corrected."
                .to_owned(),
            format!(
                "Test-set error: the standard error of one run's value that comes from the finite test set{items}; it says \
                 nothing about seeds and is not part of the intervals. For a difference it is bounded by the root of the \
                 summed squares of both arms."
            ),
        ],
    )
}

/// What the seeds of each claim can show.
fn power(results: &Results) -> Note {
    let row = |effect: &Effect| {
        let (claim, _) = effect.claim.as_ref()?;
        let summary = effect.paired.as_ref()?.summary;
        let (sd, least) = (summary.sd?, detectable(summary.n, summary.sd?)?);
        let words = |seeds: Option<usize>| {
            seeds.map_or_else(|| format!("over {MOST_SEEDS}"), |seeds| seeds.to_string())
        };
        let theirs = claim.published.as_ref().and_then(verdict::published);
        Some(vec![
            Cell::Text(difference_name(effect)),
            Cell::Text(effect.metric.to_owned()),
            Cell::Number(summary.n.to_string()),
            Cell::Number(number::value(sd, sd)),
            Cell::Number(number::value(least, least)),
            Cell::Number(words(seeds_needed(summary.mean, sd))),
            Cell::Number(theirs.map_or_else(|| NOTHING.to_owned(), |theirs| words(seeds_needed(theirs, sd)))),
        ])
    };
    let head = [
        "Claim",
        "Metric",
        "Seeds",
        "Deviation",
        "Smallest difference they resolve",
        "Seeds for ours",
        "Seeds for the published",
    ];
    let table = Table {
        caption: "What the seeds can show: with 80 % power at the deviation of their differences, before any correction"
            .to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: results.effects.iter().filter_map(row).collect(),
    };
    Note { table: (!table.rows.is_empty()).then_some(table), ..Note::lines("Power", Vec::new()) }
}

fn items(results: &Results) -> Vec<usize> {
    let evaluations = results.experiment.runs.iter().flat_map(|run| &run.evaluations);
    let reported = evaluations.filter(|evaluation| evaluation.selected && evaluation.split == REPORTED);
    let mut items: Vec<usize> = reported.map(|evaluation| evaluation.items).collect();
    items.sort_unstable();
    items.dedup();
    items
}

fn runs(results: &Results) -> Note {
    let experiment = results.experiment;
    let planned = experiment.about.arms.len() * experiment.about.seeds.len();
    let mut lines = vec![format!("{} of {planned} runs are finished.", experiment.runs.len())];
    for Run { header, end, training, .. } in &experiment.unfinished {
        let step = training.last().map_or(0, |figures| figures.step);
        lines.push(match end {
            End::Failed(failed) => {
                format!(
                    "Failed: {}, seed {}, at step {}: {}",
                    header.arm, header.seed, failed.step, failed.reason
                )
            }
            End::Done(_) | End::Open => {
                format!("Not finished: {}, seed {}, last record at step {step}.", header.arm, header.seed)
            }
        });
    }
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (arm, seed) in &experiment.missing {
        missing.entry(arm).or_default().push(seed.to_string());
    }
    lines.extend(missing.iter().map(|(arm, seeds)| {
        let plural = if seeds.len() == 1 { "" } else { "s" };
        format!("Missing: {arm}, seed{plural} {}.", seeds.join(", "))
    }));
    lines
        .extend(experiment.about.chosen.as_ref().map(|chosen| format!("How settings were chosen: {chosen}")));
    Note::lines("Runs", lines)
}

fn overrides(results: &Results) -> Note {
    let rows = results.arms.iter().filter_map(|arm| {
        let overrides = &arm.runs.first()?.header.overrides;
        let changes: Vec<String> = overrides.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let changes = if changes.is_empty() { "nothing".to_owned() } else { changes.join("; ") };
        Some(vec![Cell::Text(arm.name.to_owned()), Cell::Text(changes)])
    });
    let table = Table {
        caption: "Changes to the experiment file".to_owned(),
        head: ["Arm", "Changes"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    };
    Note {
        table: (!results.arms.is_empty()).then_some(table),
        ..Note::lines("What the arms change", Vec::new())
    }
}

fn cost(results: &Results) -> Note {
    let mean = |runs: &[&Run], of: &dyn Fn(&Run) -> Option<f64>| {
        let values: Vec<f64> = runs.iter().filter_map(|run| of(run)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let words = |value: Option<f64>, write: &dyn Fn(f64) -> String| {
        Cell::Number(value.map_or_else(|| NOTHING.to_owned(), write))
    };
    let row = |arm: &super::results::Arm| {
        let header = |of: fn(&Run) -> f64| mean(&arm.runs, &|run| Some(of(run)));
        vec![
            Cell::Text(arm.name.to_owned()),
            words(header(|run| run.header.parameters as f64), &|value| number::count(value as u64)),
            words(header(|run| run.header.flops_per_step), &number::prefixed),
            words(arm.seconds(), &number::duration),
            words(mean(&arm.runs, &|run| Some(before(&[run])).filter(|time| *time > 0.0)), &number::duration),
            words(mean(&arm.runs, &|run| run.done().map(|done| done.pairs_per_second)), &number::prefixed),
            words(mean(&arm.runs, &|run| Some(run.done()?.peak_memory? as f64)), &|value| {
                format!("{}B", number::prefixed(value))
            }),
        ]
    };
    let head =
        ["Arm", "Parameters", "FLOPs a step", "Time a run", "Stages before", "Pairs a second", "Peak memory"];
    let table = Table {
        caption:
            "What each arm costs: arms are compared at equal cost only where parameters, FLOPs and time agree"
                .to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: results.arms.iter().map(row).collect(),
    };
    Note { table: (!results.arms.is_empty()).then_some(table), ..Note::lines("Cost", Vec::new()) }
}

/// What captioner and filter did to web pairs, the mean over seeds.
fn rewritten(results: &Results) -> Note {
    let row = |arm: &super::results::Arm| {
        let made: Vec<&Rewritten> = arm.runs.iter().flat_map(|run| &run.rewritten).collect();
        let mean = |of: &dyn Fn(&Rewritten) -> Option<f64>, write: &dyn Fn(f64) -> String| {
            let values: Vec<f64> = made.iter().filter_map(|made| of(made)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            Cell::Number(if values.is_empty() { NOTHING.to_owned() } else { write(mean) })
        };
        let count = |of: &dyn Fn(&Rewritten) -> usize| {
            mean(&|made| Some(of(made) as f64), &|mean| number::count(mean.round() as u64))
        };
        let percent = |of: &dyn Fn(&Rewritten) -> Option<f64>| mean(of, &|mean| number::value(mean, 0.1));
        (!made.is_empty()).then(|| {
            vec![
                Cell::Text(arm.name.to_owned()),
                count(&|made| made.pictures),
                count(&|made| made.kept),
                count(&|made| made.web.kept + made.written.kept),
                percent(&|made| made.web.noise()),
                percent(&|made| made.written.noise()),
            ]
        })
    };
    let rows: Vec<Vec<Cell>> = results.arms.iter().filter_map(row).collect();
    let head =
        ["Arm", "Web pictures", "Kept", "Texts kept", "Noise of web texts (%)", "Noise of written texts (%)"];
    let table = Table {
        caption: "What became of the web pairs: noise is the share of texts that was dropped".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows,
    };
    Note { table: (!table.rows.is_empty()).then_some(table), ..Note::lines("Rewritten pairs", Vec::new()) }
}

fn published(results: &Results) -> Note {
    let about = &results.experiment.about;
    let mut lines = Vec::new();
    if let Some(paper) = &about.paper {
        let table = paper.table.as_ref().map_or_else(String::new, |table| format!(", {table}"));
        lines.push(format!("The question is that of {}{table}.", paper.key));
    }
    for ClaimRecord { published, .. } in &about.claims {
        let Some(PublishedEffect { key, spread, runs, source, protocol, differences, status, .. }) =
            published
        else {
            continue;
        };
        let how = match status {
            Status::Verified => "read in the paper or its authors' repository",
            Status::SecondHand => "read in another's account of the paper",
            Status::Recalled => "recalled, unverified: not shown as a number and not used",
        };
        let runs = runs.map_or_else(String::new, |runs| format!(", over {runs} runs"));
        let spread = spread.filter(|_| *status != Status::Recalled);
        let spread =
            spread.map_or_else(String::new, |sd| format!(", standard deviation {}", number::value(sd, sd)));
        lines.push(format!("{key}: {source}{runs}{spread}; {how}. Procedure: {protocol}."));
        if !differences.is_empty() {
            lines.push(format!("{key}: this rerun differs in {}.", differences.join("; ")));
        }
    }
    lines.dedup();
    Note::lines("Published", lines)
}

fn deviations(results: &Results) -> Note {
    Note::lines("Deviations from the papers", distinct(results, |run| run.header.deviations.clone()))
}

fn data(results: &Results) -> Note {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for run in &results.experiment.runs {
        for split in &run.header.data {
            let row = vec![
                Cell::Text(split.split.clone()),
                Cell::Text(split.name.clone()),
                Cell::Number(number::count(split.pairs as u64)),
                Cell::Text(split.fingerprint.clone()),
            ];
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    let table = Table {
        caption: "The data; equal fingerprints mean equal pairs".to_owned(),
        head: ["Split", "Source", "Pairs", "Fingerprint"].map(str::to_owned).to_vec(),
        rows,
    };
    let credits = distinct(results, |run| run.header.attribution.clone());
    Note { table: (!table.rows.is_empty()).then_some(table), ..Note::lines("Data", credits) }
}

fn origin(results: &Results) -> Note {
    let machines = distinct(results, |run| {
        let Machine { device, processor, threads, side_by_side, system } = &run.header.machine;
        let threads = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        let beside =
            side_by_side.map_or_else(String::new, |runs| format!(" a run, {runs} runs side by side"));
        vec![format!("Machine: {device}; {processor}; {threads}{beside}; {system}.")]
    });
    let code = distinct(results, |run| vec![format!("Code: {}.", run.header.code)]);
    let commands = results.experiment.commands.clone();
    let lines = machines.into_iter().chain(code).collect();
    Note { commands, ..Note::lines("Machine, code and command", lines) }
}

/// What the finished runs say, each line once.
fn distinct(results: &Results, of: impl Fn(&Run) -> Vec<String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in results.experiment.runs.iter().flat_map(of) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}
