//! Reading the files and flags that an experiment is written in.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::merge::merge;
use super::node::{Key, Kind, Node};
use crate::experiments::fault::{Fault, Place, Text, nearest};

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
        let fault = Fault::new(format!("`{flag}` sets nothing")).at(Some(&whole(&text, LEAD.len())));
        return Err(fault.help("write `--set key=value`, e.g. `--set train.steps=100`"));
    };
    let width = name.chars().count();
    let place = Place { width, ..whole(&text, LEAD.len()) };
    let value = Node::parse_from(&text, LEAD.len() + width + 1)?;
    Ok((Key { name: name.to_owned(), place: Some(place) }, value))
}

/// All of a text of one line after its first `lead` characters.
pub fn whole(text: &Arc<Text>, lead: usize) -> Place {
    let width = text.text.chars().count().saturating_sub(lead);
    Place { text: text.clone(), line: 1, column: lead + 1, width }
}
