//! One binary for all integration tests.

mod architecture;
mod data;
mod experiments;
mod kernels;
mod models;
mod objectives;
mod reports;
