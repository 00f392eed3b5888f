//! Values and gradients against PyTorch; `tests/golden/<objective>.py` made the numbers.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var, safetensors};
use vlp_bench::kernels::random::Key;
use vlp_bench::kernels::{Ipot, ipot};
use vlp_bench::models::store::Entry;
use vlp_bench::models::{Dims, Regions, Store};
use vlp_bench::objectives::{Batch, Loss, Objective, Progress, Step, itm, patches};

use super::given::Given;
use super::tiny::DIMS;
use super::{assert_close, batch, config, flat, scalar, store};

/// The tensors of a fixture, of one case of it where it has several.
struct Golden(BTreeMap<String, Tensor>, String);

impl Golden {
    fn read(name: &str, case: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.safetensors"));
        let tensors = safetensors::load(file, &Device::Cpu).unwrap();
        let mine = |(name, tensor): (String, Tensor)| Some((name.strip_prefix(case)?.to_owned(), tensor));
        Self(tensors.into_iter().filter_map(mine).collect(), name.to_owned())
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

    /// Gives every parameter in the store its value in the fixture.
    fn fill(&self, store: &Store) {
        for (name, entry) in store.entries() {
            entry.var.set(&self.get(&name)).unwrap();
        }
    }

    /// [`Golden::agrees`] for `vars` and every parameter in the store that the loss may change.
    #[track_caller]
    fn agrees_with(&self, store: &Store, loss: &Loss, vars: &[(&str, &Tensor)]) {
        let entries = store.entries();
        let trained = entries.iter().filter(|(name, _)| self.0.contains_key(&format!("{name}.grad")));
        let all: Vec<(&str, &Tensor)> = trained
            .map(|(name, entry)| (name.as_str(), entry.var.as_tensor()))
            .chain(vars.iter().copied())
            .collect();
        self.agrees(loss, &all);
    }

    /// The loss to 1e-5 and the gradients of `vars` to 1e-4 of the greatest.
    #[track_caller]
    fn agrees(&self, loss: &Loss, vars: &[(&str, &Tensor)]) {
        assert_close(&loss.value, &self.get("loss"), 1e-5);
        let grads = loss.value.backward().unwrap();
        let mut most = 0.0f64;
        for (name, var) in vars {
            let (got, expected) = (grads.get(var).unwrap(), self.get(&format!("{name}.grad")));
            assert_close(got, &expected, 1e-4);
            most = most.max(error(got, &expected));
        }
        // `cargo test golden -- --nocapture | grep golden:` prints the table of tests/golden/README.md anew.
        println!("golden: {:14} {:.1e} {most:.1e}", self.1, error(&loss.value, &self.get("loss")));
        for (name, value) in &loss.metrics {
            if let Some(expected) = self.0.get(*name) {
                assert_close(value, expected, 1e-6);
            }
        }
    }
}

/// The greatest difference as a share of the greatest element.
fn error(got: &Tensor, expected: &Tensor) -> f64 {
    let (got, expected) = (flat(got), flat(expected));
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |scale, x| scale.max(x.abs()));
    got.iter().zip(&expected).fold(0.0, |most: f64, (got, expected)| most.max((got - expected).abs() / scale))
}

/// Sets parameters to what a fixture holds under the names beside theirs.
fn set(store: &Store, golden: &Golden, names: &[(&str, &str)]) -> Vec<(String, Var)> {
    let entries = store.entries();
    let set = |(ours, theirs): &(&str, &str)| {
        entries[*ours].var.set(&golden.get(theirs)).unwrap();
        ((*theirs).to_owned(), entries[*ours].var.clone())
    };
    names.iter().map(set).collect()
}

fn dims(width: usize, embed: usize, vocabulary: usize) -> Dims {
    Dims { width, embed, vocabulary, image: width, answers: 7, ..DIMS }
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
fn itc_of_several_queries_an_image_with_smoothed_labels_is_that_of_blip2s_released_code() {
    let golden = Golden::read("itc", "queries/");
    let (images, texts) = (golden.var("images"), golden.var("texts"));
    let temperature = golden.var("temperature");
    let student = Given {
        images: Some(images.as_tensor().clone()),
        texts: Some(texts.as_tensor().clone()),
        scale: Some(temperature.recip().unwrap()),
        ..Given::default()
    };
    let batch = batch(5, 0);
    let config = config("itc: {label_smoothing: 0.1}");
    let objective = config.open(&store().student(), &dims(6, 6, 9)).unwrap();
    let loss = objective.loss(&step(&batch, &student, None)).unwrap();
    golden.agrees(&loss, &[("images", &images), ("texts", &texts), ("temperature", &temperature)]);
}

#[test]
fn itc_momentum_with_every_key_of_an_image_is_that_of_retrieval_fine_tuning() {
    for alpha in [0.0, 0.4] {
        let golden = Golden::read("itc_momentum", &format!("image, alpha {alpha:.1}/"));
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
        let config = config(&format!("itc_momentum: {{queue: 8, distill: {alpha}, positives: image}}"));
        let mut objective = config.open(&store.student(), &dims(6, 6, 9)).unwrap();
        let mut batch = batch(4, 0);
        // The queue learns which images it holds as in training: from the batches before.
        for keys in [[8, 1, 9, 2], [3, 8, 4, 5]] {
            batch.image_keys = keys.to_vec();
            objective.after(&step(&batch, &student, Some(&teacher))).unwrap();
        }
        for (buffer, golden_name) in [("images", "image_queue"), ("texts", "text_queue")] {
            let rows = &store.entries()[&format!("itc_momentum.{buffer}.rows")].var;
            rows.set(&golden.get(golden_name)).unwrap();
        }
        batch.image_keys = vec![7, 8, 7, 9];
        let loss = objective.loss(&step(&batch, &student, Some(&teacher))).unwrap();
        golden.agrees(&loss, &[("images", &images), ("texts", &texts), ("temperature", &temperature)]);
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
        // What the words alone give is judged in the same way.
        let alone = super::config(&format!("mlm: {{probability: 1, context: none, distill: {alpha}}}"));
        let objective = alone.open(&store().student(), &dims(5, 0, 17)).unwrap();
        let loss = objective.loss(&step(&batch, &student, Some(&teacher))).unwrap();
        golden.agrees(&loss, &[("hidden", &hidden), ("decoder", &decoder)]);
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

/// Three pairs whose images have the regions that `there` (B,N) marks.
fn with_regions(there: &Tensor, features: Option<Tensor>, classes: Option<Tensor>) -> Batch {
    let (rows, count) = there.dims2().unwrap();
    let zeros = |width| Tensor::zeros((rows, count, width), there.dtype(), &Device::Cpu).unwrap();
    let features = features.unwrap_or_else(|| zeros(1));
    let mut batch = batch(rows, 0);
    batch.image.regions = Some(Regions { features, boxes: zeros(7), mask: there.clone() });
    batch.region_classes = classes;
    batch
}

#[test]
fn mrfr_is_that_of_uniters_released_code() {
    let golden = Golden::read("regions", "mrfr/");
    let (states, weight, bias) = (golden.var("states"), golden.var("weight"), golden.var("bias"));
    let student = Given {
        text_tokens: Some(golden.get("states")),
        states: Some(states.as_tensor().clone()),
        regions: Some([weight.as_tensor().clone(), bias.as_tensor().clone()]),
        ..Given::default()
    };
    let batch = with_regions(&golden.get("there"), Some(golden.get("features")), None);
    let objective = config("mrfr: {probability: 1}").open(&store().student(), &dims(6, 0, 9)).unwrap();
    let loss = objective.loss(&step(&batch, &student, None)).unwrap();
    golden.agrees(&loss, &[("states", &states), ("weight", &weight), ("bias", &bias)]);
    assert_eq!(scalar(&loss.metrics["masked"]), 1.0);
}

#[test]
fn mrc_and_mrc_kl_are_those_of_uniters_released_code() {
    for (case, entry) in [
        ("mrc/", "mrc: {probability: 1}"),
        ("mrc_background/", "mrc: {probability: 1, background: true}"),
        ("mrc_kl/", "mrc_kl: {probability: 1}"),
        ("mrc_kl_mean/", "mrc_kl: {probability: 1, mean_over_classes: true}"),
    ] {
        let golden = Golden::read("regions", case);
        let states = golden.var("states");
        let student = Given {
            text_tokens: Some(golden.get("states")),
            states: Some(states.as_tensor().clone()),
            ..Given::default()
        };
        let batch = with_regions(&golden.get("there"), None, Some(golden.get("beliefs")));
        let store = store();
        let dims = Dims { region_classes: 8, ..dims(6, 0, 9) };
        let objective = config(entry).open(&store.student(), &dims).unwrap();
        let names = [
            ("mrc.transform.weight", "transform.weight"),
            ("mrc.transform.bias", "transform.bias"),
            ("mrc.norm.gain", "norm.weight"),
            ("mrc.norm.bias", "norm.bias"),
            ("mrc.head.weight", "head.weight"),
            ("mrc.head.bias", "head.bias"),
        ];
        let parameters = set(&store, &golden, &names);
        let mut vars: Vec<(&str, &Tensor)> = vec![("states", &states)];
        vars.extend(parameters.iter().map(|(name, var)| (name.as_str(), var.as_tensor())));
        let loss = objective.loss(&step(&batch, &student, None)).unwrap();
        golden.agrees(&loss, &vars);
    }
}

/// The loss of `itm` and that of an alignment weighed by 0.1, in both orders.
#[track_caller]
fn alignment_agrees(fixture: &str, case: &str, alignment: &str, itm: &str, regions: bool) {
    let golden = Golden::read(fixture, case);
    let (words, image) = (golden.var("words"), golden.var("image"));
    let student = Given {
        text_tokens: Some(words.as_tensor().clone()),
        image_tokens: Some(image.as_tensor().clone()),
        states: Some(image.as_tensor().clone()),
        ..Given::default()
    };
    let mut batch = match regions {
        true => with_regions(&golden.get("there"), None, None),
        false => batch(3, 0),
    };
    // Of the third pair nothing in the batch is certainly apart.
    (batch.image_keys, batch.caption_keys) = (vec![0, 1, 0], vec![0, 1, 1]);
    batch.text.mask = golden.get("word_mask");
    let name = alignment.split(':').next().unwrap();
    for reversed in [false, true] {
        let store = store();
        let open = |entry| config(entry).open(&store.student(), &dims(6, 0, 9)).unwrap();
        let both: [(f64, Box<dyn Objective>); 2] = [(1.0, open(itm)), (0.1, open(alignment))];
        set(&store, &golden, &[("itm.head.weight", "weight"), ("itm.head.bias", "bias")]);
        student.read.borrow_mut().clear();
        let step = step(&batch, &student, None);
        let order = if reversed { [1, 0] } else { [0, 1] };
        order.iter().for_each(|&at| both[at].1.before(&step));
        let losses = order.map(|at| (at, both[at].1.loss(&step).unwrap()));
        assert_eq!(student.read.borrow().len(), 1, "both read one pass");
        let mut total = Tensor::zeros((), words.dtype(), &Device::Cpu).unwrap();
        for (at, loss) in &losses {
            total = (total + (&loss.value * both[*at].0).unwrap()).unwrap();
            let expected = golden.get(if *at == 0 { "itm" } else { name });
            assert_close(&loss.value, &expected, 1e-5);
        }
        let entries = store.entries();
        golden.agrees(
            &Loss::new(total),
            &[
                ("words", &words),
                ("image", &image),
                ("weight", &entries["itm.head.weight"].var),
                ("bias", &entries["itm.head.bias"].var),
            ],
        );
    }
}

const REPLACED: &str = "itm: {negatives: random, replace: image, share: 0.9999999}";

#[test]
fn wra_beside_itm_is_that_of_uniters_released_code() {
    alignment_agrees("regions", "wra/", "wra: {}", REPLACED, true);
    alignment_agrees("regions", "wra_matched_only/", "wra: {matched_only: true}", REPLACED, true);
}

#[test]
fn wpa_beside_itm_is_that_of_vilts_released_code() {
    let exact = REPLACED.replace('}', ", exact: true}");
    alignment_agrees("wpa", "", "wpa: {}", &exact, false);
}

#[test]
fn a_plan_approaches_the_exact_one_as_iterations_grow() {
    let golden = Golden::read("regions", "transport/");
    let (costs, plans) = (golden.get("costs"), flat(&golden.get("plans")));
    let apart = |iterations| {
        let settings = Ipot { iterations, ..Ipot::default() };
        let plan = ipot(&costs, &golden.get("rows"), &golden.get("columns"), settings).unwrap();
        flat(&plan).iter().zip(&plans).fold(0f64, |most, (plan, exact)| most.max((plan - exact).abs()))
    };
    let differences = [10, 50, 250, 1250, 6250, 31_250].map(apart);
    assert!(differences.is_sorted_by(|fewer, more| fewer > more), "{differences:?}");
    assert!(differences[5] < 1e-6, "{differences:?}");
}

#[test]
fn mlm_and_tag_match_are_those_of_oscars_released_code_on_one_pass() {
    for (case, mlm, captions) in [
        ("tags/", "mlm: {probability: 1}", 0.0),
        ("captions/", "mlm: {probability: 1}", 0.999_999_9),
        ("unmatched/", "mlm: {probability: 1, unmatched: false}", 0.0),
    ] {
        let golden = Golden::read("tag_match", case);
        let (hidden, decoder) = (golden.var("hidden"), golden.var("decoder"));
        let student = Given {
            text_tokens: Some(hidden.as_tensor().clone()),
            decoder: Some(decoder.as_tensor().clone()),
            ..Given::default()
        };
        let mut batch = batch(3, 0);
        batch.text.ids = golden.get("ids");
        batch.text.segments = golden.get("segments");
        batch.text.mask = batch.text.ids.ne(0u32).unwrap().to_dtype(hidden.dtype()).unwrap();
        batch.word_starts = flat(&batch.text.ids).iter().map(|&id| u8::from(id > 4.0)).collect();
        // The third pair has no tags, and no caption of the batch is certainly not its own.
        (batch.image_keys, batch.caption_keys) = (vec![0, 1, 0], vec![0, 1, 1]);
        let store = store();
        let open = |entry: &str| config(entry).open(&store.student(), &dims(5, 0, 17)).unwrap();
        let tag_match = format!("tag_match: {{polluted: 0.9999999, captions: {captions}}}");
        let both = [open(mlm), open(&tag_match)];
        set(&store, &golden, &[("tag_match.head.weight", "weight"), ("tag_match.head.bias", "bias")]);
        let step = step(&batch, &student, None);
        both.iter().for_each(|objective| objective.before(&step));
        let [words, tags] = both.each_ref().map(|objective| objective.loss(&step).unwrap().value);
        assert_eq!(student.read.borrow().len(), 1, "both read one pass");
        assert_close(&words, &golden.get("mlm"), 1e-5);
        assert_close(&tags, &golden.get("tag_match"), 1e-5);
        let entries = store.entries();
        golden.agrees(
            &Loss::new((words + tags).unwrap()),
            &[
                ("hidden", &hidden),
                ("decoder", &decoder),
                ("weight", &entries["tag_match.head.weight"].var),
                ("bias", &entries["tag_match.head.bias"].var),
            ],
        );
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

#[test]
fn lm_with_smoothed_labels_and_a_prompt_is_that_of_blips_released_code() {
    for (smoothing, prompt) in [(0.0, 0), (0.0, 3), (0.1, 0), (0.1, 3)] {
        let golden = Golden::read("lm", &format!("smoothing {smoothing:.1}, prompt {prompt}/"));
        let (hidden, decoder) = (golden.var("hidden"), golden.var("decoder"));
        let student = Given {
            text_tokens: Some(hidden.as_tensor().clone()),
            decoder: Some(decoder.as_tensor().clone()),
            ..Given::default()
        };
        let mut batch = batch(3, 0);
        (batch.text.ids, batch.text.mask) = (golden.get("ids"), golden.get("mask"));
        let config = config(&format!("lm: {{label_smoothing: {smoothing}, prompt: {prompt}}}"));
        let objective = config.open(&store().student(), &dims(5, 0, 17)).unwrap();
        let loss = objective.loss(&step(&batch, &student, None)).unwrap();
        golden.agrees(&loss, &[("hidden", &hidden), ("decoder", &decoder)]);
    }
}

/// A model of given image tokens, and the fixture's pixels.
fn images(golden: &Golden, tokens: &Tensor, pairs: usize) -> (Given, Batch) {
    let words = Tensor::zeros((pairs, super::WORDS, 1), DType::F32, &Device::Cpu).unwrap();
    let (image_tokens, text_tokens) = (Some(tokens.clone()), Some(words));
    let mut batch = batch(pairs, 0);
    if let Some(pixels) = golden.0.get("pixels") {
        batch.image.pixels = Some(pixels.clone());
    }
    (Given { image_tokens, text_tokens, ..Given::default() }, batch)
}

#[test]
fn mpp_is_that_of_vilts_released_code() {
    let golden = Golden::read("mpp", "");
    let tokens = golden.var("image_tokens");
    let (student, batch) = images(&golden, &tokens, 3);
    let store = store();
    let dims = Dims { patch: 4, ..dims(6, 0, 9) };
    let objective = config("mpp: {probability: 1}").open(&store.student(), &dims).unwrap();
    golden.fill(&store);
    let loss = objective.loss(&step(&batch, &student, None)).unwrap();
    golden.agrees_with(&store, &loss, &[("image_tokens", &tokens)]);
}

const TOKENIZER: &str = "tokenizer: {codes: 5, width: 6, depth: 2}";

#[test]
fn dvae_is_that_of_ramesh_et_al_on_single_patches() {
    let golden = Golden::read("dvae", "");
    let (student, mut batch) = (Given::default(), batch(2, 0));
    batch.image.pixels = Some(golden.get("pixels"));
    let store = store();
    let dims = Dims { patch: 4, ..dims(6, 0, 9) };
    let objective = config(&format!("dvae: {{{TOKENIZER}}}")).open(&store.student(), &dims).unwrap();
    golden.fill(&store);
    let loss = objective.loss(&step(&batch, &student, None)).unwrap();
    golden.agrees_with(&store, &loss, &[]);
}

#[test]
fn mim_tells_codes_as_beit_does_and_pixels_as_mae_does() {
    for target in ["codes", "pixels"] {
        let golden = Golden::read("mim", &format!("{target}/"));
        let tokens = golden.var("image_tokens");
        let (student, batch) = images(&golden, &tokens, 2);
        let store = store();
        let dims = Dims { patch: 4, image: 7, ..dims(5, 0, 9) };
        let config = config(&format!("mim: {{target: {target}, share: 1, masking: scattered, {TOKENIZER}}}"));
        let objective = config.open(&store.student(), &dims).unwrap();
        golden.fill(&store);
        let loss = objective.loss(&step(&batch, &student, None)).unwrap();
        golden.agrees_with(&store, &loss, &[("image_tokens", &tokens)]);
        assert_eq!(student.shown.borrow().as_slice(), [[1.0; 8]]);
    }
}

#[test]
fn blocks_hide_as_many_patches_and_as_often_each_as_beits_generator() {
    let golden = Golden::read("mim", "blocks/");
    const DRAWS: u64 = 2_000;
    let (mut counts, mut shares) = (Vec::new(), vec![0.0; 196]);
    for draw in 0..DRAWS {
        let hidden = patches::blocks([14, 14], 0.4, Key::new(1, draw, "blocks"));
        counts.push(hidden.iter().filter(|&&hidden| hidden).count() as f64);
        shares
            .iter_mut()
            .zip(hidden)
            .for_each(|(share, hidden)| *share += f64::from(u8::from(hidden)) / DRAWS as f64);
    }
    let (mean, deviation) = (scalar(&golden.get("mean")), scalar(&golden.get("deviation")));
    let got = counts.iter().sum::<f64>() / DRAWS as f64;
    assert!((got - mean).abs() < 5.0 * deviation / (DRAWS as f64).sqrt(), "{got}, expected {mean}");
    assert!(counts.iter().all(|&count| count <= 78.0));
    for (patch, (got, expected)) in shares.iter().zip(flat(&golden.get("shares"))).enumerate() {
        // Five standard deviations of 2,000 draws and of the reference's 20,000.
        let tolerance = 5.0 * (expected * (1.0 - expected) * (1.0 / DRAWS as f64 + 1.0 / 20_000.0)).sqrt();
        assert!((got - expected).abs() < tolerance, "patch {patch}: {got}, expected {expected}");
    }
}

#[test]
fn bow_is_the_softmax_of_joulin_et_al() {
    let golden = Golden::read("bow", "");
    let tokens = golden.var("image_tokens");
    let (student, mut batch) = images(&golden, &tokens, 3);
    batch.text.ids = golden.get("ids");
    let store = store();
    let objective = config("bow: {}").open(&store.student(), &dims(6, 0, 11)).unwrap();
    golden.fill(&store);
    let loss = objective.loss(&step(&batch, &student, None)).unwrap();
    golden.agrees_with(&store, &loss, &[("image_tokens", &tokens)]);
}

#[test]
fn caption_is_virtexs_decoder_from_left_to_right() {
    let golden = Golden::read("caption", "");
    let tokens = golden.var("image_tokens");
    let (student, mut batch) = images(&golden, &tokens, 3);
    (batch.text.ids, batch.text.mask) = (golden.get("ids"), golden.get("mask"));
    let store = store();
    let dims = Dims { words: 6, ..dims(8, 0, 17) };
    let config = config("caption: {decoder: {width: 8, depth: 2, heads: 2}}");
    let objective = config.open(&store.student(), &dims).unwrap();
    golden.fill(&store);
    let loss = objective.loss(&step(&batch, &student, None)).unwrap();
    golden.agrees_with(&store, &loss, &[("image_tokens", &tokens)]);
}
