//! What is asked of a model, and what the error is. One objective, one file; shared mathematics has files of its own.

use std::collections::BTreeSet;

use candle_core::Result;
use serde::Serialize;

use crate::models::{Abilities, Dims, Field, Vars};
use crate::registry::registry;
use crate::source;

pub mod altered;
pub mod answer;
pub mod bow;
pub mod caption;
pub mod distillation;
pub mod dvae;
pub mod entail;
pub mod fits;
pub mod ground;
pub mod itc;
pub mod itc_momentum;
pub mod itc_sigmoid;
pub mod itm;
pub mod lm;
pub mod masking;
pub mod mim;
pub mod mlm;
pub mod mpp;
pub mod mrc;
pub mod mrc_kl;
pub mod mrfr;
pub mod negatives;
pub mod pair;
pub mod pairing;
pub mod patches;
pub mod perceptron;
pub mod pollution;
pub mod queue;
pub mod representation;
pub mod step;
pub mod tag_match;
pub mod tokenizer;
pub mod transport;
pub mod wpa;
pub mod wra;

pub use fits::{Offer, Otherwise, Reason, fits, otherwise, runs};
pub use step::{Agreed, Batch, Loss, Progress, Reading, Step};

/// What an objective cannot do without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// What the model must be able to do.
    pub abilities: Abilities,
    /// Those of them whose outcome is looked at without a gradient.
    pub observed: Abilities,
    /// Fields of a pair that the model must read.
    pub reads: BTreeSet<Field>,
    /// Fields of a pair that it reads beyond those the model reads.
    pub labels: BTreeSet<Field>,
    /// Whether a slow copy of the model is read.
    pub teacher: bool,
    /// Whether words are hidden behind the vocabulary's `[MASK]`.
    pub hides: bool,
    /// The smallest batch B that means anything: 2 for every contrast between pairs.
    pub batch: usize,
}

/// An error to be made small.
pub trait Objective {
    /// What it decides for every objective of the step, before any loss is computed: see [`Agreed`].
    fn before(&self, _step: &Step) {}

    /// The error over one batch.
    ///
    /// # Errors
    /// When a shape does not fit: legality was checked before, so this is a defect.
    fn loss(&self, step: &Step) -> Result<Loss>;

    /// What follows the update of the weights (filling a queue, for instance).
    ///
    /// # Errors
    /// When the device fails.
    fn after(&mut self, _step: &Step) -> Result<()> {
        Ok(())
    }
}

/// An objective as the experiment file describes it: known before a weight exists.
pub trait ObjectiveConfig {
    /// What it cannot do without.
    fn needs(&self) -> Needs;
    /// Its share in the sum of losses.
    fn weight(&self) -> f64;
    /// What is wrong with the configuration in itself, one sentence a fault.
    fn faults(&self) -> Vec<String> {
        Vec::new()
    }
    /// Itself with other settings, for models that cannot do what it needs as it stands; the most telling one first.
    fn otherwise(&self) -> Vec<Otherwise> {
        Vec::new()
    }
    /// The objective below whose word its parameters lie, where that is another one, which has the same.
    fn shares(&self) -> Option<&'static str> {
        None
    }
    /// Opens its own parameters and buffers below `vars`, its own place in the store.
    ///
    /// # Errors
    /// When a parameter of the same name exists with another shape.
    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>>;
}

registry! {
    /// One entry of `objectives:`, `<name>: {..}`.
    "objective" implements ObjectiveConfig:
    Answer(answer),
    Entail(entail),
    Ground(ground),
    Bow(bow),
    Caption(caption),
    Dvae(dvae),
    Itc(itc),
    ItcMomentum(itc_momentum),
    ItcSigmoid(itc_sigmoid),
    Itm(itm),
    Lm(lm),
    Mim(mim),
    Mlm(mlm),
    Mrc(mrc),
    MrcKl(mrc_kl),
    Mrfr(mrfr),
    TagMatch(tag_match),
    Wpa(wpa),
    Wra(wra),
    Pair(pair),
    Mpp(mpp),
}

impl Config {
    /// The objective, with its parameters and buffers below its own word in `vars`.
    ///
    /// # Errors
    /// As [`ObjectiveConfig::build`].
    pub fn open(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        self.build(&vars.at(self.place()), dims)
    }

    /// The word below which its parameters lie.
    pub fn place(&self) -> &'static str {
        self.shares().unwrap_or_else(|| self.name())
    }

    /// What differs from its paper on purpose, one sentence each.
    pub fn deviations(&self) -> Vec<String> {
        source::deviations(self.source())
    }
}
