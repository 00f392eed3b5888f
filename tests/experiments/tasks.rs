//! Fine-tuning on questions, statements, hypotheses and expressions, from the file to the record.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use vlp_bench::data::{self, Source, Split, tasks};
use vlp_bench::experiments::evaluate::gallery::Gallery;
use vlp_bench::experiments::evaluate::{self, Measurement, Subject};
use vlp_bench::experiments::feed::Pairs;
use vlp_bench::experiments::record::Record;
use vlp_bench::experiments::{Run, Train, journal};
use vlp_bench::models::{self, Store, uniter};
use vlp_bench::objectives;

use super::{clip_run, experiment, finished, tower, words};

/// What each objective is trained on and measured by.
const TASKS: [[&str; 3]; 4] = [
    ["questions", "answer", "question_answering"],
    ["statements", "pair", "two_images"],
    ["hypotheses", "entail", "entailment"],
    ["expressions", "ground", "grounding"],
];

fn source(name: &str, pairs: usize) -> data::Sources {
    let source: Source = serde_yaml::from_str(&format!("{name}: {{pairs: {pairs}, size: 16}}")).unwrap();
    data::Sources(vec![source])
}

fn small_uniter() -> models::Config {
    models::Config::Uniter(uniter::Config { trunk: tower(1), ..Default::default() })
}

fn asked_run(model: models::Config, [pairs, objective, measured]: [&str; 3], settings: &str) -> Run {
    let objective: objectives::Config = serde_yaml::from_str(&format!("{objective}: {settings}")).unwrap();
    Run {
        data: data::Config {
            train: source(pairs, 96),
            test: Some(source(pairs, 150)),
            words: 24,
            ..clip_run().data
        },
        model,
        objectives: vec![objective],
        train: Train { steps: 6, ..clip_run().train },
        evaluate: vec![serde_yaml::from_str(&format!("{measured}: {{}}")).unwrap()],
        ..clip_run()
    }
}

/// What is asked of an example, and the answers that score most.
type Shown = (Vec<String>, Vec<String>);

/// The test metrics of a finished run with their chance, and the examples shown.
fn recorded(run: Run) -> (BTreeMap<String, [f64; 2]>, Vec<Shown>) {
    let out = tempfile::tempdir().unwrap();
    let (mut values, mut shown) = (BTreeMap::new(), Vec::new());
    for record in journal::read(&finished(&experiment(run), out.path())).unwrap() {
        match record {
            Record::Evaluation(found) => {
                let chance = |measured: &vlp_bench::experiments::record::Measured| measured.chance.unwrap();
                values.extend(found.values.iter().map(|(name, it)| (name.clone(), [it.value, chance(it)])));
            }
            Record::Example(example) => {
                let found = example.found.into_iter().map(|found| found.caption).collect();
                shown.push((example.captions, found));
            }
            _ => {}
        }
    }
    (values, shown)
}

#[test]
fn every_task_is_trained_and_measured_from_regions_and_from_pixels() {
    for task in TASKS {
        let embeds = (task[0] != "expressions").then(|| (clip_run().model, "{from: embeds}"));
        for (model, settings) in [(small_uniter(), "{}")].into_iter().chain(embeds) {
            let run = asked_run(model, task, settings);
            let metrics = run.evaluate[0].metrics();
            let (values, shown) = recorded(run);
            let all: Vec<&String> = values.keys().collect();
            assert!(metrics.iter().all(|metric| all.contains(&metric)), "{all:?} instead of {metrics:?}");
            assert_eq!(all.len(), metrics.len());
            let [accuracy, chance] = values[&format!("{}.accuracy", task[2])];
            let expected = match task[0] {
                "questions" => 25.0..32.0,
                "statements" => 49.9..50.1,
                "hypotheses" => 33.2..33.4,
                _ => 30.0..40.0,
            };
            assert!(expected.contains(&chance) && (0.0..=100.0).contains(&accuracy), "{task:?}: {values:?}");
            assert_eq!(shown.len(), 8);
            assert!(shown.iter().all(|(asked, found)| asked.len() == 1 && found.len() >= 2), "{shown:?}");
        }
    }
}

/// The questions answered by a head that gives each answer the same score whatever it sees.
fn answered_by(scores: impl Fn(usize, &str) -> f32) -> [Measurement; 2] {
    let run = asked_run(small_uniter(), TASKS[0], "{}");
    let pairs = Pairs::open(&run.data, &words(), 0).unwrap();
    let gallery = Gallery::open(pairs.split(Split::Test).unwrap().as_ref(), &pairs, &Device::Cpu).unwrap();
    let store = Store::new(&Device::Cpu, 0, &[]);
    run.model.build(&store.student(), &pairs.inputs).unwrap();
    run.objectives[0].open(&store.student(), &run.model.dims(&pairs.inputs)).unwrap();
    let entries = store.entries();
    let (weight, bias) = (&entries["answer.head.down.weight"].var, &entries["answer.head.down.bias"].var);
    weight.set(&weight.zeros_like().unwrap()).unwrap();
    let scores: Vec<f32> = (0..).zip(&pairs.answers).map(|(number, answer)| scores(number, answer)).collect();
    bias.set(&Tensor::new(scores, &Device::Cpu).unwrap()).unwrap();
    let subject = Subject::new(&run, &store, &pairs, &gallery).unwrap();
    let shown = subject.show().unwrap();
    [(), ()].map(|()| run.evaluate[0].measure(&subject, &shown).unwrap())
}

#[test]
fn one_answer_to_everything_is_as_good_as_chance_and_ties_never_help() {
    let [found, again] = answered_by(|_, answer| f32::from(u8::from(answer == "yes")));
    assert_eq!(found.values, again.values);
    assert_eq!(found.items, 150);
    let of = |kind: &str| found.values[&format!("question_answering.{kind}")];
    for kind in ["exists", "relation", "comparison"] {
        assert_eq!((of(kind).value, of(kind).chance), (50.0, Some(50.0)), "{kind}");
    }
    for kind in ["color", "shape", "size", "material", "where", "count"] {
        assert_eq!(of(kind).value, 0.0, "{kind}");
    }
    let error = of("exists").sampling_error.unwrap();
    assert!((5.0..20.0).contains(&error), "{error}");
    let [tied, _] = answered_by(|_, _| 1.0);
    assert_eq!(tied.values["question_answering.accuracy"].value, 0.0);
}

#[test]
fn what_is_asked_is_refused_where_the_data_asks_something_else() {
    let run = asked_run(small_uniter(), ["hypotheses", "answer", "question_answering"], "{}");
    let set = Source::Hypotheses(tasks::Config::default()).open(Split::Test).unwrap();
    let fields = set.fields();
    let needs = run.evaluate[0].needs();
    let faults: Vec<String> = needs
        .iter()
        .filter_map(|need| need.missing("question_answering", &run, |_| Some(&fields)))
        .map(|fault| fault.to_string())
        .collect();
    assert!(faults.len() == 1 && faults[0].contains("`question_answering` needs answer"), "{faults:?}");
    let without = Run { objectives: clip_run().objectives, ..run };
    let head = needs.last().unwrap().missing("question_answering", &without, |_| None).unwrap().to_string();
    assert!(head.contains("which only `answer` trains"), "{head}");
    assert!(evaluate::Config::all().iter().any(|config| config.name() == "grounding"));
}
