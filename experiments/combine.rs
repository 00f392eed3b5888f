//! Which objectives an update trains: all of them at once, or one group of them drawn by ratio.
//!
//! UNITER, Chen et al., arXiv:1909.11740, section 3.1, trains one task a batch: mlm, mrfr, mrc_kl or itm with wra, drawn
//! with probabilities in proportion to ratios. The draw is a function of the seed and of the step.
//!
//! A parameter that the drawn group does not reach keeps its value and its moments, without weight decay, and its bias
//! correction counts the updates that it took part in: the released optimiser leaves out parameters without a gradient.
//! Deviation: under the PyTorch of that code a gradient, once there, was set to zero between updates and not removed, so
//! that momentum and weight decay went on moving a head while other tasks were trained.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fault::{Fault, suggest};
use crate::kernels::random::Key;

/// Between the objectives of a group: `itm+wra`.
const AND: char = '+';

/// `combine: sum`, or `combine: {sample: {mlm: 2, mrfr: 1, mrc_kl: 1, itm+wra: 2}}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Every update minimises the weighted sum of all objectives.
    #[default]
    Sum,
    /// Every update minimises the weighted sum of one group; the ratio of each group, null: the group is left out.
    Sample(BTreeMap<String, Option<f64>>),
}

impl Combine {
    /// Whether all objectives are trained at once.
    pub fn is_sum(&self) -> bool {
        *self == Self::Sum
    }

    /// The groups among objectives of these names, each as their places in the list, and the probability of each group.
    pub fn groups(&self, names: &[&str]) -> Vec<(Vec<usize>, f64)> {
        let Self::Sample(ratios) = self else { return vec![((0..names.len()).collect(), 1.0)] };
        let total: f64 = ratios.values().flatten().sum();
        let places = |group: &str| {
            let within = |name: &str| group.split(AND).any(|one| one == name);
            (0..names.len()).filter(|&place| within(names[place])).collect()
        };
        let kept = ratios.iter().filter_map(|(group, ratio)| Some((group, (*ratio)?)));
        kept.map(|(group, ratio)| (places(group), ratio / total)).collect()
    }

    /// The places of the objectives that the update after `step` updates trains.
    pub fn drawn(&self, names: &[&str], seed: u64, step: u64) -> Vec<usize> {
        let mut groups = self.groups(names);
        let weights: Vec<f32> = groups.iter().map(|(_, share)| *share as f32).collect();
        let drawn = Key::new(seed, step, "train.task").choose_weighted(&weights);
        drawn.map_or_else(Vec::new, |drawn| groups.swap_remove(drawn).0)
    }

    /// What is wrong with it in a run with objectives of these names, each with the key that it lies below.
    pub fn faults(&self, names: &[&str]) -> Vec<(String, Fault)> {
        const KEY: &str = "train.combine.sample";
        let Self::Sample(ratios) = self else { return Vec::new() };
        let mut faults = Vec::new();
        let mut known: Vec<&str> = Vec::new();
        for (group, ratio) in ratios.iter().filter_map(|(group, ratio)| Some((group, (*ratio)?))) {
            let key = format!("{KEY}.{group}");
            if !(ratio > 0.0 && ratio.is_finite()) {
                let fault = Fault::new(format!("`{group}` has the ratio {ratio}"));
                faults
                    .push((key.clone(), fault.help("give a ratio above 0, or null to leave the group out")));
            }
            for name in group.split(AND) {
                if !names.contains(&name) {
                    let fault = Fault::new(format!("`{name}` is no objective of this run"));
                    faults.push((key.clone(), fault.help(suggest(name, names.iter().copied()))));
                } else if known.contains(&name) {
                    faults.push((key.clone(), Fault::new(format!("`{name}` is in two groups"))));
                }
                known.push(name);
            }
        }
        for name in names.iter().filter(|name| !known.contains(name)) {
            let fault = Fault::new(format!("`{name}` is in no group, so that it is never trained"));
            faults.push((KEY.to_owned(), fault.help(format!("add `{name}: 1`, or leave `{name}` out"))));
        }
        faults
    }
}
