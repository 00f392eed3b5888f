//! The three roles of BLIP's text transformer and what they share.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use vlp_bench::kernels;
use vlp_bench::models::checkpoint::Opened;
use vlp_bench::models::{Attend, Config, Image, Model, Store, Text, View};

use super::{INPUTS, pairs, weighed};

const TOWERS: &str = "image: {width: 6, depth: 1, heads: 2}, text: {width: 4, depth: 2, heads: 2}, embed: 3";

fn config(sharing: &str) -> Config {
    serde_yaml::from_str(&format!("blip: {{{TOWERS}, sharing: {sharing}, dropout: 0}}")).unwrap()
}

fn model() -> Box<dyn Model> {
    let store = Store::new(&Device::Cpu, 1, &[]);
    config("all_but_self_attention").build(&store.detached(), &INPUTS).unwrap()
}

fn views() -> (View<Image>, View<Text>) {
    let (image, text) = pairs(&[7, 4]).unwrap();
    (View::new(image, None), View::new(text, None))
}

/// The text with another entry at one place of its first example.
fn changed(text: &View<Text>, place: usize) -> View<Text> {
    let input = text.input().unwrap();
    let mut ids = input.ids.to_vec2::<u32>().unwrap();
    ids[0][place] = 39 - ids[0][place] % 30;
    View::new(Text { ids: Tensor::new(ids, &Device::Cpu).unwrap(), ..input.clone() }, None)
}

/// Which places of the first example differ.
fn differ(before: &Tensor, after: &Tensor) -> Vec<bool> {
    let change = (before - after).unwrap().abs().unwrap().sum(2).unwrap().to_vec2::<f32>().unwrap();
    change[0].iter().map(|&change| change > 1e-5).collect()
}

#[test]
fn a_word_changes_no_word_before_it_in_the_decoder_and_every_word_in_the_encoders() {
    let (model, (image, text)) = (model(), views());
    let other = changed(&text, 4);
    let fused = |text, attend| model.fuse(&image, text, attend).unwrap().text.hidden;
    let causal = differ(&fused(&text, Attend::Causal), &fused(&other, Attend::Causal));
    assert_eq!(causal, [false, false, false, false, true, true, true]);
    assert_eq!(differ(&fused(&text, Attend::Both), &fused(&other, Attend::Both)), [true; 7]);
    let alone = |text| model.text_tokens(text).unwrap().hidden;
    assert_eq!(differ(&alone(&text), &alone(&other)), [true; 7]);
}

#[test]
fn a_pass_with_an_image_puts_its_own_token_before_the_words() {
    let (model, (image, text)) = (model(), views());
    let other = changed(&text, 0);
    for attend in [Attend::Both, Attend::Causal] {
        let fused = |text| model.fuse(&image, text, attend).unwrap().text.hidden;
        assert_eq!(differ(&fused(&text), &fused(&other)), [false; 7], "{attend:?}");
    }
    let alone = |text| model.text_tokens(text).unwrap().hidden;
    assert_eq!(differ(&alone(&text), &alone(&other)), [true; 7]);
}

#[test]
fn from_left_to_right_the_last_word_is_pooled_and_else_the_first() {
    let (model, (image, text)) = (model(), views());
    for (attend, places) in [(Attend::Both, [0, 0]), (Attend::Causal, [6, 3])] {
        let fused = model.fuse(&image, &text, attend).unwrap();
        let hidden = fused.text.hidden.to_vec3::<f32>().unwrap();
        let pooled = fused.pooled.to_vec2::<f32>().unwrap();
        for (row, place) in places.into_iter().enumerate() {
            assert_eq!(hidden[row][place], pooled[row], "{attend:?}");
        }
    }
}

/// The parameters under a place in the store, without their numbers of layers.
fn under(store: &Store, place: &str) -> BTreeSet<String> {
    let names = store.entries().into_keys().filter_map(|name| Some(name.strip_prefix(place)?.to_owned()));
    names.map(|name| name.replace("layers.0.", "").replace("layers.1.", "")).collect()
}

#[test]
fn the_decoder_has_of_its_own_what_is_not_shared_and_its_head() {
    let cases: [(&str, &[&str]); 4] = [
        ("all", &[]),
        ("all_but_cross_attention", &["cross.", "cross_norm."]),
        ("all_but_self_attention", &["attention.", "norm1."]),
        ("none", &["attention.", "norm1.", "cross.", "cross_norm.", "mlp.", "norm2.", "embed."]),
    ];
    for (sharing, parts) in cases {
        let store = Store::outline(&[]);
        config(sharing).build(&store.student(), &INPUTS).unwrap();
        let (encoder, decoder) = (under(&store, "text."), under(&store, "decoder."));
        let of = |part: &str| encoder.iter().filter(|name| name.starts_with(part)).cloned().collect();
        let expected: BTreeSet<String> = parts.iter().flat_map(|part| -> Vec<String> { of(part) }).collect();
        let own: BTreeSet<String> = decoder.into_iter().filter(|name| !name.starts_with("head.")).collect();
        assert_eq!(own, expected, "{sharing}");
    }
}

#[test]
fn captions_train_the_encoders_only_where_the_decoder_shares_them() {
    for (sharing, self_attention, cross_attention, words) in [
        ("all", true, true, true),
        ("all_but_cross_attention", true, false, true),
        ("all_but_self_attention", false, true, true),
        ("none", false, false, false),
    ] {
        let store = Store::new(&Device::Cpu, 1, &[]);
        let model = config(sharing).build(&store.student(), &INPUTS).unwrap();
        let (image, text) = views();
        let hidden = model.fuse(&image, &text, Attend::Causal).unwrap().text.hidden;
        let gradients = weighed(&model.predict_words(&hidden).unwrap().dense().unwrap(), "words")
            .unwrap()
            .backward()
            .unwrap();
        let trains = |name: &str| gradients.get(store.entries()[name].var.as_tensor()).is_some();
        assert_eq!(trains("text.layers.1.attention.qkv.weight"), self_attention, "{sharing}");
        assert_eq!(trains("text.layers.1.cross.kv.weight"), cross_attention, "{sharing}");
        assert_eq!(trains("text.embed.words"), words, "{sharing}");
        assert!(trains("image.patches.weight"), "{sharing}");
    }
}

#[test]
fn the_decoder_looks_at_the_keys_of_the_encoder_where_they_share_cross_attention() {
    let flops = |sharing: &str| {
        let model = config(sharing).build(&Store::new(&Device::Cpu, 1, &[]).detached(), &INPUTS).unwrap();
        let (image, text) = views();
        let pass = |attend| {
            let before = kernels::flops();
            model.fuse(&image, &text, attend).unwrap();
            kernels::flops() - before
        };
        pass(Attend::Both);
        pass(Attend::Causal)
    };
    // Two images of 5 tokens of width 6, to keys and values of width 4 in two layers.
    let keys = 2.0 * (2.0 * 5.0 * 6.0 * 8.0) * 2.0;
    assert_eq!(flops("all_but_cross_attention") - flops("all_but_self_attention"), keys);
    assert_eq!(flops("none") - flops("all"), keys);
}

#[test]
fn a_published_configuration_that_this_one_cannot_express_is_refused_by_its_key() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/blip/all_but_self_attention");
    let text = fs::read_to_string(golden.join("config.json")).unwrap();
    for (from, to, key) in [
        ("\"bos_token_id\": 21", "\"bos_token_id\": 2", "text_config.bos_token_id"),
        ("\"hidden_dropout_prob\": 0.1", "\"hidden_dropout_prob\": 0", "attention_probs_dropout_prob"),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", "text_config.hidden_act"),
        ("all_but_self_attention", "all_but_embeddings", "`sharing`: unknown variant"),
        // What is tied there must be equal.
        ("all_but_self_attention", "all", "differs from the tensor it is tied to"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(golden.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(folder.path().join("config.json"), text.replace(from, to)).unwrap();
        let Err(fault) = Opened::read(folder.path(), &Device::Cpu) else { panic!("{to} was read") };
        assert!(fault.to_string().contains(key), "{fault}");
    }
}

#[test]
fn an_eps_that_is_no_small_number_is_a_fault() {
    let config: Config = serde_yaml::from_str("blip: {image_eps: 0, embed: 0}").unwrap();
    let expected = ["embed is 0: the shared space needs a width", "image_eps 0 is not above 0 and below 1"];
    assert_eq!(config.faults(&INPUTS), expected);
}
