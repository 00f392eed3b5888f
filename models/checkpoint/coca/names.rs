//! The names of `open_clip`'s tensors.

use super::Layout;
use crate::models::coca::{Config, Wiring};

/// The image tower, its poolers and their projection.
pub fn image(config: &Config, layout: &mut Layout) {
    let (width, patch) = (config.image.width, config.patch);
    layout.shaped("image.patches.weight", "visual.conv1.weight", &[width, 3, patch, patch]);
    layout.same("image.patches.bias", "visual.conv1.bias");
    layout.same("image.patches.class", "visual.class_embedding");
    layout.same("image.patches.positions", "visual.positional_embedding");
    layout.norm("image.ln_pre", "visual.ln_pre");
    for index in 0..config.image.depth {
        let (ours, theirs) =
            (format!("image.layers.{index}"), format!("visual.transformer.resblocks.{index}"));
        layer(&ours, ["norm2", "mlp"], &theirs, layout);
    }
    layout.norm("image.norm", "visual.ln_post");
    let cascades = config.pool.wiring == Wiring::Cascade && config.pool.queries > 0;
    let seen = if cascades { config.text.width } else { width };
    let poolers = [
        ("image.pooler", "visual.attn_pool", width),
        ("image.captioning", "visual.attn_pool", width),
        ("image.contrastive", "visual.attn_pool_contrastive", seen),
    ];
    for (ours, theirs, seen) in poolers {
        layout.same(&format!("{ours}.queries"), &format!("{theirs}.query"));
        layout.norm(&format!("{ours}.norm_q"), &format!("{theirs}.ln_q"));
        layout.norm(&format!("{ours}.norm_k"), &format!("{theirs}.ln_k"));
        cross(ours, &format!("{theirs}.attn"), seen == config.text.width, layout);
    }
    layout.turned("project_image.weight", "visual.proj");
}

/// The unimodal half and its projection.
pub fn text(config: &Config, layout: &mut Layout) {
    layout.same("text.embed.words", "text.token_embedding.weight");
    layout.same("text.embed.positions", "text.positional_embedding");
    match config.classes {
        1 => layout.shaped("text.classes", "text.cls_emb", &[config.text.width]),
        _ => layout.same("text.classes", "text.cls_emb"),
    }
    layout.skip("text.attn_mask");
    for index in 0..config.unimodal {
        let (ours, theirs) = (format!("text.layers.{index}"), format!("text.transformer.resblocks.{index}"));
        layer(&ours, ["norm2", "mlp"], &theirs, layout);
    }
    layout.norm("text.norm", "text.ln_final");
    layout.turned("project_text.weight", "text.text_projection");
}

/// The multimodal half and the words it predicts.
pub fn decoder(config: &Config, layout: &mut Layout) {
    let whole = config.pool.queries == 0;
    let seen = if whole { config.image.width } else { config.text.width };
    for index in 0..config.text.depth.saturating_sub(config.unimodal) {
        let ours = format!("decoder.layers.{index}");
        let theirs = format!("text_decoder.resblocks.{index}");
        layer(&ours, ["between_norm", "between"], &theirs, layout);
        let theirs = format!("text_decoder.cross_attn.{index}");
        layout.norm(&format!("{ours}.cross_norm"), &format!("{theirs}.ln_1"));
        layout.norm(&format!("{ours}.seen_norm"), &format!("{theirs}.ln_1_kv"));
        cross(&format!("{ours}.cross"), &format!("{theirs}.attn"), seen == config.text.width, layout);
        feed_forward(&ours, ["norm2", "mlp"], &theirs, layout);
    }
    layout.skip("text_decoder.attn_mask");
    layout.norm("decoder.norm", "text_decoder.ln_final");
    layout.turned("words", "text_decoder.text_projection");
}

/// A layer of self-attention and what follows it.
fn layer(ours: &str, rest: [&str; 2], theirs: &str, layout: &mut Layout) {
    let attention = format!("{ours}.attention");
    layout.norm(&format!("{ours}.norm1"), &format!("{theirs}.ln_1"));
    layout.same(&format!("{attention}.qkv.weight"), &format!("{theirs}.attn.in_proj_weight"));
    layout.same(&format!("{attention}.qkv.bias"), &format!("{theirs}.attn.in_proj_bias"));
    layout.linear(&format!("{attention}.out"), &format!("{theirs}.attn.out_proj"));
    feed_forward(ours, rest, theirs, layout);
}

fn feed_forward(ours: &str, [norm, mlp]: [&str; 2], theirs: &str, layout: &mut Layout) {
    layout.norm(&format!("{ours}.{norm}"), &format!("{theirs}.ln_2"));
    layout.linear(&format!("{ours}.{mlp}.up"), &format!("{theirs}.mlp.c_fc"));
    layout.linear(&format!("{ours}.{mlp}.down"), &format!("{theirs}.mlp.c_proj"));
}

/// PyTorch keeps the maps of queries, keys and values as one where what is looked at has the width of who looks.
fn cross(ours: &str, theirs: &str, one: bool, layout: &mut Layout) {
    let [q, kv] = ["q", "kv"].map(|map| format!("{ours}.{map}"));
    let weights = [format!("{q}.weight"), format!("{kv}.weight")];
    if one {
        let [q, kv] = &weights;
        layout.rows([q, kv], [&format!("{theirs}.in_proj_weight")]);
    } else {
        let maps = ["q", "k", "v"].map(|map| format!("{theirs}.{map}_proj_weight"));
        layout.same(&weights[0], &maps[0]);
        layout.rows([&weights[1]], [&maps[1], &maps[2]]);
    }
    layout.rows([&format!("{q}.bias"), &format!("{kv}.bias")], [&format!("{theirs}.in_proj_bias")]);
    layout.linear(&format!("{ours}.out"), &format!("{theirs}.out_proj"));
}
