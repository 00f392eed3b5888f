//! What no single setting shows: whether numbers are within their ranges and the parts of a run fit each other.

use std::collections::BTreeSet;

use super::node::Node;
use crate::data::{self, Dataset, Field, Split};
use crate::experiments::beginning;
use crate::experiments::evaluate::{self, Of};
use crate::experiments::failure::Failure;
use crate::experiments::fault::{Fault, suggest};
use crate::experiments::feed::{Pairs, Words};
use crate::experiments::{Origin, Run, Select, Step, Train};
use crate::models::store::Role;
use crate::models::{Inputs, Store};
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

    /// Reports a number that is outside its range.
    fn within(&mut self, fits: bool, key: &str, value: impl std::fmt::Display, help: &str) {
        if !fits {
            self.refuse(key, Fault::new(format!("`{key}` is {value}")).help(help));
        }
    }

    fn numbers(&mut self) {
        let Train { steps, batch, rate, warmup, final_rate, weight_decay, betas, eps, clip, .. } =
            self.run.train;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        self.within(batch > 0, "train.batch", batch, "give at least 1 pair an update");
        self.within(rate > 0.0 && rate.is_finite(), "train.rate", rate, "give a rate above 0, e.g. 5e-4");
        self.within(
            warmup >= 0.0 && (warmup < 1.0 || warmup <= steps as f64),
            "train.warmup",
            warmup,
            "give a share of the steps below 1, or a number of updates up to `train.steps`",
        );
        self.within(
            share(final_rate),
            "train.final_rate",
            final_rate,
            "give a share of `train.rate` from 0 to 1",
        );
        self.within(weight_decay >= 0.0, "train.weight_decay", weight_decay, "give 0 or more, e.g. 0.05");
        let averages = betas.iter().all(|beta| (0.0..1.0).contains(beta));
        self.within(
            averages,
            "train.betas",
            format!("{betas:?}"),
            "give two numbers from 0 to below 1, e.g. [0.9, 0.98]",
        );
        self.within(eps > 0.0, "train.eps", eps, "give a small number above 0, e.g. 1e-6");
        if let Some(clip) = clip {
            self.within(clip > 0.0, "train.clip", clip, "give a norm above 0, or null for no bound");
        }
        if let Some(teacher) = self.run.train.teacher {
            let momentum = teacher.momentum;
            self.within(
                share(momentum),
                "train.teacher.momentum",
                momentum,
                "give a number from 0 to 1, e.g. 0.995",
            );
        }
        self.intervals();
    }

    fn intervals(&mut self) {
        let Train { log, evaluate_every, checkpoint, .. } = &self.run.train;
        let counts = [
            ("train.log", Some(*log)),
            ("train.evaluate_every", *evaluate_every),
            ("train.checkpoint.steps", checkpoint.steps),
        ];
        for (key, count) in counts {
            self.within(count != Some(0), key, 0, "give at least 1 update");
        }
        if let Some(seconds) = checkpoint.seconds {
            self.within(seconds > 0.0, "train.checkpoint.seconds", seconds, "give a time above 0, or null");
        }
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

    /// Asks the model about itself; only data without a fault tells what it is fed.
    fn model(&mut self) {
        let pairs = Words::shipped().and_then(|words| Pairs::open(&self.data, &words, 0));
        let key = format!("model.{}", self.run.model.name());
        match pairs {
            Ok(pairs) => {
                self.hidden_words(&pairs.inputs);
                for fault in self.run.model.faults(&pairs.inputs) {
                    self.refuse(&key, Fault::new(format!("`{}`: {fault}", self.run.model.name())));
                }
                if self.faults.is_empty()
                    && let Err(error) = self.parameters(&pairs.inputs)
                {
                    self.refuse(&key, Fault::new(error.to_string()));
                }
            }
            Err(Failure::Data(error)) => self.data_fault("data", &error),
            Err(failure) => self.refuse("data", Fault::new(failure.to_string())),
        }
    }

    /// Refuses objectives that hide words where the tokenizer has nothing to hide them behind.
    fn hidden_words(&mut self, inputs: &Inputs) {
        if inputs.specials.mask.is_some() {
            return;
        }
        for objective in self.run.objectives.iter().filter(|objective| objective.needs().hides) {
            let name = objective.name();
            let fault = Fault::new(format!("`{name}` cannot be part of this run"))
                .note(format!("{name} hides words behind a token that stands for them"))
                .note("the tokenizer of `data.tokenizer` has no such token");
            self.refuse(
                &format!("objectives.{name}"),
                fault.help("take a tokenizer with [MASK], such as BERT's, or another objective"),
            );
        }
    }

    /// Opens an outline of every parameter, which names and counts them without their values.
    fn parameters(&mut self, inputs: &Inputs) -> candle_core::Result<()> {
        let run = self.run;
        let store = Store::outline(&run.train.freeze);
        run.open(&store, inputs)?;
        let names: Vec<String> = store.entries().into_keys().collect();
        for pattern in store.idle_patterns() {
            let number = run.train.freeze.iter().position(|known| *known == pattern).unwrap_or_default();
            let written =
                self.tree.get("train").and_then(|train| train.get("freeze")?.elements().get(number));
            let fault = Fault::new(format!("`{pattern}` freezes nothing: no parameter is called so"));
            let fault = fault.at(written.and_then(|node| node.place.as_ref()));
            self.refuse("train.freeze", fault.help(parts(&names)));
        }
        self.start(&store, inputs);
        if store.count(Role::Trainable) == 0 {
            let fault = Fault::new("there is nothing to train: every parameter is frozen");
            self.refuse("train.freeze", fault.help(parts(&names)));
        }
        Ok(())
    }

    /// Refuses values to begin with that do not fit the parameters of the run.
    fn start(&mut self, store: &Store, inputs: &Inputs) {
        let student = [Role::Trainable, Role::Frozen].into_iter().flat_map(|role| store.of(role));
        let here = student.map(|(name, entry)| (name, entry.shape)).collect();
        for values in &self.run.start {
            let found = Words::shipped().and_then(|words| beginning::there(values, self.run, inputs, &words));
            let refused = match found.map(|there| values.resolve(&there, &here)) {
                Ok(Ok(_)) => continue,
                Ok(Err(faults)) => {
                    let fault = Fault::new(format!("{} does not fit this run", values.from));
                    faults.into_iter().fold(fault, Fault::note)
                }
                Err(failure) => Fault::new(failure.to_string()),
            };
            let name = match &values.from {
                Origin::Stage(name) => name.as_str(),
                Origin::Run(_) => "run",
                Origin::Weights(_) => "weights",
            };
            self.refuse(&format!("start.{name}"), refused);
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

/// The parts that parameters belong to, as patterns.
fn parts(names: &[String]) -> String {
    let parts: BTreeSet<&str> = names.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    let patterns: Vec<String> = parts.iter().map(|part| format!("`{part}.*`")).collect();
    format!("patterns that freeze a part: {}", patterns.join(", "))
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
