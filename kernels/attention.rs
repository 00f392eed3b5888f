//! Multi-head scaled dot-product attention: Vaswani et al., arXiv:1706.03762, section 3.2.
//!
//! `o_i = sum_j p_ij v_j` with `p_i = softmax_j(q_i k_j / sqrt(d) + mask_ij)` in each head of d = D/H columns. Examples
//! run in parallel; the scores of a tile of queries live in cache and are computed again in the backward pass, as in
//! FlashAttention (arXiv:2205.14135), so that memory grows with T and not with its square. Heads are read and written
//! in place as strided columns; nothing is permuted.

use std::sync::OnceLock;

use candle_core::{D, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::bias::{Bias, Places};
use super::mask::{Mask, Visible};
use super::operation::{Operand, Operation, Slot, apply1, apply2, apply3};
use super::product::{Matrix, count};
use super::real::Real;
use super::rows::scratch;
use super::spans::cut;
use super::{Dropout, Spans};

mod backward;
mod forward;
#[path = "cuda/attention.rs"]
mod on_gpu;

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

    /// Counts so many products of the size of the scores.
    fn count(&self, products: usize) {
        for example in 0..self.queries.ranges().len() {
            let (queries, keys) = self.size(example);
            count(products, [queries, keys, self.width]);
        }
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

impl<const N: usize> Operation<N> for Heads {
    fn name(&self) -> &'static str {
        "attention"
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
        self.differentiate_all(data, grad, into, bias)
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
