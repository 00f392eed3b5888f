//! One binary for all integration tests.

mod data;
mod kernels;
mod models;
mod objectives;
mod reports;
