//! Image-text contrast against a slow copy of the model and a queue of its earlier embeddings.
//!
//! ALBEF, Li et al., arXiv:2107.07651, sections 3.2 and 3.3. Queries are the student's embeddings; keys are the
//! teacher's of this batch, followed by the queue; s is the model's similarity, temperature included:
//! `(CE(s(image, text keys), i) + CE(s(text, image keys), i)) / 2`, a share alpha of each target taken from the softmax
//! of the teacher's own similarities with the same keys.
//!
//! `positives: image` takes every key of the same image for a match, as both papers do where they fine-tune retrieval: the
//! hard share of the target is spread evenly over them.
//!
//! All logits (B,B+K) are held: a model's similarity may be more than a product of its embeddings (the greatest over the
//! queries of an image), and at B = 32 and K = 4096 taking them in chunks saves no time.
//!
//! Deviation: the released code demands a queue that is a multiple of the batch; here the queue may have any size.

use candle_core::{DType, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::distillation::Target;
use super::queue::Queue;
use super::{Batch, Loss, Needs, Objective, ObjectiveConfig, Step, distillation};
use crate::models::{Ability, Dims, Vars};

/// Which keys match a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positives {
    /// That of the same pair.
    Pair,
    /// All of the same image, those of the queue included.
    Image,
}

/// `itc_momentum: {queue: 4096, distill: 0.4}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// K: earlier pairs whose embeddings serve as further negatives (65,536 in the paper); 0: none.
    pub queue: usize,
    /// alpha: the teacher's share of the target.
    pub distill: f64,
    /// Passes over the training pairs in which alpha rises from 0: 1 in ALBEF, 2 in BLIP (Li et al., arXiv:2201.12086).
    pub ramp: f64,
    /// Which keys match a query.
    pub positives: Positives,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { queue: 4096, distill: 0.4, ramp: 1.0, positives: Positives::Pair, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        Needs { abilities: [Ability::Embed].into(), teacher: true, batch: 2, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        distillation::faults(self.distill, self.ramp)
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let image: Vec<usize> = dims.queries.into_iter().chain([dims.embed]).collect();
        let open = |name, row: &[usize]| Queue::open(&vars.at(name), self.queue, row);
        let queues = match self.queue {
            0 => None,
            _ => Some([open("images", &image)?, open("texts", &[dims.embed])?]),
        };
        let of_image = self.positives == Positives::Image;
        let keys = (of_image && self.queue > 0).then(|| open("keys", &[PARTS])).transpose()?;
        Ok(Box::new(ItcMomentum { queues, keys, of_image, distill: self.distill, ramp: self.ramp }))
    }
}

struct ItcMomentum {
    /// Of images and of texts.
    queues: Option<[Queue; 2]>,
    /// Of what tells one image from another, where that decides what matches.
    keys: Option<Queue>,
    of_image: bool,
    distill: f64,
    ramp: f64,
}

/// Numbers that make up a key of an image in a queue.
const PARTS: usize = 4;

/// Keys of images as rows (B,4) of 16 bits each, which are whole numbers in f32. The first rows of a queue hold others.
fn parts(keys: &[u64], device: &Device) -> Result<Tensor> {
    let sixteen = |key: &u64| [48, 32, 16, 0].map(|shift| (key >> shift & 0xffff) as f32);
    Tensor::from_vec(keys.iter().flat_map(sixteen).collect::<Vec<f32>>(), (keys.len(), PARTS), device)
}

impl ItcMomentum {
    /// For each image of the batch the shares of the keys (B,B+K) that are of the same image.
    fn matches(&self, batch: &Batch, device: &Device) -> Result<Tensor> {
        let own = parts(&batch.image_keys, device)?;
        let all = match &self.keys {
            None => own.clone(),
            Some(queue) => queue.behind(&own)?,
        };
        let equal = own.unsqueeze(1)?.broadcast_eq(&all.unsqueeze(0)?)?.to_dtype(DType::F32)?;
        let same = equal.min(2)?;
        same.broadcast_div(&same.sum_keepdim(1)?)
    }
}

impl Objective for ItcMomentum {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let (student, teacher) = (&step.student, step.teacher()?);
        let (images, texts) = (student.image_embeds()?, student.text_embeds()?);
        let (slow_images, slow_texts) = (teacher.image_embeds()?.detach(), teacher.text_embeds()?.detach());
        let [image_keys, text_keys] = match &self.queues {
            None => [slow_images.clone(), slow_texts.clone()],
            Some([images, texts]) => [images.behind(&slow_images)?, texts.behind(&slow_texts)?],
        };

        // The student's temperature serves both: the teacher's targets are sharpened as the predictions are.
        let find_text = |images: &Tensor| student.model.similarity(images, &text_keys);
        let find_image = |texts: &Tensor| student.model.similarity(&image_keys, texts)?.t()?.contiguous();

        let alpha = distillation::alpha(self.distill, self.ramp, step.progress);
        let own = Tensor::arange(0, step.batch.size()? as u32, &Device::Cpu)?;
        let (to_text, to_image) = (find_text(&images)?, find_image(&texts)?);
        let matches = match self.of_image {
            false => Target::One(own.clone()),
            true => Target::Shares(self.matches(step.batch, images.device())?.to_dtype(to_text.dtype())?),
        };
        let of_images = distillation::cross_entropy(&to_text, &matches, alpha, || find_text(&slow_images))?;
        let of_texts = distillation::cross_entropy(&to_image, &matches, alpha, || find_image(&slow_texts))?;
        Loss::new(((of_images + of_texts)? * 0.5)?)
            .with("temperature", &student.temperature()?)?
            .with_accuracy("image_accuracy", &to_text, &own)?
            .with_accuracy("text_accuracy", &to_image, &own)?
            .with_number("alpha", alpha)
    }

    fn after(&mut self, step: &Step) -> Result<()> {
        // The reading remembers what the teacher made of the batch before it followed the student.
        let teacher = step.teacher()?;
        if let Some([images, texts]) = &self.queues {
            images.push(&teacher.image_embeds()?)?;
            texts.push(&teacher.text_embeds()?)?;
        }
        if let Some(keys) = &self.keys {
            keys.push(&parts(&step.batch.image_keys, keys.rows().device())?)?;
        }
        Ok(())
    }
}
