//! Many experiments at once: which files are meant, what is counted once, what comes first, and where a budget stops.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use candle_core::Device;
use vlp_bench::experiments::agenda::{Agenda, Outlook, Worth, below, files, order, work};
use vlp_bench::experiments::budget::{self, Budget, Until};
use vlp_bench::experiments::feed::Pairs;
use vlp_bench::experiments::file::Options as Laid;
use vlp_bench::experiments::plan::{Work, key, plan};
use vlp_bench::experiments::progress::Show;
use vlp_bench::experiments::run::{Options, Outcome, run};
use vlp_bench::experiments::suite::run_all;
use vlp_bench::experiments::{Run, Train, directory, verify};
use vlp_bench::reports::worth::chances;

use super::{clip_run, experiment, finished, options};

const TINY: &str = "\
question: Does it run?
data: {train: {scenes: {pairs: 48, size: 16}}, test: {scenes: {pairs: 24, size: 16}}, size: 16, words: 12}
model: {clip: {image: {width: 32, depth: 1, heads: 2}, text: {width: 32, depth: 1, heads: 2}, patch: 8, embed: 16}}
objectives: [itc]
train: {steps: 6, batch: 8, log: 4}
evaluate: [retrieval]
ablate: {control: slow, arms: {slow: {}, fast: {train.rate: 2e-3}}}
seeds: [0, 1]
";
const CLAIM: &str = "  - {effect: {metric: retrieval.mean_recall, arm: fast, minus: slow}, expect: positive";
const STAGE: &str = "stages: [{before: {train: {steps: 5}}}]\nstart: before\n";

/// A folder of experiments, and the files in it by name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join("experiments").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn experiments(&self) -> PathBuf {
        self.0.path().join("experiments")
    }

    fn options(&self) -> Options {
        options(&self.0.path().join("runs"))
    }

    fn agenda(&self) -> Agenda {
        Agenda::open(&[self.experiments()], &Laid::default(), &[], Show::Nothing)
    }

    fn outlook(&self, agenda: &mut Agenda) -> Outlook {
        agenda.outlook(&self.options(), None).unwrap()
    }

    /// The files as they are called below the folder.
    fn names(&self, files: &[PathBuf]) -> Vec<String> {
        let name = |file: &PathBuf| file.strip_prefix(self.experiments()).unwrap().display().to_string();
        files.iter().map(name).collect()
    }
}

fn claims(published: &[&str]) -> String {
    let claim = |published: &&str| match *published {
        "" => format!("{CLAIM}}}\n"),
        key => format!("{CLAIM}, published: {key}}}\n"),
    };
    format!("{TINY}claims:\n{}", published.iter().map(claim).collect::<String>())
}

/// What each experiment is worth where every claim has the same chance.
fn worths(agenda: &Agenda, chance: f64) -> Vec<Worth> {
    let worth = |entry| Worth::new(entry, &[chance; 9]);
    agenda.entries.iter().map(worth).collect()
}

#[test]
fn a_folder_stands_for_every_experiment_below_it_but_presets_papers_and_what_runs_leave_behind() {
    let folder = Folder::new(&[
        ("one.yaml", TINY),
        ("deep/two.yaml", TINY),
        ("deep/notes.txt", "no experiment"),
        ("presets/base.yaml", TINY),
        ("deep/presets/base.yaml", TINY),
        ("published/paper.yaml", TINY),
        ("run/records.jsonl", ""),
        ("run/config.yaml", TINY),
    ]);
    let found = below(&folder.experiments()).unwrap();
    assert_eq!(folder.names(&found), ["deep/two.yaml", "one.yaml"]);
    let both = [folder.experiments().join("one.yaml"), folder.experiments()];
    let (found, refused) = files(&both);
    assert_eq!(
        folder.names(&found),
        ["one.yaml", "deep/two.yaml"],
        "a file that is named twice is meant once"
    );
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn a_file_with_a_fault_is_told_and_does_not_hide_the_others() {
    let folder = Folder::new(&[
        ("right.yaml", TINY),
        ("wrong.yaml", &TINY.replace("batch: 8", "bach: 8")),
        ("empty/presets/base.yaml", TINY),
    ]);
    let places =
        [folder.experiments(), folder.experiments().join("empty"), folder.experiments().join("no.yaml")];
    let agenda = Agenda::open(&places, &Laid::default(), &[], Show::Nothing);
    assert_eq!(
        agenda.entries.iter().map(|entry| entry.experiment.name.as_str()).collect::<Vec<_>>(),
        ["right"]
    );
    let told: Vec<String> = agenda.refused.iter().map(|refused| refused.failure.to_string()).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    let of = |words: &str| told.iter().any(|text| text.contains(words));
    assert!(
        of("did you mean `batch`?") && of("no experiment file lies below") && of("cannot be read"),
        "{told:?}"
    );
    assert_eq!(agenda.exit_code(), 2);
}

#[test]
fn an_arm_that_one_experiment_lacks_leaves_that_one_out() {
    let other = TINY.replace("slow", "none");
    let folder = Folder::new(&[("one.yaml", TINY), ("two.yaml", &other)]);
    let only = ["arm=slow".to_owned()];
    let agenda = Agenda::open(&[folder.experiments()], &Laid::default(), &only, Show::Nothing);
    assert_eq!((agenda.entries.len(), agenda.refused.len()), (1, 1));
    assert!(agenda.refused[0].failure.to_string().contains("there is no arm `slow`"));
}

#[test]
fn two_experiments_of_one_name_are_not_taken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    for place in ["a", "b"] {
        fs::create_dir(folder.path().join(place)).unwrap();
        fs::write(folder.path().join(place).join("same.yaml"), TINY).unwrap();
    }
    let (found, refused) = files(&[folder.path().to_owned()]);
    assert_eq!((found.len(), refused.len()), (1, 1));
    assert!(refused[0].failure.to_string().contains("another experiment is called `same`"));
}

#[test]
fn configurations_that_differ_in_what_takes_no_time_have_one_probe() {
    let out = tempfile::tempdir().unwrap();
    let of = |train: Train| key(Work::Train(&Run { train, ..clip_run() }), &options(out.path())).unwrap();
    let usual = clip_run().train;
    let same = Train { steps: 99, rate: 1e-4, warmup: 0.0, evaluate_every: Some(3), log: 1, ..usual.clone() };
    assert_eq!(of(usual.clone()), of(same));
    assert_ne!(of(usual.clone()), of(Train { batch: 8, ..usual.clone() }));
    assert_ne!(of(usual.clone()), of(Train { freeze: vec!["image.*".to_owned()], ..usual }));

    let folder = Folder::new(&[("one.yaml", TINY), ("two.yaml", &TINY.replace("steps: 6", "steps: 9"))]);
    let outlook = folder.outlook(&mut folder.agenda());
    let kept = fs::read(folder.options().out.join("probes.json")).unwrap();
    let kept: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept.len(), 1, "two arms of two files");
    let each: Vec<f64> = outlook.rows.iter().map(|row| row.items[0].seconds_left).collect();
    assert!(each[0] > 0.0 && each[1] > each[0], "{each:?}");
}

#[test]
fn a_row_is_what_the_experiment_alone_would_be_planned_as() {
    let folder = Folder::new(&[("one.yaml", TINY)]);
    let (mut agenda, options) = (folder.agenda(), folder.options());
    let entry = &agenda.entries[0];
    let alone = plan(&entry.experiment, &entry.only, &options).unwrap();
    let outlook = folder.outlook(&mut agenda);
    let row = &outlook.rows[0];
    assert!((row.seconds_left() - alone.seconds_left()).abs() < 1e-9, "the probe of the plan is used again");
    assert_eq!((row.done(), row.runs(), row.disk()), (0, 4, alone.disk()));
    let text = outlook.to_string();
    assert!(text.contains("one") && text.contains("0/4"), "{text}");
    assert!(text.ends_with("free)") && text.contains("1 experiments, 4 of 4 runs left: "), "{text}");
    let json = outlook.json(&agenda.refused);
    assert_eq!((&json["experiments"][0]["runs"], &json["total"]["left"]), (&4.into(), &4.into()));
}

#[test]
fn a_stage_that_two_experiments_share_is_counted_once() {
    let text = format!("{TINY}{STAGE}");
    let folder = Folder::new(&[("one.yaml", &text), ("two.yaml", &text), ("three.yaml", TINY)]);
    let mut agenda = folder.agenda();
    let outlook = folder.outlook(&mut agenda);
    let stages = |row: usize| {
        let items = outlook.rows[row].items.iter().filter(|item| item.stage.is_some());
        (items.clone().count(), items.map(|item| item.seconds_left).sum::<f64>())
    };
    let (count, seconds) = stages(0);
    assert_eq!(
        (count, stages(1).0, stages(2).0),
        (4, 0, 4),
        "one for each arm's rate and seed; `three` comes second"
    );
    let all: f64 = outlook.rows.iter().map(|row| row.seconds_left()).sum();
    assert!(seconds > 0.0 && (all - seconds - outlook.seconds_left()).abs() < 1e-9);
    assert_eq!(outlook.shared(), [("before", vec!["one", "two"])]);
    assert!(outlook.to_string().contains("stage before is needed by one, two and counted once"));

    let one = &agenda.entries[0];
    run_all(&one.experiment, &one.only, &folder.options()).unwrap();
    let after = folder.outlook(&mut agenda);
    assert_eq!((after.rows[0].left(), after.rows[0].seconds_left()), (0, 0.0));
    let done = after.rows[2].items.iter().filter(|item| item.is_done()).count();
    assert_eq!((done, after.rows[2].left()), (4, 4), "the other finds the stages done");
}

#[test]
fn a_configuration_that_fails_is_told_and_the_rest_is_planned_and_run() {
    let broken = TINY.replace("slow: {}", "slow: {train.rate: 1e30, train.clip: null, train.warmup: 0}");
    let folder = Folder::new(&[("broken.yaml", &broken), ("right.yaml", TINY)]);
    let mut agenda = folder.agenda();
    let mut outlook = folder.outlook(&mut agenda);
    assert_eq!((outlook.rows.len(), outlook.failed.len(), outlook.rows[0].unmeasured), (2, 1, 1));
    assert!(outlook.failed[0].failure.to_string().contains("not finite"));
    let mut told = Vec::new();
    let worked =
        work(&agenda, &mut outlook, &worths(&agenda, 1.0), &folder.options(), None, |entry, summary| {
            told.push((entry.experiment.name.clone(), summary.done.len(), summary.failed.len()));
            Ok(())
        });
    assert_eq!(told, [("right".to_owned(), 4, 0), ("broken".to_owned(), 2, 2)]);
    assert_eq!((worked.runs, worked.failed, worked.left, worked.exit_code()), (6, 2, 2, 1), "{worked}");
}

#[test]
fn the_most_informative_experiment_comes_first_and_what_is_done_is_not_named() {
    let published = "albef/table-1/distillation";
    let folder = Folder::new(&[
        ("a-none.yaml", TINY),
        ("b-long.yaml", &claims(&[published]).replace("steps: 6", "steps: 60000")),
        ("c-own.yaml", &claims(&[""; 4])),
        ("d-done.yaml", &claims(&[published])),
        ("e-one.yaml", &claims(&[published])),
        ("f-five.yaml", &claims(&[published; 5])),
    ]);
    let mut agenda = folder.agenda();
    let done = &agenda.entries[3];
    run_all(&done.experiment, &done.only, &folder.options()).unwrap();
    let outlook = folder.outlook(&mut agenda);
    let names = |chance: f64| {
        let order = order(&outlook, &worths(&agenda, chance));
        order.into_iter().map(|number| outlook.rows[number].name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names(1.0), ["f-five", "e-one", "b-long", "c-own", "a-none"]);
    assert_eq!(names(0.0).last(), Some(&"b-long"), "without anything to be learnt the shortest come first");
}

#[test]
fn runs_stand_for_hours_where_there_was_no_time_to_measure() {
    let claimed = claims(&["albef/table-1/distillation"]);
    let folder = Folder::new(&[
        ("long.yaml", &claimed.replace("seeds: [0, 1]", "seeds: [0, 1, 2]")),
        ("short.yaml", &claimed),
    ]);
    let mut agenda = folder.agenda();
    let outlook = agenda.outlook(&folder.options(), Some(Instant::now())).unwrap();
    assert_eq!(outlook.rows.iter().map(|row| row.unmeasured).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(order(&outlook, &worths(&agenda, 1.0)), [1, 0]);
    assert!(outlook.to_string().contains("> 0.0 s"), "{outlook}");
}

#[test]
fn a_claim_can_still_be_settled_until_all_seeds_are_done() {
    let folder = Folder::new(&[("one.yaml", &claims(&[""]).replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))]);
    let mut agenda = folder.agenda();
    let chance = |agenda: &mut Agenda, seeds: usize| {
        let outlook = folder.outlook(agenda);
        let done: Vec<PathBuf> = outlook.rows[0].finished().map(Path::to_owned).collect();
        let effect = &agenda.entries[0].experiment.claims[0].effect;
        chances(&done, &[effect], seeds).unwrap()[0]
    };
    assert_eq!((chance(&mut agenda, 3), chance(&mut agenda, 1)), (1.0, 0.0), "one seed settles nothing");
    let run = |seeds: &[u64]| {
        let entry = &folder.agenda().entries[0];
        let mut only = entry.only.clone();
        only.seeds = seeds.to_vec();
        run_all(&entry.experiment, &only, &folder.options()).unwrap();
    };
    run(&[0]);
    assert_eq!(chance(&mut agenda, 3), 1.0, "one seed tells no spread");
    run(&[1]);
    let two = chance(&mut agenda, 3);
    assert!((0.0..=1.0).contains(&two), "{two}");
    run(&[2]);
    assert_eq!(chance(&mut agenda, 3), 0.0);
}

#[test]
fn a_run_that_is_out_of_time_again_and_again_ends_with_the_bits_of_one_that_is_not() {
    let text = format!("{TINY}{}", STAGE.replace("steps: 5", "steps: 60")).replace("steps: 6,", "steps: 60,");
    let folder = Folder::new(&[("one.yaml", &text)]);
    let agenda = folder.agenda();
    let entry = &agenda.entries[0];
    let attempt = |options: &Options| run(&entry.experiment, &entry.experiment.arms[0], 0, options).unwrap();
    let whole = attempt(&folder.options());
    let broken = tempfile::tempdir().unwrap();
    let mut stops = 0;
    let last = loop {
        // Each look at the clock stands before an update: there is time for so many.
        let looks = AtomicU64::new(25);
        let hours = move || {
            Duration::from_secs(3600 * looks.fetch_sub(1, Ordering::Relaxed).saturating_sub(1).min(1))
        };
        let limited = Options { until: Some(Until::by(hours, BTreeMap::new())), ..options(broken.path()) };
        let attempted = attempt(&limited);
        if attempted.outcome != Outcome::Stopped {
            break attempted;
        }
        stops += 1;
    };
    // 60 updates of the stage, 60 of the run, and a look before each evaluation.
    assert_eq!(stops, 5);
    let proof = verify::compare(&whole.directory, &last.directory).unwrap();
    assert!(proof.differences.is_empty() && proof.tensors > 10, "{proof}");
}

#[test]
fn a_budget_that_is_over_leaves_everything_for_later_and_says_how_much_that_is() {
    let folder = Folder::new(&[("one.yaml", TINY), ("two.yaml", &claims(&[""]))]);
    let mut agenda = folder.agenda();
    let mut outlook = folder.outlook(&mut agenda);
    let go = |outlook: &mut Outlook, budget: Option<&Budget>| {
        let mut told = Vec::new();
        let worked =
            work(&agenda, outlook, &worths(&agenda, 1.0), &folder.options(), budget, |entry, summary| {
                told.push((entry.experiment.name.clone(), summary.done.len()));
                Ok(())
            });
        (worked, told)
    };
    let (worked, told) = go(&mut outlook, Some(&Budget::new(Duration::from_millis(1))));
    assert!(told.is_empty(), "{told:?}");
    assert_eq!((worked.runs, worked.left, worked.waiting, worked.exit_code()), (0, 8, 2, 0));
    let text = worked.to_string();
    assert!(
        text.starts_with("done: 0 runs in ") && text.contains("left: 8 runs of 2 experiments, "),
        "{text}"
    );
    let (worked, told) = go(&mut outlook, Some(&Budget::new(Duration::from_secs(3600))));
    assert_eq!(told, [("two".to_owned(), 4), ("one".to_owned(), 4)]);
    assert!(worked.to_string().ends_with("2 experiments complete; left: nothing"), "{worked}");
}

#[test]
fn an_evaluation_that_does_not_fit_waits_with_the_updates_saved() {
    let experiment = experiment(clip_run());
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let whole = finished(&experiment, whole.path());
    let tiny = &experiment.arms[0].run;
    let pairs = Pairs::open(&tiny.data, &options(broken.path()).words, 0).unwrap();
    let hash = directory::identity(tiny, 0, &Device::Cpu, &pairs).unwrap();
    let pieces = budget::Pieces { update: 0.0, whole: 1e6 };
    let until = Until::new(Instant::now() + Duration::from_secs(600), BTreeMap::from([(hash, pieces)]));
    let limited = Options { until: Some(until), ..options(broken.path()) };
    let attempted = run(&experiment, &experiment.arms[0], 0, &limited).unwrap();
    assert_eq!(attempted.outcome, Outcome::Stopped);
    assert_eq!(directory::status(&attempted.directory).unwrap(), directory::Status::Partial);
    let proof = verify::compare(&whole, &finished(&experiment, broken.path())).unwrap();
    assert!(proof.differences.is_empty(), "{proof}");
}

#[test]
fn a_piece_is_begun_only_if_it_ends_in_time_with_some_to_spare() {
    let until = Until::new(Instant::now() + Duration::from_secs(3600), BTreeMap::new());
    assert!(!until.lacks(0.0) && !until.lacks(1800.0) && until.lacks(3000.0));
    assert!(Until::new(Instant::now(), BTreeMap::new()).lacks(0.0));
    let budget = Budget::new(Duration::from_secs(3600));
    assert!(budget.until(0.0, BTreeMap::new()).lacks(2390.0), "a minute is kept for the report");
    assert!(
        budget.until(1200.0, BTreeMap::new()).lacks(1250.0),
        "or what the last one took, with some to spare"
    );
    assert!(budget.planning() < Instant::now() + Duration::from_secs(901));
}

#[test]
fn times_are_read_as_they_are_written() {
    for (typed, seconds) in
        [("4h", 14400.0), ("30m", 1800.0), ("90s", 90.0), ("1.5h", 5400.0), ("1h30m", 5400.0)]
    {
        let time = budget::parse(typed).unwrap();
        assert_eq!(time.as_secs_f64(), seconds, "{typed}");
        assert_eq!(budget::parse(&budget::spelt(time)), Ok(time), "{typed}");
    }
    for typed in ["", "4", "4 h", "h", "0s", "-1h", "4d", "1h30", "1e999h", "nans"] {
        let said = budget::parse(typed).unwrap_err();
        assert!(said.contains("write e.g. 4h, 30m, 90s"), "{typed}: {said}");
    }
}
