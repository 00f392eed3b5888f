//! What the verdicts are worth: on many synthetic experiments of which the truth is known, how often they err.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use vlp_bench::experiments::record::{Done, Evaluation, Expect, Header, Measured, Record, Status};
use vlp_bench::kernels::random::Key;
use vlp_bench::reports::verdict::Verdict;
use vlp_bench::reports::{End, Experiment, Results, Run};

use super::{METRIC, claim, published, study};

const EXPERIMENTS: u64 = 2000;
const SEEDS: u64 = 5;

/// An experiment of two or more arms as `read` would find it; arms after the first are better by `effect`, which a paper
/// claims to be `theirs`, and one seed's differences stray by 0.7.
fn experiment(number: u64, effect: f64, arms: usize, theirs: f64) -> Experiment {
    let names: Vec<String> = (0..arms).map(|arm| format!("arm-{arm}")).collect();
    static HEADER: OnceLock<Header> = OnceLock::new();
    let header = HEADER.get_or_init(|| match study(0.0, 1).records("with", 0).remove(0) {
        Record::Run(header) => *header,
        _ => panic!("records begin with a header"),
    });
    let mut about = header.experiment.clone();
    about.arms.clone_from(&names);
    about.control = Some(names[0].clone());
    about.seeds = (0..SEEDS).collect();
    about.claims = names[1..].iter().map(|arm| claim(arm, &names[0], Expect::Positive)).collect();
    about.claims.iter_mut().for_each(|claim| claim.published = Some(published(theirs, Status::Verified)));
    // One draw for all: what each seed does to every arm, then what it does to each.
    let draws = Key::new(0, number, "simulation").normal((arms + 1) * SEEDS as usize);
    let draw = |row: usize, seed: u64| f64::from(draws[row * SEEDS as usize + seed as usize]);
    let run = |arm: usize, seed: u64| {
        let value =
            20.0 + if arm > 0 { effect } else { 0.0 } + 1.5 * draw(0, seed) + 0.5 * draw(arm + 1, seed);
        let mut header = header.clone();
        (header.arm, header.seed) = (names[arm].clone(), seed);
        let measured = Measured { value, percent: true, chance: None, sampling_error: None };
        Run {
            place: PathBuf::new(),
            header,
            training: Vec::new(),
            evaluations: vec![Evaluation {
                step: 1000,
                name: "retrieval".to_owned(),
                version: 1,
                split: "test".to_owned(),
                selected: true,
                items: 1000,
                values: BTreeMap::from([(METRIC.to_owned(), measured)]),
                seconds: 1.0,
            }],
            rewritten: Vec::new(),
            examples: Vec::new(),
            end: End::Done(Done {
                steps: 1000,
                seconds: 95.0,
                pairs_per_second: 673.0,
                peak_memory: None,
                weights: String::new(),
            }),
        }
    };
    let runs = (0..arms).flat_map(|arm| (0..SEEDS).map(move |seed| (arm, seed)));
    Experiment {
        runs: runs.map(|(arm, seed)| run(arm, seed)).collect(),
        about,
        commands: Vec::new(),
        unfinished: Vec::new(),
        missing: Vec::new(),
    }
}

/// How often something is so of the verdicts of one experiment.
fn share(experiments: u64, of: impl Fn(u64) -> bool) -> f64 {
    (0..experiments).filter(|number| of(*number)).count() as f64 / experiments as f64
}

fn verdicts(experiment: &Experiment) -> Vec<Verdict> {
    let results = Results::new(experiment);
    results.effects.iter().filter_map(|effect| Some(effect.claim.as_ref()?.1.verdict)).collect()
}

#[test]
fn ninety_five_percent_of_the_intervals_of_a_known_effect_cover_it() {
    let covered = share(EXPERIMENTS, |number| {
        let experiment = experiment(number, 1.3, 2, 1.3);
        let results = Results::new(&experiment);
        let paired = results.effects[0].paired.as_ref().expect("common seeds");
        paired.summary.interval.expect("several seeds").covers(1.3)
    });
    assert!((covered - 0.95).abs() <= 0.015, "{covered} of the intervals cover the effect");
}

#[test]
fn an_effect_that_is_not_there_is_confirmed_in_at_most_one_of_forty_experiments() {
    let found: Vec<Verdict> =
        (0..EXPERIMENTS).flat_map(|number| verdicts(&experiment(number, 0.0, 2, 0.0001))).collect();
    let share = |wanted: &[Verdict]| {
        found.iter().filter(|verdict| wanted.contains(verdict)).count() as f64 / found.len() as f64
    };
    let (confirmed, contradicted) =
        (share(&[Verdict::Reproduced, Verdict::SignOnly]), share(&[Verdict::Contradicted]));
    // Three standard errors of 2.5 % in as many experiments.
    let most = 0.025 + 3.0 * (0.025 * 0.975 / EXPERIMENTS as f64).sqrt();
    assert!(confirmed <= most, "{confirmed} confirm what is not there");
    assert!(contradicted <= most, "{contradicted} contradict on the other side");
}

#[test]
fn several_claims_of_nothing_are_reproduced_no_more_often_than_one() {
    let several =
        share(800, |number| verdicts(&experiment(number, 0.0, 4, 0.0001)).contains(&Verdict::Reproduced));
    let most = 0.025 + 3.0 * (0.025f64 * 0.975 / 800.0).sqrt();
    assert!(
        several <= most,
        "{several} of the experiments reproduce one of three effects that are not there"
    );
}

#[test]
fn a_large_effect_of_the_published_size_is_reproduced_in_most_experiments() {
    let reproduced = share(400, |number| verdicts(&experiment(number, 2.0, 2, 2.0)) == [Verdict::Reproduced]);
    assert!(reproduced > 0.9, "{reproduced}");
}
