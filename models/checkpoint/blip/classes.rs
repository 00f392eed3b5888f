//! What each class makes of its inputs.

use candle_core::{Result, Tensor};

use crate::models::blip::{Pass, Project, Stack};
use crate::models::checkpoint::{Forward, Given, Outputs};
use crate::models::nn::{Linear, Seen, Vit, bert, first};
use crate::models::{Attend, Image, Model, Tokens, View};

/// The authors' pre-training class. A text begins with [CLS], for which the model puts [ENC] and [DEC]: `vl_output` are
/// logits (B,2) of "no match" and "match", `logits` those (B,T,V+2) of the next word.
pub struct Whole {
    pub model: Box<dyn Model>,
    /// Tells pairs that match from pairs that do not.
    pub head: Linear,
}

impl Forward for Whole {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("image")?, given.text("input_ids", "attention_mask")?);
        let (images, texts) = (self.model.embed_image(&image)?, self.model.embed_text(&text)?);
        let captions = self.model.fuse(&image, &text, Attend::Causal)?.text.hidden;
        Ok(named([
            ("image_embeds", self.model.image_tokens(&image)?.hidden),
            ("text_embeds", self.model.text_tokens(&text)?.hidden),
            ("sim_i2t", self.model.similarity(&images, &texts)?),
            ("image_feat", images),
            ("text_feat", texts),
            ("vl_output", self.head.forward(&self.model.pool(&image, &text)?)?),
            ("logits", self.model.predict_words(&captions)?.dense()?),
        ]))
    }
}

/// transformers' class of the encoders, which takes texts as they are: for what the system computes they begin with
/// [ENC], the last entry, where the matching head is asked, and else with [CLS].
///
/// `use_itm_head` asks it, 1 where it is not given. With it `itm_score` are logits (B,2) of "no match" and "match", and
/// `question_embeds` have seen the images; without it `itm_score` are the similarities (B images, B texts) of `image_feat`
/// and `text_feat`, not divided by the temperature, and `question_embeds` have not. `last_hidden_state` is the images'.
pub struct Retrieval {
    pub image: Vit,
    pub text: Stack,
    pub project: Project,
    /// Tells pairs that match from pairs that do not.
    pub head: Linear,
}

impl Forward for Retrieval {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("pixel_values")?, given.text("input_ids", "attention_mask")?);
        let (images, text) = (tokens(&self.image, &image)?, text.input()?);
        if given.flag("use_itm_head", true)? {
            let seen = Seen::new(&image, |_| Ok(images.clone()))?;
            let pass = Pass { text, image: Some(&seen), attend: Attend::Both, noise: None };
            let (hidden, packing) = self.text.forward(&pass)?;
            let words = packing.unpack(&hidden)?;
            return Ok(named([
                ("itm_score", self.head.forward(&first(&words)?)?),
                ("question_embeds", words),
                ("last_hidden_state", images.hidden),
            ]));
        }
        let words = self.text.encode(text, None)?.hidden;
        let image_feat = self.project.image(&first(&images.hidden)?)?;
        let text_feat = self.project.text(&first(&words)?)?;
        Ok(named([
            ("itm_score", image_feat.matmul(&text_feat.t()?)?),
            ("image_feat", image_feat),
            ("text_feat", text_feat),
            ("question_embeds", words),
            ("last_hidden_state", images.hidden),
        ]))
    }
}

/// transformers' class of the decoder, which takes texts as they are: for what the system computes they begin with [DEC],
/// the last entry but one.
pub struct Captions {
    pub image: Vit,
    pub text: Stack,
    pub head: bert::Decoder,
}

impl Forward for Captions {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("pixel_values")?, given.text("input_ids", "attention_mask")?);
        let (images, text) = (tokens(&self.image, &image)?, text.input()?);
        let seen = Seen::new(&image, |_| Ok(images.clone()))?;
        let pass = Pass { text, image: Some(&seen), attend: Attend::Causal, noise: None };
        let (hidden, packing) = self.text.forward(&pass)?;
        Ok(named([
            ("logits", self.head.forward(&packing.unpack(&hidden)?)?.dense()?),
            ("image_embeds", images.hidden.clone()),
            ("last_hidden_state", images.hidden),
        ]))
    }
}

fn tokens(tower: &Vit, image: &View<Image>) -> Result<Tokens> {
    image.memo("image", |image| tower.encode(image))
}

fn named<const N: usize>(outputs: [(&str, Tensor); N]) -> Outputs {
    outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into()
}
