//! Which of our tensors is which of a class's.

use super::super::{Layout, language};
use crate::models::Inputs;
use crate::models::blip2::Config;

/// Every pair of a class.
pub fn all(config: &Config, inputs: &Inputs, class: &str, layout: &mut Layout) {
    match class {
        "Blip2ForConditionalGeneration" => {
            config.vision_names(inputs, layout);
            config.query_names(layout);
            config.qformer_names("qformer.", false, layout);
            layout.linear("project_language", "language_projection");
            if let Some(language) = &config.language {
                language::names(language, "language_model.", layout);
            }
        }
        "Blip2QFormerModel" => config.qformer_names("", config.language.is_none(), layout),
        "Blip2Qformer" => {
            config.query_names(layout);
            embeddings("Qformer.bert.embeddings", layout);
            layout.norm("qformer.norm", "Qformer.bert.embeddings.LayerNorm");
            config.layer_names("Qformer.bert.encoder.layer", "self", true, layout);
            layout.linear("decoder.transform", "Qformer.cls.predictions.transform.dense");
            layout.norm("decoder.norm", "Qformer.cls.predictions.transform.LayerNorm");
            layout.same("decoder.bias", "Qformer.cls.predictions.bias");
            layout.tied("decoder.bias", "Qformer.cls.predictions.decoder.bias");
            layout.tied("qformer.words", "Qformer.cls.predictions.decoder.weight");
            layout.norm("ln_vision", "ln_vision");
            layout.linear("project_image", "vision_proj");
            layout.linear("project_text", "text_proj");
            layout.linear("itm.head", "itm_head");
            layout.same("temperature", "temp");
        }
        _ => {
            config.vision_names(inputs, layout);
            config.query_names(layout);
            embeddings("embeddings", layout);
            config.qformer_names("qformer.", true, layout);
            layout.linear("project_image", "vision_projection");
            layout.linear("project_text", "text_projection");
            layout.linear("itm.head", "itm_head");
        }
    }
}

/// Words and positions, without their normalisation.
fn embeddings(theirs: &str, layout: &mut Layout) {
    layout.same("qformer.words", &format!("{theirs}.word_embeddings.weight"));
    layout.same("qformer.positions", &format!("{theirs}.position_embeddings.weight"));
    layout.skip(&format!("{theirs}.position_ids"));
}

impl Config {
    fn query_names(&self, layout: &mut Layout) {
        layout.shaped("qformer.queries", "query_tokens", &[1, self.queries, self.qformer.width]);
    }

    fn vision_names(&self, inputs: &Inputs, layout: &mut Layout) {
        let (width, patch) = (self.image.width, self.patch);
        let tokens = 1 + (inputs.size / patch).pow(2);
        let embeddings = "vision_model.embeddings";
        layout.shaped("image.patches.class", &format!("{embeddings}.class_embedding"), &[1, 1, width]);
        layout.shaped(
            "image.patches.positions",
            &format!("{embeddings}.position_embedding"),
            &[1, tokens, width],
        );
        layout.shaped(
            "image.patches.weight",
            &format!("{embeddings}.patch_embedding.weight"),
            &[width, 3, patch, patch],
        );
        layout.same("image.patches.bias", &format!("{embeddings}.patch_embedding.bias"));
        for index in 0..self.layers_read() {
            let (ours, theirs) =
                (format!("image.layers.{index}"), format!("vision_model.encoder.layers.{index}"));
            layout.linear(&format!("{ours}.attention.qkv"), &format!("{theirs}.self_attn.qkv"));
            layout.linear(&format!("{ours}.attention.out"), &format!("{theirs}.self_attn.projection"));
            layout.norm(&format!("{ours}.norm1"), &format!("{theirs}.layer_norm1"));
            layout.norm(&format!("{ours}.norm2"), &format!("{theirs}.layer_norm2"));
            layout.linear(&format!("{ours}.mlp.up"), &format!("{theirs}.mlp.fc1"));
            layout.linear(&format!("{ours}.mlp.down"), &format!("{theirs}.mlp.fc2"));
        }
        layout.norm("ln_vision", "vision_model.post_layernorm");
    }

    /// transformers' Q-Former at a place of theirs.
    fn qformer_names(&self, place: &str, words: bool, layout: &mut Layout) {
        layout.norm("qformer.norm", &format!("{place}layernorm"));
        self.layer_names(&format!("{place}encoder.layer"), "attention", words, layout);
    }

    /// The layers, with the half for words or without; their maps of queries, keys and values stand below `attention`.
    fn layer_names(&self, place: &str, attention: &str, words: bool, layout: &mut Layout) {
        for index in 0..self.qformer.depth {
            let (ours, theirs) = (format!("qformer.layers.{index}"), format!("{place}.{index}"));
            let maps = |half: &str| {
                ["query", "key", "value"].map(|part| format!("{theirs}.{half}.{attention}.{part}"))
            };
            let [q, k, v] = maps("attention");
            layout.stacked(&format!("{ours}.attention.qkv"), [&q, &k, &v]);
            let mut end = |ours: String, theirs: String, map: &str| {
                layout.linear(&format!("{ours}.{map}"), &format!("{theirs}.dense"));
                layout.norm(&format!("{ours}.norm"), &format!("{theirs}.LayerNorm"));
            };
            end(format!("{ours}.attention"), format!("{theirs}.attention.output"), "out");
            end(format!("{ours}.query"), format!("{theirs}.output_query"), "mlp.down");
            let crosses = index.is_multiple_of(self.cross_attention_frequency);
            if crosses {
                end(format!("{ours}.cross"), format!("{theirs}.crossattention.output"), "out");
            }
            if words {
                end(format!("{ours}.word"), format!("{theirs}.output"), "mlp.down");
                layout.linear(&format!("{ours}.word.mlp.up"), &format!("{theirs}.intermediate.dense"));
            }
            layout.linear(&format!("{ours}.query.mlp.up"), &format!("{theirs}.intermediate_query.dense"));
            if crosses {
                let [q, k, v] = maps("crossattention");
                layout.linear(&format!("{ours}.cross.q"), &q);
                layout.stacked(&format!("{ours}.cross.kv"), [&k, &v]);
            }
        }
    }
}
