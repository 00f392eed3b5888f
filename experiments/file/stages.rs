//! The `stages:` of a file and what each run begins with.
//!
//! ```yaml
//! stages:
//!   - tower: {model: {clip: {..}}, objectives: [itc], train: {steps: 500}}
//!   - queries: {start: [tower: {take: {image.*: image.*}}], train: {steps: 500, freeze: [image.*]}}
//! start: previous          # or: scratch, the names of stages, run: {path: ..}, weights: {path: ..}; one or a list
//! ```
//!
//! A stage has the file's own `data`, `model`, `objectives` and `train` without `freeze`, its `base` laid over them, and
//! its own settings over both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::decode::decode;
use super::node::{Key, Kind, Node};
use super::{merge, read, suggest_or};
use crate::experiments::fault::{Fault, Faults, Place, suggest};
use crate::experiments::stage::{Origin, Values};
use crate::experiments::{Arm, Run};

/// What a stage can say.
const STAGE_KEYS: [&str; 7] = ["base", "start", "data", "model", "objectives", "train", "evaluate"];
/// What a stage has of the file around it.
const INHERITED: [&str; 4] = ["data", "model", "objectives", "train"];
/// Words that `start` knows beside the names of stages.
const ORIGINS: [&str; 4] = ["scratch", "previous", "run", "weights"];

/// A stage that the file names.
pub struct Named {
    name: String,
    /// The run, or what is wrong with it: reported by who begins with it, for an arm may make a stage illegal that it does
    /// without.
    run: Result<Run, Vec<Fault>>,
}

/// Reads the stages of a file in their order; `whole` reads the run of a tree that may begin with earlier stages.
pub fn stages(
    tree: &Node,
    faults: &mut Faults,
    whole: impl Fn(&Node, &[Named], &mut Faults) -> Option<Run>,
) -> Vec<Named> {
    let Some(node) = tree.get("stages") else { return Vec::new() };
    let mut stages: Vec<Named> = Vec::new();
    if !matches!(node.kind, Kind::List(_) | Kind::Null) {
        let fault = Fault::new(format!("expected a list, found {}", node.kind)).at(node.place.as_ref());
        faults.push(fault.help("write a line with a dash for each stage: `- tower: {objectives: [itc]}`"));
    }
    for element in node.elements() {
        let Some((name, place)) = element.name() else {
            let fault = Fault::new("expected a stage with its name").at(element.place.as_ref());
            faults.push(fault.help("e.g. `- tower: {model: {clip: {}}, objectives: [itc]}`"));
            continue;
        };
        if ORIGINS.contains(&name) || stages.iter().any(|known| known.name == name) {
            let fault = Fault::new(format!("a stage cannot be called `{name}`")).at(place);
            faults.push(fault.help("give each stage a name of its own"));
            continue;
        }
        let mut below = Faults::default();
        let run = laid_over(tree, element.get(name), &mut below)
            .and_then(|tree| whole(&tree, &stages, &mut below))
            .filter(|_| below.is_empty());
        let told = |below: Faults| {
            below.sorted().into_iter().map(|fault| fault.note(format!("in stage `{name}`"))).collect()
        };
        stages.push(Named { name: name.to_owned(), run: run.ok_or_else(|| told(below)) });
    }
    stages
}

/// The settings of a stage over its base, over what it has of the file.
fn laid_over(tree: &Node, settings: Option<&Node>, faults: &mut Faults) -> Option<Node> {
    let inherited = tree.entries().iter().filter(|(key, _)| INHERITED.contains(&key.name.as_str()));
    let mut stage = Node { kind: Kind::Map(inherited.cloned().collect()), place: tree.place.clone() };
    if let Kind::Map(sections) = &mut stage.kind {
        let train = sections.iter_mut().find(|(key, _)| key.name == "train");
        if let Some((_, Node { kind: Kind::Map(train), .. })) = train {
            train.retain(|(key, _)| key.name != "freeze");
        }
    }
    let Some(settings) = settings else { return Some(stage) };
    if let Some(base) = base(settings, faults)? {
        let own = base.entries().iter().filter(|(key, _)| STAGE_KEYS[1..].contains(&key.name.as_str()));
        for (key, value) in own {
            faults.take(merge::set(&mut stage, key, value.clone()).map_err(|fault| vec![fault]))?;
        }
    }
    for (key, value) in settings.entries().iter().filter(|(key, _)| key.name != "base") {
        let head = key.name.split('.').next().unwrap_or_default();
        if !STAGE_KEYS.contains(&head) {
            let fault = Fault::new(format!("a stage has no `{head}`")).at(key.place.as_ref());
            faults.push(fault.help(suggest(head, STAGE_KEYS)));
        } else if let Err(fault) = merge::set(&mut stage, key, value.clone()) {
            faults.push(fault);
        }
    }
    Some(stage)
}

/// The file that a stage names as its base, which lies beside the one that the stage is written in.
fn base(settings: &Node, faults: &mut Faults) -> Option<Option<Node>> {
    let Some(node) = settings.get("base") else { return Some(None) };
    let path: String = faults.take(decode(node))?;
    let written = node.place.as_ref().map(|place| PathBuf::from(&place.text.name)).unwrap_or_default();
    let path = written.parent().unwrap_or(Path::new("")).join(path);
    faults.take(read::with_bases(&path).map(Some).map_err(|fault| vec![fault.at(node.place.as_ref())]))
}

/// The settings of an entry of `start:`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Taking {
    take: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Placed {
    path: String,
    #[serde(default)]
    take: BTreeMap<String, String>,
}

/// Stages that no arm begins with, by itself or by way of others.
pub fn idle(tree: &Node, arms: &[Arm]) -> Vec<Fault> {
    fn needs(run: &Run, name: &str) -> bool {
        run.stages.iter().any(|(stage, run)| stage == name || needs(run, name))
    }
    let named = tree.get("stages").map(Node::elements).unwrap_or_default().iter().filter_map(Node::name);
    let idle = named.filter(|(name, _)| !arms.iter().any(|arm| needs(&arm.run, name)));
    let fault = |(name, place): (&str, Option<&Place>)| {
        let fault = Fault::new(format!("no run begins with stage `{name}`")).at(place);
        fault.help(format!("write `start: {name}`, or leave the stage out"))
    };
    idle.map(fault).collect()
}

/// What a run begins with.
#[derive(Default)]
pub struct Start {
    /// The stages that it needs.
    pub stages: BTreeMap<String, Run>,
    /// The values that it takes.
    pub values: Vec<Values>,
}

/// What `start:` says; nothing where it is wrong or one of the stages is.
pub fn start(tree: &Node, earlier: &[Named], faults: &mut Faults) -> Option<Start> {
    let mut start = Start::default();
    let Some(node) = tree.get("start") else { return Some(start) };
    let entries = match &node.kind {
        Kind::List(entries) => entries.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut whole = true;
    for entry in entries {
        match values(entry, earlier, faults) {
            None => whole = false,
            Some(None) => {}
            Some(Some(values)) => {
                whole &= stars(entry, &values, faults);
                whole &= start.need(&values, earlier, faults);
                start.values.push(values);
            }
        }
    }
    whole.then_some(start)
}

impl Start {
    /// Adds the stage that values come from; whether it is legal.
    fn need(&mut self, values: &Values, earlier: &[Named], faults: &mut Faults) -> bool {
        let Origin::Stage(name) = &values.from else { return true };
        match earlier.iter().find(|stage| stage.name == *name).map(|stage| &stage.run) {
            Some(Ok(run)) => {
                self.stages.insert(name.clone(), run.clone());
                true
            }
            Some(Err(found)) => {
                faults.extend(found.clone());
                false
            }
            None => false,
        }
    }
}

/// One entry: nothing within for `scratch`.
fn values(entry: &Node, earlier: &[Named], faults: &mut Faults) -> Option<Option<Values>> {
    let names = || earlier.iter().map(|stage| stage.name.as_str());
    let Some((name, place)) = entry.name() else {
        let fault = Fault::new("expected what the run begins with").at(entry.place.as_ref());
        faults.push(
            fault.help(
                "`scratch`, `previous`, the name of a stage, `run: {path: ..}` or `weights: {path: ..}`",
            ),
        );
        return None;
    };
    let settings = entry.get(name);
    if name == "run" || name == "weights" {
        let Some(settings) = settings else {
            let fault = Fault::new(format!("`{name}` does not say where they are")).at(place);
            faults.push(fault.help(format!("write `{name}: {{path: ..}}`")));
            return None;
        };
        let Placed { path, take } = faults.take(decode(settings))?;
        let from = if name == "run" { Origin::Run(path.into()) } else { Origin::Weights(path) };
        return Some(Some(Values { from, take }));
    }
    let Taking { take } = match settings {
        None => Taking::default(),
        Some(settings) => faults.take(decode(settings))?,
    };
    let found = match name {
        "scratch" => return Some(None),
        "previous" => names().next_back(),
        _ => names().find(|known| *known == name),
    };
    let Some(found) = found else {
        faults.push(unknown(name, place, names()));
        return None;
    };
    Some(Some(Values { from: Origin::Stage(found.to_owned()), take }))
}

fn unknown<'a>(name: &str, place: Option<&Place>, names: impl Iterator<Item = &'a str> + Clone) -> Fault {
    let message = match name {
        "previous" => "there is no stage before this one".to_owned(),
        _ => format!("there is no earlier stage `{name}`"),
    };
    Fault::new(message).at(place).help(suggest_or(
        name,
        names,
        "the file names no stage before: write `stages:`",
    ))
}

/// Refuses patterns that say more than one thing.
fn stars(entry: &Node, values: &Values, faults: &mut Faults) -> bool {
    let count = |pattern: &str| pattern.matches('*').count();
    let mut fits = true;
    for (theirs, ours) in
        values.take.iter().filter(|(theirs, ours)| count(theirs) > 1 || count(ours) > count(theirs))
    {
        let key = Key { name: theirs.clone(), place: None };
        let written = entry.name().and_then(|(name, _)| entry.get(name)?.get("take")?.entry(&key.name));
        let place = written.and_then(|(key, _)| key.place.as_ref()).or(entry.place.as_ref());
        let fault = Fault::new(format!("`{theirs}: {ours}` does not say which is which")).at(place);
        faults.push(
            fault.help("one `*` on each side stands for the same characters, e.g. `image.*: vision.*`"),
        );
        fits = false;
    }
    fits
}
