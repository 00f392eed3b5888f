//! Language models as transformers saves them: by themselves, or within others below `language_model`.

use candle_core::{Result, Tensor};
use serde_json::{Value as Json, json};

use super::{Class, Forward, Given, Layout, Outputs, Published, Settings};
use crate::models::language::{Config, Language, opt, t5};
use crate::models::nn::{Packing, Tower};
use crate::models::{Inputs, Vars};

const OPT: Class =
    Class { name: "OPTForCausalLM", inputs: &["input_ids", "attention_mask"], outputs: &["logits"] };
const T5: Class = Class {
    name: "T5ForConditionalGeneration",
    inputs: &["input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"],
    outputs: &["logits"],
};

impl Published for Config {
    const CLASSES: &'static [Class] = &[OPT, T5];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        let (vocabulary, words) = inputs(theirs, 0)?;
        Ok((read(theirs)?, Inputs::pixels(1, words, vocabulary)))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        write(self, inputs)
    }

    fn class(&self) -> &'static str {
        match self {
            Self::Opt(_) => OPT.name,
            Self::T5(_) => T5.name,
        }
    }

    fn names(&self, _: &Inputs, _: &str, layout: &mut Layout) {
        names(self, "", layout);
    }

    fn open(&self, inputs: &Inputs, _: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        Ok(Box::new(self.open(&vars.at("language"), inputs.vocabulary)?))
    }
}

impl Forward for Language {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let ids = given.ids("input_ids")?;
        let mask = given.mask("attention_mask", &ids)?;
        let embed = match self {
            Self::Opt(opt) => opt.embed(&ids)?,
            Self::T5(t5) => t5.embed(&ids)?,
        };
        Ok([("logits".to_owned(), answer(self, &embed, &mask, given)?)].into())
    }
}

/// Vocabulary logits behind the vectors (B,T,D) of a text, whose mask (B,T) is 0 on padding: of the text itself, or of the
/// `decoder_input_ids` that an encoder-decoder is given.
pub fn answer(language: &Language, x: &Tensor, mask: &Tensor, given: &Given) -> Result<Tensor> {
    let packing = Packing::new(mask)?;
    let x = packing.pack(x)?;
    let hidden = match language {
        Language::Opt(opt) => packing.unpack(&opt.forward(&x, packing.spans(), None)?)?,
        Language::T5(t5) => {
            let answers = given.ids("decoder_input_ids")?;
            let written = Packing::new(&given.mask("decoder_attention_mask", &answers)?)?;
            let answers = written.pack_ids(&answers)?;
            written.unpack(&t5.forward((&x, packing.spans()), (&answers, written.spans()), None)?)?
        }
    };
    language.predict_words(&hidden).dense()
}

/// Our configuration for the settings of a language model.
pub fn read(theirs: &Settings) -> Result<Config> {
    match theirs.text("model_type", "opt")?.as_str() {
        "opt" => read_opt(theirs).map(Config::Opt),
        "t5" => read_t5(theirs).map(Config::T5),
        other => {
            refuse!("config.json: the `model_type` of a language model is {other}; known are opt and t5")
        }
    }
}

fn read_opt(theirs: &Settings) -> Result<opt::Config> {
    let width = theirs.usize("hidden_size", 768)?;
    theirs.must_be("activation_function", "relu")?;
    theirs.must_be("word_embed_proj_dim", width)?;
    for (key, value) in [
        ("do_layer_norm_before", true),
        ("_remove_final_layer_norm", false),
        ("enable_bias", true),
        ("layer_norm_elementwise_affine", true),
        ("tie_word_embeddings", true),
    ] {
        theirs.must_be(key, value)?;
    }
    let layers = Tower {
        width,
        depth: theirs.usize("num_hidden_layers", 12)?,
        heads: theirs.usize("num_attention_heads", 12)?,
        mlp: Some(theirs.usize("ffn_dim", 3072)?),
    };
    let positions = theirs.usize("max_position_embeddings", 2048)?;
    Ok(opt::Config { layers, positions, dropout: theirs.f64("dropout", 0.1)? })
}

fn read_t5(theirs: &Settings) -> Result<t5::Config> {
    // Version 1.0 has neither a gate nor a table of its own for predictions; its configurations do not say the former.
    let (kind, depth) = (theirs.text("feed_forward_proj", "relu")?, theirs.usize("num_layers", 6)?);
    if kind != "gated-gelu" {
        refuse!("config.json: `feed_forward_proj` is {kind}; only gated-gelu is supported");
    }
    let tied = theirs.flag("tie_word_embeddings", true)?;
    if theirs.flag("scale_decoder_outputs", tied)? {
        refuse!("config.json: T5 ties its predictions to its words, as version 1.0 does");
    }
    theirs.must_be("layer_norm_epsilon", 1e-6)?;
    if let Some(other) = theirs.usize_or_none("num_decoder_layers")?
        && other != depth
    {
        refuse!("config.json: an encoder of {depth} layers and a decoder of {other}; ours are alike");
    }
    let layers = Tower {
        width: theirs.usize("d_model", 512)?,
        depth,
        heads: theirs.usize("num_heads", 8)?,
        mlp: Some(theirs.usize("d_ff", 2048)?),
    };
    Ok(t5::Config {
        layers,
        head: Some(theirs.usize("d_kv", 64)?),
        buckets: theirs.usize("relative_attention_num_buckets", 32)?,
        distance: theirs.usize("relative_attention_max_distance", 128)?,
        dropout: theirs.f64("dropout_rate", 0.1)?,
    })
}

/// Entries of the vocabulary, and tokens of the longest text behind a prefix.
pub fn inputs(theirs: &Settings, prefix: usize) -> Result<(usize, usize)> {
    if theirs.text("model_type", "opt")? == "t5" {
        return Ok((theirs.usize("vocab_size", 32_128)?, theirs.usize("n_positions", 512)?));
    }
    let positions = theirs.usize("max_position_embeddings", 2048)?;
    Ok((theirs.usize("vocab_size", 50_272)?, positions.saturating_sub(prefix)))
}

/// The `text_config` of a configuration of ours.
pub fn write(config: &Config, inputs: &Inputs) -> Json {
    match config {
        Config::Opt(opt::Config { layers, positions, dropout }) => json!({
            "model_type": "opt",
            "hidden_size": layers.width,
            "word_embed_proj_dim": layers.width,
            "num_hidden_layers": layers.depth,
            "num_attention_heads": layers.heads,
            "ffn_dim": layers.mlp.unwrap_or(4 * layers.width),
            "max_position_embeddings": positions,
            "vocab_size": inputs.vocabulary,
            "dropout": dropout,
        }),
        Config::T5(t5::Config { layers, head, buckets, distance, dropout }) => json!({
            "model_type": "t5",
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": false,
            "scale_decoder_outputs": false,
            "d_model": layers.width,
            "d_kv": head.unwrap_or(layers.width / layers.heads),
            "d_ff": layers.mlp.unwrap_or(4 * layers.width),
            "num_layers": layers.depth,
            "num_decoder_layers": layers.depth,
            "num_heads": layers.heads,
            "relative_attention_num_buckets": buckets,
            "relative_attention_max_distance": distance,
            "n_positions": inputs.words,
            "vocab_size": inputs.vocabulary,
            "dropout_rate": dropout,
            "decoder_start_token_id": t5::START,
            "pad_token_id": inputs.specials.pad,
            "eos_token_id": inputs.specials.end,
        }),
    }
}

/// Which of our tensors below `language` is which of theirs, whose names begin with `within`.
pub fn names(config: &Config, within: &str, layout: &mut Layout) {
    match config {
        Config::Opt(config) => opt_names(config, within, layout),
        Config::T5(config) => t5_names(config, within, layout),
    }
}

fn opt_names(config: &opt::Config, within: &str, layout: &mut Layout) {
    let place = format!("{within}model.decoder");
    layout.same("language.words", &format!("{place}.embed_tokens.weight"));
    // The word table again, which older files hold twice.
    layout.skip(&format!("{within}lm_head.weight"));
    layout.same("language.positions", &format!("{place}.embed_positions.weight"));
    layout.norm("language.norm", &format!("{place}.final_layer_norm"));
    for index in 0..config.layers.depth {
        let (ours, theirs) = (format!("language.layers.{index}"), format!("{place}.layers.{index}"));
        let [q, k, v] = ["q", "k", "v"].map(|part| format!("{theirs}.self_attn.{part}_proj"));
        layout.stacked(&format!("{ours}.attention.qkv"), [&q, &k, &v]);
        layout.linear(&format!("{ours}.attention.out"), &format!("{theirs}.self_attn.out_proj"));
        layout.norm(&format!("{ours}.norm1"), &format!("{theirs}.self_attn_layer_norm"));
        layout.norm(&format!("{ours}.norm2"), &format!("{theirs}.final_layer_norm"));
        layout.linear(&format!("{ours}.mlp.up"), &format!("{theirs}.fc1"));
        layout.linear(&format!("{ours}.mlp.down"), &format!("{theirs}.fc2"));
    }
}

fn t5_names(config: &t5::Config, within: &str, layout: &mut Layout) {
    let shared = format!("{within}shared.weight");
    layout.same("language.words", &shared);
    // transformers leaves out a copy of the word table where the whole model's configuration ties the two.
    layout.same_or("language.head", &format!("{within}lm_head.weight"), &shared);
    for stack in ["encoder", "decoder"] {
        let (ours, theirs) = (format!("language.{stack}"), format!("{within}{stack}"));
        // The word table again, which older files hold twice.
        layout.skip(&format!("{theirs}.embed_tokens.weight"));
        layout.same(&format!("{ours}.norm.gain"), &format!("{theirs}.final_layer_norm.weight"));
        let table = "block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        layout.same(&format!("{ours}.bias"), &format!("{theirs}.{table}"));
        for index in 0..config.layers.depth {
            let ours = format!("{ours}.layers.{index}");
            let theirs = |half| format!("{theirs}.block.{index}.layer.{half}");
            let mut attention = |part: &str, norm: &str, theirs: String, name: &str| {
                let [q, k, v, o] = ["q", "k", "v", "o"].map(|map| format!("{theirs}.{name}.{map}"));
                layout.linear(&format!("{ours}.{part}.q"), &q);
                layout.stacked(&format!("{ours}.{part}.kv"), [&k, &v]);
                layout.linear(&format!("{ours}.{part}.out"), &o);
                layout.same(&format!("{ours}.{norm}.gain"), &format!("{theirs}.layer_norm.weight"));
            };
            attention("attention", "norm1", theirs(0), "SelfAttention");
            let mlp = if stack == "decoder" {
                attention("cross", "cross_norm", theirs(1), "EncDecAttention");
                theirs(2)
            } else {
                theirs(1)
            };
            layout.same(&format!("{ours}.norm2.gain"), &format!("{mlp}.layer_norm.weight"));
            for (map, name) in [("gate", "wi_0"), ("up", "wi_1"), ("down", "wo")] {
                layout.linear(&format!("{ours}.mlp.{map}"), &format!("{mlp}.DenseReluDense.{name}"));
            }
        }
    }
}
