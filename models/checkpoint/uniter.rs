//! UNITER as its authors save it: their pre-training class.
//!
//! `config.json` holds the keys of their configuration beside `img_dim` and `img_label_dim`, which their code fixes. The
//! class is asked with `attention_mask` and `region_mask`, which say what of the words and of the regions is there.

use candle_core::{Result, Tensor};
use serde_json::{Value as Json, json};

use super::{Class, Forward, Given, Layout, Outputs, Published, Settings, bert};
use crate::models::nn::{Linear, bert as nn};
use crate::models::uniter::Config;
use crate::models::{Attend, Init, Inputs, Model, ModelConfig, Vars};
use crate::token::Specials;

const ZERO: Init = Init::Constant(0.0);

impl Published for Config {
    const CLASSES: &'static [Class] = &[Class {
        name: "UniterForPretraining",
        inputs: &["input_ids", "attention_mask", "img_feat", "img_pos_feat", "region_mask", "img_masks"],
        outputs: &[
            "last_hidden_state",
            "pooler_output",
            "prediction_scores",
            "prediction_feat",
            "prediction_soft_label",
            "itm_scores",
        ],
    }];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        let dropout = bert::dropout(theirs)?;
        let config = Self { trunk: bert::tower(theirs)?, dropout };
        let inputs = Inputs {
            size: 0,
            words: theirs.usize("max_position_embeddings", 512)?,
            vocabulary: theirs.usize("vocab_size", 28_996)?,
            specials: Specials::SHIPPED,
            region_features: theirs.usize("img_dim", 2048)?,
            region_classes: theirs.usize("img_label_dim", 1601)?,
            answers: 0,
        };
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let mut json = bert::settings(&self.spec(), self.trunk.depth, inputs);
        json["img_dim"] = json!(inputs.region_features);
        json["img_label_dim"] = json!(inputs.region_classes);
        json
    }

    fn names(&self, _: &Inputs, _: &str, layout: &mut Layout) {
        bert::embeddings("words", "uniter.embeddings", layout);
        layout.same("words.segments", "uniter.embeddings.token_type_embeddings.weight");
        let regions = "uniter.img_embeddings";
        for (ours, theirs) in [("visual", "img"), ("position", "pos")] {
            layout.linear(&format!("regions.{ours}"), &format!("{regions}.{theirs}_linear"));
            layout.norm(&format!("regions.{ours}_norm"), &format!("{regions}.{theirs}_layer_norm"));
        }
        layout.same("regions.masks", &format!("{regions}.mask_embedding.weight"));
        layout.norm("regions.norm", &format!("{regions}.LayerNorm"));
        bert::layers("layers", "uniter.encoder.layer", self.trunk.depth, layout);
        layout.linear("pooler", "uniter.pooler.dense");
        bert::decoder("decoder", "words.words", "cls.predictions", layout);
        for (ours, theirs) in [("region_decoder", "feat_regress"), ("mrc", "region_classifier")] {
            layout.linear(&format!("{ours}.transform"), &format!("{theirs}.net.0"));
            layout.norm(&format!("{ours}.norm"), &format!("{theirs}.net.2"));
        }
        layout.same("region_decoder.bias", "feat_regress.bias");
        layout.tied("regions.visual.weight", "feat_regress.weight");
        layout.linear("mrc.head", "region_classifier.net.3");
        layout.linear("itm.head", "itm_output");
    }

    fn open(&self, inputs: &Inputs, _: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        let (width, classes) = (self.trunk.width, inputs.region_classes);
        let head =
            |name: &str, kinds| Linear::new(&vars.at(name).at("head"), [width, kinds], ZERO, Some(ZERO));
        Ok(Box::new(Uniter {
            model: self.build(vars, inputs)?,
            transform: nn::Transform::new(&vars.at("mrc"), &self.spec())?,
            classes: head("mrc", classes)?,
            matches: head("itm", 2)?,
        }))
    }
}

struct Uniter {
    model: Box<dyn Model>,
    /// What precedes the classes of regions.
    transform: nn::Transform,
    classes: Linear,
    /// Tells pairs that match from pairs that do not.
    matches: Linear,
}

impl Forward for Uniter {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let parts = [given.floats("img_feat", 3)?, given.floats("img_pos_feat", 3)?];
        let image = given.regions(parts, "region_mask", Some("img_masks"))?;
        let text = given.text("input_ids", "attention_mask")?;
        let fused = self.model.fuse(&image, &text, Attend::Both)?;
        let words = fused.text.hidden;
        let Some(regions) = fused.image.map(|image| image.hidden) else {
            refuse!("uniter returned no regions")
        };
        let outputs: [(&str, Tensor); 6] = [
            ("prediction_scores", self.model.predict_words(&words)?.dense()?),
            ("prediction_feat", self.model.predict_regions(&regions)?),
            ("prediction_soft_label", self.classes.forward(&self.transform.forward(&regions)?)?),
            ("itm_scores", self.matches.forward(&fused.pooled)?),
            ("last_hidden_state", Tensor::cat(&[words, regions], 1)?),
            ("pooler_output", fused.pooled),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}
