//! The one place where kernels meet autograd: a typed forward and backward become a step of a [`super::Tape`] or,
//! where none records, a candle operation.
//!
//! An [`Operation`] computes on slices. The adapter picks the element type, asks only for the gradients of operands
//! that are tracked, and adds up the gradients of an operand in one buffer: the first user of an operand writes over
//! what is there, the next ones add to it. On a GPU the same adapters run the operation's [`Body`].

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};

use super::cuda::{self, Body, Buffer, Machine};
use super::product::Write;
use super::real::Real;
use node::Node;
use recorded::record;

mod node;
mod recorded;

/// One operand: its elements from its first one on, and how they are laid out.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a, T> {
    pub data: &'a [T],
    pub layout: &'a Layout,
}

impl<'a, T: Real> Operand<'a, T> {
    fn new(storage: &'a CpuStorage, layout: &'a Layout) -> Result<Self> {
        let data = T::cpu_storage_as_slice(storage)?;
        match data.get(layout.start_offset()..) {
            Some(data) => Ok(Self { data, layout }),
            None => bail!("an operand starts beyond its storage"),
        }
    }

    /// The elements in row-major order; an error unless they already lie so.
    pub fn dense(&self) -> Result<&'a [T]> {
        match self.layout.is_contiguous().then(|| self.data.get(..self.layout.shape().elem_count())).flatten()
        {
            Some(data) => Ok(data),
            None => bail!("an operand is not contiguous"),
        }
    }

    pub fn dims(&self) -> &'a [usize] {
        self.layout.dims()
    }
}

/// Where the gradient of one input goes, in row-major order: over what is there, or onto it.
pub(crate) struct Slot<'a, T> {
    pub data: &'a mut [T],
    pub write: Write,
}

impl<'a, T: Real> Slot<'a, T> {
    /// Whether the old elements count.
    pub fn adds(&self) -> bool {
        self.write == Write::Add
    }

    /// Writes or adds what has been computed elsewhere.
    pub fn put(self, values: &[T]) {
        match self.write {
            Write::Replace => self.data.copy_from_slice(values),
            Write::Add => self.data.iter_mut().zip(values).for_each(|(sum, &value)| *sum += value),
        }
    }
}

/// A differentiable function of N tensors, and its counterpart on a GPU.
pub(crate) trait Operation<const N: usize>: Body<N> + Send + Sync + 'static {
    fn name(&self) -> &'static str;

    fn forward<T: Real>(&self, inputs: [Operand<'_, T>; N]) -> Result<(Vec<T>, Shape)>;

    /// Writes the gradient of each input that has a slot; may run any number of times.
    fn backward<T: Real>(
        &self,
        inputs: [Operand<'_, T>; N],
        output: &[T],
        grad: &[T],
        into: [Option<Slot<'_, T>>; N],
    ) -> Result<()>;

    /// Whether the gradient of this input is that of the output, element by element; it gets no slot then.
    fn passes(&self, _input: usize) -> bool {
        false
    }

    /// The rows of a table (V, D), the only input, to which the gradients of the output's rows are to be added, where these
    /// are so few that the rest of the table need not be written.
    fn looked_up(&self, _table: &Tensor) -> Option<&[u32]> {
        None
    }
}

fn forward<const N: usize, O: Operation<N>>(
    operation: &O,
    inputs: [(&CpuStorage, &Layout); N],
) -> Result<(CpuStorage, Shape)> {
    fn typed<const N: usize, O: Operation<N>, T: Real>(
        operation: &O,
        inputs: [(&CpuStorage, &Layout); N],
    ) -> Result<(CpuStorage, Shape)> {
        let (data, shape) = Operation::forward::<T>(operation, operands(inputs)?)?;
        Ok((T::to_cpu_storage_owned(data), shape))
    }
    match inputs.first().map(|(storage, _)| storage) {
        Some(CpuStorage::F32(_)) => typed::<N, O, f32>(operation, inputs),
        Some(CpuStorage::F64(_)) => typed::<N, O, f64>(operation, inputs),
        _ => bail!("{}: expected f32 or f64 tensors", operation.name()),
    }
}

fn operands<'a, const N: usize, T: Real>(
    inputs: [(&'a CpuStorage, &'a Layout); N],
) -> Result<[Operand<'a, T>; N]> {
    let operands =
        inputs.iter().map(|(storage, layout)| Operand::new(storage, layout)).collect::<Result<Vec<_>>>()?;
    operands.try_into().map_err(|_| candle_core::Error::Msg("wrong number of operands".into()))
}

/// The operands by their addresses in a machine's memory.
fn addressed<'a, const N: usize>(
    on: &dyn Machine,
    guards: &'a [(StorageRef<'_>, &'a Layout); N],
) -> Result<[cuda::Operand<'a>; N]> {
    let operands = guards.iter().map(|(storage, layout)| cuda::Operand::new(on, storage, layout));
    let operands = operands.collect::<Result<Vec<_>>>()?;
    operands.try_into().map_err(|_| candle_core::Error::Msg("wrong number of operands".into()))
}

/// Runs the forward pass where the operands lie.
fn compute<const N: usize, O: Operation<N>>(
    operation: &O,
    guards: &[(StorageRef<'_>, &Layout); N],
) -> Result<(Storage, Shape)> {
    let machine = match guards.first() {
        Some((storage, _)) => cuda::machine_of(storage)?,
        None => None,
    };
    let Some(machine) = machine else {
        let (storage, shape) = forward(operation, stored(operation.name(), guards)?)?;
        return Ok((Storage::Cpu(storage), shape));
    };
    let (buffer, shape) = Body::forward(operation, &*machine, addressed(&*machine, guards)?)?;
    Ok((machine.store(buffer)?, shape))
}

/// Runs the backward pass of a machine into `buffers`, one for each input that gets a slot, which are added to or not.
fn backward_on<const N: usize, O: Operation<N>>(
    machine: &dyn Machine,
    operation: &O,
    inputs: [&Tensor; N],
    output: &Tensor,
    grad: cuda::Operand<'_>,
    buffers: &[Option<(Buffer, bool)>; N],
) -> Result<()> {
    let guards = inputs.map(Tensor::storage_and_layout);
    let (storage, layout) = output.storage_and_layout();
    let output = cuda::Operand::new(machine, &storage, layout)?;
    let into = buffers
        .each_ref()
        .map(|buffer| buffer.as_ref().map(|(buffer, adds)| cuda::Slot { at: buffer.at(), adds: *adds }));
    Body::backward(operation, machine, addressed(machine, &guards)?, output.at, grad.at, into)
}

fn cpu<'a>(name: &str, storage: &'a StorageRef<'_>) -> Result<&'a CpuStorage> {
    match &**storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("{name}: no implementation for this device"),
    }
}

/// The elements of a contiguous tensor on the CPU, while its storage is borrowed.
pub(crate) fn elements<'a, T: Real>((storage, layout): &'a (StorageRef<'_>, &'a Layout)) -> Result<&'a [T]> {
    Operand::new(cpu("elements", storage)?, layout)?.dense()
}

/// What lies behind the operands, on the CPU.
fn stored<'a, const N: usize>(
    name: &str,
    guards: &'a [(StorageRef<'_>, &'a Layout); N],
) -> Result<[(&'a CpuStorage, &'a Layout); N]> {
    let pairs = guards.iter().map(|(storage, layout)| Ok((cpu(name, storage)?, *layout)));
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    pairs.try_into().map_err(|_| candle_core::Error::Msg("wrong number of operands".into()))
}

/// Runs the backward pass into `buffers`, one for each input that gets a slot.
fn backward<const N: usize, O: Operation<N>, T: Real>(
    operation: &O,
    inputs: [&Tensor; N],
    output: &Tensor,
    grad: &[T],
    buffers: &mut [Option<(Vec<T>, Write)>; N],
) -> Result<()> {
    let name = operation.name();
    let guards = inputs.map(Tensor::storage_and_layout);
    let (storage, layout) = output.storage_and_layout();
    let output = Operand::<T>::new(cpu(name, &storage)?, layout)?.dense()?;
    let into = buffers
        .each_mut()
        .map(|buffer| buffer.as_mut().map(|(data, write)| Slot { data: data.as_mut_slice(), write: *write }));
    Operation::backward(operation, operands(stored(name, &guards)?)?, output, grad, into)
}

pub(crate) fn apply1<O: Operation<1>>(operation: O, x: &Tensor) -> Result<Tensor> {
    match record(operation, [x])? {
        Ok(output) => Ok(output),
        Err(operation) => x.apply_op1(Node(operation)),
    }
}

pub(crate) fn apply2<O: Operation<2>>(operation: O, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    match record(operation, [x, y])? {
        Ok(output) => Ok(output),
        Err(operation) => x.apply_op2(y, Node(operation)),
    }
}

pub(crate) fn apply3<O: Operation<3>>(operation: O, x: &Tensor, y: &Tensor, z: &Tensor) -> Result<Tensor> {
    match record(operation, [x, y, z])? {
        Ok(output) => Ok(output),
        Err(operation) => x.apply_op3(y, z, Node(operation)),
    }
}
