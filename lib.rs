//! VLP-Bench.

pub mod kernels;
