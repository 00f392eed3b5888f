//! An operation in candle's own graph.

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail,
};

use super::{Operand, Operation, backward, backward_on, cpu, forward};
use crate::kernels::cuda::{self, Machine};
use crate::kernels::product::Write;
use crate::kernels::real::Real;
use crate::kernels::rows::scratch;

/// An operation in candle's graph.
pub(super) struct Node<O>(pub O);

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
                tensors[index] = Some(grad.to_dtype(input.dtype())?);
            } else {
                buffers[index] = Some((machine.room(cuda::kept(input), input.elem_count())?, false));
            }
        }
        {
            let (storage, layout) = grad.storage_and_layout();
            let grad = cuda::Operand::new(machine, &storage, layout)?;
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
        cuda::forward_on(self.0.name(), &self.0, [(s, l)])
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
        cuda::forward_on(self.0.name(), &self.0, [(s1, l1), (s2, l2)])
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
        cuda::forward_on(self.0.name(), &self.0, [(s1, l1), (s2, l2), (s3, l3)])
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
