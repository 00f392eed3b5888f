//! The backward pass of a training step: what was computed, walked from its end to its beginning.
//!
//! candle can lead a gradient back by itself, and does so where no tape records. A tape does the same faster: it fills
//! and adds no zeros, a gradient that passes unchanged through a sum is shared instead of copied, a further use of a
//! parameter is added to its gradient by the product that computes it, and every step is dropped, with all it kept,
//! as soon as it has been walked.
//!
//! Steps are recorded by the kernels. candle's own operations between them (a sum of losses, a narrowed view) need no
//! care: to candle the outcome of a recorded step is a variable, so candle builds its graph from there, and the tape
//! notes the graph's end as one more step, [`Glue`].

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::rc::Rc;

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, Result, Shape, Storage, Tensor, TensorId, Var, bail,
};

use super::convert::widen;
use super::cuda;
use super::gradient::{Gradient, Touched};
use super::precision::in_layer;
use super::real::Real;
use super::rows::for_pieces;

/// One recorded step.
pub(super) trait Step {
    /// Takes the gradient of the step's outcome out of the sums and adds those of its inputs.
    fn backward(self: Box<Self>, sums: &mut Sums) -> Result<()>;
}

#[derive(Default)]
struct Record {
    steps: Vec<Box<dyn Step>>,
    glued: HashSet<TensorId>,
    /// Whether a [`block`] is one step.
    checkpoints: bool,
}

thread_local! {
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// Records what kernels compute on this thread from tracked tensors, until it is walked or dropped.
///
/// ```ignore
/// let tape = Tape::record();
/// let loss = model.loss(&batch)?;
/// let gradients = tape.backward(&loss)?;
/// ```
pub struct Tape {
    outer: Option<Record>,
    /// The record belongs to the thread.
    here: PhantomData<*const ()>,
}

impl Tape {
    /// Begins to record; a tape that already records on this thread pauses meanwhile.
    #[must_use]
    pub fn record() -> Self {
        Self::begin(false)
    }

    /// As [`Tape::record`], but of what goes on within a [`block`] nothing is kept: it is computed again when the tape is
    /// walked. Less memory for about a third more time, and the same gradients bit by bit.
    #[must_use]
    pub fn checkpoint() -> Self {
        Self::begin(true)
    }

    fn begin(checkpoints: bool) -> Self {
        let record = Record { checkpoints, ..Record::default() };
        Self { outer: RECORD.replace(Some(record)), here: PhantomData }
    }

    /// The gradients of `loss`, a scalar computed while this tape recorded, for every variable it depends on.
    ///
    /// # Errors
    /// When the loss is not a scalar, or a step fails.
    pub fn backward(self, loss: &Tensor) -> Result<Gradients> {
        self.sums(loss)?.finish(|elements, shape| tensor(elements.whole(shape)?, shape))
    }

    /// As [`Tape::backward`], but of a table that was only looked up the gradient is that of the rows that were.
    ///
    /// # Errors
    /// As [`Tape::backward`].
    pub fn backward_compact(self, loss: &Tensor) -> Result<Gradients<Gradient>> {
        self.sums(loss)?.finish(|elements, shape| {
            Ok(match elements {
                Elements::All(storage) => Gradient::Whole(tensor(storage, shape)?),
                Elements::Rows(rows) => Gradient::Rows(rows.rows(shape)?),
            })
        })
    }

    fn sums(self, loss: &Tensor) -> Result<Sums> {
        if loss.rank() != 0 {
            bail!("a gradient of shape {:?}: the loss must be a scalar", loss.shape());
        }
        let mut sums = Sums::default();
        if loss.track_op() {
            sums.add_to(loss.id(), &loss.ones_like()?)?;
            self.walk(loss, &mut sums)?;
        }
        Ok(sums)
    }

    /// Leads the gradient of `end` in `sums` back to the variables.
    fn walk(self, end: &Tensor, sums: &mut Sums) -> Result<()> {
        let mut record = RECORD.take().unwrap_or_default();
        record.glue(end);
        while let Some(step) = record.steps.pop() {
            step.backward(sums)?;
        }
        Ok(())
    }
}

/// A layer of a model: `compute` of `inputs`, within which a GPU may keep outcomes in bf16
/// ([`Precision`](super::Precision)). A tape made by [`Tape::checkpoint`] keeps it as one step, and computes it a second
/// time when the tape is walked; it must compute the same both times.
pub fn block(inputs: &[&Tensor], compute: impl Fn(&[Tensor]) -> Result<Tensor> + 'static) -> Result<Tensor> {
    let inputs: Vec<Tensor> = inputs.iter().map(|&input| input.clone()).collect();
    let compute = move |inputs: &[Tensor]| widen(&in_layer(|| compute(inputs))?);
    if !RECORD.with_borrow(|record| record.as_ref().is_some_and(|record| record.checkpoints)) {
        return compute(&inputs);
    }
    let inner = Tape::record();
    let output = compute(&inputs)?;
    drop(inner);
    if !output.track_op() {
        return Ok(output);
    }
    // What candle computed last is cut from its graph; the outcome of a kernel is a variable as it is.
    let output = if output.is_variable() { output } else { Var::from_tensor(&output.detach())?.into_inner() };
    push(&inputs, Block { inputs: inputs.clone(), output: output.clone(), compute: Box::new(compute) });
    Ok(output)
}

type Compute = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

struct Block {
    inputs: Vec<Tensor>,
    output: Tensor,
    compute: Compute,
}

impl Step for Block {
    fn backward(self: Box<Self>, sums: &mut Sums) -> Result<()> {
        let Some(grad) = sums.remove(&self.output)? else { return Ok(()) };
        let tape = Tape::record();
        let output = (self.compute)(&self.inputs)?;
        // The inner steps end at the block's inputs and at parameters, whose sums are those of the whole tape.
        sums.share(&output, grad)?;
        tape.walk(&output, sums)
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        RECORD.set(self.outer.take());
    }
}

/// Whether kernels are recorded now.
pub(super) fn records() -> bool {
    RECORD.with_borrow(Option::is_some)
}

/// Records a step with these inputs.
pub(super) fn push(inputs: &[Tensor], step: impl Step + 'static) {
    RECORD.with_borrow_mut(|record| {
        if let Some(record) = record {
            inputs.iter().for_each(|input| record.glue(input));
            record.steps.push(Box::new(step));
        }
    });
}

/// Runs `work` while nothing is recorded: another job on the same thread.
pub(super) fn paused<R>(work: impl FnOnce() -> R) -> R {
    let outer = RECORD.take();
    let outcome = work();
    RECORD.set(outer);
    outcome
}

impl Record {
    /// Notes a tensor that candle computed from variables, when it is first used.
    fn glue(&mut self, tensor: &Tensor) {
        if tensor.track_op() && !tensor.is_variable() && self.glued.insert(tensor.id()) {
            self.steps.push(Box::new(Glue(tensor.clone())));
        }
    }
}

/// The end of a piece of candle's graph, whose beginnings are parameters and outcomes of recorded steps.
struct Glue(Tensor);

impl Step for Glue {
    fn backward(self: Box<Self>, sums: &mut Sums) -> Result<()> {
        let Some(grad) = sums.remove(&self.0)? else { return Ok(()) };
        let grad = tensor(grad, self.0.shape())?.to_dtype(self.0.dtype())?;
        // candle begins at a scalar, here one whose gradient is known.
        let gradients = self.0.apply_op1(Seed(grad))?;
        #[expect(clippy::disallowed_methods, reason = "here it is led back to the tape")]
        let gradients = gradients.backward()?;
        for &id in gradients.get_ids() {
            if let Some(gradient) = gradients.get_id(id) {
                sums.add_to(id, gradient)?;
            }
        }
        Ok(())
    }
}

/// A scalar that tells its operand a gradient.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match storage {
            CpuStorage::F32(_) | CpuStorage::BF16(_) => Ok((CpuStorage::F32(vec![0.0]), ().into())),
            CpuStorage::F64(_) => Ok((CpuStorage::F64(vec![0.0]), ().into())),
            _ => bail!("a gradient is f32, f64 or bf16"),
        }
    }

    fn cuda_fwd(&self, storage: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((cuda::scalar(storage)?, ().into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

fn tensor(storage: Rc<Storage>, shape: &Shape) -> Result<Tensor> {
    let storage = match Rc::try_unwrap(storage) {
        Ok(storage) => storage,
        Err(shared) => shared.try_clone(&Layout::contiguous(shape))?,
    };
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

enum Elements {
    /// Shared while the same elements are the gradient of several tensors.
    All(Rc<Storage>),
    Rows(Touched),
}

impl Elements {
    fn whole(self, shape: &Shape) -> Result<Rc<Storage>> {
        match self {
            Self::All(storage) => Ok(storage),
            Self::Rows(rows) => rows.whole(shape).map(Rc::new),
        }
    }
}

struct Sum {
    elements: Elements,
    shape: Shape,
}

/// The gradients gathered so far, by the tensor they belong to.
#[derive(Default)]
pub(super) struct Sums(HashMap<TensorId, Sum>);

impl Sums {
    /// Takes out the gradient of `tensor`, if any step has given it one.
    pub fn remove(&mut self, tensor: &Tensor) -> Result<Option<Rc<Storage>>> {
        self.0.remove(&tensor.id()).map(|sum| sum.elements.whole(&sum.shape)).transpose()
    }

    /// Takes out the gradient of `tensor` to be added to; it must be given back.
    pub fn take<T: Real>(&mut self, tensor: &Tensor) -> Result<Option<Vec<T>>> {
        let Some(storage) = self.remove(tensor)? else { return Ok(None) };
        owned::<T>(storage).map(Some)
    }

    /// Gives `tensor` a gradient, in addition to what it may have.
    pub fn give<T: Real>(&mut self, tensor: &Tensor, data: Vec<T>) -> Result<()> {
        let storage = Storage::Cpu(T::to_cpu_storage_owned(data));
        self.share(tensor, Rc::new(storage))
    }

    /// Whether the gradient of `tensor` is still that of some rows.
    pub fn takes_rows(&self, tensor: &Tensor) -> bool {
        self.0.get(&tensor.id()).is_none_or(|sum| matches!(sum.elements, Elements::Rows(_)))
    }

    /// Gives the named rows of a table (V, D) a gradient (M, D), in addition to what they may have.
    pub fn give_rows<T: Real>(&mut self, table: &Tensor, rows: &[u32], grad: &[T]) -> Result<()> {
        let before = match self.0.remove(&table.id()).map(|sum| sum.elements) {
            Some(Elements::Rows(before)) => Some(before),
            Some(Elements::All(_)) => bail!("rows are added to a gradient that holds all of them"),
            None => None,
        };
        let elements = Elements::Rows(Touched::add(before, rows, table.dim(1)?, grad)?);
        self.0.insert(table.id(), Sum { elements, shape: table.shape().clone() });
        Ok(())
    }

    /// Gives `tensor` a gradient that may belong to other tensors too.
    pub fn share(&mut self, tensor: &Tensor, storage: Rc<Storage>) -> Result<()> {
        self.insert(tensor.id(), tensor.shape(), storage)
    }

    /// Adds a copy of what candle computed.
    fn add_to(&mut self, id: TensorId, gradient: &Tensor) -> Result<()> {
        // candle gives constants of other types gradients too, which nobody asks for.
        if !matches!(gradient.dtype(), DType::F32 | DType::F64 | DType::BF16) {
            return Ok(());
        }
        let gradient = gradient.detach().contiguous()?;
        let (storage, layout) = gradient.storage_and_layout();
        if let Some(machine) = cuda::machine_of(&storage)? {
            let copy = cuda::copy(&*machine, cuda::Operand::new(&*machine, &storage, layout)?)?;
            return self.insert(id, gradient.shape(), Rc::new(machine.store(copy)?));
        }
        let copy = match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(data)), Some((start, end))) => {
                CpuStorage::F32(data[start..end].to_vec())
            }
            (Storage::Cpu(CpuStorage::F64(data)), Some((start, end))) => {
                CpuStorage::F64(data[start..end].to_vec())
            }
            _ => bail!("a gradient is f32 or f64, and contiguous"),
        };
        self.insert(id, gradient.shape(), Rc::new(Storage::Cpu(copy)))
    }

    fn insert(&mut self, id: TensorId, shape: &Shape, storage: Rc<Storage>) -> Result<()> {
        let Some(Sum { elements, shape }) = self.0.remove(&id) else {
            self.0.insert(id, Sum { elements: Elements::All(storage), shape: shape.clone() });
            return Ok(());
        };
        let sum = elements.whole(&shape)?;
        if let Some(machine) = cuda::machine_of(&storage)? {
            let layout = Layout::contiguous(&shape);
            let sum = cuda::add(&*machine, sum, cuda::Operand::new(&*machine, &storage, &layout)?)?;
            self.0.insert(id, Sum { elements: Elements::All(Rc::new(sum)), shape });
            return Ok(());
        }
        let storage = match &*storage {
            Storage::Cpu(CpuStorage::F32(more)) => add(owned::<f32>(sum)?, more),
            Storage::Cpu(CpuStorage::F64(more)) => add(owned::<f64>(sum)?, more),
            _ => bail!("a gradient is f32 or f64"),
        };
        self.0.insert(id, Sum { elements: Elements::All(Rc::new(storage)), shape });
        Ok(())
    }

    fn finish<G>(self, form: impl Fn(Elements, &Shape) -> Result<G>) -> Result<Gradients<G>> {
        let gradients = self.0.into_iter().map(|(id, sum)| Ok((id, form(sum.elements, &sum.shape)?)));
        gradients.collect::<Result<_>>().map(Gradients)
    }
}

/// The elements, copied only if others hold them too.
fn owned<T: Real>(storage: Rc<Storage>) -> Result<Vec<T>> {
    match Rc::try_unwrap(storage) {
        Ok(Storage::Cpu(storage)) => T::cpu_storage_data(storage),
        Err(shared) => match &*shared {
            Storage::Cpu(storage) => Ok(T::cpu_storage_as_slice(storage)?.to_vec()),
            _ => bail!("a gradient on another device"),
        },
        Ok(_) => bail!("a gradient on another device"),
    }
}

fn add<T: Real>(mut sum: Vec<T>, more: &[T]) -> Storage {
    for_pieces(&mut sum, 1, |first, sum| {
        sum.iter_mut().zip(&more[first..]).for_each(|(sum, &more)| *sum += more);
    });
    Storage::Cpu(T::to_cpu_storage_owned(sum))
}

/// The gradient of a loss for each variable it depends on.
pub struct Gradients<G = Tensor>(HashMap<TensorId, G>);

impl<G> Gradients<G> {
    /// The gradient for `variable`, of its shape; none if the loss does not depend on it.
    pub fn get(&self, variable: &Tensor) -> Option<&G> {
        self.0.get(&variable.id())
    }

    /// Takes the gradient for `variable` out.
    pub fn remove(&mut self, variable: &Tensor) -> Option<G> {
        self.0.remove(&variable.id())
    }
}
