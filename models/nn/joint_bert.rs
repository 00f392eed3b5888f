//! One BERT over two sequences joined into one, words before regions: the trunk of UNITER and Oscar.

use candle_core::{Result, Tensor};

use super::{Joint, Linear, One, Spec, bert, deviation, within};
use crate::kernels::random::Key;
use crate::models::{Fused, Init, Tokens, Vars};

/// The layers of BERT and its pooler, `tanh(W h + b)` of the first token.
pub struct JointBert {
    layers: Vec<bert::Layer>,
    pooler: Linear,
}

impl JointBert {
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, depth: usize, spec: &Spec) -> Result<Self> {
        let layers = vars.at("layers");
        let layers = (0..depth).map(|index| bert::Layer::new(&layers.at(index), spec, None));
        let (sizes, init) = ([spec.width; 2], Init::Normal { std: deviation(spec.width) });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            pooler: Linear::new(&vars.at("pooler"), sizes, init, Some(Init::Constant(0.0)))?,
        })
    }

    /// Embedded words (B,T,D) and regions (B,N,D), which see each other as `joint` tells.
    ///
    /// # Errors
    /// When `joint` is of other sequences, or an example has no token.
    pub fn fuse(&self, [words, regions]: [Tokens; 2], joint: &Joint, noise: Option<Key>) -> Result<Fused> {
        let hidden = joint.pack([&words.hidden, &regions.hidden])?;
        let hidden = self.before(self.layers.len(), hidden, joint, noise)?;
        let pooled = self.pooled(&One::first(joint.spans())?.pick(&hidden)?)?;
        let [seen_words, seen_regions] = joint.unpack(&hidden)?;
        let text = Tokens { hidden: seen_words, ..words };
        Ok(Fused { text, image: Some(Tokens { hidden: seen_regions, ..regions }), pooled })
    }

    /// The pooled vector (B,D) of [`JointBert::fuse`]: the last layer computes the first token alone.
    ///
    /// # Errors
    /// As [`JointBert::fuse`].
    pub fn pool(&self, [words, regions]: [&Tokens; 2], joint: &Joint, noise: Option<Key>) -> Result<Tensor> {
        let hidden = joint.pack([&words.hidden, &regions.hidden])?;
        let class = One::first(joint.spans())?;
        let Some((layer, earlier)) = self.layers.split_last() else {
            return self.pooled(&class.pick(&hidden)?);
        };
        let hidden = self.before(earlier.len(), hidden, joint, noise)?;
        let noise = within(noise, earlier.len() as u64);
        self.pooled(&layer.forward_one(&hidden, &class, None, noise)?)
    }

    /// What the layers before number `end` make of the tokens (R,D).
    fn before(&self, end: usize, tokens: Tensor, joint: &Joint, noise: Option<Key>) -> Result<Tensor> {
        let (mut hidden, mask) = (tokens, joint.mask());
        for (layer, number) in self.layers.iter().zip(0..).take(end) {
            hidden = layer.forward(&hidden, &mask, None, within(noise, number))?;
        }
        Ok(hidden)
    }

    fn pooled(&self, first: &Tensor) -> Result<Tensor> {
        self.pooler.forward(first)?.tanh()
    }
}
