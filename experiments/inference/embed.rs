//! `vlp embed`: unit vectors of pictures and texts in one file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::{Value as Json, json};

use super::subject::BATCH;
use super::{Answer, Pictures, Subject};
use crate::experiments::checkpoint::{Tensors, replace};
use crate::experiments::failure::Result;
use crate::models::Ability;

/// What was written.
pub struct Embeds {
    out: PathBuf,
    images: Vec<String>,
    texts: usize,
    dims: Vec<(String, Vec<usize>)>,
}

/// Writes `images` (I,E), or (I,Q,E), and `texts` (T,E) to a safetensors file, whose header names both in their order.
///
/// # Errors
/// When the model embeds nothing, or the file cannot be written.
pub fn embed(
    subject: &Subject,
    pictures: Option<&mut Pictures>,
    texts: &[String],
    out: &Path,
) -> Result<Embeds> {
    if !subject.can(Ability::Embed) {
        return Err(subject.refuse("embed", Ability::Embed));
    }
    let (mut tensors, mut names) = (Tensors::new(), Vec::new());
    if let Some(pictures) = pictures {
        let mut parts = Vec::new();
        pictures.each(subject, |files, image| {
            parts.push(checked(subject, &subject.model.embed_image(image)?)?);
            names.extend_from_slice(files);
            Ok(())
        })?;
        tensors.insert("images".to_owned(), Tensor::cat(&parts, 0)?);
    }
    if !texts.is_empty() {
        let parts = texts.chunks(BATCH).map(|texts| embed_texts(subject, texts));
        tensors.insert("texts".to_owned(), Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?);
    }
    let list = |names: &[String]| Json::from(names).to_string();
    let header = [("model", subject.name.clone()), ("images", list(&names)), ("texts", list(texts))];
    let header: HashMap<_, _> = header.map(|(name, value)| (name.to_owned(), value)).into();
    replace(out, |temporary| {
        safetensors::serialize_to_file(&tensors, Some(header), temporary).map_err(std::io::Error::other)
    })?;
    let dims = tensors.into_iter().map(|(name, tensor)| (name, tensor.dims().to_vec())).collect();
    Ok(Embeds { out: out.to_owned(), images: names, texts: texts.len(), dims })
}

/// Unit vectors of texts (T,E).
pub fn embed_texts(subject: &Subject, texts: &[String]) -> Result<Tensor> {
    checked(subject, &subject.model.embed_text(&subject.text(texts)?)?)
}

/// Embeddings in the processor's memory, all of them numbers.
pub fn checked(subject: &Subject, embeds: &Tensor) -> Result<Tensor> {
    let embeds = embeds.to_device(&Device::Cpu)?;
    subject.finite("embed", embeds.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from))?;
    Ok(embeds)
}

impl Answer for Embeds {
    fn table(&self) -> String {
        let tensors = self.dims.iter().map(|(name, dims)| format!("\n  {name} {dims:?}"));
        format!("{}:{}", self.out.display(), tensors.collect::<String>())
    }

    fn json(&self) -> Json {
        let tensors: serde_json::Map<_, _> =
            self.dims.iter().map(|(name, dims)| (name.clone(), json!(dims))).collect();
        json!({"out": self.out, "tensors": tensors, "images": self.images, "texts": self.texts})
    }
}
