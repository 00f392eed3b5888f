use std::collections::BTreeSet;

use candle_core::{Result, bail};
use vlp_bench::models::{Abilities, Ability, Dims, Field, Inputs, Model, ModelConfig, Vars};
use vlp_bench::objectives::{Config, Offer, Reason, fits, runs};

use super::config;

/// A model with given abilities.
struct Able(Abilities);

impl ModelConfig for Able {
    fn abilities(&self) -> Abilities {
        self.0.clone()
    }
    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Fuse => "this model has no joint pass",
            _ => "this model has no such part",
        }
    }
    fn reads(&self) -> BTreeSet<Field> {
        [Field::Pixels, Field::Words, Field::Tags, Field::Regions].into()
    }
    fn faults(&self, _: &Inputs) -> Vec<String> {
        Vec::new()
    }
    fn dims(&self, _: &Inputs) -> Dims {
        super::tiny::DIMS
    }
    fn build(&self, _: &Vars, _: &Inputs) -> Result<Box<dyn Model>> {
        bail!("never built")
    }
}

fn offer(teacher: bool, batch: usize, fields: &BTreeSet<Field>) -> Offer<'_> {
    Offer { teacher, batch, fields }
}

#[test]
fn an_objective_fits_exactly_the_models_that_have_all_it_needs() {
    let every = Able(Ability::ALL.into());
    for objective in Config::all() {
        assert_eq!(fits(&objective, &every), [], "{}", objective.name());
        for ability in objective.needs().abilities {
            let mut others: Abilities = Ability::ALL.into();
            others.remove(&ability);
            let reasons = fits(&objective, &Able(others));
            assert_eq!(reasons.len(), 1, "{}", objective.name());
            assert_eq!(reasons[0].wants, format!("{} needs {}", objective.name(), ability.wanted()));
        }
    }
}

#[test]
fn a_refusal_has_the_words_of_both_sides_and_says_what_would_fit() {
    let reasons = fits(&config("itm: {negatives: hard}"), &Able([Ability::Embed].into()));
    assert_eq!(
        reasons,
        [Reason {
            wants: "itm needs a joint pass in which words see each other both ways (fuse)".to_owned(),
            offered: "this model has no joint pass".to_owned(),
            help: None,
        }]
    );
    let joint = Able([Ability::Fuse].into());
    let reasons = fits(&config("itm: {negatives: hard}"), &joint);
    assert_eq!(reasons[0].help.as_deref(), Some("`negatives: random` does without similarities"));
    assert_eq!(fits(&config("itm: {negatives: random}"), &joint), []);
}

#[test]
fn a_run_without_a_teacher_or_with_one_pair_is_refused_where_that_matters() {
    let fields = [Field::Pixels, Field::Words].into();
    let teacherless = runs(&config("itc_momentum: {queue: 0}"), &offer(false, 1, &fields));
    let wants: Vec<&str> = teacherless.iter().map(|reason| reason.wants.as_str()).collect();
    assert_eq!(
        wants,
        [
            "itc_momentum needs a slow copy of the model (teacher)",
            "itc_momentum needs at least 2 pairs a batch"
        ]
    );
    assert_eq!(runs(&config("itc_momentum: {queue: 8}"), &offer(true, 2, &fields)), []);
    assert_eq!(runs(&config("mlm: {distill: 0}"), &offer(false, 1, &fields)), []);
    assert_eq!(runs(&config("mlm: {distill: 0.4}"), &offer(false, 8, &fields)).len(), 1);
    assert_eq!(runs(&config("itc: {}"), &offer(false, 1, &fields)).len(), 1);
}

#[test]
fn faults_name_the_setting_and_its_value() {
    let faults = |entry| config(entry).faults();
    assert_eq!(faults("itc_momentum: {distill: 1.5}"), ["distill 1.5 is not in [0, 1]"]);
    assert_eq!(
        faults("mlm: {probability: 0, distill: -1, ramp: .nan}"),
        [
            "distill -1 is not in [0, 1]",
            "ramp NaN is not a number of passes over the training pairs",
            "probability 0 is not in (0, 1]"
        ]
    );
    assert!(Config::all().iter().all(|objective| objective.faults().is_empty()));
}
