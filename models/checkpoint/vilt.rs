//! ViLT as transformers saves it: the bare model, the one that predicts masked words, and the one that ranks pairs.

use std::ops::Range;

use candle_core::{DType, IndexOp, Result, Tensor};
use serde_json::{Value as Json, json};

use super::{Class, Forward, Given, Layout, Outputs, Published, Settings};
use crate::kernels;
use crate::models::nn::{Linear, Packing, Patches};
use crate::models::vilt::{Config, EPS};
use crate::models::{Attend, Fused, Image, Init, Inputs, Model, ModelConfig, Tokens, Vars, View};

const BARE: &str = "ViltModel";
const WORDS: &str = "ViltForMaskedLM";
const RANK: &str = "ViltForImageAndTextRetrieval";
/// What ranks pairs, from the pooled vector.
const RANK_HEAD: &str = "rank";
const INPUTS: &[&str] = &["input_ids", "attention_mask", "token_type_ids", "pixel_values", "pixel_mask"];

impl Published for Config {
    const CLASSES: &'static [Class] = &[
        Class { name: WORDS, inputs: INPUTS, outputs: &["logits"] },
        Class { name: BARE, inputs: INPUTS, outputs: &["last_hidden_state", "pooler_output"] },
        Class { name: RANK, inputs: INPUTS, outputs: &["logits"] },
    ];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        theirs.must_be("hidden_act", "gelu")?;
        theirs.must_be("layer_norm_eps", EPS)?;
        theirs.must_be("attention_probs_dropout_prob", 0.0)?;
        theirs.must_be("qkv_bias", true)?;
        theirs.must_be("num_channels", 3)?;
        for kinds in ["type_vocab_size", "modality_type_vocab_size"] {
            theirs.must_be(kinds, 2)?;
        }
        let sample = theirs.f64("max_image_length", -1.0)?;
        let config = Self {
            trunk: theirs.tower([768, 12, 12, 3072])?,
            patch: theirs.usize("patch_size", 32)?,
            sample: (sample >= 0.0).then_some(sample as usize),
            tied: theirs.flag("tie_word_embeddings", true)?,
            dropout: theirs.f64("hidden_dropout_prob", 0.0)?,
        };
        let inputs = Inputs::pixels(
            theirs.usize("image_size", 384)?,
            theirs.usize("max_position_embeddings", 40)?,
            theirs.usize("vocab_size", 30_522)?,
        );
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        json!({
            "model_type": "vilt",
            "hidden_size": self.trunk.width,
            "num_hidden_layers": self.trunk.depth,
            "num_attention_heads": self.trunk.heads,
            "intermediate_size": self.spec().mlp,
            "hidden_act": "gelu",
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": 0.0,
            "layer_norm_eps": EPS,
            "image_size": inputs.size,
            "patch_size": self.patch,
            "max_image_length": self.sample.map_or(-1, |patches| patches as i64),
            "max_position_embeddings": inputs.words,
            "vocab_size": inputs.vocabulary,
            "tie_word_embeddings": self.tied,
        })
    }

    fn names(&self, inputs: &Inputs, class: &str, layout: &mut Layout) {
        let within = if class == BARE { "" } else { "vilt." };
        let embeddings = format!("{within}embeddings");
        let words = format!("{embeddings}.text_embeddings");
        for (ours, theirs) in [("words", "word"), ("positions", "position"), ("segments", "token_type")] {
            layout.same(&format!("words.{ours}"), &format!("{words}.{theirs}_embeddings.weight"));
        }
        layout.norm("words.norm", &format!("{words}.LayerNorm"));
        layout.skip(&format!("{words}.position_ids"));
        let (width, patch) = (self.trunk.width, self.patch);
        let projection = format!("{embeddings}.patch_embeddings.projection");
        layout.shaped("patches.weight", &format!("{projection}.weight"), &[width, 3, patch, patch]);
        layout.same("patches.bias", &format!("{projection}.bias"));
        layout.shaped("patches.class", &format!("{embeddings}.cls_token"), &[1, 1, width]);
        let positions = [1, Patches::tokens(inputs.size, patch), width];
        layout.shaped("patches.positions", &format!("{embeddings}.position_embeddings"), &positions);
        layout.same("types", &format!("{embeddings}.token_type_embeddings.weight"));
        for index in 0..self.trunk.depth {
            layer(&format!("layers.{index}"), &format!("{within}encoder.layer.{index}"), layout);
        }
        layout.norm("norm", &format!("{within}layernorm"));
        layout.linear("pooler", &format!("{within}pooler.dense"));
        match class {
            WORDS => decoder(self.tied, layout),
            RANK => layout.linear(RANK_HEAD, "rank_output"),
            _ => {}
        }
    }

    fn open(&self, inputs: &Inputs, theirs: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        let (model, zero) = (self.build(vars, inputs)?, Init::Constant(0.0));
        let head = match theirs.class() {
            Some(WORDS) => Head::Words,
            Some(RANK) => {
                Head::Rank(Linear::new(&vars.at(RANK_HEAD), [self.trunk.width, 1], zero, Some(zero))?)
            }
            _ => Head::None,
        };
        Ok(Box::new(Vilt { model, head }))
    }
}

fn layer(ours: &str, theirs: &str, layout: &mut Layout) {
    let attention = format!("{theirs}.attention");
    let [q, k, v] = ["query", "key", "value"].map(|part| format!("{attention}.attention.{part}"));
    layout.stacked(&format!("{ours}.attention.qkv"), [&q, &k, &v]);
    layout.linear(&format!("{ours}.attention.out"), &format!("{attention}.output.dense"));
    layout.norm(&format!("{ours}.norm1"), &format!("{theirs}.layernorm_before"));
    layout.norm(&format!("{ours}.norm2"), &format!("{theirs}.layernorm_after"));
    layout.linear(&format!("{ours}.mlp.up"), &format!("{theirs}.intermediate.dense"));
    layout.linear(&format!("{ours}.mlp.down"), &format!("{theirs}.output.dense"));
}

fn decoder(tied: bool, layout: &mut Layout) {
    layout.linear("decoder.transform", "mlm_score.transform.dense");
    layout.norm("decoder.norm", "mlm_score.transform.LayerNorm");
    layout.same("decoder.bias", "mlm_score.decoder.bias");
    // Earlier versions of transformers held the bias twice.
    layout.tied("decoder.bias", "mlm_score.bias");
    match tied {
        true => layout.tied("words.words", "mlm_score.decoder.weight"),
        false => layout.same("decoder.table", "mlm_score.decoder.weight"),
    }
}

struct Vilt {
    model: Box<dyn Model>,
    head: Head,
}

enum Head {
    None,
    Words,
    /// From the pooled vector to one logit.
    Rank(Linear),
}

impl Forward for Vilt {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let image = image(given)?;
        let text = given.segmented_text("input_ids", "attention_mask", "token_type_ids")?;
        let outputs = match &self.head {
            Head::Rank(head) => vec![("logits", head.forward(&self.model.pool(&image, &text)?)?)],
            Head::Words => {
                let fused = self.model.fuse(&image, &text, Attend::Both)?;
                vec![("logits", self.model.predict_words(&fused.text.hidden)?.dense()?)]
            }
            Head::None => {
                let Fused { text, image, pooled } = self.model.fuse(&image, &text, Attend::Both)?;
                let sequences: Vec<Tensor> =
                    [Some(text.hidden), image.map(gathered).transpose()?].into_iter().flatten().collect();
                vec![("last_hidden_state", Tensor::cat(&sequences, 1)?), ("pooler_output", pooled)]
            }
        };
        Ok(outputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
    }
}

fn image(given: &Given) -> Result<View<Image>> {
    let pixels = given.pixels("pixel_values")?;
    let sizes = sizes(&given.mask("pixel_mask", &pixels.i((.., 0))?)?)?;
    Ok(View::new(Image { pixels: Some(pixels), regions: None, masked: None, sizes: Some(sizes) }, None))
}

/// Heights and widths (B,2) of images of which a mask (B,H,W) shows the pixels: a rectangle in the upper left.
fn sizes(mask: &Tensor) -> Result<Tensor> {
    let (heights, widths) = (mask.i((.., .., 0))?.sum(1)?, mask.i((.., 0))?.sum(1)?);
    let differ = (&heights * &widths)?.ne(&mask.sum((1, 2))?)?;
    if differ.max_all()?.to_scalar::<u8>()? != 0 {
        refuse!("`pixel_mask` shows an image that is no rectangle in the upper left");
    }
    Tensor::stack(&[heights, widths], 1)?.to_dtype(DType::U32)
}

/// The visible tokens of each example (B,N',D), with zeros behind them up to the longest.
fn gathered(Tokens { hidden, mask }: Tokens) -> Result<Tensor> {
    let Some(mask) = mask else { return Ok(hidden) };
    let packing = Packing::new(&mask)?;
    let ranges = packing.spans().ranges();
    let longest = ranges.iter().map(Range::len).max().unwrap_or(0);
    let places = ranges.iter().enumerate();
    let places = places.flat_map(|(example, range)| (example * longest..).take(range.len()));
    let places = Tensor::from_iter(places.map(|place| place as u32), hidden.device())?;
    kernels::spread_vectors(&packing.pack(&hidden)?, &places, &[ranges.len(), longest])
}
