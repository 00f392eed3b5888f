//! The decoder that ALBEF answers questions with (section 5): layers like those that fuse, which read an answer from left
//! to right and look at the question's words once these have seen the image.
//!
//! `p(a_t | a_<t, question, image) = softmax(words head(decoder(a_<t, fused question)))`
//!
//! The released code gives it 6 layers, word vectors of its own and a head tied to them, all of which begin as copies of
//! the fusing layers, of the text's word vectors and of the head of masked words (`start: take:` in an experiment).

use candle_core::{Result, Tensor};

use super::{Config, Inputs};
use crate::kernels::{Activation, Logits, Mask, Spans, random::Key};
use crate::models::nn::{Packing, Past, bert, within};
use crate::models::{Begun, Decoding, Text, Tokens, Vars, View};

/// Embeddings, layers and head.
pub struct Answerer {
    embed: bert::Embeddings,
    layers: Vec<bert::Layer>,
    head: bert::Decoder,
    /// What an answer begins with.
    begin: u32,
}

impl Answerer {
    /// With so many layers.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, depth: usize, config: &Config, inputs: &Inputs) -> Result<Self> {
        let spec = config.text.spec(Activation::Gelu, bert::EPS, config.dropout);
        let embed = bert::Embeddings::new(&vars.at("embed"), [inputs.vocabulary, inputs.words], &spec)?;
        let layer = |index| bert::Layer::new(&vars.at("layers").at(index), &spec, Some(config.text.width));
        Ok(Self {
            head: bert::Decoder::new(&vars.at("head"), embed.table(), &spec)?,
            layers: (0..depth).map(layer).collect::<Result<_>>()?,
            embed,
            begin: inputs.specials.first(),
        })
    }

    /// Answers (A,T,D), each to the question that `of` names among the fused ones (B,T',D).
    ///
    /// # Errors
    /// When a question does not exist or a shape does not fit.
    pub fn answer(
        &self,
        questions: &Tokens,
        answers: &View<Text>,
        of: &[u32],
        noise: Option<Key>,
    ) -> Result<Tokens> {
        let (keys, seen) = self.keys(questions)?;
        let input = answers.input()?;
        let packing = Packing::new(&input.mask)?;
        let spans = packing.spans();
        let (itself, across) = (Mask::itself(spans, true), Mask::across(spans.clone(), seen.take(of)?));
        let mut hidden = packing.pack(&self.embed.forward(input, within(noise, 0))?)?;
        for ((layer, keys), number) in self.layers.iter().zip(&keys).zip(1..) {
            hidden = layer.forward(&hidden, &itself, Some((keys, &across)), within(noise, number))?;
        }
        Ok(Tokens { hidden: packing.unpack(&hidden)?, mask: Some(input.mask.clone()) })
    }

    /// Vocabulary logits (..,V) of hidden states (..,D) of answers.
    ///
    /// # Errors
    /// When the last dimension is another.
    pub fn predict(&self, hidden: &Tensor) -> Result<Logits> {
        self.head.forward(hidden)
    }

    /// Answers to fused questions that have read what begins them, and the logits of their first word.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn decode(&self, questions: &Tokens) -> Result<Begun<'_>> {
        let (keys, seen) = self.keys(questions)?;
        let count = seen.ranges().len();
        let past = Past::new(count).beside(keys, seen);
        let mut answer = Answer { answerer: self, past };
        let logits = answer.next(&vec![self.begin; count])?;
        Ok((Box::new(answer), logits))
    }

    /// Keys and values of fused questions for each layer, and the rows of each question.
    fn keys(&self, questions: &Tokens) -> Result<(Vec<Tensor>, Spans)> {
        let packing = Packing::of(questions)?;
        let rows = packing.pack(&questions.hidden)?;
        let keys = self.layers.iter().map(|layer| layer.keys(&rows)).collect::<Result<_>>()?;
        Ok((keys, packing.spans().clone()))
    }
}

/// Answers as far as they are written.
struct Answer<'a> {
    answerer: &'a Answerer,
    past: Past,
}

impl Decoding for Answer<'_> {
    fn next(&mut self, words: &[u32]) -> Result<Tensor> {
        let (ids, new) = self.past.next(words)?;
        let mut reading = self.past.read(&new)?;
        let mut hidden = self.answerer.embed.at(&ids, reading.places())?;
        for (number, layer) in self.answerer.layers.iter().enumerate() {
            hidden = layer.next(&hidden, number, &mut reading)?;
        }
        self.answerer.head.forward(&hidden)?.dense()
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.past.reorder(rows)
    }
}
