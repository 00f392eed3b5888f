//! Forward and backward passes of single kernels at the shapes of a small CLIP step (batch 64, 65 tokens, width 192).

use std::hint::black_box;

use candle_core::{Device, Result, Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput};
use vlp_bench::kernels::{self, Activation, Logits, Mask, Tape, optim, random::Key};

const BATCH: usize = 64;
const TOKENS: usize = 65;
const WIDTH: usize = 192;
const ROWS: usize = BATCH * TOKENS;

fn variable(shape: &[usize]) -> Result<Var> {
    let n = shape.iter().product();
    Var::from_tensor(&Tensor::from_vec(Key::new(0, 0, "bench").normal(n), shape, &Device::Cpu)?)
}

/// Times the forward pass alone and together with the backward pass.
fn passes(
    c: &mut Criterion,
    name: &str,
    flops: u64,
    inputs: &[Var],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let tensors: Vec<Tensor> = inputs.iter().map(|var| var.as_tensor().clone()).collect();
    let detached: Vec<Tensor> = tensors.iter().map(Tensor::detach).collect();
    let mut group = c.benchmark_group(name);
    group.sample_size(10).measurement_time(std::time::Duration::from_secs(1));
    group.warm_up_time(std::time::Duration::from_millis(300));
    group.throughput(Throughput::Elements(flops));
    group.bench_function(BenchmarkId::from_parameter("forward"), |b| b.iter(|| f(black_box(&detached))));
    group.throughput(Throughput::Elements(3 * flops));
    group.bench_function(BenchmarkId::from_parameter("forward and backward"), |b| {
        b.iter(|| {
            let tape = Tape::record();
            tape.backward(&f(black_box(&tensors))?.sum_all()?)
        });
    });
    group.finish();
}

fn run(c: &mut Criterion) -> Result<()> {
    for (inputs, outputs) in [(WIDTH, 3 * WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)] {
        let operands = [variable(&[ROWS, inputs])?, variable(&[outputs, inputs])?, variable(&[outputs])?];
        let flops = 2 * (ROWS * inputs * outputs) as u64;
        passes(c, &format!("linear {inputs} to {outputs}"), flops, &operands, |t| {
            kernels::linear(&t[0], &t[1], Some(&t[2]))
        });
    }
    let operands = [variable(&[ROWS, 4 * WIDTH])?, variable(&[WIDTH, 4 * WIDTH])?, variable(&[WIDTH])?];
    passes(c, "linear of gelu", 8 * (ROWS * WIDTH * WIDTH) as u64, &operands, |t| {
        kernels::linear_of(Activation::Gelu, &t[0], &t[1], Some(&t[2]))
    });
    let operands = [variable(&[ROWS, WIDTH])?, variable(&[WIDTH])?, variable(&[WIDTH])?];
    passes(c, "layer norm", (ROWS * WIDTH) as u64, &operands, |t| {
        kernels::layer_norm(&t[0], &t[1], &t[2], 1e-5)
    });
    let operands = [variable(&[BATCH, TOKENS, 3 * WIDTH])?];
    passes(c, "self-attention", 4 * (BATCH * TOKENS * TOKENS * WIDTH) as u64, &operands, |t| {
        kernels::self_attention(&t[0], 6, &Mask::None, None)
    });
    let targets = Tensor::new(Key::new(0, 0, "targets").below(512, 8000), &Device::Cpu)?;
    passes(c, "cross-entropy of 8000 words", 512 * 8000, &[variable(&[512, 8000])?], |t| {
        kernels::cross_entropy(&t[0], &targets, 0.0)
    });
    let operands = [variable(&[512, WIDTH])?, variable(&[8000, WIDTH])?, variable(&[8000])?];
    let logits = |t: &[Tensor]| Logits::new(t[0].clone(), &t[1], Some(&t[2]));
    let flops = 2 * 512 * 8000 * WIDTH as u64;
    passes(c, "cross-entropy of a map to 8000 words", flops, &operands, |t| {
        Ok(logits(t).cross_entropy(&targets, 0.0)?.loss)
    });
    passes(c, "cross-entropy of 8000 words after their map", flops, &operands, |t| {
        kernels::cross_entropy(&logits(t).dense()?, &targets, 0.0)
    });
    let n = 5_000_000;
    let (theta, grad) = (variable(&[n])?, variable(&[n])?);
    let moments = Tensor::zeros((2, n), theta.dtype(), &Device::Cpu)?;
    let adamw = optim::AdamW {
        rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        grad_scale: 1.0,
    };
    let mut group = c.benchmark_group("adamw");
    group.sample_size(10).throughput(Throughput::Elements(n as u64));
    group.bench_function("5 million parameters", |b| {
        b.iter(|| optim::adamw_(theta.as_tensor(), &moments, grad.as_tensor(), &adamw));
    });
    group.finish();
    Ok(())
}

/// Every benchmark of this area.
pub fn kernels(c: &mut Criterion) {
    if let Err(error) = vlp_bench::kernels::threads::init(0).and_then(|()| run(c)) {
        eprintln!("kernels: {error}");
        std::process::exit(1);
    }
}
