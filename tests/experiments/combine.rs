//! Updates that train one group of objectives: which, how often, and what stays.

use std::collections::BTreeSet;

use vlp_bench::experiments::{Combine, Run, Train, verify};

use super::file::{refuses, with};
use super::training::{trainer, values};
use super::{attempt, experiment, finished, uniter_run};

const NAMES: [&str; 5] = ["itm", "wra", "mlm", "mrfr", "mrc_kl"];

#[test]
fn groups_are_drawn_by_ratio_and_a_draw_is_a_function_of_seed_and_step() {
    let combine = uniter_run().train.combine;
    let groups = combine.groups(&NAMES);
    let shares = [(vec![0, 1], 1.0 / 3.0), (vec![2], 1.0 / 3.0), (vec![4], 1.0 / 6.0), (vec![3], 1.0 / 6.0)];
    assert_eq!(groups, shares);
    let steps = 6000;
    for (places, share) in groups {
        let drawn = (0..steps).filter(|&step| combine.drawn(&NAMES, 3, step) == places).count();
        let deviation = (f64::from(steps as u32) * share * (1.0 - share)).sqrt();
        assert!(
            (drawn as f64 - f64::from(steps as u32) * share).abs() < 5.0 * deviation,
            "{places:?}: {drawn}"
        );
    }
    let run = |seed| (0..40).map(|step| combine.drawn(&NAMES, seed, step)).collect::<Vec<_>>();
    assert!(run(3) == run(3) && run(3) != run(4));
    assert_eq!(Combine::Sum.drawn(&NAMES, 3, 9), [0, 1, 2, 3, 4]);
}

#[test]
fn an_update_measures_and_moves_what_its_group_reaches_and_nothing_else() {
    let run = Run { train: Train { warmup: 0.0, ..uniter_run().train }, ..uniter_run() };
    let (mut trainer, mut next) = trainer(&run);
    let mut seen = BTreeSet::new();
    let mut counts = 0;
    for step in 0..12 {
        let group = run.train.combine.drawn(&NAMES, 0, step);
        let before = values(&trainer);
        let figures = trainer.update(&next()).unwrap();
        let after = values(&trainer);
        for (place, name) in NAMES.iter().enumerate() {
            let ran = group.contains(&place);
            assert_eq!(figures.contains_key(&format!("{name}.loss")), ran, "{name} at {step}");
            let head = match *name {
                "itm" => "itm.head.weight",
                "mrc_kl" => "mrc.head.weight",
                "mrfr" => "region_decoder.bias",
                "mlm" => "decoder.bias",
                _ => continue,
            };
            assert_eq!(before[head] != after[head], ran, "{head} at {step}");
            if *name == "itm" {
                counts += u64::from(ran);
                assert_eq!(trainer.counts().get(head).copied().unwrap_or(0), counts);
            }
        }
        assert_eq!(trainer.counts()["words.words"], step + 1);
        seen.insert(group);
    }
    assert_eq!(seen.len(), 4, "twelve updates draw every group");
}

#[test]
fn a_run_that_draws_groups_goes_on_bit_equal() {
    let experiment = experiment(uniter_run());
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let whole = finished(&experiment, whole.path());
    for stop in [1, 5, 7] {
        attempt(&experiment, broken.path(), Some(stop));
    }
    let proof = verify::compare(&whole, &finished(&experiment, broken.path())).unwrap();
    assert!(proof.differences.is_empty(), "{proof}");
}

#[test]
fn groups_that_do_not_fit_the_objectives_are_refused_where_they_stand() {
    let sample = |sample: &str| {
        let text = with("objectives: [itc, itc_sigmoid]");
        text.replace("batch: 8", &format!("batch: 8, combine: {{sample: {{{sample}}}}}"))
    };
    for (groups, place, words) in [
        ("itc: 1, itc_sigmoid: 1, itm: 1", "5:77", "`itm` is no objective of this run"),
        ("itc: 1, itc_sigmod: 1", "5:68", "did you mean `itc_sigmoid`?"),
        ("itc: 1, itc+itc_sigmoid: 1", "5:73", "`itc` is in two groups"),
        ("itc: 0, itc_sigmoid: 1", "5:53", "`itc` has the ratio 0"),
        ("itc+itc_sigmoid: -1", "5:65", "give a ratio above 0"),
        ("itc: 1", "5:39", "`itc_sigmoid` is in no group"),
        ("itc: 1, itc_sigmoid: null", "5:39", "add `itc_sigmoid: 1`"),
    ] {
        super::file::told(&sample(groups), place, words);
    }
    refuses(
        &with("train: {batch: 8, combine: mean}"),
        &[("6:28", &["there is no `mean`", "known here: sum, sample"])],
    );
    assert!(super::file::accepted(&sample("itc: 2, itc_sigmoid: 0.5")));
    assert!(super::file::accepted(&sample("itc+itc_sigmoid: 1")));
}
