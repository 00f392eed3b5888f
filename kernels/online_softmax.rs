//! What remains of a row of logits that passes in chunks: its greatest, its sum of exponentials, and what a loss asks of
//! the rest (Milakov and Gimelshein, arXiv:1805.02867).

use super::real::Real;
use super::simd::{maximum, sum, sum_pairs};

/// What is known of a row after some chunks.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// The greatest logit, the first class that has it, and the sum of `exp(z - top)`.
    pub top: f64,
    pub greatest: usize,
    pub total: f64,
    /// The logit of the target.
    pub target: f64,
    /// The sum of all logits, where labels are smoothed.
    pub sum: f64,
    /// The greatest logit of the teacher, and its sum of exponentials.
    pub teacher: [f64; 2],
    /// The sum of `exp(teacher - its top) (z - top)`.
    pub along: f64,
}

impl Seen {
    /// What a chunk of one row's logits, and of its teacher's, shows, but for its target and the place of the greatest.
    #[inline(always)]
    pub fn of<T: Real>(z: &[T], believed: Option<&[T]>, smooth: bool) -> Self {
        // Classes that are ruled out have minus infinity, which has no difference to itself.
        let lowest = T::from_f64(f64::from(f32::MIN));
        let top = maximum(z, |z| z).most(lowest);
        let mut seen =
            Self { top: top.to_f64(), total: sum(z, |z| (z - top).exp()).to_f64(), ..Self::default() };
        if smooth {
            seen.sum = sum(z, |z| z).to_f64();
        }
        if let Some(believed) = believed {
            let most = maximum(believed, |t| t).most(lowest);
            seen.teacher = [most.to_f64(), sum(believed, |t| (t - most).exp()).to_f64()];
            let along = sum_pairs(believed, z, |t, z| {
                let weight = (t - most).exp();
                if weight == T::zero() { weight } else { weight * (z - top) }
            });
            seen.along = along.to_f64();
        }
        seen
    }

    /// Takes in a later chunk.
    pub fn join(self, next: Self) -> Self {
        let (top, teacher_top) = (self.top.max(next.top), self.teacher[0].max(next.teacher[0]));
        let weights = [self, next].map(|part| (part.teacher[0] - teacher_top).exp());
        let along = |part: Self| part.along + part.teacher[1] * (part.top - top);
        Self {
            top,
            greatest: if next.top > self.top { next.greatest } else { self.greatest },
            total: self.total * (self.top - top).exp() + next.total * (next.top - top).exp(),
            target: self.target + next.target,
            sum: self.sum + next.sum,
            teacher: [teacher_top, weights[0] * self.teacher[1] + weights[1] * next.teacher[1]],
            along: weights[0] * along(self) + weights[1] * along(next),
        }
    }
}
