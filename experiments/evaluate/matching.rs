//! Pairs scored by the matching head of `itm`, which looks at image and text together.
//!
//! So retrieve models without towers apart (UNITER, Chen et al., arXiv:1909.11740, section 4.2; Oscar, Li et al.,
//! arXiv:2004.06165, section 5; ViLT, Kim et al., arXiv:2102.03334, section 4.4): every image with every caption. A model
//! that reads object tags reads those of the image behind the caption.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, bail};

use super::Subject;
use super::gallery::{BLOCK, Shown};
use crate::models::{Field, View};
use crate::objectives::{Config, itm};

/// An image and a caption of a gallery, by their numbers.
pub type Pair = (u32, u32);

/// The matching head beside its model.
pub struct Matching<'a> {
    subject: &'a Subject<'a>,
    shown: &'a Shown,
    head: itm::Head,
}

impl<'a> Matching<'a> {
    /// # Errors
    /// When the run has no `itm`.
    pub fn open(subject: &'a Subject<'a>, shown: &'a Shown) -> Result<Self> {
        let is_itm = |config: &&Config| matches!(config, Config::Itm(_));
        let Some(itm) = subject.run.objectives.iter().find(is_itm) else {
            bail!("ranking by matching needs the head that `itm` trains");
        };
        let head = itm::Head::open(&subject.store.detached().at(itm.name()), &subject.dims)?;
        Ok(Self { subject, shown, head })
    }

    /// The log-odds that each of these pairs matches, in their order.
    ///
    /// # Errors
    /// When the model does not fuse, or a score is not finite.
    pub fn pairs(&self, pairs: impl IntoIterator<Item = Pair>) -> Result<BTreeMap<Pair, f32>> {
        // Pairs of one block of images and one block of texts are fused together: the rows of a block are at hand
        // encoded.
        let mut blocks: BTreeMap<(usize, usize), Vec<Pair>> = BTreeMap::new();
        for (image, text) in pairs {
            blocks.entry((image as usize / BLOCK, text as usize / BLOCK)).or_default().push((image, text));
        }
        let mut scores = BTreeMap::new();
        for pairs in blocks.values().flat_map(|pairs| pairs.chunks(BLOCK)) {
            scores.extend(pairs.iter().copied().zip(self.block(pairs)?));
        }
        if scores.values().any(|score| !score.is_finite()) {
            bail!("a matching score is not finite");
        }
        Ok(scores)
    }

    /// Every image with every caption (I,T).
    ///
    /// # Errors
    /// As [`Matching::pairs`].
    pub fn all(&self) -> Result<Tensor> {
        let matches = &self.subject.gallery.matches;
        let (images, texts) = (matches.texts_of.len() as u32, matches.captions.len() as u32);
        let scores = self.pairs((0..images).flat_map(|image| (0..texts).map(move |text| (image, text))))?;
        // In order of their numbers the pairs of one image follow each other.
        Tensor::from_iter(scores.into_values(), &Device::Cpu)?.reshape((images as usize, texts as usize))
    }

    /// The scores of at most [`BLOCK`] pairs of one block of images and one of texts.
    fn block(&self, pairs: &[Pair]) -> Result<Vec<f32>> {
        let Self { subject, shown, head } = self;
        let (images, texts): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
        let within = |numbers: &[u32]| {
            let rows: Vec<u32> = numbers.iter().map(|number| number % BLOCK as u32).collect();
            Tensor::new(rows, &Device::Cpu)
        };
        let image = shown.images[images[0] as usize / BLOCK].select(&within(&images)?)?;
        let mut text = shown.texts[texts[0] as usize / BLOCK].select(&within(&texts)?)?;
        if subject.run.model.reads().contains(&Field::Tags) {
            text = View::new(subject.gallery.tagged(text.input()?, &images)?, None);
        }
        head.scores(&subject.model.pool(&image, &text)?)?.to_vec1()
    }
}
