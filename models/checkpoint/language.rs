//! Language models as transformers saves them within others, below `language_model`.

use candle_core::Result;
use serde_json::{Value as Json, json};

use super::{Layout, Settings};
use crate::models::Inputs;
use crate::models::language::{Config, opt, t5};
use crate::models::nn::Tower;

/// Our configuration for a `text_config`.
pub fn read(theirs: &Settings) -> Result<Config> {
    match theirs.text("model_type", "opt")?.as_str() {
        "opt" => read_opt(theirs).map(Config::Opt),
        "t5" => read_t5(theirs).map(Config::T5),
        other => refuse!("config.json: `text_config.model_type` is {other}; known are opt and t5"),
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
        refuse!("config.json: `text_config.feed_forward_proj` is {kind}; only gated-gelu is supported");
    }
    let tied = theirs.flag("tie_word_embeddings", true)?;
    if theirs.flag("scale_decoder_outputs", tied)? {
        refuse!("config.json: `text_config` ties its predictions to its words, as version 1.0 of T5 does");
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

/// Which of our tensors below `language` is which of theirs.
pub fn names(config: &Config, layout: &mut Layout) {
    match config {
        Config::Opt(config) => opt_names(config, layout),
        Config::T5(config) => t5_names(config, layout),
    }
}

fn opt_names(config: &opt::Config, layout: &mut Layout) {
    let place = "language_model.model.decoder";
    layout.same("language.words", &format!("{place}.embed_tokens.weight"));
    // The word table again, which older files hold twice.
    layout.skip("language_model.lm_head.weight");
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

fn t5_names(config: &t5::Config, layout: &mut Layout) {
    layout.same("language.words", "language_model.shared.weight");
    // transformers leaves out a copy of the word table where the whole model's configuration ties the two.
    layout.same_or("language.head", "language_model.lm_head.weight", "language_model.shared.weight");
    for stack in ["encoder", "decoder"] {
        let (ours, theirs) = (format!("language.{stack}"), format!("language_model.{stack}"));
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
