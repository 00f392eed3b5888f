//! What is run: an experiment file becomes a legal [`Experiment`], its runs are trained, evaluated and recorded.

mod experiment;
pub mod record;

pub use experiment::{
    Ablation, Arm, Checkpointing, Claim, Effect, Evaluate, Expect, Experiment, PaperReference, Retrieval,
    Run, Schedule, Select, Step, Teacher, Train, ZeroShot,
};
