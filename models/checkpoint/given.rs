//! Inputs under a reference's names, turned into what our models are shown.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};

use crate::models::{Image, Regions, Text, View};

/// Tensors by name.
pub struct Given(BTreeMap<String, Tensor>);

impl Given {
    /// From tensors as a file holds them; whole numbers may be of any width.
    pub fn new(tensors: BTreeMap<String, Tensor>) -> Self {
        Self(tensors)
    }

    /// The tensor called `name`, as it is, if it was given.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Whether there is a tensor called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn wanted(&self, name: &str, rank: usize) -> Result<&Tensor> {
        match self.0.get(name) {
            Some(tensor) if tensor.rank() == rank => Ok(tensor),
            Some(tensor) => refuse!("`{name}` is {:?}, expected {rank} dimensions", tensor.dims()),
            None => {
                let given: Vec<&str> = self.0.keys().map(String::as_str).collect();
                refuse!("`{name}` is missing; given were {}", given.join(", "))
            }
        }
    }

    /// Real numbers, f32.
    ///
    /// # Errors
    /// When it is missing or has another number of dimensions.
    pub fn floats(&self, name: &str, rank: usize) -> Result<Tensor> {
        self.wanted(name, rank)?.to_dtype(DType::F32)
    }

    /// Yes or no: a number in a tensor of any shape, 0 for no.
    ///
    /// # Errors
    /// When it was given with more or fewer numbers than one.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.0.get(name) {
            None => Ok(default),
            Some(flag) if flag.elem_count() == 1 => {
                Ok(flag.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()? != 0.0)
            }
            Some(flag) => refuse!("`{name}` is {:?}, expected one number, 0 or 1", flag.dims()),
        }
    }

    /// Normalised pixels (B,3,H,W), f32.
    ///
    /// # Errors
    /// When they are missing or have another number of dimensions.
    pub fn pixels(&self, name: &str) -> Result<Tensor> {
        self.floats(name, 4)
    }

    /// Vocabulary entries (B,T), u32.
    ///
    /// # Errors
    /// When they are missing, have another number of dimensions or are negative.
    pub fn ids(&self, name: &str) -> Result<Tensor> {
        let ids = self.wanted(name, 2)?.to_device(&Device::Cpu)?;
        if ids.to_dtype(DType::F64)?.min_all()?.to_scalar::<f64>()? < 0.0 {
            refuse!("`{name}` holds negative entries");
        }
        ids.to_dtype(DType::U32)
    }

    /// 1 on visible places, f32, of the shape of `like`; everywhere where it was not given.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn mask(&self, name: &str, like: &Tensor) -> Result<Tensor> {
        match self.0.get(name) {
            None => Tensor::ones(like.shape(), DType::F32, &Device::Cpu),
            Some(mask) if mask.dims() == like.dims() => mask.to_dtype(DType::F32)?.to_device(&Device::Cpu),
            Some(mask) => refuse!("`{name}` is {:?}, expected {:?}", mask.dims(), like.dims()),
        }
    }

    /// Images to be looked at without noise.
    ///
    /// # Errors
    /// As [`Given::pixels`].
    pub fn image(&self, pixels: &str) -> Result<View<Image>> {
        let image = Image { pixels: Some(self.pixels(pixels)?), ..Image::default() };
        Ok(View::new(image, None))
    }

    /// Texts of one segment to be looked at without noise.
    ///
    /// # Errors
    /// As [`Given::ids`] and [`Given::mask`].
    pub fn text(&self, ids: &str, mask: &str) -> Result<View<Text>> {
        let ids = self.ids(ids)?;
        let (mask, segments) = (self.mask(mask, &ids)?, ids.zeros_like()?);
        Ok(View::new(Text { ids, mask, segments }, None))
    }

    /// As [`Given::text`], with a segment for each token where segments were given.
    ///
    /// # Errors
    /// As [`Given::ids`] and [`Given::mask`].
    pub fn segmented_text(&self, ids: &str, mask: &str, segments: &str) -> Result<View<Text>> {
        let text = self.text(ids, mask)?;
        if !self.has(segments) {
            return Ok(text);
        }
        Ok(View::new(Text { segments: self.ids(segments)?, ..text.input()?.clone() }, None))
    }

    /// Regions, of which some may be hidden, as images to be looked at without noise; `mask` tells which are there.
    ///
    /// # Errors
    /// As [`Given::mask`].
    pub fn regions(
        &self,
        [features, boxes]: [Tensor; 2],
        mask: &str,
        masked: Option<&str>,
    ) -> Result<View<Image>> {
        let (batch, count, _) = features.dims3()?;
        let mask = self.mask(mask, &Tensor::zeros((batch, count), DType::F32, features.device())?)?;
        let masked = masked.filter(|masked| self.has(masked)).map(|masked| self.mask(masked, &mask));
        let masked = masked.transpose()?;
        let regions = Some(Regions { features, boxes, mask });
        Ok(View::new(Image { pixels: None, regions, masked, sizes: None }, None))
    }
}
