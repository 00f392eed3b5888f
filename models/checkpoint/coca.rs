//! CoCa as `open_clip` saves it: the configuration of its `coca_*.json`, the names of its `CoCa`.
//!
//! What the paper has and `open_clip` lacks is said by keys of our own, absent where the two agree: `encoder` in
//! `vision_cfg`; `classes`, `aggregate` and `class_mask` in `text_cfg`; `layout` in `multimodal_cfg`. `open_clip` refuses
//! such a file instead of computing something else.
//!
//! Two things in `open_clip` look otherwise than they are. Of `multimodal_cfg` it reads width, heads, layers and length
//! alone: the feed-forward parts have four times the width whatever `mlp_ratio` says, and the poolers are those of
//! `vision_cfg`. And its `cascade` and `parallel`, which it calls untested, leave the axis of the one query in the image
//! features, (B,1,E); ours have none.

mod names;

use candle_core::{Device, Result, Tensor};
use serde_json::{Value as Json, json};

use super::settings::activation_name;
use super::{Class, Forward, Given, Layout, Outputs, Published, Settings};
use crate::kernels::Activation;
use crate::models::coca::{Aggregate, ClassMask, Config, Encoder, Layers, Pool, Wiring};
use crate::models::nn::Tower;
use crate::models::{Attend, Init, Inputs, Model, ModelConfig, Text, Vars, View};
use crate::token::PAD;

impl Published for Config {
    const CLASSES: &'static [Class] = &[Class {
        name: "CoCa",
        inputs: &["image", "text"],
        outputs: &["image_features", "text_features", "logits", "logit_scale"],
    }];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        let [vision, text, decoder] =
            ["vision_cfg", "text_cfg", "multimodal_cfg"].map(|part| theirs.part(part));
        let (vision, text, decoder) = (vision?, text?, decoder?);
        supported(theirs, [&vision, &text, &decoder])?;
        let (image, unimodal) = (image_tower(&vision)?, text.usize("layers", 12)?);
        let width = text.usize("width", 512)?;
        let words = Tower {
            width,
            depth: unimodal + decoder.usize("layers", 12)?,
            heads: text.usize("heads", 8)?,
            mlp: Some(features(width, text.f64("mlp_ratio", 4.0)?)),
        };
        let plain = if theirs.flag("quick_gelu", false)? { "quick_gelu" } else { "gelu" };
        let config = Self {
            image,
            text: words,
            unimodal,
            pool: pool(&vision)?,
            classes: text.usize("classes", 1)?,
            aggregate: text.typed("aggregate", Aggregate::Classes, "classes or sentence")?,
            patch: vision.usize("patch_size", 16)?,
            embed: theirs.usize("embed_dim", 512)?,
            encoder: vision.typed("encoder", Encoder::Clip, "clip or vit")?,
            multimodal: decoder.typed("layout", Layers::Pairs, "pairs or single")?,
            class_mask: text.typed("class_mask", ClassMask::Shifted, "shifted or words")?,
            activation: theirs.activation("activation", plain)?,
            dropout: 0.0,
        };
        if config.multimodal == Layers::Pairs {
            // The reference's decoder has no other width.
            text.must_be("mlp_ratio", 4.0)?;
        }
        let inputs = Inputs::pixels(
            vision.usize("image_size", 224)?,
            text.usize("context_length", 77)?,
            text.usize("vocab_size", 49_408)?,
        );
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let Self { image, text, pool, .. } = self;
        let attentional = match (pool.wiring, pool.queries) {
            (Wiring::Shared, 0) => false.into(),
            (Wiring::Shared, _) => true.into(),
            (wiring, _) => json!(wiring),
        };
        let mut vision = json!({
            "image_size": inputs.size,
            "layers": image.depth,
            "width": image.width,
            "head_width": image.width / image.heads.max(1),
            "mlp_ratio": ratio(image),
            "patch_size": self.patch,
            "attentional_pool": attentional,
            "attn_pooler_queries": pool.queries,
            "attn_pooler_heads": pool.heads,
            "output_tokens": true,
        });
        let shape = |layers: usize| {
            json!({
                "context_length": inputs.words,
                "vocab_size": inputs.vocabulary,
                "width": text.width,
                "heads": text.heads,
                "layers": layers,
            })
        };
        let (mut words, mut decoder) =
            (shape(self.unimodal), shape(text.depth.saturating_sub(self.unimodal)));
        words["mlp_ratio"] = ratio(text).into();
        words["embed_cls"] = true.into();
        words["output_tokens"] = true.into();
        let own = [
            (&mut vision, "encoder", json!(self.encoder), json!(Encoder::Clip)),
            (&mut decoder, "layout", json!(self.multimodal), json!(Layers::Pairs)),
        ];
        own.into_iter().for_each(|(part, key, ours, theirs)| differs(part, key, ours, theirs));
        differs(&mut words, "classes", self.classes.into(), 1.into());
        differs(&mut words, "aggregate", json!(self.aggregate), json!(Aggregate::Classes));
        differs(&mut words, "class_mask", json!(self.class_mask), json!(ClassMask::Shifted));
        let mut whole = json!({
            "embed_dim": self.embed,
            "quick_gelu": self.activation == Activation::QuickGelu,
            "vision_cfg": vision,
            "text_cfg": words,
            "multimodal_cfg": decoder,
            "custom_text": true,
        });
        if self.activation == Activation::GeluTanh {
            whole["activation"] = activation_name(self.activation).into();
        }
        whole
    }

    fn names(&self, _: &Inputs, _: &str, layout: &mut Layout) {
        names::image(self, layout);
        names::text(self, layout);
        names::decoder(self, layout);
        layout.same("scale", "logit_scale");
    }

    fn open(&self, inputs: &Inputs, _: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        let model = self.build(vars, inputs)?;
        Ok(Box::new(Coca { model, scale: vars.get((), "scale", Init::Constant(0.0))? }))
    }
}

/// Refuses what the reference can and ours cannot.
fn supported(theirs: &Settings, [vision, text, decoder]: [&Settings; 3]) -> Result<()> {
    theirs.must_be("init_logit_bias", Json::Null)?;
    theirs.must_be("nonscalar_logit_scale", false)?;
    theirs.must_be("pad_id", PAD)?;
    for part in [vision, text, decoder] {
        for key in ["ls_init_value", "norm_kwargs", "act_kwargs", "block_type", "hf_model_name"] {
            part.must_be(key, Json::Null)?;
        }
        for key in
            ["qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"]
        {
            part.must_be(key, false)?;
        }
        part.must_be("final_ln_after_pool", false)?;
    }
    vision.must_be("timm_model_name", Json::Null)?;
    vision.must_be("patch_dropout", 0.0)?;
    vision.must_be("no_ln_pre", false)?;
    vision.must_be("pos_embed_type", "learnable")?;
    vision.must_be("pool_type", "tok")?;
    text.must_be("pad_id", PAD)?;
    text.must_be("no_causal_mask", false)?;
    text.must_be("proj_type", "linear")?;
    text.must_be("proj_bias", false)?;
    if !text.flag("embed_cls", false)? {
        refuse!("config.json: `text_cfg.embed_cls` is false; only a text with a [CLS] is supported");
    }
    for (key, default) in [("width", 512), ("heads", 8), ("context_length", 77)] {
        let (lower, upper) = (text.usize(key, default)?, decoder.usize(key, default)?);
        if lower != upper {
            refuse!(
                "config.json: `text_cfg.{key}` is {lower} and `multimodal_cfg.{key}` {upper}; only one is supported"
            );
        }
    }
    Ok(())
}

fn image_tower(vision: &Settings) -> Result<Tower> {
    let (width, head) = (vision.usize("width", 768)?, vision.usize("head_width", 64)?);
    Ok(Tower {
        width,
        depth: vision.usize("layers", 12)?,
        heads: width / head.max(1),
        mlp: Some(features(width, vision.f64("mlp_ratio", 4.0)?)),
    })
}

fn pool(vision: &Settings) -> Result<Pool> {
    let kind = "false, true, cascade or parallel";
    let queries = vision.usize("attn_pooler_queries", 256)?;
    let (wiring, queries) = match vision.typed("attentional_pool", Json::Bool(false), kind)? {
        Json::Bool(false) => (Wiring::Shared, 0),
        Json::Bool(true) => (Wiring::Shared, queries),
        _ => (vision.typed("attentional_pool", Wiring::Cascade, kind)?, queries),
    };
    Ok(Pool { wiring, queries, heads: vision.usize("attn_pooler_heads", 8)? })
}

/// How the reference rounds.
fn features(width: usize, ratio: f64) -> usize {
    (width as f64 * ratio) as usize
}

/// A ratio from which the reference finds the width of the feed-forward half again.
fn ratio(tower: &Tower) -> f64 {
    let (width, mlp) = (tower.width, tower.mlp.unwrap_or(4 * tower.width));
    let exact = mlp as f64 / width as f64;
    if features(width, exact) == mlp { exact } else { (mlp as f64 + 0.5) / width as f64 }
}

fn differs(part: &mut Json, key: &str, ours: Json, theirs: Json) {
    if ours != theirs {
        part[key] = ours;
    }
}

struct Coca {
    model: Box<dyn Model>,
    scale: Tensor,
}

impl Forward for Coca {
    /// As with `output_labels`: the last place of a text predicts nothing.
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("image")?, whole(given.ids("text")?)?);
        let fused = self.model.fuse(&image, &text, Attend::Causal)?.text.hidden;
        let places = fused.dim(1)?.saturating_sub(1);
        let outputs = [
            ("image_features", self.model.embed_image(&image)?),
            ("text_features", self.model.embed_text(&text)?),
            ("logits", self.model.predict_words(&fused.narrow(1, 0, places)?.contiguous()?)?.dense()?),
            ("logit_scale", self.scale.exp()?),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}

/// A text up to its last entry that is not padding.
fn whole(ids: Tensor) -> Result<View<Text>> {
    let visible = ids.to_vec2::<u32>()?.into_iter().map(|ids| {
        let end = ids.iter().rposition(|&id| id != PAD).map_or(0, |last| last + 1);
        (0..ids.len()).map(|place| if place < end { 1f32 } else { 0.0 }).collect::<Vec<_>>()
    });
    let mask = Tensor::new(visible.collect::<Vec<_>>(), &Device::Cpu)?;
    Ok(View::new(Text { segments: ids.zeros_like()?, mask, ids }, None))
}
