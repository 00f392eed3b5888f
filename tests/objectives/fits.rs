use std::collections::BTreeSet;

use candle_core::{Result, bail};
use vlp_bench::models::{Abilities, Ability, Dims, Field, Inputs, Model, ModelConfig, Vars};
use vlp_bench::objectives::{Config, Offer, Reason, fits, runs};

use super::config;

/// A model with given abilities.
struct Able {
    abilities: Abilities,
    reads: BTreeSet<Field>,
}

fn able(abilities: impl IntoIterator<Item = Ability>) -> Able {
    let reads = [Field::Pixels, Field::Words, Field::Tags, Field::Regions].into();
    Able { abilities: abilities.into_iter().collect(), reads }
}

impl ModelConfig for Able {
    fn abilities(&self) -> Abilities {
        self.abilities.clone()
    }
    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Fuse => "this model has no joint pass",
            _ => "this model has no such part",
        }
    }
    fn reads(&self) -> BTreeSet<Field> {
        self.reads.clone()
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

fn refused(objective: &Config, model: &Able) -> Vec<Reason> {
    fits(objective, "able", model)
}

fn offer(teacher: bool, batch: usize, fields: &BTreeSet<Field>) -> Offer<'_> {
    Offer { teacher, batch, fields }
}

#[test]
fn an_objective_fits_exactly_the_models_that_have_all_it_needs() {
    let every = able(Ability::ALL);
    for objective in Config::all() {
        assert_eq!(refused(&objective, &every), [], "{}", objective.name());
        for ability in objective.needs().abilities {
            let mut others: Abilities = Ability::ALL.into();
            others.remove(&ability);
            let reasons = refused(&objective, &able(others));
            assert_eq!(reasons.len(), 1, "{}", objective.name());
            assert_eq!(reasons[0].need, ability.wanted());
        }
    }
}

#[test]
fn a_refusal_has_the_words_of_both_sides_and_says_what_would_fit() {
    let reasons = refused(&config("itm: {negatives: hard}"), &able([Ability::Embed]));
    assert_eq!(
        reasons,
        [Reason {
            need: "a joint pass in which words see each other both ways (fuse)".to_owned(),
            offered: "this model has no joint pass".to_owned(),
            help: None,
        }]
    );
    let joint = able([Ability::Fuse]);
    let reasons = refused(&config("itm: {negatives: hard}"), &joint);
    assert_eq!(reasons[0].help.as_deref(), Some("`negatives: random` does without similarities"));
    assert_eq!(refused(&config("itm: {negatives: random}"), &joint), []);
}

#[test]
fn a_setting_is_proposed_only_to_a_model_that_it_fits() {
    let help = |entry: &str, abilities: &[Ability]| {
        let reasons = refused(&config(entry), &able(abilities.iter().copied()));
        reasons.last().and_then(|reason| reason.help.clone()).unwrap_or_default()
    };
    assert!(help("answer: {}", &[Ability::Generate, Ability::Embed]).starts_with("`from: causal` reads"));
    assert!(help("answer: {}", &[Ability::Embed]).starts_with("`from: embeds` reads"));
    assert_eq!(help("answer: {}", &[Ability::ImageTokens]), "");
    assert_eq!(help("itm: {}", &[Ability::ImageTokens]), "");
}

#[test]
fn a_model_that_does_not_read_what_is_asked_about_says_what_it_reads() {
    let model = Able { reads: [Field::Words, Field::Tags, Field::Category].into(), ..able(Ability::ALL) };
    let reasons = refused(&config("ground: {}"), &model);
    assert_eq!(reasons[0].need, "a model that reads regions");
    assert_eq!(reasons[0].offered, "able reads words, tags and category, not regions");
}

#[test]
fn a_run_without_a_teacher_or_with_one_pair_is_refused_where_that_matters() {
    let fields = [Field::Pixels, Field::Words].into();
    let teacherless = runs(&config("itc_momentum: {queue: 0}"), &offer(false, 1, &fields));
    let needs: Vec<&str> = teacherless.iter().map(|reason| reason.need.as_str()).collect();
    assert_eq!(needs, ["a slow copy of the model (teacher)", "at least 2 pairs a batch"]);
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
