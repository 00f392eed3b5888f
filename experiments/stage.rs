//! Stages: what is trained before a run, and the values that the run begins with.
//!
//! A stage is a run like any other, of the same seed, with a directory of its own that its configuration, seed, program
//! and data name. Arms, seeds and experiments that need the same stage therefore find it done: it is trained once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Shape;
use serde::{Deserialize, Serialize};

use super::file::node::Node;
use super::{Arm, Experiment, Run};
use crate::models::store::matches;

/// The folder below `--out` that keeps the runs of stages, and the name of the experiment that their records give.
pub const STAGES: &str = "stages";

/// A stage as an experiment of one arm.
pub fn experiment(name: &str, run: &Run, seed: u64) -> Experiment {
    Experiment {
        name: STAGES.to_owned(),
        file: PathBuf::new(),
        question: format!("What later runs begin with: {name}"),
        chosen: None,
        paper: None,
        profile: None,
        control: None,
        arms: vec![Arm::new(name, BTreeMap::new(), run.clone(), Node::default())],
        seeds: vec![seed],
        claims: Vec::new(),
    }
}

/// Parameters of something trained before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Values {
    /// Where they are.
    pub from: Origin,
    /// Which of them are taken, by their names there, and their names here; `*` stands for any run of characters, the same
    /// on both sides, and passes over what this run does not have. Without it: `{*: *}`, every parameter that both have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub take: BTreeMap<String, String>,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A stage, by its name.
    Stage(String),
    /// A run that is done, by its directory.
    Run(PathBuf),
    /// Published weights: a folder with `config.json` and tensors, or `hub:OWNER/NAME[@REVISION]`.
    Weights(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stage(name) => write!(f, "stage `{name}`"),
            Self::Run(path) => write!(f, "the run in {}", path.display()),
            Self::Weights(place) => write!(f, "{place}"),
        }
    }
}

/// Names and extents of parameters.
pub type Shapes = BTreeMap<String, Shape>;

impl Values {
    /// Which parameter here takes its value from which there, as `(there, here)`.
    ///
    /// # Errors
    /// One sentence for each way in which the two do not fit.
    pub fn resolve(&self, there: &Shapes, here: &Shapes) -> Result<Vec<(String, String)>, Vec<String>> {
        let (mut taken, mut faults) = (Vec::new(), Vec::new());
        let everything = BTreeMap::from([("*".to_owned(), "*".to_owned())]);
        for (pattern, ours) in if self.take.is_empty() { &everything } else { &self.take } {
            let before = taken.len() + faults.len();
            for (theirs, shape) in there {
                let Some(ours) = renamed(pattern, ours, theirs) else { continue };
                match here.get(&ours) {
                    Some(own) if own == shape => taken.push((theirs.clone(), ours)),
                    Some(own) => {
                        let (there, here) = (shape.dims(), own.dims());
                        faults.push(format!("`{theirs}` is {there:?} there, `{ours}` is {here:?} here"));
                    }
                    None => {}
                }
            }
            if taken.len() + faults.len() == before {
                faults.push(format!(
                    "`{pattern}: {ours}` takes nothing: no parameter is called so on both sides"
                ));
            }
        }
        if faults.is_empty() { Ok(taken) } else { Err(faults) }
    }
}

/// What `name` is called here if it matches `pattern` there: what `*` stands for is the same in both.
fn renamed(pattern: &str, ours: &str, name: &str) -> Option<String> {
    if !matches(pattern, name) {
        return None;
    }
    let Some((head, tail)) = pattern.split_once('*') else { return Some(ours.to_owned()) };
    Some(ours.replacen('*', &name[head.len()..name.len() - tail.len()], 1))
}
