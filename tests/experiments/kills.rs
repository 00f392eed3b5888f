//! Processes that are really killed, and what their successors make of what they left behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vlp_bench::experiments::progress::Show;
use vlp_bench::experiments::{Checkpointing, Experiment, Train, verify};
use vlp_bench::kernels::random::Key;

use super::{albef_run, attempt, experiment, finished};

const OUT: &str = "VLP_TEST_OUT";
const EVERY: &str = "VLP_TEST_EVERY";

fn subject(every: u64) -> Experiment {
    let mut run = albef_run();
    let checkpoint = Checkpointing { steps: Some(every), seconds: None };
    run.train = Train { steps: 40, log: 3, evaluate_every: Some(11), checkpoint, ..run.train };
    experiment(run)
}

/// What a process of its own does in the tests below; by itself it does nothing.
#[test]
fn a_child_trains_where_it_is_told() {
    let (Ok(out), Ok(every)) = (std::env::var(OUT), std::env::var(EVERY)) else { return };
    finished(&subject(every.parse().unwrap()), Path::new(&out));
}

fn child(out: &Path, every: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "experiments::kills::a_child_trains_where_it_is_told"]);
    command.env(OUT, out).env(EVERY, every.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_run_killed_at_random_moments_goes_on_bit_equal() {
    let whole = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    assert!(child(whole.path(), 1).status().unwrap().success());
    let duration = begun.elapsed();
    let experiment = subject(1);
    let whole = attempt(&experiment, whole.path(), None).directory;
    let moments = Key::new(0, 0, "moments").uniform(20);
    for (number, moment) in moments.iter().enumerate() {
        let out = tempfile::tempdir().unwrap();
        let mut process = child(out.path(), 1).spawn().unwrap();
        std::thread::sleep(Duration::from_secs_f64(duration.as_secs_f64() * f64::from(*moment)));
        process.kill().unwrap();
        process.wait().unwrap();
        let broken = attempt(&experiment, out.path(), None).directory;
        let proof = verify::compare(&whole, &broken).unwrap();
        assert!(proof.differences.is_empty(), "moment {number}: {proof}");
    }
}

#[test]
fn the_proof_of_resumption_kills_compares_and_tidies_up() {
    let out = tempfile::tempdir().unwrap();
    let place = out.path().join("proof");
    let experiment = subject(1);
    let run = (&experiment.arms[0], 0);
    let proof = verify::verify_resume(&experiment, run, &place, Show::Nothing, child).unwrap();
    assert!(proof.differences.is_empty(), "{proof}");
    assert!(
        proof.killed_at >= 20 && proof.killed_at < 40 && proof.tensors > 100 && proof.records > 20,
        "{proof}"
    );
    assert!(proof.to_string().contains("bit-equal") && !place.exists(), "{proof}");
}

#[test]
fn a_difference_is_found_and_named() {
    let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut experiment = subject(40);
    let first = finished(&experiment, one.path());
    experiment.arms[0].run.train.clip = Some(0.9);
    let second = finished(&experiment, two.path());
    let proof = verify::compare(&first, &second).unwrap();
    assert!(proof.differences.contains(&"record 1".to_owned()), "{proof}");
    assert!(proof.differences.iter().any(|name| name.starts_with("tensor moments of")), "{proof}");
    assert!(proof.to_string().contains("DIFFERENT"), "{proof}");
}
