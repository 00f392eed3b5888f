//! Language models as transformers saves them within others, below `language_model`.

use candle_core::{Result, bail};
use serde_json::{Value as Json, json};

use super::{Layout, Settings};
use crate::models::Inputs;
use crate::models::language::{Config, opt};
use crate::models::nn::Tower;

/// Our configuration for a `text_config`.
pub fn read(theirs: &Settings) -> Result<Config> {
    match theirs.text("model_type", "opt")?.as_str() {
        "opt" => read_opt(theirs).map(Config::Opt),
        other => bail!("config.json: `text_config.model_type` is {other}; known is opt"),
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

/// Entries of the vocabulary, and tokens of the longest text behind a prefix.
pub fn inputs(theirs: &Settings, prefix: usize) -> Result<(usize, usize)> {
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
    }
}

/// Which of our tensors below `language` is which of theirs.
pub fn names(config: &Config, layout: &mut Layout) {
    match config {
        Config::Opt(config) => opt_names(config, layout),
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
