//! BLIP-2 as transformers saves it, and what is trained in its first stage as the authors' code saves it.

use candle_core::{Result, Tensor, bail};
use serde_json::{Value as Json, json};

use super::settings::activation_name;
use super::{Class, Forward, Given, Layout, Outputs, Published, Settings, language};
use crate::kernels;
use crate::models::blip2::{Blip2, Config, Encoder, Generator, QFormer, Vit};
use crate::models::language::{self as languages, Language, opt};
use crate::models::nn::{Linear, Packing, Tower, bert, fan_in};
use crate::models::{Attend, Inputs, Model, Text, Vars, View};
use crate::token::MASK;

const RETRIEVAL: Class = Class {
    name: "Blip2ForImageTextRetrieval",
    // With the last one given and not 0, logits are those of the matching head: (B,2) of the B pairs.
    inputs: &["pixel_values", "input_ids", "attention_mask", "use_image_text_matching_head"],
    outputs: &[
        "logits_per_image",
        "logits_per_text",
        "image_embeds",
        "text_embeds",
        "vision_model_output.last_hidden_state",
        "text_model_output.last_hidden_state",
    ],
};

const GENERATION: Class = Class {
    name: "Blip2ForConditionalGeneration",
    // The last two for an encoder-decoder, whose logits are those of the decoder's words.
    inputs: &["pixel_values", "input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"],
    outputs: &["logits", "qformer_outputs.last_hidden_state", "vision_outputs.last_hidden_state"],
};

const QFORMER: Class = Class {
    name: "Blip2QFormerModel",
    inputs: &["query_embeds", "encoder_hidden_states"],
    outputs: &["last_hidden_state", "pooler_output"],
};

/// The authors' class, without its frozen image encoder. It has no `config.json`; here that is the one of transformers.
const FIRST_STAGE: Class = Class {
    name: "Blip2Qformer",
    // Image features, normalised already.
    inputs: &["image_embeds", "input_ids", "attention_mask"],
    outputs: &[
        "query_output.last_hidden_state",
        "text_output.last_hidden_state",
        "image_feats",
        "text_feat",
        "sim_i2t",
        "output_itm.last_hidden_state",
        "logits",
        "lm_output.logits",
    ],
};

impl Published for Config {
    const CLASSES: &'static [Class] = &[RETRIEVAL, QFORMER, FIRST_STAGE, GENERATION];

    fn read(theirs: &Settings) -> Result<(Self, Inputs)> {
        if theirs.class() == Some(QFORMER.name) {
            return qformer_alone(theirs);
        }
        let (vision, qformer) = (theirs.part("vision_config")?, theirs.part("qformer_config")?);
        vision.must_be("layer_norm_eps", Vit::Eva.eps())?;
        vision.must_be("hidden_act", "gelu")?;
        vision.must_be("qkv_bias", true)?;
        let generates = theirs.class() == Some(GENERATION.name);
        let config = Self {
            image: Tower {
                width: vision.usize("hidden_size", 1408)?,
                depth: vision.usize("num_hidden_layers", 39)?,
                heads: vision.usize("num_attention_heads", 16)?,
                mlp: Some(vision.usize("intermediate_size", 6144)?),
            },
            patch: vision.usize("patch_size", 14)?,
            queries: theirs.usize("num_query_tokens", 32)?,
            embed: theirs.usize("image_text_hidden_size", 256)?,
            language: generates.then(|| language::read(&theirs.part("text_config")?)).transpose()?,
            ..queries(&qformer, !generates)?
        };
        let mut inputs = inputs(vision.usize("image_size", 224)?, &qformer)?;
        if generates {
            (inputs.vocabulary, inputs.words) =
                language::inputs(&theirs.part("text_config")?, config.queries)?;
        }
        Ok((config, inputs))
    }

    fn write(&self, inputs: &Inputs) -> Json {
        let (image, qformer) = (&self.image, &self.qformer);
        let spec = self.spec();
        let qformer = json!({
            "hidden_size": spec.width,
            "num_hidden_layers": qformer.depth,
            "num_attention_heads": spec.heads,
            "intermediate_size": spec.mlp,
            "layer_norm_eps": bert::EPS,
            "vocab_size": inputs.vocabulary + 1,
            "max_position_embeddings": inputs.words,
            "cross_attention_frequency": self.cross_attention_frequency,
            "encoder_hidden_size": image.width,
            "use_qformer_text_input": self.language.is_none(),
        });
        // The class of the Q-Former alone has its keys at the top.
        let mut whole = qformer.clone();
        whole["model_type"] = "blip-2".into();
        whole["num_query_tokens"] = self.queries.into();
        whole["image_text_hidden_size"] = self.embed.into();
        whole["qformer_config"] = qformer;
        whole["vision_config"] = json!({
            "hidden_size": image.width,
            "num_hidden_layers": self.layers_read(),
            "num_attention_heads": image.heads,
            "intermediate_size": image.mlp.unwrap_or(4 * image.width),
            "image_size": inputs.size,
            "patch_size": self.patch,
            // Those of CLIP's transformer are refused when they are read: the reference has no such class.
            "hidden_act": activation_name(self.vit.activation()),
            "layer_norm_eps": self.vit.eps(),
        });
        if let Some(language) = &self.language {
            whole["text_config"] = language::write(language, inputs);
            // An entry that no text holds.
            whole["image_token_index"] = MASK.into();
        }
        whole
    }

    fn names(&self, inputs: &Inputs, class: &str, layout: &mut Layout) {
        match class {
            "Blip2ForConditionalGeneration" => {
                self.vision_names(inputs, layout);
                self.query_names(layout);
                self.qformer_names("qformer.", false, layout);
                layout.linear("project_language", "language_projection");
                if let Some(language) = &self.language {
                    language::names(language, layout);
                }
            }
            "Blip2QFormerModel" => self.qformer_names("", self.language.is_none(), layout),
            "Blip2Qformer" => {
                self.query_names(layout);
                embeddings("Qformer.bert.embeddings", layout);
                layout.norm("qformer.norm", "Qformer.bert.embeddings.LayerNorm");
                self.layer_names("Qformer.bert.encoder.layer", "self", true, layout);
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
                self.vision_names(inputs, layout);
                self.query_names(layout);
                embeddings("embeddings", layout);
                self.qformer_names("qformer.", true, layout);
                layout.linear("project_image", "vision_projection");
                layout.linear("project_text", "text_projection");
                layout.linear("itm.head", "itm_head");
            }
        }
    }

    fn open(&self, inputs: &Inputs, theirs: &Settings, vars: &Vars) -> Result<Box<dyn Forward>> {
        if theirs.class() == Some(QFORMER.name) {
            let words = self.language.is_none().then_some([inputs.vocabulary + 1, inputs.words]);
            let qformer = QFormer::new(&vars.at("qformer"), &self.spec(), &self.sizes(), words)?;
            return Ok(Box::new(Queries(qformer)));
        }
        if let Some(language) = &self.language {
            let model = Generator::new(vars, self, language, inputs)?;
            let Some(image) = theirs.usize_or_none("image_token_index")? else {
                bail!("config.json: without `image_token_index` a text does not say where its image is")
            };
            return Ok(Box::new(Generation { model, image: image as u32 }));
        }
        let model = Blip2::new(vars, self, inputs)?;
        let width = self.qformer.width;
        let head = || Linear::new(&vars.at("itm.head"), [width, 2], fan_in(width), Some(fan_in(width)));
        let skipped = theirs.usize_or_none("image_token_index")?.map_or(0, |_| self.queries);
        Ok(match theirs.class() {
            Some("Blip2Qformer") => Box::new(FirstStage { model, head: head()? }),
            _ => Box::new(Retrieval { model, head: head()?, skipped }),
        })
    }
}

/// What the settings of a Q-Former say, with a half for words or without.
fn queries(theirs: &Settings, words: bool) -> Result<Config> {
    theirs.must_be("layer_norm_eps", bert::EPS)?;
    theirs.must_be("hidden_act", "gelu")?;
    if theirs.flag("use_qformer_text_input", false)? != words {
        let reads = if words { "a" } else { "no" };
        bail!("config.json: `use_qformer_text_input` is {}; here there is {reads} text branch", !words);
    }
    Ok(Config {
        vit: Vit::Eva,
        feature_layer: -1,
        qformer: Tower {
            width: theirs.usize("hidden_size", 768)?,
            depth: theirs.usize("num_hidden_layers", 12)?,
            heads: theirs.usize("num_attention_heads", 12)?,
            mlp: Some(theirs.usize("intermediate_size", 3072)?),
        },
        cross_attention_frequency: theirs.usize("cross_attention_frequency", 2)?,
        dropout: 0.0,
        ..Config::default()
    })
}

fn inputs(size: usize, qformer: &Settings) -> Result<Inputs> {
    let words = qformer.usize("max_position_embeddings", 512)?;
    // The last entry of the table is [DEC].
    let Some(vocabulary) = qformer.usize("vocab_size", 30_523)?.checked_sub(1) else {
        bail!("config.json: `vocab_size` is 0")
    };
    Ok(Inputs { size, words, vocabulary, region_features: 0, region_classes: 0 })
}

/// A Q-Former whose queries and image features are given: the parts that it lacks are as small as can be. Without a text
/// branch it is that of the second stage.
fn qformer_alone(theirs: &Settings) -> Result<(Config, Inputs)> {
    let width = theirs.usize("encoder_hidden_size", 1408)?;
    let (image, inputs) = (Tower { width, depth: 1, heads: 1, mlp: Some(1) }, inputs(1, theirs)?);
    let words = theirs.flag("use_qformer_text_input", false)?;
    let none = Tower { width: 1, depth: 1, heads: 1, mlp: Some(1) };
    let language = opt::Config { layers: none, positions: 1 + inputs.words, dropout: 0.0 };
    let language = (!words).then_some(languages::Config::Opt(language));
    Ok((Config { image, patch: 1, queries: 1, embed: 1, language, ..queries(theirs, words)? }, inputs))
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

struct Retrieval {
    model: Blip2,
    /// Logits of "no match" and "match".
    head: Linear,
    /// Places at the beginning of a text that stand for the queries and are not read.
    skipped: usize,
}

impl Retrieval {
    fn text(&self, given: &Given) -> Result<View<Text>> {
        let text = given.text("input_ids", "attention_mask")?;
        let Text { ids, mask, segments } = text.input()?;
        let rest =
            |x: &Tensor| x.narrow(1, self.skipped, x.dim(1)?.saturating_sub(self.skipped))?.contiguous();
        let text = Text { ids: rest(ids)?, mask: rest(mask)?, segments: rest(segments)? };
        Ok(View::new(text, None))
    }
}

impl Forward for Retrieval {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (model, image, text) = (&self.model, given.image("pixel_values")?, self.text(given)?);
        let matches = match given.get("use_image_text_matching_head") {
            None => false,
            Some(_) => given.floats("use_image_text_matching_head", 0)?.to_scalar::<f32>()? != 0.0,
        };
        let mut outputs = Outputs::new();
        let logits = if matches {
            self.head.forward(&model.pool(&image, &text)?)?
        } else {
            let (images, texts) = (model.embed_image(&image)?, model.embed_text(&text)?);
            let cosines = Blip2::cosines(&images, &texts)?;
            outputs.insert("image_embeds".into(), images);
            outputs.insert("text_embeds".into(), texts);
            outputs.insert("text_model_output.last_hidden_state".into(), model.text_tokens(&text)?.hidden);
            cosines
        };
        outputs.insert("logits_per_text".into(), logits.t()?.contiguous()?);
        outputs.insert("logits_per_image".into(), logits);
        outputs.insert("vision_model_output.last_hidden_state".into(), model.encoder.forward(&image)?.hidden);
        Ok(outputs)
    }
}

struct Generation {
    model: Generator,
    /// The entry of the vocabulary in whose places the prefix stands.
    image: u32,
}

impl Generation {
    /// The vectors `words` (B,T,D) with those of the prefix (B,Q,D) in the places of the image, one after another.
    fn place(&self, ids: &Tensor, words: &Tensor, prefix: &Tensor) -> Result<Tensor> {
        let (rows, per_image) = (ids.elem_count() as u32, prefix.dim(1)?);
        let mut next = rows..;
        let mut order = Vec::new();
        for (row, ids) in ids.to_vec2::<u32>()?.into_iter().enumerate() {
            let places = ids.iter().filter(|&&id| id == self.image).count();
            if places != per_image {
                bail!("text {row} has {places} places for its image, whose prefix has {per_image}");
            }
            let first = (row * ids.len()) as u32;
            order.extend((first..).zip(ids).map(|(place, id)| match id == self.image {
                true => next.next().unwrap_or(place),
                false => place,
            }));
        }
        let flat = Tensor::cat(&[words.flatten_to(1)?, prefix.flatten_to(1)?], 0)?;
        kernels::gather_vectors(&flat, &Tensor::new(order, ids.device())?)?.reshape(words.shape())
    }
}

impl Forward for Generation {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (model, image, ids) = (&self.model, given.image("pixel_values")?, given.ids("input_ids")?);
        let (prefix, mask) = (model.prefix(&image)?, given.mask("attention_mask", &ids)?);
        let place = |words: Tensor| self.place(&ids, &words, &prefix);
        let packing = Packing::new(&mask)?;
        let hidden = match &model.language {
            Language::Opt(opt) => {
                let x = packing.pack(&place(opt.embed(&ids)?)?)?;
                packing.unpack(&opt.forward(&x, packing.spans(), None)?)?
            }
            Language::T5(t5) => {
                let x = packing.pack(&place(t5.embed(&ids)?)?)?;
                let answers = given.ids("decoder_input_ids")?;
                let written = Packing::new(&given.mask("decoder_attention_mask", &answers)?)?;
                let answers = written.pack_ids(&answers)?;
                let answers = (&answers, written.spans());
                written.unpack(&t5.forward((&x, packing.spans()), answers, None)?)?
            }
        };
        let outputs = [
            ("logits", model.language.predict_words(&hidden)?),
            ("qformer_outputs.last_hidden_state", model.qformer.queries(&image, &model.encoder)?),
            ("vision_outputs.last_hidden_state", model.encoder.forward(&image)?.hidden),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}

struct Queries(QFormer);

impl Forward for Queries {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let (queries, features) =
            (given.floats("query_embeds", 3)?, given.floats("encoder_hidden_states", 3)?);
        let hidden = self.0.ask(&queries, &features)?;
        let first = hidden.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        Ok([("last_hidden_state".to_owned(), hidden), ("pooler_output".to_owned(), first)].into())
    }
}

struct FirstStage {
    model: Blip2,
    head: Linear,
}

impl Forward for FirstStage {
    fn forward(&self, given: &Given) -> Result<Outputs> {
        let model = &self.model;
        let image = Encoder::seen(given.floats("image_embeds", 3)?)?;
        let text = given.text("input_ids", "attention_mask")?;
        let (images, texts) = (model.embed_image(&image)?, model.embed_text(&text)?);
        let (queries, words) = model.qformer.both(&image, &text, &model.encoder)?;
        let generated = model.fuse(&image, &text, Attend::Causal)?.text.hidden;
        let outputs = [
            ("sim_i2t", model.similarity(&images, &texts)?),
            ("image_feats", images),
            ("text_feat", texts),
            ("query_output.last_hidden_state", model.image_tokens(&image)?.hidden),
            ("text_output.last_hidden_state", model.text_tokens(&text)?.hidden),
            ("logits", self.head.forward(&model.pool(&image, &text)?)?),
            ("output_itm.last_hidden_state", Tensor::cat(&[&queries, &words.hidden], 1)?),
            ("lm_output.logits", model.decoder.forward(&generated)?),
        ];
        Ok(outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }
}
