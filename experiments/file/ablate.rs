//! The arms of an experiment, its seeds and its claims: what is compared with what, how often, and what is expected.

use std::collections::BTreeMap;

use super::decode::decode;
use super::node::{Key, Kind, Node};
use super::{RUN_KEYS, list, merge, references, suggest_or};
use crate::experiments::fault::{Fault, Faults, suggest};
use crate::experiments::{Arm, Claim};

/// The `ablate:` section.
pub struct Ablation {
    /// The arm that the others are compared with.
    pub control: Option<String>,
    /// At least one.
    pub arms: Vec<Planned>,
}

/// An arm whose run is not read yet.
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Where it is named; nothing for the one arm of a file without arms.
    pub key: Option<Key>,
    /// What the file changes for it.
    pub changes: Vec<(Key, Node)>,
    /// The file with these changes.
    pub tree: Node,
    /// Whether every change could be made.
    pub whole: bool,
}

impl Planned {
    /// The changes without their places.
    pub fn overrides(&self) -> BTreeMap<String, serde_json::Value> {
        self.changes.iter().map(|(key, value)| (key.name.clone(), value.to_json())).collect()
    }
}

/// Reads the `ablate:` section of `tree`; without it there is one arm, `main`.
pub fn arms(tree: &Node, faults: &mut Faults) -> Ablation {
    let Some(section) = tree.get("ablate") else {
        let main = Planned {
            name: "main".to_owned(),
            key: None,
            changes: Vec::new(),
            tree: tree.clone(),
            whole: true,
        };
        return Ablation { control: None, arms: vec![main] };
    };
    for (key, _) in
        section.entries().iter().filter(|(key, _)| !["control", "arms"].contains(&key.name.as_str()))
    {
        let fault = Fault::new(format!("unknown key `{}`", key.name)).at(key.place.as_ref());
        faults.push(fault.help(suggest(&key.name, ["control", "arms"])));
    }
    let written = section.get("arms").map(Node::entries).unwrap_or_default();
    if written.is_empty() {
        let place = section.get("arms").unwrap_or(section).place.as_ref();
        let fault = Fault::new("`ablate` has no arms").at(place);
        faults.push(
            fault.help("name each arm with its changes, e.g. `arms: {short: {train.steps: 100}, long: {}}`"),
        );
    }
    let arms = written.iter().map(|(key, changes)| plan(tree, key, changes, faults)).collect();
    Ablation { control: control(section, written, faults), arms }
}

fn control(section: &Node, arms: &[(Key, Node)], faults: &mut Faults) -> Option<String> {
    let names = || arms.iter().map(|(key, _)| key.name.as_str());
    let Some(node) = section.get("control") else {
        let fault = Fault::new("`ablate` names no control").at(section.place.as_ref());
        faults.push(fault.help(format!(
            "name the arm that the others are compared with: {}",
            names().collect::<Vec<_>>().join(", ")
        )));
        return None;
    };
    let name: String = faults.take(decode(node))?;
    if !names().any(|known| known == name) && !arms.is_empty() {
        let fault = Fault::new(format!("the control `{name}` is no arm")).at(node.place.as_ref());
        faults.push(fault.help(suggest(&name, names())));
    }
    Some(name)
}

fn plan(tree: &Node, key: &Key, changes: &Node, faults: &mut Faults) -> Planned {
    let mut planned = Planned {
        name: key.name.clone(),
        key: Some(key.clone()),
        changes: changes.entries().to_vec(),
        tree: tree.clone(),
        whole: true,
    };
    let mut refused = Vec::new();
    if !matches!(changes.kind, Kind::Map(_) | Kind::Null) {
        let fault = Fault::new(format!("expected the changes of arm `{}`, found {}", key.name, changes.kind));
        refused.push(fault.at(changes.place.as_ref()).help("`{}` changes nothing"));
    }
    for (change, value) in changes.entries() {
        let head = change.name.split('.').next().unwrap_or_default();
        if !RUN_KEYS.contains(&head) {
            let fault = Fault::new(format!("arm `{}` cannot change `{head}`", key.name));
            refused.push(fault.at(change.place.as_ref()).help(suggest(head, RUN_KEYS)));
        } else if let Err(fault) = merge::set(&mut planned.tree, change, value.clone()) {
            refused.push(fault.note(format!("in arm `{}`", key.name)));
        }
    }
    planned.whole = refused.is_empty();
    faults.extend(refused);
    planned
}

/// Refuses arms that are the same run.
pub fn equal_arms(ablation: &Ablation, arms: &[Arm], faults: &mut Faults) {
    for (number, arm) in arms.iter().enumerate() {
        if let Some(twin) = arms[..number].iter().find(|other| other.run == arm.run) {
            let planned = ablation.arms.iter().find(|planned| planned.name == arm.name);
            let place = planned.and_then(|planned| planned.key.as_ref()?.place.as_ref());
            let fault = Fault::new(format!("arm `{}` is the same run as arm `{}`", arm.name, twin.name));
            let help = "an arm is compared with others only if it changes something";
            faults.push(fault.at(place).help(help));
        }
    }
}

/// The seeds, all different; without the key 0 alone.
pub fn seeds(tree: &Node, faults: &mut Faults) -> Option<Vec<u64>> {
    let Some(node) = tree.get("seeds") else { return Some(vec![0]) };
    let seeds: Vec<u64> = faults.take(list(tree, "seeds"))?;
    if seeds.is_empty() {
        faults.push(
            Fault::new("there are no seeds").at(node.place.as_ref()).help("give at least one: `seeds: [0]`"),
        );
    }
    for (number, seed) in seeds.iter().enumerate() {
        if seeds[..number].contains(seed) {
            let place = node.elements().get(number).and_then(|element| element.place.as_ref());
            let fault = Fault::new(format!("seed {seed} is given twice")).at(place);
            faults.push(fault.help("equal seeds give equal runs, which say nothing about the spread"));
        }
    }
    Some(seeds)
}

/// The claims, each about arms and a metric that exist.
pub fn claims(tree: &Node, ablation: &Ablation, arms: &[Arm], faults: &mut Faults) -> Vec<Claim> {
    let Some(claims): Option<Vec<Claim>> = faults.take(list(tree, "claims")) else { return Vec::new() };
    let nodes = tree.get("claims").map(Node::elements).unwrap_or_default();
    let names = || ablation.arms.iter().map(|arm| arm.name.as_str());
    for (claim, node) in claims.iter().zip(nodes) {
        let place = |key: &str| node.locate(key);
        for (key, arm) in [("effect.arm", &claim.effect.arm), ("effect.minus", &claim.effect.minus)] {
            if !names().any(|known| known == arm) {
                let fault = Fault::new(format!("there is no arm `{arm}`")).at(place(key));
                faults.push(fault.help(suggest_or(arm, names(), "the file has no arms")));
                continue;
            }
            let Some(measured) = arms.iter().find(|known| known.name == *arm) else { continue };
            let metrics: Vec<String> =
                measured.run.evaluate.iter().flat_map(|evaluate| evaluate.metrics()).collect();
            if !metrics.contains(&claim.effect.metric) {
                let fault = Fault::new(format!("arm `{arm}` measures no `{}`", claim.effect.metric));
                let known = metrics.iter().map(String::as_str);
                let help = suggest_or(
                    &claim.effect.metric,
                    known,
                    "`evaluate` measures nothing, e.g. `evaluate: [retrieval]`",
                );
                faults.push(fault.at(place("effect.metric")).help(help));
            }
        }
        if let Some(key) = &claim.published {
            faults.extend(references::effect(key).into_iter().map(|fault| fault.at(place("published"))));
        }
        if claim.effect.arm == claim.effect.minus {
            let fault = Fault::new(format!("a claim compares `{}` with itself", claim.effect.arm));
            faults.push(fault.at(place("effect.minus")));
        }
    }
    claims
}
