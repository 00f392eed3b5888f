//! Relative positions as learned biases of attention: one number for each head of each layer and each relation of two
//! tokens.
//!
//! The released code keeps all of them in one table, in this order: the offsets of two patches on a grid of S x S, row by
//! row of the offset; from an image's class token to its others, from those to it, from it to itself; from a word to an
//! image, from an image to a word; the offsets of two words; and the class token of a text as that of an image.

use candle_core::{Device, Result, Tensor};

use crate::kernels;
use crate::models::{Init, Vars};

/// The table, and the row of it for each pair of places.
pub(super) struct Relative {
    /// (rows, depth H): those of a layer stand side by side.
    table: Tensor,
    /// (N,N), (T,T) and (T+N,T+N), u32; in a pair words stand before image tokens.
    image: Tensor,
    text: Tensor,
    pair: Tensor,
    heads: usize,
}

/// The sizes that decide which relations there are.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// S: patches along a side of an image.
    pub side: usize,
    /// T: length of a text.
    pub words: usize,
    /// Length of the longest text that the table has offsets for.
    pub longest: usize,
}

impl Relative {
    pub(super) fn new(vars: &Vars, sizes: Sizes, depth: usize, heads: usize) -> Result<Self> {
        let (words, tokens) = (sizes.words, sizes.side * sizes.side + 1);
        let square = |places: usize, row: &dyn Fn(usize, usize) -> usize| {
            let rows = (0..places).flat_map(|from| (0..places).map(move |to| row(from, to) as u32));
            Tensor::from_vec(rows.collect(), (places, places), &Device::Cpu)?.to_device(vars.device())
        };
        let (image, text) = (|from, to| sizes.image(from, to), |from, to| sizes.text(from, to));
        let pair = |from: usize, to: usize| match (from.checked_sub(words), to.checked_sub(words)) {
            (None, None) => sizes.text(from, to),
            (None, Some(_)) => sizes.special(),
            (Some(_), None) => sizes.special() + 1,
            (Some(from), Some(to)) => sizes.image(from, to),
        };
        Ok(Self {
            table: vars.get((sizes.rows(), depth * heads), "table", Init::Constant(0.0))?,
            image: square(tokens, &image)?,
            text: square(words, &text)?,
            pair: square(words + tokens, &pair)?,
            heads,
        })
    }

    pub(super) fn image(&self) -> Tensor {
        self.image.clone()
    }

    pub(super) fn text(&self) -> Tensor {
        self.text.clone()
    }

    pub(super) fn pair(&self) -> Tensor {
        self.pair.clone()
    }

    /// The part of the table that belongs to one layer.
    pub(super) fn layer(&self, index: usize) -> Column {
        Column { table: self.table.clone(), first: index * self.heads, heads: self.heads }
    }
}

impl Sizes {
    /// Relations of two patches.
    fn grid(self) -> usize {
        (2 * self.side - 1).pow(2)
    }

    /// The row of a word that looks at an image; the next is that of an image token that looks at a word.
    fn special(self) -> usize {
        self.grid() + 3
    }

    /// Rows of the whole table.
    pub(super) fn rows(self) -> usize {
        self.grid() + 5 + 2 * self.longest
    }

    fn image(self, from: usize, to: usize) -> usize {
        let Self { side, .. } = self;
        match (from, to) {
            (0, 0) => self.grid() + 2,
            (0, _) => self.grid(),
            (_, 0) => self.grid() + 1,
            _ => {
                let offset = |from: usize, to: usize| from + side - 1 - to;
                let (from, to) = (from - 1, to - 1);
                offset(from / side, to / side) * (2 * side - 1) + offset(from % side, to % side)
            }
        }
    }

    fn text(self, from: usize, to: usize) -> usize {
        match (from, to) {
            (0, 0) => self.rows() - 1,
            (0, _) => self.rows() - 3,
            (_, 0) => self.rows() - 2,
            // The other way round than between patches, as in the released code.
            _ => self.special() + 2 + (self.longest + to) - (from + 2),
        }
    }
}

/// One layer's columns of the table.
#[derive(Clone)]
pub(super) struct Column {
    table: Tensor,
    first: usize,
    heads: usize,
}

impl Column {
    /// The biases (H,P,P) of pairs of places whose rows of the table are `index` (P,P).
    pub(super) fn scores(&self, index: &Tensor) -> Result<Tensor> {
        let own = self.table.narrow(1, self.first, self.heads)?;
        kernels::embedding(&own, index)?.permute((2, 0, 1))?.contiguous()
    }
}
