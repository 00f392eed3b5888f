//! The transformer layer of ViT (Dosovitskiy et al., arXiv:2010.11929, equations 2 and 3) and of CLIP's text tower.
//!
//! `x <- x + attention(LN(x))`, then `x <- x + mlp(LN(x))`: the residual path is never normalised.

use candle_core::{Result, Tensor};

use super::{LayerNorm, Mlp, Residual, SelfAttention, Spec, Start, drops, pick, within};
use crate::kernels::{Mask, random::Key};
use crate::models::Vars;

/// A stack of such layers, without the normalisation that follows the last.
pub struct PreNorm {
    layers: Vec<Layer>,
}

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

    /// (B,T,D) to (B,T,D).
    ///
    /// # Errors
    /// When the mask is of another shape.
    pub fn forward(&self, x: Tensor, mask: &Mask, noise: Option<Key>) -> Result<Tensor> {
        let mut x = x;
        for (layer, index) in self.layers.iter().zip(0..) {
            x = layer.forward(&x, mask, within(noise, index))?;
        }
        Ok(x)
    }

    /// One token of each example of [`PreNorm::forward`], (B,D): that at `places`, of which the last layer computes
    /// nothing else. In the last layer the tokens see what `last` shows.
    ///
    /// # Errors
    /// When a mask is of another shape or a place lies outside the sequence.
    pub fn forward_one(
        &self,
        x: Tensor,
        mask: &Mask,
        (places, last): (&[u32], &Mask),
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let Some((layer, earlier)) = self.layers.split_last() else { return pick(&x, places) };
        let mut x = x;
        for (layer, index) in earlier.iter().zip(0..) {
            x = layer.forward(&x, mask, within(noise, index))?;
        }
        layer.forward_one(&x, places, last, within(noise, earlier.len() as u64))?.squeeze(1)
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

    fn forward(&self, x: &Tensor, mask: &Mask, noise: Option<Key>) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let x = self.attention.forward(&normed, mask, self.residual(x, noise, 0))?;
        self.mlp.forward(&self.norm2.forward(&x)?, self.residual(&x, noise, 1))
    }

    fn forward_one(&self, x: &Tensor, places: &[u32], mask: &Mask, noise: Option<Key>) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let (x, one) = (pick(x, places)?.unsqueeze(1)?, pick(&normed, places)?.unsqueeze(1)?);
        let x = self.attention.forward_one(&one, &normed, mask, self.residual(&x, noise, 0))?;
        self.mlp.forward(&self.norm2.forward(&x)?, self.residual(&x, noise, 1))
    }

    fn residual<'a>(&self, x: &'a Tensor, noise: Option<Key>, half: u64) -> Residual<'a> {
        Residual { x, dropout: drops(self.dropout, noise, half) }
    }
}
