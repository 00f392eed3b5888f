//! The images and the captions of one split, and which belong together.
//!
//! Deviation: a caption that several images share is one entry, and any of these images is right for it; the papers'
//! protocol repeats it, so that equal captions are each other's competitors.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Result as Computed, Tensor, bail};

use super::matching::Matching;
use super::{Subject, asked};
use crate::data::collate::{key, plain};
use crate::data::loader::Evaluation;
use crate::data::{Dataset, Field};
use crate::experiments::failure::Result;
use crate::experiments::feed::{self, Pairs};
use crate::models::{Abilities, Ability, Image, Model, Text, View};

/// How many images or texts are encoded at once.
pub const BLOCK: usize = 128;

/// A split as candidates and queries.
pub struct Gallery {
    images: Vec<Image>,
    texts: Vec<Text>,
    /// The object tags of each image as tokens, their `[SEP]` included; empty where it has none.
    tags: Vec<Vec<u32>>,
    /// Which belong together.
    pub matches: Matches,
    /// The class of each image, where it has one.
    pub categories: Vec<Option<String>>,
    /// What is asked of the images, in blocks of [`BLOCK`]; empty where nothing is.
    pub asked: Vec<asked::Block>,
}

/// The distinct captions of a dataset, and which images each belongs to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// The distinct captions, in the order in which the dataset first has them.
    pub captions: Vec<String>,
    /// The captions of each image.
    pub texts_of: Vec<Vec<u32>>,
    /// The images of each caption.
    pub images_of: Vec<Vec<u32>>,
}

/// A gallery as one model sees it.
pub struct Shown {
    /// The images, in blocks of [`BLOCK`]; what the model has computed from them stays in the views.
    pub images: Vec<View<Image>>,
    /// The distinct captions, in blocks of [`BLOCK`], likewise.
    pub texts: Vec<View<Text>>,
    embeds: Option<[Tensor; 2]>,
    matching: OnceCell<Tensor>,
    written: OnceCell<Vec<String>>,
}

impl Shown {
    /// Embeddings of all images, (I,E) or (I,Q,E), and of all captions (T,E).
    ///
    /// # Errors
    /// When the model does not embed.
    pub fn embeds(&self) -> Computed<&[Tensor; 2]> {
        match &self.embeds {
            Some(embeds) => Ok(embeds),
            None => bail!("this model does not embed images and texts apart"),
        }
    }

    /// Logits of some images and all captions, by similarity where the model embeds, else by matching.
    ///
    /// # Errors
    /// When the model does neither, or the run has no `itm` to match by.
    pub fn scores(&self, subject: &Subject, images: Range<usize>) -> Computed<Tensor> {
        match &self.embeds {
            Some([all, texts]) => {
                let some = all.narrow(0, images.start, images.len())?.contiguous()?;
                subject.model.similarity(&some, texts)
            }
            None => self.matching(subject)?.narrow(0, images.start, images.len()),
        }
    }

    /// Every image with every caption (I,T), by the matching head.
    ///
    /// # Errors
    /// When the model does not fuse or the run has no `itm`.
    pub fn matching(&self, subject: &Subject) -> Computed<&Tensor> {
        match self.matching.get() {
            Some(scores) => Ok(scores),
            None => {
                let scores = Matching::open(subject, self)?.all()?;
                Ok(self.matching.get_or_init(|| scores))
            }
        }
    }
}

impl Shown {
    /// A caption of each image; `write` writes them unless they have been written before.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn written(&self, write: impl FnOnce() -> Result<Vec<String>>) -> Result<&[String]> {
        match self.written.get() {
            Some(captions) => Ok(captions),
            None => {
                let captions = write()?;
                Ok(self.written.get_or_init(|| captions))
            }
        }
    }

    /// What was written about an image, where an evaluation had captions written.
    pub fn caption(&self, image: usize) -> Option<&str> {
        self.written.get()?.get(image).map(String::as_str)
    }
}

impl Gallery {
    /// Opens every pair of a dataset.
    ///
    /// # Errors
    /// When a pair cannot be read or tokenised, or the device is full.
    pub fn open(dataset: &dyn Dataset, pairs: &Pairs, device: &Device) -> Result<Self> {
        let mut images = Vec::new();
        let (mut categories, mut tags) = (Vec::new(), Vec::new());
        for host in Evaluation::new(dataset, pairs.encoder(), pairs.layout(), BLOCK) {
            let host = host?;
            images.push(feed::image(&host, pairs.inputs.size, device)?);
            let rows = host.ids.chunks(host.words).zip(host.segments.chunks(host.words));
            let tag = |(&id, &segment): (&u32, &u32)| (segment == 1).then_some(id);
            tags.extend(rows.map(|(ids, segments)| ids.iter().zip(segments).filter_map(tag).collect()));
            categories.extend(host.categories);
        }
        let matches = Matches::of(dataset)?;
        let blocks = matches.captions.chunks(BLOCK);
        let texts = blocks.map(|captions| feed::text(captions, pairs)).collect::<Result<_>>()?;
        let labels = [Field::Answer, Field::Entailment, Field::Target];
        let asked = match dataset.fields().iter().any(|field| labels.contains(field)) {
            true => {
                let examples = Evaluation::new(dataset, pairs.encoder(), pairs.layout(), BLOCK);
                asked::Block::all(examples, pairs, device)?
            }
            false => Vec::new(),
        };
        Ok(Self { images, texts, tags, matches, categories, asked })
    }

    /// Captions (B,T), each followed by the object tags of one image.
    ///
    /// # Errors
    /// When the device is full.
    pub fn tagged(&self, captions: &Text, images: &[u32]) -> Computed<Text> {
        let mut ids = captions.ids.to_vec2::<u32>()?;
        let mut mask = captions.mask.to_vec2::<f32>()?;
        let mut segments = captions.segments.to_vec2::<u32>()?;
        for (row, &image) in images.iter().enumerate() {
            let tags = &self.tags[image as usize];
            let end = mask[row].iter().filter(|&&seen| seen != 0.0).count();
            ids[row][end..end + tags.len()].copy_from_slice(tags);
            mask[row][end..end + tags.len()].fill(1.0);
            segments[row][end..end + tags.len()].fill(1);
        }
        let device = &Device::Cpu;
        Ok(Text {
            ids: Tensor::new(ids, device)?,
            mask: Tensor::new(mask, device)?,
            segments: Tensor::new(segments, device)?,
        })
    }

    /// The gallery as `model` sees it, embedded if the model embeds.
    ///
    /// # Errors
    /// When the device is full.
    pub fn show(&self, model: &dyn Model, abilities: &Abilities) -> Computed<Shown> {
        let images: Vec<_> = self.images.iter().map(|block| View::new(block.clone(), None)).collect();
        let texts: Vec<_> = self.texts.iter().map(|block| View::new(block.clone(), None)).collect();
        let embeds = match abilities.contains(&Ability::Embed) {
            false => None,
            true => {
                let of_images = images.iter().map(|block| model.embed_image(block));
                let of_texts = texts.iter().map(|block| model.embed_text(block));
                let all = |embeds: Computed<Vec<_>>| Tensor::cat(&embeds?, 0);
                Some([all(of_images.collect())?, all(of_texts.collect())?])
            }
        };
        Ok(Shown { images, texts, embeds, matching: OnceCell::new(), written: OnceCell::new() })
    }
}

impl Matches {
    /// Compares all captions of a dataset; those that differ in case, spaces or a final full stop only are equal.
    ///
    /// # Errors
    /// When a pair cannot be read.
    pub fn of(dataset: &dyn Dataset) -> Result<Self> {
        let mut matches = Self::default();
        let mut known = BTreeMap::new();
        for image in 0..dataset.len() {
            let mut texts = Vec::new();
            for caption in dataset.get(image)?.captions {
                let next = matches.captions.len() as u32;
                let text = *known.entry(key(&plain(&caption))).or_insert(next);
                if text == next {
                    matches.captions.push(caption);
                    matches.images_of.push(Vec::new());
                }
                if !texts.contains(&text) {
                    texts.push(text);
                    matches.images_of[text as usize].push(image as u32);
                }
            }
            matches.texts_of.push(texts);
        }
        Ok(matches)
    }
}
