//! Numbers of training that are outside their ranges.

use std::fmt::Display;

use super::Checker;
use crate::experiments::Train;
use crate::experiments::fault::Fault;

impl Checker<'_> {
    /// Refuses what no run can be trained with.
    pub(super) fn numbers(&mut self) {
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

    /// Reports a number that is outside its range.
    fn within(&mut self, fits: bool, key: &str, value: impl Display, help: &str) {
        if !fits {
            self.refuse(key, Fault::new(format!("`{key}` is {value}")).help(help));
        }
    }
}
