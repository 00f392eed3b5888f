//! Kernels against references in f64: values, gradients, limits, and equal bits at any number of threads.

mod attention;
mod cuda;
mod cuda_bf16;
mod cuda_logits;
mod golden;
mod gradients;
mod ipot;
mod limits;
mod logits;
mod optim;
mod random;
mod shapes;
mod tables;
mod threads;
mod vmath;

use candle_core::{DType, Device, Result, Tensor, Var};
use vlp_bench::kernels::{self, random::Key};

pub fn normal(purpose: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
    let n = shape.iter().product();
    Tensor::from_vec(Key::new(7, 0, purpose).normal(n), shape, &Device::Cpu)?.to_dtype(dtype)
}

pub fn flat(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

#[track_caller]
pub fn assert_close(got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims());
    let (got, expected) = (flat(got), flat(expected));
    let scale = expected.iter().fold(1e-2f64, |scale, x| scale.max(x.abs()));
    for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
        assert!((g - e).abs() <= tolerance * scale, "element {i}: got {g}, expected {e} (scale {scale})");
    }
}

/// The loss `sum(c f(x))` for a fixed random c, and its gradient towards every input.
pub fn loss_and_gradients(
    inputs: &[Tensor],
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<(f64, Vec<Tensor>)> {
    let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    // A tracked operand that is not itself a variable is the case candle handles differently.
    let tracked = vars.iter().map(|var| var.as_tensor() * 1.0).collect::<Result<Vec<_>>>()?;
    let y = f(&tracked)?;
    let c = normal("cotangent", y.dims(), y.dtype())?;
    let loss = (&y * c)?.sum_all()?;
    let grads = loss.backward()?;
    let gradients = vars
        .iter()
        .map(|var| grads.get(var.as_tensor()).map_or_else(|| var.zeros_like(), |grad| Ok(grad.detach())))
        .collect::<Result<_>>()?;
    Ok((loss.to_dtype(DType::F64)?.to_scalar()?, gradients))
}

/// The same gradients by a tape: of the variables themselves and through candle's graph, used once and used twice, when
/// the second use adds to what the first has written.
#[track_caller]
fn check_tape(inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>, expected: &[Tensor]) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let plain: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    for (uses, glued) in [(1.0, false), (1.0, true), (2.0, false), (2.0, true)] {
        let tape = kernels::Tape::record();
        let operands = match glued {
            false => plain.clone(),
            true => plain.iter().map(|x| (x * 1.0).unwrap()).collect(),
        };
        let mut y = f(&operands).unwrap();
        let c = normal("cotangent", y.dims(), y.dtype()).unwrap();
        if uses == 2.0 {
            y = (y + f(&operands).unwrap()).unwrap();
        }
        let gradients = tape.backward(&(y * c).unwrap().sum_all().unwrap()).unwrap();
        for (var, expected) in vars.iter().zip(expected) {
            let zeros = var.zeros_like().unwrap();
            let got = gradients.get(var).unwrap_or(&zeros);
            assert_close(&(got * (1.0 / uses)).unwrap(), expected, 1e-12);
        }
    }
}

/// Compares gradients with differences over five points in f64 along random directions, one input at a time. Three
/// points are not enough where a row of few elements is nearly constant and layer normalisation bends sharply.
/// A tape must find the same gradients.
#[track_caller]
pub fn check_gradients(inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    let (_, gradients) = loss_and_gradients(inputs, f).unwrap();
    check_tape(inputs, f, &gradients);
    for (i, gradient) in gradients.iter().enumerate() {
        for trial in 0..3 {
            let direction = normal(&format!("direction {i} {trial}"), inputs[i].dims(), DType::F64).unwrap();
            let h = 1e-5;
            let at = |h: f64| {
                let mut moved = inputs.to_vec();
                moved[i] = (&inputs[i] + (&direction * h).unwrap()).unwrap();
                loss_and_gradients(&moved, f).unwrap().0
            };
            let numeric = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            let exact: f64 = flat(gradient).iter().zip(flat(&direction)).map(|(g, d)| g * d).sum();
            let size: f64 = flat(gradient).iter().map(|g| g * g).sum::<f64>().sqrt();
            let difference = (numeric - exact).abs();
            assert!(difference <= 1e-6 * (1.0 + size), "input {i}: numeric {numeric}, exact {exact}");
        }
    }
}

/// Values and gradients of `fused` in f64 and f32 against `reference` in f64, and against finite differences.
#[track_caller]
pub fn agrees(
    inputs: &[Tensor],
    fused: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    reference: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    let tolerances = [(DType::F64, 1e-9), (DType::F32, 2e-5)];
    let expected = reference(inputs).unwrap();
    let (_, expected_gradients) = loss_and_gradients(inputs, reference).unwrap();
    for (dtype, tolerance) in tolerances {
        let typed: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        assert_close(&fused(&typed).unwrap(), &expected, tolerance);
        let (_, gradients) = loss_and_gradients(&typed, fused).unwrap();
        for (got, expected) in gradients.iter().zip(&expected_gradients) {
            assert_close(got, expected, tolerance);
        }
    }
    check_gradients(inputs, fused);
}
