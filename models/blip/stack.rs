//! The text transformer, as encoder or as decoder: which it is decides where its parts stand and what a pass asks.

use candle_core::{Result, Tensor};

use super::{ADDED, Config, Part, Sharing};
use crate::kernels::{Mask, Spans, random::Key};
use crate::models::nn::{One, Packing, Past, Seen, bert, within};
use crate::models::{Attend, Image, Inputs, Text, Tokens, Vars};

/// Embeddings and layers.
pub struct Stack {
    embed: bert::Embeddings,
    layers: Vec<bert::Layer>,
    /// The number of the first layer's keys among those of an image. Layers that share cross-attention share its keys.
    first_keys: u64,
}

/// What a pass reads and how.
pub struct Pass<'a> {
    /// Words, the first token as it is.
    pub text: &'a Text,
    /// What they look at, if anything.
    pub image: Option<&'a Seen<Image>>,
    /// Which words a word sees.
    pub attend: Attend,
    /// Where dropout draws from.
    pub noise: Option<Key>,
}

impl Stack {
    /// The stack whose parts stand where `sharing` says: with [`Sharing::All`] the encoder, else the decoder.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, sharing: Sharing, config: &Config, inputs: &Inputs) -> Result<Self> {
        let (spec, at) = (config.spec(), |part| vars.at(sharing.place(part)));
        let layer = |index| {
            let at = |part| at(part).at("layers").at(index);
            let (attention, cross) = (at(Part::SelfAttention), at(Part::CrossAttention));
            let places = bert::Places { attention, cross, mlp: at(Part::FeedForward) };
            bert::Layer::of(&places, &spec, Some(config.image.width))
        };
        let sizes = [inputs.vocabulary + ADDED, inputs.words];
        let depth = config.text.depth;
        Ok(Self {
            embed: bert::Embeddings::unsegmented(&at(Part::Embeddings).at("embed"), sizes, &spec)?,
            layers: (0..depth).map(layer).collect::<Result<_>>()?,
            first_keys: if sharing.shares(Part::CrossAttention) { 0 } else { depth as u64 },
        })
    }

    /// The word table (V+2,D).
    pub fn table(&self) -> &Tensor {
        self.embed.table()
    }

    /// How many parts draw noise, numbered from 0.
    pub fn parts(&self) -> u64 {
        1 + self.layers.len() as u64
    }

    /// The words alone, (B,T) to (B,T,D).
    ///
    /// # Errors
    /// When the text is longer than the positions or an entry lies outside the word table.
    pub fn encode(&self, text: &Text, noise: Option<Key>) -> Result<Tokens> {
        let (hidden, packing) = self.forward(&Pass { text, image: None, attend: Attend::Both, noise })?;
        Ok(Tokens { hidden: packing.unpack(&hidden)?, mask: Some(text.mask.clone()) })
    }

    /// Every visible token, (R,D).
    ///
    /// # Errors
    /// As [`Stack::encode`], or when the images are not as many as the texts.
    pub fn forward(&self, pass: &Pass) -> Result<(Tensor, Packing)> {
        self.before(self.layers.len(), pass)
    }

    /// The first token (B,D) of [`Stack::forward`] in which words see each other both ways: the last layer computes no
    /// other.
    ///
    /// # Errors
    /// As [`Stack::forward`].
    pub fn first(&self, pass: &Pass) -> Result<Tensor> {
        let earlier = self.layers.len().saturating_sub(1);
        let (hidden, packing) = self.before(earlier, pass)?;
        let class = One::first(packing.spans())?;
        // A configuration without layers was refused.
        let Some(layer) = self.layers.last() else { return class.pick(&hidden) };
        let noise = within(pass.noise, 1 + earlier as u64);
        match pass.image {
            None => layer.forward_one(&hidden, &class, None, noise),
            Some(image) => {
                let keys = (&self.keys(earlier, image)?, &class.across(image.spans()));
                layer.forward_one(&hidden, &class, Some(keys), noise)
            }
        }
    }

    /// A decoder of texts about these images that has read nothing.
    ///
    /// # Errors
    /// When encoding fails.
    pub fn begin(&self, image: &Seen<Image>) -> Result<Past> {
        let keys = (0..self.layers.len()).map(|index| self.keys(index, image)).collect::<Result<_>>()?;
        let spans = image.spans().clone();
        Ok(Past::new(spans.ranges().len()).beside(keys, spans))
    }

    /// The next words ids (R) of such texts, to (R,D); `new` tells the rows of each.
    ///
    /// # Errors
    /// As [`Stack::encode`].
    pub fn next(&self, past: &mut Past, ids: &Tensor, new: &Spans) -> Result<Tensor> {
        let mut reading = past.read(new)?;
        let mut hidden = self.embed.at(ids, reading.places())?;
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = layer.next(&hidden, index, &mut reading)?;
        }
        Ok(hidden)
    }

    /// What the first `end` layers make of the words.
    fn before(&self, end: usize, pass: &Pass) -> Result<(Tensor, Packing)> {
        let packing = Packing::new(&pass.text.mask)?;
        let spans = packing.spans();
        let itself = Mask::itself(spans, pass.attend == Attend::Causal);
        let mut hidden = packing.pack(&self.embed.forward(pass.text, within(pass.noise, 0))?)?;
        for (index, layer) in self.layers.iter().enumerate().take(end) {
            let noise = within(pass.noise, 1 + index as u64);
            hidden = match pass.image {
                None => layer.forward(&hidden, &itself, None, noise)?,
                Some(image) => {
                    let across = Mask::across(spans.clone(), image.spans().clone());
                    layer.forward(&hidden, &itself, Some((&self.keys(index, image)?, &across)), noise)?
                }
            };
        }
        Ok((hidden, packing))
    }

    fn keys(&self, index: usize, image: &Seen<Image>) -> Result<Tensor> {
        image.keys(self.first_keys + index as u64, |tokens| self.layers[index].keys(tokens))
    }
}
