//! VLP-Bench: a reproducible benchmark suite for vision-language pretraining.
//!
//! The folders read in the order in which they depend on each other: `kernels <- models <- objectives <- experiments`,
//! `data <- experiments`, and `reports` on the records of runs alone.

/// How the colours of pictures are normalised.
pub mod colour;
/// Where image-text pairs come from.
pub mod data;
/// What is run: the experiment file, its checks, the trainer, evaluation, records.
pub mod experiments;
/// The kinds of information about a pair.
pub mod field;
/// Fused, differentiable tensor operations, the optimiser and the random numbers.
pub mod kernels;
/// What a model computes.
pub mod models;
/// What was probably meant by a mistyped name.
pub mod nearest;
/// What is asked of a model, and what the error is.
pub mod objectives;
/// The lists of models, objectives and evaluations.
mod registry;
/// What we conclude from the records of runs.
pub mod reports;
/// What the head of a source file says about the part in it.
pub mod source;
/// The special tokens of every vocabulary.
pub mod token;
