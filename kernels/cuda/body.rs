//! What an operation launches.

use candle_core::{Layout, Result, Shape, Storage, bail};

use super::machine::{Address, Arg, Buffer, Machine, Write};
use crate::kernels::Dropout;

/// One operand, dense.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub at: Address,
    pub layout: &'a Layout,
}

impl<'a> Operand<'a> {
    /// An error where it is not dense, of another type, or in other memory than that of `on`.
    pub fn new(on: &dyn Machine, storage: &Storage, layout: &'a Layout) -> Result<Self> {
        match layout.contiguous_offsets() {
            Some((start, _)) => Ok(Self { at: on.address(storage)?.after(start), layout }),
            None => bail!("an operand is not contiguous"),
        }
    }

    pub fn dims(&self) -> &'a [usize] {
        self.layout.dims()
    }

    pub fn count(&self) -> usize {
        self.layout.shape().elem_count()
    }
}

/// Where the gradient of one input goes: over what is there, or onto it.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub at: Address,
    pub adds: bool,
}

impl Slot {
    pub fn write(self) -> Write {
        if self.adds { Write::Add } else { Write::Replace }
    }

    /// Both as arguments, in the order in which kernels take them.
    pub fn arguments(self) -> [Arg; 2] {
        [Arg::At(self.at), Arg::flag(self.adds)]
    }
}

/// The counterpart of an operation of the processor.
pub(crate) trait Body<const N: usize> {
    fn forward(&self, on: &dyn Machine, inputs: [Operand<'_>; N]) -> Result<(Buffer, Shape)>;

    /// Writes the gradient of each input that has a slot; may run any number of times.
    fn backward(
        &self,
        on: &dyn Machine,
        inputs: [Operand<'_>; N],
        output: Address,
        grad: Address,
        into: [Option<Slot>; N],
    ) -> Result<()>;
}

/// Dropout as kernels take it, or none.
pub(crate) fn dropout_arguments(dropout: Option<Dropout>) -> [Arg; 6] {
    match dropout {
        None => [Arg::Real(-1.0), Arg::Real(1.0), Arg::Word(0), Arg::Word(0), Arg::Word(0), Arg::Word(0)],
        Some(Dropout { p, key }) => {
            let [k0, k1, s0, s1] = key.words().map(Arg::Word);
            [Arg::Real(p as f32), Arg::Real((1.0 / (1.0 - p)) as f32), k0, k1, s0, s1]
        }
    }
}
