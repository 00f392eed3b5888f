//! Pairs on their way to the device: the datasets of a run, what their shape decides, and batches as tensors.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::failure::Result;
use crate::data::collate::{Encode, HostBatch, HostRegions, Layout};
use crate::data::loader::{self, Loader};
use crate::data::vocabulary::Vocabulary;
use crate::data::{self, Dataset, Split};
use crate::kernels::IGNORE;
use crate::models::checkpoint::hub::{self, Part};
use crate::models::{Image, Inputs, Regions, Text};
use crate::objectives::Batch;

/// The words of a run: how they become tokens, and how many kinds of token there are.
#[derive(Clone)]
pub struct Words {
    /// Turns text into tokens.
    pub encoder: Arc<dyn Encode>,
    /// V.
    pub entries: usize,
}

impl Words {
    /// The vocabulary of a run's `tokenizer` and `entries`; `given` where it names none.
    ///
    /// # Errors
    /// When there is no such file or repository, or it holds no vocabulary that can be used.
    fn of(config: &data::Config, given: &Self) -> Result<Self> {
        let Some(tokenizer) = &config.tokenizer else { return Ok(given.clone()) };
        let refuse = |problem: String, help: String| {
            data::Error::setting("data.tokenizer", format!("is `{tokenizer}`: {problem}"), help)
        };
        let file = hub::find(Path::new(tokenizer), Part::Tokenizer)
            .map_err(|fault| refuse(fault.problem, fault.help))?;
        let mut vocabulary = Vocabulary::read(&file).map_err(|fault| match fault {
            data::Error::Vocabulary { problem, help } => refuse(problem, help),
            other => other,
        })?;
        if let Some(rows) = config.entries {
            vocabulary.lengthen(rows)?;
        }
        Ok(Self { entries: vocabulary.len(), encoder: Arc::new(vocabulary) })
    }

    /// The vocabulary that is part of the program.
    ///
    /// # Errors
    /// If it was damaged before the program was built.
    pub fn shipped() -> Result<Self> {
        let vocabulary = Vocabulary::shipped()?;
        Ok(Self { entries: vocabulary.len(), encoder: Arc::new(vocabulary) })
    }
}

/// The datasets of one run, opened.
#[derive(Clone)]
pub struct Pairs {
    config: data::Config,
    given: Words,
    words: Words,
    /// What the model learns from.
    pub train: Arc<dyn Dataset>,
    val: Option<Arc<dyn Dataset>>,
    test: Option<Arc<dyn Dataset>>,
    /// What the pairs decide about a model's shape.
    pub inputs: Inputs,
    /// The closed list of answers that a classifier of the training pairs chooses from.
    pub answers: Vec<String>,
}

impl Pairs {
    /// Opens every split of a run; `seed` decides how captions are shuffled where that is asked for, and `words` how they
    /// become tokens where the run names no tokenizer.
    ///
    /// # Errors
    /// When a source cannot be opened or holds no pair.
    pub fn open(config: &data::Config, words: &Words, seed: u64) -> Result<Self> {
        let open = |split| config.open(split, seed);
        let train = match open(Split::Train)? {
            Some(train) => train,
            None => return Err(data::Error::setting("data.train", "is missing", "name a source").into()),
        };
        let (given, words) = (words.clone(), Words::of(config, words)?);
        let first = train.get(0)?;
        let region = first.regions.first();
        let answers = train.answers();
        let inputs = Inputs {
            size: config.size as usize,
            words: config.words + config.tags,
            vocabulary: words.entries,
            specials: words.encoder.specials().clone(),
            region_features: region.map_or(0, |region| region.features.len()),
            region_classes: region.map_or(0, |region| region.classes.len()),
            answers: answers.len(),
        };
        let (val, test) = (open(Split::Val)?, open(Split::Test)?);
        Ok(Self { config: config.clone(), given, words, train, val, test, inputs, answers })
    }

    /// One split, where the file names a source for it.
    pub fn split(&self, split: Split) -> Option<&Arc<dyn Dataset>> {
        match split {
            Split::Train => Some(&self.train),
            Split::Val => self.val.as_ref(),
            Split::Test => self.test.as_ref(),
        }
    }

    /// The words of the run.
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// The words of runs that name no tokenizer.
    pub fn given(&self) -> &Words {
        &self.given
    }

    /// Turns text into tokens.
    pub fn encoder(&self) -> &dyn Encode {
        self.words.encoder.as_ref()
    }

    /// The extents of every batch.
    pub fn layout(&self) -> Layout {
        self.config.layout()
    }

    /// The training batches from number `first` on, made on a thread of their own.
    ///
    /// # Errors
    /// When no full batch can be made.
    pub fn loader(&self, batch: usize, seed: u64, first: u64) -> Result<Loader> {
        let (layout, augment) = (self.layout(), self.config.augment.clone());
        // One thread keeps ahead of any training step on a processor, and more would take cores from it.
        let config = loader::Config { batch, layout, augment, seed, threads: 1, ahead: 4 };
        Ok(Loader::new(self.train.clone(), self.words.encoder.clone(), config, first)?)
    }
}

/// A batch as objectives see it, on `device`.
///
/// # Errors
/// When the device is full.
pub fn batch(mut host: HostBatch, pairs: &Pairs, device: &Device) -> Result<Batch> {
    let rows = host.size;
    let second = host.second.take().map(|second| batch(*second, pairs, device)).transpose()?;
    let number = |answer: &String| pairs.answers.iter().position(|known| known == answer);
    let answer =
        |answer: &Option<String>| answer.as_ref().map(|answer| number(answer).map_or(IGNORE, |it| it as u32));
    let image_keys = host.image_keys.clone();
    let region_classes = host
        .regions
        .as_ref()
        .map(|regions| tensor(&regions.classes, (rows, regions.count, regions.class_count), device))
        .transpose()?;
    Ok(Batch {
        image: image(&host, pairs.inputs.size, device)?,
        answers: host.answers.iter().filter_map(answer).collect(),
        targets: host.targets.iter().copied().flatten().collect(),
        second: second.map(Box::new),
        text: Text {
            ids: Tensor::from_vec(host.ids, (rows, host.words), &Device::Cpu)?,
            mask: Tensor::from_vec(host.mask, (rows, host.words), &Device::Cpu)?,
            segments: Tensor::from_vec(host.segments, (rows, host.words), &Device::Cpu)?,
        },
        word_starts: host.word_starts,
        specials: host.specials,
        image_keys,
        caption_keys: host.caption_keys,
        region_classes,
    })
}

/// The images of a batch on `device`.
///
/// # Errors
/// When the device is full.
pub fn image(host: &HostBatch, size: usize, device: &Device) -> Result<Image> {
    let pixels = tensor(&host.pixels, (host.size, 3, size, size), device)?;
    let regions =
        host.regions.as_ref().map(|regions| self::regions(regions, host.size, device)).transpose()?;
    Ok(Image { pixels: Some(pixels), regions, ..Image::default() })
}

fn regions(host: &HostRegions, rows: usize, device: &Device) -> Result<Regions> {
    Ok(Regions {
        features: tensor(&host.features, (rows, host.count, host.width), device)?,
        boxes: tensor(&host.boxes, (rows, host.count, 7), device)?,
        mask: tensor(&host.mask, (rows, host.count), &Device::Cpu)?,
    })
}

fn tensor(values: &[f32], shape: impl Into<candle_core::Shape>, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_slice(values, shape.into(), device)?)
}

/// Captions as word sequences without object tags, padded to the layout's places.
///
/// # Errors
/// When a text cannot be tokenised.
pub fn text<S: AsRef<str>>(captions: &[S], pairs: &Pairs) -> Result<Text> {
    let Layout { words, tags, .. } = pairs.layout();
    let (rows, places) = (captions.len(), words + tags);
    let (mut ids, mut mask) = (Vec::with_capacity(rows * places), Vec::with_capacity(rows * places));
    for caption in captions {
        let end = ids.len() + places;
        ids.extend(pairs.encoder().encode(caption.as_ref(), words)?.ids);
        mask.resize(ids.len(), 1.0f32);
        ids.resize(end, pairs.inputs.specials.pad);
        mask.resize(end, 0.0);
    }
    Ok(Text {
        ids: Tensor::from_vec(ids, (rows, places), &Device::Cpu)?,
        mask: Tensor::from_vec(mask, (rows, places), &Device::Cpu)?,
        segments: Tensor::zeros((rows, places), candle_core::DType::U32, &Device::Cpu)?,
    })
}
