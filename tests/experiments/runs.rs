//! A run from its first update to its last record, interrupted or not.

use std::fs::File;

use vlp_bench::data::Split;
use vlp_bench::experiments::failure::Failure;
use vlp_bench::experiments::record::{Evaluation, Record};
use vlp_bench::experiments::run::{Outcome, run};
use vlp_bench::experiments::suite::{Only, run_all};
use vlp_bench::experiments::{Run, Select, Step, Train, checkpoint, directory, journal, verify};

use super::{albef_run, arm, attempt, clip_run, experiment, finished, options, scenes};

fn train_steps(records: &[Record]) -> Vec<u64> {
    let step = |record: &Record| match record {
        Record::Train(figures) => Some(figures.step),
        _ => None,
    };
    records.iter().filter_map(step).collect()
}

fn evaluations(records: Vec<Record>) -> Vec<Evaluation> {
    let found = |record| match record {
        Record::Evaluation(found) => Some(found),
        _ => None,
    };
    records.into_iter().filter_map(found).collect()
}

#[test]
fn a_run_leaves_records_metrics_its_configuration_and_a_checkpoint() {
    let out = tempfile::tempdir().unwrap();
    let directory = finished(&experiment(clip_run()), out.path());
    let records = journal::read(&directory).unwrap();
    assert!(matches!(&records[0], Record::Run(header) if header.model == "clip" && header.parameters > 1000));
    assert!(
        matches!(records.last(), Some(Record::Done(done)) if done.steps == 12 && done.weights.len() == 64)
    );
    assert_eq!(train_steps(&records), [5, 10, 12]);
    let examples = records.iter().filter(|record| matches!(record, Record::Example(_))).count();
    assert_eq!(examples, 8);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    assert!(read("config.yaml").contains("steps: 12"));
    assert!(read("metrics.csv").contains("12,test,retrieval.mean_recall,"));
    assert_eq!(checkpoint::peek(&checkpoint::path(&directory)).unwrap().unwrap().step, 12);
}

#[test]
fn equal_runs_leave_equal_bits_and_other_seeds_others() {
    let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let experiment = experiment(albef_run());
    let [first, second] = [&one, &two].map(|out| finished(&experiment, out.path()));
    let proof = verify::compare(&first, &second).unwrap();
    assert!(proof.differences.is_empty(), "{proof}");
    assert!(proof.tensors > 100 && proof.records > 10, "{proof}");
    let other = run(&experiment, &experiment.arms[0], 1, &options(one.path())).unwrap();
    let proof = verify::compare(&first, &other.directory).unwrap();
    assert!(proof.differences.iter().any(|name| name.starts_with("tensor text")), "{proof}");
}

#[test]
fn a_run_stopped_anywhere_goes_on_bit_equal() {
    for run in [clip_run(), albef_run()] {
        let experiment = experiment(run);
        let whole = tempfile::tempdir().unwrap();
        let whole = finished(&experiment, whole.path());
        let broken = tempfile::tempdir().unwrap();
        for stop in [1, 5, 7] {
            let attempted = attempt(&experiment, broken.path(), Some(stop));
            assert_eq!(attempted.outcome, Outcome::Stopped);
        }
        let proof = verify::compare(&whole, &finished(&experiment, broken.path())).unwrap();
        assert!(proof.differences.is_empty(), "{proof}");
    }
}

#[test]
fn records_beyond_the_checkpoint_are_cut_back() {
    let experiment = experiment(clip_run());
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let whole = finished(&experiment, whole.path());
    let directory = attempt(&experiment, broken.path(), Some(4)).directory;
    let early = std::fs::read(checkpoint::path(&directory)).unwrap();
    attempt(&experiment, broken.path(), Some(11));
    assert_eq!(train_steps(&journal::read(&directory).unwrap()), [5, 10]);
    std::fs::write(checkpoint::path(&directory), early).unwrap();
    let proof = verify::compare(&whole, &finished(&experiment, broken.path())).unwrap();
    assert!(proof.differences.is_empty(), "{proof}");
}

#[test]
fn a_done_run_is_skipped_and_another_configuration_is_another_run() {
    let out = tempfile::tempdir().unwrap();
    let mut experiment = experiment(clip_run());
    let first = finished(&experiment, out.path());
    assert!(matches!(attempt(&experiment, out.path(), None).outcome, Outcome::Known(_)));
    // How often the state is saved decides nothing.
    experiment.arms[0].run.train.checkpoint.steps = Some(3);
    assert!(matches!(attempt(&experiment, out.path(), None).outcome, Outcome::Known(_)));
    experiment.arms[0].run.train.rate = 1e-3;
    assert_ne!(finished(&experiment, out.path()), first);
}

#[test]
fn a_loss_that_is_no_number_names_the_objective_and_the_run_can_be_tried_again() {
    let out = tempfile::tempdir().unwrap();
    let train = Train { rate: 1e30, clip: None, warmup: 0.0, ..clip_run().train };
    let experiment = experiment(Run { train, ..clip_run() });
    let fault = run(&experiment, &experiment.arms[0], 0, &options(out.path())).unwrap_err();
    assert!(matches!(&fault, Failure::NonFinite { objective, .. } if objective == "itc"), "{fault}");
    assert_eq!(fault.exit_code(), 1);
    let summary = run_all(&experiment, &Only::default(), &options(out.path())).unwrap();
    assert_eq!((summary.done.len(), summary.failed.len(), summary.exit_code()), (0, 1, 1));
    assert!(summary.to_string().contains("itc"), "{summary}");
    let directory =
        std::fs::read_dir(out.path().join("tiny/full/main")).unwrap().next().unwrap().unwrap().path();
    let status = directory::status(&directory).unwrap();
    assert!(
        matches!(&status, directory::Status::Failed(reason) if reason.contains("not finite")),
        "{status:?}"
    );
}

#[test]
fn a_fault_in_one_run_does_not_keep_the_others_from_running() {
    let out = tempfile::tempdir().unwrap();
    let mut experiment = experiment(clip_run());
    let mut broken = clip_run();
    broken.train = Train { rate: 1e30, clip: None, warmup: 0.0, ..broken.train };
    experiment.arms.insert(0, arm("broken", broken));
    experiment.seeds = vec![3, 4];
    let summary = run_all(&experiment, &Only::default(), &options(out.path())).unwrap();
    assert_eq!((summary.done.len(), summary.failed.len()), (2, 2), "{summary}");
    let again =
        run_all(&experiment, &Only { arms: vec!["main".to_owned()], seeds: vec![4] }, &options(out.path()));
    let again = again.unwrap();
    assert_eq!((again.done.len(), again.known, again.failed.len()), (1, 1, 0));
}

#[test]
fn two_processes_cannot_train_the_same_run() {
    let out = tempfile::tempdir().unwrap();
    // A lock on the file itself is what another process holds.
    let lock = File::create(out.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let fault = directory::enter(out.path()).unwrap_err();
    assert!(matches!(fault, Failure::Busy { .. }) && fault.exit_code() == 1, "{fault}");
    drop(lock);
    directory::enter(out.path()).unwrap();
}

#[test]
fn a_place_that_cannot_be_written_is_refused_at_once() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let fault = run_all(&experiment(clip_run()), &Only::default(), &options(&file)).err().unwrap();
    assert!(matches!(fault, Failure::Unwritable { .. }) && fault.exit_code() == 2, "{fault}");
    assert_eq!(std::fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn the_selected_step_is_the_best_on_another_split() {
    let out = tempfile::tempdir().unwrap();
    let mut run = clip_run();
    run.data.val = Some(scenes(30));
    run.train.evaluate_every = Some(4);
    let metric = "retrieval.mean_recall".to_owned();
    run.select = Select { step: Step::BestOn { split: Split::Val, metric: metric.clone() } };
    let experiment = experiment(run);
    let directory = finished(&experiment, out.path());
    let found = evaluations(journal::read(&directory).unwrap());
    let of = |split: &str| found.iter().filter(|found| found.split == split).collect::<Vec<_>>();
    let validations = of("val");
    assert_eq!(validations.iter().map(|found| found.step).collect::<Vec<_>>(), [4, 8, 12]);
    let best = validations.iter().map(|found| found.values[&metric].value).fold(f64::MIN, f64::max);
    let first = validations.iter().find(|found| found.values[&metric].value == best).unwrap();
    let tests = of("test");
    assert_eq!(tests.len(), 1);
    assert!(tests[0].selected && tests[0].step == first.step);

    let broken = tempfile::tempdir().unwrap();
    attempt(&experiment, broken.path(), Some(9));
    let proof = verify::compare(&directory, &finished(&experiment, broken.path())).unwrap();
    assert!(proof.differences.is_empty(), "{proof}");
}

#[test]
fn evaluations_on_the_way_are_not_selected() {
    let out = tempfile::tempdir().unwrap();
    let mut run = clip_run();
    run.train.evaluate_every = Some(6);
    let found = evaluations(journal::read(&finished(&experiment(run), out.path())).unwrap());
    let seen: Vec<_> = found.iter().map(|found| (found.step, found.selected)).collect();
    assert_eq!(seen, [(6, false), (12, true)]);
}
