//! The parts of BERT's layers and its word decoder, as transformers and the code derived from it name them.

use candle_core::Result;
use serde_json::{Value as Json, json};

use super::{Layout, Settings};
use crate::models::Inputs;
use crate::models::nn::{Spec, Tower};

/// The size of a BERT with GELU and two segments, the only one that is read.
pub fn tower(theirs: &Settings) -> Result<Tower> {
    theirs.must_be("hidden_act", "gelu")?;
    theirs.must_be("type_vocab_size", 2)?;
    theirs.tower([768, 12, 12, 3072])
}

/// Its dropout, one for attention weights and all else.
pub fn dropout(theirs: &Settings) -> Result<f64> {
    let dropout = theirs.f64("hidden_dropout_prob", 0.1)?;
    match theirs.f64("attention_probs_dropout_prob", 0.1)? {
        attention if attention == dropout => Ok(dropout),
        attention => refuse!(
            "config.json: `attention_probs_dropout_prob` is {attention}; only `hidden_dropout_prob` {dropout} is supported"
        ),
    }
}

/// The keys that [`tower`] and [`dropout`] read, and those of its inputs.
pub fn settings(spec: &Spec, depth: usize, inputs: &Inputs) -> Json {
    json!({
        "hidden_size": spec.width,
        "num_hidden_layers": depth,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.mlp,
        "hidden_act": "gelu",
        "hidden_dropout_prob": spec.dropout,
        "attention_probs_dropout_prob": spec.dropout,
        "initializer_range": 0.02,
        "max_position_embeddings": inputs.words,
        "type_vocab_size": 2,
        "vocab_size": inputs.vocabulary,
    })
}

/// Layers without cross-attention.
pub fn layers(ours: &str, theirs: &str, depth: usize, layout: &mut Layout) {
    for index in 0..depth {
        let (ours, theirs) = (format!("{ours}.{index}"), format!("{theirs}.{index}"));
        self_attention(&ours, &theirs, layout);
        feed_forward(&ours, &theirs, layout);
    }
}

/// Word and position vectors and their normalisation.
pub fn embeddings(ours: &str, theirs: &str, layout: &mut Layout) {
    layout.same(&format!("{ours}.words"), &format!("{theirs}.word_embeddings.weight"));
    layout.same(&format!("{ours}.positions"), &format!("{theirs}.position_embeddings.weight"));
    layout.norm(&format!("{ours}.norm"), &format!("{theirs}.LayerNorm"));
    layout.skip(&format!("{theirs}.position_ids"));
}

/// Self-attention of a layer and the normalisation after it.
pub fn self_attention(ours: &str, theirs: &str, layout: &mut Layout) {
    let [q, k, v] = ["query", "key", "value"].map(|part| format!("{theirs}.attention.self.{part}"));
    layout.stacked(&format!("{ours}.attention.qkv"), [&q, &k, &v]);
    layout.linear(&format!("{ours}.attention.out"), &format!("{theirs}.attention.output.dense"));
    layout.norm(&format!("{ours}.norm1"), &format!("{theirs}.attention.output.LayerNorm"));
}

/// Cross-attention of a layer and the normalisation after it.
pub fn cross_attention(ours: &str, theirs: &str, layout: &mut Layout) {
    let [q, k, v] = ["query", "key", "value"].map(|part| format!("{theirs}.crossattention.self.{part}"));
    layout.linear(&format!("{ours}.cross.q"), &q);
    layout.stacked(&format!("{ours}.cross.kv"), [&k, &v]);
    layout.linear(&format!("{ours}.cross.out"), &format!("{theirs}.crossattention.output.dense"));
    layout.norm(&format!("{ours}.cross_norm"), &format!("{theirs}.crossattention.output.LayerNorm"));
}

/// The feed-forward half of a layer and the normalisation after it.
pub fn feed_forward(ours: &str, theirs: &str, layout: &mut Layout) {
    layout.linear(&format!("{ours}.mlp.up"), &format!("{theirs}.intermediate.dense"));
    layout.linear(&format!("{ours}.mlp.down"), &format!("{theirs}.output.dense"));
    layout.norm(&format!("{ours}.norm2"), &format!("{theirs}.output.LayerNorm"));
}

/// The word decoder, whose map is the word table `table`.
pub fn decoder(ours: &str, table: &str, theirs: &str, layout: &mut Layout) {
    layout.linear(&format!("{ours}.transform"), &format!("{theirs}.transform.dense"));
    layout.norm(&format!("{ours}.norm"), &format!("{theirs}.transform.LayerNorm"));
    layout.same(&format!("{ours}.bias"), &format!("{theirs}.bias"));
    layout.tied(&format!("{ours}.bias"), &format!("{theirs}.decoder.bias"));
    layout.tied(table, &format!("{theirs}.decoder.weight"));
}
