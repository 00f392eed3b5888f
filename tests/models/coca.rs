//! CoCa: what each half sees, what is computed once, and what its knobs do.

use candle_core::{Device, Tensor};
use vlp_bench::kernels::random::Key;
use vlp_bench::kernels::{self, Tape};
use vlp_bench::models::checkpoint::{Published, Settings};
use vlp_bench::models::store::{Entry, Role};
use vlp_bench::models::{Attend, Config, Inputs, Model, ModelConfig, Store, Text, View, coca};

use super::{INPUTS, pairs, weighed};

const SIZES: &str = "image: {width: 6, depth: 1, heads: 2}, text: {width: 4, depth: 2, heads: 2}, unimodal: 1, \
                     patch: 8, embed: 3";

fn config(knobs: &str) -> Config {
    let config: Config = serde_yaml::from_str(&format!("coca: {{{SIZES}, {knobs}}}")).unwrap();
    assert_eq!(config.faults(&INPUTS), [""; 0]);
    config
}

fn store(config: &Config) -> (Store, Box<dyn Model>) {
    let store = Store::new(&Device::Cpu, 1, &[]);
    let model = config.build(&store.student(), &INPUTS).unwrap();
    (store, model)
}

fn model(knobs: &str) -> Box<dyn Model> {
    store(&config(knobs)).1
}

/// Two texts that fill all places but three.
fn text() -> Text {
    pairs(&[4, 4]).unwrap().1
}

/// The same texts with another entry at one place of the first.
fn changed(text: &Text, place: usize) -> View<Text> {
    let mut ids = text.ids.to_vec2::<u32>().unwrap();
    ids[0][place] += 1;
    View::new(Text { ids: Tensor::new(ids, &Device::Cpu).unwrap(), ..text.clone() }, None)
}

/// At which places of the first example two tensors (B,N,D) differ.
fn differ(before: &Tensor, after: &Tensor) -> Vec<usize> {
    let change = (before - after).unwrap().abs().unwrap().sum(2).unwrap().to_vec2::<f32>().unwrap();
    assert!(change[1].iter().all(|&change| change == 0.0), "another example changed");
    (0..change[0].len()).filter(|&place| change[0][place] > 1e-5).collect()
}

fn most(before: &Tensor, after: &Tensor) -> f32 {
    (before - after).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn a_word_changes_nothing_before_it_in_either_half() {
    let (model, text) = (model("pool: {queries: 3, heads: 2}"), text());
    let image = View::new(pairs(&[4, 4]).unwrap().0, None);
    let plain = View::new(text.clone(), None);
    for place in 0..4 {
        let other = changed(&text, place);
        let words = |text| model.text_tokens(text).unwrap().hidden;
        let fused = |text| model.fuse(&image, text, Attend::Causal).unwrap().text.hidden;
        let after: Vec<usize> = (place..4).collect();
        assert_eq!(differ(&words(&plain), &words(&other)), after);
        assert_eq!(differ(&fused(&plain), &fused(&other)), after);
    }
}

#[test]
fn the_text_embedding_sees_every_word_and_no_padding() {
    for knobs in ["classes: 1", "classes: 8", "aggregate: sentence", "classes: 8, aggregate: sentence"] {
        let (model, text) = (model(&format!("{knobs}, pool: {{heads: 2}}")), text());
        let embed = |text: View<Text>| model.embed_text(&text).unwrap().unsqueeze(1).unwrap();
        let plain = embed(View::new(text.clone(), None));
        for place in 0..INPUTS.words {
            let sees = !differ(&plain, &embed(changed(&text, place))).is_empty();
            assert_eq!(sees, place < 4, "{knobs}: place {place}");
        }
    }
}

#[test]
fn no_word_sees_the_classes() {
    let config = config("classes: 2, pool: {heads: 2}");
    let (store, model) = store(&config);
    let of = || {
        let text = View::new(text(), None);
        [model.text_tokens(&text).unwrap().hidden, model.embed_text(&text).unwrap()]
    };
    let before = of();
    let classes = &store.entries()["text.classes"].var;
    classes.set(&classes.as_detached_tensor().exp().unwrap()).unwrap();
    let after = of();
    assert_eq!(differ(&before[0], &after[0]), [0; 0]);
    assert!(most(&before[1], &after[1]) > 1e-4);
}

#[test]
fn under_the_mask_of_published_weights_the_class_sees_the_first_padding_instead_of_itself() {
    let row = |store: &Store, table: &str, row: usize| {
        let var = store.entries()[table].var.clone();
        let mut values = var.to_vec2::<f32>().unwrap();
        values[row].iter_mut().zip([3.0, -2.0, 1.0, 5.0]).for_each(|(value, more)| *value += more);
        var.set(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap();
    };
    for (mask, sees) in [("words", [false, false]), ("shifted", [true, false])] {
        // The texts have four words; at places four and five there is padding.
        for (place, sees) in [4, 5].into_iter().zip(sees) {
            let (store, model) = store(&config(&format!("class_mask: {mask}, pool: {{heads: 2}}")));
            let embed = || model.embed_text(&View::new(text(), None)).unwrap();
            let before = embed();
            row(&store, "text.embed.positions", place);
            assert_eq!(most(&before, &embed()) > 1e-4, sees, "{mask}: padding at place {place}");
        }
    }
}

/// Twice the multiply-adds of every matrix product, counted by hand for one layer in each part.
#[test]
fn contrast_costs_no_more_than_its_pooler_and_projections_once_captions_are_predicted() {
    let model = model("pool: {queries: 3, heads: 2}");
    let (n, q, t) = (4.0, 3.0, INPUTS.words as f64);
    let spent = |work: &dyn Fn()| {
        let before = kernels::flops();
        work();
        kernels::flops() - before
    };
    let (image, text) = pairs(&[7]).unwrap();
    let (image, text) = (View::new(image, None), View::new(text, None));
    let tower = n * 192.0 * 6.0 + n * 6.0 * (18.0 + 6.0 + 24.0 + 24.0) + 2.0 * n * n * 6.0;
    let pooler = |queries: f64, seen: f64, width: f64| {
        queries * 4.0 * (4.0 + 4.0) + seen * width * 8.0 + 2.0 * queries * seen * 4.0
    };
    let unimodal = (t + 1.0) * 4.0 * (12.0 + 4.0 + 16.0 + 16.0) + 2.0 * (t + 1.0) * (t + 1.0) * 4.0;
    let itself = t * 4.0 * (12.0 + 4.0 + 16.0 + 16.0) + 2.0 * t * t * 4.0;
    let across = t * 4.0 * (4.0 + 4.0) + q * 4.0 * 8.0 + 2.0 * t * q * 4.0;
    let fuse = || drop(model.fuse(&image, &text, Attend::Causal).unwrap());
    assert_eq!(spent(&fuse), 2.0 * (tower + pooler(q, n, 6.0) + unimodal + itself + across));
    let embed = || drop((model.embed_image(&image).unwrap(), model.embed_text(&text).unwrap()));
    assert_eq!(spent(&embed), 2.0 * (pooler(1.0, q, 4.0) + 2.0 * 4.0 * 3.0));
}

#[test]
fn computing_layers_again_gives_the_same_gradients() {
    let (store, model) = store(&config("dropout: 0.3, multimodal: pairs, pool: {queries: 3, heads: 2}"));
    let gradients = |tape: Tape| {
        let ((image, text), noise) = (pairs(&[7, 3]).unwrap(), Some(Key::new(1, 0, "dropout")));
        let (image, text) = (View::new(image, noise), View::new(text, noise));
        let fused = model.fuse(&image, &text, Attend::Causal).unwrap();
        let similarity =
            model.similarity(&model.embed_image(&image).unwrap(), &model.embed_text(&text).unwrap()).unwrap();
        let words =
            weighed(&model.predict_words(&fused.text.hidden).unwrap().dense().unwrap(), "words").unwrap();
        let gradients = tape.backward(&(words + weighed(&similarity, "logits").unwrap()).unwrap()).unwrap();
        let of = |(name, entry): (String, Entry)| {
            (name, gradients.get(&entry.var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        store.entries().into_iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(gradients(Tape::record()), gradients(Tape::checkpoint()));
}

/// The names of the parameters of a configuration below a place.
fn below(config: &Config, place: &str) -> Vec<String> {
    let store = Store::outline(&[]);
    config.build(&store.student(), &INPUTS).unwrap();
    store.entries().into_keys().filter(|name| name.starts_with(place)).collect()
}

#[test]
fn knobs_decide_which_parts_there_are() {
    let has = |knobs: &str, part: &str| !below(&config(knobs), part).is_empty();
    for wiring in ["cascade", "parallel"] {
        for (queries, captioning) in [(0, false), (1, true), (5, true)] {
            let knobs = format!("pool: {{wiring: {wiring}, queries: {queries}, heads: 2}}");
            assert_eq!(has(&knobs, "image.captioning."), captioning, "{knobs}");
            assert!(has(&knobs, "image.contrastive."));
        }
    }
    let shared = "encoder: clip, pool: {wiring: shared, queries: 0}";
    for part in ["image.captioning.", "image.contrastive.", "image.pooler."] {
        assert!(!has(shared, part), "{part}");
    }
    assert!(has("pool: {wiring: shared, queries: 2, heads: 2}", "image.pooler."));
    for (multimodal, between) in [("single", false), ("pairs", true)] {
        let knobs = format!("multimodal: {multimodal}, pool: {{heads: 2}}");
        assert_eq!(has(&knobs, "decoder.layers.0.between."), between);
    }
    for (encoder, class, bias) in [("vit", false, true), ("clip", true, false)] {
        let knobs = format!("encoder: {encoder}, pool: {{heads: 2}}");
        assert_eq!([has(&knobs, "image.patches.class"), has(&knobs, "image.ln_pre.")], [class; 2]);
        assert_eq!(has(&knobs, "image.patches.bias"), bias);
    }
}

#[test]
fn the_contrastive_pooler_looks_at_captions_in_a_cascade_and_at_the_image_beside_it() {
    for (wiring, depends) in [("cascade", true), ("parallel", false)] {
        let (store, model) = store(&config(&format!("pool: {{wiring: {wiring}, queries: 3, heads: 2}}")));
        let image = || View::new(pairs(&[7]).unwrap().0, None);
        let before = model.embed_image(&image()).unwrap();
        let out = &store.entries()["image.captioning.out.weight"].var;
        out.set(&out.as_detached_tensor().exp().unwrap()).unwrap();
        let change = most(&before, &model.embed_image(&image()).unwrap());
        assert_eq!(change > 1e-4, depends, "{wiring}: {change}");
    }
}

#[test]
fn faults_of_poolers_and_halves_are_said_in_words() {
    let faults = |knobs: &str| {
        let config: Config = serde_yaml::from_str(&format!("coca: {{{knobs}}}")).unwrap();
        config.faults(&INPUTS)
    };
    for unimodal in [0, 4] {
        let wrong = "of 4 text layers at least one must see words alone and one the image";
        assert_eq!(faults(&format!("unimodal: {unimodal}")), [format!("unimodal is {unimodal}: {wrong}")]);
    }
    assert_eq!(faults("pool: {heads: 3}"), ["pool.heads 3 does not divide text.width 128"]);
    assert_eq!(faults("classes: 0"), ["classes is 0: the text embedding needs a [CLS]"]);
    assert_eq!(
        faults("classes: 8, class_mask: shifted"),
        ["classes is 8: `class_mask: shifted` is made for one [CLS]"]
    );
    assert_eq!(
        faults("pool: {wiring: shared, queries: 1}"),
        ["pool.queries is 1: shared keeps the first query from the words"]
    );
    assert_eq!(
        faults("pool: {wiring: shared, queries: 0}"),
        ["pool.queries is 0: shared then contrasts the class token, which `encoder: vit` lacks"]
    );
    assert_eq!(faults("pool: {wiring: shared, queries: 0}, encoder: clip"), [""; 0]);
}

fn read(json: &str) -> candle_core::Result<(coca::Config, Inputs)> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), json).unwrap();
    coca::Config::read(&Settings::read(&folder.path().join("config.json")).unwrap())
}

/// The configurations that `open_clip` comes with, and the counts of its CoCa built from them.
#[test]
fn the_models_of_open_clip_have_its_numbers_of_parameters() {
    let half = |width: usize, heads: usize, vocabulary: usize| {
        format!(
            r#""context_length": 76, "vocab_size": {vocabulary}, "width": {width}, "heads": {heads}, "layers": 12"#
        )
    };
    let whole = |embed: usize, vision: &str, half: &str| {
        format!(
            r#"{{"embed_dim": {embed}, "vision_cfg": {{{vision}, "output_tokens": true}},
                "text_cfg": {{{half}, "embed_cls": true, "output_tokens": true}},
                "multimodal_cfg": {{{half}, "attn_pooler_heads": 8}}, "custom_text": true}}"#
        )
    };
    let pooled = r#""attentional_pool": true, "attn_pooler_heads": 8"#;
    let b_32 = format!(r#""image_size": 224, "layers": 12, "width": 768, "patch_size": 32, {pooled}"#);
    let l_14 = format!(r#""image_size": 224, "layers": 24, "width": 1024, "patch_size": 14, {pooled}"#);
    let base = r#""image_size": 288, "layers": 12, "width": 768, "patch_size": 18"#;
    for (json, parameters) in [
        (whole(512, &b_32, &half(512, 8, 49_408)), 253_560_065),
        (whole(768, &l_14, &half(768, 12, 49_408)), 638_450_177),
        (whole(512, base, &half(768, 12, 64_000)), 440_337_409),
    ] {
        let (config, inputs) = read(&json).unwrap();
        assert_eq!(config.faults(&inputs), [""; 0]);
        let store = Store::outline(&[]);
        config.build(&store.student(), &inputs).unwrap();
        assert_eq!(store.count(Role::Trainable), parameters);
    }
}

#[test]
fn what_open_clip_can_and_ours_cannot_is_refused_by_its_key() {
    let refused = |vision: &str, text: &str, decoder: &str, whole: &str| {
        let json = format!(
            r#"{{"vision_cfg": {{{vision}}}, "text_cfg": {{{text}}}, "multimodal_cfg": {{{decoder}}}{whole}}}"#
        );
        read(&json).unwrap_err().to_string()
    };
    let text = r#""embed_cls": true"#;
    for (fault, key) in [
        (refused("", "", "", ""), "text_cfg.embed_cls"),
        (refused("", text, r#""width": 4"#, ""), "multimodal_cfg.width"),
        (refused(r#""ls_init_value": 0.1"#, text, "", ""), "vision_cfg.ls_init_value"),
        (refused(r#""attentional_pool": "mean""#, text, "", ""), "vision_cfg.attentional_pool"),
        (
            refused("", r#""embed_cls": true, "hf_model_name": "roberta-base""#, "", ""),
            "text_cfg.hf_model_name",
        ),
        (refused("", r#""embed_cls": true, "mlp_ratio": 2.0"#, "", ""), "text_cfg.mlp_ratio"),
        (refused("", text, "", r#", "init_logit_bias": -10"#), "init_logit_bias"),
    ] {
        assert!(fault.contains(key), "{key}: {fault}");
    }
}
