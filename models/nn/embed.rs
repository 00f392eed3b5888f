//! How pixels and words become vectors, and how single vectors are picked out again.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::One;
use crate::kernels::{self, Spans};
use crate::models::{Init, Rows, Tokens, Vars, View};

/// Image patches as tokens (Dosovitskiy et al., arXiv:2010.11929, equation 1): a linear map of each patch, a class
/// token before them where the model has one, a learned vector for each position.
pub struct Patches {
    weight: Tensor,
    bias: Option<Tensor>,
    class: Option<Tensor>,
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
        let class = vars.get(width, "class", start.tokens)?;
        Ok(Self { class: Some(class), ..Self::bare(vars, size, patch, width, start)? })
    }

    /// [`Patches::new`] without a class token.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn alone(vars: &Vars, size: usize, patch: usize, width: usize, start: &PatchStart) -> Result<Self> {
        let positions = vars.get((Self::tokens(size, patch) - 1, width), "positions", start.tokens)?;
        Ok(Self { positions, ..Self::bare(vars, size, patch, width, start)? })
    }

    /// Without class token and learned positions.
    fn bare(vars: &Vars, size: usize, patch: usize, width: usize, start: &PatchStart) -> Result<Self> {
        Ok(Self {
            weight: vars.get((width, 3 * patch * patch), "weight", start.weight)?,
            bias: start.bias.map(|bias| vars.get(width, "bias", bias)).transpose()?,
            class: None,
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

    /// Pixels (B,3,S,S) to tokens (B,N,D), the class token first if there is one.
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
    /// and a mask of patches (B,P), the vector stands for the patches where the mask is 1.
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
        let before = usize::from(self.class.is_some());
        let patches = kernels::patchify(pixels, self.patch, before)?;
        let ((_, tokens, _), width) = (patches.dims3()?, self.weight.dim(0)?);
        let mut table = Vec::from_iter(self.class.as_ref().map(|class| class.reshape((1, width))));
        table.push(match &self.bias {
            None => Tensor::zeros((tokens - before, width), patches.dtype(), patches.device()),
            Some(bias) => bias.broadcast_as((tokens - before, width)),
        });
        let table = Tensor::cat(&table.into_iter().collect::<Result<Vec<_>>>()?, 0)?;
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
        let before = usize::from(self.class.is_some());
        let masked = mask.pad_with_zeros(1, before, 0)?.unsqueeze(2)?;
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
        self.forward_and(ids, None)
    }

    /// Tokens ids (R) at these places of their texts, to (R,D).
    ///
    /// # Errors
    /// When a place lies behind the positions or an entry outside the vocabulary.
    pub fn at(&self, ids: &Tensor, places: &[u32]) -> Result<Tensor> {
        let (positions, length) = (self.positions.dim(0)?, places.iter().max().map_or(0, |&last| 1 + last));
        if length as usize > positions {
            bail!("a text of {length} tokens for {positions} positions");
        }
        let places = kernels::embedding(&self.positions, &Tensor::new(places, &Device::Cpu)?)?;
        kernels::add(&kernels::embedding(&self.words, ids)?, &places)
    }

    /// As [`Words::forward`] of a text that vectors (C,D) of the model's own follow, to (B,T+C,D).
    ///
    /// # Errors
    /// When text and vectors together are longer than the positions or an entry lies outside the vocabulary.
    pub fn forward_and(&self, ids: &Tensor, then: Option<&Tensor>) -> Result<Tensor> {
        let (batch, words) = ids.dims2()?;
        let own = then.map_or(Ok(0), |then| then.dim(0))?;
        let positions = self.positions.dim(0)?;
        if words + own > positions {
            bail!("a text of {words} tokens for {} positions", positions.saturating_sub(own));
        }
        let mut tokens = kernels::embedding(&self.words, ids)?;
        if let Some(then) = then {
            tokens = Tensor::cat(&[&tokens, &each(then, batch)?], 1)?;
        }
        kernels::add_table(&tokens, &self.positions.narrow(0, 0, words + own)?)
    }
}

/// The same vectors (N,D) for each of `batch` examples, (B,N,D).
///
/// # Errors
/// When the vectors have another rank.
pub fn each(vectors: &Tensor, batch: usize) -> Result<Tensor> {
    let (count, _) = vectors.dims2()?;
    let ids: Vec<u32> = (0..batch).flat_map(|_| 0..count as u32).collect();
    kernels::embedding(vectors, &Tensor::from_vec(ids, (batch, count), &Device::Cpu)?)
}

/// The first token of each example, where [CLS] and class tokens stand: (B,T,D) to (B,D).
///
/// # Errors
/// When the sequence is empty.
pub fn first(hidden: &Tensor) -> Result<Tensor> {
    let (batch, length, _) = hidden.dims3()?;
    One::first(&Spans::even(batch, length))?.pick(hidden)
}

/// The first token (B,D) of each example of a view: by `alone` where it is embedded alone, else of all its `tokens`.
///
/// # Errors
/// Whatever the one that is asked fails with.
pub fn first_of<I: Rows>(
    view: &View<I>,
    alone: impl FnOnce(&View<I>) -> Result<Tensor>,
    tokens: impl FnOnce(&View<I>) -> Result<Tokens>,
) -> Result<Tensor> {
    if view.is_embedded_alone() { alone(view) } else { first(&tokens(view)?.hidden) }
}

/// Vectors scaled to length one.
///
/// # Errors
/// When the vectors have no element.
pub fn unit(x: &Tensor) -> Result<Tensor> {
    kernels::l2_normalize(x, 1e-12)
}
