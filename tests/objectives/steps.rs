//! What the objectives of one step share, and what decides it.

use candle_core::{DType, Device, Tensor};
use vlp_bench::kernels::flops;
use vlp_bench::models::{Inputs, Model};
use vlp_bench::objectives::{Config, Step};
use vlp_bench::token::Specials;

use super::given::Given;
use super::tiny::{DIMS, Tiny};
use super::{WORDS, at, batch, config, flat, loss, normal, random_batch, store};

#[test]
fn student_and_teacher_read_the_same_masked_text() {
    let batch = batch(6, 1);
    let model = || Given {
        text_tokens: Some(normal("hidden", &[6, WORDS, 4], DType::F32)),
        decoder: Some(normal("decoder", &[DIMS.vocabulary, 4], DType::F32)),
        ..Given::default()
    };
    let (student, teacher) = (model(), model());
    loss("mlm: {distill: 0.4}", &store(), &batch, &student, Some(&teacher));
    let read = student.read.borrow();
    assert_eq!(read.len(), 1);
    assert_eq!(*read, *teacher.read.borrow());
    assert_ne!(read[0], batch.text.ids.flatten_all().unwrap().to_vec1::<u32>().unwrap());
}

#[test]
fn all_objectives_of_a_step_together_encode_every_image_once_and_every_text_once_more_where_words_are_hidden()
{
    let (store, batch) = (store(), batch(4, 1));
    let model = Tiny::build(&store.student()).unwrap();
    let step = Step::new(&batch, &model, None, at(50), 1);
    for (entry, encoded) in [("itc: {}", 8), ("itm: {}", 8), ("itc_sigmoid: {}", 8), ("mlm: {}", 12)] {
        config(entry).open(&store.student(), &DIMS).unwrap().loss(&step).unwrap();
        assert_eq!(model.encoded.get(), encoded, "{entry}");
    }
}

#[test]
fn hard_negatives_are_the_nearest_keys_of_the_teacher_where_there_is_one_and_of_the_student_elsewhere() {
    // Row i is the unit vector along axis order[i]: every other is infinitely farther at this scale.
    let along = |order: [u32; 3]| {
        let axes = Tensor::eye(DIMS.embed, DType::F32, &Device::Cpu).unwrap();
        axes.index_select(&Tensor::new(&order, &Device::Cpu).unwrap(), 0).unwrap()
    };
    let model = |texts| Given {
        images: Some(along([0, 1, 2])),
        texts: Some(along(texts)),
        scale: Some(Tensor::new(1e4f32, &Device::Cpu).unwrap()),
        text_tokens: Some(normal("hidden", &[3, WORDS, DIMS.width], DType::F32)),
        ..Given::default()
    };
    let batch = batch(3, 1);
    let texts = batch.text.ids.to_vec2::<u32>().unwrap();
    let negatives = |teacher: Option<&dyn Model>| {
        let student = model([2, 0, 1]);
        loss("itm: {negatives: hard}", &store(), &batch, &student, teacher);
        let read = student.read.borrow()[1].clone();
        read.chunks(super::WORDS).skip(3).map(<[u32]>::to_vec).collect::<Vec<_>>()
    };
    let rows = |rows: [usize; 3]| rows.map(|row| texts[row].clone());
    assert_eq!(negatives(None), rows([1, 2, 0]));
    assert_eq!(negatives(Some(&model([1, 2, 0]))), rows([2, 0, 1]));
}

#[test]
fn contrast_and_captioning_of_coca_cost_one_pass_over_images_and_texts() {
    let inputs = Inputs {
        size: 16,
        words: WORDS,
        vocabulary: 23,
        specials: Specials::SHIPPED,
        region_features: 0,
        region_classes: 0,
        answers: 0,
    };
    let batch = random_batch(&inputs, 4, 1);
    for wiring in ["cascade", "parallel"] {
        let entry = format!("coca: {{pool: {{wiring: {wiring}, queries: 5}}}}");
        let config: vlp_bench::models::Config = serde_yaml::from_str(&entry).unwrap();
        let store = store();
        let model = config.build(&store.student(), &inputs).unwrap();
        let cost = |entries: &[&str]| {
            let step = Step::new(&batch, model.as_ref(), None, at(50), 1);
            let before = flops();
            for entry in entries {
                let objective = super::config(entry).open(&store.student(), &config.dims(&inputs)).unwrap();
                objective.loss(&step).unwrap();
            }
            flops() - before
        };
        let encode = || {
            let reading = Step::new(&batch, model.as_ref(), None, at(50), 1).student;
            let before = flops();
            model.image_tokens(&reading.image).unwrap();
            model.text_tokens(&reading.text).unwrap();
            flops() - before
        };
        let (apart, together) = (cost(&["itc: {}"]) + cost(&["lm: {}"]), cost(&["lm: {}", "itc: {}"]));
        assert!(apart - together >= encode(), "{wiring}: {apart} apart, {together} together");
        assert_eq!(together, cost(&["itc: {}", "lm: {}"]));
    }
}

/// Everything a step decides: the loss, its figures, every gradient, and the buffers afterwards.
fn bits(entry: &Config, step: u64) -> Vec<Vec<f64>> {
    let (store, batch) = (store(), batch(6, 1));
    let model = Tiny::build(&store.student()).unwrap();
    let teacher = Tiny::build(&store.teacher()).unwrap();
    let mut objective = entry.open(&store.student(), &DIMS).unwrap();
    let step = Step::new(&batch, &model, Some(&teacher), at(step), 1);
    let loss = objective.loss(&step).unwrap();
    let gradients = loss.value.backward().unwrap();
    objective.after(&step).unwrap();
    let entries = store.entries();
    let gradients = entries.values().filter_map(|entry| gradients.get(&entry.var));
    let values = entries.values().map(|entry| entry.var.as_tensor());
    [&loss.value].into_iter().chain(loss.metrics.values()).chain(gradients).chain(values).map(flat).collect()
}

#[test]
fn a_step_is_a_function_of_seed_and_step_at_any_number_of_threads() {
    let threads = |n: usize| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    // The tiny model reads no regions and returns no image tokens.
    for entry in Config::all().into_iter().filter(|entry| entry.needs().reads.is_empty()) {
        let one = threads(1).install(|| bits(&entry, 12));
        assert!(one == bits(&entry, 12), "{} is not repeatable", entry.name());
        assert!(one == threads(3).install(|| bits(&entry, 12)), "{} depends on threads", entry.name());
    }
    for entry in ["itm: {negatives: hard}", "itm: {negatives: random}", "itm: {replace: image}", "mlm: {}"] {
        assert!(bits(&config(entry), 12) != bits(&config(entry), 13), "{entry} draws the same at every step");
    }
}

#[test]
fn figures_say_what_was_at_the_step_though_parameters_change_in_place() {
    let store = store();
    let model = Tiny::build(&store.student()).unwrap();
    let loss = loss("itc_sigmoid: {}", &store, &batch(3, 1), &model, None);
    let b = &store.entries()["itc_sigmoid.b"].var;
    b.set(&b.zeros_like().unwrap()).unwrap();
    assert_eq!(flat(&loss.metrics["bias"]), [-10.0]);
}
