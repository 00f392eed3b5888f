//! What is measured on a trained model. One evaluation, one file, each with a version; what they share has files of its
//! own.

use std::collections::BTreeMap;

pub mod asked;
pub mod caption;
pub mod captioning;
pub mod entailment;
pub mod examples;
pub mod gallery;
pub mod grounding;
pub mod lbfgs;
pub mod linear_probe;
pub mod logistic;
pub mod matching;
pub mod needs;
pub mod question_answering;
pub mod ranking;
pub mod rerank;
pub mod retrieval;
pub mod two_images;
pub mod zero_shot;

use super::Run;
use super::failure::Result;
use super::fault::Fault;
use super::feed::Pairs;
use super::record::Measured;
use crate::models::{Abilities, Ability, Dims, Model, Store};
use crate::registry::registry;
use crate::source;
use gallery::{Gallery, Shown};
pub use needs::{Need, Of};

/// What is evaluated: a model's present weights, on a gallery.
pub struct Subject<'a> {
    /// The run whose model it is.
    pub run: &'a Run,
    /// Its weights.
    pub store: &'a Store,
    /// The model, reading its weights without a gradient.
    pub model: Box<dyn Model>,
    /// Its widths.
    pub dims: Dims,
    /// How texts become tokens.
    pub pairs: &'a Pairs,
    /// The images and captions.
    pub gallery: &'a Gallery,
}

impl<'a> Subject<'a> {
    /// # Errors
    /// When the store holds another model.
    pub fn new(run: &'a Run, store: &'a Store, pairs: &'a Pairs, gallery: &'a Gallery) -> Result<Self> {
        let model = run.model.build(&store.detached(), &pairs.inputs)?;
        Ok(Self { run, store, model, dims: run.model.dims(&pairs.inputs), pairs, gallery })
    }
}

impl Subject<'_> {
    /// The gallery as the model sees it.
    ///
    /// # Errors
    /// When the device is full.
    pub fn show(&self) -> candle_core::Result<Shown> {
        self.gallery.show(self.model.as_ref(), &self.run.model.abilities())
    }
}

/// What an evaluation finds.
pub struct Measurement {
    /// How many images were judged.
    pub items: usize,
    /// By full name.
    pub values: BTreeMap<String, Measured>,
}

/// An evaluation as the experiment file describes it: known before a weight exists.
pub trait Evaluation {
    /// Raised whenever equal weights would give other values.
    fn version(&self) -> u32;
    /// The full names of what it measures, e.g. `retrieval.mean_recall`.
    fn metrics(&self) -> Vec<String>;
    /// What it cannot do without.
    fn needs(&self) -> Vec<Need>;
    /// What is wrong with the configuration in itself, each with the setting it lies in.
    fn faults(&self) -> Vec<(&'static str, Fault)> {
        Vec::new()
    }
    /// The setting with which it does without an ability that it needs as it stands, for a model that offers `offered`.
    fn without(&self, _lacking: Ability, _offered: &Abilities) -> Option<&'static str> {
        None
    }
    /// The texts of the files whose protocol it shares: their deviations are its own as well.
    fn shares(&self) -> &'static [&'static str] {
        &[]
    }
    /// Measures a subject; `shown` is its gallery as the model sees it.
    ///
    /// # Errors
    /// When the model gives no finite numbers.
    fn measure(&self, subject: &Subject, shown: &Shown) -> Result<Measurement>;
}

registry! {
    /// One entry of `evaluate:`, `<name>` or `<name>: {..}`.
    "evaluation" implements Evaluation:
    Entailment(entailment),
    Grounding(grounding),
    QuestionAnswering(question_answering),
    Retrieval(retrieval),
    TwoImages(two_images),
    ZeroShot(zero_shot),
    LinearProbe(linear_probe),
    Captioning(captioning),
}

impl Config {
    /// What differs from the papers' protocols on purpose, one sentence each.
    pub fn deviations(&self) -> Vec<String> {
        let own = std::iter::once(self.source());
        own.chain(self.shares().iter().copied()).flat_map(source::deviations).collect()
    }
}

/// A share as records hold it: in percent.
fn share(value: f64, chance: Option<f64>, sampling_error: Option<f64>) -> Measured {
    let percent = |share: f64| 100.0 * share;
    Measured {
        value: percent(value),
        percent: true,
        chance: chance.map(percent),
        sampling_error: sampling_error.map(percent),
    }
}
