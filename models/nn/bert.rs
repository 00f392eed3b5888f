//! The parts of BERT, Devlin et al., arXiv:1810.04805: embeddings, layers (with cross-attention where a paper adds it)
//! and the word decoder.
//!
//! Layers are normalised after the residual sum: `x <- LN(x + attention(x))`, then `x <- LN(x + mlp(x))`.
//!
//! Attention weights and the outcome of each part of a layer are dropped with one probability, as in BERT.

use candle_core::{Result, Tensor, bail};

use super::{
    CrossAttention, LayerNorm, Linear, Mlp, One, Reading, Residual, SelfAttention, Spec, Start, Words,
    deviation, drops,
};
use crate::kernels::{self, Activation, Logits, Mask, random::Key};
use crate::models::{Init, Text, Vars};

/// How every matrix begins (released code).
fn matrices(width: usize) -> Init {
    Init::Normal { std: deviation(width) }
}

/// What `eps` BERT adds to the variance.
pub const EPS: f64 = 1e-12;

/// The sum of word, position and segment vectors, normalised.
pub struct Embeddings {
    words: Words,
    segments: Option<Tensor>,
    norm: LayerNorm,
    dropout: f64,
}

impl Embeddings {
    /// For a vocabulary and a number of positions.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, sizes: [usize; 2], spec: &Spec) -> Result<Self> {
        let segments = vars.get((2, spec.width), "segments", matrices(spec.width))?;
        Ok(Self { segments: Some(segments), ..Self::unsegmented(vars, sizes, spec)? })
    }

    /// As [`Embeddings::new`], where a model takes all words for one segment and has no vectors for segments.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn unsegmented(vars: &Vars, [vocabulary, positions]: [usize; 2], spec: &Spec) -> Result<Self> {
        let init = matrices(spec.width);
        Ok(Self {
            words: Words::new(vars, [vocabulary, positions, spec.width], [init, init])?,
            segments: None,
            norm: LayerNorm::new(&vars.at("norm"), spec.width, spec.eps)?,
            dropout: spec.dropout,
        })
    }

    /// As [`Embeddings::new`], where a model tells positions in another way: no vector is added for them.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn unplaced(vars: &Vars, [vocabulary, positions]: [usize; 2], spec: &Spec) -> Result<Self> {
        let init = matrices(spec.width);
        Ok(Self {
            words: Words::unplaced(vars, [vocabulary, positions, spec.width], init)?,
            segments: Some(vars.get((2, spec.width), "segments", init)?),
            norm: LayerNorm::new(&vars.at("norm"), spec.width, spec.eps)?,
            dropout: spec.dropout,
        })
    }

    /// The table of words (V,D), to which the decoder is tied.
    pub fn table(&self) -> &Tensor {
        self.words.table()
    }

    /// What is added to the tokens of a segment (D): 0 or 1.
    ///
    /// # Errors
    /// When the model has no vectors for segments.
    pub fn segment(&self, number: usize) -> Result<Tensor> {
        match &self.segments {
            Some(segments) => segments.get(number),
            None => bail!("a model without segments has no vector for segment {number}"),
        }
    }

    /// (B,T) to (B,T,D).
    ///
    /// # Errors
    /// When the text is longer than the positions or an entry lies outside the vocabulary.
    pub fn forward(&self, text: &Text, noise: Option<Key>) -> Result<Tensor> {
        let mut sum = self.words.forward(&text.ids)?;
        if let Some(segments) = &self.segments {
            sum = kernels::add(&sum, &kernels::embedding(segments, &text.segments)?)?;
        }
        let sum = self.norm.forward(&sum)?;
        match drops(self.dropout, noise, 0) {
            Some(dropout) => kernels::dropout(&sum, dropout),
            None => Ok(sum),
        }
    }

    /// Tokens ids (R) of the first segment at these places of their texts, to (R,D). Nothing is dropped.
    ///
    /// # Errors
    /// As [`Embeddings::forward`].
    pub fn at(&self, ids: &Tensor, places: &[u32]) -> Result<Tensor> {
        let mut sum = self.words.at(ids, places)?;
        if let Some(segments) = &self.segments {
            sum = kernels::add(&sum, &kernels::embedding(segments, &ids.zeros_like()?)?)?;
        }
        self.norm.forward(&sum)
    }
}

/// Where the parts of a layer stand in the store. Layers that name one place share what stands there.
pub struct Places {
    /// Self-attention and the normalisation after it.
    pub attention: Vars,
    /// Cross-attention and the normalisation after it.
    pub cross: Vars,
    /// The feed-forward half and the normalisation after it.
    pub mlp: Vars,
}

/// One layer; with cross-attention it also looks at another sequence.
#[derive(Clone)]
pub struct Layer {
    attention: SelfAttention,
    norm1: LayerNorm,
    cross: Option<(CrossAttention, LayerNorm)>,
    mlp: Mlp,
    norm2: LayerNorm,
    dropout: f64,
}

impl Layer {
    /// With cross-attention over a sequence of width `other`, if there is one.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, spec: &Spec, other: Option<usize>) -> Result<Self> {
        let places = Places { attention: vars.clone(), cross: vars.clone(), mlp: vars.clone() };
        Self::of(&places, spec, other)
    }

    /// As [`Layer::new`], of parts that stand at places of their own.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn of(places: &Places, spec: &Spec, other: Option<usize>) -> Result<Self> {
        let Places { attention, cross, mlp } = places;
        let start = Start::all(matrices(spec.width));
        let norm = |vars: &Vars, name| LayerNorm::new(&vars.at(name), spec.width, spec.eps);
        let seen = other.map(|other| -> Result<_> {
            Ok((CrossAttention::new(&cross.at("cross"), spec, other, &start)?, norm(cross, "cross_norm")?))
        });
        Ok(Self {
            attention: SelfAttention::new(&attention.at("attention"), spec, &start)?,
            norm1: norm(attention, "norm1")?,
            cross: seen.transpose()?,
            mlp: Mlp::new(&mlp.at("mlp"), spec, &start)?,
            norm2: norm(mlp, "norm2")?,
            dropout: spec.dropout,
        })
    }

    /// The keys and values (.., 2D) under which the layer sees another sequence (.., D').
    ///
    /// # Errors
    /// When the layer has no cross-attention.
    pub fn keys(&self, other: &Tensor) -> Result<Tensor> {
        match &self.cross {
            Some((cross, _)) => cross.keys(other),
            None => bail!("this layer has no cross-attention"),
        }
    }

    /// x (.., D) to (.., D); the mask tells which rows are one sequence. A layer with cross-attention also sees the
    /// [`Layer::keys`] of another sequence under a mask of their own; without keys it leaves its cross-attention out.
    ///
    /// # Errors
    /// When keys are given to a layer without cross-attention, or a shape does not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        mask: &Mask,
        keys: Option<(&Tensor, &Mask)>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let (layer, mask) = (self.clone(), mask.clone());
        match keys {
            None => kernels::block(&[x], move |inputs| layer.compute(&inputs[0], &mask, None, noise)),
            Some((keys, across)) => {
                let across = across.clone();
                kernels::block(&[x, keys], move |inputs| {
                    layer.compute(&inputs[0], &mask, Some((&inputs[1], &across)), noise)
                })
            }
        }
    }

    fn compute(
        &self,
        x: &Tensor,
        mask: &Mask,
        keys: Option<(&Tensor, &Mask)>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let dropout = drops(self.dropout, noise, 3);
        let seen = self.attention.forward(x, mask, dropout, self.residual(x, noise, 0))?;
        self.finish(&seen, keys, noise)
    }

    /// The next tokens x (R,D) of texts to (R,D); `reading` keeps what the layer of this number has seen. Nothing is
    /// dropped.
    ///
    /// # Errors
    /// When the layer has cross-attention and nothing stands beside the text, or a shape does not fit.
    pub fn next(&self, x: &Tensor, number: usize, reading: &mut Reading) -> Result<Tensor> {
        let seen = self.attention.next(x, number, reading, self.residual(x, None, 0))?;
        let keys = self.cross.as_ref().map(|_| reading.across(number)).transpose()?;
        self.finish(&seen, keys, None)
    }

    /// One token of each example of [`Layer::forward`] alone, (B,D), at a fraction of the cost: what a last layer is
    /// asked for where only that token is read.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    pub fn forward_one(
        &self,
        x: &Tensor,
        one: &One,
        keys: Option<(&Tensor, &Mask)>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        self.forward_over(&one.pick(x)?, (&self.own_keys(x)?, &one.mask()), keys, noise)
    }

    /// The keys and values (.., 2D) under which tokens x (.., D) of the sequence itself are seen.
    ///
    /// # Errors
    /// When its width is another.
    pub fn own_keys(&self, x: &Tensor) -> Result<Tensor> {
        self.attention.keys(x)
    }

    /// As [`Layer::forward_one`] for tokens x (B,D), of which the mask tells what each sees of [`Layer::own_keys`].
    ///
    /// # Errors
    /// As [`Layer::forward`].
    pub fn forward_over(
        &self,
        x: &Tensor,
        own: (&Tensor, &Mask),
        keys: Option<(&Tensor, &Mask)>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let dropout = drops(self.dropout, noise, 3);
        let seen = self.attention.over(x, own, dropout, self.residual(x, noise, 0))?;
        self.finish(&seen, keys, noise)
    }

    /// What follows self-attention, whose outcome `seen` has joined the residual path.
    fn finish(&self, seen: &Tensor, keys: Option<(&Tensor, &Mask)>, noise: Option<Key>) -> Result<Tensor> {
        let mut x = self.norm1.forward(seen)?;
        match (&self.cross, keys) {
            (Some((cross, norm)), Some(keys)) => {
                let dropout = drops(self.dropout, noise, 4);
                x = norm.forward(&cross.forward(&x, keys, dropout, self.residual(&x, noise, 1))?)?;
            }
            (None, Some(_)) => bail!("this layer has no cross-attention"),
            (_, None) => {}
        }
        self.norm2.forward(&self.mlp.forward(&x, self.residual(&x, noise, 2))?)
    }

    fn residual<'a>(&self, x: &'a Tensor, noise: Option<Key>, part: u64) -> Residual<'a> {
        Residual { x, dropout: drops(self.dropout, noise, part) }
    }
}

/// What precedes a head of BERT: a linear map with GELU, then layer normalisation.
#[derive(Clone)]
pub struct Transform {
    transform: Linear,
    norm: LayerNorm,
}

impl Transform {
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, spec: &Spec) -> Result<Self> {
        let (sizes, init) = ([spec.width, spec.width], matrices(spec.width));
        Ok(Self {
            transform: Linear::new(&vars.at("transform"), sizes, init, Some(Init::Constant(0.0)))?,
            norm: LayerNorm::new(&vars.at("norm"), spec.width, spec.eps)?,
        })
    }

    /// (..,D) to (..,D).
    ///
    /// # Errors
    /// When the last dimension is another.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        self.norm.forward(&kernels::activate(&self.transform.forward(hidden)?, Activation::Gelu)?)
    }
}

/// Predicts words: a transform, then the word table itself and a bias a word.
#[derive(Clone)]
pub struct Decoder {
    transform: Transform,
    table: Tensor,
    bias: Tensor,
}

impl Decoder {
    /// Tied to the word table (V,D).
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, table: &Tensor, spec: &Spec) -> Result<Self> {
        Ok(Self {
            transform: Transform::new(vars, spec)?,
            table: table.clone(),
            bias: vars.get(table.dim(0)?, "bias", Init::Constant(0.0))?,
        })
    }

    /// The same decoder, of the first `words` entries of the table alone.
    ///
    /// # Errors
    /// When the table has fewer.
    pub fn of_first(&self, words: usize) -> Result<Self> {
        Ok(Self {
            table: self.table.narrow(0, 0, words)?,
            bias: self.bias.narrow(0, 0, words)?,
            ..self.clone()
        })
    }

    /// (..,D) to (..,V), which are left to be computed.
    ///
    /// # Errors
    /// When the last dimension is another.
    pub fn forward(&self, hidden: &Tensor) -> Result<Logits> {
        Ok(Logits::new(self.transform.forward(hidden)?, &self.table, Some(&self.bias)))
    }
}
