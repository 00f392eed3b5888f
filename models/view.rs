//! What a model is shown, and what it has already computed from it in this step.
//!
//! A [`View`] pairs an input with a memo of one model's intermediate results. Objectives of one step share a view, so
//! that an image encoded for one loss is not encoded again for the next; [`View::select`] reorders the examples (hard
//! negatives, for instance) and takes the rows of what is already there.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use candle_core::{Result, Tensor, bail};

use crate::kernels::{gather_rows, random::Key};

/// Detected regions of a batch of images.
#[derive(Clone)]
pub struct Regions {
    /// Detector features (B,N,R).
    pub features: Tensor,
    /// Normalised boxes (B,N,7): x1, y1, x2, y2, width, height, area.
    pub boxes: Tensor,
    /// 1 where a region is present, 0 where it pads (B,N).
    pub mask: Tensor,
}

/// A batch of images: pixels, detected regions, or both.
#[derive(Clone, Default)]
pub struct Image {
    /// Normalised pixels (B,3,H,W).
    pub pixels: Option<Tensor>,
    /// Detected regions.
    pub regions: Option<Regions>,
    /// 1 on regions or patches that are hidden from the model, which puts its mask vector there, f32 (B,N); none without.
    pub masked: Option<Tensor>,
    /// Height and width of each image in pixels, u32 (B,2), where images of unequal sizes are padded to the right and
    /// below; none where each fills its pixels.
    pub sizes: Option<Tensor>,
}

impl Image {
    /// The pixels (B,3,H,W).
    ///
    /// # Errors
    /// When the batch holds none.
    pub fn pixels(&self) -> Result<&Tensor> {
        match &self.pixels {
            Some(pixels) => Ok(pixels),
            None => bail!("a batch of images holds no pixels"),
        }
    }

    /// The detected regions.
    ///
    /// # Errors
    /// When the batch holds none.
    pub fn regions(&self) -> Result<&Regions> {
        match &self.regions {
            Some(regions) => Ok(regions),
            None => bail!("a batch of images holds no regions"),
        }
    }

    /// The features of the regions (B,N,R), zero where a region is hidden.
    ///
    /// # Errors
    /// When the batch holds no regions.
    pub fn seen_features(&self) -> Result<Tensor> {
        let features = &self.regions()?.features;
        match &self.masked {
            None => Ok(features.clone()),
            Some(masked) => features.broadcast_mul(&masked.affine(-1.0, 1.0)?.unsqueeze(2)?),
        }
    }
}

/// A batch of word sequences `[CLS] .. [SEP]`, padded to T. Which words there are, like masks and numbers of rows everywhere,
/// lies with the processor, wherever a model computes: to read it is to wait for nothing.
#[derive(Clone)]
pub struct Text {
    /// Vocabulary entries, u32 (B,T).
    pub ids: Tensor,
    /// 1 on words, 0 on padding, f32 (B,T).
    pub mask: Tensor,
    /// 0 on words, 1 on object tags, u32 (B,T).
    pub segments: Tensor,
}

/// A sequence of hidden states.
#[derive(Clone)]
pub struct Tokens {
    /// (B,N,D).
    pub hidden: Tensor,
    /// 1 where visible (B,N); `None` where every position is.
    pub mask: Option<Tensor>,
}

/// The outcome of a joint pass over image and text.
pub struct Fused {
    /// The words, having seen the image.
    pub text: Tokens,
    /// The image, having seen the words, for models that update it.
    pub image: Option<Tokens>,
    /// One vector a pair (B,D).
    pub pooled: Tensor,
}

/// What a word may look at in a joint pass; the image is always visible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attend {
    /// All words.
    Both,
    /// Itself and the words before it.
    Causal,
}

/// Rows of `tensor` along its first axis, in the order `rows` (u32) names them; rows may repeat.
///
/// # Errors
/// When a row lies outside the tensor.
pub fn take(tensor: &Tensor, rows: &Tensor) -> Result<Tensor> {
    if tensor.dtype().is_float() { gather_rows(tensor, rows) } else { tensor.index_select(rows, 0) }
}

fn take_some(tensor: Option<&Tensor>, rows: &Tensor) -> Result<Option<Tensor>> {
    tensor.map(|tensor| take(tensor, rows)).transpose()
}

/// Something with one row an example.
pub trait Rows: Sized {
    /// The number of examples.
    ///
    /// # Errors
    /// When the input holds nothing.
    fn rows(&self) -> Result<usize>;
    /// The same examples in the order `rows` (u32) names them.
    ///
    /// # Errors
    /// When a row does not exist.
    fn take(&self, rows: &Tensor) -> Result<Self>;
}

impl Rows for Image {
    fn rows(&self) -> Result<usize> {
        match (&self.pixels, &self.regions) {
            (Some(pixels), _) => pixels.dim(0),
            (None, Some(regions)) => regions.features.dim(0),
            (None, None) => bail!("a batch of images holds neither pixels nor regions"),
        }
    }

    fn take(&self, rows: &Tensor) -> Result<Self> {
        let regions = match &self.regions {
            None => None,
            Some(regions) => Some(Regions {
                features: take(&regions.features, rows)?,
                boxes: take(&regions.boxes, rows)?,
                mask: take(&regions.mask, rows)?,
            }),
        };
        let [pixels, masked, sizes] = [&self.pixels, &self.masked, &self.sizes];
        Ok(Self {
            pixels: take_some(pixels.as_ref(), rows)?,
            regions,
            masked: take_some(masked.as_ref(), rows)?,
            sizes: take_some(sizes.as_ref(), rows)?,
        })
    }
}

impl Rows for Text {
    fn rows(&self) -> Result<usize> {
        self.ids.dim(0)
    }

    fn take(&self, rows: &Tensor) -> Result<Self> {
        Ok(Self {
            ids: take(&self.ids, rows)?,
            mask: take(&self.mask, rows)?,
            segments: take(&self.segments, rows)?,
        })
    }
}

impl Rows for Tokens {
    fn rows(&self) -> Result<usize> {
        self.hidden.dim(0)
    }

    fn take(&self, rows: &Tensor) -> Result<Self> {
        Ok(Self { hidden: take(&self.hidden, rows)?, mask: take_some(self.mask.as_ref(), rows)? })
    }
}

/// Sets the noise of selections apart from that of the places within a model, which count from 0.
const SELECTED: u64 = u64::MAX;

/// An input and what one model has computed from it; cheap to clone, clones share the memo.
pub struct View<I>(Rc<Shared<I>>);

struct Shared<I> {
    origin: Origin<I>,
    noise: Option<Key>,
    memo: RefCell<BTreeMap<String, Tokens>>,
    selections: Cell<u64>,
    embedded_alone: Cell<bool>,
}

enum Origin<I> {
    Given(I),
    Selected { parent: View<I>, rows: Tensor, input: OnceCell<I> },
}

impl<I> Clone for View<I> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<I: Rows> View<I> {
    /// A view for training: dropout draws from `noise`. Without it (`None`) nothing is dropped.
    pub fn new(input: I, noise: Option<Key>) -> Self {
        Self::with(Origin::Given(input), noise)
    }

    fn with(origin: Origin<I>, noise: Option<Key>) -> Self {
        let (memo, selections, embedded_alone) = Default::default();
        Self(Rc::new(Shared { origin, noise, memo, selections, embedded_alone }))
    }

    /// Where dropout draws from; `None` in evaluation.
    pub fn noise(&self) -> Option<Key> {
        self.0.noise
    }

    /// Promises that only its embedding will be asked for: a model may leave out what serves its tokens alone. To ask for
    /// them nonetheless is no error but costs a second pass.
    pub fn embed_alone(&self) {
        self.0.embedded_alone.set(true);
    }

    /// Whether that was promised.
    pub fn is_embedded_alone(&self) -> bool {
        self.0.embedded_alone.get()
    }

    /// The input itself.
    ///
    /// # Errors
    /// When a selected row does not exist.
    pub fn input(&self) -> Result<&I> {
        match &self.0.origin {
            Origin::Given(input) => Ok(input),
            Origin::Selected { parent, rows, input } => {
                if let Some(input) = input.get() {
                    return Ok(input);
                }
                let selected = parent.input()?.take(rows)?;
                Ok(input.get_or_init(|| selected))
            }
        }
    }

    /// The number of examples.
    ///
    /// # Errors
    /// When the input holds nothing.
    pub fn rows(&self) -> Result<usize> {
        match &self.0.origin {
            Origin::Given(input) => input.rows(),
            Origin::Selected { rows, .. } => rows.dim(0),
        }
    }

    /// What `compute` makes of this view, computed once a step under the name `slot`. On a selected view the rows are
    /// taken from what the whole view computed, so nothing is encoded twice.
    ///
    /// # Errors
    /// Whatever `compute` fails with.
    pub fn memo(&self, slot: &str, compute: impl FnOnce(&Self) -> Result<Tokens>) -> Result<Tokens> {
        if let Some(known) = self.0.memo.borrow().get(slot) {
            return Ok(known.clone());
        }
        let tokens = match &self.0.origin {
            Origin::Given(_) => compute(self)?,
            Origin::Selected { parent, rows, .. } => parent.memo(slot, compute)?.take(rows)?,
        };
        self.0.memo.borrow_mut().insert(slot.to_owned(), tokens.clone());
        Ok(tokens)
    }

    /// The view that this one was selected from, and which of its examples (u32) these are; without a selection this
    /// one itself.
    ///
    /// # Errors
    /// When a selected row does not exist.
    pub fn whole(&self) -> Result<(Self, Option<Tensor>)> {
        match &self.0.origin {
            Origin::Given(_) => Ok((self.clone(), None)),
            Origin::Selected { parent, rows, .. } => match parent.whole()? {
                (whole, None) => Ok((whole, Some(rows.clone()))),
                (whole, Some(earlier)) => Ok((whole, Some(earlier.index_select(rows, 0)?))),
            },
        }
    }

    /// The same examples in the order `rows` (u32) names them; rows may repeat.
    ///
    /// # Errors
    /// When `rows` is not a list of rows.
    pub fn select(&self, rows: &Tensor) -> Result<Self> {
        rows.dims1()?;
        // Another pass over the same examples must not repeat the dropout of an earlier one.
        let selection = self.0.selections.replace(self.0.selections.get() + 1);
        let noise = self.0.noise.map(|key| key.fold(SELECTED).fold(selection));
        let origin = Origin::Selected { parent: self.clone(), rows: rows.clone(), input: OnceCell::new() };
        Ok(Self::with(origin, noise))
    }
}

/// Where dropout of a joint pass draws from: the same text beside another image drops other elements.
pub fn joint_noise(image: &View<Image>, text: &View<Text>) -> Option<Key> {
    let [high, low, ..] = image.noise()?.block(0);
    Some(text.noise()?.fold(u64::from(high) << 32 | u64::from(low)))
}
