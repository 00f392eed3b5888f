//! Values and gradients against PyTorch; `tests/golden/<objective>.py` made the numbers.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var, safetensors};
use vlp_bench::models::Dims;
use vlp_bench::models::store::Entry;
use vlp_bench::objectives::{Batch, Loss, Progress, Step, itm};

use super::given::Given;
use super::{assert_close, batch, config, scalar, store};

/// The tensors of a fixture, of one case of it where it has several.
struct Golden(BTreeMap<String, Tensor>);

impl Golden {
    fn read(name: &str, case: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.safetensors"));
        let tensors = safetensors::load(file, &Device::Cpu).unwrap();
        let mine = |(name, tensor): (String, Tensor)| Some((name.strip_prefix(case)?.to_owned(), tensor));
        Self(tensors.into_iter().filter_map(mine).collect())
    }

    fn get(&self, name: &str) -> Tensor {
        self.0[name].clone()
    }

    /// Sets the parameters of a head, and gives them with their names in the fixture.
    fn set(&self, entries: &BTreeMap<String, Entry>, head: &str) -> Vec<(String, Tensor)> {
        let set = |(name, entry): (&String, &Entry)| {
            let name = name.strip_prefix(head)?;
            entry.var.set(&self.get(name)).unwrap();
            Some((name.to_owned(), entry.var.as_tensor().clone()))
        };
        entries.iter().filter_map(set).collect()
    }

    fn var(&self, name: &str) -> Var {
        Var::from_tensor(&self.get(name)).unwrap()
    }

    /// The loss to 1e-5 and the gradients of `vars` to 1e-4 of the greatest.
    #[track_caller]
    fn agrees(&self, loss: &Loss, vars: &[(&str, &Tensor)]) {
        assert_close(&loss.value, &self.get("loss"), 1e-5);
        let grads = loss.value.backward().unwrap();
        for (name, var) in vars {
            assert_close(grads.get(var).unwrap(), &self.get(&format!("{name}.grad")), 1e-4);
        }
        for (name, value) in &loss.metrics {
            if let Some(expected) = self.0.get(*name) {
                assert_close(value, expected, 1e-6);
            }
        }
    }
}

fn dims(width: usize, embed: usize, vocabulary: usize) -> Dims {
    Dims { width, embed, queries: None, vocabulary, answers: 7 }
}

/// After the ramp, where alpha is all of `distill`.
const LATE: Progress = Progress { step: 50, steps: 100, steps_per_epoch: 10 };

fn step<'a>(batch: &'a Batch, student: &'a Given, teacher: Option<&'a Given>) -> Step<'a> {
    Step::new(batch, student, teacher.map(|teacher| teacher as _), LATE, 1)
}

#[test]
fn itc_is_clips() {
    let golden = Golden::read("itc", "");
    let (images, texts, t) = (golden.var("images"), golden.var("texts"), golden.var("t"));
    let student = Given {
        images: Some(images.as_tensor().clone()),
        texts: Some(texts.as_tensor().clone()),
        scale: Some(t.exp().unwrap()),
        ..Given::default()
    };
    let batch = batch(5, 0);
    let objective = config("itc: {}").open(&store().student(), &dims(6, 6, 9)).unwrap();
    let loss = objective.loss(&step(&batch, &student, None)).unwrap();
    golden.agrees(&loss, &[("images", &images), ("texts", &texts), ("t", &t)]);
    assert!((scalar(&loss.metrics["temperature"]) - 0.07).abs() < 1e-6);
}

#[test]
fn itc_momentum_is_that_of_albefs_released_code() {
    for (length, alpha) in [(0, 0.0), (0, 0.4), (0, 1.0), (8, 0.0), (8, 0.4), (8, 1.0)] {
        let golden = Golden::read("itc_momentum", &format!("queue {length}, alpha {alpha:.1}/"));
        let (images, texts) = (golden.var("images"), golden.var("texts"));
        let temperature = golden.var("temperature");
        let student = Given {
            images: Some(images.as_tensor().clone()),
            texts: Some(texts.as_tensor().clone()),
            scale: Some(temperature.recip().unwrap()),
            ..Given::default()
        };
        let teacher = Given {
            images: Some(golden.get("slow_images")),
            texts: Some(golden.get("slow_texts")),
            ..Given::default()
        };
        let store = store();
        let config = config(&format!("itc_momentum: {{queue: {length}, distill: {alpha}}}"));
        let mut objective = config.open(&store.student(), &dims(6, 6, 9)).unwrap();
        let entries = store.entries();
        if length > 0 {
            for (buffer, golden_name) in [("images", "image_queue"), ("texts", "text_queue")] {
                entries[&format!("itc_momentum.{buffer}.rows")].var.set(&golden.get(golden_name)).unwrap();
            }
        }
        let batch = batch(4, 0);
        let step = step(&batch, &student, Some(&teacher));
        let loss = objective.loss(&step).unwrap();
        golden.agrees(&loss, &[("images", &images), ("texts", &texts), ("temperature", &temperature)]);
        assert!((scalar(&loss.metrics["alpha"]) - alpha).abs() < 1e-6);

        objective.after(&step).unwrap();
        if length > 0 {
            let newest = entries["itc_momentum.images.rows"].var.narrow(0, 0, 4).unwrap();
            assert_close(&newest, &golden.get("slow_images"), 0.0);
            let oldest = entries["itc_momentum.texts.rows"].var.narrow(0, 4, 4).unwrap();
            assert_close(&oldest, &golden.get("text_queue").narrow(0, 4, 4).unwrap(), 0.0);
        }
    }
}

#[test]
fn itm_is_that_of_albefs_released_code() {
    let golden = Golden::read("itm", "");
    let (image_tokens, text_tokens) = (golden.var("image_tokens"), golden.var("text_tokens"));
    let student = Given {
        images: Some(golden.get("images")),
        texts: Some(golden.get("texts")),
        scale: Some(Tensor::new(1.0f32 / 0.07, &Device::Cpu).unwrap()),
        image_tokens: Some(image_tokens.as_tensor().clone()),
        text_tokens: Some(text_tokens.as_tensor().clone()),
        ..Given::default()
    };
    let mut batch = batch(4, 0);
    (batch.image_keys, batch.caption_keys) = (vec![0, 1, 0, 1], vec![0, 1, 1, 0]);
    for negatives in ["hard", "random"] {
        let store = store();
        let config = config(&format!("itm: {{negatives: {negatives}}}"));
        let objective = config.open(&store.student(), &dims(6, 6, 9)).unwrap();
        let entries = store.entries();
        let (weight, bias) = (&entries["itm.head.weight"].var, &entries["itm.head.bias"].var);
        weight.set(&golden.get("weight")).unwrap();
        bias.set(&golden.get("bias")).unwrap();
        let step = step(&batch, &student, None);
        let loss = objective.loss(&step).unwrap();
        golden.agrees(
            &loss,
            &[
                ("image_tokens", &image_tokens),
                ("text_tokens", &text_tokens),
                ("weight", weight),
                ("bias", bias),
            ],
        );

        let head = itm::Head::open(&store.detached().at("itm"), &dims(6, 6, 9)).unwrap();
        let odds = head.scores(&step.student.pooled().unwrap()).unwrap().exp().unwrap();
        let probability = (&odds / (&odds + 1.0).unwrap()).unwrap();
        assert_close(&probability, &golden.get("match_probability"), 1e-5);
    }
}

#[test]
fn mlm_is_that_of_albefs_released_code() {
    for alpha in [0.0, 0.4, 1.0] {
        let golden = Golden::read("mlm", &format!("alpha {alpha:.1}/"));
        let (hidden, decoder) = (golden.var("hidden"), golden.var("decoder"));
        let student = Given {
            text_tokens: Some(hidden.as_tensor().clone()),
            decoder: Some(decoder.as_tensor().clone()),
            ..Given::default()
        };
        let teacher = Given {
            text_tokens: Some(golden.get("slow_hidden")),
            decoder: Some(golden.get("slow_decoder")),
            ..Given::default()
        };
        let mut batch = batch(3, 0);
        batch.text.ids = golden.get("ids");
        batch.word_starts = vec![1; 18];
        let config = config(&format!("mlm: {{probability: 1, distill: {alpha}}}"));
        let objective = config.open(&store().student(), &dims(5, 0, 17)).unwrap();
        let loss = objective.loss(&step(&batch, &student, Some(&teacher))).unwrap();
        golden.agrees(&loss, &[("hidden", &hidden), ("decoder", &decoder)]);
        assert_eq!(scalar(&loss.metrics["masked"]), 1.0);
    }
}

#[test]
fn itc_sigmoid_is_siglips_and_begins_as_it_does() {
    for case in ["first/", "later/"] {
        let golden = Golden::read("itc_sigmoid", case);
        let (images, texts) = (golden.var("images"), golden.var("texts"));
        let student = Given {
            images: Some(images.as_tensor().clone()),
            texts: Some(texts.as_tensor().clone()),
            ..Given::default()
        };
        let store = store();
        let objective = config("itc_sigmoid: {}").open(&store.student(), &dims(6, 6, 9)).unwrap();
        let entries = store.entries();
        let (t_prime, b) = (&entries["itc_sigmoid.t_prime"].var, &entries["itc_sigmoid.b"].var);
        if case == "later/" {
            t_prime.set(&golden.get("t_prime")).unwrap();
            b.set(&golden.get("b")).unwrap();
        }
        let batch = batch(5, 0);
        let loss = objective.loss(&step(&batch, &student, None)).unwrap();
        golden.agrees(&loss, &[("images", &images), ("texts", &texts), ("t_prime", t_prime), ("b", b)]);
    }
}

/// The loss and the gradients of a head at its given values, and of what it classifies.
#[track_caller]
fn head_agrees(
    entry: &str,
    golden: &Golden,
    dims: Dims,
    given: (&Batch, &Given),
    leaves: &[(&str, &Tensor)],
) {
    let store = store();
    let config = config(entry);
    let objective = config.open(&store.student(), &dims).unwrap();
    let own = golden.set(&store.entries(), &format!("{}.head.", config.name()));
    let own = own.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let vars: Vec<(&str, &Tensor)> = own.chain(leaves.iter().copied()).collect();
    let (batch, student) = given;
    golden.agrees(&objective.loss(&step(batch, student, None)).unwrap(), &vars);
}

#[test]
fn answers_are_learnt_as_uniter_and_vilt_learn_them() {
    let mut batch = batch(5, 0);
    batch.answers = vec![3, 0, 6, 3, 1];
    for (case, entry) in [("binary/", "answer: {}"), ("softmax/", "answer: {loss: softmax}")] {
        let golden = Golden::read("answer", case);
        let tokens = golden.var("text_tokens");
        let student = Given { text_tokens: Some(tokens.as_tensor().clone()), ..Given::default() };
        head_agrees(entry, &golden, dims(6, 4, 9), (&batch, &student), &[("text_tokens", &tokens)]);
    }
    let golden = Golden::read("answer", "embeds/");
    let (images, texts) = (golden.var("images"), golden.var("texts"));
    let student = Given {
        images: Some(images.as_tensor().clone()),
        texts: Some(texts.as_tensor().clone()),
        ..Given::default()
    };
    let leaves: [(&str, &Tensor); 2] = [("images", &images), ("texts", &texts)];
    head_agrees("answer: {from: embeds}", &golden, dims(6, 4, 9), (&batch, &student), &leaves);
}

#[test]
fn verdicts_are_learnt_as_in_albefs_released_code() {
    let golden = Golden::read("entail", "");
    let tokens = golden.var("text_tokens");
    let student = Given { text_tokens: Some(tokens.as_tensor().clone()), ..Given::default() };
    let mut batch = batch(5, 0);
    batch.answers = vec![0, 2, 1, 1, 0];
    let dims = Dims { answers: 3, ..dims(6, 0, 9) };
    head_agrees("entail: {}", &golden, dims, (&batch, &student), &[("text_tokens", &tokens)]);
}

#[test]
fn statements_about_two_images_are_learnt_as_in_vilts_released_code() {
    let golden = Golden::read("pair", "");
    let tokens = golden.var("text_tokens");
    let student = Given { text_tokens: Some(tokens.as_tensor().clone()), sees: true, ..Given::default() };
    let mut batch = batch(5, 0);
    batch.answers = vec![1, 0, 0, 1, 1];
    batch.image.pixels = Some(golden.get("first"));
    let second = batch.second.as_mut().unwrap();
    second.image.pixels = Some(golden.get("second"));
    let dims = Dims { answers: 2, ..dims(16, 0, 9) };
    head_agrees("pair: {}", &golden, dims, (&batch, &student), &[("text_tokens", &tokens)]);
}

#[test]
fn regions_are_chosen_as_in_uniters_released_code() {
    let golden = Golden::read("ground", "");
    let tokens = golden.var("image_tokens");
    let student = Given {
        image_tokens: Some(tokens.as_tensor().clone()),
        image_mask: Some(golden.get("mask")),
        text_tokens: Some(golden.get("image_tokens")),
        ..Given::default()
    };
    let mut batch = batch(5, 0);
    batch.targets = vec![3, 0, 1, 2, 2];
    head_agrees("ground: {}", &golden, dims(6, 0, 9), (&batch, &student), &[("image_tokens", &tokens)]);
}
