//! VLP-Bench.
