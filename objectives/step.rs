//! One training step as an objective sees it: the batch, the student that learns, the teacher that follows it.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use candle_core::{D, DType, Device, Result, Tensor, bail};

use super::altered::{Alteration, Altered};
use super::negatives::Pair;
use super::pairing::{self, Group, Pairing};
use super::pollution::Pollution;
use crate::kernels::random::Key;
use crate::models::{Attend, Fused, Image, Model, Rows, Text, View};
use crate::token::Specials;

/// B image-text pairs on the device, with what tells equal ones apart.
#[derive(Clone)]
pub struct Batch {
    /// B images.
    pub image: Image,
    /// Their B captions, and object tags where there are any.
    pub text: Text,
    /// (B, T) row by row: 1 where a word begins; 0 on later pieces, `[CLS]`, `[SEP]` and padding.
    pub word_starts: Vec<u8>,
    /// The tokens that spell no words.
    pub specials: Specials,
    /// (B): equal for views of the same image.
    pub image_keys: Vec<u64>,
    /// (B): equal for equal captions.
    pub caption_keys: Vec<u64>,
    /// The detector's class probabilities of each region (B,N,C), where the data has regions.
    pub region_classes: Option<Tensor>,
    /// (B): the right answer of each pair, by its number in the data's list of answers; [`IGNORE`] where the list lacks
    /// it; empty where nothing is asked.
    ///
    /// [`IGNORE`]: crate::kernels::IGNORE
    pub answers: Vec<u32>,
    /// (B): the region that each text means; empty where none is meant.
    pub targets: Vec<u32>,
    /// The same texts with the second images, where they speak of two.
    pub second: Option<Box<Batch>>,
}

impl Batch {
    /// B.
    ///
    /// # Errors
    /// When the batch holds no text.
    pub fn size(&self) -> Result<usize> {
        self.text.rows()
    }

    /// What tells each pair from the others.
    pub fn pairs(&self) -> Vec<Pair> {
        let keys = self.image_keys.iter().zip(&self.caption_keys);
        keys.map(|(&image, &caption)| Pair { image, caption }).collect()
    }
}

/// One model's look at the batch. What several objectives ask for is computed once a step.
pub struct Reading<'a> {
    /// The model that looks.
    pub model: &'a dyn Model,
    /// The images, with what the model has computed from them.
    pub image: View<Image>,
    /// The texts, likewise.
    pub text: View<Text>,
    embeds: [OnceCell<Tensor>; 2],
    similarity: OnceCell<Tensor>,
    fused: OnceCell<Rc<Fused>>,
    pooled: OnceCell<Tensor>,
}

impl<'a> Reading<'a> {
    /// `noise` is where dropout draws from; without it nothing is dropped.
    pub fn new(model: &'a dyn Model, batch: &Batch, noise: Option<Key>) -> Self {
        let view = |index| noise.map(|key: Key| key.fold(index));
        Self {
            model,
            image: View::new(batch.image.clone(), view(0)),
            text: View::new(batch.text.clone(), view(1)),
            embeds: Default::default(),
            similarity: OnceCell::new(),
            fused: OnceCell::new(),
            pooled: OnceCell::new(),
        }
    }

    /// Promises that it will be asked for embeddings and similarities alone: see [`View::embed_alone`].
    pub fn embed_alone(&self) {
        self.image.embed_alone();
        self.text.embed_alone();
    }

    /// Unit vectors of the images (B,E) or (B,Q,E).
    ///
    /// # Errors
    /// When the model does not embed.
    pub fn image_embeds(&self) -> Result<Tensor> {
        once(&self.embeds[0], || self.model.embed_image(&self.image))
    }

    /// Unit vectors of the texts (B,E).
    ///
    /// # Errors
    /// When the model does not embed.
    pub fn text_embeds(&self) -> Result<Tensor> {
        once(&self.embeds[1], || self.model.embed_text(&self.text))
    }

    /// Logits (B images, B texts), temperature included.
    ///
    /// # Errors
    /// When the model does not embed.
    pub fn similarity(&self) -> Result<Tensor> {
        once(&self.similarity, || self.model.similarity(&self.image_embeds()?, &self.text_embeds()?))
    }

    /// The temperature, a scalar without a gradient: the inverse of the logit that a unit vector has with itself.
    ///
    /// # Errors
    /// When the model does not embed.
    pub fn temperature(&self) -> Result<Tensor> {
        let vector = self.text_embeds()?.narrow(0, 0, 1)?.detach();
        let mut image = self.image_embeds()?.dims().to_vec();
        image[0] = 1;
        self.model.similarity(&vector.broadcast_as(image)?, &vector)?.detach().recip()?.squeeze(1)?.squeeze(0)
    }

    /// The joint pass over the B matching pairs, words seeing each other both ways.
    ///
    /// # Errors
    /// When the model does not fuse.
    pub fn fused(&self) -> Result<Rc<Fused>> {
        once(&self.fused, || self.model.fuse(&self.image, &self.text, Attend::Both).map(Rc::new))
    }

    /// One vector (B,D) for each of the B matching pairs, as [`Reading::fused`] pools them.
    ///
    /// # Errors
    /// When the model does not fuse.
    pub fn pooled(&self) -> Result<Tensor> {
        once(&self.pooled, || match self.fused.get() {
            Some(fused) => Ok(fused.pooled.clone()),
            None => self.model.pool(&self.image, &self.text),
        })
    }
}

/// The value in `cell`, computed where it is empty.
pub(super) fn once<T: Clone>(cell: &OnceCell<T>, compute: impl FnOnce() -> Result<T>) -> Result<T> {
    if let Some(known) = cell.get() {
        return Ok(known.clone());
    }
    let value = compute()?;
    Ok(cell.get_or_init(|| value).clone())
}

/// Where a step lies in its run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Updates made before this one.
    pub step: u64,
    /// Updates of the whole run.
    pub steps: u64,
    /// Updates of one pass over the training pairs.
    pub steps_per_epoch: u64,
}

impl Progress {
    /// Passes over the training pairs made before this step.
    pub fn epochs(&self) -> f64 {
        self.step as f64 / self.steps_per_epoch.max(1) as f64
    }
}

/// What objectives of a step decide for one another, each in [`super::Objective::before`].
#[derive(Default)]
pub struct Agreed {
    /// What the masked pass hides, for who reads the same pass: set by `mlm`.
    pub hidden: OnceCell<Alteration>,
    /// Which tags and captions come from other pairs, for who reads them: set by `tag_match`.
    pub pollution: OnceCell<Pollution>,
    /// Which pairs match and which do not: set by `itm`.
    pub pairing: OnceCell<Pairing>,
    /// Set where somebody reads the tokens of those pairs, not only what is pooled of them.
    pub tokens: OnceCell<()>,
}

/// Everything an objective may look at in one training step.
pub struct Step<'a> {
    /// The pairs.
    pub batch: &'a Batch,
    /// The model that learns.
    pub student: Reading<'a>,
    second: Option<Reading<'a>>,
    teacher: Option<Reading<'a>>,
    /// Where this step lies in the run.
    pub progress: Progress,
    /// What its objectives have decided for one another.
    pub agreed: Agreed,
    altered: RefCell<Vec<Rc<Altered>>>,
    groups: OnceCell<Rc<[Group]>>,
    seed: u64,
}

impl<'a> Step<'a> {
    /// A step of a run seeded with `seed`; `teacher` is the slow copy of the model, where an objective needs one.
    pub fn new(
        batch: &'a Batch,
        student: &'a dyn Model,
        teacher: Option<&'a dyn Model>,
        progress: Progress,
        seed: u64,
    ) -> Self {
        let noise = |purpose| Some(Key::new(seed, progress.step, purpose));
        Self {
            batch,
            student: Reading::new(student, batch, noise("dropout")),
            second: batch
                .second
                .as_ref()
                .map(|second| Reading::new(student, second, noise("dropout.second"))),
            // The released code of ALBEF leaves its momentum encoder in training mode, so it drops out too.
            teacher: teacher.map(|model| Reading::new(model, batch, noise("teacher.dropout"))),
            progress,
            agreed: Agreed::default(),
            altered: RefCell::default(),
            groups: OnceCell::new(),
            seed,
        }
    }

    /// The same step of objectives that ask every reading for embeddings and similarities alone.
    #[must_use]
    pub fn embedding_alone(self) -> Self {
        for reading in
            [Some(&self.student), self.second.as_ref(), self.teacher.as_ref()].into_iter().flatten()
        {
            reading.embed_alone();
        }
        self
    }

    /// The pairs under `alteration`, the same to all who ask for the same.
    ///
    /// # Errors
    /// When the batch lacks what is to be altered.
    pub fn altered(&self, alteration: Alteration) -> Result<Rc<Altered>> {
        let known = self.altered.borrow().iter().find(|known| known.alteration == alteration).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let altered = Rc::new(Altered::new(self, alteration)?);
        self.altered.borrow_mut().push(Rc::clone(&altered));
        Ok(altered)
    }

    /// Pairs that match and pairs that do not, the same to all who ask: as `itm` has them where it is part of the step,
    /// else by `own`.
    ///
    /// # Errors
    /// When similarities are asked for and the model does not embed.
    pub fn groups(&self, own: &Pairing) -> Result<Rc<[Group]>> {
        let pairing = self.agreed.pairing.get().unwrap_or(own);
        once(&self.groups, || pairing::groups(self, pairing).map(Into::into))
    }

    /// The student's look at the same texts with the second images.
    ///
    /// # Errors
    /// When the texts speak of one image.
    pub fn second(&self) -> Result<&Reading<'a>> {
        match &self.second {
            Some(second) => Ok(second),
            None => {
                bail!("this batch has no second images; an objective that wants them says so in its needs")
            }
        }
    }

    /// The slow copy of the model; its values carry no gradient.
    ///
    /// # Errors
    /// When no objective's needs asked for one.
    pub fn teacher(&self) -> Result<&Reading<'a>> {
        match &self.teacher {
            Some(teacher) => Ok(teacher),
            None => bail!("this step has no teacher; an objective that wants one says so in its needs"),
        }
    }

    /// The reading whose embeddings serve as keys of a contrast: the teacher's where there is a teacher (MoCo, He et al.,
    /// arXiv:1911.05722), else the student's own.
    pub fn keys(&self) -> &Reading<'a> {
        self.teacher.as_ref().unwrap_or(&self.student)
    }

    /// Random numbers for `purpose`, the same at every repetition of this step.
    pub fn rng(&self, purpose: &str) -> Key {
        Key::new(self.seed, self.progress.step, purpose)
    }
}

/// What an objective makes of a step: the error to be made small, and figures to log.
pub struct Loss {
    /// A scalar.
    pub value: Tensor,
    /// Further scalars by name (accuracy, temperature); none is read unless it is logged.
    pub metrics: BTreeMap<&'static str, Tensor>,
}

impl Loss {
    /// A loss without further figures.
    pub fn new(value: Tensor) -> Self {
        Self { value, metrics: BTreeMap::new() }
    }

    /// The loss of a step in which there is nothing to learn from.
    ///
    /// # Errors
    /// When the device fails.
    pub fn nothing() -> Result<Self> {
        Ok(Self::new(Tensor::zeros((), DType::F32, &Device::Cpu)?))
    }

    /// Adds a figure to log: a copy, for a parameter changes in place.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with(mut self, name: &'static str, value: &Tensor) -> Result<Self> {
        self.metrics.insert(name, value.detach().copy()?);
        Ok(self)
    }

    /// Adds a figure that is known without the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with_number(self, name: &'static str, value: f64) -> Result<Self> {
        let value = Tensor::new(value as f32, self.value.device())?;
        self.with(name, &value)
    }

    /// Adds the share of rows of `logits` (R,C) that are greatest at their target (u32, R).
    ///
    /// # Errors
    /// When shapes do not agree.
    pub fn with_accuracy(self, name: &'static str, logits: &Tensor, targets: &Tensor) -> Result<Self> {
        let right = logits.detach().argmax(D::Minus1)?.eq(&targets.to_device(logits.device())?)?;
        self.with(name, &right.to_dtype(DType::F32)?.mean_all()?)
    }
}
