//! One layer of the Q-Former: BERT's, with cross-attention for queries where it has any, and a feed-forward half for
//! queries beside the one for words.

use candle_core::{Result, Tensor, bail};

use crate::kernels::{self, Dropout, Mask, Spans, random::Key};
use crate::models::nn::{
    CrossAttention, LayerNorm, Mlp, Prefixed, Reading, Residual, Seen, SelfAttention, Spec, Start, deviation,
    drops,
};
use crate::models::{Image, Init, Vars};

/// The places of a layer that drop something, each with noise of its own.
#[derive(Clone, Copy)]
enum Place {
    Attention,
    Cross,
    QueryMlp,
    WordMlp,
    AttentionWeights,
    CrossWeights,
}

/// Keys and values of image features and which of them each query sees.
pub type Across = (Tensor, Mask);

/// Half a layer that ends in a normalisation.
#[derive(Clone)]
struct FeedForward {
    mlp: Mlp,
    norm: LayerNorm,
}

#[derive(Clone)]
pub struct Layer {
    attention: SelfAttention,
    norm: LayerNorm,
    cross: Option<(CrossAttention, LayerNorm)>,
    query: FeedForward,
    word: Option<FeedForward>,
    dropout: f64,
}

impl Layer {
    /// With cross-attention over image features of that width, if one is given, and with the half for words if there are
    /// words.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, spec: &Spec, image: Option<usize>, words: bool) -> Result<Self> {
        let start = Start::all(Init::Normal { std: deviation(spec.width) });
        let norm = |vars: &Vars| LayerNorm::new(&vars.at("norm"), spec.width, spec.eps);
        let cross = image.map(|image| -> Result<_> {
            let vars = vars.at("cross");
            Ok((CrossAttention::new(&vars, spec, image, &start)?, norm(&vars)?))
        });
        let feed_forward = |name| -> Result<_> {
            let vars = vars.at(name);
            Ok(FeedForward { mlp: Mlp::new(&vars.at("mlp"), spec, &start)?, norm: norm(&vars)? })
        };
        let attention = vars.at("attention");
        Ok(Self {
            attention: SelfAttention::new(&attention, spec, &start)?,
            norm: norm(&attention)?,
            cross: cross.transpose()?,
            query: feed_forward("query")?,
            word: words.then(|| feed_forward("word")).transpose()?,
            dropout: spec.dropout,
        })
    }

    /// The keys and values (.., 2D) under which queries and words see x (.., D).
    ///
    /// # Errors
    /// When its width is another.
    pub fn keys(&self, x: &Tensor) -> Result<Tensor> {
        self.attention.keys(x)
    }

    /// The keys and values (.., 2D) of image features (.., D'), if the layer looks at them.
    ///
    /// # Errors
    /// When their width is another.
    pub fn image_keys(&self, features: &Tensor) -> Result<Option<Tensor>> {
        self.cross.as_ref().map(|(cross, _)| cross.keys(features)).transpose()
    }

    /// [`Layer::image_keys`] of images, for the queries whose rows these are; `number` is the layer's.
    ///
    /// # Errors
    /// When the width of the features is another.
    pub fn across(&self, number: u64, image: &Seen<Image>, queries: &Spans) -> Result<Option<Across>> {
        let Some((cross, _)) = &self.cross else { return Ok(None) };
        let keys = image.keys(number, |features| cross.keys(features))?;
        Ok(Some((keys, Mask::across(queries.clone(), image.spans().clone()))))
    }

    /// Queries (.., D) over the keys and values that they see of themselves, or of themselves and words. `spans` of the
    /// queries and of the keys tell which rows belong together.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn queries(
        &self,
        x: &Tensor,
        (keys, queries, spans): (&Tensor, &Spans, &Spans),
        across: Option<&Across>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let (layer, mask) = (self.clone(), Mask::across(queries.clone(), spans.clone()));
        let compute = move |x: &Tensor, keys: &Tensor, across: Option<(&Tensor, &Mask)>| {
            let dropout = layer.drops(noise, Place::AttentionWeights);
            let seen = layer.attention.over(
                x,
                (keys, &mask),
                dropout,
                layer.residual(x, noise, Place::Attention),
            )?;
            layer.finish_queries(layer.norm.forward(&seen)?, across, noise)
        };
        match across.cloned() {
            None => kernels::block(&[x, keys], move |inputs| compute(&inputs[0], &inputs[1], None)),
            Some((image, mask)) => kernels::block(&[x, keys, &image], move |inputs| {
                compute(&inputs[0], &inputs[1], Some((&inputs[2], &mask)))
            }),
        }
    }

    /// Words (R,D) that see those of their own text alone.
    ///
    /// # Errors
    /// Without a half for words.
    pub fn words(&self, x: &Tensor, spans: &Spans, noise: Option<Key>) -> Result<Tensor> {
        let (layer, mask) = (self.clone(), Mask::itself(spans, false));
        kernels::block(&[x], move |inputs| {
            let x = &inputs[0];
            layer.finish_words(layer.attend(x, &mask, noise)?, noise)
        })
    }

    /// Words (R,D) that see queries, of which `before` are the keys and values (.., 2D), and the words before them.
    ///
    /// # Errors
    /// Without a half for words.
    pub fn words_after(
        &self,
        before: &Tensor,
        x: &Tensor,
        (joined, words): (&Prefixed, &Spans),
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let (layer, joined) = (self.clone(), joined.clone());
        let mask = Mask::Spans { queries: words.clone(), keys: joined.spans().clone(), causal: true };
        kernels::block(&[before, x], move |inputs| {
            let (before, x) = (&inputs[0], &inputs[1]);
            let keys = joined.join(before, &layer.keys(x)?)?;
            let dropout = layer.drops(noise, Place::AttentionWeights);
            let seen = layer.attention.over(
                x,
                (&keys, &mask),
                dropout,
                layer.residual(x, noise, Place::Attention),
            )?;
            layer.finish_words(layer.norm.forward(&seen)?, noise)
        })
    }

    /// The next words x (R,D) behind what `reading` keeps for the layer of this number, to (R,D). Nothing is dropped.
    ///
    /// # Errors
    /// Without a half for words.
    pub fn next(&self, x: &Tensor, number: usize, reading: &mut Reading) -> Result<Tensor> {
        let seen = self.attention.next(x, number, reading, self.residual(x, None, Place::Attention))?;
        self.finish_words(self.norm.forward(&seen)?, None)
    }

    /// Prefixed queries and words (R,D) that see each other.
    ///
    /// # Errors
    /// Without a half for words.
    pub fn both(
        &self,
        x: &Tensor,
        joined: &Prefixed,
        across: Option<&Across>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let (layer, joined) = (self.clone(), joined.clone());
        let compute = move |x: &Tensor, across: Option<(&Tensor, &Mask)>| {
            let seen = layer.attend(x, &Mask::itself(joined.spans(), false), noise)?;
            let queries = layer.finish_queries(joined.first(&seen)?, across, noise)?;
            joined.join(&queries, &layer.finish_words(joined.second(&seen)?, noise)?)
        };
        match across.cloned() {
            None => kernels::block(&[x], move |inputs| compute(&inputs[0], None)),
            Some((image, mask)) => {
                kernels::block(&[x, &image], move |inputs| compute(&inputs[0], Some((&inputs[1], &mask))))
            }
        }
    }

    /// Rows (R,D) that see those of their own sequence.
    fn attend(&self, x: &Tensor, mask: &Mask, noise: Option<Key>) -> Result<Tensor> {
        let dropout = self.drops(noise, Place::AttentionWeights);
        self.norm.forward(&self.attention.forward(
            x,
            mask,
            dropout,
            self.residual(x, noise, Place::Attention),
        )?)
    }

    /// What follows self-attention for queries.
    fn finish_queries(
        &self,
        mut x: Tensor,
        across: Option<(&Tensor, &Mask)>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        if let (Some((cross, norm)), Some(keys)) = (&self.cross, across) {
            let dropout = self.drops(noise, Place::CrossWeights);
            x = norm.forward(&cross.forward(&x, keys, dropout, self.residual(&x, noise, Place::Cross))?)?;
        }
        self.query.norm.forward(&self.query.mlp.forward(&x, self.residual(&x, noise, Place::QueryMlp))?)
    }

    /// What follows self-attention for words.
    fn finish_words(&self, x: Tensor, noise: Option<Key>) -> Result<Tensor> {
        let Some(word) = &self.word else { bail!("a Q-Former without a text branch reads no words") };
        word.norm.forward(&word.mlp.forward(&x, self.residual(&x, noise, Place::WordMlp))?)
    }

    fn drops(&self, noise: Option<Key>, place: Place) -> Option<Dropout> {
        drops(self.dropout, noise, place as u64)
    }

    fn residual<'a>(&self, x: &'a Tensor, noise: Option<Key>, place: Place) -> Residual<'a> {
        Residual { x, dropout: self.drops(noise, place) }
    }
}
