//! Memory of a machine, and the addresses by which kernels know it.

use candle_core::{CpuStorage, CudaStorage, DType, InplaceOp1, Layout, Result, Tensor, bail};
use half::bf16;

use super::driver;
use super::machine::Machine;
use crate::kernels::Precision;

/// Where the elements of a tensor begin, and whether they are f32 or bf16: one word, whose lowest bit no address needs and
/// bf16 sets. Kernels that take an `In` or an `Out` read it; those that take a plain pointer are for f32 and words alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address(u64);

impl Address {
    /// That of an operand that is not there.
    pub const NULL: Self = Self(0);

    pub fn new(pointer: u64, precision: Precision) -> Self {
        Self(pointer | u64::from(precision == Precision::Bf16))
    }

    pub fn is_null(self) -> bool {
        self == Self::NULL
    }

    pub fn precision(self) -> Precision {
        if self.0 & 1 == 1 { Precision::Bf16 } else { Precision::F32 }
    }

    /// Where the first element lies.
    pub fn pointer(self) -> u64 {
        self.0 & !1
    }

    /// The address and its lowest bit, as kernels take them.
    pub fn word(&self) -> &u64 {
        &self.0
    }

    /// The address `n` elements on; what is not there stays so.
    pub fn after(self, n: usize) -> Self {
        if self.is_null() { self } else { Self(self.0 + (self.precision().bytes() * n) as u64) }
    }
}

/// Memory with elements of one type.
pub(crate) enum Held<T> {
    Host(Vec<T>),
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "there is no GPU to hold it"))]
    Device(driver::Memory<T>),
}

impl<T> Held<T> {
    fn pointer(&self) -> u64 {
        match self {
            Self::Host(data) => data.as_ptr() as u64,
            Self::Device(memory) => memory.pointer(),
        }
    }
}

/// Numbers of rows, and the like.
pub(crate) type Words = Held<u32>;

impl Words {
    pub fn at(&self) -> Address {
        Address(self.pointer())
    }
}

/// Elements of a tensor.
pub(crate) enum Buffer {
    F32(Held<f32>),
    Bf16(Held<bf16>),
}

impl Buffer {
    pub fn at(&self) -> Address {
        match self {
            Self::F32(held) => Address::new(held.pointer(), Precision::F32),
            Self::Bf16(held) => Address::new(held.pointer(), Precision::Bf16),
        }
    }
}

/// The precision in which a tensor is kept.
pub(crate) fn kept(tensor: &Tensor) -> Precision {
    if tensor.dtype() == DType::BF16 { Precision::Bf16 } else { Precision::F32 }
}

/// Lends the elements of a dense f32 tensor in the memory of `on` for writing.
pub(crate) fn lend(on: &dyn Machine, tensor: &Tensor, write: impl Fn(Address) -> Result<()>) -> Result<()> {
    on.address(&tensor.storage_and_layout().0)?;
    tensor.inplace_op1(&Lent(write))
}

struct Lent<F>(F);

impl<F: Fn(Address) -> Result<()>> InplaceOp1 for Lent<F> {
    fn name(&self) -> &'static str {
        "lend"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(data), Some((start, _))) => {
                (self.0)(Address::new(data.as_mut_ptr() as u64, Precision::F32).after(start))
            }
            _ => bail!("expected a contiguous f32 tensor"),
        }
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let at = driver::address(storage)?;
        match layout.contiguous_offsets() {
            Some((start, _)) if at.precision() == Precision::F32 => (self.0)(at.after(start)),
            _ => bail!("expected a contiguous f32 tensor"),
        }
    }
}
