//! What is run: an experiment file becomes a legal [`Experiment`], its runs are trained, evaluated and recorded.

pub mod agenda;
pub mod beginning;
pub mod bootstrap;
pub mod budget;
pub mod catalogue;
pub mod checkpoint;
pub mod combine;
pub mod directory;
pub mod doctor;
pub mod evaluate;
mod experiment;
pub mod export;
pub mod failure;
pub mod fault;
pub mod feed;
pub mod file;
pub mod forward;
pub mod header;
pub mod inference;
pub mod journal;
pub mod list;
pub mod machine;
pub mod matrix;
pub mod meter;
pub mod plan;
pub mod progress;
pub mod published;
pub mod record;
pub mod run;
pub mod schedule;
pub mod stage;
pub mod suite;
pub mod train;
pub mod verify;

pub use bootstrap::Rewrite;
pub use combine::Combine;
pub use experiment::{
    Arm, Checkpointing, Claim, Effect, Expect, Experiment, PaperReference, Run, Schedule, Select, Step,
    Teacher, Train,
};
pub use file::load;
pub use stage::{Origin, Values};
