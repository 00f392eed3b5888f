//! The first record of a run: what is run, of what, on which data and machine.

use candle_core::Device;

use super::failure::Result;
use super::feed::Pairs;
use super::machine;
use super::published::{self, Rerun};
use super::record::{ClaimRecord, DataRecord, ExperimentRecord, FORMAT, Header};
use super::{Arm, Claim, Experiment, Run, Step, bootstrap};
use crate::data::{Dataset, Split};
use crate::kernels::Precision;
use crate::models::{Store, store::Role};

/// Writes the header of one run.
///
/// # Errors
/// When the configuration cannot be written as JSON.
pub fn header(
    experiment: &Experiment,
    arm: &Arm,
    seed: u64,
    hash: &str,
    pairs: &Pairs,
    (store, flops_per_step): (&Store, f64),
    command: &str,
) -> Result<Header> {
    // By way of text, so that a number keeps the digits it was typed with.
    let config = serde_json::to_string(&arm.run)
        .and_then(|text| serde_json::from_str(&text))
        .map_err(|fault| candle_core::Error::Msg(format!("a configuration cannot be written: {fault}")))?;
    let device: &Device = store.device();
    Ok(Header {
        format: FORMAT,
        experiment: experiment_record(experiment, &arm.run, pairs, command)?,
        arm: arm.name.clone(),
        overrides: arm.overrides.clone(),
        seed,
        config,
        hash: hash.to_owned(),
        model: arm.run.model.name().to_owned(),
        objectives: arm.run.objectives.iter().map(|config| config.name().to_owned()).collect(),
        parameters: store.count(Role::Trainable) as u64,
        flops_per_step,
        data: splits(pairs).map(|(split, dataset)| data_record(split, dataset)).collect(),
        attribution: attribution(pairs),
        deviations: deviations(&arm.run),
        code: machine::code(),
        program: machine::program().to_owned(),
        machine: machine::describe(device),
        start: Vec::new(),
    })
}

fn experiment_record(
    experiment: &Experiment,
    run: &Run,
    pairs: &Pairs,
    command: &str,
) -> Result<ExperimentRecord> {
    Ok(ExperimentRecord {
        name: experiment.name.clone(),
        question: experiment.question.clone(),
        chosen: experiment.chosen.clone(),
        paper: experiment.paper.clone(),
        profile: experiment.profile.clone(),
        control: experiment.control.clone(),
        arms: experiment.arms.iter().map(|arm| arm.name.clone()).collect(),
        seeds: experiment.seeds.clone(),
        claims: experiment.claims.iter().map(|claim| recorded(claim, run, pairs)).collect::<Result<_>>()?,
        select: match &run.select.step {
            Step::Last => "the last step".to_owned(),
            Step::BestOn { split, metric } => format!("the step with the best {metric} on {split}"),
        },
        command: command.to_owned(),
    })
}

fn recorded(claim: &Claim, run: &Run, pairs: &Pairs) -> Result<ClaimRecord> {
    let tested = pairs.split(Split::Test).map_or_else(String::new, |test| test.name());
    let rerun = Rerun {
        metric: &claim.effect.metric,
        pairs: pairs.train.len(),
        size: pairs.inputs.size,
        batch: run.train.batch,
        tested: &tested,
    };
    let published = claim.published.as_ref().map(|key| published::effect(key, &rerun)).transpose()?;
    Ok(ClaimRecord { effect: claim.effect.clone(), expect: claim.expect, published })
}

fn splits(pairs: &Pairs) -> impl Iterator<Item = (Split, &dyn Dataset)> {
    [Split::Train, Split::Val, Split::Test]
        .into_iter()
        .filter_map(|split| pairs.split(split).map(|dataset| (split, dataset.as_ref())))
}

fn data_record(split: Split, dataset: &dyn Dataset) -> DataRecord {
    DataRecord {
        split: split.to_string(),
        name: dataset.name(),
        pairs: dataset.len(),
        fingerprint: dataset.fingerprint(),
    }
}

fn attribution(pairs: &Pairs) -> Vec<String> {
    let mut lines = Vec::new();
    for line in splits(pairs).flat_map(|(_, dataset)| dataset.attribution()) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn deviations(run: &Run) -> Vec<String> {
    let named = |name: &str, lines: Vec<String>| {
        lines.into_iter().map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
    };
    let mut all = named(run.model.name(), run.model.deviations());
    for config in &run.objectives {
        all.extend(named(config.name(), config.deviations()));
    }
    if run.train.precision != Precision::F32 {
        all.extend(named("precision", machine::deviations()));
    }
    if !run.rewrites.is_empty() {
        all.extend(named("rewrite", bootstrap::deviations()));
    }
    for config in &run.evaluate {
        all.extend(named(config.name(), config.deviations()));
    }
    all
}
