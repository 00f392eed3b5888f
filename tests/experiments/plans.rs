//! What a plan says before and after the runs.

use vlp_bench::experiments::Experiment;
use vlp_bench::experiments::directory::Status;
use vlp_bench::experiments::plan::plan;
use vlp_bench::experiments::suite::{Only, run_all};

use super::{albef_run, arm, attempt, clip_run, experiment, options};

fn two_arms() -> Experiment {
    let mut experiment = experiment(clip_run());
    experiment.arms.push(arm("albef", albef_run()));
    experiment.seeds = vec![0, 1];
    experiment
}

#[test]
fn a_plan_names_each_arms_size_and_what_is_left() {
    let out = tempfile::tempdir().unwrap();
    let experiment = two_arms();
    attempt(&experiment, out.path(), Some(6));
    let plan = plan(&experiment, &Only::default(), &options(out.path())).unwrap();
    println!("{plan}");
    assert_eq!(plan.costs.iter().map(|cost| cost.arm.as_str()).collect::<Vec<_>>(), ["main", "albef"]);
    assert!(plan.costs.iter().all(|cost| cost.parameters > 1000 && cost.flops_per_step > 1e6));
    // ALBEF makes three joint passes and one over masked words, its teacher most of that once more.
    assert!(plan.costs[1].flops_per_step > 4.0 * plan.costs[0].flops_per_step, "{plan}");
    assert!(plan.costs.iter().all(|cost| cost.step_seconds > 0.0 && cost.evaluation_seconds > 0.0));
    assert_eq!(plan.runs.len(), 4);
    assert_eq!((&plan.runs[0].status, plan.runs[0].step), (&Status::Partial, 6));
    let left = plan.runs[0].seconds_left / plan.costs[0].seconds();
    assert!((left - 0.5).abs() < 1e-9);
    let text = plan.to_string();
    assert!(text.contains("main, seed 0: goes on from step 6") && text.contains("4 runs"), "{text}");
}

#[test]
fn a_plan_is_held_against_what_the_runs_took() {
    let out = tempfile::tempdir().unwrap();
    let experiment = experiment(clip_run());
    let planned = plan(&experiment, &Only::default(), &options(out.path())).unwrap();
    let summary = run_all(&experiment, &Only::default(), &options(out.path())).unwrap();
    let (before, took) = summary.planned.unwrap();
    assert!((before - planned.seconds_left()).abs() < 1e-9 && took > 0.0);
    assert!(summary.to_string().contains("; planned "), "{summary}");
    let again = plan(&experiment, &Only::default(), &options(out.path())).unwrap();
    assert!(matches!(again.runs[0].status, Status::Done(_)) && again.seconds_left() == 0.0);
}
