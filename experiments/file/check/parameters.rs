//! What the model says of itself and of its parameters: their shapes, what is frozen, what they begin with.

use std::collections::BTreeSet;

use super::Checker;
use crate::experiments::Origin;
use crate::experiments::beginning;
use crate::experiments::failure::Failure;
use crate::experiments::fault::Fault;
use crate::experiments::feed::{Pairs, Words};
use crate::models::store::Role;
use crate::models::{Inputs, Store};

impl Checker<'_> {
    /// Asks the model about itself; only data without a fault tells what it is fed.
    pub(super) fn model(&mut self) {
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
}

/// The parts that parameters belong to, as patterns.
fn parts(names: &[String]) -> String {
    let parts: BTreeSet<&str> = names.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    let patterns: Vec<String> = parts.iter().map(|part| format!("`{part}.*`")).collect();
    format!("patterns that freeze a part: {}", patterns.join(", "))
}
