//! BLIP as transformers saves it, in parts: the encoders with projections and matching head
//! (`BlipForImageTextRetrieval`), and the decoder (`BlipForConditionalGeneration`); each has the image tower.
//!
//! Texts are taken as they are given: who wants what the system computes begins them with [ENC], the last entry, for
//! `itm_score`, and with [DEC], the last but one, for `logits`.

use candle_core::{DType, Result, bail};
use serde_json::{Value as Json, json};

use super::{Class, Forward, Given, Layout, Outputs, Published, Settings, bert as names};
use crate::models::blip::{ADDED, Config, Part, Pass, Project, Sharing, Stack};
use crate::models::nn::{Linear, Patches, Seen, Tower, Vit, bert, fan_in, first};
use crate::models::{Attend, Image, Inputs, Tokens, Vars, View};
use crate::token::{PAD, SEP};

const RETRIEVAL: &str = "BlipForImageTextRetrieval";
const CAPTIONS: &str = "BlipForConditionalGeneration";

impl Published for Config {
    /// Retrieval gives what its argument `use_itm_head` asks for, 1 where it is not given: with it `itm_score` is (B,2),
    /// logits of "no match" and "match" of each pair, and `question_embeds` has seen the images; without it `itm_score` is
    /// (B images, B texts), the similarities of `image_feat` and `text_feat` without the temperature, and
    /// `question_embeds` has not. `last_hidden_state` is that of the images.
    const CLASSES: &'static [Class] = &[
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
        let entries = text.usize("vocab_size", 30_524)?;
        let Some(vocabulary) = entries.checked_sub(ADDED) else {
            bail!("config.json: `text_config.vocab_size` is {entries}: no place for [DEC] and [ENC]")
        };
        let begin = text.usize("bos_token_id", 30_522)?;
        if begin != vocabulary {
            bail!(
                "config.json: `text_config.bos_token_id` is {begin}; only the last entry but one is supported"
            );
        }
        let [dropout, weights] =
            ["hidden_dropout_prob", "attention_probs_dropout_prob"].map(|key| text.f64(key, 0.0));
        let (dropout, weights) = (dropout?, weights?);
        if dropout != weights {
            bail!(
                "config.json: `text_config` drops attention weights with {weights} and states with {dropout}"
            );
        }
        let tower = |part: &Settings, heads| -> Result<Tower> {
            Ok(Tower {
                width: part.usize("hidden_size", 768)?,
                depth: part.usize("num_hidden_layers", 12)?,
                heads: part.usize("num_attention_heads", heads)?,
                mlp: Some(part.usize("intermediate_size", 3072)?),
            })
        };
        let config = Self {
            image: tower(&vision, 12)?,
            text: tower(&text, 8)?,
            patch: vision.usize("patch_size", 16)?,
            embed: theirs.usize("image_text_hidden_size", 256)?,
            sharing: Sharing::AllButSelfAttention,
            dropout,
            image_eps: vision.f64("layer_norm_eps", 1e-5)?,
        };
        let inputs = Inputs {
            size: vision.usize("image_size", 384)?,
            words: text.usize("max_position_embeddings", 512)?,
            vocabulary,
            region_features: 0,
            region_classes: 0,
        };
        Ok((config, inputs))
    }

    /// Each class has one text transformer, so that nothing there says what the two share.
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
        for (key, token) in [("pad_token_id", PAD), ("sep_token_id", SEP), ("eos_token_id", SEP)] {
            text[key] = token.into();
        }
        text["bos_token_id"] = inputs.vocabulary.into();
        text["hidden_dropout_prob"] = self.dropout.into();
        text["attention_probs_dropout_prob"] = self.dropout.into();
        json!({
            "model_type": "blip",
            "image_text_hidden_size": self.embed,
            "vision_config": vision,
            "text_config": text,
        })
    }

    fn names(&self, inputs: &Inputs, class: &str, layout: &mut Layout) {
        image_tower(self, inputs, layout);
        if class == RETRIEVAL {
            text_tower(self, Sharing::All, "text_encoder", layout);
            layout.linear("project_image", "vision_proj");
            layout.linear("project_text", "text_proj");
            layout.linear("itm.head", "itm_head");
        } else {
            text_tower(self, self.sharing, "text_decoder.bert", layout);
            let table = format!("{}.embed.words", self.sharing.place(Part::Embeddings));
            names::decoder("decoder.head", &table, "text_decoder.cls.predictions", layout);
        }
    }

    fn open(&self, inputs: &Inputs, theirs: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        let image = self.vit(vars, inputs)?;
        if theirs.class() == Some(RETRIEVAL) {
            let (width, itm) = (self.text.width, vars.at("itm").at("head"));
            return Ok(Box::new(Retrieval {
                image,
                text: self.encoder(vars, inputs)?,
                project: self.project(vars)?,
                head: Linear::new(&itm, [width, 2], fan_in(width), Some(fan_in(width)))?,
            }));
        }
        let (text, head) = self.decoder(vars, inputs)?;
        Ok(Box::new(Captions { image, text, head }))
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

fn text_tower(config: &Config, sharing: Sharing, theirs: &str, layout: &mut Layout) {
    let ours = |part| sharing.place(part);
    names::embeddings(&format!("{}.embed", ours(Part::Embeddings)), &format!("{theirs}.embeddings"), layout);
    for index in 0..config.text.depth {
        let ours = |part| format!("{}.layers.{index}", ours(part));
        let theirs = format!("{theirs}.encoder.layer.{index}");
        names::self_attention(&ours(Part::SelfAttention), &theirs, layout);
        names::cross_attention(&ours(Part::CrossAttention), &theirs, layout);
        names::feed_forward(&ours(Part::FeedForward), &theirs, layout);
    }
}

struct Retrieval {
    image: Vit,
    text: Stack,
    project: Project,
    head: Linear,
}

impl Forward for Retrieval {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("pixel_values")?, given.text("input_ids", "attention_mask")?);
        let (images, text) = (tokens(&self.image, &image)?, text.input()?);
        let with_head = match given.get("use_itm_head") {
            Some(flag) => flag.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()? != 0.0,
            None => true,
        };
        let seen = Seen::new(&image, |_| Ok(images.clone()))?;
        let seen = with_head.then_some(&seen);
        let pass = Pass { text, image: seen, attend: Attend::Both, noise: None };
        let (hidden, packing) = self.text.forward(&pass)?;
        let words = packing.unpack(&hidden)?;
        let mut outputs = Outputs::new();
        if with_head {
            outputs.insert("itm_score".to_owned(), self.head.forward(&first(&words)?)?);
        } else {
            let image = self.project.image(&first(&images.hidden)?)?;
            let text = self.project.text(&first(&words)?)?;
            outputs.insert("itm_score".to_owned(), image.matmul(&text.t()?)?);
            outputs.insert("image_feat".to_owned(), image);
            outputs.insert("text_feat".to_owned(), text);
        }
        outputs.insert("question_embeds".to_owned(), words);
        outputs.insert("last_hidden_state".to_owned(), images.hidden);
        Ok(outputs)
    }
}

struct Captions {
    image: Vit,
    text: Stack,
    head: bert::Decoder,
}

impl Forward for Captions {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("pixel_values")?, given.text("input_ids", "attention_mask")?);
        let (images, text) = (tokens(&self.image, &image)?, text.input()?);
        let seen = Seen::new(&image, |_| Ok(images.clone()))?;
        let pass = Pass { text, image: Some(&seen), attend: Attend::Causal, noise: None };
        let (hidden, packing) = self.text.forward(&pass)?;
        let logits = self.head.forward(&packing.unpack(&hidden)?)?;
        let outputs = [
            ("logits", logits),
            ("image_embeds", images.hidden.clone()),
            ("last_hidden_state", images.hidden),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}

fn tokens(tower: &Vit, image: &View<Image>) -> Result<Tokens> {
    image.memo("image", |image| tower.encode(image))
}
