//! Logits of a linear map that are stated before they are computed, so that a loss over a large vocabulary decides how
//! many of them are held at a time.

use candle_core::{D, DType, Result, Tensor};

use super::{IGNORE, cross_entropy, linear, soft_cross_entropy, softmax};

/// `x W' + b`, one row of scores over C classes for each vector, not computed yet.
#[derive(Clone, Debug)]
pub struct Logits {
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
}

/// What [`Logits::cross_entropy`] and [`Logits::distilled`] find in one pass.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Mean over the counted rows, a scalar.
    pub loss: Tensor,
    /// The share of counted rows whose target has the greatest logit, a scalar without a gradient; 0 without any.
    pub accuracy: Tensor,
}

impl Logits {
    /// Of x (.., D), weight (C, D) and bias (C).
    pub fn new(x: Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Self {
        Self { x, weight: weight.clone(), bias: bias.cloned() }
    }

    /// Every logit at once (.., C).
    pub fn dense(&self) -> Result<Tensor> {
        linear(&self.x, &self.weight, self.bias.as_ref())
    }

    /// As [`super::cross_entropy`] of x (R, D) towards targets u32 (R), of which [`IGNORE`] is not counted.
    pub fn cross_entropy(&self, targets: &Tensor, label_smoothing: f64) -> Result<CrossEntropy> {
        let logits = self.dense()?;
        let loss = cross_entropy(&logits, targets, label_smoothing)?;
        Ok(CrossEntropy { loss, accuracy: accuracy(&logits, targets)? })
    }

    /// `(1 - alpha) CE(z, targets) + alpha mean_r(-sum_c softmax(z_teacher)_rc log softmax(z)_rc)` for x (R, D), targets
    /// u32 (R) and a teacher of as many rows and classes, which receives no gradient.
    pub fn distilled(&self, targets: &Tensor, teacher: &Self, alpha: f64) -> Result<CrossEntropy> {
        let logits = self.dense()?;
        let hard = cross_entropy(&logits, targets, 0.0)?;
        let soft = soft_cross_entropy(&logits, &softmax(&teacher.dense()?.detach())?)?;
        let loss = ((hard * (1.0 - alpha))? + (soft * alpha)?)?;
        Ok(CrossEntropy { loss, accuracy: accuracy(&logits, targets)? })
    }
}

fn accuracy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let right = logits.detach().argmax(D::Minus1)?.eq(targets)?.to_dtype(DType::F32)?.sum_all()?;
    let counted = targets.ne(IGNORE)?.to_dtype(DType::F32)?.sum_all()?;
    right / counted.maximum(1f32)?
}
