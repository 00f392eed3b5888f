//! Naming the class of an image by a linear layer that is fitted to the frozen features of training images.
//!
//! CLIP, Radford et al., arXiv:2103.00020, sections 3.2 and A.3: logistic regression by L-BFGS, at most 1000 steps; the
//! strength of its L2 penalty is searched for between 10^-6 and 10^6 on a part of the training images, first at seven
//! strengths, then around the best in steps that are halved down to 8 a decade; the layer that is judged is fitted to all
//! training images. Of equally good strengths the greater counts, and a wrong class that scores as much as the right one
//! ranks ahead of it.
//!
//! Deviation: every fifth training image with a class chooses the strength; the paper takes the validation split where a
//! dataset has one, which here may choose the reported step.
//! Deviation: the embedding is probed by default, as every contrastive model has one; `features: first` probes what the
//! paper does, the class token before the projection.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Result as Computed, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::gallery::{BLOCK, Shown};
use super::lbfgs::Until;
use super::logistic::{Labelled, Layer};
use super::ranking::{Places, place, sampling_error};
use super::{Evaluation, Measurement, Need, Of, Subject, share};
use crate::data::{Field, Split, loader};
use crate::experiments::failure::Result;
use crate::experiments::fault::Fault;
use crate::experiments::feed;
use crate::models::{Abilities, Ability, Image, Model, Tokens, View};

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

/// Of so many training images one chooses the strength.
const CHOOSING: usize = 5;
/// When a fit ends, on the mean error: scikit-learn's default, with the paper's bound on steps.
const UNTIL: Until = Until { gradient: 1e-4, steps: 1000 };
/// The least and the greatest strength as powers of ten, and the first distance of two.
const STRENGTHS: [f64; 2] = [-6.0, 6.0];
const APART: f64 = 2.0;
/// How often the distance is halved: 2 decades to an eighth of one.
const HALVINGS: u32 = 4;

/// `linear_probe: {features: first}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is told of an image.
    pub features: Features,
    /// Training images that are read, the first of the split; null: all.
    pub images: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self { features: Features::Embedding, images: Some(5000) }
    }
}

/// What a model tells of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Features {
    /// The embedding; of several, their mean.
    Embedding,
    /// The mean of the image tokens.
    Mean,
    /// The first image token: the class token, where the model has one.
    First,
}

impl Evaluation for Config {
    fn version(&self) -> u32 {
        VERSION
    }

    fn metrics(&self) -> Vec<String> {
        vec!["linear_probe.accuracy".to_owned()]
    }

    fn needs(&self) -> Vec<Need> {
        let model = match self.features {
            Features::Embedding => Need::always(Of::Model(Ability::Embed)),
            Features::Mean | Features::First => Need::by("features", Of::Model(Ability::ImageTokens)),
        };
        let categories = [Split::Train, Split::Test].map(|split| Of::Data(split, Field::Category));
        [model].into_iter().chain(categories.map(Need::always)).collect()
    }

    fn faults(&self) -> Vec<(&'static str, Fault)> {
        match self.images {
            Some(images) if images < 2 * CHOOSING => {
                let fault = Fault::new(format!("`evaluate.linear_probe.images` is {images}"));
                vec![("images", fault.help("read at least 10 images, or null for all"))]
            }
            _ => Vec::new(),
        }
    }

    fn without(&self, lacking: Ability, offered: &Abilities) -> Option<&'static str> {
        match lacking {
            Ability::Embed if offered.contains(&Ability::ImageTokens) => {
                Some("`linear_probe: {features: mean}` probes the image tokens")
            }
            _ => None,
        }
    }

    /// Fits the layer to the training images and judges it on those of the gallery.
    fn measure(&self, subject: &Subject, shown: &Shown) -> Result<Measurement> {
        let (features, categories) = self.training(subject)?;
        let classes: Vec<&str> =
            categories.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
        let number = |category: &str| classes.binary_search(&category).ok().map(|class| class as u32);
        let training =
            Labelled { features, classes: categories.iter().filter_map(|one| number(one)).collect() };
        let layer = chosen(&training, classes.len())?;

        let tested = self.features.of_gallery(subject, shown)?;
        let logits = layer.logits(&tested)?;
        let rights = subject.gallery.categories.iter().map(|category| category.as_deref().map(number));
        let places = judged(logits.chunks(classes.len()), rights)?;
        let error = sampling_error(&places.pulls(1, subject.gallery.categories.len()));
        let accuracy = share(places.recall(1), Some(places.chance(1)), Some(error));
        let values = self.metrics().into_iter().map(|name| (name, accuracy)).collect();
        Ok(Measurement { items: places.places.len(), values })
    }
}

impl Config {
    /// Features (N,D), f64, and classes of the training images that have one.
    fn training(&self, subject: &Subject) -> Result<(Tensor, Vec<String>)> {
        let (pairs, device) = (subject.pairs, subject.store.device());
        let blocks = loader::Evaluation::new(pairs.train.as_ref(), pairs.encoder(), pairs.layout(), BLOCK);
        let (mut features, mut categories) = (Vec::new(), Vec::new());
        let mut left = self.images.unwrap_or(usize::MAX);
        for host in blocks {
            let host = host?;
            let labelled = (0u32..).zip(&host.categories).filter_map(|(row, one)| Some((row, one.clone()?)));
            let (rows, names): (Vec<u32>, Vec<String>) = labelled.take(left).unzip();
            if !rows.is_empty() {
                let image = View::new(feed::image(&host, pairs.inputs.size, device)?, None);
                let block = self.features.of(subject.model.as_ref(), &image)?;
                features.push(block.index_select(&Tensor::new(rows.as_slice(), &Device::Cpu)?, 0)?);
            }
            left -= names.len();
            categories.extend(names);
            if left == 0 {
                break;
            }
        }
        if categories.len() < 2 * CHOOSING {
            return Err(candle_core::Error::Msg(format!(
                "`linear_probe` needs at least {} training images with a class, there are {}",
                2 * CHOOSING,
                categories.len()
            ))
            .into());
        }
        Ok((Tensor::cat(&features, 0)?, categories))
    }
}

impl Features {
    /// Features (B,D) of one block of images, as f64 beside the processor.
    fn of(self, model: &dyn Model, image: &View<Image>) -> Computed<Tensor> {
        let features = match self {
            Self::Embedding => apart(&model.embed_image(image)?)?,
            Self::First => model.image_tokens(image)?.hidden.narrow(1, 0, 1)?.squeeze(1)?,
            Self::Mean => {
                let Tokens { hidden, mask } = model.image_tokens(image)?;
                match mask {
                    None => hidden.mean(1)?,
                    Some(mask) => {
                        let mask = mask.unsqueeze(2)?;
                        hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?
                    }
                }
            }
        };
        features.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()
    }

    fn of_gallery(self, subject: &Subject, shown: &Shown) -> Computed<Tensor> {
        let blocks = shown.images.iter().map(|block| self.of(subject.model.as_ref(), block));
        Tensor::cat(&blocks.collect::<Computed<Vec<_>>>()?, 0)
    }
}

/// One vector an image (B,E) of embeddings (B,E) or (B,Q,E).
fn apart(embeds: &Tensor) -> Computed<Tensor> {
    if embeds.rank() == 3 { embeds.mean(1) } else { Ok(embeds.clone()) }
}

/// The layer of the strength that a part of the images prefers, fitted to all of them.
fn chosen(training: &Labelled, classes: usize) -> Computed<Layer> {
    let [choosing, fitting] = [true, false].map(|choosing| {
        let rows = 0..training.classes.len() as u32;
        let rows: Vec<u32> =
            rows.filter(|row| (*row as usize).is_multiple_of(CHOOSING) == choosing).collect();
        let features = training.features.index_select(&Tensor::new(rows.as_slice(), &Device::Cpu)?, 0)?;
        let classes = rows.iter().map(|row| training.classes[*row as usize]).collect();
        Computed::Ok(Labelled { features, classes })
    });
    let (choosing, fitting) = (choosing?, fitting?);
    let mut layer = Layer::zero(training.features.dim(1)?, classes);
    // From the greatest strength down, each fit begins where the last one ended.
    let power = strongest(|power| {
        layer = layer.fitted(&fitting, 10f64.powf(power), UNTIL)?;
        let logits = layer.logits(&choosing.features)?;
        let rights = choosing.classes.iter().map(|class| Some(Some(*class)));
        Ok(judged(logits.chunks(classes), rights)?.recall(1))
    })?;
    layer.fitted(training, 10f64.powf(power), UNTIL)
}

/// The power of ten with the greatest value, of equals the greatest.
fn strongest(mut value: impl FnMut(f64) -> Computed<f64>) -> Computed<f64> {
    let mut best = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    let mut offer = |power: f64, best: &mut (f64, f64)| -> Computed<()> {
        let found = value(power)?;
        if found > best.0 || found == best.0 && power > best.1 {
            *best = (found, power);
        }
        Ok(())
    };
    let [least, greatest] = STRENGTHS;
    let coarse = ((greatest - least) / APART) as u32;
    for step in 0..=coarse {
        offer(greatest - f64::from(step) * APART, &mut best)?;
    }
    for halving in 1..=HALVINGS {
        let (centre, apart) = (best.1, APART / f64::from(1 << halving));
        for power in [centre + apart, centre - apart] {
            if (least..=greatest).contains(&power) {
                offer(power, &mut best)?;
            }
        }
    }
    Ok(best.1)
}

/// The place of the right class in each row of logits; `None` for an image without a class, and for the class of one
/// that no training image has: it counts, and is never right.
fn judged<'a>(
    rows: impl Iterator<Item = &'a [f64]>,
    rights: impl Iterator<Item = Option<Option<u32>>>,
) -> Computed<Places> {
    let mut places = Places { places: Vec::new(), right: Vec::new(), owners: Vec::new(), candidates: 0 };
    for ((row, right), image) in rows.zip(rights).zip(0..) {
        let Some(right) = right else { continue };
        if row.iter().any(|logit| !logit.is_finite()) {
            bail!("a feature of an image is not finite");
        }
        places.places.push(place((0..).zip(row.iter().map(|logit| *logit as f32)), right.as_slice()));
        places.right.push(right.iter().len());
        places.owners.push(image);
        places.candidates = row.len();
    }
    if places.places.is_empty() {
        bail!("no image of the split has a class, which `linear_probe` needs");
    }
    Ok(places)
}
