//! Every published ablation beside the experiment files that rerun it, read without running anything.

use std::collections::BTreeMap;
use std::path::Path;

use super::agenda::below;
use super::failure::{Failure, Result};
use super::file::{self, node::Node};
use super::record::PublishedEffect;
use super::{Claim, Effect, published};

/// The registry's papers with all that reruns them.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// In the order of their years.
    pub papers: Vec<Paper>,
    /// How the settings of experiments were chosen, by their names.
    pub chosen: BTreeMap<String, String>,
}

/// One paper.
#[derive(Clone, Debug)]
pub struct Paper {
    /// Its word: `albef`.
    pub key: String,
    /// Its title.
    pub title: String,
    /// Authors, venue and number at arXiv.
    pub citation: String,
    /// Its published effects, in the order of its tables.
    pub ablations: Vec<Ablation>,
}

/// One published effect.
#[derive(Clone, Debug)]
pub struct Ablation {
    /// The table, as the paper numbers it.
    pub table: String,
    /// What the two arms differ in.
    pub what: String,
    /// What is measured on what, and after what training.
    pub measured: String,
    /// What was published.
    pub published: PublishedEffect,
    /// The claims of experiment files about it.
    pub reruns: Vec<Rerun>,
}

/// A claim of an experiment file about a published effect.
#[derive(Clone, Debug)]
pub struct Rerun {
    /// The experiment: `albef/distillation-weight`.
    pub experiment: String,
    /// What it asks.
    pub question: String,
    /// The difference that it measures.
    pub effect: Effect,
    /// The command that runs it, at the size for a processor where the file has one.
    pub command: String,
}

/// The registry with the claims of the experiment files below `folder`.
///
/// # Errors
/// If a file cannot be read, or claims what it cannot say.
pub fn catalogue(folder: &Path) -> Result<Catalogue> {
    let mut claims: Vec<(String, Rerun)> = Vec::new();
    let mut chosen = BTreeMap::new();
    for path in below(folder)? {
        let tree = file::tree(&path)?;
        if tree.get("question").is_some() {
            claims.extend(reruns(&path, &tree)?);
            chosen.extend(text(&tree, "chosen").map(|how| (file::experiment_name(&path), how)));
        }
    }
    let keys = published::keys()?;
    if let Some((unknown, _)) = claims.iter().find(|(key, _)| !keys.contains(key)) {
        return Err(published::unknown(unknown)?.into());
    }
    let papers = published::papers()?.iter().map(|paper| {
        let tables = paper.tables.iter().flat_map(|(key, table)| {
            table.effects.iter().map(move |(name, effect)| {
                let published = published::effect_of(paper, key, table, name, effect);
                let metric = table.metrics.get(&effect.metric);
                Ablation {
                    table: table.number.clone(),
                    what: effect.what.clone(),
                    measured: metric.map_or_else(|| effect.metric.clone(), ToString::to_string),
                    reruns: Vec::new(),
                    published,
                }
            })
        });
        let mut ablations: Vec<Ablation> = tables.collect();
        for ablation in &mut ablations {
            let own = claims.iter().filter(|(key, _)| *key == ablation.published.key);
            ablation.reruns.extend(own.map(|(_, rerun)| rerun.clone()));
        }
        Paper {
            key: paper.key.clone(),
            title: paper.title.clone(),
            citation: format!("{}, {}, arXiv:{}", paper.authors, paper.venue, paper.arxiv),
            ablations,
        }
    });
    Ok(Catalogue { papers: papers.collect(), chosen })
}

fn text(tree: &Node, key: &str) -> Option<String> {
    tree.get(key).and_then(|node| node.to_json().as_str().map(str::to_owned))
}

/// The claims of one file about published effects, by their keys.
fn reruns(path: &Path, tree: &Node) -> Result<Vec<(String, Rerun)>> {
    let claims: Vec<Claim> = match tree.get("claims") {
        Some(claims) => file::decode(claims).map_err(Failure::Refused)?,
        None => Vec::new(),
    };
    let profile = tree.get("profiles").and_then(|profiles| profiles.get("cpu"));
    let size = if profile.is_some() { " --profile cpu" } else { "" };
    let rerun = |claim: Claim| {
        let rerun = Rerun {
            experiment: file::experiment_name(path),
            question: text(tree, "question").unwrap_or_default(),
            effect: claim.effect,
            command: format!("vlp run {}{size}", path.display()),
        };
        claim.published.map(|key| (key, rerun))
    };
    Ok(claims.into_iter().filter_map(rerun).collect())
}
