//! The one place where kernels meet candle's autograd: a typed forward and backward become a candle operation.
//!
//! An [`Operation`] computes on slices. The adapter picks the element type, hands over only operands that are tracked
//! in the backward pass, and never keeps a tensor alive longer than candle's graph does. A GPU body belongs beside the
//! CPU one, in the `cuda_fwd` of the same adapter.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, StorageRef, Tensor,
    bail,
};

use super::real::Real;

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

/// A differentiable function of N tensors.
pub(crate) trait Operation<const N: usize>: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    fn forward<T: Real>(&self, inputs: [Operand<'_, T>; N]) -> Result<(Vec<T>, Shape)>;

    /// The gradients of those inputs that are `wanted`, in row-major order; may run any number of times.
    fn backward<T: Real>(
        &self,
        wanted: [bool; N],
        inputs: [Operand<'_, T>; N],
        output: &[T],
        grad: &[T],
    ) -> Result<[Option<Vec<T>>; N]>;
}

struct Node<O>(O);

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

fn cpu<'a>(name: &str, storage: &'a StorageRef<'_>) -> Result<&'a CpuStorage> {
    match &**storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("{name}: no implementation for this device"),
    }
}

fn backward<const N: usize, O: Operation<N>>(
    operation: &O,
    inputs: [&Tensor; N],
    output: &Tensor,
    grad: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    fn typed<const N: usize, O: Operation<N>, T: Real>(
        operation: &O,
        inputs: [&Tensor; N],
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        let name = operation.name();
        let wanted = inputs.map(Tensor::track_op);
        let grad = grad.contiguous()?;
        let guards = inputs.map(Tensor::storage_and_layout);
        let mut pairs = Vec::with_capacity(N);
        for (storage, layout) in &guards {
            pairs.push(Operand::<T>::new(cpu(name, storage)?, layout)?);
        }
        let Ok(pairs) = <[Operand<'_, T>; N]>::try_from(pairs) else {
            bail!("{name}: wrong number of operands")
        };
        let (grad_storage, grad_layout) = grad.storage_and_layout();
        let (output_storage, output_layout) = output.storage_and_layout();
        let gradients = operation.backward(
            wanted,
            pairs,
            Operand::<T>::new(cpu(name, &output_storage)?, output_layout)?.dense()?,
            Operand::<T>::new(cpu(name, &grad_storage)?, grad_layout)?.dense()?,
        )?;
        let mut tensors = [const { None }; N];
        for ((slot, gradient), input) in tensors.iter_mut().zip(gradients).zip(inputs) {
            if let Some(gradient) = gradient {
                *slot = Some(Tensor::from_vec(gradient, input.shape(), input.device())?);
            }
        }
        Ok(tensors)
    }
    match grad.dtype() {
        DType::F32 => typed::<N, O, f32>(operation, inputs, output, grad),
        DType::F64 => typed::<N, O, f64>(operation, inputs, output, grad),
        other => bail!("{}: expected f32 or f64, got {other:?}", operation.name()),
    }
}

impl<O: Operation<1>> CustomOp1 for Node<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        forward(&self.0, [(s, l)])
    }

    fn bwd(&self, x: &Tensor, output: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = backward(&self.0, [x], output, grad)?;
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

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dy] = backward(&self.0, [x, y], output, grad)?;
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

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dy, dz] = backward(&self.0, [x, y, z], output, grad)?;
        Ok((dx, dy, dz))
    }
}

pub(crate) fn apply1<O: Operation<1>>(operation: O, x: &Tensor) -> Result<Tensor> {
    x.apply_op1(Node(operation))
}

pub(crate) fn apply2<O: Operation<2>>(operation: O, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.apply_op2(y, Node(operation))
}

pub(crate) fn apply3<O: Operation<3>>(operation: O, x: &Tensor, y: &Tensor, z: &Tensor) -> Result<Tensor> {
    x.apply_op3(y, z, Node(operation))
}
