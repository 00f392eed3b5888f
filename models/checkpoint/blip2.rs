//! BLIP-2 as transformers saves it, and what is trained in its first stage as the authors' code saves it.

use candle_core::Result;
use serde_json::{Value as Json, json};

use super::settings::activation_name;
use super::{Class, Forward, Layout, Published, Settings, language};
use crate::models::blip2::{Blip2, Config, Generator, QFormer, Vit};
use crate::models::language::{self as languages, opt};
use crate::models::nn::{Linear, Tower, bert, fan_in};
use crate::models::{Inputs, Vars};

mod forward;
mod names;

use forward::{FirstStage, Generation, Queries, Retrieval};

const RETRIEVAL: Class = Class {
    name: "Blip2ForImageTextRetrieval",
    // With the last one given and not 0, logits are those of the matching head: (B,2) of the B pairs.
    inputs: &["pixel_values", "input_ids", "attention_mask", "use_image_text_matching_head"],
    outputs: &[
        "logits_per_image",
        "logits_per_text",
        "image_embeds",
        "text_embeds",
        "vision_model_output.last_hidden_state",
        "text_model_output.last_hidden_state",
    ],
};

const GENERATION: Class = Class {
    name: "Blip2ForConditionalGeneration",
    // The last two for an encoder-decoder, whose logits are those of the decoder's words.
    inputs: &["pixel_values", "input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"],
    outputs: &["logits", "qformer_outputs.last_hidden_state", "vision_outputs.last_hidden_state"],
};

const QFORMER: Class = Class {
    name: "Blip2QFormerModel",
    inputs: &["query_embeds", "encoder_hidden_states"],
    outputs: &["last_hidden_state", "pooler_output"],
};

/// The authors' class, without its frozen image encoder. It has no `config.json`; here that is the one of transformers.
const FIRST_STAGE: Class = Class {
    name: "Blip2Qformer",
    // Image features, normalised already.
    inputs: &["image_embeds", "input_ids", "attention_mask"],
    outputs: &[
        "query_output.last_hidden_state",
        "text_output.last_hidden_state",
        "image_feats",
        "text_feat",
        "sim_i2t",
        "output_itm.last_hidden_state",
        "logits",
        "lm_output.logits",
    ],
};

impl Published for Config {
    const CLASSES: &'static [Class] = &[RETRIEVAL, QFORMER, FIRST_STAGE, GENERATION];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        if theirs.class() == Some(QFORMER.name) {
            return qformer_alone(theirs);
        }
        let (vision, qformer) = (theirs.part("vision_config")?, theirs.part("qformer_config")?);
        vision.must_be("layer_norm_eps", Vit::Eva.eps())?;
        vision.must_be("hidden_act", "gelu")?;
        vision.must_be("qkv_bias", true)?;
        let generates = theirs.class() == Some(GENERATION.name);
        let config = Self {
            image: vision.tower([1408, 39, 16, 6144])?,
            patch: vision.usize("patch_size", 14)?,
            queries: theirs.usize("num_query_tokens", 32)?,
            embed: theirs.usize("image_text_hidden_size", 256)?,
            language: generates.then(|| language::read(&theirs.part("text_config")?)).transpose()?,
            ..queries(&qformer, !generates)?
        };
        let mut inputs = inputs(vision.usize("image_size", 224)?, &qformer)?;
        if generates {
            (inputs.vocabulary, inputs.words) =
                language::inputs(&theirs.part("text_config")?, config.queries)?;
        }
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let (image, qformer) = (&self.image, &self.qformer);
        let spec = self.spec();
        let qformer = json!({
            "hidden_size": spec.width,
            "num_hidden_layers": qformer.depth,
            "num_attention_heads": spec.heads,
            "intermediate_size": spec.mlp,
            "layer_norm_eps": bert::EPS,
            "vocab_size": inputs.vocabulary + 1,
            "max_position_embeddings": inputs.words,
            "cross_attention_frequency": self.cross_attention_frequency,
            "encoder_hidden_size": image.width,
            "use_qformer_text_input": self.language.is_none(),
        });
        // The class of the Q-Former alone has its keys at the top.
        let mut whole = qformer.clone();
        whole["model_type"] = "blip-2".into();
        whole["num_query_tokens"] = self.queries.into();
        whole["image_text_hidden_size"] = self.embed.into();
        whole["qformer_config"] = qformer;
        whole["vision_config"] = json!({
            "hidden_size": image.width,
            "num_hidden_layers": self.layers_read(),
            "num_attention_heads": image.heads,
            "intermediate_size": image.mlp.unwrap_or(4 * image.width),
            "image_size": inputs.size,
            "patch_size": self.patch,
            // Those of CLIP's transformer are refused when they are read: the reference has no such class.
            "hidden_act": activation_name(self.vit.activation()),
            "layer_norm_eps": self.vit.eps(),
        });
        if let Some(language) = &self.language {
            whole["text_config"] = language::write(language, inputs);
            // An entry that no text holds.
            let mask = inputs.specials.mask.map_or(inputs.vocabulary, |mask| mask as usize);
            whole["image_token_index"] = mask.into();
        }
        whole
    }

    fn class(&self) -> &'static str {
        if self.language.is_some() { GENERATION.name } else { RETRIEVAL.name }
    }

    fn names(&self, inputs: &Inputs, class: &str, layout: &mut Layout) {
        names::all(self, inputs, class, layout);
    }

    fn open(&self, inputs: &Inputs, theirs: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        if theirs.class() == Some(QFORMER.name) {
            let words = self.language.is_none().then_some([inputs.vocabulary + 1, inputs.words]);
            let qformer = QFormer::new(&vars.at("qformer"), &self.spec(), &self.sizes(), words)?;
            return Ok(Box::new(Queries(qformer)));
        }
        if let Some(language) = &self.language {
            let model = Generator::new(vars, self, language, inputs)?;
            let Some(image) = theirs.usize_or_none("image_token_index")? else {
                refuse!("config.json: without `image_token_index` a text does not say where its image is")
            };
            return Ok(Box::new(Generation { model, image: image as u32 }));
        }
        let model = Blip2::new(vars, self, inputs)?;
        let width = self.qformer.width;
        // The parameters that the objective `itm` opens.
        let head = Linear::new(&vars.at("itm.head"), [width, 2], fan_in(width), Some(fan_in(width)))?;
        let skipped = theirs.usize_or_none("image_token_index")?.map_or(0, |_| self.queries);
        Ok(if theirs.class() == Some(FIRST_STAGE.name) {
            Box::new(FirstStage { model, head })
        } else {
            Box::new(Retrieval { model, head, skipped })
        })
    }
}

/// What the settings of a Q-Former say, with a half for words or without.
fn queries(theirs: &Settings, words: bool) -> Result<Config> {
    theirs.must_be("layer_norm_eps", bert::EPS)?;
    theirs.must_be("hidden_act", "gelu")?;
    if theirs.flag("use_qformer_text_input", false)? != words {
        let reads = if words { "a" } else { "no" };
        refuse!("config.json: `use_qformer_text_input` is {}; here there is {reads} text branch", !words);
    }
    Ok(Config {
        vit: Vit::Eva,
        feature_layer: -1,
        qformer: theirs.tower([768, 12, 12, 3072])?,
        cross_attention_frequency: theirs.usize("cross_attention_frequency", 2)?,
        dropout: 0.0,
        ..Config::default()
    })
}

fn inputs(size: usize, qformer: &Settings) -> Result<Inputs> {
    let words = qformer.usize("max_position_embeddings", 512)?;
    // The last entry of the table is [DEC].
    let Some(vocabulary) = qformer.usize("vocab_size", 30_523)?.checked_sub(1) else {
        refuse!("config.json: `vocab_size` is 0")
    };
    Ok(Inputs::pixels(size, words, vocabulary))
}

/// A Q-Former whose queries and image features are given: the parts that it lacks are as small as can be. Without a text
/// branch it is that of the second stage.
fn qformer_alone(theirs: &Settings) -> Result<(Config, Inputs)> {
    let width = theirs.usize("encoder_hidden_size", 1408)?;
    let (image, inputs) = (Tower { width, depth: 1, heads: 1, mlp: Some(1) }, inputs(1, theirs)?);
    let words = theirs.flag("use_qformer_text_input", false)?;
    let none = Tower { width: 1, depth: 1, heads: 1, mlp: Some(1) };
    let language = opt::Config { layers: none, positions: 1 + inputs.words, dropout: 0.0 };
    let language = (!words).then_some(languages::Config::Opt(language));
    Ok((Config { image, patch: 1, queries: 1, embed: 1, language, ..queries(theirs, words)? }, inputs))
}
