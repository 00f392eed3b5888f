//! Single parts of a step that PyTorch has too, as `benches/peers/compare.py` times them on both sides.

use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use serde_json::json;
use vlp_bench::kernels::optim::{AdamW, adamw_, sum_of_squares};
use vlp_bench::kernels::random::Key;
use vlp_bench::kernels::{self, Activation, Ipot, Mask, Tape};
use vlp_bench::models::Store;
use vlp_bench::models::nn::{Tower, bert};
use vlp_bench::models::store::Role;

use super::steps::peak_memory;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The parts that can be timed.
pub const NAMES: [&str; 5] = ["gemm", "layer", "optimiser", "cross_entropy", "ipot"];
/// Rows and words of the cross-entropy.
const ROWS: usize = 1024;
const WORDS: usize = 30522;

fn normal(purpose: &str, shape: &[usize]) -> Result<Tensor> {
    let n = shape.iter().product();
    Ok(Tensor::from_vec(Key::new(0, 0, purpose).normal(n), shape, &Device::Cpu)?)
}

/// Times a part `count` times; what one is called "per second" is times.
pub fn time(name: &str, count: u64) -> Result<serde_json::Value> {
    let before = peak_memory(&Device::Cpu);
    let mut run = part(name)?;
    run()?;
    let flops = kernels::flops();
    run()?;
    let flops = kernels::flops() - flops;
    let start = Instant::now();
    for _ in 0..count {
        run()?;
    }
    let per_second = count as f64 / start.elapsed().as_secs_f64();
    Ok(json!({
        "name": name,
        "per_second": per_second,
        "gigaflops_per_second": per_second * flops / 1e9,
        "peak_memory_mib": peak_memory(&Device::Cpu),
        "memory_before_mib": before,
    }))
}

fn part(name: &str) -> Result<Box<dyn FnMut() -> Result<()>>> {
    match name {
        "gemm" => gemm(),
        "layer" => layer(),
        "optimiser" => optimiser(),
        "cross_entropy" => cross_entropy(),
        "ipot" => ipot(),
        other => Err(format!("nothing is called `{other}`").into()),
    }
}

/// The rate at which the machine multiplies: one large square product.
fn gemm() -> Result<Box<dyn FnMut() -> Result<()>>> {
    let (x, w) = (normal("x", &[2048, 2048])?, normal("w", &[2048, 2048])?);
    Ok(Box::new(move || {
        kernels::linear(&x, &w, None)?;
        Ok(())
    }))
}

/// A layer of BERT-base on 8 sequences of 197 tokens, forward and backward, without dropout.
fn layer() -> Result<Box<dyn FnMut() -> Result<()>>> {
    let tower = Tower { width: 768, depth: 1, heads: 12, mlp: None };
    let spec = tower.spec(Activation::Gelu, bert::EPS, 0.0);
    let store = Store::new(&Device::Cpu, 0, &[]);
    let layer = bert::Layer::new(&store.student(), &spec, None)?;
    let x = Var::from_tensor(&normal("x", &[8, 197, 768])?)?;
    let c = normal("c", &[8, 197, 768])?;
    Ok(Box::new(move || {
        let tape = Tape::record();
        let y = layer.forward(&x, &Mask::None, None, None)?;
        let gradients = tape.backward(&(y * &c)?.sum_all()?)?;
        let trained = store.of(Role::Trainable);
        assert!(trained.values().all(|entry| gradients.get(&entry.var).is_some()));
        Ok(())
    }))
}

/// Clipping to norm 1 and AdamW over 100 million parameters in 100 tensors.
fn optimiser() -> Result<Box<dyn FnMut() -> Result<()>>> {
    let shape = [1000, 1000];
    let mut tensors = Vec::new();
    for _ in 0..100 {
        let moments = Tensor::zeros((2, 1_000_000), DType::F32, &Device::Cpu)?;
        tensors.push((normal("theta", &shape)?, moments, normal("grad", &shape)?));
    }
    let mut step = 0;
    Ok(Box::new(move || {
        step += 1;
        let mut squares = 0.0;
        for (_, _, grad) in &tensors {
            squares += sum_of_squares(grad)?;
        }
        let adamw = AdamW {
            rate: 1e-3,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-6,
            weight_decay: 0.05,
            step,
            grad_scale: (1.0 / squares.sqrt()).min(1.0),
        };
        for (theta, moments, grad) in &tensors {
            adamw_(theta, moments, grad, &adamw)?;
        }
        Ok(())
    }))
}

/// Cross-entropy of given logits, forward and backward.
fn cross_entropy() -> Result<Box<dyn FnMut() -> Result<()>>> {
    let logits = Var::from_tensor(&normal("logits", &[ROWS, WORDS])?)?;
    let targets = Tensor::new(Key::new(0, 0, "targets").below(ROWS, WORDS as u32), &Device::Cpu)?;
    Ok(Box::new(move || {
        let tape = Tape::record();
        tape.backward(&kernels::cross_entropy(&logits, &targets, 0.0)?)?;
        Ok(())
    }))
}

/// Plans between 64 texts of 30 words and images of 100 regions.
fn ipot() -> Result<Box<dyn FnMut() -> Result<()>>> {
    let cost = Tensor::from_vec(Key::new(0, 0, "cost").uniform(64 * 30 * 100), (64, 30, 100), &Device::Cpu)?;
    let rows = Tensor::ones((64, 30), DType::F32, &Device::Cpu)?;
    let columns = Tensor::ones((64, 100), DType::F32, &Device::Cpu)?;
    Ok(Box::new(move || {
        kernels::ipot(&cost, &rows, &columns, Ipot::default())?;
        Ok(())
    }))
}
