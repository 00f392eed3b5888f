//! The images and the captions of one split, and which belong together.
//!
//! Deviation: a caption that several images share is one entry, and any of these images is right for it; the papers'
//! protocol repeats it, so that equal captions are each other's competitors.

use std::collections::BTreeMap;

use candle_core::{Device, Result as Computed, Tensor};

use crate::data::Dataset;
use crate::data::collate::{key, plain};
use crate::data::loader::Evaluation;
use crate::experiments::failure::Result;
use crate::experiments::feed::{self, Pairs};
use crate::models::{Image, Model, Text, View};

/// How many images or texts are encoded at once.
pub const BLOCK: usize = 128;

/// A split as candidates and queries.
pub struct Gallery {
    images: Vec<Image>,
    texts: Vec<Text>,
    /// Which belong together.
    pub matches: Matches,
    /// The class of each image, where it has one.
    pub categories: Vec<Option<String>>,
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
    /// Embeddings of all images, (I,E) or (I,Q,E).
    pub image_embeds: Tensor,
    /// Embeddings of all captions (T,E).
    pub text_embeds: Tensor,
}

impl Gallery {
    /// Opens every pair of a dataset.
    ///
    /// # Errors
    /// When a pair cannot be read or tokenised, or the device is full.
    pub fn open(dataset: &dyn Dataset, pairs: &Pairs, device: &Device) -> Result<Self> {
        let mut images = Vec::new();
        let mut categories = Vec::new();
        for host in Evaluation::new(dataset, pairs.encoder(), pairs.layout(), BLOCK) {
            let host = host?;
            images.push(feed::image(&host, pairs.inputs.size, device)?);
            categories.extend(host.categories);
        }
        let matches = Matches::of(dataset)?;
        let blocks = matches.captions.chunks(BLOCK);
        let texts = blocks.map(|captions| feed::text(captions, pairs, device)).collect::<Result<_>>()?;
        Ok(Self { images, texts, matches, categories })
    }

    /// Encodes the gallery with `model`.
    ///
    /// # Errors
    /// When the model does not embed.
    pub fn show(&self, model: &dyn Model) -> Computed<Shown> {
        let images: Vec<_> = self.images.iter().map(|block| View::new(block.clone(), None)).collect();
        let texts: Vec<_> = self.texts.iter().map(|block| View::new(block.clone(), None)).collect();
        let image_embeds =
            images.iter().map(|block| model.embed_image(block)).collect::<Computed<Vec<_>>>()?;
        let text_embeds = texts.iter().map(|block| model.embed_text(block)).collect::<Computed<Vec<_>>>()?;
        let (image_embeds, text_embeds) = (Tensor::cat(&image_embeds, 0)?, Tensor::cat(&text_embeds, 0)?);
        Ok(Shown { images, texts, image_embeds, text_embeds })
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
