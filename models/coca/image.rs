//! The image half of CoCa: a vision transformer, and the poolers that make of its tokens what words look at and what is
//! contrasted.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Config, EPS};
use crate::kernels::{self, Mask};
use crate::models::nn::{LayerNorm, Linear, PatchStart, Patches, PreNorm, Start, each, fan_in, first};
use crate::models::{Image, Init, Tokens, Vars, View};

/// The kind of image tower.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// Patches alone, mapped with a bias.
    Vit,
    /// That of CLIP: a class token before the patches, which are mapped without a bias, and a normalisation before the
    /// layers.
    Clip,
}

/// The poolers (table 8f): `{wiring: cascade, queries: 256, heads: 12}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// How they follow each other.
    pub wiring: Wiring,
    /// `n_query` of the captioning pooler; without queries there is none, and words look at all image tokens.
    pub queries: usize,
    /// Attention heads of each pooler; they divide the text's width.
    pub heads: usize,
}

/// What the contrastive pooler looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wiring {
    /// The outcome of the captioning pooler.
    Cascade,
    /// The image tokens.
    Parallel,
    /// Nothing: there is no contrastive pooler, and the first token of what the words would look at is kept from them
    /// and contrasted.
    Shared,
}

impl Default for Pool {
    fn default() -> Self {
        Self { wiring: Wiring::Cascade, queries: 16, heads: 4 }
    }
}

impl Pool {
    /// Whether there is a pooler at all.
    fn pools(&self) -> bool {
        self.wiring != Wiring::Shared || self.queries > 0
    }

    /// What is wrong with them above a tower of this kind, for a text of this width; one sentence a fault.
    pub(super) fn faults(&self, encoder: Encoder, width: usize) -> Vec<String> {
        let mut faults = Vec::new();
        let heads = self.heads;
        if self.pools() && (heads == 0 || !width.is_multiple_of(heads)) {
            faults.push(format!("pool.heads {heads} does not divide text.width {width}"));
        }
        match (self.wiring, self.queries) {
            (Wiring::Shared, 1) => {
                faults.push("pool.queries is 1: shared keeps the first query from the words".to_owned());
            }
            (Wiring::Shared, 0) if encoder == Encoder::Vit => faults.push(
                "pool.queries is 0: shared then contrasts the class token, which `encoder: vit` lacks"
                    .to_owned(),
            ),
            _ => {}
        }
        faults
    }
}

/// The tower and its poolers.
pub struct ImageHalf {
    tower: Tower,
    poolers: Poolers,
    /// The width of what words look at.
    pub captioning_width: usize,
    /// The width of what is contrasted.
    pub contrastive_width: usize,
}

enum Poolers {
    /// One for each objective.
    Apart { captioning: Option<Pooler>, contrastive: Pooler, cascade: bool },
    /// One sequence, of which the first token is contrasted and words look at the others: that of a pooler, normalised,
    /// or the image tokens themselves.
    Shared(Option<(Pooler, LayerNorm)>),
}

impl ImageHalf {
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, config: &Config, size: usize) -> Result<Self> {
        let (pool, own, pooled) = (&config.pool, config.image.width, config.text.width);
        let captioning_width = if pool.queries > 0 { pooled } else { own };
        let pooler =
            |name: &str, queries, seen| Pooler::new(&vars.at(name), queries, [seen, pooled], pool.heads);
        let poolers = match pool.wiring {
            Wiring::Shared if pool.queries == 0 => Poolers::Shared(None),
            Wiring::Shared => {
                let norm = LayerNorm::new(&vars.at("norm"), pooled, EPS)?;
                Poolers::Shared(Some((pooler("pooler", pool.queries, own)?, norm)))
            }
            wiring => {
                let cascade = wiring == Wiring::Cascade;
                let captioning = (pool.queries > 0).then(|| pooler("captioning", pool.queries, own));
                let seen = if cascade { captioning_width } else { own };
                let contrastive = pooler("contrastive", 1, seen)?;
                Poolers::Apart { captioning: captioning.transpose()?, contrastive, cascade }
            }
        };
        let normalised = !matches!(poolers, Poolers::Shared(Some(_)));
        Ok(Self {
            tower: Tower::new(vars, config, size, normalised)?,
            poolers,
            captioning_width,
            contrastive_width: if pool.pools() { pooled } else { own },
        })
    }

    /// The image tokens (B,N,D).
    ///
    /// # Errors
    /// When the image has another size.
    pub fn tokens(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("image", |image| self.tower.encode(image))
    }

    /// What words look at (B,Q,D).
    ///
    /// # Errors
    /// As [`ImageHalf::tokens`].
    pub fn captioning(&self, image: &View<Image>) -> Result<Tokens> {
        match &self.poolers {
            Poolers::Apart { captioning: None, .. } => self.tokens(image),
            Poolers::Apart { captioning: Some(pooler), .. } => {
                image.memo("image.captioning", |image| all(pooler.forward(&self.tokens(image)?.hidden)?))
            }
            Poolers::Shared(pooler) => image.memo("image.captioning", |image| {
                let hidden = self.shared(image, pooler.as_ref())?;
                all(hidden.narrow(1, 1, hidden.dim(1)? - 1)?)
            }),
        }
    }

    /// What is contrasted (B,D).
    ///
    /// # Errors
    /// As [`ImageHalf::tokens`].
    pub fn contrastive(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("image.contrastive", |image| {
            let hidden = match &self.poolers {
                Poolers::Apart { contrastive, cascade: true, .. } => {
                    contrastive.forward(&self.captioning(image)?.hidden)?
                }
                Poolers::Apart { contrastive, .. } => contrastive.forward(&self.tokens(image)?.hidden)?,
                Poolers::Shared(pooler) => self.shared(image, pooler.as_ref())?,
            };
            all(first(&hidden)?)
        })
    }

    fn shared(&self, image: &View<Image>, pooler: Option<&(Pooler, LayerNorm)>) -> Result<Tensor> {
        let Some((pooler, norm)) = pooler else { return Ok(self.tokens(image)?.hidden) };
        let pool = |image: &View<Image>| all(norm.forward(&pooler.forward(&self.tokens(image)?.hidden)?)?);
        Ok(image.memo("image.shared", pool)?.hidden)
    }
}

/// Tokens of which every one is visible.
fn all(hidden: Tensor) -> Result<Tokens> {
    Ok(Tokens { hidden, mask: None })
}

struct Tower {
    patches: Patches,
    ln_pre: Option<LayerNorm>,
    layers: PreNorm,
    norm: Option<LayerNorm>,
}

impl Tower {
    fn new(vars: &Vars, config: &Config, size: usize, normalised: bool) -> Result<Self> {
        let (patch, spec) = (config.patch, config.image.spec(config.activation, EPS, config.dropout));
        let (width, weight) = (spec.width, fan_in(3 * patch * patch));
        let tokens = Init::Normal { std: (width as f64).powf(-0.5) };
        let (at, norm) = (vars.at("patches"), |name: &str| LayerNorm::new(&vars.at(name), width, EPS));
        let (patches, ln_pre) = match config.encoder {
            Encoder::Vit => {
                let start = PatchStart { weight, bias: Some(weight), tokens };
                (Patches::alone(&at, size, patch, width, &start)?, None)
            }
            Encoder::Clip => {
                let start = PatchStart { weight, bias: None, tokens };
                (Patches::new(&at, size, patch, width, &start)?, Some(norm("ln_pre")?))
            }
        };
        let layers = PreNorm::new(&vars.at("layers"), config.image.depth, &spec, &Start::pytorch(&spec))?;
        Ok(Self { patches, ln_pre, layers, norm: normalised.then(|| norm("norm")).transpose()? })
    }

    fn encode(&self, image: &View<Image>) -> Result<Tokens> {
        let mut hidden = self.patches.forward(image.input()?.pixels()?)?;
        if let Some(norm) = &self.ln_pre {
            hidden = norm.forward(&hidden)?;
        }
        hidden = self.layers.forward(hidden, &Mask::None, image.noise())?;
        match &self.norm {
            Some(norm) => all(norm.forward(&hidden)?),
            None => all(hidden),
        }
    }
}

/// One multi-head attention of learned queries over a sequence.
struct Pooler {
    queries: Tensor,
    norm_q: LayerNorm,
    norm_k: LayerNorm,
    q: Linear,
    /// The rows are [k|v].
    kv: Linear,
    out: Linear,
    heads: usize,
}

impl Pooler {
    /// So many queries of width `width` over a sequence of width `other`.
    fn new(vars: &Vars, queries: usize, [other, width]: [usize; 2], heads: usize) -> Result<Self> {
        let glorot = |inputs: usize| Init::Uniform { bound: (6.0 / (inputs + width) as f64).sqrt() };
        let zero = Some(Init::Constant(0.0));
        Ok(Self {
            queries: vars.get((queries, width), "queries", Init::Normal { std: 1.0 })?,
            norm_q: LayerNorm::new(&vars.at("norm_q"), width, EPS)?,
            norm_k: LayerNorm::new(&vars.at("norm_k"), other, EPS)?,
            q: Linear::new(&vars.at("q"), [width, width], glorot(width), zero)?,
            kv: Linear::new(&vars.at("kv"), [other, 2 * width], glorot(other), zero)?,
            out: Linear::new(&vars.at("out"), [width, width], fan_in(width), zero)?,
            heads,
        })
    }

    /// (B,N,D') to (B,Q,D). Every example is asked the same, so the queries are mapped once.
    fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let q = each(&self.q.forward(&self.norm_q.forward(&self.queries)?)?, tokens.dim(0)?)?;
        let kv = self.kv.forward(&self.norm_k.forward(tokens)?)?;
        self.out.forward(&kernels::cross_attention(&q, &kv, self.heads, &Mask::None, None)?)
    }
}
