//! Masked patch prediction: patches are hidden and their mean colour must be told from the other patches and the words.
//!
//! ViLT, Kim et al., arXiv:2102.03334, sections 3.3 and 4.4, and the released code. Each patch is drawn with probability
//! 0.15; of the drawn ones 80 % are hidden and the others stay. Of each drawn patch the mean of red, green and blue is
//! told as one of 256 levels each: mean over drawn patches and channels of `-log p(floor(255 mean))`. The text stays
//! whole. Patches beyond an image, and those that the model leaves out in training, are not asked for.
//!
//! Deviation: pixels are normalised by the mean and deviation of each channel, and the levels are those before that; the
//! released code normalises to [-1, 1].

use candle_core::{DType, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::{Loss, Needs, Objective, ObjectiveConfig, Step, patches};
use crate::kernels::{self, Activation};
use crate::models::nn::{Linear, Spec, bert, deviation};
use crate::models::{Ability, Attend, Dims, Field, Fused, Init, Vars};

/// Values a channel can take.
const LEVELS: usize = 256;

/// `mpp: {probability: 0.15}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The probability that a patch is drawn.
    pub probability: f64,
    /// The share of the drawn patches that is hidden; the others stay as they are.
    pub hidden: f64,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { probability: 0.15, hidden: 0.8, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let abilities = [Ability::FuseImage, Ability::HidePatches].into();
        Needs { abilities, reads: [Field::Pixels].into(), batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        let shares = [("probability", self.probability), ("hidden", self.hidden)];
        let wrong = shares.into_iter().filter(|&(_, share)| !(share > 0.0 && share <= 1.0));
        wrong.map(|(name, share)| format!("{name} {share} is not in (0, 1]")).collect()
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let (vars, width) = (vars.at("head"), dims.width);
        let spec =
            Spec { width, heads: 1, mlp: width, activation: Activation::Gelu, eps: bert::EPS, dropout: 0.0 };
        let (init, zero) = (Init::Normal { std: deviation(width) }, Some(Init::Constant(0.0)));
        Ok(Box::new(Mpp {
            transform: bert::Transform::new(&vars, &spec)?,
            levels: Linear::new(&vars.at("levels"), [width, 3 * LEVELS], init, zero)?,
            patch: dims.patch,
            probability: self.probability,
            hidden: self.hidden,
        }))
    }
}

struct Mpp {
    transform: bert::Transform,
    /// The rows are [red|green|blue].
    levels: Linear,
    /// Side of a patch, in pixels.
    patch: usize,
    probability: f64,
    hidden: f64,
}

impl Objective for Mpp {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let (batch, student) = (step.batch, &step.student);
        let pixels = batch.image.pixels()?;
        let [rows, columns] = patches::grid(pixels, self.patch)?;
        let (pairs, patches, device) = (pixels.dim(0)?, rows * columns, pixels.device());
        let drawn = patches::scattered(pairs * patches, self.probability, step.rng("mpp.draw"));
        let hides = patches::scattered(pairs * patches, self.hidden, step.rng("mpp.hide"));
        let hidden: Vec<bool> = drawn.iter().zip(hides).map(|(&drawn, hides)| drawn && hides).collect();
        let image = patches::hide(&batch.image, &hidden, step.rng("mpp.dropout"))?;

        let Fused { image: Some(seen), .. } = student.model.fuse(&image, &student.text, Attend::Both)? else {
            bail!("mpp: the joint pass leaves no image tokens");
        };
        let mut places = patches::places(&drawn);
        if let Some(mask) = &seen.mask {
            let visible: Vec<f32> =
                mask.narrow(1, mask.dim(1)? - patches, patches)?.flatten_all()?.to_vec1()?;
            places.retain(|&place| visible[place as usize] != 0.0);
        }
        if places.is_empty() {
            return Ok(Loss::new(Tensor::zeros((), seen.hidden.dtype(), device)?));
        }
        let asked = kernels::gather_vectors(&seen.hidden, &patches::tokens(&places, patches, &seen.hidden)?)?;
        let logits = self.levels.forward(&self.transform.forward(&asked)?)?;
        // One row a channel (M 3, 256).
        let logits = logits.reshape((places.len() * 3, LEVELS))?;
        let means = patches::rows(&patches::colours(pixels)?, self.patch)?;
        let means = patches::chosen(&means, &places, device)?.reshape((places.len() * 3, ()))?.mean(1)?;
        let targets = (means * 255.0)?.to_dtype(DType::U32)?;
        Loss::new(kernels::cross_entropy(&logits, &targets, 0.0)?)
            .with_accuracy("accuracy", &logits, &targets)?
            .with_number("drawn", places.len() as f64 / (pairs * patches) as f64)
    }
}
