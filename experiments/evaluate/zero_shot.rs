//! Naming the class of an image from words alone.
//!
//! CLIP, Radford et al., arXiv:2103.00020, section 3.1.4: each class is the mean of the unit embeddings of its prompts,
//! scaled to length one again; an image belongs to the class it is most similar to. A wrong class that scores as much
//! as the right one ranks ahead of it.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Result as Computed, Tensor, bail};

use super::gallery::{BLOCK, Shown};
use super::ranking::{Places, place, sampling_error};
use super::{Measurement, Subject, share};
use crate::experiments::failure::Result;
use crate::experiments::feed;
use crate::kernels::l2_normalize;
use crate::models::View;

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

const AT: [usize; 2] = [1, 5];

/// The names of what is measured.
pub fn metrics() -> Vec<String> {
    AT.iter().map(|k| format!("zero_shot.top{k}")).collect()
}

/// Classifies every image that has a class.
///
/// # Errors
/// When the model does not embed or no image has a class.
pub fn measure(subject: &Subject, shown: &Shown, templates: &[String]) -> Result<Measurement> {
    let categories = &subject.gallery.categories;
    let classes: Vec<&str> =
        categories.iter().flatten().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
    let embeds = class_embeds(subject, &classes, templates)?;
    let scores = subject.model.similarity(&shown.embeds()?[0], &embeds)?.to_vec2::<f32>()?;
    let places = judged(&scores, categories, &classes)?;
    let images = categories.len();
    let mut values = BTreeMap::new();
    for (k, name) in AT.into_iter().zip(metrics()) {
        let error = sampling_error(&places.pulls(k, images));
        values.insert(name, share(places.recall(k), Some(places.chance(k)), Some(error)));
    }
    Ok(Measurement { items: places.places.len(), values })
}

/// One unit vector a class (C,E).
fn class_embeds(subject: &Subject, classes: &[&str], templates: &[String]) -> Result<Tensor> {
    let prompts: Vec<String> = classes
        .iter()
        .flat_map(|class| templates.iter().map(|template| template.replace("{}", class)))
        .collect();
    let mut embeds = Vec::new();
    for prompts in prompts.chunks(BLOCK) {
        let text = feed::text(prompts, subject.pairs, subject.store.device())?;
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
