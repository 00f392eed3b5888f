//! What must hold of every loss, whatever the numbers.

use candle_core::{DType, Device, Tensor, Var};
use vlp_bench::models::{Store, Text};
use vlp_bench::objectives::{Batch, Progress, Step, distillation};

use super::given::Given;
use super::tiny::{DIMS, Tiny};
use super::{WORDS, at, batch, config, embedding, flat, loss, normal, scalar, store, units};

#[track_caller]
fn assert_near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-5 * (1.0 + expected.abs()), "got {got}, expected {expected}");
}

#[test]
fn identical_embeddings_leave_a_contrast_at_the_logarithm_of_its_keys() {
    let one = units("one", 1, DType::F32);
    for pairs in [2, 5] {
        let all = one.broadcast_as((pairs, DIMS.embed)).unwrap().contiguous().unwrap();
        let model = embedding(&all, &all);
        let batch = batch(pairs, 1);
        let loss = |entry, store: &Store| scalar(&loss(entry, store, &batch, &model, Some(&model)).value);
        assert_near(loss("itc: {}", &store()), (pairs as f64).ln());
        assert_near(loss("itc_momentum: {queue: 0}", &store()), (pairs as f64).ln());
        // Queues full of the same vector.
        let store = store();
        config("itc_momentum: {queue: 3}").open(&store.student(), &DIMS).unwrap();
        for side in ["images", "texts"] {
            let rows = &store.entries()[&format!("itc_momentum.{side}.rows")].var;
            rows.set(&one.broadcast_as((3, DIMS.embed)).unwrap().contiguous().unwrap()).unwrap();
        }
        assert_near(loss("itc_momentum: {queue: 3}", &store), (pairs as f64 + 3.0).ln());
    }
}

#[test]
fn a_second_contrast_has_half_of_the_loss() {
    let (images, texts) = (units("images", 4, DType::F32), units("texts", 4, DType::F32));
    let first = embedding(&images, &texts);
    let logits = normal("second", &[4, 4], DType::F32);
    let both = Given { second: Some(logits.clone()), ..first.clone() };
    // Unit vectors along the axes have these logits with themselves.
    let axes = Tensor::eye(4, DType::F32, &Device::Cpu).unwrap();
    let second = Given { scale: Some(axes.get(0).unwrap().get(0).unwrap()), ..embedding(&logits, &axes) };
    let value = |model: &Given| scalar(&loss("itc: {}", &store(), &batch(4, 1), model, None).value);
    assert_near(value(&both), 0.5 * (value(&first) + value(&second)));
    assert!((value(&both) - value(&first)).abs() > 0.1);
}

#[test]
fn a_sigmoid_contrast_without_an_opinion_costs_ln_2_a_pair() {
    let one = units("one", 1, DType::F32).broadcast_as((4, DIMS.embed)).unwrap().contiguous().unwrap();
    // exp(ln 10) * 1 - 10 = 0 for every one of the 16 pairs, summed over pairs and divided by 4.
    let loss = loss("itc_sigmoid: {}", &store(), &batch(4, 1), &embedding(&one, &one), None);
    assert_near(scalar(&loss.value), 4.0 * 2f64.ln());
}

#[test]
fn of_several_vectors_an_image_the_nearest_counts_in_the_sigmoid_contrast() {
    let (images, texts) = (units("images", 3, DType::F32), units("texts", 3, DType::F32));
    let away = texts.mean(0).unwrap().neg().unwrap().broadcast_as((3, DIMS.embed)).unwrap();
    let several = Tensor::stack(&[&images, &(away * 10.0).unwrap()], 1).unwrap();
    let value = |images: &Tensor| {
        let loss = loss("itc_sigmoid: {}", &store(), &batch(3, 1), &embedding(images, &texts), None);
        scalar(&loss.value)
    };
    let nearest = value(&Tensor::stack(&[&images, &images], 1).unwrap());
    assert_near(nearest, value(&images));
    assert!(value(&several).is_finite());
}

#[test]
fn a_head_without_an_opinion_matches_at_the_cost_of_ln_2() {
    let store = store();
    let model = Tiny::build(&store.student()).unwrap();
    config("itm: {}").open(&store.student(), &DIMS).unwrap();
    for name in ["itm.head.weight", "itm.head.bias"] {
        let var = &store.entries()[name].var;
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    for entry in ["itm: {negatives: hard}", "itm: {negatives: random}"] {
        let loss = loss(entry, &store, &batch(4, 1), &model, None);
        assert_near(scalar(&loss.value), 2f64.ln());
        assert_near(scalar(&loss.metrics["positives"]), 1.0 / 3.0);
    }
}

#[test]
fn a_pair_for_which_the_batch_holds_no_negative_does_without() {
    let store = store();
    let model = Tiny::build(&store.student()).unwrap();
    let positives = |images: Vec<u64>, captions: Vec<u64>| {
        let mut batch = batch(3, 1);
        (batch.image_keys, batch.caption_keys) = (images, captions);
        scalar(&loss("itm: {}", &store, &batch, &model, None).metrics["positives"])
    };
    assert_near(positives(vec![1, 2, 3], vec![1, 2, 3]), 3.0 / 9.0);
    assert_near(positives(vec![1, 2, 3], vec![9, 9, 9]), 1.0);
    // Pairs 0 and 1 have pair 2 and the reverse: nothing is missing. Then pair 2 shows image 0 with the caption of 1.
    assert_near(positives(vec![1, 1, 3], vec![1, 2, 3]), 3.0 / 9.0);
    assert_near(positives(vec![1, 2, 1], vec![1, 2, 2]), 3.0 / 7.0);
}

#[test]
fn uniform_words_cost_the_logarithm_of_the_vocabulary() {
    let batch = batch(3, 1);
    let model = Given {
        text_tokens: Some(normal("hidden", &[3, WORDS, 4], DType::F32)),
        decoder: Some(Tensor::zeros((DIMS.vocabulary, 4), DType::F32, &Device::Cpu).unwrap()),
        ..Given::default()
    };
    for entry in ["mlm: {}", "mlm: {whole_word: true}", "mlm: {distill: 0.5}"] {
        let loss = loss(entry, &store(), &batch, &model, Some(&model));
        assert_near(scalar(&loss.value), (DIMS.vocabulary as f64).ln());
    }
}

#[test]
fn texts_without_a_word_cost_nothing() {
    let mut batch = batch(2, 1);
    batch.text.ids = (batch.text.ids.clamp(0u32, 3u32)).unwrap();
    let store = store();
    let model = Tiny::build(&store.student()).unwrap();
    for entry in ["mlm: {}", "mlm: {context: none}", "bow: {}"] {
        assert_eq!(scalar(&loss(entry, &store, &batch, &model, None).value), 0.0, "{entry}");
    }
    // Nothing is visible, and everything belongs to the prompt.
    batch.text.mask = batch.text.mask.zeros_like().unwrap();
    for entry in ["lm: {label_smoothing: 0.1}", "caption: {decoder: {width: 8, depth: 1, heads: 2}}"] {
        assert_eq!(scalar(&loss(entry, &store, &batch, &model, None).value), 0.0, "{entry}");
    }
}

#[test]
fn a_text_no_longer_than_its_prompt_asks_for_nothing() {
    let batch = batch(3, 1);
    let model = Given {
        text_tokens: Some(normal("hidden", &[3, WORDS, 4], DType::F32)),
        decoder: Some(normal("decoder", &[DIMS.vocabulary, 4], DType::F32)),
        ..Given::default()
    };
    let value = |prompt: usize| {
        scalar(&loss(&format!("lm: {{prompt: {prompt}}}"), &store(), &batch, &model, None).value)
    };
    assert_eq!((value(WORDS), value(usize::MAX)), (0.0, 0.0));
    assert!(value(1) > 0.0);
}

/// Image tokens whose first is that of the class, of images of 4 x 4 pixels in patches of 2.
fn seen(pairs: usize) -> Given {
    Given {
        image_tokens: Some(normal("tokens", &[pairs, 5, DIMS.width], DType::F32)),
        text_tokens: Some(normal("words", &[pairs, WORDS, DIMS.width], DType::F32)),
        ..Given::default()
    }
}

#[test]
fn patches_that_a_joint_pass_leaves_out_are_not_asked_for() {
    let batch = batch(2, 1);
    let drawn = |mask: Option<[[f32; 5]; 2]>| {
        let image_mask = mask.map(|mask| Tensor::new(&mask, &Device::Cpu).unwrap());
        let model = Given { image_mask, ..seen(2) };
        let loss = loss("mpp: {probability: 1}", &store(), &batch, &model, None);
        (scalar(&loss.value), loss.metrics.get("drawn").map(scalar))
    };
    assert_eq!(drawn(None).1, Some(1.0));
    assert_eq!(drawn(Some([[1.0, 0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0, 1.0]])).1, Some(3.0 / 8.0));
    assert_eq!(drawn(Some([[1.0, 0.0, 0.0, 0.0, 0.0]; 2])), (0.0, None));
}

#[test]
fn an_image_without_a_drawn_patch_costs_nothing() {
    let loss = loss("mpp: {probability: 1e-9}", &store(), &batch(2, 1), &seen(2), None);
    assert_eq!(scalar(&loss.value), 0.0);
}

#[test]
fn a_decoder_of_captions_tells_no_word_from_a_later_one() {
    let (store, batch, model) = (store(), batch(4, 1), seen(4));
    let config = config("caption: {decoder: {width: 8, depth: 2, heads: 2}}");
    let objective = config.open(&store.student(), &DIMS).unwrap();
    let value =
        |batch: &Batch| scalar(&objective.loss(&Step::new(batch, &model, None, at(50), 1)).unwrap().value);
    // Of texts cut after the first word nothing later counts, so what stands there may be anything.
    let cut = |ids: Tensor| {
        let first = Tensor::new(&[[1f32, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]], &Device::Cpu).unwrap();
        let mask = batch.text.mask.broadcast_mul(&first).unwrap();
        Batch { text: Text { ids, mask, ..batch.text.clone() }, ..batch.clone() }
    };
    let other = batch
        .text
        .ids
        .slice_assign(&[0..4, 2..WORDS], &Tensor::full(9u32, (4, WORDS - 2), &Device::Cpu).unwrap());
    assert_eq!(value(&cut(batch.text.ids.clone())), value(&cut(other.unwrap())));
    assert!(value(&batch) != value(&cut(batch.text.ids.clone())));
}

#[test]
fn alpha_rises_along_a_straight_line_and_stays() {
    let alpha =
        |step, ramp| distillation::alpha(0.4, ramp, Progress { step, steps: 100, steps_per_epoch: 10 });
    assert_near(alpha(0, 1.0), 0.0);
    assert_near(alpha(5, 1.0), 0.2);
    assert_near(alpha(10, 1.0), 0.4);
    assert_near(alpha(99, 1.0), 0.4);
    assert_near(alpha(10, 2.0), 0.2);
    assert_near(alpha(0, 0.0), 0.4);
}

#[test]
fn without_a_share_for_the_teacher_the_losses_are_the_plain_ones() {
    let (images, texts) = (units("images", 5, DType::F32), units("texts", 5, DType::F32));
    let student = embedding(&images, &texts);
    let value = |entry| scalar(&loss(entry, &store(), &batch(5, 1), &student, Some(&student)).value);
    assert_near(value("itc_momentum: {queue: 0, distill: 0}"), value("itc: {}"));

    let store = store();
    let model = Tiny::build(&store.student()).unwrap();
    let at_first = |entry, teacher| {
        let objective = config(entry).open(&store.student(), &DIMS).unwrap();
        scalar(&objective.loss(&Step::new(&batch(5, 1), &model, teacher, at(0), 1)).unwrap().value)
    };
    assert_near(at_first("mlm: {distill: 0.4}", Some(&model)), at_first("mlm: {}", None));
}

#[test]
fn a_teacher_equal_to_the_student_pulls_nowhere() {
    let images = Var::from_tensor(&units("images", 4, DType::F32)).unwrap();
    let model = embedding(&images, &units("texts", 4, DType::F32));
    let loss =
        loss("itc_momentum: {queue: 0, distill: 1, ramp: 0}", &store(), &batch(4, 1), &model, Some(&model));
    let gradient = loss.value.backward().unwrap().get(&images).cloned().unwrap();
    assert!(flat(&gradient).iter().all(|g| g.abs() < 1e-5));
}
