//! Multi-head attention as half a layer: over the sequence itself, and from one sequence over another.

use candle_core::{Result, Tensor};

use super::{Linear, One, Reading, Residual, Spec, Start};
use crate::kernels::{self, Dropout, Mask};
use crate::models::{Init, Vars};

const ZERO: Option<Init> = Some(Init::Constant(0.0));

/// A sequence attends to itself. Query, key and value maps are one: the rows of `qkv` are [q|k|v].
#[derive(Clone)]
pub struct SelfAttention {
    qkv: Linear,
    out: Linear,
    width: usize,
    heads: usize,
}

impl SelfAttention {
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, spec: &Spec, start: &Start) -> Result<Self> {
        Ok(Self {
            qkv: Linear::new(&vars.at("qkv"), [spec.width, 3 * spec.width], start.qkv, ZERO)?,
            out: Linear::new(&vars.at("out"), [spec.width, spec.width], start.out, ZERO)?,
            width: spec.width,
            heads: spec.heads,
        })
    }

    /// (.., D) to (.., D), joined to the residual path; the mask tells which rows are one sequence, and `dropout` is that
    /// of the weights.
    ///
    /// # Errors
    /// When the mask is of another shape.
    pub fn forward(&self, x: &Tensor, mask: &Mask, dropout: Option<Dropout>, to: Residual) -> Result<Tensor> {
        self.out.join(&kernels::self_attention(&self.qkv.forward(x)?, self.heads, mask, dropout)?, to)
    }

    /// The keys and values (.., 2D) under which others see x (.., D).
    ///
    /// # Errors
    /// When its width is another.
    pub fn keys(&self, x: &Tensor) -> Result<Tensor> {
        self.qkv.part(self.width, 2 * self.width)?.forward(x)
    }

    /// x (.., D) over such keys and values, of which `mask` tells what is visible, to (.., D), joined to the residual
    /// path.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn over(
        &self,
        x: &Tensor,
        (kv, mask): (&Tensor, &Mask),
        dropout: Option<Dropout>,
        to: Residual,
    ) -> Result<Tensor> {
        let q = self.qkv.part(0, self.width)?.forward(x)?;
        self.out.join(&kernels::cross_attention(&q, kv, self.heads, mask, dropout)?, to)
    }

    /// The next tokens x (R,D) over themselves and those before them, whose keys of this layer `reading` keeps, to (R,D),
    /// joined to the residual path.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn next(&self, x: &Tensor, layer: usize, reading: &mut Reading, to: Residual) -> Result<Tensor> {
        let (kv, mask) = reading.itself(layer, self.keys(x)?)?;
        self.over(x, (&kv, &mask), None, to)
    }

    /// What one token of each example finds in x (.., D): (B,D).
    ///
    /// # Errors
    /// When x has other rows.
    pub fn forward_one(
        &self,
        x: &Tensor,
        one: &One,
        dropout: Option<Dropout>,
        to: Residual,
    ) -> Result<Tensor> {
        self.over(&one.pick(x)?, (&self.keys(x)?, &one.mask()), dropout, to)
    }
}

/// Queries of one sequence over keys and values of another. The rows of `kv` are [k|v].
#[derive(Clone)]
pub struct CrossAttention {
    q: Linear,
    kv: Linear,
    out: Linear,
    heads: usize,
}

impl CrossAttention {
    /// Over a sequence of width `other`.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, spec: &Spec, other: usize, start: &Start) -> Result<Self> {
        Ok(Self {
            q: Linear::new(&vars.at("q"), [spec.width, spec.width], start.qkv, ZERO)?,
            kv: Linear::new(&vars.at("kv"), [other, 2 * spec.width], start.qkv, ZERO)?,
            out: Linear::new(&vars.at("out"), [spec.width, spec.width], start.out, ZERO)?,
            heads: spec.heads,
        })
    }

    /// The keys and values (.., 2D) of another sequence (.., D').
    ///
    /// # Errors
    /// When its width is another.
    pub fn keys(&self, other: &Tensor) -> Result<Tensor> {
        self.kv.forward(other)
    }

    /// x (.., D) over such keys and values, of which `mask` tells what is visible, to (.., D), joined to the residual
    /// path.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        (kv, mask): (&Tensor, &Mask),
        dropout: Option<Dropout>,
        to: Residual,
    ) -> Result<Tensor> {
        let q = self.q.forward(x)?;
        self.out.join(&kernels::cross_attention(&q, kv, self.heads, mask, dropout)?, to)
    }
}
