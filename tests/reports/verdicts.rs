//! Known effects give the expected verdicts.

use serde_json::json;
use tempfile::tempdir;
use vlp_bench::experiments::record::{Expect, Sign, Status};
use vlp_bench::reports::statistics::{Interval, paired};
use vlp_bench::reports::verdict::{Correction, Judgement, Verdict, judge};
use vlp_bench::reports::{Results, read};

use super::{Study, claim, header, published, study, write};

/// Judges the only claim of a study.
fn judged(study: &Study) -> Judgement {
    let folder = tempdir().expect("a folder");
    study.write(folder.path());
    judged_at(folder.path())
}

fn judged_at(folder: &std::path::Path) -> Judgement {
    let found = read(&[folder.to_owned()]).expect("runs");
    let results = Results::new(&found.experiments[0]);
    results.effects[0].claim.as_ref().expect("a claim").1.clone()
}

#[track_caller]
fn assert_judged(study: &Study, verdict: Verdict, words: &str) {
    let got = judged(study);
    assert_eq!(got.verdict, verdict, "{}", got.because);
    assert!(got.because.contains(words), "{words:?} is not in {:?}", got.because);
}

fn with_published(effect: f64, value: f64, status: Status) -> Study {
    let mut study = study(effect, 5);
    study.about.claims[0].published = Some(published(value, status));
    study
}

#[test]
fn a_clear_effect_of_the_published_size_and_procedure_is_reproduced() {
    assert_judged(&with_published(2.0, 2.0, Status::Verified), Verdict::Reproduced, "reaches the published");
    assert_judged(
        &with_published(2.0, 0.5, Status::SecondHand),
        Verdict::Reproduced,
        "reaches the published",
    );
}

#[test]
fn a_smaller_effect_than_published_has_its_sign_only() {
    assert_judged(
        &with_published(2.0, 9.0, Status::Verified),
        Verdict::SignOnly,
        "smaller than the published",
    );
}

#[test]
fn a_scaled_down_run_reaches_at_most_the_sign() {
    let mut study = with_published(2.0, 2.0, Status::Verified);
    let effect = study.about.claims[0].published.as_mut().expect("published");
    effect.differences.push("14M training pairs there, 20,000 here".to_owned());
    assert_judged(&study, Verdict::SignOnly, "14M training pairs there");
}

#[test]
fn a_recalled_number_is_not_compared_with() {
    let study = with_published(2.0, 2.0, Status::Recalled);
    assert_judged(&study, Verdict::SignOnly, "recalled, unverified");
    let opposite = with_published(2.0, -2.0, Status::Recalled);
    assert_judged(&opposite, Verdict::SignOnly, "recalled, unverified");
}

#[test]
fn a_claim_without_a_published_value_is_judged_on_its_sign() {
    assert_judged(&study(2.0, 5), Verdict::SignOnly, "its sign alone is judged");
    let mut negative = study(-2.0, 5);
    negative.about.claims[0].expect = Expect::Negative;
    assert_judged(&negative, Verdict::SignOnly, "its sign alone is judged");
}

#[test]
fn an_effect_of_the_other_sign_contradicts() {
    assert_judged(&study(-2.0, 5), Verdict::Contradicted, "below zero; above was expected");
    let mut study = study(2.0, 5);
    study.about.claims[0].expect = Expect::Negative;
    assert_judged(&study, Verdict::Contradicted, "above zero; below was expected");
    study.about.claims[0].expect = Expect::None;
    assert_judged(&study, Verdict::Contradicted, "no effect was expected");
}

#[test]
fn an_interval_over_zero_is_inconclusive_and_says_what_it_would_take() {
    let mut study = study(0.1, 5);
    study.noise = 1.0;
    let got = judged(&study);
    assert_eq!(got.verdict, Verdict::Inconclusive);
    let seeds = got.seeds.expect("a number of seeds");
    assert!(
        seeds > 5 && got.because.contains(&format!("{seeds} seeds ({} more)", seeds - 5)),
        "{}",
        got.because
    );

    study.about.claims[0].published = Some(published(40.0, Status::Verified));
    assert!(judged(&study).because.contains("to resolve one of the published size"));

    study.about.claims[0].expect = Expect::None;
    let got = judged(&study);
    assert_eq!(got.verdict, Verdict::Inconclusive, "few seeds cannot show that there is no effect");
    assert!(got.because.contains("bounds the effect to [\u{2212}"), "{}", got.because);
}

#[test]
fn one_seed_is_inconclusive_however_large_the_effect() {
    assert_judged(&study(50.0, 1), Verdict::Inconclusive, "one seed gives no interval");
}

#[test]
fn arms_without_a_common_finished_seed_are_inconclusive() {
    let (folder, study) = (tempdir().expect("a folder"), study(2.0, 2));
    write(&folder.path().join("one"), &study.records("with", 0));
    write(&folder.path().join("other"), &study.records("without", 1));
    let got = judged_at(folder.path());
    assert_eq!(got.verdict, Verdict::Inconclusive);
    assert!(got.because.contains("no seed has this metric in finished runs of both arms"), "{}", got.because);
}

#[test]
fn a_published_effect_of_something_else_is_not_comparable() {
    let mut study = with_published(2.0, 2.0, Status::Verified);
    let effect = study.about.claims[0].published.as_mut().expect("published");
    effect.incomparable.push("accuracy on VQA there, retrieval here".to_owned());
    assert_judged(&study, Verdict::NotComparable, "accuracy on VQA there");
    assert_judged(&with_published(2.0, -1.0, Status::Verified), Verdict::NotComparable, "the other sign");
}

#[test]
fn arms_that_differ_in_what_they_do_not_name_are_not_comparable() {
    let (folder, study) = (tempdir().expect("a folder"), study(2.0, 3));
    study.write(folder.path());
    for seed in 0..3 {
        let mut records = study.records("with", seed);
        header(&mut records).config["train"]["steps"] = json!(2000);
        header(&mut records).config["objectives"][1]["itm"] = json!({"negatives": "random"});
        header(&mut records).data[1].fingerprint = "other".to_owned();
        write(&folder.path().join(format!("with-{seed}")), &records);
    }
    let got = judged_at(folder.path());
    assert_eq!(got.verdict, Verdict::NotComparable);
    for field in ["data.test", "objectives.itm.negatives", "train.steps"] {
        assert!(got.because.contains(field), "{field} is not in {:?}", got.because);
    }
    assert!(!got.because.contains("distill"), "an arm names it: {}", got.because);
}

#[test]
fn who_names_how_pairs_are_rewritten_names_what_is_made_of_them() {
    let (folder, study) = (tempdir().expect("a folder"), study(2.0, 3));
    study.write(folder.path());
    let made = |filter: serde_json::Value| {
        let stages = if filter.is_null() { json!({}) } else { json!({"filter": {"train": {"steps": 150}}}) };
        json!({"bootstrap": {"stages": stages, "settings": {"filter": filter}}})
    };
    let judged = |named: &str| {
        for (arm, filter) in [("with", json!("filter")), ("without", json!(null))] {
            for seed in 0..3 {
                let mut records = study.records(arm, seed);
                let header = header(&mut records);
                header.config["rewrites"] = made(filter.clone());
                header.data[0].fingerprint = arm.to_owned();
                header.overrides.insert(named.to_owned(), json!(null));
                write(&folder.path().join(format!("{arm}-{seed}")), &records);
            }
        }
        judged_at(folder.path())
    };
    for named in ["stages.bootstrap.rewrite", "stages.bootstrap"] {
        assert_eq!(judged(named).verdict, Verdict::SignOnly, "{named}");
    }
    let other = judged("stages.bootstrap.rewrite.threshold");
    assert!(other.because.contains("rewrites.bootstrap.settings.filter"), "{}", other.because);
}

#[test]
fn measuring_in_two_ways_is_not_comparable() {
    let (folder, study) = (tempdir().expect("a folder"), study(2.0, 2));
    study.write(folder.path());
    for seed in 0..2 {
        let mut records = study.records("with", seed);
        for record in &mut records {
            if let vlp_bench::experiments::record::Record::Evaluation(evaluation) = record {
                evaluation.version = 2;
                evaluation.items = 500;
            }
        }
        write(&folder.path().join(format!("with-{seed}")), &records);
    }
    let because = judged_at(folder.path()).because;
    assert!(because.contains("the version of the evaluation"), "{because}");
    assert!(because.contains("the number of test items"), "{because}");
}

#[test]
fn runs_of_two_programs_are_not_comparable_but_a_commit_between_runs_changes_nothing() {
    let (folder, study) = (tempdir().expect("a folder"), study(2.0, 5));
    study.write(folder.path());
    let mut records = study.records("with", 0);
    header(&mut records).code = "0.1.0 (77aa), dirty".to_owned();
    write(&folder.path().join("with-0"), &records);
    assert_eq!(judged_at(folder.path()).verdict, Verdict::SignOnly);
    header(&mut records).program = "90d1".to_owned();
    write(&folder.path().join("with-0"), &records);
    let got = judged_at(folder.path());
    assert_eq!(got.verdict, Verdict::NotComparable);
    assert!(got.because.contains("the program"), "{}", got.because);
}

#[test]
fn a_sign_that_a_paper_states_in_words_is_judged_without_a_size() {
    let mut study = with_published(2.0, 2.0, Status::Verified);
    let effect = study.about.claims[0].published.as_mut().expect("published");
    (effect.value, effect.sign) = (None, Some(Sign::Positive));
    effect.stated = Some("substantially lower without it".to_owned());
    assert_judged(&study, Verdict::SignOnly, "the paper states a sign and no number");
    study.about.claims[0].published.as_mut().expect("published").sign = Some(Sign::Negative);
    assert_judged(&study, Verdict::NotComparable, "the other sign");
}

#[test]
fn a_claim_that_only_its_plain_interval_confirms_is_not_reproduced() {
    let mut one = claim("with", "without", Expect::Positive);
    one.published = Some(published(0.5, Status::Verified));
    let seeds = |values: [f64; 4]| (0..).zip(values).collect();
    let paired = paired(&seeds([1.0, 1.2, 0.5, 0.9]), &seeds([0.1, 0.2, 0.3, 0.2]));
    let corrected = |low: f64| Correction { claims: 10, p: 0.04, interval: Interval { low, high: 1.6 } };
    let got = judge(&one, paired.as_ref(), Some(&corrected(0.1)), &[]);
    assert_eq!(got.verdict, Verdict::Reproduced, "{}", got.because);
    let got = judge(&one, paired.as_ref(), Some(&corrected(-0.1)), &[]);
    assert_eq!(got.verdict, Verdict::SignOnly);
    assert!(got.because.ends_with("corrected for 10 claims, the interval covers zero"), "{}", got.because);
}
