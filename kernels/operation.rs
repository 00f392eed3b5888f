//! The one place where kernels meet autograd: a typed forward and backward become a step of a [`super::Tape`] or,
//! where none records, a candle operation.
//!
//! An [`Operation`] computes on slices. The adapter picks the element type, asks only for the gradients of operands
//! that are tracked, and adds up the gradients of an operand in one buffer: the first user of an operand writes over
//! what is there, the next ones add to it. On a GPU the same adapters run the operation's [`Body`].

use std::rc::Rc;

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage,
    StorageRef, Tensor, bail,
};

use super::cuda::{self, Body, Buffer, Machine};
use super::product::Write;
use super::real::Real;
use super::rows::scratch;
use super::tape::{self, Step, Sums};

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

/// A differentiable function of N tensors.
pub(crate) trait Operation<const N: usize>: Send + Sync + 'static {
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

    /// What computes the same on a GPU, if anything does.
    fn cuda(&self) -> Option<&dyn Body<N>> {
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
        let (data, shape) = operation.forward::<T>(operands(inputs)?)?;
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

fn body<const N: usize, O: Operation<N>>(operation: &O) -> Result<&dyn Body<N>> {
    match operation.cuda() {
        Some(body) => Ok(body),
        None => bail!("{}: no CUDA kernel", operation.name()),
    }
}

/// The operands by their addresses in a machine's memory.
fn addressed<'a, const N: usize>(
    guards: &'a [(StorageRef<'_>, &'a Layout); N],
) -> Result<[cuda::Operand<'a>; N]> {
    let operands = guards.iter().map(|(storage, layout)| cuda::Operand::new(storage, layout));
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
    let (buffer, shape) = body(operation)?.forward(&*machine, addressed(guards)?)?;
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
    let output = cuda::Operand::new(&storage, layout)?;
    let into = buffers
        .each_ref()
        .map(|buffer| buffer.as_ref().map(|(buffer, adds)| cuda::Slot { at: buffer.at(), adds: *adds }));
    body(operation)?.backward(machine, addressed(&guards)?, output.at, grad.at, into)
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
    operation.backward(operands(stored(name, &guards)?)?, output, grad, into)
}

/// A function of N tensors that a tape has recorded.
struct Recorded<const N: usize, O> {
    operation: O,
    inputs: [Tensor; N],
    output: Tensor,
}

impl<const N: usize, O: Operation<N>> Recorded<N, O> {
    fn typed<T: Real>(&self, grad: &Rc<Storage>, sums: &mut Sums) -> Result<()> {
        let Storage::Cpu(storage) = &**grad else {
            bail!("{}: no implementation for this device", self.operation.name())
        };
        let mut buffers = [const { None }; N];
        for (index, (buffer, input)) in buffers.iter_mut().zip(&self.inputs).enumerate() {
            if !input.track_op() {
                continue;
            }
            if self.operation.passes(index) {
                sums.share(input, Rc::clone(grad))?;
            } else if let Some(rows) = self.operation.looked_up(input).filter(|_| sums.takes_rows(input)) {
                sums.give_rows(input, rows, T::cpu_storage_as_slice(storage)?)?;
            } else {
                *buffer = Some(match sums.take::<T>(input)? {
                    Some(sum) => (sum, Write::Add),
                    None => (scratch(input.elem_count()), Write::Replace),
                });
            }
        }
        let inputs = self.inputs.each_ref();
        if buffers.iter().any(Option::is_some) {
            let grad = T::cpu_storage_as_slice(storage)?;
            backward(&self.operation, inputs, &self.output, grad, &mut buffers)?;
        }
        for (buffer, input) in buffers.into_iter().zip(inputs) {
            if let Some((data, _)) = buffer {
                sums.give(input, data)?;
            }
        }
        Ok(())
    }
}

impl<const N: usize, O: Operation<N>> Recorded<N, O> {
    fn on(&self, machine: &dyn Machine, grad: &Rc<Storage>, sums: &mut Sums) -> Result<()> {
        let mut buffers = [const { None }; N];
        for (index, (buffer, input)) in buffers.iter_mut().zip(&self.inputs).enumerate() {
            if !input.track_op() {
                continue;
            }
            if self.operation.passes(index) {
                sums.share(input, Rc::clone(grad))?;
            } else {
                *buffer = Some(match sums.remove(input)? {
                    Some(sum) => (machine.take(sum)?, true),
                    None => (machine.scratch(input.elem_count())?, false),
                });
            }
        }
        let inputs = self.inputs.each_ref();
        if buffers.iter().any(Option::is_some) {
            let layout = Layout::contiguous(self.output.shape());
            let grad = cuda::Operand::new(grad, &layout)?;
            backward_on(machine, &self.operation, inputs, &self.output, grad, &buffers)?;
        }
        for (buffer, input) in buffers.into_iter().zip(inputs) {
            if let Some((buffer, _)) = buffer {
                sums.share(input, Rc::new(machine.store(buffer)?))?;
            }
        }
        Ok(())
    }
}

impl<const N: usize, O: Operation<N>> Step for Recorded<N, O> {
    fn backward(self: Box<Self>, sums: &mut Sums) -> Result<()> {
        let Some(grad) = sums.remove(&self.output)? else { return Ok(()) };
        if let Some(machine) = cuda::machine_of(&grad)? {
            return self.on(&*machine, &grad, sums);
        }
        match self.output.dtype() {
            DType::F32 => self.typed::<f32>(&grad, sums),
            DType::F64 => self.typed::<f64>(&grad, sums),
            other => bail!("{}: expected f32 or f64, got {other:?}", self.operation.name()),
        }
    }
}

/// Records the operation if a tape is there to record it; gives it back if not.
fn record<const N: usize, O: Operation<N>>(
    operation: O,
    inputs: [&Tensor; N],
) -> Result<std::result::Result<Tensor, O>> {
    if !tape::records() || !inputs.iter().any(|input| input.track_op()) {
        return Ok(Err(operation));
    }
    let (storage, shape) = {
        let guards = inputs.map(Tensor::storage_and_layout);
        compute(&operation, &guards)?
    };
    // To candle the outcome is a variable: what candle makes of it, candle can lead a gradient back to.
    let output = Tensor::from_storage(storage, shape, BackpropOp::none(), true);
    let inputs = inputs.map(Tensor::clone);
    tape::push(&inputs, Recorded { operation, inputs: inputs.clone(), output: output.clone() });
    Ok(Ok(output))
}

/// An operation in candle's graph.
struct Node<O>(O);

impl<O> Node<O> {
    fn gradients<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]>
    where
        O: Operation<N>,
    {
        let grad = &grad.contiguous()?;
        if let Some(machine) = cuda::machine_of(&grad.storage_and_layout().0)? {
            return self.on(&*machine, inputs, output, grad);
        }
        match grad.dtype() {
            DType::F32 => self.typed::<N, f32>(inputs, output, grad),
            DType::F64 => self.typed::<N, f64>(inputs, output, grad),
            other => bail!("{}: expected f32 or f64, got {other:?}", self.0.name()),
        }
    }

    fn typed<const N: usize, T: Real>(
        &self,
        inputs: [&Tensor; N],
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]>
    where
        O: Operation<N>,
    {
        let mut tensors = [const { None }; N];
        let mut buffers = [const { None }; N];
        for (index, input) in inputs.iter().enumerate().filter(|(_, input)| input.track_op()) {
            if self.0.passes(index) {
                tensors[index] = Some(grad.clone());
            } else {
                buffers[index] = Some((scratch(input.elem_count()), Write::Replace));
            }
        }
        {
            let (storage, layout) = grad.storage_and_layout();
            let grad = Operand::<T>::new(cpu(self.0.name(), &storage)?, layout)?.dense()?;
            backward(&self.0, inputs, output, grad, &mut buffers)?;
        }
        for ((slot, buffer), input) in tensors.iter_mut().zip(buffers).zip(inputs) {
            if let Some((data, _)) = buffer {
                *slot = Some(Tensor::from_vec(data, input.shape(), input.device())?);
            }
        }
        Ok(tensors)
    }
}

impl<O> Node<O> {
    fn on<const N: usize>(
        &self,
        machine: &dyn Machine,
        inputs: [&Tensor; N],
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]>
    where
        O: Operation<N>,
    {
        let mut tensors = [const { None }; N];
        let mut buffers = [const { None }; N];
        for (index, input) in inputs.iter().enumerate().filter(|(_, input)| input.track_op()) {
            if self.0.passes(index) {
                tensors[index] = Some(grad.clone());
            } else {
                buffers[index] = Some((machine.scratch(input.elem_count())?, false));
            }
        }
        {
            let (storage, layout) = grad.storage_and_layout();
            let grad = cuda::Operand::new(&storage, layout)?;
            backward_on(machine, &self.0, inputs, output, grad, &buffers)?;
        }
        for ((slot, buffer), input) in tensors.iter_mut().zip(buffers).zip(inputs) {
            if let Some((buffer, _)) = buffer {
                let storage = machine.store(buffer)?;
                *slot = Some(Tensor::from_storage(storage, input.shape(), BackpropOp::none(), false));
            }
        }
        Ok(tensors)
    }
}

impl<O: Operation<1>> CustomOp1 for Node<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        forward(&self.0, [(s, l)])
    }

    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::forward_on(self.0.name(), self.0.cuda(), [(s, l)])
    }

    fn bwd(&self, x: &Tensor, output: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = self.gradients([x], output, grad)?;
        Ok(dx)
    }
}

impl<O: Operation<2>> CustomOp2 for Node<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward(&self.0, [(s1, l1), (s2, l2)])
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::forward_on(self.0.name(), self.0.cuda(), [(s1, l1), (s2, l2)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dy] = self.gradients([x, y], output, grad)?;
        Ok((dx, dy))
    }
}

impl<O: Operation<3>> CustomOp3 for Node<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward(&self.0, [(s1, l1), (s2, l2), (s3, l3)])
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::forward_on(self.0.name(), self.0.cuda(), [(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dy, dz] = self.gradients([x, y, z], output, grad)?;
        Ok((dx, dy, dz))
    }
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
