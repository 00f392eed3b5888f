//! Sweeps over parameters, in place: AdamW, gradient norms, moving averages.

use std::sync::Mutex;

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Tensor, bail};
use rayon::prelude::*;

use super::gradient::{Gradient, Rows};
use super::operation::elements;
use super::simd::vectorised;

#[path = "cuda/optim.rs"]
mod on_gpu;

/// Elements handled by one task; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// One AdamW update (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2, with PyTorch's conventions).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, multiplied by the rate.
    pub weight_decay: f64,
    /// Number of this update, counted from 1 (bias correction).
    pub step: u64,
    /// The gradient is multiplied by this first (clipping, averaging).
    pub grad_scale: f64,
}

fn f32s<'a>(name: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        _ => bail!("{name}: expected contiguous f32 tensors"),
    }
}

fn f32s_mut<'a>(name: &str, storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&mut data[start..end]),
        _ => bail!("{name}: expected contiguous f32 tensors"),
    }
}

/// `theta -= rate * (m^ / (sqrt(v^) + eps))` after `theta *= 1 - rate * weight_decay`, in place.
///
/// theta and grad hold n elements, moments (2, n) the first and second moment; all contiguous f32.
pub fn adamw_(theta: &Tensor, moments: &Tensor, grad: &Tensor, adamw: &AdamW) -> Result<()> {
    if grad.elem_count() != theta.elem_count() {
        bail!("adamw: {} parameters, gradient {:?}", theta.elem_count(), grad.shape());
    }
    sweep(theta, Parameter { adamw: *adamw, moments, grad: &grad.contiguous()?, rows: None })
}

fn sweep(theta: &Tensor, parameter: Parameter) -> Result<()> {
    let (n, moments) = (theta.elem_count(), parameter.moments);
    if moments.elem_count() != 2 * n {
        bail!("adamw: {n} parameters, moments {:?}", moments.shape());
    }
    if parameter.adamw.step == 0 {
        bail!("adamw: the first update is step 1");
    }
    if let Some(machine) = on_gpu::machine(theta)? {
        return on_gpu::adamw(&*machine, theta, moments, parameter.grad, &parameter.adamw);
    }
    theta.inplace_op1(&parameter)
}

/// What rows without a gradient have for one.
static ZEROS: [f32; CHUNK] = [0.0; CHUNK];

impl Rows {
    /// The elements of a chunk of the whole table, of which `values` are those of its rows; none where all are zero.
    fn chunk(&self, values: &[f32], index: usize) -> Option<Vec<f32>> {
        let width = values.len().checked_div(self.numbers.len()).filter(|&width| width > 0)?;
        let (start, end) = (index * CHUNK, self.shape.elem_count().min((index + 1) * CHUNK));
        let first = self.numbers.partition_point(|&row| (row as usize + 1) * width <= start);
        let after = self.numbers.partition_point(|&row| (row as usize) * width < end);
        if first >= after {
            return None;
        }
        let mut chunk = vec![0.0; end - start];
        for (row, values) in self.numbers.iter().zip(values.chunks_exact(width)).take(after).skip(first) {
            let begin = *row as usize * width;
            let (from, to) = (begin.max(start), (begin + width).min(end));
            chunk[from - start..to - start].copy_from_slice(&values[from - begin..to - begin]);
        }
        Some(chunk)
    }
}

impl Gradient {
    /// As [`adamw_`] with this gradient of theta. Where rows of a table have none, moments and parameters decay.
    pub fn adamw_(&self, theta: &Tensor, moments: &Tensor, adamw: &AdamW) -> Result<()> {
        match self {
            Self::Whole(grad) => adamw_(theta, moments, grad, adamw),
            Self::Rows(rows) => {
                if rows.shape != *theta.shape() {
                    bail!("adamw: parameters {:?}, rows of a table {:?}", theta.shape(), rows.shape);
                }
                sweep(theta, Parameter { adamw: *adamw, moments, grad: &rows.values, rows: Some(rows) })
            }
        }
    }

    /// As [`sum_of_squares`] of several gradients, one after another; of those on a GPU one answer is waited for.
    pub fn sum_of_squares<'a>(all: impl IntoIterator<Item = &'a Self>) -> Result<f64> {
        let (mut sum, mut elsewhere) = (0.0, Vec::new());
        for gradient in all {
            match gradient {
                Self::Whole(grad) if on_gpu::machine(grad)?.is_some() => elsewhere.push(grad),
                gradient => sum += gradient.squares()?,
            }
        }
        Ok(sum + on_gpu::sum_of_squares(&elsewhere)?)
    }

    fn squares(&self) -> Result<f64> {
        match self {
            Self::Whole(grad) => sum_of_squares(grad),
            Self::Rows(rows) => {
                let guard = rows.values.storage_and_layout();
                let values = elements::<f32>(&guard)?;
                let chunk = |chunk| rows.chunk(values, chunk).map_or(0.0, |chunk| squares(&chunk));
                let chunks = 0..rows.shape.elem_count().div_ceil(CHUNK);
                let partial: Vec<f64> = chunks.into_par_iter().map(chunk).collect();
                Ok(partial.iter().sum())
            }
        }
    }
}

/// The parameter, in a sweep over it, its moments and its gradient at once. candle lends one tensor at a time for
/// writing, so the sweep borrows the moments while it holds the parameter.
struct Parameter<'a> {
    adamw: AdamW,
    moments: &'a Tensor,
    grad: &'a Tensor,
    /// The rows of a table that the gradient is of, if not of all.
    rows: Option<&'a Rows>,
}

impl InplaceOp1 for Parameter<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, dst: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let theta = Mutex::new(f32s_mut("adamw", dst, layout)?);
        self.moments.inplace_op2(self.grad, &Moments { adamw: self.adamw, theta, rows: self.rows })
    }
}

struct Moments<'a> {
    adamw: AdamW,
    theta: Mutex<&'a mut [f32]>,
    rows: Option<&'a Rows>,
}

impl InplaceOp2 for Moments<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, dst: &mut CpuStorage, layout: &Layout, grad: &CpuStorage, l: &Layout) -> Result<()> {
        let Ok(mut theta) = self.theta.lock() else { bail!("adamw: another thread failed in this sweep") };
        let grad = f32s("adamw", grad, l)?;
        let (first, second) = f32s_mut("adamw", dst, layout)?.split_at_mut(theta.len());
        let AdamW { rate, beta1, beta2, eps, weight_decay, step, grad_scale } = self.adamw;
        let step = step.min(i32::MAX as u64) as i32;
        let (b1, b2, scale) = (beta1 as f32, beta2 as f32, grad_scale as f32);
        let (c1, c2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        let keep = (1.0 - rate * weight_decay) as f32;
        let size = (rate / (1.0 - beta1.powi(step))) as f32;
        let root = ((1.0 - beta2.powi(step)).sqrt()) as f32;
        let eps = eps as f32;
        let chunks = theta.par_chunks_mut(CHUNK).zip(first.par_chunks_mut(CHUNK));
        let chunks = chunks.zip(second.par_chunks_mut(CHUNK)).enumerate();
        chunks.for_each(|(index, ((theta, m), v))| {
            let gathered = self.rows.and_then(|rows| rows.chunk(grad, index));
            let g = match (&gathered, self.rows) {
                (Some(gathered), _) => gathered,
                (None, Some(_)) => &ZEROS[..theta.len()],
                (None, None) => &grad[index * CHUNK..][..theta.len()],
            };
            vectorised(
                #[inline(always)]
                || {
                    for (((theta, m), v), g) in theta.iter_mut().zip(m).zip(v).zip(g) {
                        let g = g * scale;
                        *m = *m * b1 + g * c1;
                        *v = *v * b2 + g * g * c2;
                        *theta = *theta * keep - size * (*m / (v.sqrt() / root + eps));
                    }
                },
            );
        });
        Ok(())
    }
}

/// The sum of squares in f64, by fixed chunks in fixed order.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    let x = x.contiguous()?;
    if on_gpu::machine(&x)?.is_some() {
        return on_gpu::sum_of_squares(&[&x]);
    }
    let (storage, layout) = x.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else { bail!("sum_of_squares: not on the CPU") };
    let data = f32s("sum_of_squares", storage, layout)?;
    let partial: Vec<f64> = data.par_chunks(CHUNK).map(squares).collect();
    Ok(partial.iter().sum())
}

/// The sum of squares in eight interleaved partial sums.
fn squares(x: &[f32]) -> f64 {
    let mut lanes = [0f64; 8];
    vectorised(
        #[inline(always)]
        || {
            let chunks = x.chunks_exact(lanes.len());
            for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
                *lane += f64::from(x) * f64::from(x);
            }
            for chunk in chunks {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane += f64::from(x) * f64::from(x);
                }
            }
        },
    );
    lanes.iter().sum()
}

/// `teacher = momentum * teacher + (1 - momentum) * student`, in place; equal shapes.
pub fn follow_(teacher: &Tensor, student: &Tensor, momentum: f64) -> Result<()> {
    if teacher.shape() != student.shape() {
        bail!("follow: teacher {:?}, student {:?}", teacher.shape(), student.shape());
    }
    if let Some(machine) = on_gpu::machine(teacher)? {
        return on_gpu::follow(&*machine, teacher, &student.detach().contiguous()?, momentum);
    }
    teacher.inplace_op2(&student.detach().contiguous()?, &Follow(momentum))
}

/// Overwrites `target` with `source` in place; equal shapes.
pub fn copy_(target: &Tensor, source: &Tensor) -> Result<()> {
    follow_(target, source, 0.0)
}

struct Follow(f64);

impl InplaceOp2 for Follow {
    fn name(&self) -> &'static str {
        "follow"
    }

    fn cpu_fwd(&self, dst: &mut CpuStorage, layout: &Layout, source: &CpuStorage, l: &Layout) -> Result<()> {
        let source = f32s("follow", source, l)?;
        let target = f32s_mut("follow", dst, layout)?;
        let (keep, take) = (self.0 as f32, (1.0 - self.0) as f32);
        target.par_chunks_mut(CHUNK).zip(source.par_chunks(CHUNK)).for_each(|(target, source)| {
            if keep == 0.0 {
                target.copy_from_slice(source);
            } else {
                vectorised(
                    #[inline(always)]
                    || {
                        for (t, s) in target.iter_mut().zip(source) {
                            *t = keep * *t + take * s;
                        }
                    },
                );
            }
        });
        Ok(())
    }
}
