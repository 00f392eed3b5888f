//! Multi-head scaled dot-product attention: Vaswani et al., arXiv:1706.03762, section 3.2.
//!
//! `o_i = sum_j p_ij v_j` with `p_i = softmax_j(q_i k_j / sqrt(d) + mask_ij)` in each head of d = D/H columns. Examples
//! run in parallel; the scores of a tile of queries live in cache and are computed again in the backward pass, as in
//! FlashAttention (arXiv:2205.14135), so that memory grows with T and not with its square. Heads are read and written
//! in place as strided columns; nothing is permuted.

use candle_core::{Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::mask::{Mask, Visible};
use super::operation::{Operand, Operation, apply1, apply2, apply3};
use super::product::{Matrix, Threads, Write, count, multiply};
use super::real::Real;
use super::simd::{sum_pairs, vectorised};
use super::softmax::softmax_row;

/// Scores held at once for one head; a tile is as many whole rows of queries as fit.
const TILE: usize = 1 << 16;

/// Attention of `heads` heads: q (B,Tq,D), k and v (B,Tk,D), result (B,Tq,D); scores are divided by sqrt(D/heads).
///
/// A query that sees no key yields zeros and zero gradients.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, mask: &Mask) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let (_, keys, _) = k.dims3()?;
    if k.dims() != [batch, keys, width] || v.dims() != k.dims() {
        bail!("attention: q {:?}, k {:?}, v {:?}", q.shape(), k.shape(), v.shape());
    }
    let heads = Heads::new([batch, queries, keys, width], heads, mask)?;
    apply3(heads, &q.contiguous()?, &k.contiguous()?, &v.contiguous()?)
}

/// [`attention`] on one packed tensor (B,T,3D) = [q|k|v]; result (B,T,D).
pub fn self_attention(qkv: &Tensor, heads: usize, mask: &Mask) -> Result<Tensor> {
    let (batch, length, packed) = qkv.dims3()?;
    if !packed.is_multiple_of(3) {
        bail!("self_attention: width {packed} of {:?} is not three times anything", qkv.shape());
    }
    apply1(Heads::new([batch, length, length, packed / 3], heads, mask)?, &qkv.contiguous()?)
}

/// [`attention`] of q (B,Tq,D) over a packed kv (B,Tk,2D) = [k|v]; result (B,Tq,D).
pub fn cross_attention(q: &Tensor, kv: &Tensor, heads: usize, mask: &Mask) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let (_, keys, _) = kv.dims3()?;
    if kv.dims() != [batch, keys, 2 * width] {
        bail!("cross_attention: q {:?}, kv {:?}", q.shape(), kv.shape());
    }
    apply2(Heads::new([batch, queries, keys, width], heads, mask)?, &q.contiguous()?, &kv.contiguous()?)
}

struct Heads {
    batch: usize,
    queries: usize,
    keys: usize,
    width: usize,
    heads: usize,
    visible: Visible,
}

/// The rows of one example of q, k or v: `stride` elements from one row to the next, columns beginning at `at`.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    data: &'a [T],
    stride: usize,
    at: usize,
}

impl<'a, T: Real> Rows<'a, T> {
    fn head(self, first: usize, rows: usize, head: usize, columns: usize) -> Result<Matrix<'a, T>> {
        let start = first * self.stride + self.at + head * columns;
        Matrix::new(self.data.get(start..).unwrap_or_default(), rows, columns, self.stride)
    }
}

impl Heads {
    fn new([batch, queries, keys, width]: [usize; 4], heads: usize, mask: &Mask) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) || width == 0 {
            bail!("attention: width {width} does not divide into {heads} heads");
        }
        let visible = mask.visible(batch, queries, keys)?;
        Ok(Self { batch, queries, keys, width, heads, visible })
    }

    fn columns(&self) -> usize {
        self.width / self.heads
    }

    fn scale<T: Real>(&self) -> T {
        T::from_f64(1.0 / (self.columns() as f64).sqrt())
    }

    /// Rows of queries in one tile, and the tiles' beginnings.
    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = (TILE / self.keys.max(1)).clamp(1, self.queries.max(1));
        (0..self.queries).step_by(rows).map(move |first| (first, rows.min(self.queries - first)))
    }

    /// `softmax(q k' / sqrt(d) + mask)` for a tile of queries of one head, into `weights` (rows, Tk).
    fn weigh<T: Real>(
        &self,
        example: usize,
        (first, rows): (usize, usize),
        q: Matrix<'_, T>,
        k: Matrix<'_, T>,
        weights: &mut [T],
    ) -> Result<()> {
        multiply(weights, self.keys, self.scale(), q, k.t(), Write::Replace, Threads::One)?;
        let none = T::from_f64(f64::NEG_INFINITY);
        vectorised(
            #[inline(always)]
            || {
                for (row, weights) in weights.chunks_exact_mut(self.keys.max(1)).take(rows).enumerate() {
                    self.visible.add(example, first + row, weights, none);
                    softmax_row(weights);
                }
            },
        );
        Ok(())
    }

    fn attend<'a, T: Real>(
        &self,
        operands: impl Fn(usize) -> [Rows<'a, T>; 3] + Sync,
    ) -> Result<(Vec<T>, Shape)> {
        let mut out = vec![T::zero(); self.batch * self.queries * self.width];
        self.count(2);
        let columns = self.columns();
        let length = (self.queries * self.width).max(1);
        out.par_chunks_mut(length).enumerate().try_for_each(|(example, out)| -> Result<()> {
            let [q, k, v] = operands(example);
            let mut weights = vec![T::zero(); self.tile_length()];
            for head in 0..self.heads {
                let (k, v) = (k.head(0, self.keys, head, columns)?, v.head(0, self.keys, head, columns)?);
                for (first, rows) in self.tiles() {
                    let q = q.head(first, rows, head, columns)?;
                    self.weigh(example, (first, rows), q, k, &mut weights)?;
                    let weights = Matrix::new(&weights, rows, self.keys, self.keys)?;
                    let out = &mut out[first * self.width + head * columns..];
                    multiply(out, self.width, T::one(), weights, v, Write::Replace, Threads::One)?;
                }
            }
            Ok(())
        })?;
        Ok((out, (self.batch, self.queries, self.width).into()))
    }

    /// Counts so many products of the size of the scores.
    fn count(&self, products: usize) {
        count(products * self.batch, [self.queries, self.keys, self.width]);
    }

    /// Counts the products of a backward pass: the scores anew and, where either is wanted, those that lead to q and k.
    fn count_backward(&self, [want_q, want_k, want_v]: [bool; 3]) {
        let slopes = usize::from(want_q || want_k);
        self.count(1 + slopes + [want_q, want_k, want_v].into_iter().filter(|&wanted| wanted).count());
    }

    fn tile_length(&self) -> usize {
        self.tiles().next().map_or(0, |(_, rows)| rows * self.keys)
    }

    /// Writes the gradients of one example: to slices of (rows, D): with dP = do v' and D_i = sum_j p_ij dP_ij, dS = p (dP - D), dq = dS k,
    /// dk = dS' q, dv = p' do.
    fn differentiate<T: Real>(
        &self,
        example: usize,
        [q, k, v]: [Rows<'_, T>; 3],
        grad: &[T],
        gradients: [Option<&mut [T]>; 3],
        scratch: &mut [Vec<T>; 2],
    ) -> Result<()> {
        if self.keys == 0 {
            return Ok(());
        }
        let columns = self.columns();
        let grad = Rows { data: grad, stride: self.width, at: 0 };
        let [mut dq, mut dk, mut dv] = gradients;
        let [weights, slopes] = scratch;
        let one = Threads::One;
        for head in 0..self.heads {
            let (k, v) = (k.head(0, self.keys, head, columns)?, v.head(0, self.keys, head, columns)?);
            for (first, rows) in self.tiles() {
                let q = q.head(first, rows, head, columns)?;
                let grad = grad.head(first, rows, head, columns)?;
                let write = if first == 0 { Write::Replace } else { Write::Add };
                self.weigh(example, (first, rows), q, k, weights)?;
                if let Some(dv) = &mut dv {
                    let weights = Matrix::new(weights, rows, self.keys, self.keys)?;
                    multiply(&mut dv[head * columns..], self.width, T::one(), weights.t(), grad, write, one)?;
                }
                if dq.is_none() && dk.is_none() {
                    continue;
                }
                multiply(slopes, self.keys, T::one(), grad, v.t(), Write::Replace, one)?;
                self.through_softmax(rows, weights, slopes);
                let slopes = Matrix::new(slopes, rows, self.keys, self.keys)?;
                if let Some(dq) = &mut dq {
                    multiply(
                        &mut dq[first * self.width + head * columns..],
                        self.width,
                        T::one(),
                        slopes,
                        k,
                        Write::Replace,
                        one,
                    )?;
                }
                if let Some(dk) = &mut dk {
                    multiply(&mut dk[head * columns..], self.width, T::one(), slopes.t(), q, write, one)?;
                }
            }
        }
        Ok(())
    }

    fn through_softmax<T: Real>(&self, rows: usize, weights: &[T], slopes: &mut [T]) {
        let (keys, scale) = (self.keys.max(1), self.scale::<T>());
        vectorised(
            #[inline(always)]
            || {
                for (p, slope) in weights.chunks_exact(keys).zip(slopes.chunks_exact_mut(keys)).take(rows) {
                    let along = sum_pairs(p, slope, |p, slope| p * slope);
                    for (slope, &p) in slope.iter_mut().zip(p) {
                        *slope = p * (*slope - along) * scale;
                    }
                }
            },
        );
    }

    fn scratch<T: Real>(&self) -> [Vec<T>; 2] {
        [vec![T::zero(); self.tile_length()], vec![T::zero(); self.tile_length()]]
    }
}

/// The rows of one example in a dense (B, rows, stride) tensor.
fn rows_of<T>(data: &[T], example: usize, rows: usize, stride: usize, at: usize) -> Rows<'_, T> {
    Rows { data: &data[example * rows * stride..(example + 1) * rows * stride], stride, at }
}

/// Cuts a gradient into its examples, or into as many absences.
fn examples<T: Real>(gradient: &mut Option<Vec<T>>, length: usize, batch: usize) -> Vec<Option<&mut [T]>> {
    match gradient {
        Some(gradient) if length > 0 => gradient.chunks_exact_mut(length).map(Some).collect(),
        _ => (0..batch).map(|_| None).collect(),
    }
}

impl Operation<1> for Heads {
    fn name(&self) -> &'static str {
        "self-attention"
    }

    fn forward<T: Real>(&self, [qkv]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let (qkv, stride) = (qkv.dense()?, 3 * self.width);
        self.attend(|example| {
            [0, 1, 2].map(|part| rows_of(qkv, example, self.keys, stride, part * self.width))
        })
    }

    fn backward<T: Real>(
        &self,
        _: [bool; 1],
        [qkv]: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
    ) -> Result<[Option<Vec<T>>; 1]> {
        self.count_backward([true; 3]);
        let (qkv, stride) = (qkv.dense()?, 3 * self.width);
        let mut gradient = vec![T::zero(); qkv.len()];
        let length = self.queries * self.width;
        let examples =
            gradient.par_chunks_exact_mut((3 * length).max(1)).zip(grad.par_chunks_exact(length.max(1)));
        examples.enumerate().try_for_each_init(
            || (self.scratch(), vec![T::zero(); 3 * length]),
            |(scratch, separate), (example, (gradient, grad))| -> Result<()> {
                let operands =
                    [0, 1, 2].map(|part| rows_of(qkv, example, self.keys, stride, part * self.width));
                // Three borrowed parts cannot interleave; each is computed apart and then laid beside the others.
                let (dq, rest) = separate.split_at_mut(length);
                let (dk, dv) = rest.split_at_mut(length);
                let parts = [dq, dk, dv].map(Some);
                self.differentiate(example, operands, grad, parts, scratch)?;
                for (part, separate) in separate.chunks_exact(length.max(1)).enumerate() {
                    let rows = gradient.chunks_exact_mut(stride).zip(separate.chunks_exact(self.width));
                    rows.for_each(|(row, part_row)| {
                        row[part * self.width..(part + 1) * self.width].copy_from_slice(part_row);
                    });
                }
                Ok(())
            },
        )?;
        Ok([Some(gradient)])
    }
}

impl Operation<2> for Heads {
    fn name(&self) -> &'static str {
        "cross-attention"
    }

    fn forward<T: Real>(&self, [q, kv]: [Operand<'_, T>; 2]) -> Result<(Vec<T>, Shape)> {
        let (q, kv, width) = (q.dense()?, kv.dense()?, self.width);
        self.attend(|example| {
            let [k, v] = [0, width].map(|at| rows_of(kv, example, self.keys, 2 * width, at));
            [rows_of(q, example, self.queries, width, 0), k, v]
        })
    }

    fn backward<T: Real>(
        &self,
        [want_q, want_kv]: [bool; 2],
        [q, kv]: [Operand<'_, T>; 2],
        _: &[T],
        grad: &[T],
    ) -> Result<[Option<Vec<T>>; 2]> {
        self.count_backward([want_q, want_kv, want_kv]);
        let (q, kv, width) = (q.dense()?, kv.dense()?, self.width);
        let (of_q, of_k) = (self.queries * width, self.keys * width);
        let mut dq = want_q.then(|| vec![T::zero(); q.len()]);
        let mut dkv = want_kv.then(|| vec![T::zero(); kv.len()]);
        let targets = examples(&mut dq, of_q, self.batch).into_par_iter();
        let targets = targets.zip(examples(&mut dkv, 2 * of_k, self.batch));
        targets.zip(grad.par_chunks_exact(of_q.max(1))).enumerate().try_for_each_init(
            || (self.scratch(), vec![T::zero(); if want_kv { 2 * of_k } else { 0 }]),
            |(scratch, separate), (example, ((dq, dkv), grad))| -> Result<()> {
                let [k, v] = [0, width].map(|at| rows_of(kv, example, self.keys, 2 * width, at));
                let operands = [rows_of(q, example, self.queries, width, 0), k, v];
                let (dk, dv) = separate.split_at_mut(if want_kv { of_k } else { 0 });
                let [dk, dv] = [dk, dv].map(|data| want_kv.then_some(data));
                self.differentiate(example, operands, grad, [dq, dk, dv], scratch)?;
                let Some(dkv) = dkv else { return Ok(()) };
                for (part, separate) in separate.chunks_exact(of_k.max(1)).enumerate() {
                    let rows = dkv.chunks_exact_mut(2 * width).zip(separate.chunks_exact(width));
                    rows.for_each(|(row, part_row)| {
                        row[part * width..(part + 1) * width].copy_from_slice(part_row)
                    });
                }
                Ok(())
            },
        )?;
        Ok([dq, dkv])
    }
}

impl Operation<3> for Heads {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward<T: Real>(&self, [q, k, v]: [Operand<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        let (q, k, v, width) = (q.dense()?, k.dense()?, v.dense()?, self.width);
        self.attend(|example| {
            let [k, v] = [k, v].map(|data| rows_of(data, example, self.keys, width, 0));
            [rows_of(q, example, self.queries, width, 0), k, v]
        })
    }

    fn backward<T: Real>(
        &self,
        [want_q, want_k, want_v]: [bool; 3],
        [q, k, v]: [Operand<'_, T>; 3],
        _: &[T],
        grad: &[T],
    ) -> Result<[Option<Vec<T>>; 3]> {
        self.count_backward([want_q, want_k, want_v]);
        let (q, k, v, width) = (q.dense()?, k.dense()?, v.dense()?, self.width);
        let (of_q, of_k) = (self.queries * width, self.keys * width);
        let mut dq = want_q.then(|| vec![T::zero(); q.len()]);
        let mut dk = want_k.then(|| vec![T::zero(); k.len()]);
        let mut dv = want_v.then(|| vec![T::zero(); v.len()]);
        let targets = examples(&mut dq, of_q, self.batch).into_par_iter();
        let targets =
            targets.zip(examples(&mut dk, of_k, self.batch)).zip(examples(&mut dv, of_k, self.batch));
        targets.zip(grad.par_chunks_exact(of_q.max(1))).enumerate().try_for_each_init(
            || self.scratch(),
            |scratch, (example, (((dq, dk), dv), grad))| -> Result<()> {
                let [k, v] = [k, v].map(|data| rows_of(data, example, self.keys, width, 0));
                let operands = [rows_of(q, example, self.queries, width, 0), k, v];
                self.differentiate(example, operands, grad, [dq, dk, dv], scratch)
            },
        )?;
        Ok([dq, dk, dv])
    }
}
