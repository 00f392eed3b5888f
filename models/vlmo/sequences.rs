//! What goes through the blocks together: images, texts or pairs, and which of their tokens meet which expert.

use std::ops::Range;
use std::rc::Rc;

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::kernels::{self, Spans, random::Key};
use crate::models::nn::{Packing, within};

/// Which experts a pass meets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Vision experts.
    Image,
    /// Language experts.
    Text,
    /// Vision-language experts, and below them each token that of its modality.
    Pair,
}

/// One pass through the blocks.
#[derive(Clone)]
pub(super) struct Pass {
    pub sequences: Rc<Sequences>,
    pub route: Route,
    pub noise: Option<Key>,
}

/// A batch of token sequences without their padding.
pub(super) struct Sequences {
    /// None where nothing pads them.
    packing: Option<Packing>,
    spans: Spans,
    /// Where each token stands: words in 0..T, image tokens behind those that a text may have at most.
    places: Vec<u32>,
    /// The relation of each pair of places (P,P), u32; none with absolute positions.
    pub relations: Option<Tensor>,
    parts: Option<Parts>,
}

/// The words and the image tokens of pairs.
struct Parts {
    /// Their rows among all, u32.
    rows: [Tensor; 2],
    spans: [Spans; 2],
    /// Where each row stands among all words and, behind them, all image tokens, u32.
    order: Tensor,
}

impl Sequences {
    /// So many images of N tokens.
    pub(super) fn images([batch, tokens]: [usize; 2], relations: Option<Tensor>) -> Self {
        let places = (0..tokens as u32).collect::<Vec<_>>().repeat(batch);
        Self { packing: None, spans: Spans::even(batch, tokens), places, relations, parts: None }
    }

    /// Texts of this mask (B,T).
    pub(super) fn texts(mask: &Tensor, relations: Option<Tensor>) -> Result<Self> {
        let packing = Packing::new(mask)?;
        let (spans, places) = (packing.spans().clone(), packing.places()?);
        Ok(Self { packing: Some(packing), spans, places, relations, parts: None })
    }

    /// Texts of this mask (B,T'), each followed by N image tokens; `words` is T.
    pub(super) fn pairs(
        mask: &Tensor,
        tokens: usize,
        words: usize,
        relations: Option<Tensor>,
    ) -> Result<Self> {
        let (batch, length) = mask.dims2()?;
        let image = Tensor::ones((batch, tokens), DType::F32, &Device::Cpu)?;
        let packing = Packing::new(&Tensor::cat(&[mask, &image], 1)?)?;
        let spans = packing.spans().clone();
        let place = |place| if place < length as u32 { place } else { place + (words - length) as u32 };
        let places = packing.places()?.into_iter().map(place).collect();
        let parts = Some(Parts::new(&spans, tokens)?);
        Ok(Self { packing: Some(packing), spans, places, relations, parts })
    }

    pub(super) fn spans(&self) -> &Spans {
        &self.spans
    }

    pub(super) fn places(&self) -> &[u32] {
        &self.places
    }

    /// (B,..,D) without what pads it.
    pub(super) fn pack(&self, x: &Tensor) -> Result<Tensor> {
        self.packing.as_ref().map_or_else(|| Ok(x.clone()), |packing| packing.pack(x))
    }

    /// The reverse, zero on padding.
    pub(super) fn unpack(&self, x: &Tensor) -> Result<Tensor> {
        self.packing.as_ref().map_or_else(|| Ok(x.clone()), |packing| packing.unpack(x))
    }
}

impl Parts {
    /// Of sequences that end in so many image tokens.
    fn new(spans: &Spans, tokens: usize) -> Result<Self> {
        let (mut rows, mut order) = ([const { Vec::new() }; 2], Vec::new());
        let words: usize = spans.ranges().iter().map(|range| range.len() - tokens).sum();
        let mut next = [0, words as u32];
        for Range { start, end } in spans.ranges().iter().cloned() {
            let (start, border, end) = (start as u32, (end - tokens) as u32, end as u32);
            for (part, range) in [start..border, border..end].into_iter().enumerate() {
                order.extend(next[part]..next[part] + range.len() as u32);
                next[part] += range.len() as u32;
                rows[part].extend(range);
            }
        }
        let lengths = spans.ranges().iter().map(|range| range.len() - tokens);
        let [words, patches] = rows.map(|rows| Tensor::new(rows, &Device::Cpu));
        let spans = [Spans::of(lengths), Spans::even(spans.ranges().len(), tokens)];
        Ok(Self { rows: [words?, patches?], spans, order: Tensor::new(order, &Device::Cpu)? })
    }
}

/// The rows that one part computes, example by example.
pub(super) struct Rows<'a> {
    pub spans: &'a Spans,
    pub noise: Option<Key>,
}

/// Parts of one kind, one of which a token meets.
#[derive(Clone)]
pub(super) enum Multiway<T> {
    /// The same for every token.
    Shared(T),
    /// One for each modality. Pairs have one of their own, or else each token meets that of its modality.
    Apart { text: T, image: T, pair: Option<T> },
}

impl<T> Multiway<T> {
    /// What the first token of a sequence meets; in a pair that is a word.
    pub(super) fn first(&self, route: Route) -> &T {
        match (self, route) {
            (Self::Shared(part), _)
            | (Self::Apart { image: part, .. }, Route::Image)
            | (Self::Apart { pair: Some(part), .. }, Route::Pair)
            | (Self::Apart { text: part, .. }, _) => part,
        }
    }

    /// What `compute` makes of tensors (R,..) whose rows are the pass's tokens, by the part that each row meets.
    pub(super) fn apply<const N: usize>(
        &self,
        pass: &Pass,
        inputs: [&Tensor; N],
        compute: impl Fn(&T, [&Tensor; N], Rows) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let Self::Apart { text, image, pair: None } = self else {
            return compute(self.first(pass.route), inputs, pass.rows());
        };
        if pass.route != Route::Pair {
            return compute(self.first(pass.route), inputs, pass.rows());
        }
        let Some(Parts { rows, spans, order }) = &pass.sequences.parts else {
            bail!("a sequence of one modality among pairs");
        };
        let side = |side: usize, part: &T| {
            let own = inputs.map(|x| kernels::gather_vectors(x, &rows[side]));
            let own = own.into_iter().collect::<Result<Vec<_>>>()?;
            let rows = Rows { spans: &spans[side], noise: within(pass.noise, side as u64) };
            compute(part, std::array::from_fn(|index| &own[index]), rows)
        };
        kernels::gather_vectors_of(&[&side(0, text)?, &side(1, image)?], order)
    }
}

impl Pass {
    /// The pass through the block of this number.
    pub(super) fn at(&self, number: usize) -> Self {
        Self { noise: within(self.noise, number as u64), ..self.clone() }
    }

    fn rows(&self) -> Rows<'_> {
        Rows { spans: self.sequences.spans(), noise: self.noise }
    }
}
