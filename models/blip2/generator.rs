//! The second stage of BLIP-2 (section 3.3): query outputs, mapped linearly, are a prefix of words to a frozen language
//! model. The text branch of the Q-Former is gone.

use candle_core::{Result, Tensor, bail};

use super::image::Encoder;
use super::qformer::QFormer;
use super::{Config, LACKS_TEXT};
use crate::models::language::{self, Language};
use crate::models::nn::{Linear, fan_in};
use crate::models::view::joint_noise;
use crate::models::{Attend, Begun, Fused, Image, Inputs, Logits, Model, Text, Tokens, Vars, View};

/// Image encoder, Q-Former, projection and language model.
pub struct Generator {
    pub encoder: Encoder,
    pub qformer: QFormer,
    project: Linear,
    pub language: Language,
}

impl Generator {
    /// With this language model.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, config: &Config, language: &language::Config, inputs: &Inputs) -> Result<Self> {
        let spec = config.spec();
        let (sizes, init) = ([spec.width, language.width()], fan_in(spec.width));
        Ok(Self {
            encoder: Encoder::new(vars, config, inputs)?,
            qformer: QFormer::new(&vars.at("qformer"), &spec, &config.sizes(), None)?,
            project: Linear::new(&vars.at("project_language"), sizes, init, Some(init))?,
            language: language.open(&vars.at("language"), inputs.vocabulary)?,
        })
    }

    /// The prefix that stands for an image, (B,Q,D) of the language model's width.
    ///
    /// # Errors
    /// When encoding fails.
    pub fn prefix(&self, image: &View<Image>) -> Result<Tensor> {
        let compute = |image: &View<Image>| {
            let queries = self.qformer.queries(image, &self.encoder)?;
            Ok(Tokens { hidden: self.project.forward(&queries)?, mask: None })
        };
        Ok(image.memo("prefix", compute)?.hidden)
    }
}

impl Model for Generator {
    /// The prefix (B,Q,D).
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        Ok(Tokens { hidden: self.prefix(image)?, mask: None })
    }

    /// The words of the text; the pooled vector is the average of the prefix.
    fn fuse(&self, image: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        if attend == Attend::Both {
            bail!("{LACKS_TEXT}");
        }
        let prefix = self.prefix(image)?;
        let text = self.language.continues(&prefix, text.input()?, joint_noise(image, text))?;
        Ok(Fused { text, image: None, pooled: prefix.mean(1)? })
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        Ok(self.language.predict_words(hidden))
    }

    fn decode<'a>(&'a self, image: &View<Image>, prompt: &View<Text>) -> Result<Begun<'a>> {
        self.language.decode(&self.prefix(image)?, prompt.input()?)
    }
}
