//! From the text of an experiment file to a legal [`Experiment`]: its base below it, a profile and the command's flags
//! above it, and each arm's changes above all.

mod ablate;
mod check;
mod decode;
pub mod merge;
pub mod node;
mod options;
mod read;
mod references;
mod stages;

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::failure::{Failure, Result};
use super::fault::{Fault, Faults, Text, suggest};
use super::published;
use super::stage::STAGES;
use super::suite::Only;
use super::{Arm, Experiment, Run};
use crate::data;
use ablate::Ablation;
pub use decode::decode;
use node::{Key, Kind, Node};
pub use options::{Options, spelt};
pub use read::experiment_name;
use stages::{Named, Start};

/// The keys of an experiment file.
const KEYS: [&str; 16] = [
    "question",
    "chosen",
    "paper",
    "base",
    "stages",
    "start",
    "data",
    "model",
    "objectives",
    "train",
    "evaluate",
    "select",
    "ablate",
    "seeds",
    "claims",
    "profiles",
];
/// The keys that decide a run; arms and profiles change these alone.
const RUN_KEYS: [&str; 8] = ["stages", "start", "data", "model", "objectives", "train", "evaluate", "select"];

/// Reads an experiment file.
///
/// # Errors
/// Everything that is wrong with the file, its base and the options, at once.
pub fn load(file: &Path, options: &Options) -> Result<Experiment> {
    experiment(file, read::with_bases(file)?, options)
}

/// Reads an experiment that no file holds; `name` stands for the file in what is said about its faults.
///
/// # Errors
/// As [`load`].
pub fn read(name: &str, text: &str) -> Result<Experiment> {
    let text = Arc::new(Text { name: name.to_owned(), text: text.to_owned() });
    experiment(Path::new(name), Node::parse(&text)?, &Options::default())
}

fn experiment(file: &Path, mut tree: Node, options: &Options) -> Result<Experiment> {
    let mut faults = Faults::default();
    if read::experiment_name(file) == STAGES {
        let fault = Fault::new(format!("an experiment cannot be called `{STAGES}`"));
        faults.push(fault.note(format!("below --out, `{STAGES}` is where the runs of stages lie")));
    }
    unknown_keys(&tree, &mut faults);
    lay_over(&mut tree, options, &mut faults)?;
    match assemble(file, &tree, options, &mut faults) {
        Some(experiment) if faults.is_empty() => Ok(experiment),
        _ => Err(Failure::Refused(faults.sorted())),
    }
}

/// Checks an experiment file in every size that it has, or in the one that is asked for, or a file of the published
/// registry; says what it holds.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(path: &Path, options: &Options) -> Result<String> {
    if published::holds_tables(&tree(path)?) {
        return published::check(path);
    }
    let mut sizes = vec![options.profile.clone()];
    if options.profile.is_none() {
        sizes.extend(
            tree(path)?
                .get("profiles")
                .map(Node::entries)
                .unwrap_or_default()
                .iter()
                .map(|(key, _)| Some(key.name.clone())),
        );
    }
    let mut faults = Faults::default();
    let mut lines = Vec::new();
    for profile in sizes {
        match load(path, &Options { profile: profile.clone(), ..options.clone() }) {
            Ok(experiment) => {
                let (arms, seeds) = (experiment.arms.len(), experiment.seeds.len());
                let size = profile.map_or(String::new(), |name| format!(" --profile {name}"));
                let runs = arms * seeds;
                lines.push(format!(
                    "{}{size}: {arms} arms x {seeds} seeds = {runs} runs, nothing wrong",
                    path.display()
                ));
            }
            Err(Failure::Refused(found)) => faults.extend(found),
            Err(other) => return Err(other),
        }
    }
    if faults.is_empty() { Ok(lines.join("\n")) } else { Err(Failure::Refused(faults.sorted())) }
}

/// The runs that `--only` flags mean.
///
/// # Errors
/// If a flag names nothing that the experiment has.
pub fn only(flags: &[String], experiment: &Experiment) -> Result<Only> {
    Ok(read::only(flags, experiment)?)
}

/// An experiment file laid over its base, as it is written.
///
/// # Errors
/// If one of the two cannot be read.
pub fn tree(file: &Path) -> Result<Node> {
    Ok(read::with_bases(file)?)
}

fn unknown_keys(tree: &Node, faults: &mut Faults) {
    for (key, _) in tree.entries().iter().filter(|(key, _)| !KEYS.contains(&key.name.as_str())) {
        let fault = Fault::new(format!("unknown key `{}`", key.name)).at(key.place.as_ref());
        faults.push(fault.help(suggest(&key.name, KEYS)));
    }
}

/// Lays the profile and the flags over the file.
fn lay_over(tree: &mut Node, options: &Options, faults: &mut Faults) -> Result<()> {
    if let Some(name) = &options.profile {
        let text = Text { name: "command line".to_owned(), text: format!("--profile {name}") };
        let place = read::behind(&Arc::new(text), "--profile ".len());
        let profiles = tree.get("profiles").cloned().unwrap_or_default();
        let Some((_, profile)) = profiles.entry(name) else {
            let names = profiles.entries().iter().map(|(key, _)| key.name.as_str());
            let fault = Fault::new(format!("there is no profile `{name}`")).at(Some(&place));
            return Err(fault.help(suggest_or(name, names, "the file has no `profiles`")).into());
        };
        for (key, value) in profile.entries() {
            let head = key.name.split('.').next().unwrap_or_default();
            if !RUN_KEYS.contains(&head) && head != "seeds" {
                let fault = Fault::new(format!("a profile cannot change `{head}`")).at(key.place.as_ref());
                faults.push(fault.help(suggest(head, RUN_KEYS.into_iter().chain(["seeds"]))));
            } else if let Err(fault) = merge::set(tree, key, value.clone()) {
                faults.push(fault);
            }
        }
    }
    if let Some(typed) = &options.seeds {
        let seeds = Key { name: "seeds".to_owned(), place: None };
        merge::set(tree, &seeds, read::seeds(typed))?;
    }
    for flag in &options.set {
        let (key, value) = read::flag(flag)?;
        let head = key.name.split('.').next().unwrap_or_default();
        if !KEYS.contains(&head) {
            let fault = Fault::new(format!("unknown key `{head}`")).at(key.place.as_ref());
            faults.push(fault.help(suggest(head, KEYS)));
        } else if let Err(fault) = merge::set(tree, &key, value) {
            faults.push(fault);
        }
    }
    Ok(())
}

fn suggest_or<'a>(typed: &str, known: impl Iterator<Item = &'a str> + Clone, none: &str) -> String {
    if known.clone().next().is_none() { none.to_owned() } else { suggest(typed, known) }
}

fn assemble(file: &Path, tree: &Node, options: &Options, faults: &mut Faults) -> Option<Experiment> {
    let question: Option<String> = faults.take(required(tree, "question"));
    let chosen = faults.take(section(tree, "chosen"));
    let paper = faults.take(section(tree, "paper"));
    if let Some(Some(paper)) = &paper {
        faults.extend(references::paper(tree, paper));
    }
    let ablation = ablate::arms(tree, faults);
    let arms = arms(&ablation, faults);
    ablate::equal_arms(&ablation, &arms, faults);
    if arms.len() == ablation.arms.len() {
        faults.extend(stages::idle(tree, &arms));
    }
    let seeds = ablate::seeds(tree, faults);
    let claims = ablate::claims(tree, &ablation, &arms, faults);
    (arms.len() == ablation.arms.len()).then_some(())?;
    Some(Experiment {
        name: experiment_name(file),
        file: file.to_owned(),
        question: question?,
        chosen: chosen?,
        paper: paper?,
        profile: options.profile.clone(),
        control: ablation.control,
        arms,
        seeds: seeds?,
        claims,
    })
}

/// The arms whose runs are legal.
fn arms(ablation: &Ablation, faults: &mut Faults) -> Vec<Arm> {
    let mut arms = Vec::new();
    let mut found = ByArm::default();
    for planned in &ablation.arms {
        let mut below = Faults::default();
        if let Some(run) = staged(&planned.tree, &mut below).filter(|_| planned.whole) {
            arms.push(Arm::new(&planned.name, planned.overrides(), run, planned.tree.clone()));
        }
        found.add(&planned.name, below);
    }
    faults.extend(found.faults(ablation.arms.len()));
    arms
}

/// One arm's run with the stages that it needs, where they are legal.
fn staged(tree: &Node, faults: &mut Faults) -> Option<Run> {
    let stages = stages::stages(tree, faults, run);
    run(tree, &stages, faults)
}

/// The run that a tree describes, where it is legal; it may begin with earlier stages.
fn run(tree: &Node, earlier: &[Named], faults: &mut Faults) -> Option<Run> {
    let start = stages::start(tree, earlier, faults);
    let data: Option<data::Config> = faults.take(required(tree, "data"));
    let rewrites = data.as_ref().and_then(|data| stages::rewrites(tree, data, earlier, faults));
    let model = faults.take(required(tree, "model"));
    let objectives = faults.take(present(tree, "objectives").and_then(|_| list(tree, "objectives")));
    let train = faults.take(section(tree, "train"));
    let evaluate = faults.take(list(tree, "evaluate"));
    let select = faults.take(section(tree, "select"));
    let Start { stages, values: start } = start?;
    let run = Run {
        stages,
        rewrites: rewrites?,
        start,
        data: data?,
        model: model?,
        objectives: objectives?,
        train: train?,
        evaluate: evaluate?,
        select: select?,
    };
    faults.extend(check::check(tree, &run));
    faults.is_empty().then_some(run)
}

fn present<'a>(tree: &'a Node, key: &str) -> std::result::Result<&'a Node, Vec<Fault>> {
    let missing = || vec![Fault::new(format!("the key `{key}` is missing")).at(tree.place.as_ref())];
    tree.get(key).ok_or_else(missing)
}

fn required<T: DeserializeOwned>(tree: &Node, key: &str) -> std::result::Result<T, Vec<Fault>> {
    present(tree, key).and_then(decode)
}

fn section<T: DeserializeOwned + Default>(tree: &Node, key: &str) -> std::result::Result<T, Vec<Fault>> {
    tree.get(key).map_or_else(|| Ok(T::default()), decode)
}

/// A list whose elements are read one by one, so that each tells its faults.
fn list<T: DeserializeOwned>(tree: &Node, key: &str) -> std::result::Result<Vec<T>, Vec<Fault>> {
    let Some(node) = tree.get(key) else { return Ok(Vec::new()) };
    let Kind::List(elements) = &node.kind else {
        let fault = Fault::new(format!("expected a list, found {}", node.kind)).at(node.place.as_ref());
        return Err(vec![fault.help(format!("write `{key}: [..]`, or one line with a dash for each"))]);
    };
    let mut faults = Faults::default();
    let read: Vec<T> = elements.iter().filter_map(|element| faults.take(decode(element))).collect();
    if faults.is_empty() { Ok(read) } else { Err(faults.sorted()) }
}

/// What is wrong in which arms: what is wrong in all of them is wrong with the file.
#[derive(Default)]
struct ByArm(Vec<(Fault, Vec<String>)>);

impl ByArm {
    fn add(&mut self, arm: &str, faults: Faults) {
        for fault in faults.sorted() {
            match self.0.iter_mut().find(|(known, _)| *known == fault) {
                Some((_, arms)) => arms.push(arm.to_owned()),
                None => self.0.push((fault, vec![arm.to_owned()])),
            }
        }
    }

    fn faults(self, arms: usize) -> impl Iterator<Item = Fault> {
        self.0.into_iter().map(move |(fault, within)| {
            if within.len() == arms {
                return fault;
            }
            let names: Vec<String> = within.iter().map(|name| format!("`{name}`")).collect();
            fault.note(format!("in arm {}", names.join(", ")))
        })
    }
}
