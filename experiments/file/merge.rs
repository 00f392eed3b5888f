//! Laying one tree over another: the file over its base, a profile over the file, flags and arms over both.
//!
//! Maps merge key by key, everything else replaces. A key may be dotted: `objectives.itm.negatives` is the setting
//! `negatives` of the element `itm` of the list `objectives`.

use super::node::{Key, Kind, Node};
use crate::experiments::fault::{Fault, Place, suggest};

/// Keys whose map is a choice of one among several: another name replaces it instead of joining it.
const CHOICES: [&str; 5] = ["model", "data.train", "data.val", "data.test", "select.step"];

/// `over` laid over `base`; `path` is the dotted key of both, empty for a whole file.
pub fn merge(base: Node, over: Node, path: &str) -> Node {
    match (base.kind, over.kind) {
        (Kind::Map(base), Kind::Map(over_entries)) if !replaces(path, &base, &over_entries) => {
            let mut merged = base;
            for (key, value) in over_entries {
                let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
                match merged.iter_mut().find(|(known, _)| known.name == key.name) {
                    Some((_, known)) => *known = merge(std::mem::take(known), value, &path),
                    None => merged.push((key, value)),
                }
            }
            Node { kind: Kind::Map(merged), place: over.place }
        }
        (_, kind) => Node { kind, place: over.place },
    }
}

fn replaces(path: &str, base: &[(Key, Node)], over: &[(Key, Node)]) -> bool {
    CHOICES.contains(&path)
        && over.iter().any(|(key, _)| !base.iter().any(|(known, _)| known.name == key.name))
}

/// Lays `value` over what `tree` has at a dotted key.
///
/// # Errors
/// If the key leads through something that is not a map, or through a list that has no element of that name. A key
/// that merely is not known is left for the decoder, which knows what is.
pub fn set(tree: &mut Node, key: &Key, value: Node) -> Result<(), Fault> {
    let mut here = tree;
    let mut walked = String::new();
    let mut segments = segments(key).into_iter().peekable();
    while let Some(segment) = segments.next() {
        let step = into(here, &walked, &segment)?;
        if !walked.is_empty() {
            walked.push('.');
        }
        walked.push_str(&segment.name);
        if segments.peek().is_none() {
            *step = merge(std::mem::take(step), value, &walked);
            return Ok(());
        }
        here = step;
    }
    Ok(())
}

/// The parts of a dotted key, each with its place.
fn segments(key: &Key) -> Vec<Key> {
    let names: Vec<&str> = key.name.split('.').collect();
    // In quotes, or with an escape, the parts do not lie where they seem to.
    let plain = key.place.as_ref().filter(|place| place.width == key.name.chars().count());
    let mut column = plain.map_or(0, |place| place.column);
    let part = |name: &&str| {
        let width = name.chars().count();
        let place = match plain {
            Some(place) => Some(Place { column, width, ..place.clone() }),
            None => key.place.clone(),
        };
        column += width + 1;
        Key { name: (*name).to_owned(), place }
    };
    names.iter().map(part).collect()
}

/// The value that `segment` leads to from `here`, which `walked` names.
fn into<'a>(here: &'a mut Node, walked: &str, segment: &Key) -> Result<&'a mut Node, Fault> {
    let refuse = |message: String| Fault::new(message).at(segment.place.as_ref());
    if here.is_null() {
        here.kind = Kind::Map(Vec::new());
    }
    open(here, &segment.name);
    let found = here.kind.to_string();
    match &mut here.kind {
        Kind::Map(entries) => {
            let at = entries.iter().position(|(known, _)| known.name == segment.name);
            let at = at.unwrap_or_else(|| {
                entries.push((segment.clone(), Node::default()));
                entries.len() - 1
            });
            Ok(&mut entries[at].1)
        }
        Kind::List(elements) => {
            let names: Vec<String> =
                elements.iter().filter_map(|element| Some(element.name()?.0.to_owned())).collect();
            let mut named = elements
                .iter_mut()
                .filter(|element| element.name().is_some_and(|(name, _)| name == segment.name));
            match (named.next(), named.next()) {
                (Some(element), None) => into(element, walked, segment),
                (Some(_), Some(_)) => {
                    Err(refuse(format!("`{walked}` has `{}` more than once", segment.name))
                        .help("write the whole list instead"))
                }
                (None, _) => Err(refuse(format!("`{walked}` has no `{}`", segment.name))
                    .help(suggest(&segment.name, names.iter().map(String::as_str)))),
            }
        }
        _ => Err(refuse(format!("`{walked}` is {found}, it has no `{}`", segment.name))),
    }
}

/// Turns a bare name into the map that it stands for: `itm` is `itm: {}`.
fn open(node: &mut Node, name: &str) {
    if matches!(&node.kind, Kind::String(bare) if bare == name) {
        let settings = Node { kind: Kind::Map(Vec::new()), place: node.place.clone() };
        let key = Key { name: name.to_owned(), place: node.place.clone() };
        node.kind = Kind::Map(vec![(key, settings)]);
    }
}
