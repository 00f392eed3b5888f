//! Kernels on NVIDIA GPUs: CUDA source beside its launcher, one pair of files for each family of operations.
//!
//! A [`Body`] says what an operation launches, on addresses alone. What launches is a [`Machine`]: a GPU (feature `cuda`),
//! for which NVRTC compiles the sources when they are first used, or a rehearsal, in which the same launchers run the same
//! kernels on the processor, so that tests need no GPU. Elements are f32 or bf16 (`kernels/precision.rs`), which an
//! address says; kernels compute in f32. No kernel uses atomics and every sum has a fixed order: equal operands give equal bits.

pub(crate) mod body;
#[cfg_attr(not(feature = "cuda"), path = "absent.rs")]
mod driver;
#[cfg(feature = "cuda")]
mod libraries;
pub(crate) mod machine;
pub(crate) mod memory;
#[cfg(feature = "cuda")]
mod pool;
mod rehearsal;
pub(crate) mod sums;

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Error};

pub(crate) use body::{Body, Operand, Slot};
pub(crate) use driver::{forward_on, scalar};
pub(crate) use machine::{Buffer, Machine, machine_of};
pub(crate) use memory::{Address, kept};
pub use rehearsal::{rehearse, source};
pub(crate) use sums::{add, copy, put};

/// How products of f32 matrices are computed on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// In f32.
    F32,
    /// By tensor cores, which round the factors to the 10 bits of TF32 and add in f32.
    Tf32,
}

static TF32: AtomicBool = AtomicBool::new(false);

/// How this process computes products on a GPU.
pub fn products() -> Products {
    if TF32.load(Ordering::Relaxed) { Products::Tf32 } else { Products::F32 }
}

/// GPU number `ordinal`, and how it computes products from now on in this process.
///
/// # Errors
/// When it cannot be used, with the reason: the program has no GPU code, there is no driver, no such GPU, or a library
/// of CUDA is missing.
pub fn open(ordinal: usize, products: Products) -> Result<Device, String> {
    let device = driver::open(ordinal).map_err(reason)?;
    TF32.store(products == Products::Tf32, Ordering::Relaxed);
    Ok(device)
}

/// What GPUs can be used.
///
/// # Errors
/// When there is none, with the reason.
pub fn usable() -> Result<String, String> {
    driver::usable().map_err(reason)
}

/// What a GPU calls itself.
///
/// # Errors
/// When `device` is none.
pub fn about(device: &Device) -> Result<String, String> {
    driver::about(device).map_err(reason)
}

/// The most memory of a GPU in bytes that this process has had at once.
///
/// # Errors
/// When `device` is none.
pub fn peak_memory(device: &Device) -> Result<u64, String> {
    driver::peak_memory(device).map_err(reason)
}

/// What a person wants to read: the message without the way it came.
fn reason(error: Error) -> String {
    match error {
        Error::WithBacktrace { inner, .. } => reason(*inner),
        other => other.to_string(),
    }
}
