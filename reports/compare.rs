//! Whether two runs differ only in what their arms name: what else differs makes them not comparable.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::experiments::record::Header;

/// The settings in which two runs differ, seed and machine aside: `train.steps`, `data.test`, `the program`.
pub fn settings(first: &Header, second: &Header) -> Vec<String> {
    let (one, other) = (leaves(&first.config), leaves(&second.config));
    let mut differing: Vec<String> =
        one.keys().chain(other.keys()).filter(|key| one.get(*key) != other.get(*key)).cloned().collect();
    for split in first.data.iter().chain(&second.data).map(|data| &data.split) {
        let print = |header: &Header| {
            header.data.iter().find(|data| &data.split == split).map(|data| data.fingerprint.clone())
        };
        let key = format!("data.{split}");
        if print(first) != print(second) && !differing.iter().any(|known| related(known, &key)) {
            differing.push(key);
        }
    }
    if first.program != second.program {
        differing.push("the program".to_owned());
    }
    differing.sort();
    differing.dedup();
    differing
}

/// The settings in which two runs differ although neither arm names them.
pub fn unnamed(first: &Header, second: &Header) -> Vec<String> {
    let overrides = || first.overrides.keys().chain(second.overrides.keys());
    let begins = overrides().any(|key| related(key, "start") || key.ends_with(".start"));
    let has = |header: &Header, stage: &str| header.config.pointer(&format!("/stages/{stage}")).is_some();
    let differing = settings(first, second);
    let remade = differing.iter().any(|setting| setting.starts_with("rewrites."));
    let named = |setting: &String| {
        // What a stage makes of pairs differs where the stage does, whose own settings are judged.
        if remade && setting == "data.train" {
            return true;
        }
        if let Some((name, rest)) = setting.strip_prefix("rewrites.").and_then(|below| below.split_once('.'))
        {
            let written = written(name, rest);
            let known = inherited(rest).chain([written.as_str()]);
            return known.into_iter().any(|setting| overrides().any(|key| related(key, setting)));
        }
        // Who names where a run begins names the stages that it begins with; a stage within another lies below that.
        let stage = setting.strip_prefix("stages.").map(|rest| rest.split('.').next().unwrap_or(rest));
        begins && stage.is_some_and(|stage| has(first, stage) != has(second, stage))
            // A stage has what it does not say itself from the arm.
            || inherited(setting).any(|setting| overrides().any(|key| related(key, setting)))
    };
    differing.into_iter().filter(|setting| !named(setting)).collect()
}

/// What a file writes to change a setting of the stage `name` that rewrites pairs: `stages.bootstrap.rewrite.threshold` for
/// `settings.threshold`. Who names the captioner or the filter names the stages that train them.
fn written(name: &str, setting: &str) -> String {
    match setting.strip_prefix("settings.") {
        Some(key) => format!("stages.{name}.rewrite.{key}"),
        None => format!("stages.{name}.rewrite"),
    }
}

/// A setting and, where it is one of a stage, the setting of the arm that the stage may have it from.
fn inherited(setting: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(setting), |setting| {
        setting.strip_prefix("stages.").and_then(|below| Some(below.split_once('.')?.1))
    })
}

/// Whether one dotted key lies at or below the other.
fn related(first: &str, second: &str) -> bool {
    let (short, long) = if first.len() < second.len() { (first, second) } else { (second, first) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Every value of a configuration by its dotted key. A list of `{name: ..}` entries with different names is keyed by the
/// names, as arms write them: `objectives.itm.negatives`.
fn leaves(config: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    walk("", config, &mut found);
    found
}

fn walk<'a>(prefix: &str, value: &'a Value, found: &mut BTreeMap<String, &'a Value>) {
    let below = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(key, field)| walk(&below(key), field, found));
        }
        Value::Array(entries) if is_named(entries) => {
            let fields = entries.iter().filter_map(Value::as_object).flatten();
            fields.for_each(|(key, field)| walk(&below(key), field, found));
        }
        _ => {
            found.insert(prefix.to_owned(), value);
        }
    }
}

fn is_named(entries: &[Value]) -> bool {
    let mut names: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry.as_object().filter(|fields| fields.len() == 1))
        .flat_map(|fields| fields.keys())
        .collect();
    names.sort();
    names.dedup();
    !entries.is_empty() && names.len() == entries.len()
}
