//! What each class makes of its inputs.

use candle_core::{Device, Result, Tensor};

use super::super::{Forward, Given, Outputs, language};
use crate::kernels;
use crate::models::blip2::{Blip2, Encoder, Generator, QFormer};
use crate::models::language::Language;
use crate::models::nn::Linear;
use crate::models::{Attend, Model, Text, View};

/// Contrast of all images with all texts, or matching of pairs.
pub struct Retrieval {
    /// The first stage.
    pub model: Blip2,
    /// Logits of "no match" and "match".
    pub head: Linear,
    /// Places at the beginning of a text that stand for the queries and are not read.
    pub skipped: usize,
}

impl Retrieval {
    fn text(&self, given: &Given) -> Result<View<Text>> {
        let text = given.text("input_ids", "attention_mask")?;
        let Text { ids, mask, segments } = text.input()?;
        let rest =
            |x: &Tensor| x.narrow(1, self.skipped, x.dim(1)?.saturating_sub(self.skipped))?.contiguous();
        let text = Text { ids: rest(ids)?, mask: rest(mask)?, segments: rest(segments)? };
        Ok(View::new(text, None))
    }
}

impl Forward for Retrieval {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (model, image, text) = (&self.model, given.image("pixel_values")?, self.text(given)?);
        let matches = given.flag("use_image_text_matching_head", false)?;
        let mut outputs = Outputs::new();
        let logits = if matches {
            self.head.forward(&model.pool(&image, &text)?)?
        } else {
            let (images, texts) = (model.embed_image(&image)?, model.embed_text(&text)?);
            let cosines = Blip2::cosines(&images, &texts)?;
            outputs.insert("image_embeds".into(), images);
            outputs.insert("text_embeds".into(), texts);
            outputs.insert("text_model_output.last_hidden_state".into(), model.text_tokens(&text)?.hidden);
            cosines
        };
        outputs.insert("logits_per_text".into(), logits.t()?.contiguous()?);
        outputs.insert("logits_per_image".into(), logits);
        outputs.insert("vision_model_output.last_hidden_state".into(), model.encoder.forward(&image)?.hidden);
        Ok(outputs)
    }
}

/// A language model behind a prefix.
pub struct Generation {
    /// The second stage.
    pub model: Generator,
    /// The entry of the vocabulary in whose places the prefix stands.
    pub image: u32,
}

impl Generation {
    /// The vectors `words` (B,T,D) with those of the prefix (B,Q,D) in the places of the image, one after another.
    fn place(&self, ids: &Tensor, words: &Tensor, prefix: &Tensor) -> Result<Tensor> {
        let (rows, per_image) = (ids.elem_count() as u32, prefix.dim(1)?);
        let mut next = rows..;
        let mut order = Vec::new();
        for (row, ids) in ids.to_vec2::<u32>()?.into_iter().enumerate() {
            let places = ids.iter().filter(|&&id| id == self.image).count();
            if places != per_image {
                refuse!("text {row} has {places} places for its image, whose prefix has {per_image}");
            }
            let first = (row * ids.len()) as u32;
            order.extend((first..).zip(ids).map(|(place, id)| match id == self.image {
                true => next.next().unwrap_or(place),
                false => place,
            }));
        }
        let flat = Tensor::cat(&[words.flatten_to(1)?, prefix.flatten_to(1)?], 0)?;
        kernels::gather_vectors(&flat, &Tensor::new(order, &Device::Cpu)?)?.reshape(words.shape())
    }
}

impl Forward for Generation {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (model, image, ids) = (&self.model, given.image("pixel_values")?, given.ids("input_ids")?);
        let (prefix, mask) = (model.prefix(&image)?, given.mask("attention_mask", &ids)?);
        let place = |words: Tensor| self.place(&ids, &words, &prefix);
        let x = place(match &model.language {
            Language::Opt(opt) => opt.embed(&ids)?,
            Language::T5(t5) => t5.embed(&ids)?,
        })?;
        let outputs = [
            ("logits", language::answer(&model.language, &x, &mask, given)?),
            ("qformer_outputs.last_hidden_state", model.qformer.queries(&image, &model.encoder)?),
            ("vision_outputs.last_hidden_state", model.encoder.forward(&image)?.hidden),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}

/// [`QFormer`] by itself, of given queries.
pub struct Queries(pub QFormer);

impl Forward for Queries {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (queries, features) =
            (given.floats("query_embeds", 3)?, given.floats("encoder_hidden_states", 3)?);
        let hidden = self.0.ask(&queries, &features)?;
        let first = hidden.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        Ok([("last_hidden_state".to_owned(), hidden), ("pooler_output".to_owned(), first)].into())
    }
}

/// The three passes of the first stage over given image features.
pub struct FirstStage {
    /// The first stage.
    pub model: Blip2,
    /// Logits of "no match" and "match".
    pub head: Linear,
}

impl Forward for FirstStage {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let model = &self.model;
        let image = Encoder::seen(given.floats("image_embeds", 3)?)?;
        let text = given.text("input_ids", "attention_mask")?;
        let (images, texts) = (model.embed_image(&image)?, model.embed_text(&text)?);
        let (queries, words) = model.qformer.both(&image, &text, &model.encoder)?;
        let generated = model.fuse(&image, &text, Attend::Causal)?.text.hidden;
        let outputs = [
            ("sim_i2t", model.similarity(&images, &texts)?),
            ("image_feats", images),
            ("text_feat", texts),
            ("query_output.last_hidden_state", model.image_tokens(&image)?.hidden),
            ("text_output.last_hidden_state", model.text_tokens(&text)?.hidden),
            ("logits", self.head.forward(&model.pool(&image, &text)?)?),
            ("output_itm.last_hidden_state", Tensor::cat(&[&queries, &words.hidden], 1)?),
            ("lm_output.logits", model.decoder.forward(&generated)?.dense()?),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}
