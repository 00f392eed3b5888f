//! Oscar as its authors save it: their pre-training class.
//!
//! `config.json` holds the keys of their configuration. `att_mask_type`, an argument of their retrieval script, stands
//! beside them where not every part sees every other. The class is asked with `attention_mask` and `region_mask`, which
//! say what of the text and of the regions is there.

use candle_core::{Result, Tensor};
use serde_json::{Value as Json, json};

use super::{Class, Forward, Given, Layout, Outputs, Published, Settings, bert};
use crate::models::nn::Linear;
use crate::models::oscar::{BOX, Config, Parts};
use crate::models::{Attend, Image, Init, Inputs, Model, ModelConfig, Vars, View};
use crate::token::Specials;

/// Their names of who sees whom: C caption, L tags, R regions.
const PARTS: [(&str, Parts); 4] =
    [("CLR", Parts::Full), ("CR", Parts::WordsRegions), ("CL", Parts::WordsTags), ("LR", Parts::TagsRegions)];

impl Published for Config {
    const CLASSES: &'static [Class] = &[Class {
        name: "BertImgForPreTraining",
        inputs: &["input_ids", "attention_mask", "token_type_ids", "img_feats", "region_mask"],
        outputs: &["last_hidden_state", "pooler_output", "prediction_scores", "seq_relationship_score"],
    }];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        theirs.must_be("layer_norm_eps", 1e-12)?;
        theirs.must_be("img_feature_type", "faster_r-cnn")?;
        theirs.must_be("num_contrast_classes", 2)?;
        let image_norm = theirs.usize("use_img_layernorm", 0)? != 0;
        if image_norm {
            theirs.must_be("img_layer_norm_eps", 1e-12)?;
        }
        let attend = theirs.text("att_mask_type", "CLR")?;
        let Some((_, attend)) = PARTS.into_iter().find(|(name, _)| *name == attend) else {
            refuse!("config.json: `att_mask_type` is {attend}, expected CLR, CR, CL or LR")
        };
        let region = theirs.usize("img_feature_dim", 2054)?;
        let Some(region_features) = region.checked_sub(BOX) else {
            refuse!("config.json: `img_feature_dim` is {region}, of which {BOX} tell where a region lies")
        };
        let dropout = bert::dropout(theirs)?;
        let config = Self { trunk: bert::tower(theirs)?, attend, image_norm, dropout };
        let inputs = Inputs {
            size: 0,
            words: theirs.usize("max_position_embeddings", 512)?,
            vocabulary: theirs.usize("vocab_size", 30_522)?,
            specials: Specials::SHIPPED,
            region_features,
            region_classes: 0,
            answers: 0,
        };
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let mut json = bert::settings(&self.spec(), self.trunk.depth, inputs);
        json["layer_norm_eps"] = json!(1e-12);
        json["img_feature_type"] = json!("faster_r-cnn");
        json["img_feature_dim"] = json!(inputs.region_features + BOX);
        json["use_img_layernorm"] = json!(u8::from(self.image_norm));
        json["img_layer_norm_eps"] = json!(1e-12);
        json["att_mask_type"] =
            PARTS.iter().find(|(_, parts)| *parts == self.attend).map(|(name, _)| *name).into();
        json
    }

    fn names(&self, _: &Inputs, _: &str, layout: &mut Layout) {
        bert::embeddings("words", "bert.embeddings", layout);
        layout.same("words.segments", "bert.embeddings.token_type_embeddings.weight");
        layout.linear("regions.map", "bert.img_embedding");
        layout.norm("regions.norm", "bert.LayerNorm");
        bert::layers("layers", "bert.encoder.layer", self.trunk.depth, layout);
        layout.linear("pooler", "bert.pooler.dense");
        bert::decoder("decoder", "words.words", "cls.predictions", layout);
        layout.linear("tag_match.head", "cls.seq_relationship");
    }

    fn open(&self, inputs: &Inputs, _: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        let (vars_of_head, zero) = (vars.at("tag_match").at("head"), Init::Constant(0.0));
        let head = Linear::new(&vars_of_head, [self.trunk.width, 2], zero, Some(zero))?;
        Ok(Box::new(Oscar { model: self.build(vars, inputs)?, head }))
    }
}

struct Oscar {
    model: Box<dyn Model>,
    /// Tells tags of the image from those of another.
    head: Linear,
}

impl Forward for Oscar {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let image = image(given)?;
        let text = given.segmented_text("input_ids", "attention_mask", "token_type_ids")?;
        let fused = self.model.fuse(&image, &text, Attend::Both)?;
        let words = fused.text.hidden;
        let Some(regions) = fused.image.map(|image| image.hidden) else {
            refuse!("oscar returned no regions")
        };
        let outputs: [(&str, Tensor); 4] = [
            ("prediction_scores", self.model.predict_words(&words)?.dense()?),
            ("seq_relationship_score", self.head.forward(&fused.pooled)?),
            ("last_hidden_state", Tensor::cat(&[words, regions], 1)?),
            ("pooler_output", fused.pooled),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}

fn image(given: &Given) -> Result<View<Image>> {
    let input = given.floats("img_feats", 3)?;
    let (_, _, width) = input.dims3()?;
    let Some(features) = width.checked_sub(BOX) else {
        refuse!("`img_feats` has {width} numbers a region, of which {BOX} tell where it lies")
    };
    let parts = [input.narrow(2, 0, features)?, input.narrow(2, features, BOX)?];
    given.regions(parts, "region_mask", None)
}
