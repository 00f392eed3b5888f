//! The image tower of ViT as timm names it, and the code derived from timm's.

use candle_core::Result;
use serde_json::{Value as Json, json};

use super::{Layout, Settings};
use crate::models::nn::{Patches, Tower};

/// The tower of timm's settings; ViT-B/16 where they say nothing.
pub fn tower(theirs: &Settings) -> Result<Tower> {
    let width = theirs.usize("embed_dim", 768)?;
    Ok(Tower {
        width,
        depth: theirs.usize("depth", 12)?,
        heads: theirs.usize("num_heads", 12)?,
        // timm drops what is left of a width; a ratio of whole widths may fall short of one by rounding.
        mlp: Some((theirs.f64("mlp_ratio", 4.0)? * width as f64 + 1e-6) as usize),
    })
}

/// timm's settings of a tower.
pub fn settings(tower: &Tower, size: usize, patch: usize) -> Json {
    json!({
        "img_size": size,
        "patch_size": patch,
        "embed_dim": tower.width,
        "depth": tower.depth,
        "num_heads": tower.heads,
        "mlp_ratio": tower.mlp.unwrap_or(4 * tower.width) as f64 / tower.width as f64,
    })
}

/// The tensors of a tower over images of `size` pixels.
pub fn names(ours: &str, theirs: &str, tower: &Tower, size: usize, patch: usize, layout: &mut Layout) {
    let (width, tokens) = (tower.width, Patches::tokens(size, patch));
    layout.shaped(&format!("{ours}.patches.class"), &format!("{theirs}.cls_token"), &[1, 1, width]);
    layout.shaped(&format!("{ours}.patches.positions"), &format!("{theirs}.pos_embed"), &[1, tokens, width]);
    let proj = format!("{theirs}.patch_embed.proj");
    layout.shaped(&format!("{ours}.patches.weight"), &format!("{proj}.weight"), &[width, 3, patch, patch]);
    layout.same(&format!("{ours}.patches.bias"), &format!("{proj}.bias"));
    for index in 0..tower.depth {
        let (ours, theirs) = (format!("{ours}.layers.{index}"), format!("{theirs}.blocks.{index}"));
        layout.norm(&format!("{ours}.norm1"), &format!("{theirs}.norm1"));
        layout.linear(&format!("{ours}.attention.qkv"), &format!("{theirs}.attn.qkv"));
        layout.linear(&format!("{ours}.attention.out"), &format!("{theirs}.attn.proj"));
        layout.norm(&format!("{ours}.norm2"), &format!("{theirs}.norm2"));
        layout.linear(&format!("{ours}.mlp.up"), &format!("{theirs}.mlp.fc1"));
        layout.linear(&format!("{ours}.mlp.down"), &format!("{theirs}.mlp.fc2"));
    }
    layout.norm(&format!("{ours}.norm"), &format!("{theirs}.norm"));
}
