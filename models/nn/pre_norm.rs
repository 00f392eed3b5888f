//! The transformer layer of ViT (Dosovitskiy et al., arXiv:2010.11929, equations 2 and 3) and of CLIP's text tower.
//!
//! `x <- x + attention(LN(x))`, then `x <- x + mlp(LN(x))`: the residual path is never normalised.

use candle_core::{Result, Tensor};

use super::{LayerNorm, Mlp, One, Reading, Residual, SelfAttention, Spec, Start, drops, within};
use crate::kernels::{self, Mask, Spans, random::Key};
use crate::models::Vars;

/// A stack of such layers, without the normalisation that follows the last.
pub struct PreNorm {
    layers: Vec<Layer>,
}

#[derive(Clone)]
struct Layer {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    dropout: f64,
}

impl PreNorm {
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, depth: usize, spec: &Spec, start: &Start) -> Result<Self> {
        let layers = (0..depth).map(|index| Layer::new(&vars.at(index), spec, start));
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    /// (.., D) to (.., D); the mask tells which rows are one sequence.
    ///
    /// # Errors
    /// When the mask is of another shape.
    pub fn forward(&self, x: Tensor, mask: &Mask, noise: Option<Key>) -> Result<Tensor> {
        let mut x = x;
        for (layer, index) in self.layers.iter().zip(0..) {
            x = layer.block(&x, mask, within(noise, index))?;
        }
        Ok(x)
    }

    /// The next tokens x (R,D) of sequences that see what is before them, to (R,D); `reading` keeps what each layer has
    /// seen. Nothing is dropped.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn next(&self, x: Tensor, reading: &mut Reading) -> Result<Tensor> {
        let mut x = x;
        for (number, layer) in self.layers.iter().enumerate() {
            let normed = layer.norm1.forward(&x)?;
            x = layer.attention.next(&normed, number, reading, layer.residual(&x, None, 0))?;
            x = layer.mlp.forward(&layer.norm2.forward(&x)?, layer.residual(&x, None, 1))?;
        }
        Ok(x)
    }

    /// One token of each example of [`PreNorm::forward`], (B,D), of which the last layer computes nothing else; in that
    /// layer it sees all of its example.
    ///
    /// # Errors
    /// When the mask is of another shape.
    pub fn forward_one(&self, x: Tensor, mask: &Mask, one: &One, noise: Option<Key>) -> Result<Tensor> {
        let Some((layer, earlier)) = self.layers.split_last() else { return one.pick(&x) };
        let mut x = x;
        for (layer, index) in earlier.iter().zip(0..) {
            x = layer.block(&x, mask, within(noise, index))?;
        }
        layer.forward_one(&x, one, within(noise, earlier.len() as u64))
    }

    /// [`PreNorm::forward_one`] of the first token of examples x (B,N,D), which see all of theirs.
    ///
    /// # Errors
    /// As [`PreNorm::forward_one`].
    pub fn forward_class(&self, x: Tensor, noise: Option<Key>) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let class = One::first(&Spans::even(batch, tokens))?;
        self.forward_one(x, &Mask::None, &class, noise)
    }
}

impl Layer {
    fn new(vars: &Vars, spec: &Spec, start: &Start) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(&vars.at("norm1"), spec.width, spec.eps)?,
            attention: SelfAttention::new(&vars.at("attention"), spec, start)?,
            norm2: LayerNorm::new(&vars.at("norm2"), spec.width, spec.eps)?,
            mlp: Mlp::new(&vars.at("mlp"), spec, start)?,
            dropout: spec.dropout,
        })
    }

    fn block(&self, x: &Tensor, mask: &Mask, noise: Option<Key>) -> Result<Tensor> {
        let (layer, mask) = (self.clone(), mask.clone());
        kernels::block(&[x], move |inputs| layer.forward(&inputs[0], &mask, noise))
    }

    fn forward(&self, x: &Tensor, mask: &Mask, noise: Option<Key>) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let x = self.attention.forward(&normed, mask, None, self.residual(x, noise, 0))?;
        self.mlp.forward(&self.norm2.forward(&x)?, self.residual(&x, noise, 1))
    }

    fn forward_one(&self, x: &Tensor, one: &One, noise: Option<Key>) -> Result<Tensor> {
        let (normed, x) = (self.norm1.forward(x)?, one.pick(x)?);
        let x = self.attention.forward_one(&normed, one, None, self.residual(&x, noise, 0))?;
        self.mlp.forward(&self.norm2.forward(&x)?, self.residual(&x, noise, 1))
    }

    fn residual<'a>(&self, x: &'a Tensor, noise: Option<Key>, half: u64) -> Residual<'a> {
        Residual { x, dropout: drops(self.dropout, noise, half) }
    }
}
