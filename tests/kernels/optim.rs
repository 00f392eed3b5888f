use candle_core::{DType, Device, Tensor};
use vlp_bench::kernels::optim::{AdamW, adamw_, copy_, follow_, sum_of_squares};

use super::{flat, normal};

const ADAMW: AdamW =
    AdamW { rate: 1e-2, beta1: 0.9, beta2: 0.98, eps: 1e-6, weight_decay: 0.2, step: 1, grad_scale: 0.5 };

#[test]
fn adamw_takes_the_steps_of_the_published_algorithm() {
    let n = 1000;
    let theta = normal("theta", &[n], DType::F32).unwrap();
    let moments = Tensor::zeros((2, n), DType::F32, &Device::Cpu).unwrap();
    let (mut expected, mut m, mut v) = (flat(&theta), vec![0f64; n], vec![0f64; n]);
    for step in 1..=5 {
        let grad = normal(&format!("grad {step}"), &[n], DType::F32).unwrap();
        adamw_(&theta, &moments, &grad, &AdamW { step, ..ADAMW }).unwrap();
        for (i, g) in flat(&grad).into_iter().enumerate() {
            let g = g * ADAMW.grad_scale;
            m[i] = ADAMW.beta1 * m[i] + (1.0 - ADAMW.beta1) * g;
            v[i] = ADAMW.beta2 * v[i] + (1.0 - ADAMW.beta2) * g * g;
            let first = m[i] / (1.0 - ADAMW.beta1.powi(step as i32));
            let second = v[i] / (1.0 - ADAMW.beta2.powi(step as i32));
            expected[i] -= ADAMW.rate * ADAMW.weight_decay * expected[i];
            expected[i] -= ADAMW.rate * first / (second.sqrt() + ADAMW.eps);
        }
    }
    for (got, expected) in flat(&theta).iter().zip(&expected) {
        assert!((got - expected).abs() < 2e-6, "got {got}, expected {expected}");
    }
}

#[test]
fn adamw_updates_a_variable_in_place() {
    let var = candle_core::Var::from_tensor(&normal("theta", &[3, 4], DType::F32).unwrap()).unwrap();
    let before = flat(var.as_tensor());
    let moments = Tensor::zeros((2, 12), DType::F32, &Device::Cpu).unwrap();
    adamw_(var.as_tensor(), &moments, &normal("g", &[3, 4], DType::F32).unwrap(), &ADAMW).unwrap();
    assert!(flat(var.as_tensor()).iter().zip(before).all(|(after, before)| *after != before));
}

#[test]
fn a_part_of_an_arena_is_updated_and_its_neighbours_are_not() {
    let arena = Tensor::ones(10, DType::F32, &Device::Cpu).unwrap();
    let part = arena.narrow(0, 3, 4).unwrap();
    copy_(&part, &Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(flat(&arena), [1., 1., 1., 0., 0., 0., 0., 1., 1., 1.]);
}

#[test]
fn a_teacher_follows_its_student() {
    let teacher = Tensor::ones(5, DType::F32, &Device::Cpu).unwrap();
    let student = Tensor::zeros(5, DType::F32, &Device::Cpu).unwrap();
    for _ in 0..2 {
        follow_(&teacher, &student, 0.75).unwrap();
    }
    assert_eq!(flat(&teacher), [0.5625; 5]);
}

#[test]
fn the_sum_of_squares_is_taken_in_f64() {
    let x = Tensor::full(1e-3f32, 3_000_000, &Device::Cpu).unwrap();
    let expected = 3_000_000.0 * f64::from(1e-3f32).powi(2);
    assert!((sum_of_squares(&x).unwrap() / expected - 1.0).abs() < 1e-12);
}

#[test]
fn mismatched_shapes_are_refused() {
    let x = normal("x", &[4], DType::F32).unwrap();
    let y = normal("y", &[5], DType::F32).unwrap();
    assert!(follow_(&x, &y, 0.5).is_err());
    assert!(adamw_(&x, &y, &x, &ADAMW).is_err());
}
