//! How pixels and words become vectors, and how single vectors are picked out again.

use candle_core::{DType, Result, Tensor, bail};

use super::One;
use crate::kernels::{self, Spans};
use crate::models::{Init, Vars};

/// Image patches as tokens (Dosovitskiy et al., arXiv:2010.11929, equation 1): a linear map of each patch, a class
/// token before them, a learned vector for each position.
pub struct Patches {
    weight: Tensor,
    bias: Option<Tensor>,
    class: Tensor,
    positions: Tensor,
    size: usize,
    patch: usize,
}

/// How [`Patches`] begin.
pub struct PatchStart {
    /// The linear map.
    pub weight: Init,
    /// Its bias, if it has one.
    pub bias: Option<Init>,
    /// The class token and the positions.
    pub tokens: Init,
}

impl Patches {
    /// Square patches of `patch` pixels of an image of `size` pixels, as vectors of `width`.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, size: usize, patch: usize, width: usize, start: &PatchStart) -> Result<Self> {
        let positions = vars.get((Self::tokens(size, patch), width), "positions", start.tokens)?;
        Ok(Self { positions, ..Self::unplaced(vars, size, patch, width, start)? })
    }

    /// [`Patches::new`] without learned positions.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn unplaced(
        vars: &Vars,
        size: usize,
        patch: usize,
        width: usize,
        start: &PatchStart,
    ) -> Result<Self> {
        Ok(Self {
            weight: vars.get((width, 3 * patch * patch), "weight", start.weight)?,
            bias: start.bias.map(|bias| vars.get(width, "bias", bias)).transpose()?,
            class: vars.get(width, "class", start.tokens)?,
            positions: Tensor::zeros((Self::tokens(size, patch), width), DType::F32, vars.device())?,
            size,
            patch,
        })
    }

    /// N: the number of tokens of an image, the class token included.
    pub fn tokens(size: usize, patch: usize) -> usize {
        1 + (size / patch.max(1)).pow(2)
    }

    /// What is wrong with a patch of an image of `size` pixels, one sentence a fault.
    pub fn faults(size: usize, patch: usize) -> Option<String> {
        (patch == 0 || !size.is_multiple_of(patch) || size < patch)
            .then(|| format!("patch {patch} does not divide images of {size} pixels"))
    }

    /// The learned positions (N,D), that of the class token first.
    pub fn positions(&self) -> &Tensor {
        &self.positions
    }

    /// Pixels (B,3,S,S) to tokens (B,N,D), the class token first.
    ///
    /// # Errors
    /// When the image has another size.
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let (_, _, rows, columns) = pixels.dims4()?;
        if [rows, columns] != [self.size; 2] {
            bail!("images of {rows} x {columns} pixels for a model of {} x {}", self.size, self.size);
        }
        self.forward_at(&self.positions, pixels, None)
    }

    /// [`Patches::forward`] of images of any size at given positions, (N,D) of all images or (B,N,D). With a vector (D)
    /// and a mask (B,N-1), the vector stands for the patches where the mask is 1.
    ///
    /// # Errors
    /// When patches do not divide the image, or the positions or the mask are of other tokens.
    pub fn forward_at(
        &self,
        positions: &Tensor,
        pixels: &Tensor,
        masked: Option<(&Tensor, &Tensor)>,
    ) -> Result<Tensor> {
        // A patch of zeros stands where the class token will be. Class, bias and positions are then one table added
        // to the product, and no token is copied to make room.
        let patches = kernels::patchify(pixels, self.patch, 1)?;
        let ((_, tokens, _), width) = (patches.dims3()?, self.class.elem_count());
        let class = self.class.reshape((1, width))?;
        let table = match &self.bias {
            None => class.pad_with_zeros(0, 0, tokens - 1)?,
            Some(bias) => Tensor::cat(&[&class, &bias.broadcast_as((tokens - 1, width))?], 0)?,
        };
        let product = match masked {
            None => kernels::linear(&patches, &self.weight, None)?,
            Some((vector, mask)) => self.masked(&patches, vector, mask)?,
        };
        match positions.rank() {
            2 => kernels::add_table(&product, &(table + positions)?),
            _ => kernels::add(&kernels::add_table(&product, &table)?, positions),
        }
    }

    /// The product of the patches and the map; where the mask is 1, what gives the vector once the bias is added.
    fn masked(&self, patches: &Tensor, vector: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let masked = mask.pad_with_zeros(1, 1, 0)?.unsqueeze(2)?;
        let seen = patches.broadcast_mul(&masked.affine(-1.0, 1.0)?)?;
        let vector = match &self.bias {
            None => vector.clone(),
            Some(bias) => (vector - bias)?,
        };
        let vectors = kernels::linear(&masked, &vector.unsqueeze(1)?, None)?;
        kernels::add(&kernels::linear(&seen, &self.weight, None)?, &vectors)
    }
}

/// A vector for each word of the vocabulary plus one for each position.
pub struct Words {
    words: Tensor,
    positions: Tensor,
}

impl Words {
    /// For a vocabulary, a number of positions and a width, which begin with the two `inits`.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(
        vars: &Vars,
        [vocabulary, positions, width]: [usize; 3],
        [words, places]: [Init; 2],
    ) -> Result<Self> {
        Ok(Self {
            words: vars.get((vocabulary, width), "words", words)?,
            positions: vars.get((positions, width), "positions", places)?,
        })
    }

    /// [`Words::new`] with zeros for positions, of which so many are allowed.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn unplaced(vars: &Vars, [vocabulary, positions, width]: [usize; 3], words: Init) -> Result<Self> {
        Ok(Self {
            words: vars.get((vocabulary, width), "words", words)?,
            positions: Tensor::zeros((positions, width), DType::F32, vars.device())?,
        })
    }

    /// The vectors of the vocabulary (V,D).
    pub fn table(&self) -> &Tensor {
        &self.words
    }

    /// ids (B,T) to (B,T,D).
    ///
    /// # Errors
    /// When the text is longer than the positions or an entry lies outside the vocabulary.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (_, length) = ids.dims2()?;
        let positions = self.positions.dim(0)?;
        if length > positions {
            bail!("a text of {length} tokens for {positions} positions");
        }
        kernels::add_table(&kernels::embedding(&self.words, ids)?, &self.positions.narrow(0, 0, length)?)
    }
}

/// The first token of each example, where [CLS] and class tokens stand: (B,T,D) to (B,D).
///
/// # Errors
/// When the sequence is empty.
pub fn first(hidden: &Tensor) -> Result<Tensor> {
    let (batch, length, _) = hidden.dims3()?;
    One::first(&Spans::even(batch, length), hidden)?.pick(hidden)
}

/// Vectors scaled to length one.
///
/// # Errors
/// When the vectors have no element.
pub fn unit(x: &Tensor) -> Result<Tensor> {
    kernels::l2_normalize(x, 1e-12)
}
