//! Multi-head scaled dot-product attention: Vaswani et al., arXiv:1706.03762, section 3.2.
//!
//! `o_i = sum_j p_ij v_j` with `p_i = softmax_j(q_i k_j / sqrt(d) + mask_ij)` in each head of d = D/H columns. Examples
//! run in parallel; the scores of a tile of queries live in cache and are computed again in the backward pass, as in
//! FlashAttention (arXiv:2205.14135), so that memory grows with T and not with its square. Heads are read and written
//! in place as strided columns; nothing is permuted.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{D, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::bias::{Bias, Places};
use super::cuda::Body;
use super::mask::{Mask, Visible};
use super::operation::{Operand, Operation, Slot, apply1, apply2, apply3};
use super::product::{Matrix, Threads, Write, count, multiply};
use super::real::Real;
use super::rows::{for_pieces, scratch};
use super::simd::{sum_pairs, vectorised};
use super::softmax::softmax_row;
use super::spans::cut;
use super::{Dropout, Spans};

#[path = "cuda/attention.rs"]
mod on_gpu;

/// Scores held at once for one head; a tile is as many whole rows of queries as fit.
const TILE: usize = 1 << 16;

/// Sums of the gradient of a bias that are computed at once. They are added in order, so their number must not depend on
/// that of the threads.
const SUMS: usize = 16;

/// Attention of `heads` heads: q (B,Tq,D), k and v (B,Tk,D), result (B,Tq,D); scores are divided by sqrt(D/heads).
///
/// A query that sees no key yields zeros and zero gradients. With `dropout` weights are dropped after the softmax. With
/// [`Mask::Spans`] the operands have any leading dimensions, and the result those of q.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    mask: &Mask,
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    if k.dims() != v.dims() {
        bail!("attention: k {:?}, v {:?}", k.shape(), v.shape());
    }
    let heads = Heads::new((q, 1), (k, 1), heads, mask, dropout)?;
    apply3(heads, &q.contiguous()?, &k.contiguous()?, &v.contiguous()?)
}

/// [`attention`] on one packed tensor (B,T,3D) = [q|k|v]; result (B,T,D).
pub fn self_attention(qkv: &Tensor, heads: usize, mask: &Mask, dropout: Option<Dropout>) -> Result<Tensor> {
    apply1(Heads::new((qkv, 3), (qkv, 3), heads, mask, dropout)?, &qkv.contiguous()?)
}

/// [`attention`] of q (B,Tq,D) over a packed kv (B,Tk,2D) = [k|v]; result (B,Tq,D).
pub fn cross_attention(
    q: &Tensor,
    kv: &Tensor,
    heads: usize,
    mask: &Mask,
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    apply2(Heads::new((q, 1), (kv, 2), heads, mask, dropout)?, &q.contiguous()?, &kv.contiguous()?)
}

/// [`self_attention`] with a bias for each pair of places.
pub fn biased_self_attention(
    qkv: &Tensor,
    bias: Bias,
    heads: usize,
    mask: &Mask,
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    let heads = Heads::new((qkv, 3), (qkv, 3), heads, mask, dropout)?.biased(bias, [qkv, qkv])?;
    apply2(heads, &qkv.contiguous()?, &bias.scores.contiguous()?)
}

/// [`cross_attention`] with a bias for each pair of places.
pub fn biased_cross_attention(
    q: &Tensor,
    kv: &Tensor,
    bias: Bias,
    heads: usize,
    mask: &Mask,
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    let heads = Heads::new((q, 1), (kv, 2), heads, mask, dropout)?.biased(bias, [q, kv])?;
    apply3(heads, &q.contiguous()?, &kv.contiguous()?, &bias.scores.contiguous()?)
}

struct Heads {
    /// The rows of q, k and v that belong to each example.
    queries: Spans,
    keys: Spans,
    width: usize,
    heads: usize,
    visible: Visible,
    /// Of the bias, which is the last operand if there is one.
    bias: Option<Places>,
    dropout: Option<Dropout>,
    /// Of the result.
    dims: Vec<usize>,
    /// What a GPU keeps for the backward pass.
    saved: OnceLock<on_gpu::Shared>,
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

/// Where the gradients of the operands go.
type Targets<'a, T, const N: usize> = [Option<Slot<'a, T>>; N];

impl Heads {
    /// For q and keys that lie in operands of so many parts.
    fn new(
        (q, parts): (&Tensor, usize),
        (kv, kv_parts): (&Tensor, usize),
        heads: usize,
        mask: &Mask,
        dropout: Option<Dropout>,
    ) -> Result<Self> {
        dropout.iter().try_for_each(Dropout::check)?;
        let (shape, width) = (q.shape(), q.dim(D::Minus1)? / parts);
        if q.dim(D::Minus1)? != parts * width || kv.dim(D::Minus1)? != kv_parts * width {
            bail!("attention: q {shape:?} in {parts} parts, keys {:?} in {kv_parts}", kv.shape());
        }
        if heads == 0 || !width.is_multiple_of(heads) || width == 0 {
            bail!("attention: width {width} does not divide into {heads} heads");
        }
        let mut dims = q.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = width;
        }
        let (queries, keys) = match mask {
            Mask::Spans { queries, keys, .. } => (queries.clone(), keys.clone()),
            _ => {
                let ((batch, length, _), (others, keys, _)) = (q.dims3()?, kv.dims3()?);
                if batch != others {
                    bail!("attention: q {shape:?}, keys {:?}", kv.shape());
                }
                (Spans::even(batch, length), Spans::even(batch, keys))
            }
        };
        if queries.ranges().len() != keys.ranges().len() || !queries.fill(rows(q)) {
            bail!("attention: the sequences of a mask are not those of q {shape:?}");
        }
        if parts == 3 && queries != keys {
            bail!("self_attention: a mask whose queries and keys differ");
        }
        keys.groups(rows(kv))?;
        let visible = mask.visible(queries.ranges().len(), queries.longest(), keys.longest())?;
        let saved = OnceLock::new();
        Ok(Self { queries, keys, width, heads, visible, bias: None, dropout, dims, saved })
    }

    /// With a bias, for operands of so many rows.
    fn biased(self, bias: Bias, operands: [&Tensor; 2]) -> Result<Self> {
        let places = Places::new(bias, self.heads, &self.keys, operands.map(rows))?;
        Ok(Self { bias: Some(places), ..self })
    }

    fn columns(&self) -> usize {
        self.width / self.heads
    }

    fn scale<T: Real>(&self) -> T {
        T::from_f64(1.0 / (self.columns() as f64).sqrt())
    }

    /// Queries and keys of an example.
    fn size(&self, example: usize) -> (usize, usize) {
        (self.queries.ranges()[example].len(), self.keys.ranges()[example].len())
    }

    /// How many operands hold q, k and v.
    fn operands<const N: usize>(&self) -> usize {
        N - usize::from(self.bias.is_some())
    }

    /// The places of q, k and v in one packed operand, in q and a packed kv, or in three.
    fn places<const N: usize>(&self) -> [Place; 3] {
        let place =
            |operand, parts, part| Place { operand, stride: parts * self.width, column: part * self.width };
        match self.operands::<N>() {
            1 => [place(0, 3, 0), place(0, 3, 1), place(0, 3, 2)],
            2 => [place(0, 1, 0), place(1, 2, 0), place(1, 2, 1)],
            _ => [place(0, 1, 0), place(1, 1, 0), place(2, 1, 0)],
        }
    }

    /// The elements of each operand that belong to an example.
    fn own<'a, const N: usize, T>(&self, data: [&'a [T]; N], example: usize) -> [&'a [T]; N] {
        let mut own = data;
        let spans = [&self.queries, &self.keys, &self.keys];
        for (place, spans) in self.places::<N>().into_iter().zip(spans) {
            let rows = &spans.ranges()[example];
            own[place.operand] = &data[place.operand][rows.start * place.stride..rows.end * place.stride];
        }
        own
    }

    /// Rows of queries in one tile of an example, and the tiles' beginnings.
    fn tiles((queries, keys): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
        let rows = (TILE / keys.max(1)).clamp(1, queries.max(1));
        (0..queries).step_by(rows).map(move |first| (first, rows.min(queries - first)))
    }

    /// Room for the scores of any tile.
    fn tile<T: Real>(&self) -> Vec<T> {
        let sizes = (0..self.queries.ranges().len()).map(|example| self.size(example));
        let lengths = sizes.map(|size| Self::tiles(size).next().map_or(0, |(_, rows)| rows * size.1));
        scratch(lengths.max().unwrap_or(0))
    }

    /// `softmax(q k' / sqrt(d) + bias + mask)` for a tile of queries of one head, into `weights` (rows, Tk).
    fn weigh<T: Real>(
        &self,
        example: usize,
        (first, rows): (usize, usize),
        [q, k]: [Matrix<'_, T>; 2],
        bias: &[T],
        weights: &mut [T],
    ) -> Result<()> {
        let (queries, keys) = self.size(example);
        multiply(weights, keys, self.scale(), q, k.t(), Write::Replace, Threads::One)?;
        let none = T::from_f64(f64::NEG_INFINITY);
        let start = self.queries.ranges()[example].start + first;
        vectorised(
            #[inline(always)]
            || {
                for (row, weights) in weights.chunks_exact_mut(keys.max(1)).take(rows).enumerate() {
                    if let Some(places) = &self.bias {
                        places.add(example, start + row, bias, weights);
                    }
                    self.visible.add(example, (first + row, queries), weights, none);
                    softmax_row(weights);
                }
            },
        );
        Ok(())
    }

    /// The bias of one head among the operands.
    fn bias_of<'a, const N: usize, T>(&self, data: &[&'a [T]; N], head: usize) -> &'a [T] {
        self.bias.as_ref().map_or(&[], |places| &data[N - 1][head * places.size()..][..places.size()])
    }

    /// Drops what is dropped of the rows of weights, or of their gradients, of a tile of queries of one head. Each row has
    /// words of its own, whose number does not depend on the tiles.
    fn drop<T: Real>(&self, example: usize, first: usize, head: usize, rows: &mut [T]) {
        let Some(dropout) = self.dropout else { return };
        let (keys, stride) = (self.size(example).1, self.keys.longest().next_multiple_of(4));
        let first = self.queries.ranges()[example].start + first;
        for (row, weights) in rows.chunks_exact_mut(keys.max(1)).enumerate() {
            dropout.mask(((first + row) * self.heads + head) * stride, weights);
        }
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
        let (queries, keys) = self.size(example);
        if keys == 0 {
            out.fill(T::zero());
            return Ok(());
        }
        for head in 0..self.heads {
            let k = of_k.head(&data, (0, keys), head, columns)?;
            let v = of_v.head(&data, (0, keys), head, columns)?;
            for (first, rows) in Self::tiles((queries, keys)) {
                let q = of_q.head(&data, (first, rows), head, columns)?;
                self.weigh(example, (first, rows), [q, k], self.bias_of(&data, head), weights)?;
                self.drop(example, first, head, &mut weights[..rows * keys]);
                let weights = Matrix::new(weights, rows, keys, keys)?;
                let out = &mut out[first * self.width + head * columns..];
                multiply(out, self.width, T::one(), weights, v, Write::Replace, Threads::One)?;
            }
        }
        Ok(())
    }

    /// The gradients of one example: with dP = do v' and D_i = sum_j p_ij dP_ij, dS = p (dP - D), dq = dS k,
    /// dk = dS' q, dv = p' do. Dropout stands between p and v: it acts on the p of dv and on dP. dS is also what the
    /// bias of each pair receives, added to `sums` (H,P,P') if it is wanted.
    fn differentiate<const N: usize, T: Real>(
        &self,
        example: usize,
        data: [&[T]; N],
        grad: &[T],
        into: &mut Targets<'_, T, N>,
        mut sums: Option<&mut [T]>,
        [weights, slopes]: [&mut [T]; 2],
    ) -> Result<()> {
        let (columns, places) = (self.columns(), self.places::<N>());
        let (queries, keys) = self.size(example);
        let [of_q, of_k, of_v] = places;
        let of_grad = Place { operand: 0, stride: self.width, column: 0 };
        let wanted = places.map(|place| into[place.operand].is_some());
        for head in 0..self.heads {
            let k = of_k.head(&data, (0, keys), head, columns)?;
            let v = of_v.head(&data, (0, keys), head, columns)?;
            for (first, rows) in Self::tiles((queries, keys)) {
                let q = of_q.head(&data, (first, rows), head, columns)?;
                let grad = of_grad.head(&[grad], (first, rows), head, columns)?;
                self.weigh(example, (first, rows), [q, k], self.bias_of(&data, head), weights)?;
                // Tiles share keys and values, so later ones add to what the first wrote.
                let mut write =
                    |place: Place, row: usize, scale, a: Matrix<'_, T>, b: Matrix<'_, T>| match &mut into
                        [place.operand]
                    {
                        None => Ok(()),
                        Some(slot) => {
                            let write = if row == first { slot.write } else { Write::Add };
                            let target = &mut slot.data[place.at(row, head, columns)..];
                            multiply(target, place.stride, scale, a, b, write, Threads::One)
                        }
                    };
                let (weights, slopes) = (&mut weights[..rows * keys], &mut slopes[..rows * keys]);
                let mut dropped = &*weights;
                if self.dropout.is_some() {
                    // The slopes' place serves the dropped weights first.
                    slopes.copy_from_slice(weights);
                    self.drop(example, first, head, slopes);
                    dropped = &*slopes;
                }
                write(of_v, 0, T::one(), Matrix::new(dropped, rows, keys, keys)?.t(), grad)?;
                if !wanted[0] && !wanted[1] && sums.is_none() {
                    continue;
                }
                multiply(slopes, keys, T::one(), grad, v.t(), Write::Replace, Threads::One)?;
                self.drop(example, first, head, slopes);
                through_softmax(keys, weights, slopes);
                if let (Some(places), Some(sums)) = (&self.bias, &mut sums) {
                    let sums = &mut sums[head * places.size()..][..places.size()];
                    let start = self.queries.ranges()[example].start + first;
                    vectorised(
                        #[inline(always)]
                        || {
                            for (row, slopes) in slopes.chunks_exact(keys).enumerate() {
                                places.gather(example, start + row, slopes, sums);
                            }
                        },
                    );
                }
                let slopes = Matrix::new(slopes, rows, keys, keys)?;
                write(of_q, first, self.scale(), slopes, k)?;
                write(of_k, 0, self.scale(), slopes.t(), q)?;
            }
        }
        Ok(())
    }

    /// Counts so many products of the size of the scores.
    fn count(&self, products: usize) {
        for example in 0..self.queries.ranges().len() {
            let (queries, keys) = self.size(example);
            count(products, [queries, keys, self.width]);
        }
    }

    /// The slots of every example, those that see the same keys together: the first of them writes the gradient of the
    /// keys, the others add to it.
    fn targets<'a, const N: usize, T: Real>(&self, into: Targets<'a, T, N>) -> Result<Vec<Group<'a, T, N>>> {
        let rows = self.keys.ranges().iter().map(|range| range.end).max().unwrap_or(0);
        let mut groups: Vec<_> = self.keys.groups(rows)?.into_iter().map(Group::new).collect();
        for ((operand, slot), parts) in into.into_iter().enumerate().zip(self.parts::<N>()) {
            let Some(Slot { data, write }) = slot else { continue };
            let clear = |gap: &mut [T]| {
                if write == Write::Replace {
                    gap.fill(T::zero());
                }
            };
            let width = parts * self.width;
            if operand > 0 || self.operands::<N>() == 1 {
                let ranges = groups.iter().map(|group| group.keys.clone()).collect::<Vec<_>>();
                for (group, data) in groups.iter_mut().zip(cut(data, width, ranges.into_iter(), clear)) {
                    group.into[operand] = Some(Slot { data, write });
                }
            } else {
                let mut pieces: Vec<_> = cut(data, width, self.queries.ranges().iter().cloned(), clear)
                    .into_iter()
                    .map(Some)
                    .collect();
                for group in &mut groups {
                    for (example, slot) in &mut group.members {
                        *slot = pieces[*example].take().map(|data| Slot { data, write });
                    }
                }
            }
        }
        Ok(groups)
    }

    /// Into how many parts the rows of each operand fall.
    fn parts<const N: usize>(&self) -> [usize; N] {
        let mut parts = [0; N];
        for place in self.places::<N>() {
            parts[place.operand] = place.stride / self.width;
        }
        parts
    }
}

/// Examples that see the same keys.
struct Group<'a, T, const N: usize> {
    keys: Range<usize>,
    /// Each with the gradient of its queries, where those are an operand of their own.
    members: Vec<(usize, Option<Slot<'a, T>>)>,
    /// The gradients of the other operands.
    into: Targets<'a, T, N>,
}

impl<T, const N: usize> Group<'_, T, N> {
    fn new((keys, members): (Range<usize>, Vec<usize>)) -> Self {
        let members = members.into_iter().map(|example| (example, None)).collect();
        Self { keys, members, into: [const { None }; N] }
    }
}

/// dS from p and dP, in place of dP.
fn through_softmax<T: Real>(keys: usize, weights: &[T], slopes: &mut [T]) {
    vectorised(
        #[inline(always)]
        || {
            for (p, slope) in weights.chunks_exact(keys).zip(slopes.chunks_exact_mut(keys)) {
                let along = sum_pairs(p, slope, |p, slope| p * slope);
                for (slope, &p) in slope.iter_mut().zip(p) {
                    *slope = p * (*slope - along);
                }
            }
        },
    );
}

impl Heads {
    /// The gradients of examples that see the same keys.
    fn differentiate_group<const N: usize, T: Real>(
        &self,
        Group { members, mut into, .. }: Group<'_, T, N>,
        data: [&[T]; N],
        grad: &[T],
        mut sums: Option<&mut [T]>,
        scratch: &mut [Vec<T>; 2],
    ) -> Result<()> {
        for (example, queries) in members {
            let (rows, keys) = self.size(example);
            if self.operands::<N>() > 1 {
                into[0] = queries;
            }
            if rows == 0 || keys == 0 {
                let unwritten = into.iter_mut().flatten().filter(|slot| !slot.adds());
                unwritten.for_each(|slot| slot.data.fill(T::zero()));
            } else {
                let own = self.own(data, example);
                let range = &self.queries.ranges()[example];
                let grad = &grad[range.start * self.width..range.end * self.width];
                let scratch = scratch.each_mut().map(Vec::as_mut_slice);
                self.differentiate(example, own, grad, &mut into, sums.as_deref_mut(), scratch)?;
            }
            into.iter_mut().skip(1).flatten().for_each(|slot| slot.write = Write::Add);
        }
        Ok(())
    }

    /// The gradients of all groups, and what they add up to for the bias.
    fn differentiate_with_bias<const N: usize, T: Real>(
        &self,
        groups: Vec<Group<'_, T, N>>,
        data: [&[T]; N],
        grad: &[T],
        Slot { data: total, write }: Slot<'_, T>,
    ) -> Result<()> {
        let size = groups.len().div_ceil(SUMS).max(1);
        let mut groups = groups.into_iter();
        let parts = (0..groups.len().div_ceil(size)).map(|_| groups.by_ref().take(size).collect());
        let parts: Vec<Vec<_>> = parts.collect();
        let sums = parts.into_par_iter().map(|groups| {
            let (mut sums, mut scratch) = (vec![T::zero(); total.len()], [self.tile(), self.tile()]);
            for group in groups {
                self.differentiate_group(group, data, grad, Some(&mut sums), &mut scratch)?;
            }
            Ok(sums)
        });
        let sums = sums.collect::<Result<Vec<_>>>()?;
        for_pieces(total, 1, |first, total| {
            if write == Write::Replace {
                total.fill(T::zero());
            }
            for sums in &sums {
                total.iter_mut().zip(&sums[first..]).for_each(|(total, &sum)| *total += sum);
            }
        });
        Ok(())
    }
}

impl<const N: usize> Operation<N> for Heads {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cuda(&self) -> Option<&dyn Body<N>> {
        Some(self)
    }

    fn forward<T: Real>(&self, inputs: [Operand<'_, T>; N]) -> Result<(Vec<T>, Shape)> {
        let data = dense(inputs)?;
        let mut out = scratch(self.dims.iter().product());
        self.count(2);
        let pieces = cut(&mut out, self.width, self.queries.ranges().iter().cloned(), |_| ());
        pieces.into_par_iter().enumerate().try_for_each_init(
            || self.tile(),
            |weights, (example, out)| self.attend(example, self.own(data, example), out, weights),
        )?;
        Ok((out, self.dims.clone().into()))
    }

    fn backward<T: Real>(
        &self,
        inputs: [Operand<'_, T>; N],
        _: &[T],
        grad: &[T],
        into: [Option<Slot<'_, T>>; N],
    ) -> Result<()> {
        let (data, mut into) = (dense(inputs)?, into);
        let bias = if self.bias.is_some() { into[N - 1].take() } else { None };
        let wanted = self.places::<N>().map(|place| into[place.operand].is_some());
        let slopes = usize::from(wanted[0] || wanted[1] || bias.is_some());
        self.count(1 + slopes + wanted.into_iter().filter(|&wanted| wanted).count());
        let groups = self.targets(into)?;
        match bias {
            Some(bias) => self.differentiate_with_bias(groups, data, grad, bias),
            None => groups.into_par_iter().try_for_each_init(
                || [self.tile(), self.tile()],
                |scratch, group| self.differentiate_group(group, data, grad, None, scratch),
            ),
        }
    }
}

/// Rows of an operand, counted over all leading dimensions.
fn rows(x: &Tensor) -> usize {
    x.elem_count() / x.dim(D::Minus1).unwrap_or(1).max(1)
}

fn dense<'a, const N: usize, T: Real>(inputs: [Operand<'a, T>; N]) -> Result<[&'a [T]; N]> {
    let mut data: [&[T]; N] = [&[]; N];
    for (data, input) in data.iter_mut().zip(inputs) {
        *data = input.dense()?;
    }
    Ok(data)
}
