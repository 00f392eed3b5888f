//! Cross-entropy from logits.

use candle_core::{DType, Result, Tensor};

use super::log_softmax;

/// A target that is not counted.
pub const IGNORE: u32 = u32::MAX;

/// Mean negative log-likelihood over rows whose target is not [`IGNORE`]: logits (R, C), targets u32 (R).
///
/// With `label_smoothing` s the target distribution is `(1-s)` on the target plus `s/C` everywhere. No counted row
/// gives 0 with zero gradients.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let ids = targets.to_vec1::<u32>()?;
    let counted = ids.iter().filter(|&&t| t != IGNORE).count();
    let mut dense = vec![0f32; rows * classes];
    for (row, &id) in dense.chunks_mut(classes.max(1)).zip(&ids) {
        if id != IGNORE {
            let s = label_smoothing as f32;
            row.fill(s / classes as f32);
            match row.get_mut(id as usize) {
                Some(value) => *value += 1.0 - s,
                None => candle_core::bail!("cross_entropy: target {id} of {classes} classes"),
            }
        }
    }
    let dense = Tensor::from_vec(dense, (rows, classes), logits.device())?.to_dtype(logits.dtype())?;
    (log_softmax(logits)? * dense)?.sum_all()? * (-1.0 / counted.max(1) as f64)
}

/// Mean over rows of `-sum_c targets_c log softmax(logits)_c`; both (R, C); targets receive no gradient.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (rows, _) = logits.dims2()?;
    let targets = targets.detach().to_dtype(logits.dtype())?;
    debug_assert!(targets.dtype() != DType::U32);
    (log_softmax(logits)? * targets)?.sum_all()? * (-1.0 / rows.max(1) as f64)
}
