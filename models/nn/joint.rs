//! Two sequences of each example as one, without their padding, for a transformer that both go through together.

use candle_core::{DType, Result, Tensor, bail};

use super::Packing;
use crate::kernels::{self, Mask, Spans};
use crate::models::Tokens;

/// Where the visible tokens of two sequences stand in one: an example after the other, of each those of the first
/// sequence and then those of the second; tokens that stand apart follow.
pub struct Joint {
    parts: [Part; 2],
    /// Which rows see each other.
    blocks: Spans,
    /// Of each example the block that begins with its first token.
    spans: Spans,
    /// R.
    rows: usize,
}

struct Part {
    packing: Packing,
    /// The rows of its tokens among all R, u32.
    places: Tensor,
}

impl Joint {
    /// Of sequences (B,T,D) and (B,N,D), of which every token of an example sees all of it.
    ///
    /// # Errors
    /// When they are not of the same examples.
    pub fn new(sequences: [&Tokens; 2]) -> Result<Self> {
        Self::parted(sequences, |_, _, _| false)
    }

    /// As [`Joint::new`], but the tokens of an example that stand `apart` see each other alone, and no other token sees
    /// them. `apart` is asked of a sequence (0 or 1), an example and a place in the padded sequence.
    ///
    /// # Errors
    /// When they are not of the same examples.
    pub fn parted(
        [first, second]: [&Tokens; 2],
        apart: impl Fn(usize, usize, usize) -> bool,
    ) -> Result<Self> {
        let device = first.hidden.device();
        let packings = [packing(first)?, packing(second)?];
        let [examples, others] = [0, 1].map(|part| packings[part].spans().ranges().len());
        if examples != others {
            bail!("{examples} examples joined with {others}");
        }
        let padded = [packings[0].places()?, packings[1].places()?];
        let mut places = [0, 1].map(|part| vec![0u32; padded[part].len()]);
        let (mut lengths, mut firsts, mut rows) = (Vec::new(), Vec::new(), 0);
        for example in 0..examples {
            firsts.push(lengths.len() as u32);
            for own in [false, true] {
                let start = rows;
                for part in 0..2 {
                    for token in packings[part].spans().ranges()[example].clone() {
                        if apart(part, example, padded[part][token] as usize) == own {
                            places[part][token] = rows as u32;
                            rows += 1;
                        }
                    }
                }
                if !own || rows > start {
                    lengths.push(rows - start);
                }
            }
        }
        let blocks = Spans::of(lengths);
        let [first, second] = packings;
        let [of_first, of_second] = places;
        let part =
            |packing, places| -> Result<_> { Ok(Part { packing, places: Tensor::new(places, device)? }) };
        let parts = [part(first, of_first)?, part(second, of_second)?];
        Ok(Self { parts, spans: blocks.take(&firsts)?, blocks, rows })
    }

    /// Of each example the rows that its first token sees, itself the first of them.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Who sees whom.
    pub fn mask(&self) -> Mask {
        Mask::itself(&self.blocks, false)
    }

    /// (B,T,D) and (B,N,D) to (R,D).
    ///
    /// # Errors
    /// When a sequence has other tokens.
    pub fn pack(&self, [first, second]: [&Tensor; 2]) -> Result<Tensor> {
        kernels::add(&self.parts[0].place(first, self.rows)?, &self.parts[1].place(second, self.rows)?)
    }

    /// (R,D) to (B,T,D) and (B,N,D), zero on padding.
    ///
    /// # Errors
    /// When x has other rows.
    pub fn unpack(&self, x: &Tensor) -> Result<[Tensor; 2]> {
        Ok([self.parts[0].take(x)?, self.parts[1].take(x)?])
    }
}

impl Part {
    /// The sequence at its places, zero at those of the other.
    fn place(&self, sequence: &Tensor, rows: usize) -> Result<Tensor> {
        kernels::spread_vectors(&self.packing.pack(sequence)?, &self.places, &[rows])
    }

    fn take(&self, x: &Tensor) -> Result<Tensor> {
        self.packing.unpack(&kernels::gather_vectors(x, &self.places)?)
    }
}

fn packing(tokens: &Tokens) -> Result<Packing> {
    match &tokens.mask {
        Some(mask) => Packing::new(mask),
        None => {
            let (batch, length, _) = tokens.hidden.dims3()?;
            Packing::new(&Tensor::ones((batch, length), DType::F32, tokens.hidden.device())?)
        }
    }
}
