//! Optimal transport by the inexact proximal point method (IPOT): Xie et al., arXiv:1802.04307, algorithm 1, batched
//! over examples of unequal size as in UNITER (Chen et al., arXiv:1909.11740, supplementary algorithm 1).
//!
//! With A = exp(-C / beta), T all ones and sigma = 1/m at first, each iteration computes Q = A T elementwise,
//! `k` times delta = 1 / (n Q sigma) and sigma = 1 / (m Q' delta), and T = diag(delta) Q diag(sigma); rows of Q stand
//! for the n entries of the second sequence. The marginals are uniform over what is visible.
//!
//! The plan is a constant of the loss `sum(C T)`, so nothing here has a gradient. An example is a few kilobytes: it
//! stays in the first-level cache for all iterations, and examples run in parallel.

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use super::cuda::{Operand, machine_of};
use super::real::Real;
use super::simd::{sum_pairs, vectorised};

#[path = "cuda/ipot.rs"]
mod on_gpu;

/// The settings of the method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ipot {
    /// The step of the proximal point method: 0.5 in UNITER and ViLT.
    pub beta: f64,
    /// Outer iterations: 50 in UNITER and ViLT.
    pub iterations: usize,
    /// Updates of delta and sigma in each: 1 in UNITER and ViLT.
    pub k: usize,
}

impl Default for Ipot {
    fn default() -> Self {
        Self { beta: 0.5, iterations: 50, k: 1 }
    }
}

/// Transport plans (B,M,N) for costs (B,M,N) between the visible entries, where `rows` (B,M) and `columns` (B,N) are
/// not 0; zero elsewhere. A plan of an example with nothing visible on one side is zero.
///
/// # Errors
/// When shapes do not agree, beta is not positive or k is 0.
pub fn ipot(cost: &Tensor, rows: &Tensor, columns: &Tensor, settings: Ipot) -> Result<Tensor> {
    let (batch, m, n) = cost.dims3()?;
    if rows.dims() != [batch, m] || columns.dims() != [batch, n] {
        bail!("ipot: costs {:?}, masks {:?} and {:?}", cost.shape(), rows.shape(), columns.shape());
    }
    if settings.beta.is_nan() || settings.beta <= 0.0 || settings.k == 0 {
        bail!("ipot: beta {} must be positive, and k {} at least 1", settings.beta, settings.k);
    }
    let seen = |mask: &Tensor| -> Result<Vec<bool>> {
        let mask = mask.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        Ok(mask.into_iter().map(|seen| seen != 0.0).collect())
    };
    let masks = [seen(rows)?, seen(columns)?];
    let cost = cost.detach().contiguous()?;
    let (storage, layout) = cost.storage_and_layout();
    if let Some(machine) = machine_of(&storage)? {
        return on_gpu::plans(&*machine, Operand::new(&*machine, &storage, layout)?, &masks, settings);
    }
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("ipot: no implementation for this device")
    };
    match storage {
        CpuStorage::F32(data) => plans(&data[start..end], [batch, m, n], &masks, settings),
        CpuStorage::F64(data) => plans(&data[start..end], [batch, m, n], &masks, settings),
        _ => bail!("ipot: expected f32 or f64 tensors"),
    }
}

fn plans<T: Real>(
    cost: &[T],
    [batch, m, n]: [usize; 3],
    [rows, columns]: &[Vec<bool>; 2],
    settings: Ipot,
) -> Result<Tensor> {
    let mut plans = vec![T::zero(); cost.len()];
    let places =
        |mask: &[bool]| mask.iter().enumerate().filter_map(|(at, &seen)| seen.then_some(at)).collect();
    plans.par_chunks_mut((m * n).max(1)).enumerate().for_each(|(example, plan)| {
        let rows: Vec<usize> = places(&rows[example * m..(example + 1) * m]);
        let columns: Vec<usize> = places(&columns[example * n..(example + 1) * n]);
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        let cost = &cost[example * m * n..(example + 1) * m * n];
        let visible: Vec<T> =
            columns.iter().flat_map(|&column| rows.iter().map(move |&row| cost[row * n + column])).collect();
        let found = plan_of(&visible, rows.len(), settings);
        for (&column, found) in columns.iter().zip(found.chunks_exact(rows.len())) {
            for (&row, &found) in rows.iter().zip(found) {
                plan[row * n + column] = found;
            }
        }
    });
    debug_assert_eq!(plans.len(), batch * m * n);
    Tensor::from_vec(plans, (batch, m, n), &Device::Cpu)
}

/// The plan (n,m) for a cost (n,m).
fn plan_of<T: Real>(cost: &[T], m: usize, Ipot { beta, iterations, k }: Ipot) -> Vec<T> {
    let n = cost.len() / m;
    let (wide, high) = (T::from_f64(m as f64), T::from_f64(n as f64));
    let one = T::one();
    // What keeps the reciprocal of a sum that has vanished finite: it is multiplied by the zeros of that sum.
    let tiny = T::from_f64(1e-30);
    let mut kernel = cost.to_vec();
    let mut plan = vec![one; cost.len()];
    let (mut delta, mut sigma, mut sums) = (vec![one; n], vec![one / wide; m], vec![T::zero(); m]);
    vectorised(
        #[inline(always)]
        || {
            for row in kernel.chunks_exact_mut(m) {
                // A factor common to a row of A is undone by its delta, so the largest may be 1: none vanishes whole.
                let mut least = row[0];
                for &cost in row.iter() {
                    least = -((-least).most(-cost));
                }
                for cost in row.iter_mut() {
                    *cost = ((least - *cost) / T::from_f64(beta)).exp();
                }
            }
            for _ in 0..iterations {
                for (q, a) in plan.iter_mut().zip(&kernel) {
                    *q *= *a;
                }
                for _ in 0..k {
                    sums.fill(T::zero());
                    for (q, delta) in plan.chunks_exact(m).zip(&mut delta) {
                        *delta = one / (high * sum_pairs(q, &sigma, |q, s| q * s)).most(tiny);
                        for (sum, &q) in sums.iter_mut().zip(q) {
                            *sum += *delta * q;
                        }
                    }
                    for (sigma, &sum) in sigma.iter_mut().zip(&sums) {
                        *sigma = one / (wide * sum).most(tiny);
                    }
                }
                for (q, &delta) in plan.chunks_exact_mut(m).zip(&delta) {
                    for (q, &sigma) in q.iter_mut().zip(&sigma) {
                        *q = (delta * *q) * sigma;
                    }
                }
            }
        },
    );
    plan
}
