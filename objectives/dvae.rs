//! A tokenizer of images learns on its own: each patch is told again from one of K codes.
//!
//! The discrete variational autoencoder of Ramesh et al., arXiv:2102.12092, section 2.1 and appendix A, whose codes BEiT
//! (Bao et al., arXiv:2106.08254, section 2.1) predicts. Of the encoder's logits l and Gumbel noise g the decoder is given
//! `z = softmax((l + g) / tau)`, and for each of the C = 3 p p values x in (0, 1) of a patch it tells the centre mu and
//! the spread b of a logit-Laplace distribution. Mean over patches of
//!
//! `mean_C(ln(2 b x (1 - x)) + |logit(x) - mu| / b) + beta / C KL(softmax(l) || uniform)`
//!
//! tau falls from 1 to 1/16 along a cosine while beta rises from 0. A dVAE and not a VQ-VAE, because it is what BEiT reads
//! and because it needs neither a copied gradient nor a codebook kept by other means than gradients.
//!
//! It asks nothing of the model; its stage precedes that of `mim`, which reads the tokenizer by name.
//!
//! Deviation: encoder and decoder see one patch each, through residual feed-forward layers; the paper's are convolutional.
//! Deviation: tau and beta move over the same share of the run; in the paper over 150,000 and 5,000 of 3,000,000 updates.

use std::f64::consts::PI;

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::tokenizer::{self, Decoder, Encoder};
use super::{Loss, Needs, Objective, ObjectiveConfig, Progress, Step, mim, patches};
use crate::kernels;
use crate::models::{Dims, Vars};

/// The last tau.
const COLDEST: f64 = 1.0 / 16.0;
/// Pixels are brought into (MARGIN, 1 - MARGIN).
const MARGIN: f64 = 0.1;

/// `dvae: {tokenizer: {codes: 256}, kl: 6.6}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is trained.
    pub tokenizer: tokenizer::Config,
    /// beta: how much it costs that codes are used unequally.
    pub kl: f64,
    /// The share of the run in which tau falls and beta rises.
    pub anneal: f64,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { tokenizer: tokenizer::Config::default(), kl: 6.6, anneal: 0.05, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    /// What `mim` needs, without a gradient: the model only says how large a patch is, and a tokenizer whose codes it cannot
    /// be asked for would be trained for nothing.
    fn needs(&self) -> Needs {
        let needs = mim::Config::default().needs();
        Needs { observed: needs.abilities.clone(), ..needs }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.tokenizer.faults();
        if !(self.kl >= 0.0 && self.kl.is_finite()) {
            faults.push(format!("kl {} is not a weight", self.kl));
        }
        if !(0.0..=1.0).contains(&self.anneal) {
            faults.push(format!("anneal {} is not a share of the run", self.anneal));
        }
        faults
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Dvae {
            encoder: Encoder::open(vars, &self.tokenizer, dims.patch)?,
            decoder: Decoder::open(vars, &self.tokenizer, dims.patch)?,
            patch: dims.patch,
            kl: self.kl,
            anneal: self.anneal,
        }))
    }
}

struct Dvae {
    encoder: Encoder,
    decoder: Decoder,
    patch: usize,
    kl: f64,
    anneal: f64,
}

impl Dvae {
    /// How far tau has fallen and beta risen, 0 to 1.
    fn annealed(&self, progress: Progress) -> f64 {
        let over = self.anneal * progress.steps as f64;
        if (progress.step as f64) < over { progress.step as f64 / over } else { 1.0 }
    }
}

/// Gumbel noise (R,K): `-ln(-ln u)` of uniform u.
fn gumbel(like: &Tensor, uniform: Vec<f32>) -> Result<Tensor> {
    let noise = |u: f32| -(-(u.max(f32::MIN_POSITIVE)).ln()).ln();
    Tensor::from_vec(uniform.into_iter().map(noise).collect::<Vec<_>>(), like.shape(), like.device())
}

/// Minus the logarithm of the density of values x in (0, 1), all (R,C): (R,C).
fn logit_laplace(x: &Tensor, centre: &Tensor, log_spread: &Tensor) -> Result<Tensor> {
    let (ln, ln_rest) = (x.log()?, x.affine(-1.0, 1.0)?.log()?);
    let given = ((&ln + &ln_rest)? + 2f64.ln())?;
    let distance = ((ln - ln_rest)? - centre)?.abs()?;
    (given + log_spread)? + (distance * log_spread.neg()?.exp()?)?
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

impl Objective for Dvae {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let pixels = step.batch.image.pixels()?;
        let logits = self.encoder.logits(pixels)?;
        let annealed = self.annealed(step.progress);
        let tau = COLDEST + (1.0 - COLDEST) * 0.5 * (1.0 + (PI * annealed).cos());

        let noise = gumbel(&logits, step.rng("dvae.gumbel").uniform(logits.elem_count()))?;
        let shares = kernels::softmax(&((&logits + noise)? / tau)?)?;
        let [centre, log_spread] = self.decoder.forward(&shares)?;
        let values = patches::rows(&patches::colours(pixels)?, self.patch)?;
        let values = values.affine(1.0 - 2.0 * MARGIN, MARGIN)?;
        let told = logit_laplace(&values, &centre, &log_spread)?.mean_all()?;

        let (codes, channels) = (logits.dim(1)? as f64, values.dim(1)? as f64);
        let believed = kernels::log_softmax(&logits)?;
        let kl = (believed.exp()? * (&believed + codes.ln())?)?.sum(D::Minus1)?.mean_all()?;
        let mean = believed.detach().exp()?.mean(0)?;
        let used = (&mean * (&mean + 1e-20)?.log()?)?.sum_all()?.neg()?.exp()?;
        let error = (sigmoid(&centre.detach())? - &values)?.sqr()?.mean_all()?;
        Loss::new((&told + (&kl * (self.kl * annealed / channels))?)?)
            .with("told", &told)?
            .with("kl", &kl)?
            .with("codes_used", &used)?
            .with("squared_error", &error)?
            .with_number("tau", tau)
    }
}
