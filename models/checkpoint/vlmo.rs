//! VLMo as its authors save it: their class `VLMo` for pre-training on pairs.
//!
//! `config.json` joins the keys of their configuration and the arguments of their transformer, which their code finds by
//! the name of a model; those of the base model where it says nothing. Below `loss_names`, `itc` stands for both contrasts
//! and `irtr` for one of them.
//!
//! What the ablations have and the released code lacks is said by keys of our own, absent where the two agree:
//! `attention`, `experts`, `tied` and `mask_token`.

use candle_core::{Result, Tensor};
use serde_json::{Value as Json, json};

use super::{Class, Forward, Given, Layout, Outputs, Published, Settings, bert, vit};
use crate::models::nn::{Linear, Patches, fan_in};
use crate::models::vlmo::{Attention, Config, Experts, Positions};
use crate::models::{Attend, Inputs, Model, ModelConfig, Vars};

impl Published for Config {
    const CLASSES: &'static [Class] = &[Class {
        name: "VLMo",
        inputs: &["image", "text_ids", "text_masks"],
        outputs: &[
            "infer.text_feats",
            "infer.image_feats",
            "infer.cls_feats",
            "infer_image.image_feats",
            "infer_image.cls_feats",
            "infer_text.text_feats",
            "infer_text.cls_feats",
            "itc_i2t_logits",
            "itc_vl_i2t_logits",
            "itm_logits",
            "mlm_logits",
        ],
    }];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        let absolute = theirs.flag("use_abs_pos_emb", false)?;
        if theirs.flag("need_relative_position_embed", true)? == absolute {
            refuse!("config.json: `use_abs_pos_emb` and `need_relative_position_embed` are both {absolute}");
        }
        let trunk = vit::tower(theirs)?;
        let layer_scale = theirs.typed("layer_scale_init_values", Some(0.1), "a number or null")?;
        let fused = theirs.usize("vlffn_start_layer_index", 10)?;
        let config = Self {
            vl_experts: trunk.depth.saturating_sub(fused),
            trunk,
            patch: theirs.usize("patch_size", 16)?,
            experts: theirs.typed("experts", Experts::Multiway, "multiway or standard")?,
            attention: theirs.typed("attention", Attention::Shared, "shared or separate")?,
            positions: if absolute { Positions::Absolute } else { Positions::Relative },
            longest_text: Some(theirs.usize("max_text_len_of_initckpt", 196)?),
            layer_scale,
            drop_path: theirs.f64("drop_path_rate", 0.1)?,
            vl_contrast: theirs.part("loss_names")?.usize("itc", 1)? > 0,
            tied: theirs.flag("tied", false)?,
            mask_token: theirs.flag("mask_token", false)?,
        };
        let inputs = Inputs::pixels(
            theirs.usize("image_size", 224)?,
            theirs.usize("max_text_len", 40)?,
            theirs.usize("vocab_size", 30_522)?,
        );
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let absolute = self.positions == Positions::Absolute;
        let mut json = vit::settings(&self.trunk, inputs.size, self.patch);
        let contrast = if self.vl_contrast { "itc" } else { "irtr" };
        json["loss_names"] = json!({"itm": 1, "itc": 0, "mlm": 1});
        json["loss_names"][contrast] = 1.into();
        json["image_size"] = inputs.size.into();
        json["max_text_len"] = inputs.words.into();
        json["max_text_len_of_initckpt"] = self.longest(inputs).into();
        json["vocab_size"] = inputs.vocabulary.into();
        json["drop_path_rate"] = self.drop_path.into();
        json["vlffn_start_layer_index"] = (self.trunk.depth - self.vl_experts).into();
        json["use_abs_pos_emb"] = absolute.into();
        json["need_relative_position_embed"] = (!absolute).into();
        json["layer_scale_init_values"] = json!(self.layer_scale);
        if self.attention != Attention::Shared {
            json["attention"] = json!(self.attention);
        }
        if self.experts != Experts::Multiway {
            json["experts"] = json!(self.experts);
        }
        for (key, flag) in [("tied", self.tied), ("mask_token", self.mask_token)] {
            if flag {
                json[key] = true.into();
            }
        }
        json
    }

    fn names(&self, inputs: &Inputs, _: &str, layout: &mut Layout) {
        let (width, patch, tokens) = (self.trunk.width, self.patch, Patches::tokens(inputs.size, self.patch));
        bert::embeddings("words", "text_embeddings", layout);
        layout.same("words.segments", "text_embeddings.token_type_embeddings.weight");
        layout.same("types", "token_type_embeddings.weight");
        layout.shaped("patches.class", "transformer.cls_token", &[1, 1, width]);
        layout.shaped("patches.mask", "transformer.mask_token", &[1, 1, width]);
        layout.shaped("patches.positions", "transformer.pos_embed", &[1, tokens, width]);
        let proj = "transformer.patch_embed.proj";
        layout.shaped("patches.weight", &format!("{proj}.weight"), &[width, 3, patch, patch]);
        layout.same("patches.bias", &format!("{proj}.bias"));
        layout.same("relative.table", "relative_position_bias_table");
        for index in ["", "text_", "text_imag_"] {
            layout.skip(&format!("{index}relative_position_index"));
        }
        if self.positions == Positions::Relative {
            // BERT's embeddings have absolute positions all the same, which nothing reads.
            layout.skip("text_embeddings.position_embeddings.weight");
        }
        for index in 0..self.trunk.depth {
            block(&format!("blocks.{index}"), &format!("transformer.blocks.{index}"), layout);
        }
        layout.norm("norm", "transformer.norm");
        layout.linear("pooler", "pooler.dense");
        for theirs in ["", "vl_"] {
            let contrast = format!("{theirs}contrast");
            layout.linear(&format!("{contrast}.image"), &format!("itc_{theirs}image_proj.fc"));
            layout.linear(&format!("{contrast}.text"), &format!("itc_{theirs}text_proj.fc"));
            layout.same(&format!("{contrast}.scale"), &format!("logit_{theirs}scale"));
        }
        layout.linear("decoder.transform", "mlm_score.transform.dense");
        layout.norm("decoder.norm", "mlm_score.transform.LayerNorm");
        layout.same("decoder.bias", "mlm_score.bias");
        if self.tied {
            layout.tied("words.words", "mlm_score.decoder.weight");
        }
        layout.same("decoder.table", "mlm_score.decoder.weight");
        layout.linear("itm.head", "itm_score.fc");
    }

    fn open(&self, inputs: &Inputs, _: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        let (width, init) = (self.trunk.width, fan_in(self.trunk.width));
        let head = Linear::new(&vars.at("itm").at("head"), [width, 2], init, Some(init))?;
        Ok(Box::new(Vlmo { model: self.build(vars, inputs)?, head }))
    }
}

/// A block with every part that any configuration has.
fn block(ours: &str, theirs: &str, layout: &mut Layout) {
    layout.norm(&format!("{ours}.norm1"), &format!("{theirs}.norm1"));
    for (ours, theirs) in [
        (format!("{ours}.attention"), format!("{theirs}.attn")),
        (format!("{ours}.attention.text"), format!("{theirs}.attn_text")),
        (format!("{ours}.attention.image"), format!("{theirs}.attn_imag")),
    ] {
        layout.same(&format!("{ours}.qkv"), &format!("{theirs}.qkv.weight"));
        layout.same(&format!("{ours}.q_bias"), &format!("{theirs}.q_bias"));
        layout.same(&format!("{ours}.v_bias"), &format!("{theirs}.v_bias"));
        layout.linear(&format!("{ours}.out"), &format!("{theirs}.proj"));
    }
    for (expert, suffix) in [("all", ""), ("text", "_text"), ("image", "_imag"), ("vl", "_vl")] {
        let ours = format!("{ours}.experts.{expert}");
        layout.norm(&format!("{ours}.norm"), &format!("{theirs}.norm2{suffix}"));
        layout.linear(&format!("{ours}.mlp.up"), &format!("{theirs}.mlp{suffix}.fc1"));
        layout.linear(&format!("{ours}.mlp.down"), &format!("{theirs}.mlp{suffix}.fc2"));
    }
    layout.same(&format!("{ours}.attention_gain"), &format!("{theirs}.gamma_1"));
    layout.same(&format!("{ours}.expert_gain"), &format!("{theirs}.gamma_2"));
}

struct Vlmo {
    model: Box<dyn Model>,
    /// Tells pairs that match from pairs that do not.
    head: Linear,
}

impl Forward for Vlmo {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("image")?, given.text("text_ids", "text_masks")?);
        let (images, texts) = (self.model.embed_image(&image)?, self.model.embed_text(&text)?);
        let fused = self.model.fuse(&image, &text, Attend::Both)?;
        let second = self.model.second_similarity(&image, &text)?;
        let outputs: [(&str, Option<Tensor>); 11] = [
            ("itc_i2t_logits", Some(self.model.similarity(&images, &texts)?)),
            ("itc_vl_i2t_logits", second),
            ("itm_logits", Some(self.head.forward(&fused.pooled)?)),
            ("mlm_logits", Some(self.model.predict_words(&fused.text.hidden)?.dense()?)),
            ("infer.text_feats", Some(fused.text.hidden)),
            ("infer.image_feats", fused.image.map(|image| image.hidden)),
            ("infer.cls_feats", Some(fused.pooled)),
            ("infer_image.image_feats", Some(self.model.image_tokens(&image)?.hidden)),
            ("infer_image.cls_feats", Some(images)),
            ("infer_text.text_feats", Some(self.model.text_tokens(&text)?.hidden)),
            ("infer_text.cls_feats", Some(texts)),
        ];
        Ok(outputs.into_iter().filter_map(|(name, tensor)| Some((name.to_owned(), tensor?))).collect())
    }
}
