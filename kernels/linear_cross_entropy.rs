//! Cross-entropy of a linear map towards many classes, computed in chunks of classes: no more logits are ever held than
//! a cache holds, on a GPU too.
//!
//! With z = x W' + b and a target distribution t, a row costs `log sum exp(z) - sum_c t_c z_c`; both sums are added up
//! while the chunks pass. What remains of the forward pass is the greatest logit and the sum of exponentials of each row;
//! the backward pass computes the chunks again, and from each `dz = softmax(z) - t`, `dx += dz W`, `dW = dz' x`, and db,
//! the column sums of dz.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::IGNORE;
use super::cuda::Buffer;
use super::linear::add_bias;
use super::logits::Logits;
use super::online_softmax::Seen;
use super::operation::{Operand, Operation, Slot, elements};
use super::product::{Matrix, Threads, Write, multiply, multiply_by_rows};
use super::real::Real;
use super::rows::{column_sums, for_pieces, rows_per_piece, scratch};
use super::simd::vectorised;

#[path = "cuda/linear_cross_entropy.rs"]
mod on_gpu;

/// Logits in one chunk: 1 MiB, a second-level cache. From half to twice as many take the same time.
const CHUNK: usize = 1 << 18;
/// A chunk holds a multiple of so many classes; products with fewer grow slow.
const NARROWEST: usize = 128;

/// The mean cost of the rows of some [`Logits`] towards a target distribution for each:
/// `on [c = target] + off + alpha softmax(teacher)`.
pub(super) struct Chunked {
    /// (R); a row of [`IGNORE`] is not counted.
    pub targets: Vec<u32>,
    /// How many rows are counted.
    pub count: usize,
    /// The share of the target, that of every class, and that of the teacher.
    pub on: f64,
    pub off: f64,
    pub alpha: f64,
    /// Of as many rows and classes, detached and contiguous.
    pub teacher: Option<Logits>,
    /// What the forward pass leaves behind.
    pub passed: Arc<OnceLock<Passed>>,
}

/// What remains of the forward pass.
pub(super) struct Passed {
    rows: Rows,
    /// The share of counted rows that have their target as the first of the greatest logits, a scalar f32.
    pub accuracy: Tensor,
}

/// What remains of every row, where it was computed.
enum Rows {
    Processor(Vec<Seen>),
    Machine(Buffer),
}

/// [`Logits`] on slices.
#[derive(Clone, Copy)]
struct Slices<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    bias: Option<&'a [T]>,
    rows: usize,
    classes: usize,
    width: usize,
}

impl<'a, T: Real> Slices<'a, T> {
    fn new(x: &'a [T], weight: &'a [T], bias: Option<&'a [T]>, sizes: [usize; 3]) -> Self {
        let [rows, classes, width] = sizes;
        Self { x, weight, bias, rows, classes, width }
    }

    fn of(x: Operand<'a, T>, weight: Operand<'a, T>, bias: Option<Operand<'a, T>>) -> Result<Self> {
        let (&[rows, width], &[classes, _]) = (x.dims(), weight.dims()) else {
            bail!("cross-entropy of x {:?}, weight {:?}", x.dims(), weight.dims())
        };
        let bias = bias.map(|bias| bias.dense()).transpose()?;
        Ok(Self::new(x.dense()?, weight.dense()?, bias, [rows, classes, width]))
    }

    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<T> {
        let (classes, size) = (self.classes, chunk(self.rows));
        (0..classes).step_by(size).map(move |first| first..classes.min(first + size))
    }

    fn x(&self) -> Result<Matrix<'a, T>> {
        Matrix::new(self.x, self.rows, self.width, self.width)
    }

    fn weight(&self, classes: &Range<usize>) -> &'a [T] {
        &self.weight[classes.start * self.width..classes.end * self.width]
    }

    /// The logits (R, chunk) of some classes.
    fn logits(&self, classes: &Range<usize>, into: &mut Vec<T>) -> Result<()> {
        into.truncate(self.rows * classes.len());
        multiply_by_rows(into, self.x()?, self.weight(classes))?;
        if let Some(bias) = self.bias {
            let bias = &bias[classes.clone()];
            for_pieces(into, bias.len(), |_, piece| add_bias(piece, bias));
        }
        Ok(())
    }

    /// Room for the widest chunk.
    fn room(&self) -> Vec<T> {
        scratch(self.rows * self.classes.min(chunk(self.rows)))
    }
}

/// How many classes make a chunk of so many rows.
fn chunk(rows: usize) -> usize {
    (CHUNK / rows.max(1)).max(1).next_multiple_of(NARROWEST)
}

impl Chunked {
    fn run<T: Real>(&self, map: Slices<'_, T>) -> Result<(Vec<T>, Shape)> {
        let mut rows = vec![Seen::default(); map.rows];
        self.with_teacher(|teacher| {
            let (mut z, mut believed) = (map.room(), teacher.map(|teacher| teacher.room()));
            for classes in map.chunks() {
                map.logits(&classes, &mut z)?;
                if let (Some(teacher), Some(believed)) = (teacher, &mut believed) {
                    teacher.logits(&classes, believed)?;
                }
                self.look(&mut rows, &classes, &z, believed.as_deref());
            }
            Ok(())
        })?;
        let (mut cost, mut right) = (0.0, 0);
        for (row, &target) in rows.iter().zip(&self.targets).filter(|(_, target)| **target != IGNORE) {
            cost += row.total.ln() - self.on * (row.target - row.top);
            if self.off > 0.0 {
                cost -= self.off * (row.sum - map.classes as f64 * row.top);
            }
            if self.alpha > 0.0 {
                cost -= self.alpha * row.along / row.teacher[1];
            }
            right += usize::from(row.greatest == target as usize);
        }
        // A second forward pass would find the same.
        let accuracy = Tensor::new((right as f64 / self.count.max(1) as f64) as f32, &Device::Cpu)?;
        let _ = self.passed.set(Passed { rows: Rows::Processor(rows), accuracy });
        Ok((vec![T::from_f64(cost / self.count.max(1) as f64)], ().into()))
    }

    /// Takes a chunk of logits into account.
    fn look<T: Real>(&self, rows: &mut [Seen], classes: &Range<usize>, z: &[T], believed: Option<&[T]>) {
        let (width, step) = (classes.len(), rows_per_piece(classes.len()));
        rows.par_chunks_mut(step).enumerate().for_each(|(piece, rows)| {
            for (index, row) in rows.iter_mut().enumerate() {
                let number = piece * step + index;
                let target = self.targets[number];
                if target == IGNORE {
                    continue;
                }
                let range = number * width..(number + 1) * width;
                let believed = believed.map(|believed| &believed[range.clone()]);
                let z = &z[range];
                let mut next = vectorised(
                    #[inline(always)]
                    || Seen::of(z, believed, self.off > 0.0),
                );
                if let Some(&z) = z.get((target as usize).wrapping_sub(classes.start)) {
                    next.target = z.to_f64();
                }
                let first = classes.start == 0;
                if first || next.top > row.top {
                    let place = z.iter().position(|&z| z.to_f64() == next.top);
                    next.greatest = classes.start + place.unwrap_or(0);
                }
                *row = if first { next } else { row.join(next) };
            }
        });
    }

    fn gradients<T: Real>(
        &self,
        map: Slices<'_, T>,
        grad: &[T],
        [mut dx, mut dw, mut db]: [Option<Slot<'_, T>>; 3],
    ) -> Result<()> {
        let (Some(&grad), Some(Passed { rows: Rows::Processor(rows), .. })) =
            (grad.first(), self.passed.get())
        else {
            bail!("the gradient of a cross-entropy that was not computed")
        };
        let scale = grad.to_f64() / self.count.max(1) as f64;
        self.with_teacher(|teacher| {
            let (mut z, mut believed) = (map.room(), teacher.map(|teacher| teacher.room()));
            for classes in map.chunks() {
                map.logits(&classes, &mut z)?;
                if let (Some(teacher), Some(believed)) = (teacher, &mut believed) {
                    teacher.logits(&classes, believed)?;
                }
                self.slopes(rows, &classes, scale, &mut z, believed.as_deref());
                let (width, dz) = (map.width, Matrix::new(&z, map.rows, classes.len(), classes.len())?);
                if let Some(dx) = &mut dx {
                    let weight = Matrix::new(map.weight(&classes), classes.len(), width, width)?;
                    multiply(dx.data, width, T::one(), dz, weight, dx.write, Threads::Pool)?;
                    dx.write = Write::Add;
                }
                if let Some(dw) = &mut dw {
                    let data = &mut dw.data[classes.start * width..classes.end * width];
                    multiply(data, width, T::one(), dz.t(), map.x()?, dw.write, Threads::Pool)?;
                }
                if let Some(db) = &mut db {
                    let data = &mut db.data[classes.clone()];
                    Slot { data, write: db.write }.put(&column_sums(&z, classes.len()));
                }
            }
            Ok(())
        })
    }

    /// Turns logits into the gradient towards them.
    fn slopes<T: Real>(
        &self,
        rows: &[Seen],
        classes: &Range<usize>,
        scale: f64,
        z: &mut [T],
        believed: Option<&[T]>,
    ) {
        let width = classes.len();
        let real = |x: f64| T::from_f64(x);
        for_pieces(z, width, |first, piece| {
            for (index, z) in piece.chunks_exact_mut(width).enumerate() {
                let (target, row) = (self.targets[first + index], &rows[first + index]);
                if target == IGNORE {
                    z.fill(T::zero());
                    continue;
                }
                let (top, share, off) = (real(row.top), real(scale / row.total), real(scale * self.off));
                let believed = believed.map(|believed| &believed[(first + index) * width..][..width]);
                vectorised(
                    #[inline(always)]
                    || {
                        for z in z.iter_mut() {
                            *z = (*z - top).exp() * share - off;
                        }
                        if let Some(believed) = believed {
                            let (top, share) =
                                (real(row.teacher[0]), real(scale * self.alpha / row.teacher[1]));
                            for (z, &t) in z.iter_mut().zip(believed) {
                                *z -= (t - top).exp() * share;
                            }
                        }
                    },
                );
                if let Some(z) = z.get_mut((target as usize).wrapping_sub(classes.start)) {
                    *z -= real(scale * self.on);
                }
            }
        });
    }

    fn with_teacher<T: Real, R>(&self, work: impl FnOnce(Option<Slices<'_, T>>) -> Result<R>) -> Result<R> {
        let Some(Logits { x, weight, bias }) = &self.teacher else { return work(None) };
        let ((rows, width), (classes, _)) = (x.dims2()?, weight.dims2()?);
        let (x, weight) = (x.storage_and_layout(), weight.storage_and_layout());
        let bias = bias.as_ref().map(Tensor::storage_and_layout);
        let bias = bias.as_ref().map(elements).transpose()?;
        work(Some(Slices::new(elements(&x)?, elements(&weight)?, bias, [rows, classes, width])))
    }
}

impl Operation<2> for Chunked {
    fn name(&self) -> &'static str {
        "linear-cross-entropy"
    }

    fn forward<T: Real>(&self, [x, weight]: [Operand<'_, T>; 2]) -> Result<(Vec<T>, Shape)> {
        self.run(Slices::of(x, weight, None)?)
    }

    fn backward<T: Real>(
        &self,
        [x, weight]: [Operand<'_, T>; 2],
        _: &[T],
        grad: &[T],
        [dx, dw]: [Option<Slot<'_, T>>; 2],
    ) -> Result<()> {
        self.gradients(Slices::of(x, weight, None)?, grad, [dx, dw, None])
    }
}

impl Operation<3> for Chunked {
    fn name(&self) -> &'static str {
        "linear-cross-entropy"
    }

    fn forward<T: Real>(&self, [x, weight, bias]: [Operand<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        self.run(Slices::of(x, weight, Some(bias))?)
    }

    fn backward<T: Real>(
        &self,
        [x, weight, bias]: [Operand<'_, T>; 3],
        _: &[T],
        grad: &[T],
        into: [Option<Slot<'_, T>>; 3],
    ) -> Result<()> {
        self.gradients(Slices::of(x, weight, Some(bias))?, grad, into)
    }
}
