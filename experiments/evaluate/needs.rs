//! What an evaluation cannot do without, and whether a run has it: every reason against it, in the words of both sides.

use std::collections::BTreeSet;

use crate::data::{Field, Split};
use crate::experiments::Run;
use crate::experiments::fault::Fault;
use crate::models::Ability;

/// One thing that an evaluation cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The setting that asks for it, below the evaluation's own word; `None`: the evaluation asks for it in any case.
    pub setting: Option<&'static str>,
    /// What is asked for.
    pub of: Of,
}

/// Who must have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// The model must be able to do this.
    Model(Ability),
    /// The pairs of a split must have this field.
    Data(Split, Field),
    /// This objective must be trained, for a head that is its own.
    Objective {
        /// The objective's word.
        name: &'static str,
        /// What the head is read for: "ranks by the matching head".
        does: &'static str,
    },
}

impl Need {
    /// The evaluation needs this in any case.
    pub fn always(of: Of) -> Self {
        Self { setting: None, of }
    }

    /// The evaluation needs this as `setting` is set.
    pub fn by(setting: &'static str, of: Of) -> Self {
        Self { setting: Some(setting), of }
    }

    /// What is wrong with a run that lacks it; `name` is the evaluation's word. What the data offers is known for the
    /// splits that could be opened: `fields` gives it.
    pub fn missing<'a>(
        &self,
        name: &str,
        run: &Run,
        fields: impl Fn(Split) -> Option<&'a BTreeSet<Field>>,
    ) -> Option<Fault> {
        let (word, model) = (self.setting.unwrap_or(name), &run.model);
        match self.of {
            Of::Model(ability) => (!model.abilities().contains(&ability)).then(|| {
                let fault = Fault::new(format!("`{word}` cannot evaluate `{}`", model.name()));
                fault.note(format!("{word} needs {}", ability.wanted())).note(model.lacks(ability))
            }),
            Of::Data(split, field) => {
                let offered = fields(split).filter(|offered| !offered.contains(&field))?;
                let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
                let fault = Fault::new(format!("`{word}` needs {field}, which `data.{split}` does not have"));
                Some(fault.note(format!("`data.{split}` has {}", offered.join(", "))))
            }
            Of::Objective { name, does } => {
                let trained = run.objectives.iter().any(|objective| objective.name() == name);
                (!trained).then(|| {
                    let fault = Fault::new(format!("`{word}` {does}, which only `{name}` trains"));
                    fault.help(format!("add `{name}` to `objectives`, or leave `{word}` out"))
                })
            }
        }
    }
}
