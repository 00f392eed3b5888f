//! Mixed precision on a GPU (Micikevicius et al., arXiv:1710.03740, section 3) with the 16 bits of bf16.
//!
//! Both factors of a product are rounded to the nearest bf16, ties to even, and their products added up in f32:
//! `C = sum_k bf16(A_ik) bf16(B_kj)`; so are those within attention, whose weights are f32 until they are a factor. Within
//! the layers of a model, what linear maps, layer normalisation and attention compute is kept in bf16, and the gradients
//! towards it. Parameters and their gradients, statistics, softmax, losses and the optimiser's moments are f32. bf16 reaches
//! as far as f32, so the loss needs no scale.
//!
//! Deviation: sums on the residual path and what lies outside of layers are f32 too, where section 3.1 keeps everything that
//! is computed in 16 bits; it costs a sixth more memory for what layers keep.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

/// The numbers in which a GPU multiplies, and keeps what layers compute; the processor knows f32 alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 24 significant bits.
    #[default]
    F32,
    /// 8 significant bits.
    Bf16,
}

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
    static IN_LAYER: Cell<bool> = const { Cell::new(false) };
}

impl Precision {
    /// In which this thread multiplies now.
    pub(super) fn current() -> Self {
        PRECISION.get()
    }

    /// In which this thread keeps what it computes now.
    pub(super) fn kept() -> Self {
        if IN_LAYER.get() { Self::current() } else { Self::F32 }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Does `work`, which this thread asks a GPU for in this precision.
    pub fn during<R>(self, work: impl FnOnce() -> R) -> R {
        during(&PRECISION, self, work)
    }
}

/// Does the work of a layer, whose outcomes may be kept in bf16.
pub(super) fn in_layer<R>(work: impl FnOnce() -> R) -> R {
    during(&IN_LAYER, true, work)
}

fn during<T: Copy, R>(
    cell: &'static std::thread::LocalKey<Cell<T>>,
    value: T,
    work: impl FnOnce() -> R,
) -> R {
    let _outer = Outer(cell, cell.replace(value));
    work()
}

/// Returns to the value before, after a panic too.
struct Outer<T: Copy + 'static>(&'static std::thread::LocalKey<Cell<T>>, T);

impl<T: Copy> Drop for Outer<T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}
