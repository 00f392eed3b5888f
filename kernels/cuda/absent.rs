//! A program without the feature `cuda`.

use std::convert::Infallible;
use std::marker::PhantomData;

use candle_core::{CudaStorage, Device, Layout, Result, Shape, bail};

use super::body::Body;
use super::machine::{Address, Machine};

const ABSENT: &str = "this program was built without the feature `cuda`";

pub(super) fn open(_ordinal: usize) -> Result<Device> {
    bail!("{ABSENT}")
}

pub(super) fn usable() -> Result<String> {
    bail!("{ABSENT}")
}

pub(super) fn about(_: &Device) -> Result<String> {
    bail!("{ABSENT}")
}

pub(super) fn peak_memory(_: &Device) -> Result<u64> {
    bail!("{ABSENT}")
}

pub(crate) struct Memory<T> {
    never: Infallible,
    of: PhantomData<T>,
}

impl<T> Memory<T> {
    pub fn pointer(&self) -> u64 {
        match self.never {}
    }
}

pub(crate) fn machine(_: &CudaStorage) -> Result<Box<dyn Machine>> {
    bail!("{ABSENT}")
}

pub(crate) fn address(_: &CudaStorage) -> Result<Address> {
    bail!("{ABSENT}")
}

pub(crate) fn forward_on<const N: usize>(
    _: &str,
    _: &dyn Body<N>,
    _: [(&CudaStorage, &Layout); N],
) -> Result<(CudaStorage, Shape)> {
    bail!("{ABSENT}")
}

pub(crate) fn scalar(_: &CudaStorage) -> Result<CudaStorage> {
    bail!("{ABSENT}")
}
