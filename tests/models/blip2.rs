//! What the passes and the knobs of BLIP-2 promise.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};
use vlp_bench::kernels::Tape;
use vlp_bench::kernels::random::Key;
use vlp_bench::models::store::Role;
use vlp_bench::models::{Ability, Attend, Config, Image, Model, Store, Text, View};

use super::{INPUTS, pairs, weighed};

const LENGTHS: [usize; 3] = [7, 3, 5];

fn config(text: &str) -> Config {
    let config: Config = serde_yaml::from_str(&format!("blip2: {{{text}}}")).unwrap();
    assert_eq!(config.faults(&INPUTS), Vec::<String>::new(), "{text}");
    config
}

fn build(text: &str) -> Box<dyn Model> {
    config(text).build(&Store::new(&Device::Cpu, 1, &[]).detached(), &INPUTS).unwrap()
}

fn names(config: &Config) -> BTreeSet<String> {
    let store = Store::outline(&[]);
    config.build(&store.student(), &INPUTS).unwrap();
    store.entries().into_keys().collect()
}

fn views() -> (View<Image>, View<Text>) {
    let (image, text) = pairs(&LENGTHS).unwrap();
    (View::new(image, None), View::new(text, None))
}

/// The same texts with another word at one place of the first.
fn changed(text: &View<Text>, place: usize) -> View<Text> {
    let input = text.input().unwrap();
    let mut ids = input.ids.to_vec2::<u32>().unwrap();
    ids[0][place] = 5 + (ids[0][place] + 7) % 30;
    View::new(Text { ids: Tensor::new(ids, &Device::Cpu).unwrap(), ..input.clone() }, None)
}

/// Other pixels.
fn other_image() -> View<Image> {
    let shape = (3, 3, INPUTS.size, INPUTS.size);
    let pixels = Key::new(8, 0, "pixels").normal(3 * 3 * INPUTS.size * INPUTS.size);
    let pixels = Tensor::from_vec(pixels, shape, &Device::Cpu).unwrap();
    View::new(Image { pixels: Some(pixels), ..Image::default() }, None)
}

/// By how much each vector of (B,N,D) differs.
fn differences(a: &Tensor, b: &Tensor) -> Vec<Vec<f32>> {
    (a - b).unwrap().abs().unwrap().max(2).unwrap().to_vec2().unwrap()
}

fn most(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

fn generated(model: &dyn Model, image: &View<Image>, text: &View<Text>) -> Tensor {
    model.fuse(image, text, Attend::Causal).unwrap().text.hidden
}

#[test]
fn in_generation_a_word_changes_itself_and_what_follows_and_dec_replaces_the_first() {
    let model = build("");
    let (image, text) = views();
    let before = generated(&*model, &image, &text);
    let after = generated(&*model, &image, &changed(&text, 3));
    let changes = differences(&before, &after);
    for (place, &change) in changes[0].iter().enumerate() {
        assert_eq!(change > 1e-4, place >= 3, "{place}: {change}");
    }
    assert!(changes[1..].iter().flatten().all(|&change| change == 0.0));
    assert_eq!(most(&before, &generated(&*model, &image, &changed(&text, 0))), 0.0);
}

#[test]
fn in_generation_every_word_sees_the_image_and_queries_see_no_word() {
    let model = build("");
    let (image, text) = views();
    let changes = differences(&generated(&*model, &image, &text), &generated(&*model, &other_image(), &text));
    for (changes, length) in changes.iter().zip(LENGTHS) {
        assert!(changes[..length].iter().all(|&change| change > 1e-4), "{changes:?}");
    }
    let alone = model.image_tokens(&image).unwrap().hidden.mean(1).unwrap();
    let fused = |attend| model.fuse(&image, &text, attend).unwrap().pooled;
    assert_eq!(most(&fused(Attend::Causal), &alone), 0.0);
    assert!(most(&fused(Attend::Both), &alone) > 1e-3);
}

#[test]
fn in_matching_queries_and_words_see_each_other_and_earlier_words_see_later_ones() {
    let model = build("");
    let (image, text) = views();
    let both = |image: &View<Image>, text: &View<Text>| model.fuse(image, text, Attend::Both).unwrap();
    let (before, after) = (both(&image, &text), both(&image, &changed(&text, 3)));
    let changes = differences(&before.text.hidden, &after.text.hidden);
    assert!(changes[0].iter().all(|&change| change > 1e-5), "{changes:?}");
    assert!(most(&before.pooled, &after.pooled) > 1e-5);
    // The second text is padded; the first layer's queries bring the image to its words.
    let changes = differences(&before.text.hidden, &both(&other_image(), &text).text.hidden);
    assert!(changes[1][..LENGTHS[1]].iter().all(|&change| change > 1e-5), "{changes:?}");
}

#[test]
fn passes_over_pairs_chosen_again_equal_passes_over_pairs_given_so() {
    let order = Tensor::new(&[2u32, 0, 0, 1], &Device::Cpu).unwrap();
    let model = build("");
    let (image, text) = views();
    let (images, texts) = (image.select(&order).unwrap(), text.select(&order).unwrap());
    let given =
        (View::new(images.input().unwrap().clone(), None), View::new(texts.input().unwrap().clone(), None));
    assert!(most(&generated(&*model, &images, &texts), &generated(&*model, &given.0, &given.1)) < 1e-5);
    let pooled = model.pool(&images, &texts).unwrap();
    assert!(most(&pooled, &model.fuse(&given.0, &given.1, Attend::Both).unwrap().pooled) < 1e-5);
}

#[test]
fn what_the_first_stage_pools_is_what_the_whole_joint_pass_pools() {
    for depth in [1, 2, 3] {
        let model = build(&format!("qformer: {{width: 12, depth: {depth}, heads: 2}}, queries: 3"));
        let (image, text) = views();
        let fused = model.fuse(&image, &text, Attend::Both).unwrap().pooled;
        assert!(most(&model.pool(&image, &text).unwrap(), &fused) < 1e-5);
    }
}

#[test]
fn the_similarity_of_a_text_is_that_of_the_nearest_query() {
    let model = build("queries: 2, embed: 2");
    let images = Tensor::new(&[[[1f32, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.6, 0.8]]], &Device::Cpu).unwrap();
    let texts = Tensor::new(&[[1f32, 0.0], [0.0, -1.0], [0.8, 0.6]], &Device::Cpu).unwrap();
    let expected = Tensor::new(&[[1f32, 0.0, 0.8], [0.6, 0.0, 0.96]], &Device::Cpu).unwrap();
    let logits = model.similarity(&images, &texts).unwrap();
    assert!(most(&(logits * 0.07).unwrap(), &expected) < 1e-6);
}

#[test]
fn the_last_layer_but_one_is_the_last_of_a_tower_without_the_layer_behind_it() {
    let fresh = |text: &str| {
        let (image, _) = views();
        build(text).image_tokens(&image).unwrap().hidden
    };
    let cut = fresh("image: {width: 12, depth: 3, heads: 2}, feature_layer: -2");
    assert_eq!(most(&cut, &fresh("image: {width: 12, depth: 2, heads: 2}, feature_layer: -1")), 0.0);
    assert!(most(&cut, &fresh("image: {width: 12, depth: 3, heads: 2}, feature_layer: -1")) > 1e-4);
    let names = names(&config("image: {width: 12, depth: 3, heads: 2}, feature_layer: -2"));
    assert!(names.contains("image.layers.1.norm1.gain") && !names.contains("image.layers.2.norm1.gain"));
}

#[test]
fn queries_look_at_the_image_in_the_layers_that_the_frequency_names() {
    for (frequency, layers) in [(1, vec![0, 1, 2, 3]), (2, vec![0, 2]), (3, vec![0, 3]), (9, vec![0])] {
        let names = names(&config(&format!("cross_attention_frequency: {frequency}")));
        let cross = |layer: usize| names.contains(&format!("qformer.layers.{layer}.cross.q.weight"));
        assert_eq!((0..4).filter(|&layer| cross(layer)).collect::<Vec<_>>(), layers, "{frequency}");
    }
}

#[test]
fn an_image_tower_of_clip_has_the_place_of_the_image_encoder() {
    let shapes = |text: &str| {
        let store = Store::outline(&[]);
        let config: Config = serde_yaml::from_str(text).unwrap();
        config.build(&store.student(), &INPUTS).unwrap();
        let image = store.entries().into_iter().filter(|(name, _)| name.starts_with("image."));
        image.map(|(name, entry)| (name, entry.shape)).collect::<BTreeMap<_, _>>()
    };
    let tower = "image: {width: 24, depth: 3, heads: 2}, patch: 4";
    let clip = shapes(&format!("clip: {{{tower}}}"));
    let encoder = shapes(&format!("blip2: {{{tower}, vit: clip, feature_layer: -1}}"));
    assert!(encoder.iter().all(|(name, shape)| clip.get(name) == Some(shape)), "{encoder:?}");
    // What CLIP's embedding alone reads stays behind.
    let left: Vec<&String> = clip.keys().filter(|name| !encoder.contains_key(*name)).collect();
    assert_eq!(left, ["image.ln_post.bias", "image.ln_post.gain", "image.project.weight"]);
}

const OPT: &str = "queries: 3, language: {opt: {layers: {width: 24, depth: 2, heads: 2}, positions: 10}}";

const T5: &str = "queries: 3, language: {t5: {layers: {width: 24, depth: 2, heads: 3, mlp: 20}, head: 5}}";

#[test]
fn behind_a_prefix_a_word_changes_itself_and_what_follows_and_every_word_sees_the_image() {
    // An encoder-decoder predicts nothing after the end of a text.
    for (stage, last) in [(OPT, 0), (T5, 1)] {
        let model = build(stage);
        let (image, text) = views();
        let before = generated(&*model, &image, &text);
        assert_eq!(before.dims(), [3, INPUTS.words, 24]);
        let changes = differences(&before, &generated(&*model, &image, &changed(&text, 3)));
        for (place, &change) in changes[0].iter().enumerate() {
            assert_eq!(change > 1e-4, (3..LENGTHS[0] - last).contains(&place), "{place}: {change}");
        }
        let changes = differences(&before, &generated(&*model, &other_image(), &text));
        for (changes, length) in changes.iter().zip(LENGTHS) {
            assert!(changes[..length - last].iter().all(|&change| change > 1e-5), "{changes:?}");
        }
    }
}

#[test]
fn an_encoder_decoder_predicts_the_second_half_of_a_text_that_is_split_anew_in_training() {
    let model = build(T5);
    let (image, text) = pairs(&LENGTHS).unwrap();
    let fused = |noise: Option<u64>| {
        let key = |purpose| noise.map(|seed| Key::new(seed, 0, purpose));
        let views = (View::new(image.clone(), key("image")), View::new(text.clone(), key("text")));
        model.fuse(&views.0, &views.1, Attend::Causal).unwrap().text
    };
    let mask = |noise| fused(noise).mask.unwrap().to_vec2::<f32>().unwrap();
    let places = |noise| -> Vec<Vec<usize>> {
        let rows = mask(noise).into_iter();
        rows.map(|row| (0..row.len()).filter(|&place| row[place] == 1.0).collect()).collect()
    };
    for (places, length) in places(None).into_iter().zip(LENGTHS) {
        assert_eq!(places, (0..length - 1).collect::<Vec<_>>());
    }
    let mut firsts = BTreeSet::new();
    for seed in 0..40 {
        for (places, length) in places(Some(seed)).into_iter().zip(LENGTHS) {
            assert_eq!(places, (places[0]..length - 1).collect::<Vec<_>>());
            if length == LENGTHS[0] {
                firsts.insert(places[0]);
            }
        }
    }
    assert_eq!(firsts, (0..LENGTHS[0] - 1).collect());
    let hidden = fused(Some(1)).hidden.abs().unwrap().max(2).unwrap().to_vec2::<f32>().unwrap();
    for (hidden, mask) in hidden.iter().zip(mask(Some(1))) {
        assert!(hidden.iter().zip(mask).all(|(&hidden, mask)| (hidden > 0.0) == (mask == 1.0)));
    }
}

#[test]
fn a_language_model_teaches_every_part_in_front_of_it_frozen_or_not() {
    for (stage, freeze) in [OPT, T5].into_iter().flat_map(|stage| [(stage, false), (stage, true)]) {
        let patterns = if freeze { vec!["language.*".to_owned(), "image.*".to_owned()] } else { Vec::new() };
        let store = Store::new(&Device::Cpu, 1, &patterns);
        let config = config(stage);
        let model = config.build(&store.student(), &INPUTS).unwrap();
        let (image, text) = views();
        let logits = model.predict_words(&generated(&*model, &image, &text)).unwrap().dense().unwrap();
        assert_eq!(logits.dims()[2], config.dims(&INPUTS).vocabulary);
        let gradients = weighed(&logits, "words").unwrap().backward().unwrap();
        for (name, entry) in store.entries() {
            let frozen = freeze && (name.starts_with("language.") || name.starts_with("image."));
            assert_eq!(entry.role == Role::Frozen, frozen, "{name}");
            let gradient = gradients.get(entry.var.as_tensor());
            let norm = gradient.map(|g| g.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
            assert_eq!(norm.is_some_and(|norm| norm > 0.0 && norm.is_finite()), !frozen, "{name}: {norm:?}");
        }
        let reads = |name: &String| name.starts_with("qformer.") && name.contains("word");
        assert!(!store.entries().keys().any(reads), "the Q-Former keeps a text branch");
    }
}

#[test]
fn a_tape_a_tape_that_keeps_no_layers_and_candle_lead_back_the_same_gradients() {
    for stage in ["", OPT, T5] {
        let store = Store::new(&Device::Cpu, 1, &[]);
        let config = config(stage);
        let model = config.build(&store.student(), &INPUTS).unwrap();
        let loss = || {
            let (image, text) = pairs(&LENGTHS).unwrap();
            let key = |purpose| Some(Key::new(4, 0, purpose));
            let (image, text) = (View::new(image, key("image")), View::new(text, key("text")));
            let words = model.predict_words(&generated(&*model, &image, &text)).unwrap();
            let mut loss = weighed(&words.dense().unwrap(), "words").unwrap();
            if stage.is_empty() {
                let order = Tensor::new(&[1u32, 2, 0], &Device::Cpu).unwrap();
                let pooled = model.pool(&image.select(&order).unwrap(), &text).unwrap();
                let logits = model.embed_image(&image).unwrap();
                let logits = model.similarity(&logits, &model.embed_text(&text).unwrap()).unwrap();
                loss = (loss + weighed(&pooled, "pooled").unwrap()).unwrap();
                loss = (loss + weighed(&logits, "logits").unwrap()).unwrap();
            }
            loss
        };
        let graph = loss().backward().unwrap();
        let [tape, again] = [Tape::record, Tape::checkpoint].map(|begin| {
            let tape = begin();
            let loss = loss();
            tape.backward(&loss).unwrap()
        });
        for (name, entry) in store.entries() {
            let expected = graph.get(entry.var.as_tensor()).unwrap_or_else(|| panic!("{name}"));
            let scale = expected
                .abs()
                .unwrap()
                .flatten_all()
                .unwrap()
                .max(0)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
                .max(1e-3);
            for gradients in [&tape, &again] {
                let got = gradients.get(&entry.var).unwrap_or_else(|| panic!("{name}"));
                assert!(most(got, expected) < 1e-4 * scale, "{name}");
            }
        }
    }
}

#[test]
fn a_second_stage_is_refused_what_the_text_branch_did() {
    let config = config(OPT);
    let (image, text) = views();
    let error = build(OPT).fuse(&image, &text, Attend::Both).err().unwrap().to_string();
    for ability in Ability::ALL.into_iter().filter(|ability| !config.abilities().contains(ability)) {
        assert!(config.lacks(ability).starts_with("blip2 "), "{ability}");
    }
    assert!(error.starts_with(config.lacks(Ability::Fuse)), "{error}");
}

#[test]
fn every_fault_of_blip2_is_listed_at_once() {
    let faults = |text: &str| {
        let config: Config = serde_yaml::from_str(&format!("blip2: {{{text}}}")).unwrap();
        config.faults(&INPUTS)
    };
    assert_eq!(
        faults("feature_layer: -5, queries: 0, cross_attention_frequency: 0, patch: 5, embed: 0, dropout: 1"),
        [
            "patch 5 does not divide images of 16 pixels",
            "embed is 0: the shared space needs a width",
            "dropout 1 is not in [0, 1)",
            "feature_layer is -5: of 4 image layers the last is -1, the first -4",
            "queries is 0: an image needs 1 to 64",
            "cross_attention_frequency is 0: 1 stands for every layer, 2 for every second",
        ]
    );
    assert_eq!(faults("feature_layer: 0").len(), 1);
    assert_eq!(faults("queries: 65").len(), 1);
    assert_eq!(
        faults("queries: 3, language: {opt: {layers: {heads: 3}, positions: 9, dropout: 2}}"),
        [
            "language.opt.layers.width 128 does not divide into 3 heads",
            "language.opt.positions is 9: prefix and text have 10 tokens",
            "language.opt.dropout 2 is not in [0, 1)",
        ]
    );
    assert_eq!(
        faults("language: {t5: {layers: {depth: 0}, head: 0, buckets: 3, distance: 1, dropout: -1}}"),
        [
            "language.t5.layers.depth is 0: give it at least one layer",
            "language.t5.head is 0: an attention head needs a width",
            "language.t5.buckets is 3: two directions need at least 4",
            "language.t5.distance is 1: 1 distances have buckets of their own",
            "language.t5.dropout -1 is not in [0, 1)",
        ]
    );
}
