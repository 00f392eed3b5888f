//! The numbers in which a GPU multiplies matrices: mixed precision (Micikevicius et al., arXiv:1710.03740, section 3) with
//! the 16 bits of bf16.
//!
//! In bf16 both factors of a product are rounded to the nearest of its numbers, ties to even, and their products added
//! up in f32: `C = sum_k bf16(A_ik) bf16(B_kj)`. Parameters, what layers compute, statistics, softmax, losses, gradients and
//! the optimiser's moments are f32. bf16 reaches as far as f32, so the loss needs no scale.
//!
//! Deviation: mixed precision stores what layers compute in 16 bits; here it is stored in f32 and rounded when it is
//! multiplied, which makes products faster and saves no memory.
//! Deviation: the products within attention are those of f32.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

/// The numbers whose products a GPU computes; the processor knows f32 alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Those that are stored.
    #[default]
    F32,
    /// The nearest with 8 significant bits.
    Bf16,
}

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
}

impl Precision {
    /// That of this thread now.
    pub(super) fn current() -> Self {
        PRECISION.get()
    }

    /// Does `work`, whose products on a GPU this thread asks for in this precision.
    pub fn during<R>(self, work: impl FnOnce() -> R) -> R {
        let _outer = Outer(PRECISION.replace(self));
        work()
    }
}

/// Returns to the precision before, after a panic too.
struct Outer(Precision);

impl Drop for Outer {
    fn drop(&mut self) {
        PRECISION.set(self.0);
    }
}
