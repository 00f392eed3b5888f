//! What is measured on a trained model: one evaluation, one file, each with a version.

use std::collections::BTreeMap;

pub mod examples;
pub mod gallery;
pub mod matching;
pub mod ranking;
pub mod rerank;
pub mod retrieval;
pub mod zero_shot;

use super::failure::Result;
use super::feed::Pairs;
use super::record::Measured;
use super::{Evaluate, Run};
use crate::models::{Dims, Model, Store};
use crate::source;
use gallery::Gallery;

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
    pub fn show(&self) -> candle_core::Result<gallery::Shown> {
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

impl Evaluate {
    /// The word that names it in the file and in records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Retrieval(_) => "retrieval",
            Self::ZeroShot(_) => "zero_shot",
        }
    }

    /// Raised whenever equal weights would give other values.
    pub fn version(&self) -> u32 {
        match self {
            Self::Retrieval(_) => retrieval::VERSION,
            Self::ZeroShot(_) => zero_shot::VERSION,
        }
    }

    /// The full names of what it measures, e.g. `retrieval.mean_recall`.
    pub fn metrics(&self) -> Vec<String> {
        match self {
            Self::Retrieval(config) => retrieval::metrics(config.rerank.is_some()),
            Self::ZeroShot(_) => zero_shot::metrics(),
        }
    }

    /// What differs from the papers' protocols on purpose.
    pub fn deviations(&self) -> Vec<String> {
        let own = match self {
            Self::Retrieval(_) => include_str!("retrieval.rs"),
            Self::ZeroShot(_) => include_str!("zero_shot.rs"),
        };
        [own, include_str!("gallery.rs")].into_iter().flat_map(source::deviations).collect()
    }

    /// Measures a subject.
    ///
    /// # Errors
    /// When the model gives no finite numbers.
    pub fn measure(&self, subject: &Subject, shown: &gallery::Shown) -> Result<Measurement> {
        match self {
            Self::Retrieval(config) => Ok(retrieval::measure(subject, shown, config)?),
            Self::ZeroShot(config) => zero_shot::measure(subject, shown, &config.templates),
        }
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
