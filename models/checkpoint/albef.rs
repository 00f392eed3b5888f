//! ALBEF as its authors save it: their pre-training class, and their class that answers questions (ALBEF_VQA here, for both
//! have one name), without momentum copies and queues.
//!
//! `config.json` joins the keys of their `Pretrain.yaml` and `config_bert.json`; the sizes of the image tower, which their
//! code holds fixed, stand below `vision_config` under timm's names.

use candle_core::{Result, Tensor};
use serde_json::{Value as Json, json};

use super::{Class, Forward, Given, Layout, Outputs, Published, Settings, bert, vit};
use crate::models::albef::Config;
use crate::models::decoding::answers::{log_likelihoods, rank};
use crate::models::nn::{Linear, fan_in};
use crate::models::{Attend, Inputs, Model, ModelConfig, Vars};

/// The class that answers questions.
const ANSWERS: &str = "ALBEF_VQA";

impl Published for Config {
    const CLASSES: &'static [Class] = &[
        Class {
            name: "ALBEF",
            inputs: &["image", "input_ids", "attention_mask"],
            outputs: &[
                "image_embeds",
                "text_embeds",
                "image_feat",
                "text_feat",
                "sim_i2t",
                "last_hidden_state",
                "itm_logits",
                "mlm_logits",
            ],
        },
        Class {
            name: ANSWERS,
            inputs: &["image", "question_ids", "question_mask", "answer_ids", "answer_mask", "k"],
            outputs: &["question_states", "answer_loss", "topk_ids", "topk_probs"],
        },
    ];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        theirs.must_be("hidden_act", "gelu")?;
        theirs.must_be("layer_norm_eps", 1e-12)?;
        theirs.must_be("type_vocab_size", 2)?;
        let image = vit::tower(&theirs.part("vision_config")?)?;
        theirs.must_be("vision_width", image.width)?;
        theirs.must_be("encoder_width", image.width)?;
        let config = Self {
            image,
            text: theirs.tower([768, 12, 12, 3072])?,
            fusion: theirs.usize("fusion_layer", 6)?,
            patch: theirs.part("vision_config")?.usize("patch_size", 16)?,
            embed: theirs.usize("embed_dim", 256)?,
            answer: match theirs.class() {
                Some(ANSWERS) => Some(theirs.usize("decoder_layers", 6)?),
                _ => theirs.usize_or_none("decoder_layers")?,
            },
            dropout: theirs.f64("hidden_dropout_prob", 0.1)?,
        };
        let inputs = Inputs::pixels(
            theirs.usize("image_res", 256)?,
            theirs.usize("max_position_embeddings", 512)?,
            theirs.usize("vocab_size", 30_522)?,
        );
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let text = self.text.spec(crate::kernels::Activation::Gelu, 1e-12, self.dropout);
        let mut theirs = json!({
            "model_type": "bert",
            "image_res": inputs.size,
            "embed_dim": self.embed,
            "vision_width": self.image.width,
            "vision_config": vit::settings(&self.image, inputs.size, self.patch),
            "encoder_width": self.image.width,
            "hidden_size": text.width,
            "num_hidden_layers": self.text.depth,
            "num_attention_heads": text.heads,
            "intermediate_size": text.mlp,
            "fusion_layer": self.fusion,
            "hidden_act": "gelu",
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.dropout,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": inputs.words,
            "type_vocab_size": 2,
            "vocab_size": inputs.vocabulary,
        });
        if let Some(depth) = self.answer {
            theirs["decoder_layers"] = json!(depth);
        }
        theirs
    }

    fn names(&self, inputs: &Inputs, class: &str, layout: &mut Layout) {
        vit::names("image", "visual_encoder", &self.image, inputs.size, self.patch, layout);
        let answers = class == ANSWERS;
        // There the text encoder stands without the head of masked words.
        let bert = if answers { "text_encoder" } else { "text_encoder.bert" };
        embeddings("text.embed", &format!("{bert}.embeddings"), layout);
        for index in 0..self.text.depth {
            let (ours, theirs) = (format!("text.layers.{index}"), format!("{bert}.encoder.layer.{index}"));
            layer(&ours, &theirs, index >= self.fusion, layout);
        }
        if answers {
            embeddings("answer.embed", "text_decoder.bert.embeddings", layout);
            for index in 0..self.answer.unwrap_or_default() {
                let theirs = format!("text_decoder.bert.encoder.layer.{index}");
                layer(&format!("answer.layers.{index}"), &theirs, true, layout);
            }
            bert::decoder("answer.head", "answer.embed.words", "text_decoder.cls.predictions", layout);
            return;
        }
        bert::decoder("decoder", "text.embed.words", "text_encoder.cls.predictions", layout);
        layout.linear("project_image", "vision_proj");
        layout.linear("project_text", "text_proj");
        layout.same("temperature", "temp");
        layout.linear("itm.head", "itm_head");
    }

    fn open(&self, inputs: &Inputs, theirs: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        if theirs.class() == Some(ANSWERS) {
            return Ok(Box::new(Answers { model: self.build(vars, inputs)? }));
        }
        let (width, init) = (self.text.width, fan_in(self.text.width));
        let head = Linear::new(&vars.at("itm").at("head"), [width, 2], init, Some(init))?;
        Ok(Box::new(Albef { model: self.build(vars, inputs)?, head }))
    }
}

/// Word, position and segment vectors.
fn embeddings(ours: &str, theirs: &str, layout: &mut Layout) {
    bert::embeddings(ours, theirs, layout);
    layout.same(&format!("{ours}.segments"), &format!("{theirs}.token_type_embeddings.weight"));
}

fn layer(ours: &str, theirs: &str, looks: bool, layout: &mut Layout) {
    bert::self_attention(ours, theirs, layout);
    if looks {
        bert::cross_attention(ours, theirs, layout);
    }
    bert::feed_forward(ours, theirs, layout);
}

/// Answers questions: `answer_loss` (Q,A) of every answer to every question, and the k best of them.
struct Answers {
    model: Box<dyn Model>,
}

impl Forward for Answers {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, question) = (given.image("image")?, given.text("question_ids", "question_mask")?);
        let (answers, k) = (given.text("answer_ids", "answer_mask")?, given.floats("k", 1)?);
        let (questions, count, device) = (question.rows()?, answers.rows()?, k.device());
        let pairs = (0..questions as u32)
            .flat_map(|question| (0..count as u32).map(move |answer| (question, answer)));
        let (of, rows): (Vec<u32>, Vec<u32>) = pairs.unzip();
        let every = answers.select(&Tensor::new(rows, device)?)?;
        let logs = log_likelihoods(&*self.model, &image, &question, &every, &of)?;
        let losses = Tensor::from_iter(logs.into_iter().map(|log| -log as f32), device)?;
        let k = k.to_vec1::<f32>()?[0] as usize;
        let ranked = rank(&*self.model, &image, &question, answers.input()?, k)?.concat();
        let (ids, probabilities): (Vec<f32>, Vec<f32>) =
            ranked.into_iter().map(|(answer, share)| (answer as f32, share as f32)).unzip();
        let outputs: [(&str, Tensor); 4] = [
            ("question_states", self.model.fuse(&image, &question, Attend::Both)?.text.hidden),
            ("answer_loss", losses.reshape((questions, count))?),
            ("topk_ids", Tensor::new(ids, device)?.reshape((questions, ()))?),
            ("topk_probs", Tensor::new(probabilities, device)?.reshape((questions, ()))?),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}

struct Albef {
    model: Box<dyn Model>,
    /// Tells pairs that match from pairs that do not.
    head: Linear,
}

impl Forward for Albef {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (image, text) = (given.image("image")?, given.text("input_ids", "attention_mask")?);
        let (images, texts) = (self.model.embed_image(&image)?, self.model.embed_text(&text)?);
        let fused = self.model.fuse(&image, &text, Attend::Both)?;
        let outputs: [(&str, Tensor); 8] = [
            ("image_embeds", self.model.image_tokens(&image)?.hidden),
            ("text_embeds", self.model.text_tokens(&text)?.hidden),
            ("sim_i2t", self.model.similarity(&images, &texts)?),
            ("image_feat", images),
            ("text_feat", texts),
            ("itm_logits", self.head.forward(&fused.pooled)?),
            ("mlm_logits", self.model.predict_words(&fused.text.hidden)?.dense()?),
            ("last_hidden_state", fused.text.hidden),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}
