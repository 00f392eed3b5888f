//! Reading what runs left behind: directories with a `records.jsonl` become experiments with arms and seeds.
//!
//! A last line without its end is what a killed or running process leaves, and is passed over; anything else that is not
//! a record is refused with file and line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Error, compare};
use crate::experiments::record::{
    ClaimRecord, Done, Evaluation, Example, ExperimentRecord, FORMAT, Failed, Header, Record, Rewritten,
    TrainFigures,
};
use crate::experiments::stage::STAGES;

/// One seed of one arm, as its records tell it.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its directory.
    pub place: PathBuf,
    /// What was run.
    pub header: Header,
    /// Training figures in the order of steps.
    pub training: Vec<TrainFigures>,
    /// Evaluations in the order of steps.
    pub evaluations: Vec<Evaluation>,
    /// How pairs were made that it learnt from.
    pub rewritten: Vec<Rewritten>,
    /// Test pairs and what the model makes of them.
    pub examples: Vec<Example>,
    /// How it ended.
    pub end: End,
}

impl Run {
    /// The end of a finished run.
    pub fn done(&self) -> Option<&Done> {
        match &self.end {
            End::Done(done) => Some(done),
            End::Failed(_) | End::Open => None,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum End {
    /// As it should.
    Done(Done),
    /// On a fault.
    Failed(Failed),
    /// Not yet: it is running or was killed.
    Open,
}

/// All that was found of one experiment at one size.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// What its runs say about it, with every arm, seed and claim that any of them names.
    pub about: ExperimentRecord,
    /// The commands that its runs name, each once.
    pub commands: Vec<String>,
    /// Finished runs in the order of arms, then of seeds.
    pub runs: Vec<Run>,
    /// Runs that failed or have not ended, in the same order.
    pub unfinished: Vec<Run>,
    /// Arms and seeds of which no run was found.
    pub missing: Vec<(String, u64)>,
}

impl Experiment {
    /// Its name, with its size where it has one: `albef/distillation-weight (cpu)`.
    pub fn title(&self) -> String {
        title(&self.about)
    }

    /// The finished runs of an arm, in the order of seeds.
    pub fn arm<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.header.arm == name)
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Experiments in the order of their names.
    pub experiments: Vec<Experiment>,
    /// Run directories whose first record is not whole yet.
    pub empty: Vec<PathBuf>,
}

/// Reads every run at or below the given paths.
///
/// # Errors
/// When a path holds no run, a file cannot be read or is not a record file of this format, or two finished runs are the
/// same arm and seed of one experiment.
pub fn read(paths: &[PathBuf]) -> Result<Found, Error> {
    let mut places = Vec::new();
    for path in paths {
        let before = places.len();
        collect(path, &mut places)?;
        if places.len() == before {
            return Err(Error::NoRuns { path: path.clone(), problem: "no run in it".to_owned() });
        }
    }
    let mut found = Found::default();
    let mut grouped: BTreeMap<(String, Option<String>), Vec<Run>> = BTreeMap::new();
    for place in places {
        match read_run(&place)? {
            Some(run) => {
                let about = &run.header.experiment;
                let runs = grouped.entry((about.name.clone(), about.profile.clone())).or_default();
                let same = |header: &Header| (header.hash.clone(), header.arm.clone());
                let known = |other: &Run| same(&other.header) == same(&run.header);
                if !runs.iter().any(known) {
                    runs.push(run);
                }
            }
            None => found.empty.push(place),
        }
    }
    found.experiments = grouped.into_values().map(gather).collect::<Result<_, _>>()?;
    Ok(found)
}

/// Adds the run directories at or below `path`, in the order of their names.
fn collect(path: &Path, places: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    if !path.exists() {
        return Err(Error::NoRuns { path: path.to_owned(), problem: "does not exist".to_owned() });
    }
    if !path.is_dir() {
        return Err(Error::NoRuns { path: path.to_owned(), problem: "is a file".to_owned() });
    }
    if path.join("records.jsonl").is_file() {
        places.push(path.to_owned());
        return Ok(());
    }
    let mut below = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A link is not followed: it could lead round in a circle.
        // Stages are no answers: the runs that begin with them name them.
        if entry.file_type().map_err(failed)?.is_dir() && entry.file_name() != STAGES {
            below.push(entry.path());
        }
    }
    below.sort();
    below.iter().try_for_each(|folder| collect(folder, places))
}

/// The part of a first line that every format has.
#[derive(Deserialize)]
struct Stamp {
    record: String,
    format: u32,
}

/// The run in a directory; none if its first record is not whole yet.
fn read_run(place: &Path) -> Result<Option<Run>, Error> {
    let file = place.join("records.jsonl");
    let text = fs::read(&file).map_err(|source| Error::Read { path: file.clone(), source })?;
    let fault = |line: usize, problem: String, help: &str| Error::Record {
        file: file.clone(),
        line,
        problem,
        help: help.to_owned(),
    };
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').enumerate();
    let Some((_, first)) = lines.next() else { return Ok(None) };
    let stamp: Stamp = match serde_json::from_slice(first) {
        Ok(stamp) => stamp,
        Err(_) if !first.ends_with(b"\n") => return Ok(None),
        Err(error) => {
            let problem = format!("not the start of a run's records: {error}");
            return Err(fault(1, problem, "give only directories that `vlp run` made"));
        }
    };
    if stamp.record != "run" || stamp.format != FORMAT {
        let problem = if stamp.record == "run" {
            format!("records of format {}, this program reads format {FORMAT}", stamp.format)
        } else {
            format!("the first record is `{}`, it should be `run`", stamp.record)
        };
        return Err(fault(1, problem, "report with the version that made them, or run the experiment again"));
    }
    let damaged = "the file was altered or damaged; run the experiment again";
    let header = match serde_json::from_slice(first) {
        Ok(Record::Run(header)) => *header,
        Ok(_) => return Err(fault(1, "the first record should be `run`".to_owned(), damaged)),
        Err(error) => return Err(fault(1, error.to_string(), damaged)),
    };
    let mut run = Run {
        place: place.to_owned(),
        header,
        training: Vec::new(),
        evaluations: Vec::new(),
        rewritten: Vec::new(),
        examples: Vec::new(),
        end: End::Open,
    };
    for (index, line) in lines {
        match serde_json::from_slice(line) {
            Ok(Record::Train(figures)) => run.training.push(figures),
            Ok(Record::Evaluation(evaluation)) => run.evaluations.push(evaluation),
            Ok(Record::Rewritten(made)) => run.rewritten.push(made),
            Ok(Record::Example(example)) => run.examples.push(example),
            Ok(Record::Failed(failed)) => run.end = End::Failed(failed),
            Ok(Record::Done(done)) => run.end = End::Done(done),
            Ok(Record::Run(_)) => {
                return Err(fault(index + 1, "a second run begins here".to_owned(), damaged));
            }
            Err(_) if !line.ends_with(b"\n") => break,
            Err(error) => return Err(fault(index + 1, error.to_string(), damaged)),
        }
    }
    Ok(Some(run))
}

/// Puts the runs of one experiment in order and finds out which are not there.
fn gather(mut runs: Vec<Run>) -> Result<Experiment, Error> {
    let about = merged(&runs);
    let mut commands = Vec::new();
    for run in &runs {
        add(&mut commands, &run.header.experiment.command);
    }
    runs.sort_by_key(|run| (position(&about.arms, &run.header.arm), run.header.seed));
    let (runs, unfinished): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.done().is_some());
    for pair in runs.windows(2) {
        if let [first, second] = pair
            && (&first.header.arm, first.header.seed) == (&second.header.arm, second.header.seed)
        {
            return Err(Error::Twice {
                which: format!("arm `{}`, seed {} of {}", first.header.arm, first.header.seed, title(&about)),
                differing: compare::settings(&first.header, &second.header).join(", "),
                first: first.place.clone(),
                second: second.place.clone(),
            });
        }
    }
    let present = |arm: &String, seed: u64| {
        runs.iter().chain(&unfinished).any(|run| &run.header.arm == arm && run.header.seed == seed)
    };
    let cells = about.arms.iter().flat_map(|arm| about.seeds.iter().map(move |seed| (arm, *seed)));
    let missing =
        cells.filter(|(arm, seed)| !present(arm, *seed)).map(|(arm, seed)| (arm.clone(), seed)).collect();
    Ok(Experiment { about, commands, runs, unfinished, missing })
}

/// What the runs say about their experiment. An experiment file may gain arms, seeds and claims between its runs, so each
/// list is the union; the rest comes from the run that knows most arms and seeds. A claim is one however many runs have
/// it, although its effect may differ from the published one in more ways in some: in the number of pairs that a stage made.
fn merged(runs: &[Run]) -> ExperimentRecord {
    let mut records: Vec<_> = runs.iter().map(|run| &run.header.experiment).collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.arms.len() + record.seeds.len()));
    let mut about = records.first().map_or_else(ExperimentRecord::default, |record| (*record).clone());
    for run in runs {
        let other = &run.header.experiment;
        other.arms.iter().chain([&run.header.arm]).for_each(|arm| add(&mut about.arms, arm));
        other.seeds.iter().chain([&run.header.seed]).for_each(|seed| add(&mut about.seeds, seed));
        other.claims.iter().for_each(|claim| add_claim(&mut about.claims, claim));
    }
    about.seeds.sort_unstable();
    about
}

fn add<T: PartialEq + Clone>(list: &mut Vec<T>, item: &T) {
    if !list.contains(item) {
        list.push(item.clone());
    }
}

fn add_claim(claims: &mut Vec<ClaimRecord>, claim: &ClaimRecord) {
    let Some(known) = claims.iter_mut().find(|known| bare(known) == bare(claim)) else {
        return claims.push(claim.clone());
    };
    if let (Some(known), Some(other)) = (&mut known.published, &claim.published) {
        other.differences.iter().for_each(|difference| add(&mut known.differences, difference));
        other.incomparable.iter().for_each(|fault| add(&mut known.incomparable, fault));
    }
}

/// A claim without what depends on the run that has it.
fn bare(claim: &ClaimRecord) -> ClaimRecord {
    let mut claim = claim.clone();
    if let Some(published) = &mut claim.published {
        published.differences.clear();
        published.incomparable.clear();
    }
    claim
}

fn position(arms: &[String], arm: &str) -> usize {
    arms.iter().position(|name| name == arm).unwrap_or(arms.len())
}

fn title(about: &ExperimentRecord) -> String {
    match &about.profile {
        Some(profile) => format!("{} ({profile})", about.name),
        None => about.name.clone(),
    }
}
