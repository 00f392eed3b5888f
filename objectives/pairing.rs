//! Which pairs of a step match and which do not, for the objectives that tell them apart.
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 3.2: all B pairs match, each text also meets another image and each image
//! another text. UNITER, Chen et al., arXiv:1909.11740, section 3.2: with probability 0.5 a pair has another image than
//! its own, else it matches; ViLT, Kim et al., arXiv:2102.03334, section 3.3: exactly half of the batch does.

use std::cell::OnceCell;
use std::rc::Rc;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Step;
use super::altered::{tensors, written};
use super::negatives::{Pool, draw};
use super::step::once;
use crate::models::{Attend, Fused, Image, Text, View};

/// How the pairs that do not match are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Negatives {
    /// Uniformly from the batch.
    Random,
    /// More often the more similar they are.
    Hard,
}

/// What is exchanged in a pair so that it does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replace {
    /// The image, and in a further pair the text: B pairs match, up to 2B do not.
    Both,
    /// The image of some of the B pairs.
    Image,
}

/// How a batch becomes pairs that match and pairs that do not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pairing {
    /// How others are drawn.
    pub negatives: Negatives,
    /// What others replace.
    pub replace: Replace,
    /// The share of pairs whose image is replaced.
    pub share: f64,
    /// Whether exactly that share is, instead of each pair with that probability.
    pub exact: bool,
    /// Among which pairs others are drawn.
    pub pool: Pool,
}

impl Pairing {
    /// UNITER's.
    pub const UNITER: Self = Self {
        negatives: Negatives::Random,
        replace: Replace::Image,
        share: 0.5,
        exact: false,
        pool: Pool { groups: 1, floor: 0.0 },
    };
    /// ViLT's.
    pub const VILT: Self = Self { exact: true, ..Self::UNITER };
}

/// Pairs that go through the joint pass together.
pub struct Group {
    /// 1 for each pair that matches, else 0.
    pub matches: Vec<u32>,
    /// The selected images and texts; none where the group is the batch as it is.
    views: Option<(View<Image>, View<Text>)>,
    fused: OnceCell<Rc<Fused>>,
    pooled: OnceCell<Tensor>,
}

impl Group {
    fn new(matches: Vec<u32>, views: Option<(View<Image>, View<Text>)>) -> Self {
        Self { matches, views, fused: OnceCell::new(), pooled: OnceCell::new() }
    }

    /// The student's joint pass.
    ///
    /// # Errors
    /// When the model does not fuse.
    pub fn fused(&self, step: &Step) -> Result<Rc<Fused>> {
        match &self.views {
            None => step.student.fused(),
            Some((image, text)) => {
                once(&self.fused, || step.student.model.fuse(image, text, Attend::Both).map(Rc::new))
            }
        }
    }

    /// One vector (B,D) a pair, of the same pass where somebody reads its tokens.
    ///
    /// # Errors
    /// When the model does not fuse.
    pub fn pooled(&self, step: &Step) -> Result<Tensor> {
        if step.agreed.tokens.get().is_some() || self.fused.get().is_some() {
            return Ok(self.fused(step)?.pooled.clone());
        }
        match &self.views {
            None => step.student.pooled(),
            Some((image, text)) => once(&self.pooled, || step.student.model.pool(image, text)),
        }
    }
}

/// The pairs of a step.
///
/// # Errors
/// When similarities are asked for and the model does not embed.
pub fn groups(step: &Step, pairing: &Pairing) -> Result<Vec<Group>> {
    let pairs = step.batch.image_keys.len();
    let scores = |to_image| scores(step, pairing.negatives, to_image);
    let images = draw(&scores(true)?, &step.batch.pairs(), pairing.pool, step.rng("itm.images"));
    if pairing.replace == Replace::Image {
        let replaced = replaced(step, pairing, pairs);
        let row = |(own, other): (u32, Option<u32>)| other.filter(|_| replaced[own as usize]).unwrap_or(own);
        let rows: Vec<u32> = (0..).zip(images).map(row).collect();
        let matches = (0..).zip(&rows).map(|(own, &row)| u32::from(own == row)).collect();
        let text = texts_beside(step, None, &rows)?;
        let image = step.student.image.select(&Tensor::new(rows, &Device::Cpu)?)?;
        return Ok(vec![Group::new(matches, Some((image, text)))]);
    }
    let texts = draw(&scores(false)?, &step.batch.pairs(), pairing.pool, step.rng("itm.texts"));
    let images = images.into_iter().zip(0..).filter_map(|(image, text)| Some((image?, text)));
    let texts = texts.into_iter().zip(0..).filter_map(|(text, image)| Some((image, text?)));
    let (images, texts): (Vec<u32>, Vec<u32>) = images.chain(texts).unzip();
    let mut groups = vec![Group::new(vec![1; pairs], None)];
    if !images.is_empty() {
        let matches = vec![0; images.len()];
        let text = texts_beside(step, Some(&texts), &images)?;
        let image = step.student.image.select(&Tensor::new(images, &Device::Cpu)?)?;
        groups.push(Group::new(matches, Some((image, text))));
    }
    Ok(groups)
}

/// The captions of rows `texts` (of every row, in order, without them), each beside the image of a row: object tags are the image's
/// and go where it goes (Oscar, released code: a pair that does not match has another image with that image's tags).
fn texts_beside(step: &Step, texts: Option<&[u32]>, images: &[u32]) -> Result<View<Text>> {
    let written = written(step)?;
    if !written.has_tags() {
        return match texts {
            None => Ok(step.student.text.clone()),
            Some(rows) => step.student.text.select(&Tensor::new(rows, &Device::Cpu)?),
        };
    }
    let in_order: Vec<u32> = (0..images.len() as u32).collect();
    let exchanged = written.exchange(texts.unwrap_or(&in_order), images);
    Ok(View::new(
        tensors(&exchanged, &exchanged.ids, true, &step.batch.text)?,
        Some(step.rng("itm.tags.dropout")),
    ))
}

/// (B,B): for each text how near the images are, or for each image the texts; the teacher's keys where there is one.
fn scores(step: &Step, negatives: Negatives, to_image: bool) -> Result<Vec<f32>> {
    let pairs = step.batch.image_keys.len();
    if negatives == Negatives::Random {
        return Ok(vec![0.0; pairs * pairs]);
    }
    let (student, keys) = (&step.student, step.keys());
    let scores = match to_image {
        true => student.model.similarity(&keys.image_embeds()?, &student.text_embeds()?)?.t()?,
        false => student.model.similarity(&student.image_embeds()?, &keys.text_embeds()?)?,
    };
    scores.contiguous()?.flatten_all()?.to_vec1()
}

/// Of each pair whether its image is to be replaced.
fn replaced(step: &Step, pairing: &Pairing, pairs: usize) -> Vec<bool> {
    let key = step.rng("itm.replaced");
    if !pairing.exact {
        return key.uniform(pairs).into_iter().map(|die| f64::from(die) < pairing.share).collect();
    }
    let most = pairs - ((1.0 - pairing.share) * pairs as f64).floor() as usize;
    let mut replaced = vec![false; pairs];
    for row in key.permutation(pairs).into_iter().take(most) {
        replaced[row as usize] = true;
    }
    replaced
}
