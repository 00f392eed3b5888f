//! An experiment that is legal: what is left of the file after its base, profile and overrides are merged and every
//! fault is refused. Nothing after this re-checks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bootstrap::Rewrite;
use super::combine::Combine;
use super::evaluate;
use super::fault::Fault;
use super::file::node::Node;
use super::stage::Values;
use crate::kernels::Precision;
use crate::models::{Inputs, Model, Store};
use crate::objectives::Objective;
use crate::{data, models, objectives};

/// One question, the arms that answer it and the seeds that repeat it.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The file's place below `experiments/` without its ending, e.g. `albef/distillation-weight`.
    pub name: String,
    /// The file it came from.
    pub file: PathBuf,
    /// What is asked, in one sentence; printed above every table.
    pub question: String,
    /// How its settings were chosen, in sentences: by which arm, on which pairs.
    pub chosen: Option<String>,
    /// The published table that it reruns.
    pub paper: Option<PaperReference>,
    /// The size chosen by `--profile`.
    pub profile: Option<String>,
    /// The arm that the others are compared with.
    pub control: Option<String>,
    /// At least one; an experiment without `ablate` has one arm, `main`.
    pub arms: Vec<Arm>,
    /// At least one, all different.
    pub seeds: Vec<u64>,
    /// What the runs are expected to show.
    pub claims: Vec<Claim>,
}

/// An entry of the published registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperReference {
    /// The paper's word: `albef`.
    pub key: String,
    /// The table as the paper numbers it: `Table 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
}

/// One way of training that is compared with others.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Its name in the file, in records and on plots.
    pub name: String,
    /// What the file changes for it, key by key.
    pub overrides: BTreeMap<String, serde_json::Value>,
    /// The whole configuration with the changes made.
    pub run: Run,
    written: Node,
}

impl Arm {
    /// An arm whose configuration is written in `written`.
    pub fn new(name: &str, overrides: BTreeMap<String, serde_json::Value>, run: Run, written: Node) -> Self {
        Self { name: name.to_owned(), overrides, run, written }
    }

    /// A fault of the setting at a dotted key such as `train.freeze`, with the place where it is written.
    pub fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        Fault::new(message).at(self.written.locate(key))
    }
}

/// Everything that decides the bits of a run, beside the seed, the code and the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The stages that are done before, by name, each with those that come before it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, Run>,
    /// The pairs that are made before, by the stage that makes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rewrites: BTreeMap<String, Rewrite>,
    /// Whose values it begins with; where two have the same parameter, the later one. What none has begins as the seed
    /// says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<Values>,
    /// Which pairs.
    pub data: data::Config,
    /// Which model.
    pub model: models::Config,
    /// Which errors, in the order in which they are summed.
    pub objectives: Vec<objectives::Config>,
    /// How it is trained.
    pub train: Train,
    /// What is measured on the test pairs.
    pub evaluate: Vec<evaluate::Config>,
    /// Which step is reported.
    pub select: Select,
}

/// A run's model and its objectives, in their order.
pub type Opened = (Box<dyn Model>, Vec<Box<dyn Objective>>);

impl Run {
    /// The model that learns and what is asked of it, with their parameters opened in a store.
    ///
    /// # Errors
    /// When one exists with another shape.
    pub fn open(&self, store: &Store, inputs: &Inputs) -> candle_core::Result<Opened> {
        let (vars, dims) = (store.student(), self.model.dims(inputs));
        let model = self.model.build(&vars, inputs)?;
        let objectives = self.objectives.iter().map(|objective| objective.open(&vars, &dims));
        Ok((model, objectives.collect::<candle_core::Result<_>>()?))
    }
}

/// The `train:` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Updates; with 0 what the run begins with is measured as it is.
    pub steps: u64,
    /// Pairs an update.
    pub batch: usize,
    /// The greatest learning rate.
    pub rate: f64,
    /// Updates over which the rate rises from 0; a number below 1 is a share of `steps`.
    pub warmup: f64,
    /// How the rate falls afterwards.
    pub schedule: Schedule,
    /// The rate at the end, as a share of `rate`.
    pub final_rate: f64,
    /// Decoupled weight decay of matrices; gains, biases and the temperature have none.
    pub weight_decay: f64,
    /// AdamW's averaging of gradients and of their squares.
    pub betas: [f64; 2],
    /// AdamW's bound on small second moments.
    pub eps: f64,
    /// The greatest global norm of the gradient; null: no bound.
    pub clip: Option<f64>,
    /// Whether an update trains all objectives or a group of them.
    #[serde(skip_serializing_if = "Combine::is_sum")]
    pub combine: Combine,
    /// The slow copy of the model, where an objective needs one.
    pub teacher: Option<Teacher>,
    /// Parameters that keep their values, by name; `*` stands for any run of characters.
    pub freeze: Vec<String>,
    /// In which numbers an update multiplies and keeps what layers compute: f32, or bf16 on a GPU. Evaluations compute in
    /// f32.
    #[serde(skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Whether what a layer computes on the way is computed again in the backward pass instead of kept: less memory for
    /// about a third more time, and the same results.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gradient_checkpointing: bool,
    /// Updates whose metrics are averaged into one record.
    pub log: u64,
    /// Evaluates every so many updates; null: at the end alone.
    pub evaluate_every: Option<u64>,
    /// How often the state is saved.
    pub checkpoint: Checkpointing,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch: 64,
            rate: 5e-4,
            warmup: 0.1,
            schedule: Schedule::Cosine,
            final_rate: 0.0,
            weight_decay: 0.05,
            betas: [0.9, 0.98],
            eps: 1e-6,
            clip: Some(1.0),
            combine: Combine::Sum,
            teacher: None,
            freeze: Vec::new(),
            precision: Precision::F32,
            gradient_checkpointing: false,
            log: 20,
            evaluate_every: None,
            checkpoint: Checkpointing::default(),
        }
    }
}

/// What is not set leaves no trace in a run's identity, as before it could be set.
fn is_default(precision: &Precision) -> bool {
    *precision == Precision::default()
}

/// How the learning rate falls after its rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
    /// Not at all.
    Constant,
}

/// `teacher: {momentum: 0.995}`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// How much of itself the slow copy keeps at each update.
    pub momentum: f64,
}

/// `checkpoint: {steps: 200, seconds: 60}`: whichever comes first; null switches one off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpointing {
    /// Updates between two savings.
    pub steps: Option<u64>,
    /// Seconds between two savings.
    pub seconds: Option<f64>,
}

impl Default for Checkpointing {
    fn default() -> Self {
        Self { steps: None, seconds: Some(60.0) }
    }
}

/// `select: {step: last}`: which step of a run is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// The rule.
    pub step: Step,
}

impl Default for Select {
    fn default() -> Self {
        Self { step: Step::Last }
    }
}

/// `last`, or `{best_on: {split: val, metric: retrieval.mean_recall}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The last.
    Last,
    /// The one with the greatest metric on another split than the reported one.
    BestOn {
        /// Where the metric is measured; never `test`.
        split: data::Split,
        /// The metric that decides.
        metric: String,
    },
}

/// What the runs are expected to show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// A difference between two arms.
    pub effect: Effect,
    /// Its sign.
    pub expect: Expect,
    /// The entry of the published registry that states the effect, e.g. `albef/table-1/distillation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
}

/// `metric` of `arm` minus `metric` of `minus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// E.g. `retrieval.mean_recall`.
    pub metric: String,
    /// The arm that is expected to differ.
    pub arm: String,
    /// The arm it is compared with.
    pub minus: String,
}

/// The sign of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Above zero.
    Positive,
    /// Below zero.
    Negative,
    /// Nearer to zero than the runs can resolve.
    None,
}
