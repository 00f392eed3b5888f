//! Mixed precision on a GPU: products of bf16, and what layers keep in bf16.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use vlp_bench::kernels::{self, Activation, Bias, Dropout, Mask, Precision, Spans, Tape, random::Key};

use super::cuda::{Function, key_mask, outcome, real, words};
use super::cuda_logits::{logits, targets};
use super::{flat, normal};
use crate::places::{On, everywhere};

/// The nearest numbers of bf16, in f64.
fn rounded(x: &Tensor) -> Tensor {
    x.to_dtype(DType::BF16).unwrap().to_dtype(DType::F64).unwrap()
}

fn in_bf16(on: On<'_>, inputs: &[Tensor], f: Function<'_>) -> Vec<Tensor> {
    Precision::Bf16.during(|| outcome(on, inputs, f))
}

#[test]
fn factors_in_bf16_are_the_nearest_and_where_two_are_equally_near_the_even_one() {
    let step = 2f32.powi(-8);
    let mut x = vec![1.0, 1.0 + step, 1.0 + 3.0 * step, 1.0 + step * 1.001, -1.0 - step, 3.38e38, 1e-30, 0.0];
    x.extend(flat(&real("x", &[500])).iter().map(|&x| x as f32));
    let n = x.len();
    let (x, one) =
        (Tensor::from_vec(x, (n, 1), &Device::Cpu).unwrap(), Tensor::ones((1, 1), DType::F32, &Device::Cpu));
    let inputs = [x.clone(), one.unwrap()];
    everywhere(|on| {
        let got = &in_bf16(on, &inputs, &|t| kernels::linear(&t[0], &t[1], None))[0];
        assert_eq!(flat(got), flat(&rounded(&x)));
    });
}

/// `a b` in f64, and how far from it a sum in f32 of as many exact products may be: each addition errs by at most the
/// last of 24 bits of what has been added up, or two of them where it cuts off, as tensor cores do.
fn product(a: &Tensor, b: &Tensor) -> (Vec<f64>, Vec<f64>) {
    let (a, b) = (rounded(a), rounded(b));
    let sizes = a.abs().unwrap().matmul(&b.abs().unwrap()).unwrap();
    let share = (a.dims()[1] + 2) as f64 * 2f64.powi(-23);
    (flat(&a.matmul(&b).unwrap()), flat(&(sizes * share).unwrap()))
}

#[track_caller]
fn assert_within(got: &Tensor, times: f64, (expected, bound): &(Vec<f64>, Vec<f64>)) {
    for ((got, expected), bound) in flat(got).iter().zip(expected).zip(bound) {
        let (expected, bound) = (times * expected, times * bound);
        assert!((got - expected).abs() <= bound, "{got} instead of {expected}, within {bound}");
    }
}

#[test]
fn products_in_bf16_round_their_factors_and_nothing_else() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 17, 65), (70, 65, 9)] {
        let (x, w) = (real("x", &[rows, inputs]), real("w", &[outputs, inputs]));
        let c = normal("cotangent", &[rows, outputs], DType::F32).unwrap();
        everywhere(|on| {
            let got = in_bf16(on, &[x.clone(), w.clone()], &|t| kernels::linear(&t[0], &t[1], None));
            assert_within(&got[0], 1.0, &product(&x, &w.t().unwrap()));
            // The map is used twice, with c and with a half of it.
            assert_within(&got[1], 1.5, &product(&c, &w));
            assert_within(&got[2], 1.5, &product(&c.t().unwrap(), &x));
        });
    }
}

#[test]
fn losses_of_logits_in_bf16_are_those_of_f32() {
    let (rows, classes, width) = (9, 300, 33);
    let (x, w, targets) = (real("x", &[rows, width]), real("w", &[classes, width]), targets(rows, classes));
    let (z, bound) = product(&x, &w.t().unwrap());
    let z = Tensor::from_vec(z, (rows, classes), &Device::Cpu).unwrap();
    let expected = flat(&kernels::cross_entropy(&z, &targets, 0.1).unwrap())[0];
    // No logit moves the loss by more than it moves itself, up or down; the loss is a sum of a few hundred terms.
    let bound = 2.0 * bound.iter().fold(0f64, |most, &bound| most.max(bound)) + 1e-6 * expected;
    everywhere(|on| {
        let got = &in_bf16(on, &[x.clone(), w.clone()], &|t| {
            Ok(logits(t).cross_entropy(&targets.to_device(t[0].device())?, 0.1)?.loss)
        })[0];
        let got = flat(got)[0];
        assert!((got - expected).abs() <= bound, "{got} instead of {expected}, within {bound}");
    });
}

#[test]
fn a_precision_lasts_as_long_as_the_work_that_it_is_for() {
    let (x, w) = (real("x", &[3, 5]), real("w", &[4, 5]));
    let linear: Function<'_> = &|t| kernels::linear(&t[0], &t[1], None);
    everywhere(|on| {
        let of = || flat(&outcome(on, &[x.clone(), w.clone()], linear)[0]);
        let before = of();
        let panicked = std::panic::catch_unwind(|| Precision::Bf16.during(|| panic!("within")));
        assert!(panicked.is_err());
        assert_eq!(of(), before);
        assert_ne!(Precision::Bf16.during(of), before);
        assert_eq!(Precision::Bf16.during(|| Precision::F32.during(of)), before);
    });
}

/// What a layer computes of its inputs.
type Layer = Arc<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// The layer on a GPU, with what it keeps in bf16.
fn as_layer(inputs: &[Tensor], layer: &Layer) -> Result<Tensor> {
    let (inputs, layer) = (inputs.iter().collect::<Vec<_>>(), Arc::clone(layer));
    kernels::block(&inputs, move |inputs| layer(inputs))
}

/// x itself, as a linear map of a layer keeps it.
fn mapped(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(candle_core::D::Minus1)?;
    kernels::linear(x, &Tensor::eye(width, x.dtype(), x.device())?, None)
}

/// Value and gradients of a layer whose first `kept` inputs come to it in bf16, against the processor's in f32: each errs
/// by some roundings to 8 bits of what is as large as its greatest element.
#[track_caller]
fn agrees_in_bf16(kept: usize, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor> + 'static) {
    let nearest = |x: &Tensor| x.to_dtype(DType::BF16)?.to_dtype(DType::F32);
    let inputs: Vec<Tensor> = inputs.iter().map(|x| nearest(x).unwrap()).collect();
    let layer: Layer = Arc::new(move |inputs| {
        let (first, rest) = inputs.split_at(kept);
        let first = first.iter().map(mapped).collect::<Result<Vec<_>>>()?;
        f(&[&first, rest].concat())
    });
    let expected = outcome(On::Processor, &inputs, &|t| layer(t));
    everywhere(|on| {
        let got = in_bf16(on, &inputs, &|t| as_layer(t, &layer));
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!((got.dtype(), got.dims()), (DType::F32, expected.dims()));
            let (got, expected) = (flat(got), flat(expected));
            let scale = expected.iter().fold(0.1f64, |scale, x| scale.max(x.abs()));
            for (got, expected) in got.iter().zip(&expected) {
                assert!(
                    (got - expected).abs() <= 0.02 * scale,
                    "{got} instead of {expected} (scale {scale})"
                );
            }
        }
    });
}

fn drops() -> Option<Dropout> {
    Some(Dropout { p: 0.3, key: Key::new(1, 2, "dropout") })
}

#[test]
fn maps_norms_and_attention_of_layers_are_kept_in_bf16_and_sums_and_outcomes_in_f32() {
    let (x, w, gain) = (real("x", &[5, 6]), real("w", &[18, 6]), real("gain", &[6]));
    let types = |on: On<'_>, precision: Precision| {
        precision.during(|| {
            on.run(|| {
                let to = |x: &Tensor| x.to_device(&on.device());
                let (x, w, gain) = (Var::from_tensor(&to(&x)?)?, to(&w)?, to(&gain)?);
                let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
                let within = Arc::clone(&seen);
                let _tape = Tape::record();
                let layer: Layer = Arc::new(move |inputs| {
                    let normed = kernels::layer_norm(&inputs[0], &gain, &gain, 1e-5)?;
                    let qkv = kernels::linear(&normed, &w, None)?;
                    let attended = kernels::self_attention(&qkv.unsqueeze(0)?, 2, &Mask::None, None)?;
                    let attended = attended.squeeze(0)?;
                    let sum = kernels::add(&inputs[0], &attended)?;
                    let all = [&normed, &qkv, &attended, &sum].map(Tensor::dtype);
                    within.lock().unwrap().extend(all);
                    Ok(attended)
                });
                let outcome = as_layer(&[x.as_tensor().clone()], &layer)?;
                seen.lock().unwrap().push(outcome.dtype());
                Ok(std::mem::take(&mut *seen.lock().unwrap()))
            })
        })
    };
    let exact = [DType::F32; 5];
    assert_eq!(types(On::Processor, Precision::F32), exact);
    everywhere(|on| {
        assert_eq!(types(on, Precision::F32), exact);
        let [f32, bf16] = [DType::F32, DType::BF16];
        assert_eq!(types(on, Precision::Bf16), [bf16, bf16, bf16, f32, f32]);
    });
}

#[test]
fn maps_and_norms_in_bf16_are_near_those_of_f32() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 17, 65), (70, 65, 9)] {
        let operands = [real("x", &[1, rows, inputs]), real("w", &[outputs, inputs]), real("b", &[outputs])];
        for kept in [0, 1] {
            agrees_in_bf16(kept, &operands[..2], |t| kernels::linear(&t[0], &t[1], None));
            for activation in
                [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu]
            {
                agrees_in_bf16(kept, &operands, move |t| {
                    kernels::linear_of(activation, &t[0], &t[1], Some(&t[2]))
                });
                agrees_in_bf16(kept, &operands[..1], move |t| kernels::activate(&t[0], activation));
            }
        }
    }
    for (rows, width) in [(70, 65), (3, 300)] {
        let operands = [real("x", &[rows, width]), real("gain", &[width]), real("bias", &[width])];
        for kept in [0, 1] {
            agrees_in_bf16(kept, &operands, |t| kernels::layer_norm(&t[0], &t[1], &t[2], 1e-5));
            agrees_in_bf16(kept, &operands[..1], |t| kernels::softmax(&t[0]));
            agrees_in_bf16(kept, &operands[..1], |t| kernels::log_softmax(&t[0]));
            agrees_in_bf16(kept, &operands[..1], |t| kernels::l2_normalize(&t[0], 1e-6));
        }
    }
}

#[test]
fn sums_and_selections_of_bf16_are_near_those_of_f32() {
    let (rows, width) = (61, 17);
    let (x, branch, bias) = (real("x", &[rows, width]), real("y", &[rows, width]), real("b", &[width]));
    let ids = words("ids", 60, 9);
    for kept in 0..3 {
        agrees_in_bf16(kept, &[x.clone(), branch.clone()], |t| kernels::add(&t[0], &t[1]));
        for dropout in [None, drops()] {
            agrees_in_bf16(kept, &[x.clone(), branch.clone(), bias.clone()], move |t| {
                kernels::residual(&t[0], &t[1], Some(&t[2]), dropout)
            });
        }
        if kept == 2 {
            continue;
        }
        agrees_in_bf16(kept, &[real("z", &[3, rows, width]), branch.clone()], |t| {
            kernels::add_table(&t[0], &t[1])
        });
        agrees_in_bf16(kept, std::slice::from_ref(&x), |t| kernels::dropout(&t[0], drops().unwrap()));
        let examples = Spans::of([20, 0, 11, 30]);
        agrees_in_bf16(kept, std::slice::from_ref(&x), move |t| {
            kernels::drop_path(&t[0], &examples, Dropout { p: 0.5, ..drops().unwrap() })
        });
        let ids = ids.clone();
        agrees_in_bf16(kept, std::slice::from_ref(&x), move |t| {
            kernels::gather_rows(&t[0], &ids.to_device(t[0].device())?)
        });
        agrees_in_bf16(kept, &[real("few", &[4, width])], |t| {
            let places = Tensor::new(&[7u32, 0, 4, 3], t[0].device())?;
            kernels::spread_vectors(&t[0], &places, &[3, 3])
        });
    }
}

#[test]
fn attention_in_bf16_is_near_that_of_f32() {
    let sizes = [
        (1, 1, 1, 3),
        (7, 7, 2, 5),
        (37, 41, 2, 16),
        (5, 70, 1, 100),
        (65, 17, 1, 128),
        (197, 197, 1, 64),
        (3, 1024, 1, 32),
    ];
    for (queries, keys, heads, columns) in sizes {
        let (b, width) = (2, heads * columns);
        let masks = [
            Mask::None,
            Mask::CausalKeys(key_mask(b, keys)),
            Mask::Additive(real("mask", &[b, queries, keys])),
        ];
        for mask in masks {
            for (kept, dropout) in [(0, None), (2, None), (1, drops()), (2, drops())] {
                let inputs = [real("q", &[b, queries, width]), real("kv", &[b, keys, 2 * width])];
                let mask = mask.clone();
                agrees_in_bf16(kept, &inputs, move |t| {
                    kernels::cross_attention(&t[0], &t[1], heads, &mask, dropout)
                });
            }
        }
    }
    // Examples share keys, and some rows of keys are nobody's.
    let keys = Spans::of([4, 35, 2]).take(&[2, 0, 2, 0]).unwrap();
    let queries = Spans::of([3, 70, 1, 18]);
    agrees_in_bf16(2, &[real("q", &[92, 16]), real("kv", &[41, 32])], move |t| {
        kernels::cross_attention(&t[0], &t[1], 2, &Mask::across(queries.clone(), keys.clone()), drops())
    });
    let (own, heads, width) = (Spans::of([3, 40, 1, 18]), 2, 14);
    let at = words("at", 62, 45).to_vec1::<u32>().unwrap();
    agrees_in_bf16(1, &[real("qkv", &[62, 3 * width]), real("bias", &[heads, 45, 45])], move |t| {
        let bias = Bias { scores: &t[1], places: [&at, &at] };
        kernels::biased_self_attention(&t[0], bias, heads, &Mask::itself(&own, false), None)
    });
}

#[test]
fn a_layer_that_is_computed_twice_in_bf16_has_the_same_gradients_bit_by_bit() {
    let (x, w, gain) = (real("x", &[5, 6]), real("w", &[6, 6]), real("gain", &[6]));
    let gradients = |on: On<'_>, tape: fn() -> Tape| {
        Precision::Bf16.during(|| {
            on.run(|| {
                let var = |x: &Tensor| Var::from_tensor(&x.to_device(&on.device())?);
                let vars = [var(&x)?, var(&w)?, var(&gain)?];
                let [x, w, gain] = vars.each_ref().map(|var| var.as_tensor().clone());
                let tape = tape();
                let layer: Layer = Arc::new(move |inputs| {
                    let normed = kernels::layer_norm(&inputs[0], &gain, &gain, 1e-5)?;
                    kernels::add(&normed, &kernels::linear_of(Activation::Gelu, &normed, &w, None)?)
                });
                let twice = as_layer(&[as_layer(&[x], &layer)?], &layer)?;
                let gradients = tape.backward(&twice.sqr()?.sum_all()?)?;
                Ok(vars.map(|var| flat(gradients.get(&var).unwrap())))
            })
        })
    };
    everywhere(|on| assert_eq!(gradients(on, Tape::record), gradients(on, Tape::checkpoint)));
}

#[test]
fn layers_in_bf16_are_finite_for_large_and_tiny_inputs() {
    for scale in [0.0, 1e-30, 1e-8, 1e4, 1e15] {
        let x = (real("x", &[2, 6, 36]) * scale).unwrap();
        let (w, gain, nothing) = (real("w", &[5, 36]), real("gain", &[36]), key_mask(2, 6));
        let finite = |inputs: &[Tensor], f: fn(&[Tensor], &Tensor) -> Result<Tensor>| {
            let nothing = nothing.clone();
            let layer: Layer = Arc::new(move |t| f(t, &nothing));
            everywhere(|on| {
                let all = in_bf16(on, inputs, &|t| as_layer(t, &layer));
                assert!(all.iter().flat_map(flat).all(|x| x.is_finite()), "at {scale}");
            });
        };
        finite(&[x.clone(), w.clone()], |t, _| kernels::linear_of(Activation::GeluTanh, &t[0], &t[1], None));
        finite(&[x.clone(), gain.clone(), gain], |t, _| kernels::layer_norm(&t[0], &t[1], &t[2], 1e-12));
        finite(&[x], |t, nothing| {
            kernels::self_attention(&mapped(&t[0])?, 2, &Mask::Keys(nothing.clone()), None)
        });
    }
}

#[test]
fn a_query_that_sees_nothing_has_no_outcome_and_no_gradient_in_bf16() {
    let layer: Layer = Arc::new(|t| {
        let mask = Mask::Keys(key_mask(2, 6).to_device(t[0].device())?);
        kernels::self_attention(&t[0], 2, &mask, None)
    });
    everywhere(|on| {
        let all = in_bf16(on, &[real("qkv", &[2, 6, 36])], &|t| as_layer(t, &layer));
        for of_both in &all {
            let (first, second) = (of_both.get(0).unwrap(), of_both.get(1).unwrap());
            assert!(flat(&first).iter().any(|&x| x != 0.0) && flat(&second).iter().all(|&x| x == 0.0));
        }
    });
}
