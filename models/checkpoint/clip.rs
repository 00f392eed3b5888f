//! CLIP as transformers' `CLIPModel` saves it. What its text tower lacks, the bag of words, is said by a key of our own,
//! `text_encoder`, absent where the two agree.

use candle_core::{DType, Device, Result, Tensor};
use serde_json::{Value as Json, json};

use super::settings::activation_name;
use super::{Class, Forward, Given, Layout, Outputs, Published, Settings};
use crate::models::clip::{Config, TextEncoder};
use crate::models::nn::Tower;
use crate::models::{Inputs, Model, ModelConfig, Text, Vars, View};
use crate::token::Specials;

const EPS: f64 = 1e-5;
/// The place of the end of a text in CLIP's own vocabulary.
const END: usize = 49_407;

impl Published for Config {
    const CLASSES: &'static [Class] = &[Class {
        name: "CLIPModel",
        inputs: &["pixel_values", "input_ids", "attention_mask"],
        outputs: &[
            "logits_per_image",
            "logits_per_text",
            "image_embeds",
            "text_embeds",
            "vision_model_output.last_hidden_state",
            "text_model_output.last_hidden_state",
        ],
    }];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        let (vision, text) = (theirs.part("vision_config")?, theirs.part("text_config")?);
        for part in [&vision, &text] {
            part.must_be("layer_norm_eps", EPS)?;
        }
        vision.must_be("num_channels", 3)?;
        let activation = vision.activation("hidden_act", "quick_gelu")?;
        text.must_be("hidden_act", vision.text("hidden_act", "quick_gelu")?)?;
        let config = Self {
            image: vision.tower([768, 12, 12, 3072])?,
            text: text.tower([512, 12, 8, 2048])?,
            text_encoder: text.typed("text_encoder", TextEncoder::Causal, "causal or bag_of_words")?,
            patch: vision.usize("patch_size", 32)?,
            embed: theirs.usize("projection_dim", 512)?,
            activation,
            dropout: 0.0,
        };
        let inputs = Inputs::pixels(
            vision.usize("image_size", 224)?,
            text.usize("max_position_embeddings", 77)?,
            text.usize("vocab_size", 49_408)?,
        );
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let tower = |tower: &Tower| {
            let spec = tower.spec(self.activation, EPS, 0.0);
            json!({
                "hidden_size": spec.width,
                "num_hidden_layers": tower.depth,
                "num_attention_heads": spec.heads,
                "intermediate_size": spec.mlp,
                "hidden_act": activation_name(self.activation),
                "layer_norm_eps": EPS,
                "projection_dim": self.embed,
            })
        };
        let (mut vision, mut text) = (tower(&self.image), tower(&self.text));
        vision["image_size"] = inputs.size.into();
        vision["patch_size"] = self.patch.into();
        text["max_position_embeddings"] = inputs.words.into();
        text["vocab_size"] = inputs.vocabulary.into();
        let Specials { pad, begin, end, .. } = inputs.specials;
        for (key, token) in [("bos_token_id", begin), ("eos_token_id", end), ("pad_token_id", Some(pad))] {
            text[key] = token.into();
        }
        if self.text_encoder != TextEncoder::Causal {
            text["text_encoder"] = json!(self.text_encoder);
        }
        json!({
            "model_type": "clip",
            "projection_dim": self.embed,
            "vision_config": vision,
            "text_config": text,
        })
    }

    fn names(&self, _: &Inputs, _: &str, layout: &mut Layout) {
        let (width, patch) = (self.image.width, self.patch);
        let embeddings = "vision_model.embeddings";
        layout.same("image.patches.class", &format!("{embeddings}.class_embedding"));
        layout.shaped(
            "image.patches.weight",
            &format!("{embeddings}.patch_embedding.weight"),
            &[width, 3, patch, patch],
        );
        layout.same("image.patches.positions", &format!("{embeddings}.position_embedding.weight"));
        layout.skip(&format!("{embeddings}.position_ids"));
        // The misspelling is transformers' own.
        layout.norm("image.ln_pre", "vision_model.pre_layrnorm");
        layout.norm("image.ln_post", "vision_model.post_layernorm");
        layout.linear("image.project", "visual_projection");
        let embeddings = "text_model.embeddings";
        layout.same("text.embed.words", &format!("{embeddings}.token_embedding.weight"));
        layout.same("text.embed.positions", &format!("{embeddings}.position_embedding.weight"));
        layout.skip(&format!("{embeddings}.position_ids"));
        layout.norm("text.ln_final", "text_model.final_layer_norm");
        layout.linear("text.project", "text_projection");
        layout.same("scale", "logit_scale");
        for (ours, theirs, depth) in
            [("image", "vision_model", self.image.depth), ("text", "text_model", self.text.depth)]
        {
            for index in 0..depth {
                layer(&format!("{ours}.layers.{index}"), &format!("{theirs}.encoder.layers.{index}"), layout);
            }
        }
    }

    fn open(&self, inputs: &Inputs, theirs: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        let end = theirs.part("text_config")?.usize("eos_token_id", END)?;
        Ok(Box::new(Clip { model: self.build(vars, inputs)?, end: end as u32 }))
    }
}

fn layer(ours: &str, theirs: &str, layout: &mut Layout) {
    let attention = format!("{theirs}.self_attn");
    let [q, k, v] = ["q", "k", "v"].map(|part| format!("{attention}.{part}_proj"));
    layout.stacked(&format!("{ours}.attention.qkv"), [&q, &k, &v]);
    layout.linear(&format!("{ours}.attention.out"), &format!("{attention}.out_proj"));
    layout.norm(&format!("{ours}.norm1"), &format!("{theirs}.layer_norm1"));
    layout.norm(&format!("{ours}.norm2"), &format!("{theirs}.layer_norm2"));
    layout.linear(&format!("{ours}.mlp.up"), &format!("{theirs}.mlp.fc1"));
    layout.linear(&format!("{ours}.mlp.down"), &format!("{theirs}.mlp.fc2"));
}

struct Clip {
    model: Box<dyn Model>,
    /// The entry that ends a text.
    end: u32,
}

impl Clip {
    /// The text up to its end, which sees nothing behind it. Configurations from before the end had an entry of its
    /// own say 2 and mean the greatest entry.
    fn whole(&self, text: &Text) -> Result<View<Text>> {
        let ids = text.ids.to_vec2::<u32>()?;
        let mut mask = text.mask.to_vec2::<f32>()?;
        for (ids, mask) in ids.iter().zip(&mut mask) {
            let end = match self.end {
                2 => ids.iter().max().and_then(|most| ids.iter().position(|id| id == most)),
                end => ids.iter().position(|&id| id == end),
            };
            mask[1 + end.unwrap_or(0)..].fill(0.0);
        }
        let mask = Tensor::new(mask, &Device::Cpu)?.to_dtype(DType::F32)?;
        Ok(View::new(Text { mask, ..text.clone() }, None))
    }
}

impl Forward for Clip {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("pixel_values")?, given.text("input_ids", "attention_mask")?);
        let images = self.model.embed_image(&image)?;
        let texts = self.model.embed_text(&self.whole(text.input()?)?)?;
        let logits = self.model.similarity(&images, &texts)?;
        let outputs = [
            ("logits_per_text", logits.t()?.contiguous()?),
            ("logits_per_image", logits),
            ("image_embeds", images),
            ("text_embeds", texts),
            ("vision_model_output.last_hidden_state", self.model.image_tokens(&image)?.hidden),
            ("text_model_output.last_hidden_state", self.model.text_tokens(&text)?.hidden),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}
