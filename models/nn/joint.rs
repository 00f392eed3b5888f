//! Two sequences of each example as one, without their padding, for a transformer that both go through together.

use candle_core::{DType, Result, Tensor, bail};

use super::Packing;
use crate::kernels::{self, Mask, Spans};
use crate::models::Tokens;

/// Where the visible tokens of two sequences stand in one: an example after the other, of each those of the first
/// sequence and then those of the second.
pub struct Joint {
    parts: [Part; 2],
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
    /// Of sequences (B,T,D) and (B,N,D).
    ///
    /// # Errors
    /// When they are not of the same examples.
    pub fn new([first, second]: [&Tokens; 2]) -> Result<Self> {
        let device = first.hidden.device();
        let (first, second) = (packing(first)?, packing(second)?);
        let (firsts, seconds) = (first.spans().ranges(), second.spans().ranges());
        if firsts.len() != seconds.len() {
            bail!("{} examples joined with {}", firsts.len(), seconds.len());
        }
        let spans = Spans::of(firsts.iter().zip(seconds).map(|(first, second)| first.len() + second.len()));
        let parted =
            spans.ranges().iter().zip(firsts).map(|(joint, first)| (joint, joint.start + first.len()));
        let places = |rows: Vec<usize>| Tensor::from_iter(rows.into_iter().map(|row| row as u32), device);
        let of_first = places(parted.clone().flat_map(|(joint, border)| joint.start..border).collect())?;
        let of_second = places(parted.flat_map(|(joint, border)| border..joint.end).collect())?;
        let rows = of_first.elem_count() + of_second.elem_count();
        let parts = [Part { packing: first, places: of_first }, Part { packing: second, places: of_second }];
        Ok(Self { parts, rows, spans })
    }

    /// The rows of each example.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Every token of an example sees all of it.
    pub fn mask(&self) -> Mask {
        Mask::itself(&self.spans, false)
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
