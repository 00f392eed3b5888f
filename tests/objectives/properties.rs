//! What must hold of every loss, whatever the numbers.

use candle_core::{DType, Device, Result, Tensor, Var};
use vlp_bench::kernels::{l2_normalize, random::Key};
use vlp_bench::models::{Model, Store};
use vlp_bench::objectives::{Batch, Config, Loss, Progress, Step, distillation};

use super::given::Given;
use super::tiny::{DIMS, Tiny};
use super::{at, batch, flat, scalar};

fn config(entry: &str) -> Config {
    serde_yaml::from_str(entry).unwrap()
}

fn store() -> Store {
    Store::new(&Device::Cpu, 3, &[])
}

fn normal(purpose: &str, shape: &[usize], dtype: DType) -> Tensor {
    let values = Key::new(7, 0, purpose).normal(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn units(purpose: &str, rows: usize, dtype: DType) -> Tensor {
    l2_normalize(&normal(purpose, &[rows, DIMS.embed], dtype), 1e-12).unwrap()
}

/// The loss of `entry` at the end of its ramp.
fn loss(entry: &str, store: &Store, batch: &Batch, student: &dyn Model, teacher: Option<&dyn Model>) -> Loss {
    let objective = config(entry).open(&store.student(), &DIMS).unwrap();
    objective.loss(&Step::new(batch, student, teacher, at(50), 1)).unwrap()
}

#[track_caller]
fn assert_near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-5 * (1.0 + expected.abs()), "got {got}, expected {expected}");
}

fn embedding(images: &Tensor, texts: &Tensor) -> Given {
    Given {
        images: Some(images.clone()),
        texts: Some(texts.clone()),
        scale: Some(Tensor::full(1.0 / 0.07, (), &Device::Cpu).unwrap().to_dtype(images.dtype()).unwrap()),
        ..Given::default()
    }
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
        text_tokens: Some(normal("hidden", &[3, super::WORDS, DIMS.width], DType::F32)),
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
fn uniform_words_cost_the_logarithm_of_the_vocabulary() {
    let batch = batch(3, 1);
    let model = Given {
        text_tokens: Some(normal("hidden", &[3, super::WORDS, 4], DType::F32)),
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
    assert_eq!(scalar(&loss("mlm: {}", &store, &batch, &model, None).value), 0.0);
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

#[test]
fn student_and_teacher_read_the_same_masked_text() {
    let batch = batch(6, 1);
    let model = || Given {
        text_tokens: Some(normal("hidden", &[6, super::WORDS, 4], DType::F32)),
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
    for entry in Config::all() {
        let one = threads(1).install(|| bits(&entry, 12));
        assert!(one == bits(&entry, 12), "{} is not repeatable", entry.name());
        assert!(one == threads(3).install(|| bits(&entry, 12)), "{} depends on threads", entry.name());
    }
    for entry in ["itm: {negatives: hard}", "itm: {negatives: random}", "mlm: {}"] {
        assert!(bits(&config(entry), 12) != bits(&config(entry), 13), "{entry} draws the same at every step");
    }
}

/// Compares the gradient with central differences in f64 along random directions.
fn check_gradient(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let gradients = f(&tracked).unwrap().backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let direction = normal(&format!("direction {i}"), inputs[i].dims(), DType::F64);
        let at = |h: f64| {
            let mut moved = inputs.to_vec();
            moved[i] = (&inputs[i] + (&direction * h).unwrap()).unwrap();
            scalar(&f(&moved).unwrap())
        };
        let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        let gradient = gradients.get(var).unwrap();
        let exact: f64 = flat(gradient).iter().zip(flat(&direction)).map(|(g, d)| g * d).sum();
        assert!((numeric - exact).abs() < 1e-6 * (1.0 + exact.abs()), "input {i}: {numeric}, {exact}");
    }
}

#[test]
fn gradients_are_finite_differences() {
    let batch = batch(4, 1);
    let teacher = embedding(&units("slow images", 4, DType::F64), &units("slow texts", 4, DType::F64));
    let scale = Tensor::new(5.0, &Device::Cpu).unwrap();
    let inputs = [units("images", 4, DType::F64), units("texts", 4, DType::F64), scale];
    let entries = ["itc: {}", "itc_momentum: {queue: 0, distill: 0}", "itc_momentum: {queue: 0, distill: 1}"];
    for (entry, moving) in entries.into_iter().zip([3, 3, 2]) {
        // The temperature sharpens distilled targets too, which are not differentiated, so it stands still there.
        check_gradient(&inputs[..moving], |moved| {
            let student = Given {
                images: Some(moved[0].clone()),
                texts: Some(moved[1].clone()),
                scale: Some(moved.get(2).unwrap_or(&inputs[2]).clone()),
                ..Given::default()
            };
            Ok(loss(entry, &store(), &batch, &student, Some(&teacher)).value)
        });
    }
    let slow = Given {
        text_tokens: Some(normal("slow hidden", &[4, super::WORDS, 5], DType::F64)),
        decoder: Some(normal("slow decoder", &[DIMS.vocabulary, 5], DType::F64)),
        ..Given::default()
    };
    let inputs = [
        normal("hidden", &[4, super::WORDS, 5], DType::F64),
        normal("decoder", &[DIMS.vocabulary, 5], DType::F64),
    ];
    check_gradient(&inputs, |inputs| {
        let student = Given {
            text_tokens: Some(inputs[0].clone()),
            decoder: Some(inputs[1].clone()),
            ..Given::default()
        };
        Ok(loss("mlm: {distill: 0.4}", &store(), &batch, &student, Some(&slow)).value)
    });
}
