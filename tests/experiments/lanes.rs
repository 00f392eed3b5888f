//! Runs side by side: the same results as one after another, whatever they share.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use vlp_bench::experiments::plan::{elapsed, plan};
use vlp_bench::experiments::record::{Header, Record};
use vlp_bench::experiments::run::Options;
use vlp_bench::experiments::suite::{Only, Summary, run_all};
use vlp_bench::experiments::{Experiment, checkpoint, file, journal};
use vlp_bench::kernels::threads::{Lanes, side_by_side};

use super::options;

/// Two arms that begin with the same stage, so that lanes meet at it.
const FILE: &str = "\
question: Do lanes keep out of each other's way?
data: {train: {scenes: {pairs: 96, size: 16}}, test: {scenes: {pairs: 24, size: 16}}, size: 16, words: 16}
model: {clip: {image: {width: 32, depth: 1, heads: 2}, text: {width: 32, depth: 1, heads: 2}, embed: 16}}
objectives: [itc]
train: {steps: 4, batch: 8, log: 2}
evaluate: [retrieval]
stages: [before: {train: {steps: 3, rate: 5e-4}}]
start: before
ablate: {control: slow, arms: {slow: {}, fast: {train.rate: 1e-3}}}
seeds: [0, 1, 2]
";

fn read() -> Experiment {
    file::read("lanes.yaml", FILE).unwrap_or_else(|fault| panic!("{fault}"))
}

fn in_lanes(experiment: &Experiment, jobs: usize, out: &Path) -> Summary {
    run_all(experiment, &Only::default(), &Options { jobs, ..options(out) }).unwrap()
}

/// The last weights of every run, in the order of the grid.
fn weights(summary: &Summary) -> Vec<String> {
    let digest = |directory| checkpoint::digest(&checkpoint::selected(directory).unwrap().1).unwrap();
    summary.done.iter().map(|directory| digest(directory)).collect()
}

fn header(directory: &Path) -> Header {
    match journal::read(directory).unwrap().swap_remove(0) {
        Record::Run(header) => *header,
        other => panic!("{other:?}"),
    }
}

#[test]
fn runs_side_by_side_end_with_the_bits_of_runs_one_after_another() {
    let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let experiment = read();
    let (alone, beside) = (in_lanes(&experiment, 1, one.path()), in_lanes(&experiment, 4, two.path()));
    assert_eq!((beside.done.len(), beside.failed.len(), beside.stopped), (6, 0, false), "{beside}");
    assert_eq!(weights(&alone), weights(&beside));
    // Whoever came second to a stage waited for it and found it done.
    let stages = std::fs::read_dir(two.path().join("stages/full/before")).unwrap();
    assert_eq!(stages.count(), 3);
    assert_eq!(header(&beside.done[0]).machine.side_by_side, Some(4));
    assert_eq!(header(&alone.done[0]).machine.side_by_side, None);
    let again = in_lanes(&experiment, 2, two.path());
    assert_eq!((again.done, again.known), (beside.done, 6));
}

#[test]
fn a_fault_in_one_lane_leaves_the_others_their_runs() {
    let out = tempfile::tempdir().unwrap();
    let mut experiment = read();
    experiment.arms[1].run.train.rate = f64::INFINITY;
    let summary = in_lanes(&experiment, 3, out.path());
    assert_eq!((summary.done.len(), summary.failed.len()), (3, 3), "{summary}");
    let failed: Vec<_> = summary.failed.iter().map(|(arm, seed, _)| (arm.as_str(), *seed)).collect();
    assert_eq!(failed, [("fast", 0), ("fast", 1), ("fast", 2)]);
}

#[test]
fn a_plan_of_lanes_measures_them_at_work() {
    let out = tempfile::tempdir().unwrap();
    let planned = plan(&read(), &Only::default(), &Options { jobs: 2, ..options(out.path()) }).unwrap();
    let each: Vec<f64> = planned.runs.iter().map(|run| run.seconds_left).collect();
    let (all, longest) = (each.iter().sum::<f64>(), each.iter().copied().fold(0.0, f64::max));
    assert!((all / 2.0..=all / 2.0 + longest).contains(&planned.seconds_left()), "{planned}");
}

#[test]
fn each_takes_the_next_when_it_is_free() {
    assert_eq!(elapsed([3.0, 1.0, 1.0, 2.0], 2), 4.0);
    assert_eq!(elapsed([3.0, 1.0], 1), 4.0);
    assert_eq!(elapsed([3.0, 1.0], 5), 3.0);
    assert_eq!(elapsed([], 2), 0.0);
}

#[test]
fn lanes_share_the_threads_and_do_their_work_at_once() {
    let whole = rayon::current_num_threads();
    // As many as there are threads, which lead a lane each, and more, which have threads of their own.
    for count in [1, whole, whole + 1] {
        // None comes to an end before all have begun.
        let begun = AtomicUsize::new(0);
        let lanes = Lanes::new(count).unwrap();
        let threads = lanes.work(|| {
            begun.fetch_add(1, Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) < count {
                std::thread::yield_now();
            }
            assert_eq!(side_by_side(), count);
            rayon::current_num_threads()
        });
        assert_eq!(threads, vec![if count > whole { 1 } else { whole }; count]);
        assert_eq!(side_by_side(), 1);
    }
}

#[test]
fn who_leads_no_lane_any_more_helps_the_one_that_is_left() {
    let (lanes, helped) = (Lanes::new(2).unwrap(), AtomicUsize::new(0));
    if rayon::current_num_threads() < 2 {
        return;
    }
    let first = AtomicUsize::new(0);
    lanes.work(|| {
        if first.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        // Both halves are at work at once, on two threads, or this never ends.
        let half = || {
            helped.fetch_add(1, Ordering::SeqCst);
            while helped.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        };
        rayon::join(half, half);
    });
    assert_eq!(helped.into_inner(), 2);
}
