//! Pairs as a joint pass of a step is shown them when not as they are: words or regions hidden, tags of other images.
//!
//! Objectives of one step that ask for the same alteration read the same draw and the same pass, so that the masked-token
//! loss and the tag contrast of Oscar (Li et al., arXiv:2004.06165, section 4) cost one pass, as do two objectives on
//! masked regions.

use std::cell::OnceCell;
use std::rc::Rc;

use candle_core::{Device, Result, Tensor, bail};

use super::masking::{self, Masked, Rule};
use super::pollution::{Polluted, Pollution, Written, pollute};
use super::step::once;
use super::{Reading, Step};
use crate::kernels::{self, random::Key};
use crate::models::{Attend, Fused, Image, Text, View};

/// Where the passes of student and teacher draw their dropout from.
pub const DROPOUT: [&str; 2] = ["mlm.dropout", "mlm.teacher.dropout"];

/// What is altered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alteration {
    /// Tags and captions of other pairs.
    pub pollution: Option<Pollution>,
    /// How words are hidden.
    pub words: Option<Rule>,
    /// Whether the tags of another image are never hidden.
    pub spares_others_tags: bool,
    /// The probability that a region is hidden; at least one of each image is.
    pub regions: Option<f64>,
}

/// The pairs of a step under one alteration, and the passes over them.
pub struct Altered {
    /// What was altered.
    pub alteration: Alteration,
    /// (B): what each pair has of another.
    pub polluted: Vec<Polluted>,
    /// The hidden words, where words are hidden.
    pub words: Option<Masked>,
    /// The tokens that could have been hidden.
    pub maskable: usize,
    /// The places of hidden regions among (B,N), u32, rising.
    pub regions: Vec<u32>,
    text: Option<Text>,
    image: Option<Image>,
    passes: [OnceCell<Rc<Fused>>; 2],
    pooled: OnceCell<Tensor>,
}

impl Altered {
    pub(super) fn new(step: &Step, alteration: Alteration) -> Result<Self> {
        let batch = step.batch;
        let (mut text, mut polluted) = (written(step)?, Vec::new());
        if let Some(pollution) = alteration.pollution {
            (text, polluted) = pollute(&text, &batch.pairs(), pollution, step.rng("tag_match.pollution"));
        }
        let special = batch.specials.all();
        let maskable = text.ids.iter().filter(|id| special.binary_search(id).is_err()).count();
        let hide = |rule| {
            let (places, specials, key) = (text.places, &batch.specials, step.rng("mlm.mask"));
            let masked = masking::mask(&text.ids, &text.word_starts, places, rule, specials, key);
            let Some(masked) = masked else { bail!("the vocabulary has no token to hide words behind") };
            let spared =
                |at: usize| text.segments[at] == 1 && polluted.get(at / text.places) == Some(&Polluted::Tags);
            Ok(if alteration.spares_others_tags { masked.without(spared) } else { masked })
        };
        let words = alteration.words.map(hide).transpose()?;
        let shown = words.as_ref().map_or(&text.ids, |masked| &masked.ids);
        let pollutes = alteration.pollution.is_some();
        let shown = match pollutes || words.is_some() {
            true => Some(tensors(&text, shown, pollutes, &batch.text)?),
            false => None,
        };
        let (image, regions) = match alteration.regions {
            None => (None, Vec::new()),
            Some(probability) => {
                let (image, hidden) = hide_regions(&batch.image, probability, step.rng("regions.mask"))?;
                (Some(image), hidden)
            }
        };
        let (passes, pooled) = (Default::default(), OnceCell::new());
        Ok(Self { alteration, polluted, words, maskable, regions, text: shown, image, passes, pooled })
    }

    /// The student's joint pass.
    ///
    /// # Errors
    /// When the model does not fuse.
    pub fn student(&self, step: &Step) -> Result<Rc<Fused>> {
        once(&self.passes[0], || self.fuse(&step.student, step.rng(DROPOUT[0])).map(Rc::new))
    }

    /// The teacher's joint pass over the same.
    ///
    /// # Errors
    /// When the step has no teacher or its model does not fuse.
    pub fn teacher(&self, step: &Step) -> Result<Rc<Fused>> {
        once(&self.passes[1], || self.fuse(step.teacher()?, step.rng(DROPOUT[1])).map(Rc::new))
    }

    /// One vector (B,D) a pair, of the student. Where words or regions are hidden somebody reads the whole pass.
    ///
    /// # Errors
    /// When the model does not fuse.
    pub fn pooled(&self, step: &Step) -> Result<Tensor> {
        if self.words.is_some() || self.alteration.regions.is_some() {
            return Ok(self.student(step)?.pooled.clone());
        }
        let (image, text) = self.views(&step.student, step.rng(DROPOUT[0]));
        once(&self.pooled, || step.student.model.pool(&image, &text))
    }

    /// Hidden states (B,T,D) of the texts by themselves, as `reading`'s model sees them without the images.
    ///
    /// # Errors
    /// When the model does not encode texts alone.
    pub fn alone(&self, reading: &Reading, noise: Key) -> Result<Tensor> {
        Ok(reading.model.text_tokens(&self.views(reading, noise).1)?.hidden)
    }

    /// States (M,D) of the hidden regions after the student's joint pass; none where no image has a region.
    ///
    /// # Errors
    /// When the model does not return them.
    pub fn hidden_regions(&self, step: &Step) -> Result<Option<Tensor>> {
        if self.regions.is_empty() {
            return Ok(None);
        }
        match &self.student(step)?.image {
            Some(image) => self.of_hidden_regions(&image.hidden).map(Some),
            None => bail!("the joint pass returns no regions"),
        }
    }

    /// The rows (M,X) of `all` (B,N,X) that belong to hidden regions.
    ///
    /// # Errors
    /// When `all` is of other regions.
    pub fn of_hidden_regions(&self, all: &Tensor) -> Result<Tensor> {
        kernels::gather_vectors(all, &Tensor::new(self.regions.as_slice(), &Device::Cpu)?)
    }

    /// The share of regions that are hidden.
    ///
    /// # Errors
    /// When the batch has no regions.
    pub fn share_of_regions(&self, step: &Step) -> Result<f64> {
        let there = f64::from(step.batch.image.regions()?.mask.sum_all()?.to_scalar::<f32>()?);
        Ok(self.regions.len() as f64 / there.max(1.0))
    }

    fn fuse(&self, reading: &Reading, noise: Key) -> Result<Fused> {
        let (image, text) = self.views(reading, noise);
        reading.model.fuse(&image, &text, Attend::Both)
    }

    /// What is not altered is what the reading has already seen.
    fn views(&self, reading: &Reading, noise: Key) -> (View<Image>, View<Text>) {
        let text = self.text.as_ref().map(|text| View::new(text.clone(), Some(noise)));
        let image = self.image.as_ref().map(|image| View::new(image.clone(), Some(noise.fold(1))));
        (image.unwrap_or_else(|| reading.image.clone()), text.unwrap_or_else(|| reading.text.clone()))
    }
}

/// The texts of a step in host memory.
pub(super) fn written(step: &Step) -> Result<Written> {
    let Text { ids, mask, segments } = &step.batch.text;
    Ok(Written {
        places: ids.dim(1)?,
        ids: ids.flatten_all()?.to_vec1()?,
        mask: mask.flatten_all()?.to_vec1()?,
        segments: segments.flatten_all()?.to_vec1()?,
        word_starts: step.batch.word_starts.clone(),
        pad: step.batch.specials.pad,
    })
}

/// The text with the entries `ids`; the rest of an unpolluted text is that of `like`.
pub(super) fn tensors(text: &Written, ids: &[u32], polluted: bool, like: &Text) -> Result<Text> {
    let (device, shape) = (&Device::Cpu, (ids.len() / text.places, text.places));
    let ids = Tensor::from_slice(ids, shape, device)?;
    Ok(match polluted {
        false => Text { ids, ..like.clone() },
        true => Text {
            ids,
            mask: Tensor::from_slice(&text.mask, shape, device)?,
            segments: Tensor::from_slice(&text.segments, shape, device)?,
        },
    })
}

/// The images with hidden regions, and the places of these among (B,N).
fn hide_regions(image: &Image, probability: f64, key: Key) -> Result<(Image, Vec<u32>)> {
    let mask = &image.regions()?.mask;
    let (_, count) = mask.dims2()?;
    let hidden = masking::mask_regions(&mask.flatten_all()?.to_vec1()?, count, probability, key);
    let mut marks = vec![0f32; mask.elem_count()];
    for &place in &hidden {
        marks[place as usize] = 1.0;
    }
    let masked = Tensor::from_vec(marks, mask.shape(), image.regions()?.features.device())?;
    Ok((Image { masked: Some(masked), ..image.clone() }, hidden))
}
