//! What sets VLMo apart: which tokens meet which expert, and what its settings change.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use vlp_bench::kernels::{Tape, random::Key};
use vlp_bench::models::store::{Entry, Role};
use vlp_bench::models::{Attend, Config, Image, Model, Store, Text, View};

use super::{INPUTS, pairs, weighed};

const TRUNK: &str = "trunk: {width: 24, depth: 3, heads: 2}";

fn config(settings: &str) -> Config {
    let config: Config = serde_yaml::from_str(&format!("vlmo: {{{TRUNK}, {settings}}}")).unwrap();
    assert_eq!(config.faults(&INPUTS), [""; 0], "{settings}");
    config
}

/// A model whose parameters all differ from zero, as after some training.
fn trained(settings: &str) -> (Store, Box<dyn Model>) {
    let store = Store::new(&Device::Cpu, 1, &[]);
    let model = config(settings).build(&store.student(), &INPUTS).unwrap();
    let noise = |name: &str, entry: &Tensor| {
        let noise = Key::new(9, 0, name).normal(entry.elem_count());
        (entry + (Tensor::from_vec(noise, entry.shape(), &Device::Cpu).unwrap() * 0.2).unwrap()).unwrap()
    };
    let values = store.tensors().iter().map(|(name, value)| (name.clone(), noise(name, value))).collect();
    store.load(&values).unwrap();
    (store, model)
}

fn views() -> (View<Image>, View<Text>) {
    let (image, text) = pairs(&[7, 3, 5]).unwrap();
    (View::new(image, None), View::new(text, None))
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// What the model makes of images alone, texts alone and pairs.
fn outcomes(model: &dyn Model) -> BTreeMap<&'static str, Tensor> {
    let (image, text) = views();
    let fused = model.fuse(&image, &text, Attend::Both).unwrap();
    BTreeMap::from([
        ("image", model.image_tokens(&image).unwrap().hidden),
        ("text", model.text_tokens(&text).unwrap().hidden),
        ("image embedding", model.embed_image(&image).unwrap()),
        ("text embedding", model.embed_text(&text).unwrap()),
        ("words of pairs", fused.text.hidden),
        ("images of pairs", fused.image.unwrap().hidden),
        ("pooled", fused.pooled),
    ])
}

/// Gives parameters of one store the values that another has under the name that `from` makes of theirs.
fn copy(target: &Store, source: &Store, from: impl Fn(&str) -> String) {
    let source = source.tensors();
    let values = target.tensors().into_keys().map(|name| (name.clone(), source[&from(&name)].clone()));
    target.load(&values.collect()).unwrap();
}

#[test]
fn an_expert_is_met_by_its_modality_and_by_no_other() {
    let reached = |part: &str| -> Vec<&'static str> {
        let (store, model) = trained("vl_experts: 1");
        let before = outcomes(model.as_ref());
        let own = store.tensors().into_iter().filter(|(name, _)| name.contains(part));
        let moved: BTreeMap<_, _> = own.map(|(name, value)| (name, (value + 0.1).unwrap())).collect();
        assert!(!moved.is_empty(), "{part}");
        store.overwrite(&moved).unwrap();
        let after = outcomes(model.as_ref());
        before.iter().filter(|(name, x)| difference(x, &after[*name]) > 1e-4).map(|(name, _)| *name).collect()
    };
    let with_pairs = |more: [&'static str; 2]| {
        let mut names = vec!["images of pairs", "pooled", "words of pairs"];
        names.extend(more);
        names.sort_unstable();
        names
    };
    let (image, text) = (["image", "image embedding"], ["text", "text embedding"]);
    assert_eq!(reached("blocks.2.experts.vl"), ["images of pairs", "pooled", "words of pairs"]);
    assert_eq!(reached("blocks.2.experts.text"), text);
    assert_eq!(reached("blocks.2.experts.image"), image);
    assert_eq!(reached("blocks.1.experts.text"), with_pairs(text));
    assert_eq!(reached("blocks.0.experts.image"), with_pairs(image));
    assert_eq!(reached("blocks.2.attention.qkv").len(), 7);
}

#[test]
fn equal_experts_are_a_standard_transformer_and_equal_attention_is_shared() {
    let close = |a: &dyn Model, b: &dyn Model| {
        for ((name, a), (_, b)) in outcomes(a).iter().zip(outcomes(b)) {
            assert!(difference(a, &b) < 1e-4, "{name} differs by {}", difference(a, &b));
        }
    };
    let (one, standard) = trained("experts: standard, vl_experts: 0");
    for experts in [0, 1, 2] {
        let (each, multiway) = trained(&format!("vl_experts: {experts}"));
        copy(&each, &one, |name| {
            let part = ["text", "image", "vl"].map(|expert| format!("experts.{expert}"));
            part.iter().fold(name.to_owned(), |name, part| name.replace(part.as_str(), "experts.all"))
        });
        close(multiway.as_ref(), standard.as_ref());
    }
    for experts in [0, 1] {
        let (one, shared) = trained(&format!("vl_experts: {experts}"));
        let (each, separate) = trained(&format!("vl_experts: {experts}, attention: separate"));
        assert!(
            difference(&outcomes(shared.as_ref())["pooled"], &outcomes(separate.as_ref())["pooled"]) > 1e-3
        );
        copy(&each, &one, |name| {
            name.replace("attention.text.", "attention.").replace("attention.image.", "attention.")
        });
        close(separate.as_ref(), shared.as_ref());
    }
}

#[test]
fn pooling_alone_gives_what_the_whole_joint_pass_pools() {
    for settings in [
        "vl_experts: 1",
        "vl_experts: 2, positions: absolute, layer_scale: null",
        "vl_experts: 0, attention: separate",
        "vl_experts: 0, experts: standard",
    ] {
        let (_, model) = trained(settings);
        let (image, text) = views();
        let fused = model.fuse(&image, &text, Attend::Both).unwrap().pooled;
        let most = difference(&model.pool(&image, &text).unwrap(), &fused);
        assert!(most < 1e-5, "{settings}: {most}");
    }
}

#[test]
fn padding_up_to_the_longest_text_changes_nothing() {
    let (_, model) = trained("vl_experts: 1");
    let (image, text) = pairs(&[5, 3, 4]).unwrap();
    let cut = |x: &Tensor| x.narrow(1, 0, 5).unwrap().contiguous().unwrap();
    let short = Text { ids: cut(&text.ids), mask: cut(&text.mask), segments: cut(&text.segments) };
    let (image, text, short) = (View::new(image, None), View::new(text, None), View::new(short, None));
    let [long, short] = [text, short].map(|text| model.fuse(&image, &text, Attend::Both).unwrap());
    assert!(difference(&long.pooled, &short.pooled) < 1e-5);
    assert!(difference(&long.image.unwrap().hidden, &short.image.unwrap().hidden) < 1e-5);
}

#[test]
fn the_second_contrast_goes_through_vision_language_experts() {
    let (image, text) = views();
    let (_, model) = trained("vl_contrast: false");
    assert!(model.second_similarity(&image, &text).unwrap().is_none());
    let (store, model) = trained("vl_contrast: true");
    let plain = |model: &dyn Model| {
        let (image, text) = views();
        model.similarity(&model.embed_image(&image).unwrap(), &model.embed_text(&text).unwrap()).unwrap()
    };
    let second = |model: &dyn Model| {
        let (image, text) = views();
        model.second_similarity(&image, &text).unwrap().unwrap()
    };
    let first = plain(model.as_ref());
    assert!(difference(&second(model.as_ref()), &first) > 1e-2);
    // With equal experts and maps nothing sets the two apart.
    let source = store.tensors();
    let shared = |name: &str| {
        let name = name.replace("vl_contrast", "contrast");
        ["text", "image", "vl"]
            .iter()
            .fold(name, |name, part| name.replace(&format!("experts.{part}"), "experts.text"))
    };
    let equal = |name: &String| (name.clone(), source[&shared(name)].copy().unwrap());
    store.load(&source.keys().map(equal).collect()).unwrap();
    assert!(difference(&second(model.as_ref()), &plain(model.as_ref())) < 1e-4);
}

#[test]
fn a_masked_patch_shows_the_mask_vector_whatever_its_pixels() {
    let (store, model) = trained("mask_token: true");
    let (image, _) = pairs(&[7, 3]).unwrap();
    let masked = Tensor::new(&[[0f32, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]], &Device::Cpu).unwrap();
    let tokens = |pixels: Tensor, masked: Option<&Tensor>| {
        let image = Image { pixels: Some(pixels), masked: masked.cloned(), ..image.clone() };
        model.image_tokens(&View::new(image, None)).unwrap().hidden
    };
    let pixels = image.pixels().unwrap().clone();
    // The second patch of the first image: its first eight rows, its last eight columns.
    let mut changed = values(&pixels);
    changed[3 * INPUTS.size + 12] += 2.0;
    let changed = Tensor::from_vec(changed, pixels.shape(), &Device::Cpu).unwrap();
    assert_eq!(
        values(&tokens(pixels.clone(), Some(&masked))),
        values(&tokens(changed.clone(), Some(&masked)))
    );
    assert!(difference(&tokens(pixels.clone(), None), &tokens(changed, None)) > 1e-3);
    let tape = Tape::record();
    let hidden = tokens(pixels.clone(), Some(&masked));
    let gradients = tape.backward(&weighed(&hidden, "tokens").unwrap()).unwrap();
    let gradient = gradients.get(&store.entries()["patches.mask"].var).unwrap();
    assert!(values(gradient).iter().all(|g| g.is_finite() && *g != 0.0));
    let (_, model) = trained("mask_token: false");
    let image = Image { pixels: Some(pixels), masked: Some(masked), ..image };
    let refused = model.image_tokens(&View::new(image, None)).err().unwrap().to_string();
    assert!(refused.contains("a masked image for a vlmo without mask_token"), "{refused}");
}

#[test]
fn every_parameter_of_every_variant_gets_a_gradient() {
    for settings in [
        "vl_experts: 2, vl_contrast: true, tied: true",
        "vl_experts: 1, attention: separate, drop_path: 0",
        "vl_experts: 0, experts: standard, attention: separate, positions: absolute, layer_scale: null",
        "vl_experts: 1, longest_text: 19, drop_path: 0.3",
    ] {
        let (store, model) = trained(settings);
        let (image, text) = pairs(&[7, 3, 5, 4, 6, 2]).unwrap();
        let tokens = model.image_tokens(&View::new(image.clone(), None)).unwrap().hidden;
        let (examples, patches) = (tokens.dim(0).unwrap(), tokens.dim(1).unwrap() - 1);
        let marks = Tensor::from_iter((0..examples * patches).map(|place| (place % 2) as f32), &Device::Cpu);
        let masked = Some(marks.unwrap().reshape((examples, patches)).unwrap());
        let image = Image { masked, ..image };
        let noise = Some(Key::new(1, 0, "noise"));
        let (image, text) = (View::new(image, noise), View::new(text, noise));
        let tape = Tape::record();
        let fused = model.fuse(&image, &text, Attend::Both).unwrap();
        let logits =
            model.similarity(&model.embed_image(&image).unwrap(), &model.embed_text(&text).unwrap()).unwrap();
        let words = model.predict_words(&fused.text.hidden).unwrap();
        let mut parts = vec![
            weighed(&fused.pooled, "pooled"),
            weighed(&logits, "logits"),
            weighed(&words.dense().unwrap(), "words"),
        ];
        if let Some(second) = model.second_similarity(&image, &text).unwrap() {
            parts.push(weighed(&second, "second"));
        }
        let parts: Vec<Tensor> = parts.into_iter().map(Result::unwrap).collect();
        let gradients = tape.backward(&Tensor::stack(&parts, 0).unwrap().sum_all().unwrap()).unwrap();
        for (name, entry) in store.of(Role::Trainable) {
            let gradient = gradients.get(&entry.var).unwrap_or_else(|| panic!("{settings}: {name}"));
            let gradient = values(gradient);
            assert!(gradient.iter().all(|g| g.is_finite()), "{settings}: {name}");
            assert!(gradient.iter().any(|g| *g != 0.0), "{settings}: {name}");
        }
    }
}

#[test]
fn blocks_computed_again_give_the_same_gradients_bit_by_bit() {
    let (store, model) = trained("drop_path: 0.3");
    let gradients = |tape: Tape| {
        let (image, text) = pairs(&[7, 3, 5]).unwrap();
        let noise = Some(Key::new(1, 0, "noise"));
        let pooled = model.pool(&View::new(image, noise), &View::new(text, noise)).unwrap();
        let gradients = tape.backward(&weighed(&pooled, "pooled").unwrap()).unwrap();
        let of = |(name, entry): (String, Entry)| Some((name, values(gradients.get(&entry.var)?)));
        store.entries().into_iter().filter_map(of).collect::<BTreeMap<_, _>>()
    };
    let kept = gradients(Tape::record());
    assert!(kept.contains_key("relative.table"));
    assert!(kept == gradients(Tape::checkpoint()));
}

#[test]
fn stochastic_depth_is_a_function_of_the_noise_and_none_without_it() {
    let (_, model) = trained("drop_path: 0.5");
    let pooled = |seed: Option<u64>| {
        let (image, text) = pairs(&[7, 3, 5]).unwrap();
        let noise = seed.map(|seed| Key::new(seed, 0, "noise"));
        values(&model.pool(&View::new(image, noise), &View::new(text, noise)).unwrap())
    };
    assert_eq!(pooled(Some(1)), pooled(Some(1)));
    assert_ne!(pooled(Some(1)), pooled(Some(2)));
    assert_ne!(pooled(Some(1)), pooled(None));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let faults = |settings: &str| {
        serde_yaml::from_str::<Config>(&format!("vlmo: {{{TRUNK}, {settings}}}")).unwrap().faults(&INPUTS)
    };
    assert_eq!(
        faults("vl_experts: 3, longest_text: 6, drop_path: 1"),
        [
            "vl_experts is 3: of 3 blocks at least one must have experts for each modality alone",
            "longest_text 6 is below the 7 words of the data",
            "drop_path 1 is not in [0, 1)",
        ]
    );
    assert_eq!(
        faults("experts: standard, vl_experts: 1"),
        ["vl_experts is 1: a standard transformer has none, set it to 0"]
    );
    assert_eq!(faults("vl_experts: 0, vl_contrast: true"), ["vl_contrast needs vl_experts above 0"]);
}

/// What the released code leaves frozen in the stage on text alone: all but the parameters whose names hold
/// text_embeddings, token_type_embeddings, mlp_text, norm2_text, mlm_score, relative_position_bias_table or
/// transformer.norm.
const FROZEN_FOR_TEXT: [&str; 9] = [
    "patches.*",
    "blocks.*.norm1.*",
    "blocks.*.attention.*",
    "blocks.*.attention_gain",
    "blocks.*.expert_gain",
    "blocks.*.experts.image.*",
    "blocks.*.experts.vl.*",
    "contrast.*",
    "pooler.*",
];

#[test]
fn patterns_leave_to_the_stage_on_text_what_the_released_code_trains_there() {
    let freeze = FROZEN_FOR_TEXT.map(str::to_owned);
    let store = Store::new(&Device::Cpu, 1, &freeze);
    config("vl_experts: 1").build(&store.student(), &INPUTS).unwrap();
    assert_eq!(store.idle_patterns(), [""; 0]);
    let trained: Vec<String> = store.of(Role::Trainable).into_keys().collect();
    let expert = |block: usize| {
        let parts =
            ["mlp.down.bias", "mlp.down.weight", "mlp.up.bias", "mlp.up.weight", "norm.bias", "norm.gain"];
        parts.map(|part| format!("blocks.{block}.experts.text.{part}"))
    };
    let decoder = ["bias", "norm.bias", "norm.gain", "table", "transform.bias", "transform.weight"];
    let mut expected: Vec<String> = (0..3).flat_map(expert).collect();
    expected.extend(decoder.map(|part| format!("decoder.{part}")));
    expected.extend(["norm.bias", "norm.gain", "relative.table", "types"].map(str::to_owned));
    expected.extend(["norm.bias", "norm.gain", "segments", "words"].map(|part| format!("words.{part}")));
    expected.sort();
    assert_eq!(trained, expected);
}
