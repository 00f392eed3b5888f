//! One binary for all integration tests.

#![allow(clippy::disallowed_methods, reason = "candle's own backward pass is what a tape is compared with")]

mod architecture;
mod data;
mod experiments;
mod kernels;
mod models;
mod objectives;
mod places;
mod reports;
