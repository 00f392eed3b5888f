//! Gradients against central differences in f64.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::given::Given;
use super::tiny::DIMS;
use super::{WORDS, batch, embedding, flat, loss, normal, scalar, store, units};

/// Compares the gradient with central differences in f64 along random directions.
fn check_gradient(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let gradients = f(&tracked).unwrap().backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let direction = normal(&format!("direction {i}"), inputs[i].dims(), DType::F64);
        let at = |h: f64| {
            let mut moved = inputs.to_vec();
            moved[i] = (&inputs[i] + (&direction * h).unwrap()).unwrap();
            scalar(&f(&moved).unwrap())
        };
        let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        let gradient = gradients.get(var).unwrap();
        let exact: f64 = flat(gradient).iter().zip(flat(&direction)).map(|(g, d)| g * d).sum();
        assert!((numeric - exact).abs() < 1e-6 * (1.0 + exact.abs()), "input {i}: {numeric}, {exact}");
    }
}

#[test]
fn gradients_are_finite_differences() {
    let batch = batch(4, 1);
    let teacher = embedding(&units("slow images", 4, DType::F64), &units("slow texts", 4, DType::F64));
    let scale = Tensor::new(5.0, &Device::Cpu).unwrap();
    let inputs = [units("images", 4, DType::F64), units("texts", 4, DType::F64), scale];
    let entries = ["itc: {}", "itc_momentum: {queue: 0, distill: 0}", "itc_momentum: {queue: 0, distill: 1}"];
    for (entry, moving) in entries.into_iter().zip([3, 3, 2]) {
        // The temperature sharpens distilled targets too, which are not differentiated, so it stands still there.
        check_gradient(&inputs[..moving], |moved| {
            let student = Given {
                images: Some(moved[0].clone()),
                texts: Some(moved[1].clone()),
                scale: Some(moved.get(2).unwrap_or(&inputs[2]).clone()),
                ..Given::default()
            };
            Ok(loss(entry, &store(), &batch, &student, Some(&teacher)).value)
        });
    }
    let slow = Given {
        text_tokens: Some(normal("slow hidden", &[4, WORDS, 5], DType::F64)),
        decoder: Some(normal("slow decoder", &[DIMS.vocabulary, 5], DType::F64)),
        ..Given::default()
    };
    let inputs =
        [normal("hidden", &[4, WORDS, 5], DType::F64), normal("decoder", &[DIMS.vocabulary, 5], DType::F64)];
    check_gradient(&inputs, |inputs| {
        let student = Given {
            text_tokens: Some(inputs[0].clone()),
            decoder: Some(inputs[1].clone()),
            ..Given::default()
        };
        Ok(loss("mlm: {distill: 0.4}", &store(), &batch, &student, Some(&slow)).value)
    });
}
