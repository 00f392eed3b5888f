//! Every cell of models x objectives. A legal one trains, and its gradient reaches what the abilities it needs are made
//! of, all of that and nothing else; an illegal one is refused in the words of both sides. The lists of models and
//! objectives are those of the registries, so a new part is tested without a line here.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Result, Tensor, bail};
use vlp_bench::kernels::optim::{AdamW, adamw_};
use vlp_bench::kernels::random::Key;
use vlp_bench::kernels::{Precision, Tape};
use vlp_bench::models::store::Role;
use vlp_bench::models::{self, Ability, Attend, Dims, Field, Image, Inputs, Model, Store, Text, View};
use vlp_bench::objectives::{self, Batch, Loss, Objective, Reading, Reason, Step};
use vlp_bench::token::{SEP, Specials, UNK};

use super::{at, flat, random_batch, scalar, with_tags};
use crate::places::{On, everywhere};

const INPUTS: Inputs = Inputs {
    size: 32,
    words: 10,
    vocabulary: 40,
    specials: Specials::SHIPPED,
    region_features: 12,
    region_classes: 7,
    answers: 4,
};
const PAIRS: usize = 6;

/// Settings beside the defaults under which an objective takes another path.
const VARIANTS: [&str; 19] = [
    "answer: {loss: softmax}",
    "answer: {from: causal}",
    "answer: {from: embeds}",
    "entail: {from: embeds}",
    "pair: {from: embeds}",
    "itm: {negatives: random}",
    "itm: {negatives: random, replace: image}",
    "mlm: {masking: joint, every_text: true}",
    "mrfr: {masking: joint}",
    "tag_match: {captions: 0.25}",
    "mlm: {distill: 0.4, whole_word: true}",
    "itc_momentum: {queue: 0, distill: 0}",
    "itc_momentum: {queue: 9}",
    "itc_momentum: {queue: 9, positives: image}",
    "itm: {groups: 2, floor: 1e-4}",
    "itc: {label_smoothing: 0.1}",
    "lm: {label_smoothing: 0.1, prompt: 1}",
    // Many hidden words: stochastic depth leaves some examples out of a half of a layer.
    "mlm: {context: none, probability: 0.5, distill: 0.4}",
    "mim: {target: pixels, masking: scattered}",
];

fn every_objective() -> Vec<objectives::Config> {
    let variants = VARIANTS.iter().map(|entry| serde_yaml::from_str(entry).unwrap());
    objectives::Config::all().into_iter().chain(variants).collect()
}

type Names = BTreeSet<String>;

/// The names of trainable parameters that `loss` has a gradient for. Fails on a gradient that is not finite, and where
/// a tape and candle's own graph disagree.
fn touched(store: &Store, loss: impl Fn() -> Tensor) -> Names {
    let tape = Tape::record();
    let gradients = tape.backward(&loss()).unwrap();
    let graph = loss().backward().unwrap();
    for (name, entry) in store.entries() {
        match (gradients.get(&entry.var), graph.get(&entry.var)) {
            (Some(tape), Some(graph)) => {
                let (tape, graph) = (flat(tape), flat(graph));
                let most = graph.iter().fold(1e-3f64, |most, g| most.max(g.abs()));
                let near = tape.iter().zip(&graph).all(|(tape, graph)| (tape - graph).abs() < 1e-4 * most);
                assert!(near, "{name}: the tape's gradient is not the graph's");
            }
            (tape, graph) => assert_eq!(tape.is_some(), graph.is_some(), "{name}"),
        }
    }
    assert!(store.of(Role::Teacher).values().all(|entry| gradients.get(&entry.var).is_none()));
    let reached = |(name, entry): (String, models::store::Entry)| {
        let gradient = flat(gradients.get(&entry.var)?);
        assert!(gradient.iter().all(|g| g.is_finite()), "{name}: a gradient is not finite");
        gradient.iter().any(|&g| g != 0.0).then_some(name)
    };
    store.of(Role::Trainable).into_iter().filter_map(reached).collect()
}

/// One model with what each of its abilities is made of.
struct Subject {
    config: models::Config,
    dims: Dims,
    batch: Batch,
}

impl Subject {
    fn all() -> Vec<Self> {
        let subject = |config: models::Config| {
            assert_eq!(config.faults(&INPUTS), Vec::<String>::new(), "{}", config.name());
            Self { dims: config.dims(&INPUTS), batch: Self::batch(&config, PAIRS, 5), config }
        };
        models::Config::all().into_iter().map(subject).collect()
    }

    /// Random pairs, with tags where the model reads them.
    fn batch(config: &models::Config, pairs: usize, seed: u64) -> Batch {
        let batch = random_batch(&INPUTS, pairs, seed);
        if config.reads().contains(&Field::Tags) { with_tags(batch) } else { batch }
    }

    /// Why an objective cannot train the model.
    fn refuses(&self, objective: &objectives::Config) -> Vec<Reason> {
        objectives::fits(objective, self.config.name(), &*self.config)
    }

    fn build(&self, store: &Store) -> Box<dyn Model> {
        self.config.build(&store.student(), &INPUTS).unwrap()
    }

    /// What the model computes for `ability`; an error where it cannot.
    fn compute(&self, model: &dyn Model, ability: Ability) -> Result<Vec<Tensor>> {
        let reading = Reading::new(model, &self.batch, None);
        let shape = (PAIRS, INPUTS.words, self.dims.width);
        let hidden = Key::new(1, 0, "hidden").normal(PAIRS * INPUTS.words * self.dims.width);
        let hidden = Tensor::from_vec(hidden, shape, &Device::Cpu)?;
        Ok(match ability {
            Ability::ImageTokens => vec![model.image_tokens(&reading.image)?.hidden],
            Ability::TextTokens => vec![self.read_both_ways(model, &reading)?],
            Ability::Embed => vec![reading.image_embeds()?, reading.text_embeds()?, reading.similarity()?],
            Ability::Fuse => vec![reading.fused()?.text.hidden.clone(), reading.fused()?.pooled.clone()],
            Ability::Generate => {
                vec![model.fuse(&reading.image, &reading.text, Attend::Causal)?.text.hidden]
            }
            Ability::FuseImage => match &reading.fused()?.image {
                Some(image) => vec![image.hidden.clone(), self.masked(model, &image.hidden)?],
                None => bail!("the joint pass leaves the image as it is"),
            },
            Ability::HidePatches => match &reading.fused()?.image {
                Some(image) if self.config.reads().contains(&Field::Pixels) => {
                    vec![image.hidden.clone(), self.masked(model, &image.hidden)?]
                }
                _ => bail!("there are no patches to hide"),
            },
            Ability::PredictWords => vec![model.predict_words(&hidden)?.dense()?],
            Ability::PredictRegions => vec![model.predict_regions(&hidden)?],
            Ability::Answer => {
                let of: Vec<u32> = (0..PAIRS as u32).collect();
                vec![model.answer(&reading.image, &reading.text, &reading.text, &of)?.hidden]
            }
        })
    }

    /// The texts alone; an error where the first token is told nothing of the last.
    fn read_both_ways(&self, model: &dyn Model, reading: &Reading) -> Result<Tensor> {
        let hidden = model.text_tokens(&reading.text)?.hidden;
        let mut ids = self.batch.text.ids.to_vec2::<u32>()?;
        ids[0].iter_mut().filter(|id| **id == SEP).for_each(|id| *id = UNK);
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let other = View::new(Text { ids, ..self.batch.text.clone() }, None);
        let other = model.text_tokens(&other)?.hidden;
        let first =
            |hidden: &Tensor| Ok::<_, candle_core::Error>(flat(&hidden.narrow(0, 0, 1)?.narrow(1, 0, 1)?));
        if first(&hidden)? == first(&other)? {
            bail!("words see those before them alone");
        }
        Ok(hidden)
    }

    /// The image tokens after a joint pass that hides every other patch or region; without one they are as `tokens`.
    fn masked(&self, model: &dyn Model, tokens: &Tensor) -> Result<Tensor> {
        // The class token of pixels cannot be hidden.
        let count = tokens.dim(1)? - usize::from(self.config.reads().contains(&Field::Pixels));
        let marks = (0..PAIRS * count).map(|place| (place % 2) as f32);
        let masked = Tensor::from_iter(marks, &Device::Cpu)?.reshape((PAIRS, count))?;
        let image = View::new(Image { masked: Some(masked), ..self.batch.image.clone() }, None);
        let fused = model.fuse(&image, &View::new(self.batch.text.clone(), None), Attend::Both)?;
        fused.image.map_or_else(|| Ok(tokens.clone()), |image| Ok(image.hidden))
    }

    /// The parameters that an objective with a gradient through `ability` must reach, and those it may.
    fn made_of(&self, ability: Ability) -> [Names; 2] {
        let store = Store::new(&Device::Cpu, 3, &[]);
        let model = self.build(&store);
        let outputs = || self.compute(model.as_ref(), ability).unwrap();
        let weighed = |index: usize| {
            let output = &outputs()[index];
            // A plain sum would not do: normalised vectors and distributions have constant sums.
            let weights = Key::new(2, 0, "cotangent").normal(output.elem_count());
            let weights = Tensor::from_vec(weights, output.shape(), &Device::Cpu).unwrap();
            (output * weights).unwrap().sum_all().unwrap()
        };
        let reached: Vec<Names> =
            (0..outputs().len()).map(|index| touched(&store, || weighed(index))).collect();
        let all = reached.concat_names();
        match ability {
            // An objective may have a scale of its own instead of the model's.
            Ability::Embed => [reached[..2].concat_names(), all],
            // It may hide none of the image.
            Ability::FuseImage => [reached[0].clone(), all],
            // Tokens of the image alone may be read as well as those of a joint pass: what both need is the vector.
            Ability::HidePatches => [&reached[1] - &reached[0], &reached[1] - &reached[0]],
            // It may read the words alone or the pooled vector alone.
            Ability::Fuse => [&reached[0] & &reached[1], all],
            _ => [all.clone(), all],
        }
    }
}

trait ConcatNames {
    fn concat_names(&self) -> Names;
}

impl ConcatNames for [Names] {
    fn concat_names(&self) -> Names {
        self.iter().flatten().cloned().collect()
    }
}

/// A legal cell in training, with the same draws at every update.
struct Trial<'a> {
    store: Store,
    batch: &'a Batch,
    model: Box<dyn Model>,
    teacher: Option<Box<dyn Model>>,
    objective: Box<dyn Objective>,
}

impl<'a> Trial<'a> {
    fn new(subject: &'a Subject, config: &objectives::Config, batch: &'a Batch) -> Self {
        let store = Store::new(batch.image.pixels.as_ref().unwrap().device(), 3, &[]);
        let model = subject.build(&store);
        let teacher =
            config.needs().teacher.then(|| subject.config.build(&store.teacher(), &INPUTS).unwrap());
        let objective = config.open(&store.student(), &subject.dims).unwrap();
        Self { store, batch, model, teacher, objective }
    }

    fn step(&self) -> Step<'_> {
        Step::new(self.batch, self.model.as_ref(), self.teacher.as_deref(), at(50), 9)
    }

    fn loss(&self) -> Loss {
        self.objective.loss(&self.step()).unwrap()
    }

    /// Losses before each of `updates` updates.
    fn train(&self, updates: u64) -> Vec<f64> {
        let entries = self.store.of(Role::Trainable);
        let zeros = |n| Tensor::zeros((2, n), DType::F32, self.store.device()).unwrap();
        let moments: Vec<Tensor> = entries.values().map(|entry| zeros(entry.var.elem_count())).collect();
        let update = |step| {
            let tape = Tape::record();
            let loss = self.loss().value;
            let gradients = tape.backward(&loss).unwrap();
            let adamw = AdamW {
                rate: 2e-4,
                beta1: 0.9,
                beta2: 0.98,
                eps: 1e-6,
                weight_decay: 0.0,
                step,
                grad_scale: 1.0,
            };
            for (entry, moments) in entries.values().zip(&moments) {
                if let Some(gradient) = gradients.get(&entry.var) {
                    adamw_(&entry.var, moments, gradient, &adamw).unwrap();
                }
            }
            self.store.enforce_bounds().unwrap();
            scalar(&loss)
        };
        (1..=updates).map(update).collect()
    }
}

#[test]
fn a_model_computes_exactly_what_its_abilities_list_in_the_stated_shapes() {
    for subject in Subject::all() {
        let name = subject.config.name();
        let model = subject.build(&Store::new(&Device::Cpu, 3, &[]));
        let Dims { width, embed, queries, vocabulary, .. } = subject.dims;
        assert_eq!(
            vocabulary, INPUTS.vocabulary,
            "{name}: an objective would draw tokens that spell no word"
        );
        let abilities = subject.config.abilities();
        for ability in Ability::ALL {
            let outputs = subject.compute(model.as_ref(), ability);
            assert_eq!(outputs.is_ok(), abilities.contains(&ability), "{name}: {ability}");
            let shapes: Vec<Vec<usize>> =
                outputs.into_iter().flatten().map(|output| output.dims().to_vec()).collect();
            let image = [vec![PAIRS], queries.into_iter().collect(), vec![embed]].concat();
            match (ability, shapes.as_slice()) {
                (_, []) => {}
                (Ability::Embed, shapes) => {
                    assert_eq!(shapes, [image, vec![PAIRS, embed], vec![PAIRS, PAIRS]], "{name}");
                }
                (Ability::Fuse, shapes) => {
                    assert_eq!(shapes, [vec![PAIRS, INPUTS.words, width], vec![PAIRS, width]], "{name}");
                }
                // Behind the vocabulary follow the tokens that a model adds for itself.
                (Ability::PredictWords, [shape]) => assert!(shape.last() >= Some(&vocabulary), "{name}"),
                (_, shapes) => assert!(shapes.iter().all(|shape| shape.len() == 3), "{name}: {ability}"),
            }
        }
    }
}

#[test]
fn legal_cells_reach_the_parameters_of_what_they_need_and_no_others() {
    for subject in Subject::all() {
        let name = subject.config.name();
        let abilities = subject.config.abilities();
        let made_of: BTreeMap<Ability, [Names; 2]> =
            abilities.iter().map(|&ability| (ability, subject.made_of(ability))).collect();
        let mut reached_by_any = Names::new();
        let mut needed_by_any = Names::new();
        for objective in every_objective() {
            let word = objective.name();
            if !subject.refuses(&objective).is_empty() {
                continue;
            }
            let trial = Trial::new(&subject, &objective, &subject.batch);
            let touched = touched(&trial.store, || trial.loss().value);
            let own = trial.store.of(Role::Trainable).into_keys();
            let own: Names =
                own.filter(|parameter| parameter.starts_with(&format!("{}.", objective.place()))).collect();
            let needs = objective.needs();
            let [must, may] = [0, 1].map(|index| {
                let trained = needs.abilities.difference(&needs.observed);
                let names: Vec<Names> = trained.map(|ability| made_of[ability][index].clone()).collect();
                &names.concat_names() | &own
            });
            assert_eq!(&must - &touched, Names::new(), "{word} leaves parts of {name} untrained");
            assert_eq!(&touched - &may, Names::new(), "{word} trains parts of {name} that it does not need");
            reached_by_any.extend(touched);
            needed_by_any.extend(may);
        }
        assert_eq!(&needed_by_any - &reached_by_any, Names::new(), "no objective trains these of {name}");

        let store = Store::new(&Device::Cpu, 3, &[]);
        subject.build(&store);
        let every: Names = store.of(Role::Trainable).into_keys().collect();
        let parts: Vec<Names> = made_of.into_values().map(|[_, may]| may).collect();
        assert_eq!(&every - &parts.concat_names(), Names::new(), "no ability of {name} depends on these");
    }
}

#[test]
fn legal_cells_learn_a_fixed_batch() {
    for subject in Subject::all() {
        for objective in every_objective() {
            if !subject.refuses(&objective).is_empty() {
                continue;
            }
            let mut trial = Trial::new(&subject, &objective, &subject.batch);
            let losses = trial.train(5);
            let (cell, last) = (format!("{} x {}", subject.config.name(), objective.name()), losses[4]);
            assert!(last.is_finite() && last < losses[0], "{cell}: {losses:?}");
            let Trial { store, batch, model, teacher, objective } = &mut trial;
            store.follow(0.5).unwrap();
            let step = Step::new(batch, model.as_ref(), teacher.as_deref(), at(51), 9);
            objective.after(&step).unwrap();
        }
    }
}

fn to(batch: &Batch, device: &Device) -> Batch {
    let to = |x: &Tensor| x.to_device(device).unwrap();
    let mut batch = batch.clone();
    batch.image.pixels = batch.image.pixels.as_ref().map(to);
    if let Some(regions) = &mut batch.image.regions {
        for x in [&mut regions.features, &mut regions.boxes] {
            *x = to(x);
        }
    }
    batch.region_classes = batch.region_classes.as_ref().map(to);
    batch.second = batch.second.map(|second| Box::new(self::to(&second, device)));
    batch
}

/// A cell that is computed twice: by the processor, and by the kernels of a GPU.
struct Cell<'a> {
    subject: &'a Subject,
    objective: objectives::Config,
    /// Updates that are compared beside the gradients.
    updates: u64,
}

impl<'a> Cell<'a> {
    /// Every ability of every model that an objective asks for, and every objective, in one cell at least: a rehearsal takes
    /// its time. The first cell of each model is trained.
    fn covering(subjects: &'a [Subject]) -> Vec<Self> {
        let mut asked = BTreeSet::new();
        let mut cells: Vec<Self> = Vec::new();
        for objective in every_objective() {
            let fitting = subjects.iter().filter(|subject| subject.refuses(&objective).is_empty());
            let fitting: Vec<&Subject> = fitting.collect();
            let named = |cells: &[Self], subject: &Subject| {
                cells.iter().filter(|cell| cell.subject.config.name() == subject.config.name()).count()
            };
            let new = |subject: &&&Subject| {
                let abilities = objective.needs().abilities;
                let name = subject.config.name();
                abilities.iter().filter(|ability| asked.insert((name, **ability))).count() > 0
            };
            let mut chosen: Vec<&Subject> = fitting.iter().filter(new).copied().collect();
            if chosen.is_empty() {
                chosen.extend(fitting.into_iter().min_by_key(|subject| named(&cells, subject)));
            }
            for subject in chosen {
                let updates = if named(&cells, subject) == 0 { 2 } else { 0 };
                cells.push(Self { subject, objective: objective.clone(), updates });
            }
        }
        cells
    }

    /// The gradient of each parameter by a tape, and the losses: its own and those before each update.
    fn computed(&self, on: On<'_>, seed: u64) -> (BTreeMap<String, Vec<f64>>, Vec<f64>) {
        let batch = to(&Subject::batch(&self.subject.config, 3, seed), &on.device());
        on.run(|| {
            let trial = Trial::new(self.subject, &self.objective, &batch);
            let tape = Tape::record();
            let loss = trial.loss().value;
            let gradients = tape.backward(&loss)?;
            let found = |(name, entry): (String, models::store::Entry)| {
                Some((name, flat(gradients.get(&entry.var)?)))
            };
            let found = trial.store.of(Role::Trainable).into_iter().filter_map(found).collect();
            let losses = std::iter::once(scalar(&loss)).chain(trial.train(self.updates));
            Ok((found, losses.collect()))
        })
    }
}

#[test]
fn legal_cells_compute_on_a_gpu_what_they_compute_on_the_processor() {
    let subjects = Subject::all();
    for cell in Cell::covering(&subjects) {
        let name = format!("{} x {}", cell.subject.config.name(), cell.objective.name());
        let (expected, losses) = cell.computed(On::Processor, 5);
        everywhere(|on| {
            let (gradients, got) = cell.computed(on, 5);
            for (got, loss) in got.iter().zip(&losses) {
                assert!((got - loss).abs() < 1e-4 * loss.abs().max(1.0), "{name}: {got} instead of {loss}");
            }
            assert!(gradients.keys().eq(expected.keys()), "{name}");
            for ((parameter, got), expected) in gradients.iter().zip(expected.values()) {
                let most = expected.iter().fold(1e-3f64, |most, g| most.max(g.abs()));
                let near =
                    got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 2e-4 * most);
                assert!(near, "{name}: the gradient of {parameter} is another");
            }
        });
    }
}

/// The cosine between two gradients, each of all parameters.
fn alignment([a, b]: [&BTreeMap<String, Vec<f64>>; 2]) -> f64 {
    let product = |a: &BTreeMap<String, Vec<f64>>, b: &BTreeMap<String, Vec<f64>>| -> f64 {
        a.values().flatten().zip(b.values().flatten()).map(|(a, b)| a * b).sum()
    };
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

#[test]
fn every_model_learns_in_bf16_on_a_gpu_much_as_in_f32() {
    let subjects = Subject::all();
    for cell in Cell::covering(&subjects) {
        let name = format!("{} x {}", cell.subject.config.name(), cell.objective.name());
        everywhere(|on| {
            // A rounding may turn the gradient where a loss bends sharply (rectification, the greatest of several queries),
            // but not in every batch.
            let aligned = (5..8).any(|seed| {
                let (exact, expected) = cell.computed(On::Processor, seed);
                let (gradients, losses) = Precision::Bf16.during(|| cell.computed(on, seed));
                let both = format!("{name}: {losses:?} instead of {expected:?}");
                assert!(losses[0] != expected[0], "{both}: nothing was rounded");
                assert!((losses[0] - expected[0]).abs() < 0.02 * expected[0].abs(), "{both}");
                assert!(losses.get(1) >= losses.get(2), "{both}: nothing was learnt");
                assert!(gradients.keys().eq(exact.keys()), "{name}");
                let along = alignment([&gradients, &exact]);
                println!("{both}, gradient at {along}");
                along > 0.99
            });
            assert!(aligned, "{name}: in no batch is the gradient that of f32");
        });
    }
}

#[test]
fn legal_cells_are_safe_with_one_pair_and_with_two() {
    for subject in Subject::all() {
        for objective in every_objective() {
            for pairs in [1, 2] {
                if !subject.refuses(&objective).is_empty() {
                    continue;
                }
                let batch = Subject::batch(&subject.config, pairs, 6);
                let tape = Tape::record();
                let loss = Trial::new(&subject, &objective, &batch).loss();
                assert!(scalar(&loss.value).is_finite());
                tape.backward(&loss.value).unwrap();
            }
        }
    }
}

#[test]
fn illegal_cells_are_refused_in_the_words_of_both_sides() {
    for subject in Subject::all() {
        for objective in every_objective() {
            let needs = objective.needs().abilities;
            let lacking = needs.difference(&subject.config.abilities()).copied().collect::<Vec<_>>();
            let unread = objective.needs().reads.difference(&subject.config.reads()).count();
            let reasons = subject.refuses(&objective);
            let named = format!("{} ", subject.config.name());
            assert!(reasons.iter().all(|reason| reason.offered.starts_with(&named)), "{reasons:?}");
            if unread > 0 {
                assert_eq!(reasons.len(), unread);
                assert!(reasons.iter().all(|reason| reason.need.starts_with("a model that reads ")));
                continue;
            }
            assert_eq!(reasons.len(), lacking.len());
            for (reason, ability) in reasons.iter().zip(lacking) {
                assert_eq!(
                    (&*reason.need, &*reason.offered),
                    (ability.wanted(), subject.config.lacks(ability))
                );
            }
        }
    }
}
