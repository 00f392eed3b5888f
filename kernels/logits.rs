//! Logits of a linear map that are stated before they are computed, so that a loss over a large vocabulary decides how
//! many of them are held at a time.

use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor, bail};

use super::linear_cross_entropy::Chunked;
use super::operation::{apply2, apply3};
use super::{IGNORE, linear};

/// `x W' + b`, one row of scores over C classes for each vector, not computed yet.
#[derive(Clone, Debug)]
pub struct Logits {
    pub(super) x: Tensor,
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

/// What [`Logits::cross_entropy`] and [`Logits::distilled`] find in one pass over the logits.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Mean over the counted rows, a scalar.
    pub loss: Tensor,
    /// The share of counted rows whose target is the first of the greatest logits, 0 where no row is counted; a scalar f32.
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
        self.towards(targets, label_smoothing, None)
    }

    /// `(1 - alpha) CE(z, targets) + alpha mean_r(-sum_c softmax(z_teacher)_rc log softmax(z)_rc)` over the counted rows
    /// of x (R, D), targets u32 (R), and a teacher of as many rows and classes, which receives no gradient.
    pub fn distilled(&self, targets: &Tensor, teacher: &Self, alpha: f64) -> Result<CrossEntropy> {
        self.towards(targets, 0.0, Some((teacher, alpha)))
    }

    fn towards(
        &self,
        targets: &Tensor,
        smoothing: f64,
        teacher: Option<(&Self, f64)>,
    ) -> Result<CrossEntropy> {
        let ([rows, classes], targets) = (self.sizes()?, targets.to_vec1::<u32>()?);
        if targets.len() != rows {
            bail!("cross-entropy of {rows} rows towards {} targets", targets.len());
        }
        if let Some(target) = targets.iter().find(|&&target| target != IGNORE && target as usize >= classes) {
            bail!("cross-entropy: target {target} of {classes} classes");
        }
        let alpha = teacher.map_or(0.0, |(_, alpha)| alpha);
        if ![smoothing, alpha].iter().all(|share| (0.0..=1.0).contains(share)) {
            bail!("cross-entropy: label smoothing {smoothing} or the share {alpha} is not in [0, 1]");
        }
        let teacher = teacher.map(|(teacher, _)| -> Result<_> {
            if teacher.sizes()? != [rows, classes] {
                bail!("cross-entropy of {rows} rows of {classes}, and a teacher of {:?}", teacher.sizes()?);
            }
            teacher.each(|t| t.detach().to_dtype(self.x.dtype())?.contiguous())
        });
        let (count, passed) = (targets.iter().filter(|&&t| t != IGNORE).count(), Arc::new(OnceLock::new()));
        let chunked = Chunked {
            targets,
            count,
            on: (1.0 - alpha) * (1.0 - smoothing),
            off: (1.0 - alpha) * smoothing / classes as f64,
            alpha,
            teacher: teacher.transpose()?,
            passed: Arc::clone(&passed),
        };
        let Self { x, weight, bias } = self.each(Tensor::contiguous)?;
        let loss = match bias {
            None => apply2(chunked, &x, &weight)?,
            Some(bias) => apply3(chunked, &x, &weight, &bias)?,
        };
        match passed.get() {
            Some(passed) => Ok(CrossEntropy { loss, accuracy: passed.accuracy.clone() }),
            None => bail!("a cross-entropy that was not computed"),
        }
    }

    /// R and C, of operands that fit each other.
    fn sizes(&self) -> Result<[usize; 2]> {
        let ((rows, inputs), (classes, width)) = (self.x.dims2()?, self.weight.dims2()?);
        let fits = self.bias.as_ref().is_none_or(|bias| bias.dims() == [classes]);
        if inputs != width || classes == 0 || !fits {
            let bias = self.bias.as_ref().map(Tensor::dims);
            bail!("cross-entropy of x {:?}, weight {:?}, bias {bias:?}", self.x.shape(), self.weight.shape());
        }
        Ok([rows, classes])
    }

    fn each(&self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let bias = self.bias.as_ref().map(&change).transpose()?;
        Ok(Self { x: change(&self.x)?, weight: change(&self.weight)?, bias })
    }
}
