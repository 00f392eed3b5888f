//! The parts of BERT's layers and its word decoder, as transformers and the code derived from it name them.

use super::Layout;

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
