//! ALBEF as its authors save it: their pre-training class without momentum copies and queues.
//!
//! `config.json` joins the keys of their `Pretrain.yaml` and `config_bert.json`; the sizes of the image tower, which their
//! code holds fixed, stand below `vision_config` under timm's names.

use candle_core::{Result, Tensor};
use serde_json::{Value as Json, json};

use super::{Class, Forward, Given, Layout, Outputs, Published, Settings, bert, vit};
use crate::models::albef::Config;
use crate::models::nn::{Linear, fan_in};
use crate::models::{Attend, Inputs, Model, ModelConfig, Vars};

impl Published for Config {
    const CLASSES: &'static [Class] = &[Class {
        name: "ALBEF",
        inputs: &["image", "input_ids", "attention_mask"],
        outputs: &[
            "image_embeds",
            "text_embeds",
            "image_feat",
            "text_feat",
            "sim_i2t",
            "last_hidden_state",
            "itm_logits",
            "mlm_logits",
        ],
    }];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        theirs.must_be("hidden_act", "gelu")?;
        theirs.must_be("layer_norm_eps", 1e-12)?;
        theirs.must_be("type_vocab_size", 2)?;
        let image = vit::tower(&theirs.part("vision_config")?)?;
        theirs.must_be("vision_width", image.width)?;
        theirs.must_be("encoder_width", image.width)?;
        let config = Self {
            image,
            text: theirs.tower([768, 12, 12, 3072])?,
            fusion: theirs.usize("fusion_layer", 6)?,
            patch: theirs.part("vision_config")?.usize("patch_size", 16)?,
            embed: theirs.usize("embed_dim", 256)?,
            dropout: theirs.f64("hidden_dropout_prob", 0.1)?,
        };
        let inputs = Inputs {
            size: theirs.usize("image_res", 256)?,
            words: theirs.usize("max_position_embeddings", 512)?,
            vocabulary: theirs.usize("vocab_size", 30_522)?,
            region_features: 0,
            region_classes: 0,
            answers: 0,
        };
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let text = self.text.spec(crate::kernels::Activation::Gelu, 1e-12, self.dropout);
        json!({
            "model_type": "bert",
            "image_res": inputs.size,
            "embed_dim": self.embed,
            "vision_width": self.image.width,
            "vision_config": vit::settings(&self.image, inputs.size, self.patch),
            "encoder_width": self.image.width,
            "hidden_size": text.width,
            "num_hidden_layers": self.text.depth,
            "num_attention_heads": text.heads,
            "intermediate_size": text.mlp,
            "fusion_layer": self.fusion,
            "hidden_act": "gelu",
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.dropout,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": inputs.words,
            "type_vocab_size": 2,
            "vocab_size": inputs.vocabulary,
        })
    }

    fn names(&self, inputs: &Inputs, _: &str, layout: &mut Layout) {
        vit::names("image", "visual_encoder", &self.image, inputs.size, self.patch, layout);
        let embeddings = "text_encoder.bert.embeddings";
        bert::embeddings("text.embed", embeddings, layout);
        layout.same("text.embed.segments", &format!("{embeddings}.token_type_embeddings.weight"));
        for index in 0..self.text.depth {
            let (ours, theirs) =
                (format!("text.layers.{index}"), format!("text_encoder.bert.encoder.layer.{index}"));
            bert::self_attention(&ours, &theirs, layout);
            if index >= self.fusion {
                bert::cross_attention(&ours, &theirs, layout);
            }
            bert::feed_forward(&ours, &theirs, layout);
        }
        bert::decoder("decoder", "text.embed.words", "text_encoder.cls.predictions", layout);
        layout.linear("project_image", "vision_proj");
        layout.linear("project_text", "text_proj");
        layout.same("temperature", "temp");
        layout.linear("itm.head", "itm_head");
    }

    fn open(&self, inputs: &Inputs, _: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        let (width, init) = (self.text.width, fan_in(self.text.width));
        let head = Linear::new(&vars.at("itm").at("head"), [width, 2], init, Some(init))?;
        Ok(Box::new(Albef { model: self.build(vars, inputs)?, head }))
    }
}

struct Albef {
    model: Box<dyn Model>,
    /// Tells pairs that match from pairs that do not.
    head: Linear,
}

impl Forward for Albef {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("image")?, given.text("input_ids", "attention_mask")?);
        let (images, texts) = (self.model.embed_image(&image)?, self.model.embed_text(&text)?);
        let fused = self.model.fuse(&image, &text, Attend::Both)?;
        let outputs: [(&str, Tensor); 8] = [
            ("image_embeds", self.model.image_tokens(&image)?.hidden),
            ("text_embeds", self.model.text_tokens(&text)?.hidden),
            ("sim_i2t", self.model.similarity(&images, &texts)?),
            ("image_feat", images),
            ("text_feat", texts),
            ("itm_logits", self.head.forward(&fused.pooled)?),
            ("mlm_logits", self.model.predict_words(&fused.text.hidden)?.dense()?),
            ("last_hidden_state", fused.text.hidden),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}
