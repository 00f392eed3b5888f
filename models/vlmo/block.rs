//! The multiway block: one self-attention for all modalities, then the expert of each.

use candle_core::{Result, Tensor};

use super::relative::Column;
use super::sequences::{Multiway, Pass, Rows, Sequences};
use crate::kernels::{self, Bias, Mask};
use crate::models::nn::{LayerNorm, Linear, Mlp, One, Residual, Spec, Start, drops};
use crate::models::{Init, Vars};

#[derive(Clone)]
pub(super) struct Block {
    norm1: LayerNorm,
    attention: Multiway<Attention>,
    experts: Multiway<Expert>,
    /// LayerScale: what the outcome of each half is multiplied by.
    gains: Option<[Tensor; 2]>,
    relative: Option<Column>,
    heads: usize,
    drop_path: f64,
}

/// What sets the blocks of one model apart.
pub(super) struct Design {
    /// Each modality has self-attention of its own.
    pub separate: bool,
    /// One expert for every token.
    pub standard: bool,
    /// Pairs have an expert of their own.
    pub fused: bool,
    /// How LayerScale begins, if there is one.
    pub layer_scale: Option<f64>,
    pub drop_path: f64,
}

impl Block {
    pub(super) fn new(
        vars: &Vars,
        spec: &Spec,
        start: &Start,
        design: &Design,
        relative: Option<Column>,
    ) -> Result<Self> {
        let gains = |value| -> Result<_> {
            let gain = |name| vars.get(spec.width, name, Init::Constant(value));
            Ok([gain("attention_gain")?, gain("expert_gain")?])
        };
        let attention = vars.at("attention");
        let attention = match design.separate {
            false => Multiway::Shared(Attention::new(&attention, spec, start)?),
            true => Multiway::Apart {
                text: Attention::new(&attention.at("text"), spec, start)?,
                image: Attention::new(&attention.at("image"), spec, start)?,
                pair: None,
            },
        };
        let expert = |name: &str| Expert::new(&vars.at("experts").at(name), spec, start);
        let experts = match design.standard {
            true => Multiway::Shared(expert("all")?),
            false => Multiway::Apart {
                text: expert("text")?,
                image: expert("image")?,
                pair: design.fused.then(|| expert("vl")).transpose()?,
            },
        };
        Ok(Self {
            norm1: LayerNorm::new(&vars.at("norm1"), spec.width, spec.eps)?,
            attention,
            experts,
            gains: design.layer_scale.map(gains).transpose()?,
            relative,
            heads: spec.heads,
            drop_path: design.drop_path,
        })
    }

    /// (R,D) to (R,D).
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (block, pass) = (self.clone(), pass.clone());
        kernels::block(&[x], move |inputs| block.compute(&inputs[0], &pass))
    }

    fn compute(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (sequences, normed) = (&pass.sequences, self.norm1.forward(x)?);
        let qkv = self.attention.apply(pass, [&normed], |attention, [x], _| attention.qkv(x))?;
        let mask = Mask::itself(sequences.spans(), false);
        let seen = match self.scores(sequences)? {
            None => kernels::self_attention(&qkv, self.heads, &mask, None)?,
            Some(scores) => {
                let bias = Bias { scores: &scores, places: [sequences.places(); 2] };
                kernels::biased_self_attention(&qkv, bias, self.heads, &mask, None)?
            }
        };
        let x = self
            .attention
            .apply(pass, [x, &seen], |attention, [x, seen], rows| self.join(x, seen, attention, &rows))?;
        self.experts.apply(pass, [&x], |expert, [x], rows| self.meet(x, expert, &rows))
    }

    /// One token of each example of [`Block::forward`], the first, (B,D), of which a last layer computes no other.
    pub(super) fn forward_one(&self, x: &Tensor, one: &One, pass: &Pass) -> Result<Tensor> {
        let (sequences, normed) = (&pass.sequences, self.norm1.forward(x)?);
        let attention = self.attention.first(pass.route);
        let q = attention.q(&one.pick(&normed)?)?;
        let kv = self.attention.apply(pass, [&normed], |attention, [x], _| attention.kv(x))?;
        let (mask, firsts) = (one.mask(), vec![0; q.dim(0)?]);
        let seen = match self.scores(sequences)? {
            None => kernels::cross_attention(&q, &kv, self.heads, &mask, None)?,
            Some(scores) => {
                let bias = Bias { scores: &scores.narrow(1, 0, 1)?, places: [&firsts, sequences.places()] };
                kernels::biased_cross_attention(&q, &kv, bias, self.heads, &mask, None)?
            }
        };
        let spans = kernels::Spans::even(firsts.len(), 1);
        let rows = Rows { spans: &spans, noise: pass.noise };
        let x = self.join(&one.pick(x)?, &seen, attention, &rows)?;
        self.meet(&x, self.experts.first(pass.route), &rows)
    }

    fn scores(&self, sequences: &Sequences) -> Result<Option<Tensor>> {
        let pair = self.relative.as_ref().zip(sequences.relations.as_ref());
        pair.map(|(column, relations)| column.scores(relations)).transpose()
    }

    /// What attention found joins the residual path.
    fn join(&self, x: &Tensor, seen: &Tensor, attention: &Attention, rows: &Rows) -> Result<Tensor> {
        let out = match &self.gains {
            None => attention.out.clone(),
            Some([gain, _]) => attention.out.scaled(gain)?,
        };
        match drops(self.drop_path, rows.noise, 0) {
            None => out.join(seen, Residual { x, dropout: None }),
            Some(dropout) => kernels::add(x, &kernels::drop_path(&out.forward(seen)?, rows.spans, dropout)?),
        }
    }

    /// What an expert makes of x joins the residual path.
    fn meet(&self, x: &Tensor, Expert { norm, mlp }: &Expert, rows: &Rows) -> Result<Tensor> {
        let mlp = match &self.gains {
            None => mlp.clone(),
            Some([_, gain]) => mlp.scaled(gain)?,
        };
        let normed = norm.forward(x)?;
        match drops(self.drop_path, rows.noise, 1) {
            None => mlp.forward(&normed, Residual { x, dropout: None }),
            Some(dropout) => kernels::add(x, &kernels::drop_path(&mlp.alone(&normed)?, rows.spans, dropout)?),
        }
    }
}

/// The feed-forward half of one modality with the normalisation before it.
#[derive(Clone)]
struct Expert {
    norm: LayerNorm,
    mlp: Mlp,
}

impl Expert {
    fn new(vars: &Vars, spec: &Spec, start: &Start) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::new(&vars.at("norm"), spec.width, spec.eps)?,
            mlp: Mlp::new(&vars.at("mlp"), spec, start)?,
        })
    }
}

/// The maps of self-attention. Keys have no bias: it would add the same to all scores of a query.
#[derive(Clone)]
struct Attention {
    /// The rows are [q|k|v].
    qkv: Tensor,
    q_bias: Tensor,
    v_bias: Tensor,
    out: Linear,
}

impl Attention {
    fn new(vars: &Vars, spec: &Spec, start: &Start) -> Result<Self> {
        let (width, zero) = (spec.width, Init::Constant(0.0));
        Ok(Self {
            qkv: vars.get((3 * width, width), "qkv", start.qkv)?,
            q_bias: vars.get(width, "q_bias", zero)?,
            v_bias: vars.get(width, "v_bias", zero)?,
            out: Linear::new(&vars.at("out"), [width, width], start.out, Some(zero))?,
        })
    }

    fn qkv(&self, x: &Tensor) -> Result<Tensor> {
        let bias = Tensor::cat(&[&self.q_bias, &self.q_bias.zeros_like()?, &self.v_bias], 0)?;
        kernels::linear(x, &self.qkv, Some(&bias))
    }

    fn q(&self, x: &Tensor) -> Result<Tensor> {
        kernels::linear(x, &self.qkv.narrow(0, 0, self.q_bias.elem_count())?, Some(&self.q_bias))
    }

    fn kv(&self, x: &Tensor) -> Result<Tensor> {
        let (width, bias) =
            (self.v_bias.elem_count(), self.v_bias.pad_with_zeros(0, self.q_bias.elem_count(), 0)?);
        kernels::linear(x, &self.qkv.narrow(0, width, 2 * width)?, Some(&bias))
    }
}
