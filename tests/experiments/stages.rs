//! Stages: what is trained before a run is what the run begins with, and is trained once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::Device;
use proptest::prelude::*;
use vlp_bench::experiments::beginning::{Beginning, begin};
use vlp_bench::experiments::directory::identity;
use vlp_bench::experiments::feed::{Pairs, Words};
use vlp_bench::experiments::plan::plan;
use vlp_bench::experiments::record::{Measured, Record};
use vlp_bench::experiments::run::Options;
use vlp_bench::experiments::suite::{Only, run_all};
use vlp_bench::experiments::{Experiment, Origin, Values, checkpoint, file, journal, verify};
use vlp_bench::models::checkpoint as published;
use vlp_bench::models::{Store, store::matches};

use super::{attempt, finished, options};

const FILE: &str = "\
question: Does a tower learn before it is asked?
data: {train: {scenes: {pairs: 96, size: 16}}, test: {scenes: {pairs: 24, size: 16}}, size: 16, words: 16}
model:
  blip2:
    image: {width: 32, depth: 2, heads: 2}
    vit: clip
    qformer: {width: 32, depth: 2, heads: 2}
    queries: 2
    embed: 16
objectives: [itc]
train: {steps: 6, batch: 8, log: 2, rate: 1e-3, freeze: [image.*]}
evaluate: [retrieval]
stages:
  - tower:
      model: {clip: {image: {width: 32, depth: 2, heads: 2}, text: {width: 32, depth: 1, heads: 2}, embed: 16}}
      train: {steps: 5}
start: tower
";

fn read(text: &str) -> Experiment {
    file::read("towers.yaml", text).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Everything that is wrong with a text, as it is printed.
fn refused(text: &str) -> String {
    file::read("towers.yaml", text).map(|_| ()).expect_err("a fault").to_string()
}

/// The directories of stages below `out`.
fn stages(out: &Path) -> Vec<String> {
    let Ok(names) = fs::read_dir(out.join("stages/full")) else { return Vec::new() };
    let folders = names.flat_map(|name| fs::read_dir(name.unwrap().path()).unwrap());
    folders.map(|folder| folder.unwrap().path().display().to_string()).collect()
}

#[test]
fn a_run_begins_with_the_values_of_its_stage_and_keeps_those_that_are_frozen() {
    let out = tempfile::tempdir().unwrap();
    let experiment = read(FILE);
    let directory = finished(&experiment, out.path());
    let [stage] = stages(out.path()).try_into().unwrap();
    let (_, tower) = checkpoint::selected(Path::new(&stage)).unwrap();
    let (_, whole) = checkpoint::selected(&directory).unwrap();
    let shared: Vec<_> =
        tower.keys().filter(|name| name.starts_with("image.") && whole.contains_key(*name)).collect();
    assert!(shared.len() > 8, "{shared:?}");
    for name in &shared {
        let [there, here] =
            [&tower, &whole].map(|all| all[*name].flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert_eq!(there, here, "{name}");
    }
    let records = journal::read(&directory).unwrap();
    let Some(Record::Run(header)) = records.first() else { panic!("no header") };
    let [from] = header.start.as_slice() else { panic!("{:?}", header.start) };
    assert_eq!((from.name.as_str(), from.steps, from.taken), ("tower", 5, shared.len()));
}

#[test]
fn arms_and_seeds_that_share_a_stage_train_it_once_a_seed() {
    let out = tempfile::tempdir().unwrap();
    let text = format!(
        "{FILE}seeds: [0, 1]\nablate: {{control: two, arms: {{one: {{model.blip2.queries: 1}}, two: {{}}, \
         scratch: {{start: scratch, train.freeze: []}}}}}}\n"
    );
    let experiment = read(&text);
    let before = plan(&experiment, &Only::default(), &options(out.path())).unwrap();
    let labels: Vec<&str> = before.costs.iter().map(|cost| cost.arm.as_str()).collect();
    assert_eq!(labels, ["stage tower (one, two)", "one", "two", "scratch"]);
    assert_eq!(before.runs.len(), 2 + 6);
    let summary = run_all(&experiment, &Only::default(), &options(out.path())).unwrap();
    assert_eq!((summary.done.len(), summary.failed.len()), (6, 0), "{summary}");
    assert_eq!(stages(out.path()).len(), 2);
    let after = plan(&experiment, &Only::default(), &options(out.path())).unwrap();
    assert!(after.seconds_left() == 0.0, "{after}");
}

#[test]
fn a_stage_follows_what_an_arm_changes_unless_it_says_so_itself() {
    let text = FILE.replace("      train: {steps: 5}\n", "")
        + "ablate: {control: a, arms: {a: {}, b: {train.steps: 4}}}\n";
    let experiment = read(&text);
    let steps = |arm: usize| experiment.arms[arm].run.stages["tower"].train.steps;
    assert_eq!((steps(0), steps(1)), (6, 4));
    assert!(experiment.arms[0].run.stages["tower"].train.freeze.is_empty());
    let text = FILE.to_owned() + "ablate: {control: a, arms: {a: {}, b: {stages.tower.train.steps: 4}}}\n";
    let experiment = read(&text);
    assert_eq!(experiment.arms[1].run.stages["tower"].train.steps, 4);
    assert_eq!(experiment.arms[1].run.train.steps, 6);
}

#[test]
fn an_interrupted_run_that_begins_with_a_stage_ends_with_the_same_bits() {
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // A chain of stages, whose times differ from run to run.
    let chain = "  - queries: {start: tower, train: {steps: 2}}\nstart: queries\n";
    let experiment = read(&FILE.replace("start: tower\n", chain));
    let one = finished(&experiment, whole.path());
    attempt(&experiment, broken.path(), Some(3));
    let other = finished(&experiment, broken.path());
    let proof = verify::compare(&one, &other).unwrap();
    assert_eq!(proof.differences, [""; 0]);
}

#[test]
fn a_run_that_is_done_can_be_begun_with_wherever_it_lies() {
    let out = tempfile::tempdir().unwrap();
    let experiment = read(FILE);
    let directory = finished(&experiment, out.path());
    let text = FILE.split("stages:").next().unwrap().to_owned()
        + &format!("start: {{run: {{path: {}, take: {{qformer.*: qformer.*}}}}}}\n", directory.display());
    let later = read(&text.replace("freeze: [image.*]", "freeze: []"));
    let run = &later.arms[0].run;
    let words = options(out.path());
    let pairs = Pairs::open(&run.data, &words.words, 0).unwrap();
    let Beginning { values, from } = begin(&later.arms[0], 0, &pairs.inputs, &words).unwrap();
    let before: Vec<&str> = from[0].before.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(before, ["tower"]);
    assert!(
        values.len() > 8 && values.keys().all(|name| name.starts_with("qformer.")),
        "{:?}",
        values.keys()
    );
}

/// What a run reports.
fn reported(directory: &Path) -> BTreeMap<String, Measured> {
    let records = journal::read(directory).unwrap();
    let found = records.into_iter().find_map(|record| match record {
        Record::Evaluation(evaluation) if evaluation.selected => Some(evaluation.values),
        _ => None,
    });
    found.expect("a reported evaluation")
}

#[test]
fn a_run_of_no_updates_measures_what_it_begins_with_and_can_be_begun_with() {
    let out = tempfile::tempdir().unwrap();
    let directory = finished(&read(FILE), out.path());
    let from = |directory: &Path, steps: &str| {
        let head = FILE.split("stages:").next().unwrap().replace("steps: 6", steps);
        read(&format!("{head}start: {{run: {{path: {}}}}}\n", directory.display()))
    };
    let still = finished(&from(&directory, "steps: 0"), out.path());
    assert_eq!(reported(&still), reported(&directory));
    let again = finished(&from(&still, "steps: 0, warmup: 0"), out.path());
    assert!(again != still && reported(&again) == reported(&directory));
}

#[test]
fn a_stage_that_nothing_begins_with_or_nobody_knows_is_refused() {
    let said = refused(&FILE.replace("start: tower", "start: towr"));
    assert!(
        said.contains("there is no earlier stage `towr`") && said.contains("did you mean `tower`?"),
        "{said}"
    );
    let said = refused(&FILE.replace("start: tower", "start: scratch"));
    assert!(said.contains("no run begins with stage `tower`") && said.contains("14:5"), "{said}");
    let said = refused(&FILE.replace("- tower:", "- previous:").replace("start: tower", "start: previous"));
    assert!(said.contains("a stage cannot be called `previous`"), "{said}");
    let said = file::read("stages.yaml", FILE).map(|_| ()).expect_err("a fault").to_string();
    assert!(said.contains("`stages` is where the runs of stages lie"), "{said}");
    let said = refused(&FILE.replace("train: {steps: 5}", "seeds: [1]"));
    assert!(said.contains("a stage has no `seeds`") && said.contains("in stage `tower`"), "{said}");
    let said = refused(&FILE.replace("train: {steps: 5}", "objectives: [itm]"));
    assert!(said.contains("`itm` cannot train `clip`") && said.contains("in stage `tower`"), "{said}");
}

#[test]
fn values_that_do_not_fit_are_refused_before_anything_is_trained() {
    let said = refused(&FILE.replace("clip: {image: {width: 32,", "clip: {image: {width: 48,"));
    assert!(
        said.contains("stage `tower` does not fit this run") && said.contains("there, `image."),
        "{said}"
    );
    let take = |what: &str| {
        refused(&FILE.replace("start: tower", &format!("start: {{tower: {{take: {{{what}}}}}}}")))
    };
    assert!(take("texts.*: image.*").contains("`texts.*: image.*` takes nothing"));
    assert!(take("image.*: '*.*'").contains("does not say which is which"));
    assert!(take("'*.*': image").contains("does not say which is which"));
}

#[test]
fn a_pattern_takes_each_name_with_what_its_star_stands_for() {
    let shapes = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), (2, 3).into())).collect();
    let values = Values {
        from: Origin::Stage("tower".to_owned()),
        take: [("image.*.weight".to_owned(), "vision.*.w".to_owned())].into(),
    };
    let there = shapes(&["image.up.weight", "image.down.weight", "image.up.bias", "text.up.weight"]);
    let here = shapes(&["vision.up.w", "vision.out.w"]);
    assert_eq!(
        values.resolve(&there, &here).unwrap(),
        [("image.up.weight".to_owned(), "vision.up.w".to_owned())]
    );
}

proptest! {
    #[test]
    fn without_patterns_exactly_what_both_have_is_taken(names in proptest::collection::btree_set("[a-c]{1,2}", 1..9), cut in 0..9usize) {
        let all: Vec<&String> = names.iter().collect();
        let cut = cut.min(all.len() - 1);
        let shapes = |names: &[&String]| names.iter().map(|name| ((*name).clone(), 3.into())).collect();
        let values = Values { from: Origin::Stage("a".to_owned()), take: Default::default() };
        let taken = values.resolve(&shapes(&all), &shapes(&all[cut..])).unwrap();
        prop_assert_eq!(taken.len(), all.len() - cut);
        prop_assert!(taken.iter().all(|(theirs, ours)| theirs == ours && matches("*", ours)));
    }
}

#[test]
fn published_weights_are_begun_with_by_their_own_model_whole_and_by_another_in_parts() {
    let tower = FILE.split("model: {clip:").nth(1).unwrap().lines().next().unwrap();
    let clip = FILE.split("model:").next().unwrap().to_owned()
        + &format!("model: {{clip:{tower}\nobjectives: [itc]\ntrain: {{steps: 2, batch: 8}}\n");
    let words = Words::shipped().unwrap();
    let run = &read(&clip).arms[0].run;
    let inputs = Pairs::open(&run.data, &words, 0).unwrap().inputs;
    let (store, folder) = (Store::new(&Device::Cpu, 7, &[]), tempfile::tempdir().unwrap());
    run.model.build(&store.student(), &inputs).unwrap();
    published::save(&run.model, &inputs, None, &store, folder.path()).unwrap();
    let options = Options { words: words.clone(), ..options(folder.path()) };
    let place = folder.path().display();

    let same = read(&format!("{clip}start: {{weights: {{path: {place}}}}}\n"));
    let taken = begin(&same.arms[0], 0, &inputs, &options).unwrap();
    assert_eq!(taken.values.keys().collect::<Vec<_>>(), store.tensors().keys().collect::<Vec<_>>());
    assert_eq!(checkpoint::digest(&taken.values).unwrap(), checkpoint::digest(&store.tensors()).unwrap());

    let other = FILE.split("stages:").next().unwrap().to_owned()
        + &format!("start: {{weights: {{path: {place}, take: {{image.*: image.*}}}}}}\n");
    let taken = begin(&read(&other).arms[0], 0, &inputs, &options).unwrap();
    assert!(taken.values.len() > 8 && taken.values.keys().all(|name| name.starts_with("image.")));
    assert_eq!((taken.from[0].name.as_str(), taken.from[0].taken), (&*place.to_string(), taken.values.len()));

    let run = &same.arms[0].run;
    let pairs = Pairs::open(&run.data, &words, 0).unwrap();
    let identity = || identity(run, 0, &Device::Cpu, &pairs).unwrap();
    let before = identity();
    assert_eq!(identity(), before);
    let others = Store::new(&Device::Cpu, 8, &[]);
    run.model.build(&others.student(), &inputs).unwrap();
    published::save(&run.model, &inputs, None, &others, folder.path()).unwrap();
    assert_ne!(identity(), before, "the run begins with other values");

    let said = refused(&format!(
        "{}start: {{weights: {{path: {place}}}}}\n",
        clip.replace("embed: 16", "embed: 24")
    ));
    assert!(said.contains("`embed` is 16 there and 24 in this run"), "{said}");
    let said = refused(&format!("{clip}start: {{weights: {{path: {place}/none}}}}\n"));
    assert!(said.contains("is not there") && said.contains("hub:OWNER/NAME"), "{said}");
}
