//! BLIP whole, as its authors' pre-training class saves it without momentum copies and queues (`BLIP_Pretrain`), and as
//! transformers saves it in parts: the encoders with projections and matching head (`BlipForImageTextRetrieval`), and the
//! decoder (`BlipForConditionalGeneration`), each with the image tower.
//!
//! The authors' files say nothing about sizes, so `config.json` has transformers' keys for every class, and beside them
//! `sharing`, which is ours: what the decoder shares with the encoders.

use candle_core::Result;
use serde_json::{Value as Json, json};

use super::{Class, Forward, Layout, Published, Settings, bert as names, vit};
use crate::models::blip::{ADDED, Config, Part, Sharing};
use crate::models::nn::{Linear, Patches, Tower, bert, fan_in};
use crate::models::{Inputs, ModelConfig, Vars};
use crate::token::Specials;

mod classes;

const WHOLE: &str = "BLIP_Pretrain";
const RETRIEVAL: &str = "BlipForImageTextRetrieval";
const CAPTIONS: &str = "BlipForConditionalGeneration";
/// What the released code shares.
const DEFAULT: &str = "all_but_self_attention";

impl Published for Config {
    const CLASSES: &'static [Class] = &[
        Class {
            name: WHOLE,
            inputs: &["image", "input_ids", "attention_mask"],
            outputs: &[
                "image_embeds",
                "text_embeds",
                "image_feat",
                "text_feat",
                "sim_i2t",
                "vl_output",
                "logits",
            ],
        },
        Class {
            name: RETRIEVAL,
            inputs: &["pixel_values", "input_ids", "attention_mask", "use_itm_head"],
            outputs: &["itm_score", "question_embeds", "last_hidden_state", "image_feat", "text_feat"],
        },
        Class {
            name: CAPTIONS,
            inputs: &["pixel_values", "input_ids", "attention_mask"],
            outputs: &["logits", "image_embeds", "last_hidden_state"],
        },
    ];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        let (vision, text) = (theirs.part("vision_config")?, theirs.part("text_config")?);
        vision.must_be("hidden_act", "gelu")?;
        vision.must_be("attention_dropout", 0.0)?;
        text.must_be("hidden_act", "gelu")?;
        text.must_be("layer_norm_eps", bert::EPS)?;
        text.must_be("is_decoder", true)?;
        let vocabulary = text.usize("vocab_size", 30_524)?.saturating_sub(ADDED);
        // transformers' classes take texts as they are given; only the whole system puts [DEC] and [ENC] into them.
        if theirs.class() == Some(WHOLE) && text.usize("bos_token_id", 30_522)? != vocabulary {
            refuse!("config.json: `text_config.bos_token_id` must be the last entry but one of `vocab_size`");
        }
        let dropout = text.f64("hidden_dropout_prob", 0.0)?;
        if text.f64("attention_probs_dropout_prob", 0.0)? != dropout {
            refuse!("config.json: `text_config.attention_probs_dropout_prob` must be `hidden_dropout_prob`");
        }
        let config = Self {
            image: vision.tower([768, 12, 12, 3072])?,
            text: text.tower([768, 12, 8, 3072])?,
            patch: vision.usize("patch_size", 16)?,
            embed: theirs.usize("image_text_hidden_size", 256)?,
            sharing: sharing(&theirs.text("sharing", DEFAULT)?)?,
            dropout,
            image_eps: vision.f64("layer_norm_eps", 1e-5)?,
        };
        let inputs = Inputs::pixels(
            vision.usize("image_size", 384)?,
            text.usize("max_position_embeddings", 512)?,
            vocabulary,
        );
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let tower = |tower: &Tower, eps: f64| {
            json!({
                "hidden_size": tower.width,
                "num_hidden_layers": tower.depth,
                "num_attention_heads": tower.heads,
                "intermediate_size": tower.mlp.unwrap_or(4 * tower.width),
                "hidden_act": "gelu",
                "layer_norm_eps": eps,
            })
        };
        let (mut vision, mut text) = (tower(&self.image, self.image_eps), tower(&self.text, bert::EPS));
        vision["image_size"] = inputs.size.into();
        vision["patch_size"] = self.patch.into();
        text["encoder_hidden_size"] = self.image.width.into();
        text["max_position_embeddings"] = inputs.words.into();
        text["vocab_size"] = (inputs.vocabulary + ADDED).into();
        text["is_decoder"] = true.into();
        let Specials { pad, end, .. } = inputs.specials;
        for (key, token) in [("pad_token_id", Some(pad)), ("sep_token_id", end), ("eos_token_id", end)] {
            text[key] = token.into();
        }
        text["bos_token_id"] = inputs.vocabulary.into();
        text["hidden_dropout_prob"] = self.dropout.into();
        text["attention_probs_dropout_prob"] = self.dropout.into();
        json!({
            "model_type": "blip",
            "sharing": self.sharing,
            "image_text_hidden_size": self.embed,
            "vision_config": vision,
            "text_config": text,
        })
    }

    fn names(&self, inputs: &Inputs, class: &str, layout: &mut Layout) {
        if class == WHOLE {
            vit::names("image", "visual_encoder", &self.image, inputs.size, self.patch, layout);
            layout.same("temperature", "temp");
        } else {
            image_tower(self, inputs, layout);
        }
        if class != CAPTIONS {
            text_tower(self, Sharing::All, "text_encoder", false, layout);
            layout.linear("project_image", "vision_proj");
            layout.linear("project_text", "text_proj");
            layout.linear("itm.head", "itm_head");
        }
        if class != RETRIEVAL {
            text_tower(self, self.sharing, "text_decoder.bert", class == WHOLE, layout);
            let table = format!("{}.embed.words", self.sharing.place(Part::Embeddings));
            names::decoder("decoder.head", &table, "text_decoder.cls.predictions", layout);
        }
    }

    fn open(&self, inputs: &Inputs, theirs: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        let itm = || {
            let (width, init) = (self.text.width, fan_in(self.text.width));
            Linear::new(&vars.at("itm").at("head"), [width, 2], init, Some(init))
        };
        Ok(match theirs.class() {
            Some(RETRIEVAL) => Box::new(classes::Retrieval {
                image: self.vit(vars, inputs)?,
                text: self.encoder(vars, inputs)?,
                project: self.project(vars)?,
                head: itm()?,
            }),
            Some(CAPTIONS) => {
                let (text, head) = self.decoder(vars, inputs)?;
                Box::new(classes::Captions { image: self.vit(vars, inputs)?, text, head })
            }
            _ => Box::new(classes::Whole { model: self.build(vars, inputs)?, head: itm()? }),
        })
    }
}

/// A value of `sharing`.
fn sharing(word: &str) -> Result<Sharing> {
    match serde_json::from_value(word.into()) {
        Ok(sharing) => Ok(sharing),
        Err(fault) => refuse!("config.json: `sharing`: {fault}"),
    }
}

fn image_tower(config: &Config, inputs: &Inputs, layout: &mut Layout) {
    let (width, patch) = (config.image.width, config.patch);
    let embeddings = "vision_model.embeddings";
    layout.shaped("image.patches.class", &format!("{embeddings}.class_embedding"), &[1, 1, width]);
    let positions = [1, Patches::tokens(inputs.size, patch), width];
    layout.shaped("image.patches.positions", &format!("{embeddings}.position_embedding"), &positions);
    let map = format!("{embeddings}.patch_embedding");
    layout.shaped("image.patches.weight", &format!("{map}.weight"), &[width, 3, patch, patch]);
    layout.same("image.patches.bias", &format!("{map}.bias"));
    for index in 0..config.image.depth {
        let (ours, theirs) =
            (format!("image.layers.{index}"), format!("vision_model.encoder.layers.{index}"));
        layout.linear(&format!("{ours}.attention.qkv"), &format!("{theirs}.self_attn.qkv"));
        layout.linear(&format!("{ours}.attention.out"), &format!("{theirs}.self_attn.projection"));
        layout.norm(&format!("{ours}.norm1"), &format!("{theirs}.layer_norm1"));
        layout.norm(&format!("{ours}.norm2"), &format!("{theirs}.layer_norm2"));
        layout.linear(&format!("{ours}.mlp.up"), &format!("{theirs}.mlp.fc1"));
        layout.linear(&format!("{ours}.mlp.down"), &format!("{theirs}.mlp.fc2"));
    }
    layout.norm("image.norm", "vision_model.post_layernorm");
}

/// The encoders or the decoder. What a decoder shares with encoders that are `named` has second names there.
fn text_tower(config: &Config, sharing: Sharing, theirs: &str, named: bool, layout: &mut Layout) {
    let mut part = |part, layer: &str, name: fn(&str, &str, &mut Layout), place: String| {
        let ours = format!("{}.{layer}", sharing.place(part));
        if named && sharing.shares(part) {
            layout.copies(|layout| name(&ours, &place, layout));
        } else {
            name(&ours, &place, layout);
        }
    };
    part(Part::Embeddings, "embed", names::embeddings, format!("{theirs}.embeddings"));
    for index in 0..config.text.depth {
        let (ours, place) = (format!("layers.{index}"), format!("{theirs}.encoder.layer.{index}"));
        part(Part::SelfAttention, &ours, names::self_attention, place.clone());
        part(Part::CrossAttention, &ours, names::cross_attention, place.clone());
        part(Part::FeedForward, &ours, names::feed_forward, place);
    }
}
