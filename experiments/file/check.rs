//! What no single setting shows: whether numbers are within their ranges and the parts of a run fit each other.

mod numbers;
mod parameters;

use std::collections::BTreeSet;

use super::node::Node;
use crate::data::{self, Dataset, Field, Split};
use crate::experiments::evaluate::{self, Of};
use crate::experiments::fault::{Fault, suggest};
use crate::experiments::{Run, Select, Step};
use crate::objectives::{self, Offer, Reason};

/// Everything that is wrong with a run whose settings could be read; `tree` says where they are written.
pub fn check(tree: &Node, run: &Run) -> Vec<Fault> {
    let mut checker = Checker { tree, run, data: run.expected(), faults: Vec::new() };
    checker.numbers();
    checker.objectives();
    checker.groups();
    let splits = checker.data();
    checker.fields(&splits);
    if checker.faults.is_empty() {
        checker.model();
    }
    checker.evaluation(&splits);
    checker.selection();
    checker.faults
}

/// How many pairs a split has, and what it has for each.
struct Facts {
    pairs: usize,
    fields: BTreeSet<Field>,
}

/// What is known of each split that the file names and that can be opened.
struct Splits {
    train: Option<Facts>,
    val: Option<Facts>,
    test: Option<Facts>,
}

impl Splits {
    fn of(&self, split: Split) -> Option<&Facts> {
        match split {
            Split::Train => self.train.as_ref(),
            Split::Val => self.val.as_ref(),
            Split::Test => self.test.as_ref(),
        }
    }
}

struct Checker<'a> {
    tree: &'a Node,
    run: &'a Run,
    /// The run's data as far as it is known before stages have made theirs.
    data: data::Config,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    /// Reports a fault of the setting at a dotted key.
    fn refuse(&mut self, key: &str, fault: Fault) {
        self.faults.push(fault.at(self.tree.locate(key)));
    }

    fn objectives(&mut self) {
        if self.run.objectives.is_empty() {
            let names: Vec<&str> = objectives::Config::all().iter().map(objectives::Config::name).collect();
            let fault = Fault::new("there is nothing to train: no objective is listed");
            self.refuse("objectives", fault.help(format!("known objectives: {}", names.join(", "))));
        }
        for (number, objective) in self.run.objectives.iter().enumerate() {
            let name = objective.name();
            let key = format!("objectives.{name}");
            if self.run.objectives[..number].iter().any(|earlier| earlier.name() == name) {
                let again = self.tree.get("objectives").and_then(|list| list.elements().get(number));
                let place = again.and_then(Node::name).and_then(|(_, place)| place);
                self.faults.push(Fault::new(format!("`{name}` is listed twice")).at(place));
                continue;
            }
            let weight = objective.weight();
            if !(weight > 0.0 && weight.is_finite()) {
                let fault = Fault::new(format!("`{name}` has the weight {weight}"));
                let help = "give a weight above 0, or leave the objective out of the list";
                self.refuse(&format!("{key}.weight"), fault.help(help));
            }
            for fault in objective.faults() {
                self.refuse(&key, Fault::new(format!("`{name}`: {fault}")));
            }
            self.legality(objective, &key);
        }
    }

    /// Refuses groups of objectives that leave one out or name another.
    fn groups(&mut self) {
        let names: Vec<&str> = self.run.objectives.iter().map(objectives::Config::name).collect();
        for (key, fault) in self.run.train.combine.faults(&names) {
            self.refuse(&key, fault);
        }
    }

    /// Refuses an objective that the model cannot serve.
    fn legality(&mut self, objective: &objectives::Config, key: &str) {
        let model = &self.run.model;
        let reasons = objectives::fits(objective, model.name(), &**model);
        if reasons.is_empty() {
            return;
        }
        let fault = Fault::new(format!("`{}` cannot train `{}`", objective.name(), model.name()));
        let all = objectives::Config::all();
        let fitting: Vec<&str> = all
            .iter()
            .filter(|other| objectives::fits(other, model.name(), &**model).is_empty())
            .map(|other| other.name())
            .collect();
        let fault = explained(fault, objective.name(), reasons);
        let help = format!("objectives that fit {}: {}", model.name(), fitting.join(", "));
        self.refuse(key, fault.help(help));
    }

    /// Opens the data; says what is wrong with it and whether it has what the objectives read.
    fn data(&mut self) -> Splits {
        if let Err(error) = self.data.check() {
            self.data_fault("data", &error);
            return Splits { train: None, val: None, test: None };
        }
        let train = self.open(Split::Train);
        let val = self.open(Split::Val);
        let test = self.open(Split::Test);
        let batch = self.run.train.batch;
        if let Some(facts) = &train {
            if batch > facts.pairs {
                let fault =
                    Fault::new(format!("a batch of {batch} is more than all {} training pairs", facts.pairs));
                self.refuse("train.batch", fault.help("take a smaller batch or more pairs"));
            }
            for objective in &self.run.objectives {
                let offer = Offer { teacher: self.run.train.teacher.is_some(), batch, fields: &facts.fields };
                let reasons = objectives::runs(objective, &offer);
                if !reasons.is_empty() {
                    let fault = Fault::new(format!("`{}` cannot be part of this run", objective.name()));
                    self.refuse(
                        &format!("objectives.{}", objective.name()),
                        explained(fault, objective.name(), reasons),
                    );
                }
            }
        }
        Splits { train, val, test }
    }

    fn open(&mut self, split: Split) -> Option<Facts> {
        match self.data.open(split, 0) {
            Ok(dataset) => {
                let dataset: std::sync::Arc<dyn Dataset> = dataset?;
                Some(Facts { pairs: dataset.len(), fields: dataset.fields() })
            }
            Err(error) => {
                self.data_fault(&format!("data.{split}"), &error);
                None
            }
        }
    }

    /// Reports a fault of the data; `key` leads to the section it lies in.
    fn data_fault(&mut self, key: &str, error: &data::Error) {
        match error {
            data::Error::Setting { key: setting, problem, help } => {
                let below = match setting.strip_prefix("data.") {
                    Some(_) => setting.clone(),
                    None => format!("{key}.{setting}"),
                };
                self.refuse(&below, Fault::new(format!("`{setting}` {problem}")).help(help));
            }
            data::Error::Pack { file, problem, help } => {
                self.refuse(key, Fault::new(format!("{}: {problem}", file.display())).help(help));
            }
            other => self.refuse(key, Fault::new(other.to_string())),
        }
    }

    /// Refuses a model that reads what the data has not.
    fn fields(&mut self, splits: &Splits) {
        let model = &self.run.model;
        let key = format!("model.{}", model.name());
        for (split, facts) in [("train", &splits.train), ("test", &splits.test)] {
            let Some(facts) = facts else { continue };
            for field in model.reads().difference(&facts.fields) {
                let offered: Vec<String> = facts.fields.iter().map(ToString::to_string).collect();
                let fault = Fault::new(format!(
                    "`{}` reads {field}, which `data.{split}` does not have",
                    model.name()
                ));
                self.refuse(&key, fault.note(format!("`data.{split}` has {}", offered.join(", "))));
            }
        }
    }

    fn evaluation(&mut self, splits: &Splits) {
        if !self.run.evaluate.is_empty() && self.run.data.test.is_none() {
            let fault = Fault::new("there is nothing to evaluate on: `data.test` names no pairs");
            self.refuse("evaluate", fault.help("add `test: {..}` to `data`"));
        }
        for (number, evaluate) in self.run.evaluate.iter().enumerate() {
            let name = evaluate.name();
            let key = format!("evaluate.{name}");
            if self.run.evaluate[..number].iter().any(|earlier| earlier.name() == name) {
                self.refuse(&key, Fault::new(format!("`{name}` is listed twice")));
                continue;
            }
            for (setting, fault) in evaluate.faults() {
                self.refuse(&format!("{key}.{setting}"), fault);
            }
            self.needs(evaluate, &key, splits);
        }
    }

    /// Refuses an evaluation that the model, the data or the objectives cannot serve.
    fn needs(&mut self, evaluate: &evaluate::Config, key: &str, splits: &Splits) {
        let fields = |split| splits.of(split).map(|facts| &facts.fields);
        for need in evaluate.needs() {
            let Some(fault) = need.missing(evaluate.name(), self.run, fields) else { continue };
            let instead = match need.of {
                Of::Model(ability) => evaluate.without(ability, &self.run.model.abilities()),
                _ => None,
            };
            let key = need.setting.map_or_else(|| key.to_owned(), |setting| format!("{key}.{setting}"));
            self.refuse(&key, instead.into_iter().fold(fault, Fault::help));
        }
    }

    fn selection(&mut self) {
        let Select { step: Step::BestOn { split, metric } } = &self.run.select else { return };
        let key = "select.step.best_on";
        if *split == Split::Test {
            let fault = Fault::new("the reported split cannot choose what is reported");
            let fault = fault.note("the best of many values on `test` is better than the model is");
            self.refuse(&format!("{key}.split"), fault.help("choose on `val`"));
        } else if *split == Split::Val && self.run.data.val.is_none() {
            let fault = Fault::new("`select` chooses on `val`, but `data.val` names no pairs");
            self.refuse(&format!("{key}.split"), fault.help("add `val: {..}` to `data`"));
        }
        let metrics: Vec<String> = self.run.evaluate.iter().flat_map(|evaluate| evaluate.metrics()).collect();
        if !metrics.contains(metric) {
            let fault = Fault::new(format!("nothing measures `{metric}`"));
            let help = suggest(metric, metrics.iter().map(String::as_str));
            self.refuse(&format!("{key}.metric"), fault.help(help));
        }
        if self.run.train.evaluate_every.is_none() {
            let fault = Fault::new("there is one step to choose from: `train.evaluate_every` is not set");
            self.refuse(key, fault.help("set `train.evaluate_every`, or `select: {step: last}`"));
        }
    }
}

fn explained(fault: Fault, objective: &str, reasons: Vec<Reason>) -> Fault {
    reasons.into_iter().fold(fault, |fault, reason| {
        let fault = fault.note(format!("{objective} needs {}", reason.need)).note(reason.offered);
        match reason.help {
            Some(help) => fault.help(help),
            None => fault,
        }
    })
}
