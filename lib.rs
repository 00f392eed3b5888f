//! VLP-Bench.

/// Where image-text pairs come from.
pub mod data;
/// The kinds of information about a pair.
pub mod field;
pub mod kernels;
