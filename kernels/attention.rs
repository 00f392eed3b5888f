//! Multi-head scaled dot-product attention: Vaswani et al., arXiv:1706.03762, section 3.2.
//!
//! `o_i = sum_j p_ij v_j` with `p_i = softmax_j(q_i k_j / sqrt(d) + mask_ij)` in each head of d = D/H columns. Examples
//! run in parallel; the scores of a tile of queries live in cache and are computed again in the backward pass, as in
//! FlashAttention (arXiv:2205.14135), so that memory grows with T and not with its square. Heads are read and written
//! in place as strided columns; nothing is permuted.

use candle_core::{Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::mask::{Mask, Visible};
use super::operation::{Operand, Operation, Slot, apply1, apply2, apply3};
use super::product::{Matrix, Threads, Write, count, multiply};
use super::real::Real;
use super::rows::scratch;
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

/// Where queries, keys or values lie: in which operand, how far apart its rows are and at which column they begin.
#[derive(Clone, Copy)]
struct Place {
    operand: usize,
    stride: usize,
    column: usize,
}

impl Place {
    /// The beginning of a row of one head.
    fn at(self, row: usize, head: usize, columns: usize) -> usize {
        row * self.stride + self.column + head * columns
    }

    fn head<'a, T: Real>(
        self,
        data: &[&'a [T]],
        (first, rows): (usize, usize),
        head: usize,
        columns: usize,
    ) -> Result<Matrix<'a, T>> {
        let data = data[self.operand].get(self.at(first, head, columns)..).unwrap_or_default();
        Matrix::new(data, rows, columns, self.stride)
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

    /// The places of q, k and v in one packed operand, in q and a packed kv, or in three.
    fn places<const N: usize>(&self) -> [Place; 3] {
        let place =
            |operand, parts, part| Place { operand, stride: parts * self.width, column: part * self.width };
        match N {
            1 => [place(0, 3, 0), place(0, 3, 1), place(0, 3, 2)],
            2 => [place(0, 1, 0), place(1, 2, 0), place(1, 2, 1)],
            _ => [place(0, 1, 0), place(1, 1, 0), place(2, 1, 0)],
        }
    }

    /// Elements of one example in each operand.
    fn lengths<const N: usize>(&self) -> [usize; N] {
        let mut lengths = [0; N];
        for (place, rows) in self.places::<N>().into_iter().zip([self.queries, self.keys, self.keys]) {
            lengths[place.operand] = rows * place.stride;
        }
        lengths
    }

    /// Rows of queries in one tile, and the tiles' beginnings.
    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = (TILE / self.keys.max(1)).clamp(1, self.queries.max(1));
        (0..self.queries).step_by(rows).map(move |first| (first, rows.min(self.queries - first)))
    }

    fn tile_length(&self) -> usize {
        self.tiles().next().map_or(0, |(_, rows)| rows * self.keys)
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

    /// The outcome of one example, (Tq, D).
    fn attend<const N: usize, T: Real>(
        &self,
        example: usize,
        data: [&[T]; N],
        out: &mut [T],
        weights: &mut [T],
    ) -> Result<()> {
        let (columns, [of_q, of_k, of_v]) = (self.columns(), self.places::<N>());
        for head in 0..self.heads {
            let k = of_k.head(&data, (0, self.keys), head, columns)?;
            let v = of_v.head(&data, (0, self.keys), head, columns)?;
            for (first, rows) in self.tiles() {
                let q = of_q.head(&data, (first, rows), head, columns)?;
                self.weigh(example, (first, rows), q, k, weights)?;
                let weights = Matrix::new(weights, rows, self.keys, self.keys)?;
                let out = &mut out[first * self.width + head * columns..];
                multiply(out, self.width, T::one(), weights, v, Write::Replace, Threads::One)?;
            }
        }
        Ok(())
    }

    /// The gradients of one example: with dP = do v' and D_i = sum_j p_ij dP_ij, dS = p (dP - D), dq = dS k,
    /// dk = dS' q, dv = p' do.
    fn differentiate<const N: usize, T: Real>(
        &self,
        example: usize,
        data: [&[T]; N],
        grad: &[T],
        mut into: [Option<Slot<'_, T>>; N],
        [weights, slopes]: &mut [Vec<T>; 2],
    ) -> Result<()> {
        let (columns, places) = (self.columns(), self.places::<N>());
        let [of_q, of_k, of_v] = places;
        let of_grad = Place { operand: 0, stride: self.width, column: 0 };
        let one = Threads::One;
        let wanted = places.map(|place| into[place.operand].is_some());
        for head in 0..self.heads {
            let k = of_k.head(&data, (0, self.keys), head, columns)?;
            let v = of_v.head(&data, (0, self.keys), head, columns)?;
            for (first, rows) in self.tiles() {
                let q = of_q.head(&data, (first, rows), head, columns)?;
                let grad = of_grad.head(&[grad], (first, rows), head, columns)?;
                self.weigh(example, (first, rows), q, k, weights)?;
                // Tiles share keys and values, so later ones add to what the first wrote.
                let mut write = |place: Place, row, scale, a, b| match &mut into[place.operand] {
                    None => Ok(()),
                    Some(slot) => {
                        let write = if row == first { slot.write } else { Write::Add };
                        let target = &mut slot.data[place.at(row, head, columns)..];
                        multiply(target, place.stride, scale, a, b, write, one)
                    }
                };
                let p = Matrix::new(weights, rows, self.keys, self.keys)?;
                write(of_v, 0, T::one(), p.t(), grad)?;
                if !wanted[0] && !wanted[1] {
                    continue;
                }
                multiply(slopes, self.keys, T::one(), grad, v.t(), Write::Replace, one)?;
                self.through_softmax(rows, weights, slopes);
                let slopes = Matrix::new(slopes, rows, self.keys, self.keys)?;
                write(of_q, first, self.scale(), slopes, k)?;
                write(of_k, 0, self.scale(), slopes.t(), q)?;
            }
        }
        Ok(())
    }

    /// dS from p and dP, in place of dP.
    fn through_softmax<T: Real>(&self, rows: usize, weights: &[T], slopes: &mut [T]) {
        let keys = self.keys.max(1);
        vectorised(
            #[inline(always)]
            || {
                for (p, slope) in weights.chunks_exact(keys).zip(slopes.chunks_exact_mut(keys)).take(rows) {
                    let along = sum_pairs(p, slope, |p, slope| p * slope);
                    for (slope, &p) in slope.iter_mut().zip(p) {
                        *slope = p * (*slope - along);
                    }
                }
            },
        );
    }

    /// Counts so many products of the size of the scores.
    fn count(&self, products: usize) {
        count(products * self.batch, [self.queries, self.keys, self.width]);
    }
}

/// The elements of each operand that belong to an example.
fn example<const N: usize, T>(data: [&[T]; N], lengths: [usize; N], index: usize) -> [&[T]; N] {
    let mut own = data;
    for (own, length) in own.iter_mut().zip(lengths) {
        *own = &own[index * length..(index + 1) * length];
    }
    own
}

impl<const N: usize> Operation<N> for Heads {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward<T: Real>(&self, inputs: [Operand<'_, T>; N]) -> Result<(Vec<T>, Shape)> {
        let (data, lengths) = (dense(inputs)?, self.lengths());
        let mut out = scratch(self.batch * self.queries * self.width);
        self.count(2);
        let length = (self.queries * self.width).max(1);
        out.par_chunks_mut(length).enumerate().try_for_each_init(
            || scratch(self.tile_length()),
            |weights, (index, out)| self.attend(index, example(data, lengths, index), out, weights),
        )?;
        Ok((out, (self.batch, self.queries, self.width).into()))
    }

    fn backward<T: Real>(
        &self,
        inputs: [Operand<'_, T>; N],
        _: &[T],
        grad: &[T],
        into: [Option<Slot<'_, T>>; N],
    ) -> Result<()> {
        let (data, lengths) = (dense(inputs)?, self.lengths());
        let wanted = self.places::<N>().map(|place| into[place.operand].is_some());
        let slopes = usize::from(wanted[0] || wanted[1]);
        self.count(1 + slopes + wanted.into_iter().filter(|&wanted| wanted).count());
        if self.queries == 0 || self.keys == 0 {
            for slot in into.into_iter().flatten().filter(|slot| !slot.adds()) {
                slot.data.fill(T::zero());
            }
            return Ok(());
        }
        let mut targets: Vec<[Option<Slot<'_, T>>; N]> = Vec::new();
        targets.resize_with(self.batch, || [const { None }; N]);
        for (operand, slot) in into.into_iter().enumerate() {
            let Some(Slot { data, write }) = slot else { continue };
            for (target, data) in targets.iter_mut().zip(data.chunks_exact_mut(lengths[operand])) {
                target[operand] = Some(Slot { data, write });
            }
        }
        let grads = grad.par_chunks_exact(self.queries * self.width);
        targets.into_par_iter().zip(grads).enumerate().try_for_each_init(
            || [scratch(self.tile_length()), scratch(self.tile_length())],
            |scratch, (index, (into, grad))| {
                self.differentiate(index, example(data, lengths, index), grad, into, scratch)
            },
        )
    }
}

fn dense<'a, const N: usize, T: Real>(inputs: [Operand<'a, T>; N]) -> Result<[&'a [T]; N]> {
    let mut data: [&[T]; N] = [&[]; N];
    for (data, input) in data.iter_mut().zip(inputs) {
        *data = input.dense()?;
    }
    Ok(data)
}
