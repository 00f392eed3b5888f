//! Naming the class of an image from words alone.
//!
//! CLIP, Radford et al., arXiv:2103.00020, section 3.1.4: each class is the mean of the unit embeddings of its prompts,
//! scaled to length one again; an image belongs to the class it is most similar to. A wrong class that scores as much
//! as the right one ranks ahead of it.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Result as Computed, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::gallery::{BLOCK, Shown};
use super::ranking::{Places, place, sampling_error};
use super::{Evaluation, Measurement, Need, Of, Subject, share};
use crate::data::{Field, Split};
use crate::experiments::failure::Result;
use crate::experiments::fault::Fault;
use crate::experiments::feed;
use crate::kernels::l2_normalize;
use crate::models::{Ability, View};

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

const AT: [usize; 2] = [1, 5];

/// `zero_shot: {templates: ["a picture of a {}"]}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Prompts in which `{}` stands for the class; their embeddings are averaged.
    pub templates: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { templates: vec!["{}".to_owned(), "a picture of {}".to_owned()] }
    }
}

impl Evaluation for Config {
    fn version(&self) -> u32 {
        VERSION
    }

    fn metrics(&self) -> Vec<String> {
        AT.iter().map(|k| format!("zero_shot.top{k}")).collect()
    }

    fn needs(&self) -> Vec<Need> {
        [Of::Model(Ability::Embed), Of::Data(Split::Test, Field::Category)].map(Need::always).into()
    }

    fn faults(&self) -> Vec<(&'static str, Fault)> {
        if !self.templates.is_empty() && self.templates.iter().all(|template| template.contains("{}")) {
            return Vec::new();
        }
        let fault = Fault::new("a template needs `{}` where the class stands");
        vec![("templates", fault.help("e.g. `templates: [\"a picture of {}\"]`"))]
    }

    /// Classifies every image that has a class.
    fn measure(&self, subject: &Subject, shown: &Shown) -> Result<Measurement> {
        let categories = &subject.gallery.categories;
        let classes: Vec<&str> =
            categories.iter().flatten().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
        let embeds = class_embeds(subject, &classes, &self.templates)?;
        let scores = subject.model.similarity(&shown.embeds()?[0], &embeds)?.to_vec2::<f32>()?;
        let places = judged(&scores, categories, &classes)?;
        let images = categories.len();
        let mut values = BTreeMap::new();
        for (k, name) in AT.into_iter().zip(self.metrics()) {
            let error = sampling_error(&places.pulls(k, images));
            values.insert(name, share(places.recall(k), Some(places.chance(k)), Some(error)));
        }
        Ok(Measurement { items: places.places.len(), values })
    }
}

/// One unit vector a class (C,E).
///
/// # Errors
/// When a prompt cannot be tokenised or the model does not embed.
pub fn class_embeds(subject: &Subject, classes: &[&str], templates: &[String]) -> Result<Tensor> {
    let prompts: Vec<String> = classes
        .iter()
        .flat_map(|class| templates.iter().map(|template| template.replace("{}", class)))
        .collect();
    let mut embeds = Vec::new();
    for prompts in prompts.chunks(BLOCK) {
        let text = feed::text(prompts, subject.pairs)?;
        embeds.push(subject.model.embed_text(&View::new(text, None))?);
    }
    let embeds = Tensor::cat(&embeds, 0)?;
    let width = embeds.dim(1)?;
    Ok(l2_normalize(&embeds.reshape((classes.len(), templates.len(), width))?.mean(1)?, 1e-12)?)
}

fn judged(scores: &[Vec<f32>], categories: &[Option<String>], classes: &[&str]) -> Computed<Places> {
    let (mut places, mut owners) = (Vec::new(), Vec::new());
    for ((row, category), image) in scores.iter().zip(categories).zip(0..) {
        let Some(class) =
            category.as_ref().and_then(|category| classes.binary_search(&category.as_str()).ok())
        else {
            continue;
        };
        if row.iter().any(|score| !score.is_finite()) {
            bail!("a similarity is not finite");
        }
        places.push(place((0..).zip(row.iter().copied()), &[class as u32]));
        owners.push(image);
    }
    if places.is_empty() {
        bail!("no image of the split has a class, which `zero_shot` needs");
    }
    let right = vec![1; places.len()];
    Ok(Places { places, right, owners, candidates: classes.len() })
}
