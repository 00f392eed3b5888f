//! What must hold of any model's passes, whatever its weights.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use vlp_bench::kernels::{self, Tape, random::Key};
use vlp_bench::models::clip::{self, TextEncoder};
use vlp_bench::models::{Ability, Attend, Config, Image, Model, ModelConfig, Store, Text, View};

use super::{INPUTS, pairs};

const LENGTHS: [usize; 3] = [7, 3, 5];

fn models() -> Vec<(Config, Box<dyn Model>)> {
    let built = Config::all().into_iter().map(|config| {
        let model = config.build(&Store::new(&Device::Cpu, 1, &[]).detached(), &INPUTS).unwrap();
        (config, model)
    });
    built.collect()
}

fn models_that(ability: Ability) -> impl Iterator<Item = (Config, Box<dyn Model>)> {
    models().into_iter().filter(move |(config, _)| config.abilities().contains(&ability))
}

/// The joint passes that a model offers.
fn joint(config: &Config) -> Vec<Attend> {
    let all = [(Ability::Fuse, Attend::Both), (Ability::Generate, Attend::Causal)];
    let offered = all.into_iter().filter(|(ability, _)| config.abilities().contains(ability));
    offered.map(|(_, attend)| attend).collect()
}

fn views(noise: Option<u64>) -> (View<Image>, View<Text>) {
    let (image, text) = pairs(&LENGTHS).unwrap();
    let key = |purpose| noise.map(|seed| Key::new(seed, 0, purpose));
    (View::new(image, key("image")), View::new(text, key("text")))
}

fn values(x: &Tensor) -> Vec<Vec<f32>> {
    x.flatten_from(1).unwrap().to_vec2().unwrap()
}

#[track_caller]
pub fn close(got: &Tensor, expected: &Tensor) {
    assert_eq!(got.dims(), expected.dims());
    let most = (got - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(most < 1e-5, "differs by {most}");
}

#[test]
fn embeddings_are_unit_vectors_and_their_logits_divide_by_the_first_temperature() {
    for (config, model) in models_that(Ability::Embed) {
        let (image, text) = views(None);
        let (images, texts) = (model.embed_image(&image).unwrap(), model.embed_text(&text).unwrap());
        let dims = config.dims(&INPUTS);
        assert_eq!(images.dims(), [vec![3], dims.queries.into_iter().collect(), vec![dims.embed]].concat());
        for vectors in [&images, &texts] {
            for row in values(&vectors.reshape(((), dims.embed)).unwrap().sqr().unwrap()) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
        // The text's own vector in place of every vector of an image.
        let same = texts
            .reshape((3, (), dims.embed))
            .unwrap()
            .broadcast_as((3, dims.queries.unwrap_or(1), dims.embed))
            .unwrap();
        let own =
            model.similarity(&same.contiguous().unwrap().reshape(images.dims()).unwrap(), &texts).unwrap();
        let expected = (texts.matmul(&texts.t().unwrap()).unwrap() / 0.07).unwrap();
        close(&(own * 0.07).unwrap(), &(expected * 0.07).unwrap());
    }
}

#[test]
fn the_temperature_stays_within_the_bounds_of_the_papers() {
    for (name, low, high) in [("scale", f64::NEG_INFINITY, 100f64.ln()), ("temperature", 0.001, 0.5)] {
        let found = Config::all().iter().any(|config| {
            let store = Store::outline(&[]);
            config.build(&store.student(), &INPUTS).unwrap();
            store.entries().get(name).is_some_and(|entry| entry.bounds == Some((low, high)))
        });
        assert!(found, "{name}");
    }
}

#[test]
fn what_pads_a_text_changes_nothing_that_is_visible() {
    for (config, model) in models() {
        let (image, text) = views(None);
        let input = text.input().unwrap();
        let visible = input.mask.to_dtype(DType::U32).unwrap();
        let padding = visible.eq(0u32).unwrap().to_dtype(DType::U32).unwrap();
        let ids = (&input.ids + (padding * 9.0).unwrap()).unwrap();
        let other = View::new(Text { ids, ..input.clone() }, None);
        let seen = |tokens: Tensor| tokens.broadcast_mul(&input.mask.unsqueeze(2).unwrap()).unwrap();
        let of = |text: &View<Text>| {
            let mut outcomes = Vec::new();
            for ability in config.abilities() {
                match ability {
                    Ability::Embed => outcomes.push(model.embed_text(text).unwrap()),
                    Ability::TextTokens => outcomes.push(seen(model.text_tokens(text).unwrap().hidden)),
                    _ => {}
                }
            }
            for attend in joint(&config) {
                let fused = model.fuse(&image, text, attend).unwrap();
                outcomes.extend([fused.pooled, seen(fused.text.hidden)]);
                outcomes.extend(fused.image.map(|image| image.hidden));
            }
            outcomes
        };
        for (got, expected) in of(&other).iter().zip(&of(&text)) {
            close(got, expected);
        }
    }
}

#[test]
fn clip_reads_from_left_to_right() {
    let model = &models()[0].1;
    let (_, text) = views(None);
    let input = text.input().unwrap();
    let mut ids = input.ids.to_vec2::<u32>().unwrap();
    ids[0][4] = 39 - ids[0][4] % 30;
    let other = View::new(Text { ids: Tensor::new(ids, &Device::Cpu).unwrap(), ..input.clone() }, None);
    let (before, after) =
        (model.text_tokens(&text).unwrap().hidden, model.text_tokens(&other).unwrap().hidden);
    let changed = (before - after).unwrap().abs().unwrap().sum(2).unwrap().to_vec2::<f32>().unwrap();
    assert!(
        changed[0].iter().enumerate().all(|(place, &change)| (change > 1e-3) == (place >= 4)),
        "{changed:?}"
    );
}

#[test]
fn a_pass_over_selected_pairs_equals_the_pass_over_pairs_given_in_that_order() {
    let order = Tensor::new(&[2u32, 0, 0, 1], &Device::Cpu).unwrap();
    for (config, model) in models() {
        let (image, text) = views(None);
        let (images, texts) = (image.select(&order).unwrap(), text.select(&order).unwrap());
        let given = |image: &View<Image>, text: &View<Text>| {
            (View::new(image.input().unwrap().clone(), None), View::new(text.input().unwrap().clone(), None))
        };
        let (image, text) = given(&images, &texts);
        if config.abilities().contains(&Ability::Embed) {
            close(&model.embed_image(&images).unwrap(), &model.embed_image(&image).unwrap());
            close(&model.embed_text(&texts).unwrap(), &model.embed_text(&text).unwrap());
        }
        for attend in joint(&config) {
            let fused = |image, text| model.fuse(image, text, attend).unwrap().pooled;
            close(&fused(&images, &texts), &fused(&image, &text));
        }
    }
}

#[test]
fn pooling_alone_gives_what_the_whole_joint_pass_pools() {
    let tower = "text: {width: 12, depth: 3, heads: 2}";
    let albef = [1, 2].map(|fusion| format!("albef: {{{tower}, fusion: {fusion}}}"));
    for text in albef.into_iter().chain([format!("blip: {{{tower}}}")]) {
        let config: Config = serde_yaml::from_str(&text).unwrap();
        let model = config.build(&Store::new(&Device::Cpu, 1, &[]).detached(), &INPUTS).unwrap();
        let (image, text) = views(None);
        let fused = model.fuse(&image, &text, Attend::Both).unwrap().pooled;
        close(&model.pool(&image, &text).unwrap(), &fused);
    }
}

#[test]
fn dropout_is_a_function_of_the_noise_and_none_without_it() {
    let store = Store::new(&Device::Cpu, 1, &[]);
    for model in ["clip", "albef", "blip", "coca"] {
        let config = format!("{model}: {{dropout: 0.2}}");
        let config: Config = serde_yaml::from_str(&config).unwrap();
        let model = config.build(&store.student().at(config.name()), &INPUTS).unwrap();
        let of = |noise| values(&model.text_tokens(&views(noise).1).unwrap().hidden);
        assert_eq!(of(Some(1)), of(Some(1)));
        assert_eq!(of(None), of(None));
        assert_ne!(of(Some(1)), of(Some(2)));
        assert_ne!(of(Some(1)), of(None));
    }
}

#[test]
fn the_same_text_beside_another_image_drops_other_elements() {
    for name in ["albef", "vilt", "uniter", "oscar"] {
        let config: Config = serde_yaml::from_str(&format!("{name}: {{dropout: 0.5}}")).unwrap();
        let model = config.build(&Store::new(&Device::Cpu, 1, &[]).detached(), &INPUTS).unwrap();
        let (image, text) = views(Some(1));
        let same = image.select(&Tensor::new(&[0u32, 1, 2], &Device::Cpu).unwrap()).unwrap();
        let fused = |image| values(&model.fuse(image, &text, Attend::Both).unwrap().pooled);
        assert_eq!(fused(&image), fused(&image));
        assert_ne!(fused(&image), fused(&same));
    }
}

#[test]
fn what_a_model_does_not_offer_is_refused_in_words() {
    for (config, model) in models() {
        let (image, text) = views(None);
        for ability in Ability::ALL.into_iter().filter(|ability| !config.abilities().contains(ability)) {
            assert!(config.lacks(ability).starts_with(config.name()), "{ability}");
        }
        for attend in [Attend::Both, Attend::Causal] {
            assert_eq!(model.fuse(&image, &text, attend).is_ok(), joint(&config).contains(&attend));
        }
    }
}

#[test]
fn an_image_or_a_text_of_another_size_is_refused() {
    for (_, model) in models_that(Ability::Embed) {
        let pixels = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu).unwrap();
        let image = View::new(Image { pixels: Some(pixels), ..Image::default() }, None);
        let error = model.embed_image(&image).unwrap_err().to_string();
        assert!(error.contains("images of 32 x 32 pixels for a model of 16 x 16"), "{error}");
        let empty = View::new(Image { pixels: None, ..Image::default() }, None);
        assert!(model.embed_image(&empty).unwrap_err().to_string().contains("holds no pixels"));
        let ids = Tensor::zeros((1, 8), DType::U32, &Device::Cpu).unwrap();
        let mask = Tensor::ones((1, 8), DType::F32, &Device::Cpu).unwrap();
        let text = View::new(Text { segments: ids.clone(), ids, mask }, None);
        let error = model.embed_text(&text).unwrap_err().to_string();
        assert!(error.contains("a text of 8 tokens for 7 positions"), "{error}");
    }
}

#[test]
fn a_bag_of_words_has_no_order_and_the_transformer_has() {
    let reversed = |ids: &Tensor| {
        let mut rows = ids.to_vec2::<u32>().unwrap();
        rows.iter_mut().zip(LENGTHS).for_each(|(row, length)| row[..length].reverse());
        Tensor::new(rows, &Device::Cpu).unwrap()
    };
    for (text_encoder, ordered) in [(TextEncoder::BagOfWords, false), (TextEncoder::Causal, true)] {
        let config = clip::Config { text_encoder, ..clip::Config::default() };
        let model = config.build(&Store::new(&Device::Cpu, 1, &[]).detached(), &INPUTS).unwrap();
        let (_, text) = pairs(&LENGTHS).unwrap();
        let other = Text { ids: reversed(&text.ids), ..text.clone() };
        // What stands behind the end of a text is no word of it.
        let hidden = text.mask.eq(0f32).unwrap().to_dtype(DType::U32).unwrap();
        let padded = &text.ids + (hidden * 9.0).unwrap();
        let padded = Text { ids: padded.unwrap(), ..text.clone() };
        let embed = |text| model.embed_text(&View::new(text, None)).unwrap();
        let first = embed(text);
        close(&embed(padded), &first);
        let off = (embed(other) - first).unwrap().abs().unwrap().max_all().unwrap();
        assert_eq!(off.to_scalar::<f32>().unwrap() > 1e-3, ordered, "{text_encoder:?}");
    }
}

/// What a model makes of images and texts, the gradient of their similarities and the operations that took.
fn embedded(model: &dyn Model, store: &Store, alone: bool) -> ([Tensor; 2], BTreeMap<String, Tensor>, f64) {
    let (before, (image, text)) = (kernels::flops(), views(None));
    if alone {
        image.embed_alone();
        text.embed_alone();
    }
    let tape = Tape::record();
    let both = [model.embed_image(&image).unwrap(), model.embed_text(&text).unwrap()];
    let loss = model.similarity(&both[0], &both[1]).unwrap().sqr().unwrap().sum_all().unwrap();
    let gradients = tape.backward(&loss).unwrap();
    let own = store.entries().into_iter().map(|(name, entry)| (name, gradients.get(&entry.var).cloned()));
    let own = own.filter_map(|(name, gradient)| Some((name, gradient?))).collect();
    (both, own, kernels::flops() - before)
}

#[test]
fn an_embedding_is_the_same_where_nothing_else_is_asked_for() {
    let mut cheaper = Vec::new();
    for (config, _) in models_that(Ability::Embed) {
        let store = Store::new(&Device::Cpu, 1, &[]);
        let model = config.build(&store.student(), &INPUTS).unwrap();
        let [all, alone] = [false, true].map(|alone| embedded(model.as_ref(), &store, alone));
        alone.0.iter().zip(&all.0).for_each(|(got, expected)| close(got, expected));
        assert_eq!(alone.1.keys().collect::<Vec<_>>(), all.1.keys().collect::<Vec<_>>());
        for (name, expected) in &all.1 {
            let scale = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap().max(1.0);
            close(&(&alone.1[name] / f64::from(scale)).unwrap(), &(expected / f64::from(scale)).unwrap());
        }
        cheaper.extend((alone.2 < all.2).then_some(config.name()));
    }
    assert_eq!(cheaper, ["albef", "blip"]);
}

#[test]
fn tokens_may_be_asked_for_against_the_promise() {
    for (_, model) in models_that(Ability::ImageTokens) {
        let ((image, _), (promised, _)) = (views(None), views(None));
        promised.embed_alone();
        let [got, expected] = [&promised, &image].map(|image| model.image_tokens(image).unwrap().hidden);
        close(&got, &expected);
    }
}
