//! Momentum distillation: a share of the target is what the slow copy of the model believes.
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 3.3, in the form of the released code:
//! `(1 - alpha) CE(z, y) + alpha mean_r(-sum_c softmax(z_teacher)_rc log softmax(z)_rc)`. The paper writes the second
//! term as a KL divergence; the two differ by the teacher's entropy, which has no gradient.

use candle_core::{Result, Tensor};

use super::Progress;
use crate::kernels;

/// The teacher's share of the target: `distill`, reached along a straight line over the first `ramp` passes over the
/// training pairs.
pub fn alpha(distill: f64, ramp: f64, progress: Progress) -> f64 {
    let epochs = progress.epochs();
    if epochs < ramp { distill * epochs / ramp } else { distill }
}

/// What is wrong with a share and its rise, one sentence a fault.
pub fn faults(distill: f64, ramp: f64) -> Vec<String> {
    let mut faults = Vec::new();
    if !(0.0..=1.0).contains(&distill) {
        faults.push(format!("distill {distill} is not in [0, 1]"));
    }
    if !(ramp >= 0.0 && ramp.is_finite()) {
        faults.push(format!("ramp {ramp} is not a number of passes over the training pairs"));
    }
    faults
}

/// What a prediction should be, before the teacher has its share.
pub enum Target {
    /// One class a row, u32 (R).
    One(Tensor),
    /// The shares of the classes (R,C).
    Shares(Tensor),
}

/// Mean over rows of the cross-entropy of `logits` (R,C) towards `target` and, with share `alpha`, towards
/// the softmax of the teacher's logits (R,C), which are computed only where they count.
///
/// # Errors
/// When shapes do not agree or the teacher fails.
pub fn cross_entropy(
    logits: &Tensor,
    target: &Target,
    alpha: f64,
    teacher: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    let hard = match target {
        Target::One(classes) => kernels::cross_entropy(logits, classes, 0.0)?,
        Target::Shares(shares) => kernels::soft_cross_entropy(logits, shares)?,
    };
    if alpha == 0.0 {
        return Ok(hard);
    }
    let believed = kernels::softmax(&teacher()?.detach())?;
    let soft = kernels::soft_cross_entropy(logits, &believed)?;
    (hard * (1.0 - alpha))? + (soft * alpha)?
}
