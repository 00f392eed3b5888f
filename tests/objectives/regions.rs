//! What must hold of hidden regions, polluted tags, exchanged images and transport, whatever the numbers.

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use vlp_bench::kernels::Ipot;
use vlp_bench::kernels::random::Key;
use vlp_bench::models::{Inputs, Model, ModelConfig, Store, Tokens, nn::Tower, oscar, uniter};
use vlp_bench::objectives::masking::{Rule, mask, mask_regions};
use vlp_bench::objectives::negatives::Pair;
use vlp_bench::objectives::pollution::{Polluted, Pollution, Written, pollute};
use vlp_bench::objectives::transport::distances;
use vlp_bench::objectives::{Batch, Loss, Step};
use vlp_bench::token::{CLS, MASK, PAD, SEP, SPECIAL, Specials};

use super::{at, batch, config, flat, loss, random_batch, scalar, store, tiny, with_tags};

const INPUTS: Inputs = Inputs {
    size: 4,
    words: 10,
    vocabulary: 40,
    specials: Specials::SHIPPED,
    region_features: 12,
    region_classes: 7,
    answers: 0,
};
const FIRST_WORD: u32 = SPECIAL.len() as u32;

proptest! {
    #[test]
    fn hidden_regions_are_there_and_every_image_that_has_one_hides_one(
        images in prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 1..8), probability in 0f64..=1.0, seed: u64,
    ) {
        let there: Vec<f32> = images.iter().flatten().map(|&there| f32::from(u8::from(there))).collect();
        let hidden = mask_regions(&there, 5, probability, Key::new(seed, 3, "regions"));
        prop_assert!(hidden.is_sorted_by(|a, b| a < b));
        prop_assert!(hidden.iter().all(|&place| there[place as usize] == 1.0));
        for (image, regions) in images.iter().enumerate() {
            let of_image = hidden.iter().filter(|&&place| place as usize / 5 == image).count();
            prop_assert_eq!(of_image > 0, regions.contains(&true));
        }
    }

    #[test]
    fn every_text_that_has_a_word_hides_one_and_of_those_without_a_draw_the_first(
        texts in prop::collection::vec(prop::collection::vec(0u32..30, 6), 1..8), seed: u64,
    ) {
        let ids = texts.concat();
        let rule = Rule { probability: 1e-9, whole_word: false, vocabulary: 30, every_text: true };
        let starts = vec![1; ids.len()];
        let masked = mask(&ids, &starts, 6, rule, &Specials::SHIPPED, Key::new(seed, 3, "mask")).unwrap();
        let first = |(row, text): (usize, &Vec<u32>)| {
            text.iter().position(|&id| id >= FIRST_WORD).map(|place| (row * 6 + place) as u32)
        };
        let expected: Vec<u32> = texts.iter().enumerate().filter_map(first).collect();
        prop_assert!(masked.positions.iter().all(|&place| masked.ids[place as usize] == MASK));
        prop_assert_eq!(masked.positions, expected);
    }

    #[test]
    fn polluted_pairs_have_exactly_the_tags_or_the_caption_of_another_image(
        rows in prop::collection::vec((0u64..3, 0u64..3, 1usize..4, 0usize..3), 1..8), share in 0f64..1.0, part in 0f64..=1.0, seed: u64,
    ) {
        let (text, pairs) = written(&rows);
        let pollution = Pollution { share, captions: share * part };
        let (out, kinds) = pollute(&text, &pairs, pollution, Key::new(seed, 1, "tags"));
        prop_assert_eq!(out.ids.len(), text.ids.len());
        for (row, kind) in kinds.iter().enumerate() {
            let (own, now) = (parts(&text, row), parts(&out, row));
            prop_assert_eq!(now.0.first().copied(), Some(CLS));
            match kind {
                Polluted::Nothing => prop_assert_eq!(&own, &now),
                Polluted::Tags => {
                    prop_assert_eq!(&own.0, &now.0);
                    prop_assert!(own.1 != now.1 && !now.1.is_empty() && !own.1.is_empty());
                    let of = |other: usize| pairs[other].image != pairs[row].image && parts(&text, other).1 == now.1;
                    prop_assert!((0..pairs.len()).any(of));
                }
                Polluted::Caption => {
                    prop_assert_eq!(&own.1, &now.1);
                    let of = |other: usize| pairs[other].apart(&pairs[row]) && parts(&text, other).0 == now.0;
                    prop_assert!((0..pairs.len()).any(of));
                }
            }
            let start = row * out.places;
            for place in start..start + out.places {
                prop_assert_eq!(out.mask[place] != 0.0, out.ids[place] != PAD);
                prop_assert!(out.word_starts[place] == 0 || out.ids[place] >= FIRST_WORD);
            }
        }
    }

    #[test]
    fn a_pair_whose_sides_are_one_another_is_at_no_distance(rows in 1usize..4, length in 1usize..6, seed: u64) {
        // One vector for all, in both sides: every cost is 0.
        let one = Key::new(seed, 0, "one").normal(5);
        let hidden = Tensor::from_vec(one, (1, 1, 5), &Device::Cpu).unwrap();
        let hidden = hidden.broadcast_as((rows, length, 5)).unwrap().contiguous().unwrap();
        let tokens = Tokens { hidden, mask: None };
        let far = Tokens { hidden: tokens.hidden.neg().unwrap(), mask: None };
        for (other, expected) in [(&tokens, 0.0), (&far, 2.0)] {
            let found = flat(&distances(&tokens, other, Ipot::default()).unwrap());
            prop_assert!(found.iter().all(|found| (found - expected).abs() < 1e-4), "{:?}", found);
        }
    }
}

/// Rows of image key, caption key, words of the caption and number of tags.
fn written(rows: &[(u64, u64, usize, usize)]) -> (Written, Vec<Pair>) {
    let places = 9;
    let mut text =
        Written { places, ids: vec![], mask: vec![], segments: vec![], word_starts: vec![], pad: PAD };
    for (row, &(image, caption, words, tags)) in rows.iter().enumerate() {
        let mut ids = vec![CLS];
        ids.extend((0..words as u32).map(|word| FIRST_WORD + caption as u32 + word));
        ids.push(SEP);
        let caption_length = ids.len();
        if tags > 0 {
            ids.extend((0..tags as u32).map(|tag| FIRST_WORD + 10 + image as u32 + tag));
            ids.push(SEP);
        }
        let length = ids.len();
        ids.resize(places, PAD);
        text.mask.extend((0..places).map(|place| f32::from(u8::from(place < length))));
        text.segments.extend((0..places).map(|place| u32::from((caption_length..length).contains(&place))));
        text.word_starts.extend(ids.iter().map(|&id| u8::from(id >= FIRST_WORD)));
        text.ids.extend(ids);
        assert_eq!(text.ids.len(), (row + 1) * places);
    }
    (text, rows.iter().map(|&(image, caption, ..)| Pair { image, caption }).collect())
}

/// The caption and the tags of a row.
fn parts(text: &Written, row: usize) -> (Vec<u32>, Vec<u32>) {
    let part = |segment| {
        let places = row * text.places..(row + 1) * text.places;
        let of_part = |at: &usize| text.mask[*at] != 0.0 && text.segments[*at] == segment;
        places.filter(of_part).map(|at| text.ids[at]).collect()
    };
    (part(0), part(1))
}

#[test]
fn about_the_stated_share_of_pairs_is_polluted() {
    let rows: Vec<_> = (0..2000).map(|row| (row, row, 2, 2)).collect();
    let (text, pairs) = written(&rows);
    for (share, captions) in [(0.5, 0.0), (0.5, 0.25)] {
        let (_, kinds) = pollute(&text, &pairs, Pollution { share, captions }, Key::new(1, 1, "tags"));
        let found = |kind| kinds.iter().filter(|&&found| found == kind).count() as f64 / 2000.0;
        assert!((found(Polluted::Nothing) - 0.5).abs() < 0.06);
        assert!((found(Polluted::Caption) - captions).abs() < 0.06);
    }
}

fn trunk() -> Tower {
    Tower { width: 12, depth: 1, heads: 2, mlp: None }
}

fn build(config: &dyn ModelConfig, store: &Store) -> Box<dyn Model> {
    config.build(&store.student(), &INPUTS).unwrap()
}

fn of(entry: &str, model: &dyn Model, config_of: &dyn ModelConfig, store: &Store, batch: &Batch) -> Loss {
    let objective = config(entry).open(&store.student(), &config_of.dims(&INPUTS)).unwrap();
    let step = Step::new(batch, model, None, at(50), 1);
    objective.before(&step);
    objective.loss(&step).unwrap()
}

const UNITERS: [&str; 6] = [
    "mrfr: {}",
    "mrc: {}",
    "mrc_kl: {}",
    "wra: {}",
    "itm: {negatives: random, replace: image}",
    "mlm: {masking: joint, every_text: true}",
];

#[test]
fn heads_without_an_opinion_cost_what_chance_does() {
    let (store, config_of) = (store(), oscar::Config { trunk: trunk(), ..Default::default() });
    let (model, batch) = (build(&config_of, &store), with_tags(random_batch(&INPUTS, 6, 3)));
    for (entry, chance) in [
        ("tag_match: {}", 2f64.ln()),
        ("itm: {negatives: random, replace: image}", 2f64.ln()),
        ("mrc: {}", 7f64.ln()),
    ] {
        config(entry).open(&store.student(), &config_of.dims(&INPUTS)).unwrap();
        for (name, entry) in store.entries() {
            if name.contains(".head.") {
                entry.var.set(&entry.var.zeros_like().unwrap()).unwrap();
            }
        }
        let found = scalar(&of(entry, model.as_ref(), &config_of, &store, &batch).value);
        assert!((found - chance).abs() < 1e-5, "{entry}: {found}");
    }
}

#[test]
fn a_divergence_is_never_negative_and_nothing_where_the_head_believes_what_the_detector_does() {
    let (store, config_of) = (store(), uniter::Config { trunk: trunk(), ..Default::default() });
    let (model, mut batch) = (build(&config_of, &store), random_batch(&INPUTS, 4, 3));
    let value = |batch: &Batch| scalar(&of("mrc_kl: {}", model.as_ref(), &config_of, &store, batch).value);
    assert!(value(&batch) > 0.0);
    let head = &store.entries()["mrc.head.weight"].var;
    head.set(&head.zeros_like().unwrap()).unwrap();
    let uniform = Tensor::full(1f32 / 7.0, (4, 3, 7), &Device::Cpu).unwrap();
    batch.region_classes = Some(uniform);
    assert!(value(&batch).abs() < 1e-6);
    // A certain detector costs as much as its class.
    let certain = Tensor::eye(7, DType::F32, &Device::Cpu).unwrap().narrow(0, 2, 1).unwrap();
    batch.region_classes = Some(certain.broadcast_as((4, 3, 7)).unwrap().contiguous().unwrap());
    assert!((value(&batch) - 7f64.ln()).abs() < 1e-5);
}

#[test]
fn what_a_hidden_region_looks_like_reaches_nothing() {
    let (store, config_of) = (store(), uniter::Config { trunk: trunk(), dropout: 0.0 });
    let (model, batch) = (build(&config_of, &store), random_batch(&INPUTS, 4, 3));
    let mut other = batch.clone();
    if let Some(regions) = &mut other.image.regions {
        regions.features = (&regions.features * 3.0).unwrap();
    }
    for entry in ["mrc: {probability: 1}", "mrc_kl: {probability: 1}"] {
        let [one, same] =
            [&batch, &other].map(|batch| scalar(&of(entry, model.as_ref(), &config_of, &store, batch).value));
        assert_eq!(one, same, "{entry}");
    }
}

#[test]
fn a_step_without_regions_words_or_others_has_a_loss_that_is_a_number() {
    let store = store();
    let uniter = uniter::Config { trunk: trunk(), ..Default::default() };
    let oscar = oscar::Config { trunk: trunk(), ..Default::default() };
    let whole = with_tags(random_batch(&INPUTS, 3, 3));
    let mut no_region = whole.clone();
    if let Some(regions) = &mut no_region.image.regions {
        regions.mask = regions.mask.zeros_like().unwrap();
    }
    let mut no_word = whole.clone();
    no_word.text.ids = no_word.text.ids.clamp(0u32, 3u32).unwrap();
    no_word.word_starts.fill(0);
    let mut equal = whole.clone();
    (equal.image_keys, equal.caption_keys) = (vec![7; 3], vec![8; 3]);
    let one = with_tags(random_batch(&INPUTS, 1, 3));
    let [uniter_model, oscar_model] =
        [&uniter as &dyn ModelConfig, &oscar].map(|model| build(model, &store_of(model)));
    for (case, batch) in [("no region", &no_region), ("no word", &no_word), ("equal", &equal), ("one", &one)]
    {
        for entry in UNITERS {
            let found = of(entry, uniter_model.as_ref(), &uniter, &store, batch);
            assert!(scalar(&found.value).is_finite(), "{entry}, {case}");
            assert!(found.metrics.values().all(|value| scalar(value).is_finite()), "{entry}, {case}");
        }
        let found = of("tag_match: {captions: 0.25}", oscar_model.as_ref(), &oscar, &store, batch);
        assert!(scalar(&found.value).is_finite(), "tag_match, {case}");
    }
}

fn store_of(_: &dyn ModelConfig) -> Store {
    store()
}

#[test]
fn objectives_on_hidden_regions_read_one_pass_and_equal_steps_draw_equally() {
    let (store, config_of) = (store(), uniter::Config { trunk: trunk(), ..Default::default() });
    let (model, batch) = (build(&config_of, &store), random_batch(&INPUTS, 6, 3));
    for entry in UNITERS {
        let value = || scalar(&of(entry, model.as_ref(), &config_of, &store, &batch).value);
        assert_eq!(value(), value(), "{entry}");
    }
    let step = Step::new(&batch, model.as_ref(), None, at(50), 1);
    let alteration = |probability| {
        let dims = config_of.dims(&INPUTS);
        vlp_bench::objectives::masking::of_regions(probability, Default::default(), &dims)
    };
    let first = step.altered(alteration(0.15)).unwrap();
    assert!(std::rc::Rc::ptr_eq(&first, &step.altered(alteration(0.15)).unwrap()));
    assert!(!std::rc::Rc::ptr_eq(&first, &step.altered(alteration(0.5)).unwrap()));
    let passes = [(); 2].map(|()| first.student(&step).unwrap());
    assert!(std::rc::Rc::ptr_eq(&passes[0], &passes[1]));
}

#[test]
fn half_of_the_images_are_exchanged_and_never_for_the_same_one() {
    let store = store();
    let model = tiny::Tiny::build(&store.student()).unwrap();
    let share = |entry: &str, seed| {
        let batch = batch(40, seed);
        scalar(&loss(entry, &store, &batch, &model, None).metrics["positives"])
    };
    let exact = "itm: {negatives: random, replace: image, exact: true}";
    assert_eq!(share(exact, 1), 0.5);
    let drawn = share("itm: {negatives: random, replace: image, share: 0.25}", 1);
    assert!((drawn - 0.75).abs() < 0.35 && drawn < 1.0, "{drawn}");
    let mut odd = batch(5, 1);
    odd.image_keys = (0..5).collect();
    let positives = scalar(&loss(exact, &store, &odd, &model, None).metrics["positives"]);
    assert!((positives - 0.4).abs() < 1e-6, "of five pairs two are left as they are: {positives}");
}
