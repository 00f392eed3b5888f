//! Training: one batch in, one update of the weights out, whatever the model and the objectives are.
//!
//! The loss is the weighted sum of the losses of the objectives that the update trains: all of them, or a group that is
//! drawn ([`super::combine`]). Its gradient is scaled to a global norm of at most
//! `train.clip` (Pascanu et al., arXiv:1211.5063) and followed by AdamW, whose weight decay spares gains, biases and
//! the temperature. The teacher, where an objective asks for one, follows the updated student.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::failure::{Failure, Result};
use super::meter::Figures;
use super::{Run, Train, schedule};
use crate::kernels::optim::AdamW;
use crate::kernels::{self, Gradient, Tape};
use crate::models::store::{Entry, Role};
use crate::models::{Ability, Inputs, Model, Store};
use crate::objectives::{Batch, Loss, Objective, Progress, Step};

/// A model, what is asked of it, and all that an update changes.
pub struct Trainer {
    config: Train,
    seed: u64,
    steps_per_epoch: u64,
    models: Models,
    objectives: Vec<Asked>,
    entries: BTreeMap<String, Entry>,
    /// The first and second moment of each trainable entry, (2, n).
    moments: BTreeMap<String, Tensor>,
    /// How many updates each trainable entry took part in.
    counts: BTreeMap<String, u64>,
    /// All state beside the moments.
    pub store: Store,
    /// Updates made.
    pub updates: u64,
}

/// Who looks at a batch.
struct Models {
    student: Box<dyn Model>,
    teacher: Option<Teacher>,
    /// Whether the objectives ask them for nothing but embeddings.
    embed_alone: bool,
}

struct Teacher {
    model: Box<dyn Model>,
    momentum: f64,
}

struct Asked {
    name: &'static str,
    weight: f64,
    objective: Box<dyn Objective>,
}

impl Models {
    /// A batch as they see it in the update that follows.
    fn look<'a>(&'a self, batch: &'a Batch, progress: Progress, seed: u64) -> Step<'a> {
        let teacher = self.teacher.as_ref().map(|teacher| teacher.model.as_ref());
        let step = Step::new(batch, self.student.as_ref(), teacher, progress, seed);
        if self.embed_alone { step.embedding_alone() } else { step }
    }
}

impl Trainer {
    /// Opens the parameters of a run: those of `values` begin there, the others as the seed says.
    ///
    /// # Errors
    /// When the device is full, or `values` are of another run.
    pub fn new(
        run: &Run,
        inputs: &Inputs,
        steps_per_epoch: u64,
        seed: u64,
        device: &Device,
        values: &BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let store = Store::new(device, seed, &run.train.freeze);
        let (student, objectives) = run.open(&store, inputs)?;
        let asked = run.objectives.iter().zip(objectives).map(|(config, objective)| {
            let (name, weight) = (config.name(), config.weight());
            Asked { name, weight, objective }
        });
        let objectives = asked.collect();
        store.overwrite(values)?;
        let wanted = run.objectives.iter().any(|config| config.needs().teacher);
        let teacher = match run.train.teacher.filter(|_| wanted) {
            None => None,
            Some(config) => {
                let model = run.model.build(&store.teacher(), inputs)?;
                Some(Teacher { model, momentum: config.momentum })
            }
        };
        let entries = store.of(Role::Trainable);
        let mut abilities = run.objectives.iter().flat_map(|config| config.needs().abilities);
        let embed_alone = abilities.all(|ability| ability == Ability::Embed);
        let mut moments = BTreeMap::new();
        for (name, entry) in &entries {
            moments.insert(name.clone(), Tensor::zeros((2, entry.var.elem_count()), DType::F32, device)?);
        }
        let (config, updates) = (run.train.clone(), 0);
        Ok(Self {
            config,
            seed,
            steps_per_epoch,
            models: Models { student, teacher, embed_alone },
            objectives,
            entries,
            moments,
            counts: BTreeMap::new(),
            store,
            updates,
        })
    }

    /// One update from one batch; what it measured on the way.
    ///
    /// # Errors
    /// When a loss or the gradient is not finite; the weights are as before then.
    pub fn update(&mut self, batch: &Batch) -> Result<Figures> {
        self.config.precision.during(|| self.step(batch))
    }

    fn step(&mut self, batch: &Batch) -> Result<Figures> {
        let tape = self.tape();
        let step = self.models.look(batch, self.progress(), self.seed);
        let drawn = self.drawn();
        let losses = self.losses(&drawn, &step)?;
        let total = self.total(&losses)?;
        let gradients = self.gradients(tape, &total)?;
        let norm = norm(&gradients)?;
        if !norm.is_finite() || !total.to_scalar::<f32>()?.is_finite() {
            return Err(self.blame(batch)?);
        }
        let rate = schedule::rate(&self.config, self.updates);
        self.descend(&gradients, norm, rate)?;
        let reached: Vec<String> = gradients.into_keys().map(str::to_owned).collect();
        for name in reached {
            *self.counts.entry(name).or_default() += 1;
        }
        self.store.enforce_bounds()?;
        if let Some(teacher) = &self.models.teacher {
            self.store.follow(teacher.momentum)?;
        }
        for place in drawn {
            self.objectives[place].objective.after(&step)?;
        }
        self.updates += 1;
        self.figures(losses, &total, norm, rate)
    }

    /// Floating-point operations of the matrix products of one update from `batch`, forward and backward, counted while
    /// they are made; the mean over the groups that may be drawn. Nothing is updated.
    ///
    /// # Errors
    /// When the device fails.
    pub fn flops(&self, batch: &Batch) -> Result<f64> {
        let mut flops = 0.0;
        for (group, share) in self.config.combine.groups(&self.names()) {
            let (before, tape) = (kernels::flops(), self.tape());
            let step = self.models.look(batch, self.progress(), self.seed);
            self.gradients(tape, &self.total(&self.losses(&group, &step)?)?)?;
            flops += share * (kernels::flops() - before);
        }
        Ok(flops)
    }

    fn names(&self) -> Vec<&'static str> {
        self.objectives.iter().map(|asked| asked.name).collect()
    }

    /// The places of the objectives that the next update trains.
    fn drawn(&self) -> Vec<usize> {
        self.config.combine.drawn(&self.names(), self.seed, self.updates)
    }

    fn tape(&self) -> Tape {
        if self.config.gradient_checkpointing { Tape::checkpoint() } else { Tape::record() }
    }

    fn progress(&self) -> Progress {
        Progress { step: self.updates, steps: self.config.steps, steps_per_epoch: self.steps_per_epoch }
    }

    /// The loss of each objective at `places`.
    fn losses(&self, places: &[usize], step: &Step) -> Result<Vec<(usize, Loss)>> {
        places.iter().for_each(|&place| self.objectives[place].objective.before(step));
        let losses = places.iter().map(|&place| Ok((place, self.objectives[place].objective.loss(step)?)));
        Ok(losses.collect::<candle_core::Result<_>>()?)
    }

    fn total(&self, losses: &[(usize, Loss)]) -> Result<Tensor> {
        let mut total = Tensor::zeros((), DType::F32, self.store.device())?;
        for (place, loss) in losses {
            let value = loss.value.to_device(self.store.device())?;
            total = (total + (value * self.objectives[*place].weight)?)?;
        }
        Ok(total)
    }

    /// The gradient of each trainable entry that the loss on this tape depends on.
    fn gradients(&self, tape: Tape, loss: &Tensor) -> Result<BTreeMap<&str, Gradient>> {
        let mut all = tape.backward_compact(loss)?;
        let own =
            self.entries.iter().filter_map(|(name, entry)| Some((name.as_str(), all.remove(&entry.var)?)));
        Ok(own.collect())
    }

    fn descend(&self, gradients: &BTreeMap<&str, Gradient>, norm: f64, rate: f64) -> Result<()> {
        let [beta1, beta2] = self.config.betas;
        let grad_scale = match self.config.clip {
            Some(most) if norm > most => most / norm,
            _ => 1.0,
        };
        let eps = self.config.eps;
        for (name, gradient) in gradients {
            let (Some(entry), Some(moments)) = (self.entries.get(*name), self.moments.get(*name)) else {
                continue;
            };
            let step = self.counts.get(*name).copied().unwrap_or(0) + 1;
            let weight_decay = if entry.decays { self.config.weight_decay } else { 0.0 };
            let adamw = AdamW { rate, beta1, beta2, eps, weight_decay, step, grad_scale };
            gradient.adamw_(&entry.var, moments, &adamw)?;
        }
        Ok(())
    }

    fn figures(&self, losses: Vec<(usize, Loss)>, total: &Tensor, norm: f64, rate: f64) -> Result<Figures> {
        let device = self.store.device();
        let mut figures = Figures::from([
            ("loss".to_owned(), total.detach()),
            ("gradient_norm".to_owned(), Tensor::new(norm as f32, device)?),
            ("rate".to_owned(), Tensor::new(rate as f32, device)?),
        ]);
        for (place, loss) in losses {
            let objective = self.objectives[place].name;
            figures.insert(format!("{objective}.loss"), loss.value.detach());
            figures
                .extend(loss.metrics.into_iter().map(|(name, value)| (format!("{objective}.{name}"), value)));
        }
        Ok(figures)
    }

    /// The objective whose loss is not finite or, where all are, whose gradient is not.
    fn blame(&self, batch: &Batch) -> Result<Failure> {
        let fault = |objective: &str, what: &str| Failure::NonFinite {
            objective: objective.to_owned(),
            what: what.to_owned(),
            step: self.updates,
        };
        let drawn = self.drawn();
        // A tape is walked once, so each objective is asked again, on a tape of its own.
        for what in ["the loss", "the gradient"] {
            for asked in drawn.iter().map(|&place| &self.objectives[place]) {
                let tape = Tape::record();
                let step = self.models.look(batch, self.progress(), self.seed);
                drawn.iter().for_each(|&place| self.objectives[place].objective.before(&step));
                let loss = asked.objective.loss(&step)?.value;
                let finite = match what {
                    "the loss" => loss.to_scalar::<f32>()?.is_finite(),
                    _ => norm(&self.gradients(tape, &loss)?)?.is_finite(),
                };
                if !finite {
                    return Ok(fault(asked.name, what));
                }
            }
        }
        let names: Vec<&str> = drawn.iter().map(|&place| self.objectives[place].name).collect();
        Ok(fault(&names.join(" + "), "the sum"))
    }

    /// The moments by name, as a checkpoint holds them.
    pub fn moments(&self) -> &BTreeMap<String, Tensor> {
        &self.moments
    }

    /// How many updates each trainable entry took part in, as a checkpoint holds it.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// Goes on where a checkpoint left off.
    ///
    /// # Errors
    /// When the checkpoint belongs to another configuration.
    pub fn resume(
        &mut self,
        (updates, counts): (u64, &BTreeMap<String, u64>),
        store: &BTreeMap<String, Tensor>,
        moments: &BTreeMap<String, Tensor>,
    ) -> candle_core::Result<()> {
        if let Some(name) = self.moments.keys().find(|name| !moments.contains_key(*name)) {
            candle_core::bail!("lacks the moments of `{name}`, which this configuration trains");
        }
        self.store.load(store)?;
        for (name, moments) in moments {
            match self.moments.get_mut(name) {
                Some(own) if own.dims() == moments.dims() => *own = moments.clone(),
                _ => candle_core::bail!("holds moments of `{name}` that this configuration does not have"),
            }
        }
        (self.updates, self.counts) = (updates, counts.clone());
        Ok(())
    }
}

/// The global norm: over fixed pieces in order of name, so that it depends on no thread.
fn norm(gradients: &BTreeMap<&str, Gradient>) -> Result<f64> {
    Ok(Gradient::sum_of_squares(gradients.values())?.sqrt())
}
