use candle_core::{DType, Device, Result, Tensor};
use vlp_bench::kernels::{self, Activation, Dropout, Mask, random::Key};

use super::{assert_close, flat, loss_and_gradients, normal};

#[track_caller]
fn finite(inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    assert!(flat(&f(inputs).unwrap()).iter().all(|y| y.is_finite()), "the value is not finite");
    for gradient in loss_and_gradients(inputs, f).unwrap().1 {
        assert!(flat(&gradient).iter().all(|g| g.is_finite()), "a gradient is not finite");
    }
}

#[test]
fn large_and_tiny_inputs_give_finite_values_and_gradients() {
    for scale in [0.0, 1e-30, 1e-8, 1e4, 1e15] {
        let x = (normal("x", &[6, 12], DType::F32).unwrap() * scale).unwrap();
        let w = normal("w", &[12], DType::F32).unwrap();
        let targets = Tensor::new(Key::new(0, 0, "t").below(6, 12), &Device::Cpu).unwrap();
        let one = std::slice::from_ref(&x);
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu] {
            finite(one, &|t| kernels::activate(&t[0], activation));
        }
        finite(&[x.clone(), w.clone(), w.clone()], &|t| kernels::layer_norm(&t[0], &t[1], &t[2], 1e-5));
        finite(one, &|t| kernels::softmax(&t[0]));
        finite(one, &|t| kernels::log_softmax(&t[0]));
        finite(one, &|t| kernels::l2_normalize(&t[0], 1e-12));
        finite(one, &|t| kernels::cross_entropy(&t[0], &targets, 0.1));
        let qkv = x.reshape((2, 3, 12)).unwrap();
        finite(&[qkv], &|t| kernels::self_attention(&t[0], 2, &Mask::Causal, None));
    }
}

#[test]
fn kernels_that_add_up_no_squares_are_finite_as_far_as_their_input_is() {
    for scale in [1e30f32, 8e37] {
        let x = (normal("x", &[6, 12], DType::F32).unwrap() * f64::from(scale)).unwrap();
        let one = std::slice::from_ref(&x);
        assert!(flat(&x).iter().all(|x| x.is_finite()));
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu] {
            finite(one, &|t| kernels::activate(&t[0], activation));
        }
        finite(one, &|t| kernels::softmax(&t[0]));
        finite(one, &|t| kernels::l2_normalize(&t[0], 1e-12));
        let soft = kernels::softmax(&normal("soft", &[6, 12], DType::F32).unwrap()).unwrap();
        // The cost itself may be beyond what f32 holds, but is a number all the same.
        let (cost, gradients) =
            loss_and_gradients(one, &|t| kernels::soft_cross_entropy(&t[0], &soft)).unwrap();
        assert!(!cost.is_nan() && flat(&gradients[0]).iter().all(|g| g.is_finite()), "{cost}");
    }
}

#[test]
fn a_row_of_minus_infinities_has_a_softmax_of_zeros_and_moves_nothing() {
    let rows = Tensor::new(&[[f32::NEG_INFINITY; 5], [1., 2., 3., 4., 5.]], &Device::Cpu).unwrap();
    let y = flat(&kernels::softmax(&rows).unwrap());
    assert!(y[..5].iter().all(|&y| y == 0.0) && (y[5..].iter().sum::<f64>() - 1.0).abs() < 1e-6);
    let gradients = loss_and_gradients(&[rows], &|t| kernels::softmax(&t[0])).unwrap().1;
    assert!(flat(&gradients[0])[..5].iter().all(|&g| g == 0.0));
}

#[test]
fn gradients_of_layer_norm_stay_accurate_at_variances_of_1e_minus_8_and_activations_of_1e4() {
    let noise = normal("noise", &[3, 65], DType::F64).unwrap();
    for (offset, size, tolerance) in [(0.0, 1e-4, 1e-4), (0.0, 1e4, 1e-4), (1e4, 1.0, 5e-3)] {
        let x = ((&noise * size).unwrap() + offset).unwrap().to_dtype(DType::F32).unwrap();
        let gradients = |dtype| {
            let w = normal("w", &[65], dtype).unwrap();
            let inputs = [x.to_dtype(dtype).unwrap(), w.clone(), w];
            let scaled = loss_and_gradients(&inputs, &|t| kernels::layer_norm(&t[0], &t[1], &t[2], 1e-12));
            let mut gradients = scaled.unwrap().1;
            // In proportion to one over the deviation.
            gradients[0] = (&gradients[0] * size).unwrap();
            gradients
        };
        for (got, expected) in gradients(DType::F32).iter().zip(&gradients(DType::F64)) {
            assert_close(got, expected, tolerance);
        }
    }
}

#[test]
fn layer_norm_stays_accurate_far_from_zero_and_at_small_variance() {
    let width = 197;
    let noise = normal("noise", &[3, width], DType::F64).unwrap();
    let (gain, bias) =
        (normal("g", &[width], DType::F64).unwrap(), normal("b", &[width], DType::F64).unwrap());
    for (offset, size) in [(1e4, 1.0), (0.0, 1e-4), (1.0, 1e-3)] {
        let x = ((&noise * size).unwrap() + offset).unwrap().to_dtype(DType::F32).unwrap();
        let norm = |dtype| {
            let [x, gain, bias] = [&x, &gain, &bias].map(|t| t.to_dtype(dtype).unwrap());
            kernels::layer_norm(&x, &gain, &bias, 1e-12).unwrap()
        };
        assert_close(&norm(DType::F32), &norm(DType::F64), 1e-3);
    }
}

#[test]
fn uniform_logits_cost_the_logarithm_of_the_number_of_classes() {
    let logits = Tensor::zeros((4, 30), DType::F32, &Device::Cpu).unwrap();
    let targets = Tensor::new(&[0u32, 7, 29, 3], &Device::Cpu).unwrap();
    for smoothing in [0.0, 0.1] {
        let loss: f32 = kernels::cross_entropy(&logits, &targets, smoothing).unwrap().to_scalar().unwrap();
        assert!((loss - 30f32.ln()).abs() < 1e-6);
    }
}

#[test]
fn no_counted_row_costs_nothing_and_moves_nothing() {
    let x = normal("x", &[3, 5], DType::F32).unwrap();
    let targets = Tensor::new(&[kernels::IGNORE; 3], &Device::Cpu).unwrap();
    let (loss, gradients) =
        loss_and_gradients(&[x], &|t| kernels::cross_entropy(&t[0], &targets, 0.0)).unwrap();
    assert_eq!(loss, 0.0);
    assert!(flat(&gradients[0]).iter().all(|&g| g == 0.0));
}

#[test]
fn a_zero_vector_stays_zero_when_normalised() {
    let zeros = Tensor::zeros((2, 5), DType::F32, &Device::Cpu).unwrap();
    assert!(flat(&kernels::l2_normalize(&zeros, 1e-12).unwrap()).iter().all(|&y| y == 0.0));
}

#[test]
fn bad_operands_are_refused_in_words() {
    let x = normal("x", &[3, 5], DType::F32).unwrap();
    let w = normal("w", &[4, 6], DType::F32).unwrap();
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    assert!(message(kernels::linear(&x, &w, None)).contains("does not end in the 6 inputs"));
    let rows = Tensor::new(&[3u32], &Device::Cpu).unwrap();
    assert!(message(kernels::gather_rows(&x, &rows)).contains("row 3 of 3"));
    let targets = Tensor::new(&[0u32, 5, 1], &Device::Cpu).unwrap();
    assert!(message(kernels::cross_entropy(&x, &targets, 0.0)).contains("target 5 of 5 classes"));
    assert!(
        message(kernels::dropout(&x, Dropout { p: 1.0, key: Key::new(0, 0, "") })).contains("not in [0, 1)")
    );
    let qkv = normal("qkv", &[1, 3, 15], DType::F32).unwrap();
    assert!(
        message(kernels::self_attention(&qkv, 2, &Mask::None, None)).contains("does not divide into 2 heads")
    );
}
