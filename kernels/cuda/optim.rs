//! Sweeps over parameters on a GPU.

use candle_core::{Result, Tensor, bail};

use super::{AdamW, CHUNK};
use crate::kernels::cuda::machine::{Arg, Family, Machine, family};
use crate::kernels::cuda::memory::lend;
use crate::kernels::cuda::{Operand, machine_of};

const FAMILY: Family = family!("optim");

/// The machine that sweeps over `x`; none where the processor does.
pub(super) fn machine(x: &Tensor) -> Result<Option<Box<dyn Machine>>> {
    machine_of(&x.storage_and_layout().0)
}

pub(super) fn adamw(
    on: &dyn Machine,
    theta: &Tensor,
    moments: &Tensor,
    grad: &Tensor,
    adamw: &AdamW,
) -> Result<()> {
    let (n, step) = (theta.elem_count(), adamw.step.min(i32::MAX as u64) as i32);
    let AdamW { rate, beta1, beta2, eps, weight_decay, grad_scale, .. } = *adamw;
    let size = rate / (1.0 - beta1.powi(step));
    let root = (1.0 - beta2.powi(step)).sqrt();
    let keep = 1.0 - rate * weight_decay;
    let reals = [grad_scale, beta1, 1.0 - beta1, beta2, 1.0 - beta2, keep, size, root, eps];
    let (storage, layout) = grad.storage_and_layout();
    let grad = Operand::new(on, &storage, layout)?;
    lend(on, theta, |theta| {
        lend(on, moments, |moments| {
            let pointers = [theta, moments, moments.after(n), grad.at].map(Arg::At);
            let all: Vec<Arg> =
                pointers.into_iter().chain(reals.map(|real| Arg::Real(real as f32))).collect();
            on.each(&FAMILY, "adamw", n, &all)
        })
    })
}

pub(super) fn follow(on: &dyn Machine, teacher: &Tensor, student: &Tensor, momentum: f64) -> Result<()> {
    let (storage, layout) = student.storage_and_layout();
    let source = Operand::new(on, &storage, layout)?;
    lend(on, teacher, |target| {
        let (keep, take) = (Arg::Real(momentum as f32), Arg::Real((1.0 - momentum) as f32));
        on.each(&FAMILY, "follow", source.count(), &[keep, take, Arg::At(source.at), Arg::At(target)])
    })
}

/// The sum of squares of tensors of one machine, in a fixed order; their partial sums are downloaded together.
pub(super) fn sum_of_squares(all: &[&Tensor]) -> Result<f64> {
    let Some(first) = all.first() else { return Ok(0.0) };
    let Some(on) = machine(first)? else { bail!("sum_of_squares: not on a GPU") };
    let blocks = all.iter().map(|x| x.elem_count().div_ceil(CHUNK));
    let partial = on.scratch(2 * blocks.clone().sum::<usize>())?;
    let mut to = partial.at();
    for (x, blocks) in all.iter().zip(blocks.clone()) {
        let (storage, layout) = x.storage_and_layout();
        let x = Operand::new(&*on, &storage, layout)?;
        let sizes = [Arg::Long(x.count() as u64), Arg::size(CHUNK)?];
        let all: Vec<Arg> = sizes.into_iter().chain([x.at, to].map(Arg::At)).collect();
        on.launch(&FAMILY, "squares", [blocks, 1, 1], 256, &all)?;
        to = to.after(2 * blocks);
    }
    Ok(on.download(&partial)?.into_iter().take(2 * blocks.sum::<usize>()).map(f64::from).sum())
}
