//! Means, intervals, paired differences and power against scipy and by simulation.

use std::collections::BTreeMap;

use serde::Deserialize;
use vlp_bench::kernels::random::Key;
use vlp_bench::reports::statistics::{Interval, detectable, holm, paired, power, seeds_needed, summary};

#[derive(Deserialize)]
struct Golden {
    summaries: Vec<GoldenSummary>,
    powers: Vec<GoldenPower>,
    needed: Vec<GoldenNeed>,
    pairs: Vec<GoldenPairs>,
    holm: Vec<GoldenHolm>,
    detectable: Vec<GoldenDetectable>,
}

#[derive(Deserialize)]
struct GoldenSummary {
    values: Vec<f64>,
    mean: f64,
    sd: f64,
    low: f64,
    high: f64,
    /// The bounds at 99 %.
    wide: [f64; 2],
    p: f64,
}

#[derive(Deserialize)]
struct GoldenPairs {
    arm: Vec<f64>,
    minus: Vec<f64>,
    mean: f64,
    low: f64,
    high: f64,
    p: f64,
}

#[derive(Deserialize)]
struct GoldenHolm {
    ps: Vec<f64>,
    adjusted: Vec<f64>,
}

#[derive(Deserialize)]
struct GoldenDetectable {
    n: usize,
    sd: f64,
    effect: f64,
}

#[derive(Deserialize)]
struct GoldenPower {
    n: usize,
    effect: f64,
    sd: f64,
    power: f64,
}

#[derive(Deserialize)]
struct GoldenNeed {
    effect: f64,
    sd: f64,
    n: usize,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/statistics.json")).expect("the fixture")
}

#[track_caller]
fn assert_close(got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance * expected.abs().max(1.0), "got {got}, expected {expected}");
}

#[test]
fn means_deviations_and_intervals_equal_those_of_scipy() {
    for expected in golden().summaries {
        let got = summary(&expected.values).expect("values");
        assert_eq!(got.n, expected.values.len());
        assert_close(got.mean, expected.mean, 1e-12);
        assert_close(got.sd.expect("several values"), expected.sd, 1e-12);
        let Interval { low, high } = got.interval.expect("several values");
        assert_close(low, expected.low, 1e-9);
        assert_close(high, expected.high, 1e-9);
        let Interval { low, high } = got.at(0.99).expect("several values");
        assert_close(low, expected.wide[0], 1e-9);
        assert_close(high, expected.wide[1], 1e-9);
        let p = got.p().expect("several values");
        assert!((p - expected.p).abs() <= 1e-9 * expected.p.max(1e-6), "got {p}, expected {}", expected.p);
    }
}

#[test]
fn paired_differences_equal_the_paired_test_of_scipy() {
    for expected in golden().pairs {
        let seeds = |values: &[f64]| (0..).zip(values.iter().copied()).collect::<BTreeMap<u64, f64>>();
        let got = paired(&seeds(&expected.arm), &seeds(&expected.minus)).expect("common seeds").summary;
        assert_close(got.mean, expected.mean, 1e-12);
        assert_close(got.interval.expect("several").low, expected.low, 1e-9);
        assert_close(got.interval.expect("several").high, expected.high, 1e-9);
        assert_close(got.p().expect("several"), expected.p, 1e-9);
    }
}

#[test]
fn several_p_are_corrected_as_statsmodels_corrects_them() {
    for GoldenHolm { ps, adjusted } in golden().holm {
        for (got, expected) in holm(&ps).into_iter().zip(adjusted) {
            assert_close(got.p, expected, 1e-12);
        }
    }
    assert!(holm(&[]).is_empty());
}

#[test]
fn a_corrected_interval_excludes_zero_exactly_where_the_corrected_p_is_below_five_percent() {
    for index in 0..300 {
        let summaries: Vec<_> = (0..4)
            .filter_map(|claim| {
                let draws = Key::new(5, index, "corrected").fold(claim).normal(5);
                let effect = 0.6 * claim as f64;
                summary(&draws.iter().map(|draw| effect + f64::from(*draw)).collect::<Vec<_>>())
            })
            .collect();
        let ps: Vec<f64> = summaries.iter().filter_map(|summary| summary.p()).collect();
        for (summary, corrected) in summaries.iter().zip(holm(&ps)) {
            let interval = summary.at(corrected.confidence).expect("several values");
            assert_eq!(corrected.p < 0.05, !interval.covers(0.0), "{corrected:?}: {interval:?}");
            assert!(corrected.p >= summary.p().expect("several values"));
        }
    }
}

#[test]
fn power_and_the_seeds_it_takes_equal_those_of_scipy() {
    for GoldenPower { n, effect, sd, power: expected } in golden().powers {
        assert_close(power(n, effect, sd), expected, 1e-5);
    }
    for GoldenNeed { effect, sd, n } in golden().needed {
        assert_eq!(seeds_needed(effect, sd), Some(n), "effect {effect}, deviation {sd}");
    }
    for GoldenDetectable { n, sd, effect } in golden().detectable {
        assert_close(detectable(n, sd).expect("several seeds"), effect, 1e-4);
    }
    assert_eq!(detectable(1, 1.0), None);
}

#[test]
fn one_value_gives_a_mean_and_no_interval_and_no_value_gives_nothing() {
    let one = summary(&[3.5]).expect("a value");
    assert_eq!((one.n, one.mean, one.sd, one.interval), (1, 3.5, None, None));
    assert_eq!(summary(&[]), None);
    assert_eq!(power(1, 100.0, 1.0), 0.0);
}

#[test]
fn equal_values_give_an_interval_without_width() {
    let equal = summary(&[2.0, 2.0, 2.0]).expect("values");
    assert_eq!(equal.interval, Some(Interval { low: 2.0, high: 2.0 }));
    assert_eq!(equal.p(), Some(0.0));
    assert_eq!(summary(&[0.0, 0.0]).and_then(|nothing| nothing.p()), Some(1.0));
    assert_eq!(seeds_needed(2.0, 0.0), Some(2));
    assert_eq!(seeds_needed(0.0, 0.0), None, "no number of seeds resolves nothing");
    assert_eq!(seeds_needed(1e-6, 1.0), None);
}

#[test]
fn arms_are_compared_over_the_seeds_that_both_have() {
    let arm = BTreeMap::from([(0, 10.0), (1, 12.0), (2, 11.0), (7, 1000.0)]);
    let minus = BTreeMap::from([(2, 10.0), (0, 9.0), (1, 9.0), (5, -1000.0)]);
    let paired = paired(&arm, &minus).expect("common seeds");
    assert_eq!(paired.differences, vec![(0, 1.0), (1, 3.0), (2, 1.0)]);
    assert_eq!((paired.summary.n, paired.summary.mean), (3, 5.0 / 3.0));
    assert_eq!(vlp_bench::reports::statistics::paired(&arm, &BTreeMap::from([(9, 1.0)])), None);
}

#[test]
fn ninety_five_percent_of_intervals_cover_the_true_mean() {
    let experiments = 4000;
    for n in [2, 3, 5, 12] {
        let covered = (0..experiments).filter(|index| {
            let draws = Key::new(1, *index, "coverage").fold(n as u64).normal(n);
            let values: Vec<f64> = draws.iter().map(|draw| 20.0 + 3.0 * f64::from(*draw)).collect();
            summary(&values)
                .and_then(|summary| summary.interval)
                .is_some_and(|interval| interval.covers(20.0))
        });
        let share = covered.count() as f64 / experiments as f64;
        assert!((share - 0.95).abs() <= 0.015, "{share} of the intervals of {n} values cover the mean");
    }
}

#[test]
fn the_stated_number_of_seeds_resolves_the_effect_as_often_as_promised() {
    let (effect, sd, experiments) = (1.0, 1.2, 4000);
    let n = seeds_needed(effect, sd).expect("a number");
    let resolved = (0..experiments).filter(|index| {
        let draws = Key::new(2, *index, "power").normal(n);
        let values: Vec<f64> = draws.iter().map(|draw| effect + sd * f64::from(*draw)).collect();
        summary(&values).and_then(|summary| summary.interval).is_some_and(|interval| interval.low > 0.0)
    });
    let share = resolved.count() as f64 / experiments as f64;
    assert!((0.78..0.86).contains(&share), "{n} seeds resolve the effect in {share} of the experiments");
}
