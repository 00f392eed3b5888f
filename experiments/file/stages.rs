//! The `stages:` of a file and what each run begins with.
//!
//! ```yaml
//! stages:
//!   - tower: {model: {clip: {..}}, objectives: [itc], train: {steps: 500}}
//!   - queries: {start: [tower: {take: {image.*: image.*}}], train: {steps: 500, freeze: [image.*]}}
//! start: previous          # or: scratch, the names of stages, run: {path: ..}, weights: {path: ..}; one or a list
//! ```
//!
//! A stage that makes pairs out of others is written `- pairs: {rewrite: {web: .., captioner: .., filter: ..}}`, and what it
//! makes is a source of training pairs, `stage: pairs` ([`crate::experiments::bootstrap`]).
//!
//! A stage that is trained has the file's own `data`, `model`, `objectives` and `train` without `freeze`, its `base` laid over them, and
//! its own settings over both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::decode::decode;
use super::node::{Key, Kind, Node};
use super::{merge, read, suggest_or};
use crate::data::Config;
use crate::experiments::bootstrap::Settings;
use crate::experiments::fault::{Fault, Faults, Place, suggest};
use crate::experiments::stage::{Origin, Values};
use crate::experiments::{Arm, Rewrite, Run};

/// What a stage can say.
const STAGE_KEYS: [&str; 7] = ["base", "start", "data", "model", "objectives", "train", "evaluate"];
/// What a stage has of the file around it.
const INHERITED: [&str; 4] = ["data", "model", "objectives", "train"];
/// Words that `start` knows beside the names of stages.
const ORIGINS: [&str; 4] = ["scratch", "previous", "run", "weights"];

/// A stage that the file names.
pub struct Named {
    name: String,
    stage: Stage,
    /// What is wrong with it: reported by who begins with it, for an arm may make a stage illegal that it does without.
    faults: Vec<Fault>,
}

/// What a stage does; nothing within where it is not legal.
enum Stage {
    Trains(Option<Box<Run>>),
    Rewrites(Option<Rewrite>),
}

impl Named {
    /// The run of a stage that is trained, where it is legal.
    fn run(&self) -> Option<&Run> {
        match &self.stage {
            Stage::Trains(run) => run.as_deref(),
            Stage::Rewrites(_) => None,
        }
    }

    fn is_trained(&self) -> bool {
        matches!(self.stage, Stage::Trains(_))
    }
}

/// Reads the stages of a file in their order; `run` reads that of a tree, which may begin with earlier stages.
pub fn stages(
    tree: &Node,
    faults: &mut Faults,
    run: impl Fn(&Node, &[Named], &mut Faults) -> Option<Run>,
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
        let settings = element.get(name);
        let stage = match settings.and_then(|settings| settings.entry("rewrite")) {
            Some((_, rewrite)) => {
                let others = settings.map(Node::entries).unwrap_or_default();
                for (key, _) in others.iter().filter(|(key, _)| key.name != "rewrite") {
                    let fault = Fault::new(format!("a stage that rewrites pairs has no `{}`", key.name));
                    below.push(fault.at(key.place.as_ref()).help("what it does is written below `rewrite`"));
                }
                Stage::Rewrites(self::rewrite(rewrite, &stages, &mut below).filter(|_| below.is_empty()))
            }
            None => {
                let run = laid_over(tree, settings, &mut below)
                    .and_then(|tree| run(&tree, &stages, &mut below))
                    .filter(|_| below.is_empty());
                Stage::Trains(run.map(Box::new))
            }
        };
        let told = below.sorted().into_iter().map(|fault| fault.note(format!("in stage `{name}`")));
        stages.push(Named { name: name.to_owned(), stage, faults: told.collect() });
    }
    stages
}

/// What `rewrite:` says.
fn rewrite(node: &Node, earlier: &[Named], faults: &mut Faults) -> Option<Rewrite> {
    let settings: Settings = faults.take(decode(node))?;
    for (key, fault) in settings.faults() {
        faults.push(fault.at(node.locate(key)).at(node.place.as_ref()));
    }
    let mut stages = BTreeMap::new();
    let mut legal = true;
    for (role, name) in settings.needs() {
        let trained = || earlier.iter().filter(|stage| stage.is_trained());
        let Some(stage) = trained().find(|stage| stage.name == name) else {
            let fault = Fault::new(format!("there is no earlier stage `{name}` that is trained"));
            let names = trained().map(|stage| stage.name.as_str());
            let help = suggest_or(name, names, "write the stage above this one");
            faults.push(fault.at(node.locate(role.key())).help(help));
            continue;
        };
        let Some(run) = stage.run() else {
            faults.extend(stage.faults.clone());
            legal = false;
            continue;
        };
        faults.extend(role.refuses(name, run).map(|fault| fault.at(node.locate(role.key()))));
        stages.insert(name.to_owned(), run.clone());
    }
    legal.then_some(Rewrite { stages, settings })
}

/// The stages whose pairs a run learns from; nothing where one is wrong.
pub fn rewrites(
    tree: &Node,
    data: &Config,
    earlier: &[Named],
    faults: &mut Faults,
) -> Option<BTreeMap<String, Rewrite>> {
    let mut rewrites = BTreeMap::new();
    let mut legal = true;
    for made in data.train.stages() {
        let makes = || earlier.iter().filter(|stage| !stage.is_trained());
        match makes().find(|stage| stage.name == made.name) {
            Some(Named { stage: Stage::Rewrites(Some(rewrite)), .. }) => {
                rewrites.insert(made.name.clone(), rewrite.clone());
            }
            Some(stage) => {
                faults.extend(stage.faults.clone());
                legal = false;
            }
            None => {
                let fault = Fault::new(format!("there is no earlier stage `{}` that makes pairs", made.name));
                let names = makes().map(|stage| stage.name.as_str());
                let help =
                    suggest_or(&made.name, names, "write `- NAME: {rewrite: {web: ..}}` below `stages`");
                faults.push(fault.at(tree.locate("data.train.stage")).help(help));
                legal = false;
            }
        }
    }
    legal.then_some(rewrites)
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
        let reads = |(made, rewrite): (&String, &Rewrite)| made == name || any(&rewrite.stages, name);
        any(&run.stages, name) || run.rewrites.iter().any(reads)
    }
    fn any(stages: &BTreeMap<String, Run>, name: &str) -> bool {
        stages.iter().any(|(stage, run)| stage == name || needs(run, name))
    }
    let named = tree.get("stages").map(Node::elements).unwrap_or_default().iter().filter_map(Node::name);
    let idle = named.filter(|(name, _)| !arms.iter().any(|arm| needs(&arm.run, name)));
    let fault = |(name, place): (&str, Option<&Place>)| {
        let fault = Fault::new(format!("no run begins with stage `{name}`")).at(place);
        fault.help(format!("write `start: {name}`, name it as captioner or filter, or leave the stage out"))
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
    let mut legal = true;
    for entry in entries {
        match values(entry, earlier, faults) {
            None => legal = false,
            Some(None) => {}
            Some(Some(values)) => {
                legal &= stars(entry, &values, faults);
                legal &= start.need(&values, earlier, faults);
                start.values.push(values);
            }
        }
    }
    legal.then_some(start)
}

impl Start {
    /// Adds the stage that values come from; whether it is legal.
    fn need(&mut self, values: &Values, earlier: &[Named], faults: &mut Faults) -> bool {
        let Origin::Stage(name) = &values.from else { return true };
        let Some(stage) = earlier.iter().find(|stage| stage.name == *name) else { return false };
        match stage.run() {
            Some(run) => self.stages.insert(name.clone(), run.clone()),
            None => {
                faults.extend(stage.faults.clone());
                return false;
            }
        };
        true
    }
}

/// One entry: nothing within for `scratch`.
fn values(entry: &Node, earlier: &[Named], faults: &mut Faults) -> Option<Option<Values>> {
    let trained = earlier.iter().filter(|stage| stage.is_trained());
    let names = || trained.clone().map(|stage| stage.name.as_str());
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
