//! Products of matrices on a GPU: of logits that pass in chunks, and of factors in bf16.

use candle_core::{DType, Device, Result, Tensor};
use vlp_bench::kernels::{self, IGNORE, Logits, Precision};

use super::cuda::{Function, agree, outcome, real, words};
use super::{flat, normal};
use crate::places::{On, everywhere};

/// Class numbers below `classes`, of which every third but the first is not counted.
fn targets(rows: usize, classes: usize) -> Tensor {
    let mut targets = words("targets", rows, classes as u32).to_vec1::<u32>().unwrap();
    targets.iter_mut().skip(1).step_by(3).for_each(|target| *target = IGNORE);
    Tensor::new(targets, &Device::Cpu).unwrap()
}

fn logits(operands: &[Tensor]) -> Logits {
    Logits::new(operands[0].clone(), &operands[1], operands.get(2))
}

#[test]
fn cross_entropies_of_maps_on_a_gpu_are_those_of_the_processor() {
    // A rehearsal has 128 classes in a chunk.
    for (rows, classes, width) in [(1, 2, 3), (9, 300, 5), (130, 131, 17)] {
        let targets = targets(rows, classes);
        let inputs = [real("x", &[rows, width]), real("w", &[classes, width]), real("b", &[classes])];
        let teacher = [real("tx", &[rows, 4]), real("tw", &[classes, 4]), real("tb", &[classes])];
        for operands in [&inputs[..2], &inputs[..]] {
            for smoothing in [0.0, 0.1] {
                agree(operands, &|t| {
                    let targets = targets.to_device(t[0].device())?;
                    Ok(logits(t).cross_entropy(&targets, smoothing)?.loss)
                });
            }
            for alpha in [0.4, 1.0] {
                agree(operands, &|t| {
                    let to = |x: &Tensor| x.to_device(t[0].device());
                    let teacher = teacher.iter().map(to).collect::<Result<Vec<_>>>()?;
                    Ok(logits(t).distilled(&to(&targets)?, &logits(&teacher), alpha)?.loss)
                });
            }
        }
    }
}

#[test]
fn classes_that_are_ruled_out_cost_nothing_on_a_gpu() {
    // The whole second chunk of a rehearsal, and some of the others.
    let bias = (0..300).map(|class| if class / 128 == 1 || class % 7 == 3 { f32::NEG_INFINITY } else { 0.0 });
    let bias = Tensor::from_iter(bias, &Device::Cpu).unwrap();
    let targets = Tensor::new(&[0u32, 1, IGNORE, 299], &Device::Cpu).unwrap();
    agree(&[real("x", &[4, 5]), real("w", &[300, 5])], &|t| {
        let to = |x: &Tensor| x.to_device(t[0].device());
        let (bias, targets) = (to(&bias)?, to(&targets)?);
        let teacher = Logits::new(t[0].clone(), &t[1], Some(&bias));
        Ok(Logits::new(t[0].clone(), &t[1], Some(&bias)).distilled(&targets, &teacher, 0.3)?.loss)
    });
}

#[test]
fn right_answers_are_counted_on_a_gpu_as_by_the_processor() {
    let (rows, classes) = (40, 300);
    // Few weights, so that the greatest logit is that of several classes, in one chunk and across them.
    let weight = real("w", &[classes, 1]).round().unwrap();
    let x = real("x", &[rows, 1]);
    let count = |on: On<'_>, targets: &Tensor| {
        on.run(|| {
            let to = |x: &Tensor| x.to_device(&on.device());
            let x = candle_core::Var::from_tensor(&to(&x)?)?;
            let _tape = kernels::Tape::record();
            Ok(Logits::new(x.as_tensor().clone(), &to(&weight)?, None)
                .cross_entropy(&to(targets)?, 0.0)?
                .accuracy)
        })
    };
    let best = x.matmul(&weight.t().unwrap()).unwrap().to_vec2::<f32>().unwrap();
    let first = |row: &Vec<f32>| {
        let most = row.iter().copied().fold(f32::MIN, f32::max);
        row.iter().position(|&z| z == most).unwrap() as u32
    };
    // Every other target is the first of the greatest.
    let targets: Vec<u32> = best.iter().enumerate().map(|(at, row)| first(row) ^ (at as u32 % 2)).collect();
    let targets = Tensor::new(targets, &Device::Cpu).unwrap();
    assert_eq!(count(On::Processor, &targets), 0.5);
    everywhere(|on| assert_eq!(count(on, &targets), 0.5));
}

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
