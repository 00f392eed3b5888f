//! Logits of a linear map that are stated before they are computed, so that a loss over a large vocabulary decides how
//! many of them are held at a time.

use candle_core::{D, Result, Tensor};

use super::linear_cross_entropy::{Aim, Map, linear_cross_entropy};
use super::{IGNORE, cross_entropy, gather_rows, linear, soft_cross_entropy, softmax};

/// `x W' + b`, one row of scores over C classes for each vector, not computed yet.
#[derive(Clone, Debug)]
pub struct Logits(Map);

/// What [`Logits::cross_entropy`] and [`Logits::distilled`] find in one pass over the logits.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Mean over the counted rows, a scalar.
    pub loss: Tensor,
    /// The share of counted rows whose target is the first of the greatest logits; 0 where no row is counted.
    pub accuracy: f64,
}

impl Logits {
    /// Of x (.., D), weight (C, D) and bias (C).
    pub fn new(x: Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Self {
        Self(Map { x, weight: weight.clone(), bias: bias.cloned() })
    }

    /// Every logit at once (.., C).
    pub fn dense(&self) -> Result<Tensor> {
        linear(&self.0.x, &self.0.weight, self.0.bias.as_ref())
    }

    /// As [`super::cross_entropy`] of x (R, D) towards targets u32 (R), of which [`super::IGNORE`] is not counted.
    pub fn cross_entropy(&self, targets: &Tensor, label_smoothing: f64) -> Result<CrossEntropy> {
        self.towards(targets, label_smoothing, None)
    }

    /// `(1 - alpha) CE(z, targets) + alpha mean_r(-sum_c softmax(z_teacher)_rc log softmax(z)_rc)` over the counted rows
    /// of x (R, D), targets u32 (R), and a teacher of as many rows and classes, which receives no gradient.
    pub fn distilled(&self, targets: &Tensor, teacher: &Self, alpha: f64) -> Result<CrossEntropy> {
        self.towards(targets, 0.0, Some((teacher.0.clone(), alpha)))
    }

    fn towards(&self, targets: &Tensor, smoothing: f64, teacher: Option<(Map, f64)>) -> Result<CrossEntropy> {
        if !self.0.x.device().is_cpu() {
            return self.at_once(targets, smoothing, teacher);
        }
        let (loss, accuracy) =
            linear_cross_entropy(&self.0, Aim { targets: targets.to_vec1()?, smoothing, teacher })?;
        Ok(CrossEntropy { loss, accuracy })
    }

    /// The same from every logit of the counted rows, as a GPU computes it: it has no kernel for chunks.
    fn at_once(&self, targets: &Tensor, smoothing: f64, teacher: Option<(Map, f64)>) -> Result<CrossEntropy> {
        let wanted: Vec<u32> = targets.to_vec1()?;
        let (rows, wanted): (Vec<u32>, Vec<u32>) =
            (0u32..).zip(wanted).filter(|&(_, target)| target != IGNORE).unzip();
        let (device, counted) = (targets.device(), rows.len());
        let (rows, targets) = (Tensor::new(rows, device)?, Tensor::new(wanted.as_slice(), device)?);
        let logits = gather_rows(&self.dense()?, &rows)?;
        let mut loss = cross_entropy(&logits, &targets, smoothing)?;
        if let Some((teacher, alpha)) = teacher {
            let believed = softmax(&gather_rows(&Self(teacher).dense()?.detach(), &rows)?)?;
            let soft = soft_cross_entropy(&logits, &believed)?;
            loss = ((loss * (1.0 - alpha))? + (soft * alpha)?)?;
        }
        let found: Vec<u32> = logits.detach().argmax(D::Minus1)?.to_vec1()?;
        let right = found.iter().zip(&wanted).filter(|(found, wanted)| found == wanted).count();
        Ok(CrossEntropy { loss, accuracy: right as f64 / counted.max(1) as f64 })
    }
}
