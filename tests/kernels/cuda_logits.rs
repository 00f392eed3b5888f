//! Logits that pass in chunks on a GPU.

use candle_core::{Device, Result, Tensor};
use vlp_bench::kernels::{self, IGNORE, Logits};

use super::cuda::{agree, real, words};
use crate::places::{On, everywhere};

/// Class numbers below `classes`, of which every third but the first is not counted.
pub fn targets(rows: usize, classes: usize) -> Tensor {
    let mut targets = words("targets", rows, classes as u32).to_vec1::<u32>().unwrap();
    targets.iter_mut().skip(1).step_by(3).for_each(|target| *target = IGNORE);
    Tensor::new(targets, &Device::Cpu).unwrap()
}

pub fn logits(operands: &[Tensor]) -> Logits {
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
            Logits::new(x.as_tensor().clone(), &to(&weight)?, None)
                .cross_entropy(&to(targets)?, 0.0)?
                .accuracy
                .to_scalar::<f32>()
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
