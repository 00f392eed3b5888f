//! Masked image modelling: blocks of an image are hidden and must be told from the rest of it, without any text.
//!
//! BEiT, Bao et al., arXiv:2106.08254, section 2.3, the first stage of VLMo (Bao et al., arXiv:2111.02358, section 3.3):
//! mean over hidden patches of `-log p(code | visible patches)`, the code of a patch being that of the tokenizer which
//! `dvae` trains in an earlier stage. `target: pixels` asks for the pixels instead (MAE, He et al., arXiv:2111.06377,
//! section 3): the mean squared error of each hidden patch normalised to mean 0 and deviation 1.
//!
//! Blocks are drawn by `patches`. The tokenizer is read and never trained.
//!
//! Deviation: MAE's encoder sees visible patches alone and a decoder of its own fills the hidden ones; here hidden patches
//! are vectors in the model's sequence for both targets, as in BEiT.
//! Deviation: the tokenizer sees the picture that the model sees; the released code of BEiT resizes it apart.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::tokenizer::{self, Encoder};
use super::{Loss, Needs, Objective, ObjectiveConfig, Step, patches};
use crate::kernels;
use crate::models::nn::{Linear, deviation};
use crate::models::{Ability, Dims, Field, Init, Vars};

/// The objective whose parameters the tokenizer is.
const TOKENIZER: &str = "dvae";

/// `mim: {target: codes, share: 0.4, masking: blocks}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is told of a hidden patch.
    pub target: Target,
    /// How many of the patches are hidden.
    pub share: f64,
    /// Which patches are hidden together.
    pub masking: Masking,
    /// The tokenizer, as in `dvae`.
    pub tokenizer: tokenizer::Config,
    /// Share in the sum of losses.
    pub weight: f64,
}

/// What is told of a hidden patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Its code.
    Codes,
    /// Its pixels.
    Pixels,
}

/// Which patches are hidden together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masking {
    /// Neighbours, in blocks.
    Blocks,
    /// Each by itself.
    Scattered,
}

impl Default for Config {
    fn default() -> Self {
        let (target, masking) = (Target::Codes, Masking::Blocks);
        Self { target, share: 0.4, masking, tokenizer: tokenizer::Config::default(), weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let abilities = [Ability::ImageTokens, Ability::HidePatches].into();
        Needs { abilities, reads: [Field::Pixels].into(), batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.tokenizer.faults();
        if !(self.share > 0.0 && self.share <= 1.0) {
            faults.push(format!("share {} is not in (0, 1]", self.share));
        }
        faults
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let (patch, init) = (dims.patch, Init::Normal { std: deviation(dims.image) });
        let (tokenizer, outputs) = match self.target {
            Target::Pixels => (None, 3 * patch * patch),
            Target::Codes => {
                let tokenizer = Encoder::open(&vars.observed(TOKENIZER), &self.tokenizer, patch)?;
                (Some(tokenizer), self.tokenizer.codes)
            }
        };
        let zero = Some(Init::Constant(0.0));
        Ok(Box::new(Mim {
            head: Linear::new(&vars.at("head"), [dims.image, outputs], init, zero)?,
            tokenizer,
            patch,
            share: self.share,
            masking: self.masking,
        }))
    }
}

struct Mim {
    head: Linear,
    /// None where pixels are told.
    tokenizer: Option<Encoder>,
    /// Side of a patch, in pixels.
    patch: usize,
    share: f64,
    masking: Masking,
}

impl Mim {
    /// Which of the patches (B P) are hidden, at least one.
    fn hidden(&self, images: usize, grid: [usize; 2], step: &Step) -> Vec<bool> {
        let key = step.rng("mim.mask");
        let hide = |image: usize| {
            let key = key.fold(image as u64);
            match self.masking {
                Masking::Blocks => patches::blocks(grid, self.share, key),
                Masking::Scattered => patches::some(grid[0] * grid[1], self.share, key),
            }
        };
        (0..images).flat_map(hide).collect()
    }
}

impl Objective for Mim {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let image = &step.batch.image;
        let pixels = image.pixels()?;
        let grid = patches::grid(pixels, self.patch)?;
        let (patches, device) = (grid[0] * grid[1], pixels.device());
        let hidden = self.hidden(pixels.dim(0)?, grid, step);
        let view = patches::hide(image, &hidden, step.rng("mim.dropout"))?;
        let tokens = step.student.model.image_tokens(&view)?.hidden;
        let places = patches::places(&hidden);
        let asked = kernels::gather_vectors(&tokens, &patches::tokens(&places, patches, &tokens)?)?;
        let told = self.head.forward(&asked)?;
        let share = places.len() as f64 / hidden.len() as f64;

        let loss = match &self.tokenizer {
            Some(tokenizer) => {
                let codes = tokenizer.codes(pixels)?.index_select(&Tensor::new(places, device)?, 0)?;
                let loss = Loss::new(kernels::cross_entropy(&told, &codes, 0.0)?);
                loss.with_accuracy("accuracy", &told, &codes)?
            }
            None => {
                let wanted = patches::standardised(&patches::rows(pixels, self.patch)?)?;
                let wanted = patches::chosen(&wanted, &places, device)?;
                Loss::new((told - wanted)?.sqr()?.mean_all()?)
            }
        };
        loss.with_number("hidden", share)
    }
}
