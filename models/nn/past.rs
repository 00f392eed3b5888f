//! What a decoder keeps of the tokens it has read, so that each next word costs one token and not the whole text.
//!
//! Keys and values of all sequences lie in one tensor a layer, without padding. Sequences in another order, or one of
//! them several times, are other spans over the same rows; the next token moves the rows that are still needed.

use candle_core::{Device, Result, Tensor, bail};

use super::Prefixed;
use crate::kernels::{self, Mask, Spans};

/// The keys and values of what sequences have read, and of what they look at beside it.
pub struct Past {
    /// (R,2D) a layer; none before the first token.
    layers: Vec<Tensor>,
    spans: Spans,
    /// How many tokens each sequence has read.
    read: Vec<u32>,
    beside: Option<(Vec<Tensor>, Spans)>,
}

impl Past {
    /// Of so many sequences that have read nothing.
    pub fn new(sequences: usize) -> Self {
        let (layers, spans, read) = (Vec::new(), Spans::even(sequences, 0), vec![0; sequences]);
        Self { layers, spans, read, beside: None }
    }

    /// Behind these keys and values (.., 2D) of each layer, of which the spans tell the rows of each sequence. They take
    /// no place among the tokens.
    pub fn behind(self, layers: Vec<Tensor>, spans: Spans) -> Self {
        Self { layers, spans, ..self }
    }

    /// Looking at these keys and values (.., 2D) of each layer, of which the spans tell the rows of each sequence.
    pub fn beside(self, layers: Vec<Tensor>, spans: Spans) -> Self {
        Self { beside: Some((layers, spans)), ..self }
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.read.len()
    }

    /// Sequences in the order in which `rows` names them, any number of times.
    ///
    /// # Errors
    /// When a sequence does not exist.
    pub fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.spans = self.spans.take(rows)?;
        if let Some((_, spans)) = &mut self.beside {
            *spans = spans.take(rows)?;
        }
        self.read = rows.iter().map(|&row| self.read[row as usize]).collect();
        Ok(())
    }

    /// One word for each sequence: ids (B) and their rows.
    ///
    /// # Errors
    /// When there are other words than sequences.
    pub fn next(&self, words: &[u32]) -> Result<(Tensor, Spans)> {
        if words.len() != self.sequences() {
            bail!("{} words for {} texts", words.len(), self.sequences());
        }
        Ok((Tensor::new(words, &Device::Cpu)?, Spans::even(words.len(), 1)))
    }

    /// Takes in the next tokens, of which `new` tells the rows of each sequence.
    ///
    /// # Errors
    /// When there are other sequences.
    pub fn read(&mut self, new: &Spans) -> Result<Reading<'_>> {
        self.read_shown(new, None)
    }

    /// As [`Past::read`] of at most one token a sequence, of which those are never seen that `shown` does not name, by
    /// their rows: neither by themselves nor by later ones.
    ///
    /// # Errors
    /// When there are other sequences.
    pub fn read_shown(&mut self, new: &Spans, shown: Option<&[bool]>) -> Result<Reading<'_>> {
        if new.ranges().len() != self.sequences() {
            bail!("tokens of {} texts for {} texts", new.ranges().len(), self.sequences());
        }
        let rows = self
            .layers
            .first()
            .map_or(0, |keys| keys.elem_count() / keys.dims().last().map_or(1, |&d| d.max(1)));
        let (seen, shown) = match shown {
            None => (new.clone(), None),
            Some(shown) => {
                let rows: Vec<u32> =
                    (0..).zip(shown).filter(|(_, shown)| **shown).map(|(row, _)| row).collect();
                let kept = |range: &std::ops::Range<usize>| {
                    shown[range.clone()].iter().filter(|&&shown| shown).count()
                };
                (Spans::of(new.ranges().iter().map(kept)), Some(Tensor::new(rows, &Device::Cpu)?))
            }
        };
        let joined = Prefixed::new((&self.spans, rows), &seen)?;
        let mut places = Vec::new();
        for (read, range) in self.read.iter_mut().zip(new.ranges()) {
            places.extend((*read..).take(range.len()));
            *read += range.len() as u32;
        }
        self.spans = joined.spans().clone();
        let itself = Mask::Spans { queries: new.clone(), keys: self.spans.clone(), causal: true };
        let across = self.beside.as_ref().map(|(_, keys)| Mask::across(new.clone(), keys.clone()));
        Ok(Reading { past: self, joined, shown, itself, across, places })
    }
}

/// One pass over the next tokens of sequences.
pub struct Reading<'a> {
    past: &'a mut Past,
    joined: Prefixed,
    /// The rows of the new tokens that are seen; all of them without.
    shown: Option<Tensor>,
    itself: Mask,
    across: Option<Mask>,
    places: Vec<u32>,
}

impl Reading<'_> {
    /// Where each new token stands in its sequence (R), from 0.
    pub fn places(&self) -> &[u32] {
        &self.places
    }

    /// How many tokens each sequence holds, the new ones and those before it included.
    pub fn spans(&self) -> &Spans {
        self.joined.spans()
    }

    /// All keys and values of a layer, given those of the new tokens (R,2D), and what the new tokens see of them.
    ///
    /// # Errors
    /// When the layers before it were left out, or a shape does not fit.
    pub fn itself(&mut self, layer: usize, new: Tensor) -> Result<(Tensor, Mask)> {
        let new = match &self.shown {
            None => new,
            Some(rows) => kernels::gather_vectors(&new, rows)?,
        };
        let layers = &mut self.past.layers;
        let keys = match layers.get(layer) {
            None => new,
            Some(before) => self.joined.join(before, &new)?,
        };
        if layer > layers.len() {
            bail!("layer {layer} reads before the layers below it");
        }
        if layer == layers.len() {
            layers.push(keys.clone())
        } else {
            layers[layer] = keys.clone()
        }
        Ok((keys, self.itself.clone()))
    }

    /// The keys and values of what a layer looks at beside the tokens, and which of them each new token sees.
    ///
    /// # Errors
    /// When there is nothing for this layer.
    pub fn across(&self, layer: usize) -> Result<(&Tensor, &Mask)> {
        match (&self.past.beside, &self.across) {
            (Some((layers, _)), Some(mask)) if layer < layers.len() => Ok((&layers[layer], mask)),
            _ => bail!("nothing stands beside the tokens of layer {layer}"),
        }
    }
}
