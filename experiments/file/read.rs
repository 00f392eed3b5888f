//! Reading the files and flags that an experiment is written in.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::merge::merge;
use super::node::{Key, Kind, Node};
use crate::experiments::Experiment;
use crate::experiments::fault::{Fault, Place, Text, nearest, suggest};
use crate::experiments::suite::Only;

/// The file laid over its base, which is laid over its own.
///
/// # Errors
/// If one of them cannot be read, or is its own base.
pub fn with_bases(file: &Path) -> Result<Node, Fault> {
    let mut chain = Vec::new();
    let mut trees = Vec::new();
    let mut next = Some((tidy(file), None));
    while let Some((file, named)) = next {
        if let Some(at) = chain.iter().position(|known| *known == file) {
            let round: Vec<String> =
                chain[at..].iter().map(|file: &PathBuf| file.display().to_string()).collect();
            let fault = Fault::new(format!("{} is its own base", file.display())).at(named.as_ref());
            return Err(fault.note(format!("by way of {}", round.join(", "))));
        }
        let tree = parse(&file, named.as_ref())?;
        next = base(&file, &tree)?;
        chain.push(file);
        trees.push(tree);
    }
    let merged = trees.into_iter().rev().reduce(|below, above| merge(below, above, ""));
    Ok(merged.unwrap_or_default())
}

/// The base of a file and where it is named.
fn base(file: &Path, tree: &Node) -> Result<Option<(PathBuf, Option<Place>)>, Fault> {
    match tree.get("base") {
        None => Ok(None),
        Some(Node { kind: Kind::String(base), place }) => {
            let beside = file.parent().unwrap_or(Path::new("")).join(base);
            Ok(Some((tidy(&beside), place.clone())))
        }
        Some(other) => {
            let fault = Fault::new(format!("expected the path of a file, found {}", other.kind));
            Err(fault.at(other.place.as_ref()).help("paths begin at the folder of this file"))
        }
    }
}

fn parse(file: &Path, named: Option<&Place>) -> Result<Node, Fault> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let fault = Fault::new(format!("{} cannot be read: {error}", file.display())).at(named);
        match similar(file) {
            Some(other) => fault.help(format!("did you mean `{}`?", other.display())),
            None => fault,
        }
    })?;
    let tree = Node::parse(&Arc::new(Text { name: file.display().to_string(), text }))?;
    match &tree.kind {
        Kind::Map(_) => Ok(tree),
        other => {
            let fault = Fault::new(format!("{} holds {other}, not a map of settings", file.display()));
            Err(fault.at(tree.place.as_ref()).help("see `vlp list experiments` for examples"))
        }
    }
}

/// A file in the same folder whose name is nearly the same.
fn similar(file: &Path) -> Option<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    let found = nearest(file.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    Some(tidy(&folder.join(found)))
}

/// The path without `.` and without `folder/..`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidy.components().next_back(), Some(Component::Normal(_))) => {
                tidy.pop();
            }
            part => tidy.push(part),
        }
    }
    tidy
}

/// `albef/distillation-weight` for `..experiments/albef/distillation-weight.yaml`, else the file's own name.
pub fn experiment_name(file: &Path) -> String {
    let full =
        std::path::absolute(file).map_or_else(|_| file.to_owned(), |path| tidy(&path)).with_extension("");
    let parts: Vec<_> = full.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let below = parts.iter().rposition(|part| part == "experiments").map_or(parts.len() - 1, |at| at + 1);
    parts[below.min(parts.len() - 1)..].join("/")
}

/// The key and the value of `--set key=value`.
///
/// # Errors
/// If it has no `=`, or the value is not YAML.
pub fn flag(flag: &str) -> Result<(Key, Node), Fault> {
    const LEAD: &str = "--set ";
    let text = Arc::new(Text { name: "command line".to_owned(), text: format!("{LEAD}{flag}") });
    let Some((name, _)) = flag.split_once('=') else {
        let fault = Fault::new(format!("`{flag}` sets nothing")).at(Some(&behind(&text, LEAD.len())));
        return Err(fault.help("write `--set key=value`, e.g. `--set train.steps=100`"));
    };
    let width = name.chars().count();
    let place = Place { width, ..behind(&text, LEAD.len()) };
    let value = Node::parse_from(&text, LEAD.len() + width + 1)?;
    Ok((Key { name: name.to_owned(), place: Some(place) }, value))
}

/// The list that `--seeds 0,1,2` stands for.
pub fn seeds(typed: &str) -> Node {
    const LEAD: &str = "--seeds ";
    let text = Arc::new(Text { name: "command line".to_owned(), text: format!("{LEAD}{typed}") });
    let mut column = LEAD.len() + 1;
    let seed = |part: &str| {
        let width = part.chars().count();
        let place = Place { text: text.clone(), line: 1, column, width };
        column += width + 1;
        let kind = part.trim().parse().map_or_else(|_| Kind::String(part.to_owned()), Kind::Whole);
        Node { kind, place: Some(place) }
    };
    let kind = Kind::List(typed.split(',').map(seed).collect());
    Node { kind, place: Some(behind(&text, LEAD.len())) }
}

/// The runs that `--only arm=itc --only seed=1` means.
///
/// # Errors
/// If one of the flags is neither, or names an arm or a seed that the experiment does not have.
pub fn only(flags: &[String], experiment: &Experiment) -> Result<Only, Fault> {
    const LEAD: &str = "--only ";
    let mut only = Only::default();
    for flag in flags {
        let text = Arc::new(Text { name: "command line".to_owned(), text: format!("{LEAD}{flag}") });
        let refuse = |message: String| Fault::new(message).at(Some(&behind(&text, LEAD.len())));
        match flag.split_once('=') {
            Some(("arm", name)) => {
                let mut arms = experiment.arms.iter().map(|arm| arm.name.as_str());
                if !arms.clone().any(|known| known == name) {
                    return Err(refuse(format!("there is no arm `{name}`")).help(suggest(name, arms)));
                }
                only.arms.extend(arms.find(|known| *known == name).map(str::to_owned));
            }
            Some(("seed", typed)) => {
                let known = experiment.seeds.iter().find(|seed| seed.to_string() == typed);
                let seeds: Vec<String> = experiment.seeds.iter().map(ToString::to_string).collect();
                let help = || format!("the seeds are {}", seeds.join(", "));
                only.seeds
                    .push(*known.ok_or_else(|| refuse(format!("there is no seed `{typed}`")).help(help()))?);
            }
            _ => {
                return Err(refuse(format!("`{flag}` chooses nothing"))
                    .help("write `--only arm=NAME` or `--only seed=N`"));
            }
        }
    }
    Ok(only)
}

/// The place of everything behind the first `lead` characters of a text of one line.
pub fn behind(text: &Arc<Text>, lead: usize) -> Place {
    let width = text.text.chars().count().saturating_sub(lead);
    Place { text: text.clone(), line: 1, column: lead + 1, width }
}
