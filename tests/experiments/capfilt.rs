//! CapFilt: web pairs are rewritten by two stages, once, and learnt from like any others.

use std::fs;
use std::path::{Path, PathBuf};

use vlp_bench::data::{Dataset, Split, clipart, pack::Pack};
use vlp_bench::experiments::plan::plan;
use vlp_bench::experiments::record::{Author, Record, Rewritten, RewrittenPicture};
use vlp_bench::experiments::run::run;
use vlp_bench::experiments::suite::{Only, run_all};
use vlp_bench::experiments::{Experiment, bootstrap, file, journal};
use vlp_bench::reports::report;

use super::{finished, options};

const FILE: &str = "\
question: Do rewritten captions help?
data:
  train: [{stage: bootstrap}, {emoji: {pairs: 24}}]
  test: {emoji: {pairs: 24}}
  size: 16
  words: 16
model:
  blip:
    image: {width: 32, depth: 1, heads: 2}
    text: {width: 32, depth: 1, heads: 2}
    patch: 8
    embed: 16
objectives: [itc, itm, lm]
train: {steps: 4, batch: 8, log: 2, rate: 1e-3}
evaluate: [retrieval]
stages:
  - pretrain: {data: {train: [{clipart: {pairs: 40}}, {emoji: {pairs: 24}}]}, train: {steps: 3}}
  - captioner: {start: pretrain, objectives: [lm], data: {train: {emoji: {pairs: 24}}}, train: {steps: 2}}
  - filter: {start: pretrain, objectives: [itc, itm], data: {train: {emoji: {pairs: 24}}}, train: {steps: 2}}
  - bootstrap: {rewrite: {web: {clipart: {pairs: 40}}, captioner: captioner, filter: filter, least: 1, most: 4}}
";

fn read(text: &str) -> Experiment {
    file::read("capfilt.yaml", text).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Everything that is wrong with a text, as it is printed.
fn refused(text: &str) -> String {
    file::read("capfilt.yaml", text).map(|_| ()).expect_err("a fault").to_string()
}

/// The file with another setting of the rewriting.
fn with(setting: &str) -> String {
    FILE.replace("least: 1", &format!("{setting}, least: 1"))
}

/// How the first arm's pairs were made, and where they are.
fn made(experiment: &Experiment, out: &Path) -> (Rewritten, PathBuf) {
    let rewrite = &experiment.arms[0].run.rewrites["bootstrap"];
    let place = bootstrap::place("bootstrap", rewrite, 0, &options(out)).unwrap();
    (place.made().unwrap().expect("an account"), place.directory)
}

/// What became of the texts of each picture.
fn texts(directory: &Path) -> Vec<RewrittenPicture> {
    let lines = fs::read_to_string(directory.join("texts.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A threshold between the probabilities, so that some texts are kept and some dropped.
fn median(directory: &Path) -> f64 {
    let texts = texts(directory);
    let mut all: Vec<f64> =
        texts.iter().flat_map(|picture| &picture.texts).map(|text| text.matching.unwrap()).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn what_the_filter_keeps_is_what_a_run_learns_from_and_all_texts_are_accounted_for() {
    let out = tempfile::tempdir().unwrap();
    let whole = read(&with("threshold: 0"));
    let directory = finished(&whole, out.path());
    let (account, place) = made(&whole, out.path());
    assert_eq!((account.pictures, account.kept), (40, 40), "threshold 0 keeps everything");
    assert_eq!((account.written.read, account.web.kept), (40, account.web.read));
    assert_eq!(account.written.noise(), Some(0.0));
    let records = journal::read(&directory).unwrap();
    assert!(records.contains(&Record::Rewritten(account)));
    let Some(Record::Run(header)) = records.first() else { panic!("no header") };
    assert_eq!((header.data[0].name.as_str(), header.data[0].pairs), ("bootstrap+emoji", 64));
    assert_eq!(header.config["data"]["train"][0]["stage"], "bootstrap");

    let half = read(&with(&format!("threshold: {}", median(&place))));
    let directory = finished(&half, out.path());
    let (account, place) = made(&half, out.path());
    let pictures = texts(&place);
    let count = |from: Author, kept: bool| {
        let texts = pictures.iter().flat_map(|picture| &picture.texts);
        texts.filter(|text| text.from == from && (text.kept || !kept)).count()
    };
    for (from, found) in [(Author::Web, account.web), (Author::Written, account.written)] {
        assert_eq!((count(from, false), count(from, true)), (found.read, found.kept));
    }
    let dropped = account.web.read + account.written.read - account.web.kept - account.written.kept;
    assert!(dropped > 0 && account.kept > 0 && account.kept < 40, "{account}");
    assert!(account.examples.iter().any(|picture| picture.texts.iter().any(|text| !text.kept)));
    let shown = tempfile::tempdir().unwrap();
    report(&[directory], shown.path()).unwrap();
    let [page, table] =
        ["report.html", "report.md"].map(|name| fs::read_to_string(shown.path().join(name)).unwrap());
    assert!(page.contains("What became of the web pairs") && page.contains(&account.to_string()));
    assert!(table.contains("Noise of written texts"), "{table}");
    let pack = Pack::read(&place.join("pairs.zip")).unwrap();
    let kept: Vec<(&str, Vec<&str>)> = pictures
        .iter()
        .map(|picture| {
            let texts = picture.texts.iter().filter(|text| text.kept).map(|text| text.text.as_str());
            (picture.id.as_str(), texts.collect::<Vec<_>>())
        })
        .filter(|(_, texts)| !texts.is_empty())
        .collect();
    let rows: Vec<(&str, Vec<&str>)> = pack
        .rows()
        .iter()
        .map(|row| (row.id.as_str(), row.captions.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(rows, kept);
    let web = clipart::Config { pairs: Some(40), ..Default::default() };
    let web = web.open(Split::Train).unwrap();
    let first = (0..40).map(|pair| web.get(pair).unwrap()).find(|pair| pair.id == rows[0].0).unwrap();
    assert_eq!(pack.picture(0).unwrap(), first.picture, "pictures are kept without loss");
}

#[test]
fn pairs_are_the_same_bytes_whoever_makes_them_with_however_many_threads() {
    let experiment = read(&with("threshold: 0"));
    let bytes = |threads: usize| {
        let out = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let arm = &experiment.arms[0];
            let rewrite = &arm.run.rewrites["bootstrap"];
            bootstrap::make(arm, "bootstrap", rewrite, 0, &options(out.path())).unwrap();
        });
        let (_, place) = made(&experiment, out.path());
        ["pairs.zip", "pairs.json", "texts.jsonl"].map(|name| fs::read(place.join(name)).unwrap())
    };
    let one = bytes(1);
    assert!(one == bytes(1) && one == bytes(2));
}

#[test]
fn pairs_whose_making_was_interrupted_are_made_again_and_those_that_are_there_are_not() {
    let out = tempfile::tempdir().unwrap();
    let experiment = read(&with("threshold: 0"));
    finished(&experiment, out.path());
    let (_, place) = made(&experiment, out.path());
    let before = fs::read(place.join("pairs.zip")).unwrap();
    fs::remove_file(place.join("made.json")).unwrap();
    fs::write(place.join("pairs.zip"), b"half a file").unwrap();
    let arm = &experiment.arms[0];
    let make = || bootstrap::make(arm, "bootstrap", &arm.run.rewrites["bootstrap"], 0, &options(out.path()));
    let (_, account) = make().unwrap();
    assert_eq!(fs::read(place.join("pairs.zip")).unwrap(), before);
    let (_, again) = make().unwrap();
    assert_eq!(again, account, "with the seconds that it took then");
}

#[test]
fn the_arms_of_the_paper_share_their_stages_and_are_planned_before_a_pair_is_made() {
    let out = tempfile::tempdir().unwrap();
    let text = with("threshold: 0")
        + "ablate:\n  control: none\n  arms:\n    none: {stages.bootstrap.rewrite: {captioner: null, filter: null}}\n    \
           F: {stages.bootstrap.rewrite.captioner: null}\n    C: {stages.bootstrap.rewrite.filter: null}\n    \
           C+F: {}\n    shared: {stages.bootstrap.rewrite: {captioner: pretrain, filter: pretrain}}\n    \
           beam: {stages.bootstrap.rewrite.decode: {beam: {beams: 2}}}\n";
    let experiment = read(&text);
    let before = plan(&experiment, &Only::default(), &options(out.path())).unwrap();
    let labels: Vec<&str> = before.costs.iter().map(|cost| cost.arm.as_str()).take(8).collect();
    assert_eq!(
        labels,
        [
            "stage bootstrap (none)",
            "stage pretrain (F, C, C+F, shared, beam)",
            "stage filter (F, C+F, beam)",
            "stage bootstrap (F)",
            "stage captioner (C, C+F, beam)",
            "stage bootstrap (C)",
            "stage bootstrap (C+F)",
            "stage bootstrap (shared)",
        ]
    );
    let summary = run_all(&experiment, &Only::default(), &options(out.path())).unwrap();
    assert_eq!((summary.done.len(), summary.failed.len()), (6, 0), "{summary}");
    let after = plan(&experiment, &Only::default(), &options(out.path())).unwrap();
    assert!(after.seconds_left() == 0.0, "{after}");
    let counted = |name: &str| fs::read_dir(out.path().join("stages/full").join(name)).unwrap().count();
    assert_eq!(["pretrain", "captioner", "filter", "bootstrap"].map(counted), [1, 1, 1, 6]);
    let captions = |arm: usize| {
        let rewrite = &experiment.arms[arm].run.rewrites["bootstrap"];
        let place = bootstrap::place("bootstrap", rewrite, 0, &options(out.path())).unwrap();
        let account = place.made().unwrap().unwrap();
        (account.written.read, account.filter.is_some())
    };
    assert_eq!([0, 1, 2, 3].map(captions), [(0, false), (0, true), (40, false), (40, true)]);
}

#[test]
fn a_filter_that_keeps_nothing_stops_the_run_and_says_how_far_it_was_from_keeping_something() {
    let out = tempfile::tempdir().unwrap();
    let experiment = read(&with("threshold: 1"));
    let fault = run(&experiment, &experiment.arms[0], 0, &options(out.path())).unwrap_err().to_string();
    assert!(
        fault.contains("stage `bootstrap` keeps nothing") && fault.contains("40 written texts"),
        "{fault}"
    );
    assert!(fault.contains("above 1") && fault.contains("the surest with 0."), "{fault}");
}

#[test]
fn stages_that_cannot_rewrite_are_refused_with_their_place() {
    let said = refused(&FILE.replace("captioner: captioner", "captioner: captoner"));
    assert!(said.contains("there is no earlier stage `captoner` that is trained"), "{said}");
    assert!(said.contains("did you mean `captioner`?") && said.contains("in stage `bootstrap`"), "{said}");
    let said = refused(&FILE.replace("filter: filter", "filter: captioner"));
    assert!(said.contains("stage `captioner` cannot filter") && said.contains("add `itm`"), "{said}");
    let said = refused(&FILE.replace("captioner: captioner", "captioner: filter"));
    assert!(said.contains("stage `filter` cannot write") && said.contains("add `lm`"), "{said}");
    let clip = "- captioner: {model: {clip: {}}, objectives: [itc]";
    let said = refused(&FILE.replace("- captioner: {start: pretrain, objectives: [lm]", clip));
    assert!(said.contains("stage `captioner` cannot write: clip"), "{said}");
    let said = refused(&FILE.replace("{stage: bootstrap}", "{stage: bootstrp}"));
    assert!(said.contains("there is no earlier stage `bootstrp` that makes pairs"), "{said}");
    let said = refused(&FILE.replace("{stage: bootstrap}", "{stage: pretrain}"));
    assert!(said.contains("there is no earlier stage `pretrain` that makes pairs"), "{said}");
    let said = refused(&FILE.replace("test: {emoji: {pairs: 24}}", "test: {stage: bootstrap}"));
    assert!(said.contains("names stage `bootstrap`, which makes training pairs"), "{said}");
    let said = refused(&FILE.replace("  - captioner: {start: pretrain", "  - captioner: {start: bootstrap"));
    assert!(said.contains("there is no earlier stage `bootstrap`"), "{said}");
}

#[test]
fn settings_of_a_rewriting_that_say_nothing_are_refused() {
    assert!(refused(&with("threshold: 1.5")).contains("`threshold` is 1.5"));
    assert!(refused(&with("decode: {nucleus: {top_p: 0}}")).contains("top_p 0"));
    assert!(refused(&with("thresold: 1")).contains("did you mean `threshold`"));
    let said = refused(&FILE.replace("web: {clipart: {pairs: 40}}", "web: {questions: {pairs: 40}}"));
    assert!(said.contains("cannot be rewritten"), "{said}");
    let said = refused(&FILE.replace("web: {clipart: {pairs: 40}}", "web: {stage: bootstrap}"));
    assert!(said.contains("they cannot be rewritten again"), "{said}");
    let said = refused(&FILE.replace("- bootstrap: {rewrite", "- bootstrap: {train: {steps: 3}, rewrite"));
    assert!(said.contains("a stage that rewrites pairs has no `train`"), "{said}");
    let said = refused(&FILE.replace("[{stage: bootstrap}, {emoji: {pairs: 24}}]", "{emoji: {pairs: 24}}"));
    assert!(said.contains("no run begins with stage `bootstrap`"), "{said}");
}

#[test]
fn a_batch_larger_than_all_web_and_human_pairs_is_refused_before_any_is_made() {
    let said = refused(&FILE.replace("steps: 4, batch: 8", "steps: 4, batch: 65"));
    assert!(said.contains("a batch of 65 is more than all 64 training pairs"), "{said}");
}
