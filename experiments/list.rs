//! What there is to choose from, in the words of its own files.

use std::fmt::Write;
use std::path::Path;

use super::failure::Result;
use super::file::{self, node::Node};
use super::{agenda, bootstrap, evaluate, machine, published};
use crate::data::Source;
use crate::{data, models, objectives, source};

/// The files whose heads say what data does differently.
const DATA: [(&str, &str); 4] = [
    ("augment", include_str!("../data/augment/mod.rs")),
    ("clipart", include_str!("../data/clipart.rs")),
    ("emoji", include_str!("../data/emoji.rs")),
    ("scenes", include_str!("../data/scenes/mod.rs")),
];

/// A kind of thing to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Models.
    Models,
    /// Objectives.
    Objectives,
    /// Evaluations.
    Evaluations,
    /// Sources of pairs.
    Data,
    /// Experiment files.
    Experiments,
    /// Published ablations.
    Published,
}

/// Everything of one kind, a line or two each.
///
/// # Errors
/// If the experiment files cannot be read.
pub fn list(kind: Kind) -> Result<String> {
    match kind {
        Kind::Models => Ok(aligned(models::Config::all().iter().map(|one| (one.name(), one.description())))),
        Kind::Objectives => {
            Ok(aligned(objectives::Config::all().iter().map(|one| (one.name(), one.description()))))
        }
        Kind::Evaluations => {
            Ok(aligned(evaluate::Config::all().iter().map(|one| (one.name(), one.description()))))
        }
        Kind::Data => sources(),
        Kind::Experiments => experiments(Path::new("experiments")),
        Kind::Published => published::overview(),
    }
}

/// What differs from the papers on purpose, part by part.
pub fn deviations() -> String {
    let models = models::Config::all().into_iter().map(|one| (one.name(), one.deviations()));
    let objectives = objectives::Config::all().into_iter().map(|one| (one.name(), one.deviations()));
    let data = DATA.into_iter().map(|(name, text)| (name, source::deviations(text)));
    let evaluations = evaluate::Config::all().into_iter().map(|one| (one.name(), one.deviations()));
    let mut text = String::new();
    let others = [("rewrite", bootstrap::deviations()), ("precision", machine::deviations())];
    for (name, lines) in models.chain(objectives).chain(data).chain(others).chain(evaluations) {
        for line in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {line}");
        }
    }
    text.trim_end().to_owned()
}

fn aligned<'a>(rows: impl Iterator<Item = (&'a str, String)>) -> String {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, text)| format!("{name:width$}  {text}")).collect();
    lines.join("\n")
}

fn sources() -> Result<String> {
    let describe = |source: Source| {
        let data::Summary { name, description, pairs, fields, classes, answers, licence, .. } =
            source.summary()?;
        let pairs = pairs.map_or_else(
            || "any number of pairs".to_owned(),
            |[train, val, test]| format!("{train} train, {val} val, {test} test pairs"),
        );
        let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
        let fields = fields.join(", ");
        let lists = [(classes.len(), "classes"), (answers.len(), "answers")];
        let counts =
            lists.iter().filter(|(count, _)| *count > 0).map(|(count, of)| format!("; {count} {of}"));
        let counts: String = counts.collect();
        Ok(format!("{name}: {description}\n  {pairs}; {fields}{counts}\n  licence: {licence}"))
    };
    Ok(Source::all().into_iter().map(describe).collect::<Result<Vec<_>>>()?.join("\n"))
}

/// The experiment files below `folder`: those that ask a question.
fn experiments(folder: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for path in agenda::below(folder)? {
        let tree = file::tree(&path)?;
        let Some(question) = tree.get("question") else { continue };
        let profiles = tree.get("profiles").map(Node::entries).unwrap_or_default();
        let names: Vec<&str> = profiles.iter().map(|(key, _)| key.name.as_str()).collect();
        let question = question.to_json();
        let question = question.as_str().unwrap_or_default();
        lines.push(format!("{}\n  {question}\n  profiles: {}", path.display(), names.join(", ")));
    }
    Ok(lines.join("\n"))
}
