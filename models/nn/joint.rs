//! Two sequences of each example as one, without their padding, for a transformer that both go through together.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::Packing;
use super::joined::Joined;
use crate::kernels::{self, Mask, Spans};
use crate::models::Tokens;

/// Where the visible tokens of two sequences stand in one: an example after the other, of each those of the first
/// sequence and then those of the second; tokens that stand apart follow.
pub struct Joint {
    joined: Joined,
    padded: [Padded; 2],
    /// Which rows see each other.
    blocks: Spans,
    /// Of each example the block that begins with its first token.
    spans: Spans,
}

/// The places of a sequence (B,T) to which its tokens return, in the order in which they are joined, u32.
struct Padded {
    places: Tensor,
    dims: [usize; 2],
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
        let ((examples, words, _), (others, regions, _)) = (first.hidden.dims3()?, second.hidden.dims3()?);
        if examples != others {
            bail!("{examples} examples joined with {others}");
        }
        let (packings, lengths) = ([packing(first)?, packing(second)?], [words, regions]);
        let places = [packings[0].places()?, packings[1].places()?];
        let (mut rows, mut blocks, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
        for example in 0..examples {
            firsts.push(blocks.len() as u32);
            for own in [false, true] {
                let start = rows.len();
                for part in 0..2 {
                    let tokens = packings[part].spans().ranges()[example].clone();
                    let places = places[part][tokens].iter().map(|&place| place as usize);
                    let chosen = places.filter(|&place| apart(part, example, place) == own);
                    rows.extend(chosen.map(|place| (part, example * lengths[part] + place)));
                }
                if !own || rows.len() > start {
                    blocks.push(rows.len() - start);
                }
            }
        }
        let blocks = Spans::of(blocks);
        let padded = |own: usize| -> Result<Padded> {
            let places: Vec<u32> =
                rows.iter().filter(|(part, _)| *part == own).map(|&(_, row)| row as u32).collect();
            Ok(Padded { places: Tensor::new(places, &Device::Cpu)?, dims: [examples, lengths[own]] })
        };
        Ok(Self {
            joined: Joined::new(&rows, examples * words)?,
            padded: [padded(0)?, padded(1)?],
            spans: blocks.take(&firsts)?,
            blocks,
        })
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
    pub fn pack(&self, sequences: [&Tensor; 2]) -> Result<Tensor> {
        self.joined.join(sequences)
    }

    /// (R,D) to (B,T,D) and (B,N,D), zero on padding.
    ///
    /// # Errors
    /// When x has other rows.
    pub fn unpack(&self, x: &Tensor) -> Result<[Tensor; 2]> {
        let part = |part: usize| {
            let Padded { places, dims } = &self.padded[part];
            kernels::spread_vectors(&self.joined.part(x, part)?, places, dims)
        };
        Ok([part(0)?, part(1)?])
    }
}

fn packing(tokens: &Tokens) -> Result<Packing> {
    match &tokens.mask {
        Some(mask) => Packing::new(mask),
        None => {
            let (batch, length, _) = tokens.hidden.dims3()?;
            Packing::new(&Tensor::ones((batch, length), DType::F32, &Device::Cpu)?)
        }
    }
}
