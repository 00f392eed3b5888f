//! Forward values against transformers; `tests/golden/<model>.py` made the numbers.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use vlp_bench::models::{Attend, Config, Image, Inputs, Model, Store, Text, View};

/// The tensors of one case of a fixture.
struct Golden(BTreeMap<String, Tensor>);

impl Golden {
    fn read(name: &str, case: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.safetensors"));
        let tensors = safetensors::load(file, &Device::Cpu).unwrap();
        let mine =
            |(name, tensor): (String, Tensor)| Some((name.strip_prefix(case)?[1..].to_owned(), tensor));
        Self(tensors.into_iter().filter_map(mine).collect())
    }

    /// The model with the weights of this case, under the names that `rules` turn transformers' into.
    fn model(&self, config: &str, inputs: &Inputs, rules: &[(&str, &str)]) -> Box<dyn Model> {
        let config: Config = serde_yaml::from_str(config).unwrap();
        assert_eq!(config.faults(inputs), [""; 0]);
        let store = Store::new(&Device::Cpu, 0, &[]);
        let model = config.build(&store.student(), inputs).unwrap();
        let mut values = BTreeMap::new();
        for (name, value) in packed(&self.0, rules) {
            let entry = &store.entries()[&name];
            values.insert(name, value.reshape(entry.var.shape()).unwrap());
        }
        store.load(&values).unwrap();
        model
    }

    fn views(&self) -> (View<Image>, View<Text>) {
        let ids = self.0["ids"].clone();
        let segments = self.0.get("segments").cloned().unwrap_or_else(|| ids.zeros_like().unwrap());
        let text = Text { ids, mask: self.0["mask"].clone(), segments };
        let image = Image { pixels: Some(self.0["pixels"].clone()), regions: None, masked: None };
        (View::new(image, None), View::new(text, None))
    }

    /// Equal to 1e-4 of the greatest element; padding, which is zero in the fixture, is left out.
    #[track_caller]
    fn agrees(&self, name: &str, got: &Tensor) {
        let expected = &self.0[name];
        assert_eq!(got.dims(), expected.dims(), "{name}");
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (got, expected) = (flat(got), flat(expected));
        let scale = expected.iter().fold(0f32, |scale, x| scale.max(x.abs()));
        assert!(scale > 0.01, "{name} is zero throughout");
        for (place, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!((got - expected).abs() <= 1e-5 * scale, "{name} {place}: got {got}, expected {expected}");
        }
    }

    fn visible(&self, hidden: &Tensor) -> Tensor {
        hidden.broadcast_mul(&self.0["mask"].unsqueeze(2).unwrap()).unwrap()
    }
}

/// Every weight under our name. Query, key and value maps become one, keys and values of cross-attention another.
fn packed(tensors: &BTreeMap<String, Tensor>, rules: &[(&str, &str)]) -> BTreeMap<String, Tensor> {
    let mut parts: BTreeMap<String, Vec<(usize, Tensor)>> = BTreeMap::new();
    for (name, tensor) in tensors {
        let Some(name) = name.strip_prefix("weights.") else { continue };
        let mut name = rules.iter().fold(name.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours));
        if name.contains("norm") || name.contains("ln_") {
            name = name.replace(".weight", ".gain");
        }
        let mut order = 0;
        for (place, part) in ["<q>", "<k>", "<v>"].into_iter().enumerate() {
            if let Some((before, after)) = name.clone().split_once(part) {
                let whole = match (before.ends_with("cross."), part) {
                    (true, "<q>") => "q",
                    (true, _) => "kv",
                    (false, _) => "qkv",
                };
                (name, order) = (format!("{before}{whole}{after}"), place);
            }
        }
        parts.entry(name).or_default().push((order, tensor.clone()));
    }
    let join = |mut parts: Vec<(usize, Tensor)>| {
        parts.sort_by_key(|(order, _)| *order);
        let tensors: Vec<Tensor> = parts.into_iter().map(|(_, tensor)| tensor).collect();
        if tensors.len() == 1 { tensors[0].clone() } else { Tensor::cat(&tensors, 0).unwrap() }
    };
    parts.into_iter().map(|(name, parts)| (name, join(parts))).collect()
}

const ALBEF: &[(&str, &str)] = &[
    ("image.embeddings.cls_token", "image.patches.class"),
    ("image.embeddings.patch_embeddings.projection", "image.patches"),
    ("image.embeddings.position_embeddings", "image.patches.positions"),
    ("image.layernorm", "image.norm"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("mlp.fc1", "mlp.up"),
    ("mlp.fc2", "mlp.down"),
    ("attention.q_proj", "attention.<q>"),
    ("attention.k_proj", "attention.<k>"),
    ("attention.v_proj", "attention.<v>"),
    ("attention.o_proj", "attention.out"),
    ("image_proj", "project_image"),
    ("text_proj", "project_text"),
    ("embeddings.LayerNorm", "text.embed.norm"),
    ("embeddings.word_embeddings.weight", "text.embed.words"),
    ("embeddings.position_embeddings.weight", "text.embed.positions"),
    ("embeddings.token_type_embeddings.weight", "text.embed.segments"),
    ("decoder.transform.LayerNorm", "decoder.norm"),
    ("decoder.transform.dense", "decoder.transform"),
    ("crossattention.output.LayerNorm", "cross_norm"),
    ("crossattention.output.dense", "cross.out"),
    ("crossattention.self", "cross.self"),
    ("attention.output.LayerNorm", "norm1"),
    ("attention.output.dense", "attention.out"),
    ("intermediate.dense", "mlp.up"),
    (".output.LayerNorm", ".norm2"),
    (".output.dense", ".mlp.down"),
    ("self.query", "<q>"),
    ("self.key", "<k>"),
    ("self.value", "<v>"),
    ("layer.", "text.layers."),
];

#[test]
fn albef_equals_its_data_flow_over_the_parts_of_transformers() {
    let towers = "image: {width: 12, depth: 2, heads: 3}, text: {width: 8, depth: 3, heads: 2}, fusion: 2";
    albef("wide_image", &format!("albef: {{{towers}, patch: 5, embed: 5}}"), 10, 9);
    let towers = "image: {width: 8, depth: 1, heads: 1}, text: {width: 12, depth: 2, heads: 4}, fusion: 1";
    albef("wide_text", &format!("albef: {{{towers}, patch: 4, embed: 7}}"), 8, 6);
}

fn albef(case: &str, config: &str, size: usize, words: usize) {
    let golden = Golden::read("albef", case);
    let model = golden.model(config, &inputs(size, words), ALBEF);
    let (image, text) = golden.views();
    let (images, texts) = (model.embed_image(&image).unwrap(), model.embed_text(&text).unwrap());
    golden.agrees("image_embeds", &images);
    golden.agrees("text_embeds", &texts);
    golden.agrees("logits", &model.similarity(&images, &texts).unwrap());
    golden.agrees("image_tokens", &model.image_tokens(&image).unwrap().hidden);
    golden.agrees("text_tokens", &golden.visible(&model.text_tokens(&text).unwrap().hidden));
    let fused = model.fuse(&image, &text, Attend::Both).unwrap();
    golden.agrees("fused", &golden.visible(&fused.text.hidden));
    golden.agrees("words", &golden.visible(&model.predict_words(&fused.text.hidden).unwrap()));
    let pooled = fused.pooled.to_vec2::<f32>().unwrap();
    let hidden = fused.text.hidden.to_vec3::<f32>().unwrap();
    assert!(pooled.iter().zip(&hidden).all(|(pooled, hidden)| *pooled == hidden[0]));
}

fn inputs(size: usize, words: usize) -> Inputs {
    Inputs { size, words, vocabulary: 23, region_features: 0, region_classes: 0 }
}
