use candle_core::{D, DType, Device, Result, Tensor, Var};
use proptest::prelude::*;
use vlp_bench::kernels::{self, CrossEntropy, IGNORE, Logits, Tape, random::Key};

use super::{agrees, assert_close, flat, loss_and_gradients, normal};

/// A map from D = 5 features to classes, with targets of which every third but the first is ignored.
struct Case {
    inputs: [Tensor; 3],
    teacher: [Tensor; 3],
    targets: Vec<u32>,
    classes: usize,
}

impl Case {
    fn new(rows: usize, classes: usize) -> Self {
        let map = |name: &str| {
            let part = |part: &str, shape: &[usize]| normal(&format!("{name} {part}"), shape, DType::F64);
            [part("x", &[rows, 5]), part("weight", &[classes, 5]), part("bias", &[classes])]
                .map(Result::unwrap)
        };
        let mut targets = Key::new(1, 0, "targets").below(rows, classes as u32);
        targets.iter_mut().skip(3).step_by(3).for_each(|target| *target = IGNORE);
        Self { inputs: map("student"), teacher: map("teacher"), targets, classes }
    }

    fn ids(&self) -> Tensor {
        Tensor::new(self.targets.clone(), &Device::Cpu).unwrap()
    }

    /// The mean over counted rows of `-sum_c t_c log softmax(z)_c` for the dense targets t.
    fn plain(&self, inputs: &[Tensor], smoothing: f64, alpha: f64) -> Result<Tensor> {
        let z = plain(inputs)?;
        let believed = log_softmax(&plain(&self.teacher)?)?.exp()?;
        let mut hard = vec![0f64; self.targets.len() * self.classes];
        let mut counted = vec![0f64; self.targets.len()];
        for (row, &target) in self.targets.iter().enumerate().filter(|(_, target)| **target != IGNORE) {
            counted[row] = 1.0;
            let row = &mut hard[row * self.classes..(row + 1) * self.classes];
            row.fill(smoothing / self.classes as f64);
            row[target as usize] += 1.0 - smoothing;
        }
        let count = counted.iter().sum::<f64>();
        let counted = Tensor::from_vec(counted, (self.targets.len(), 1), &Device::Cpu)?;
        let hard = Tensor::from_vec(hard, z.shape(), &Device::Cpu)?;
        let aim = ((hard * (1.0 - alpha))? + (believed.broadcast_mul(&counted)? * alpha)?)?;
        (log_softmax(&z)? * aim)?.sum_all()? * (-1.0 / count)
    }

    fn fused(&self, inputs: &[Tensor], smoothing: f64, alpha: f64) -> Result<Tensor> {
        let logits = stated(inputs);
        Ok(match alpha == 0.0 {
            true => logits.cross_entropy(&self.ids(), smoothing)?.loss,
            false => logits.distilled(&self.ids(), &stated(&self.teacher), alpha)?.loss,
        })
    }
}

fn stated(inputs: &[Tensor]) -> Logits {
    Logits::new(inputs[0].clone(), &inputs[1], inputs.get(2))
}

fn plain(inputs: &[Tensor]) -> Result<Tensor> {
    let z = inputs[0].matmul(&inputs[1].t()?)?;
    inputs.get(2).map_or_else(|| Ok(z.clone()), |bias| z.broadcast_add(bias))
}

fn log_softmax(z: &Tensor) -> Result<Tensor> {
    let z = z.broadcast_sub(&z.max_keepdim(D::Minus1)?.detach())?;
    z.broadcast_sub(&z.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

#[test]
fn cross_entropy_of_a_map_has_the_values_and_gradients_of_its_formula() {
    for (rows, classes) in [(1, 1), (1, 197), (3, 17), (17, 65), (65, 3)] {
        let case = Case::new(rows, classes);
        for (smoothing, alpha) in [(0.0, 0.0), (0.1, 0.0), (0.0, 0.4), (0.0, 1.0)] {
            for operands in [2, 3] {
                agrees(&case.inputs[..operands], &|t| case.fused(t, smoothing, alpha), &|t| {
                    case.plain(t, smoothing, alpha)
                });
            }
        }
    }
}

#[test]
fn logits_that_pass_in_several_chunks_cost_and_move_what_they_do_at_once() {
    // Of 2,100 rows a chunk holds 128 classes.
    let case = Case::new(2100, 300);
    for (smoothing, alpha) in [(0.1, 0.0), (0.0, 0.4)] {
        let (expected, gradients) =
            loss_and_gradients(&case.inputs, &|t| case.plain(t, smoothing, alpha)).unwrap();
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 2e-5)] {
            let typed = case.inputs.each_ref().map(|x| x.to_dtype(dtype).unwrap());
            let (loss, got) = loss_and_gradients(&typed, &|t| case.fused(t, smoothing, alpha)).unwrap();
            assert!((loss - expected).abs() < tolerance * expected.abs(), "{loss}, expected {expected}");
            for (got, expected) in got.iter().zip(&gradients) {
                assert_close(got, expected, tolerance);
            }
        }
    }
}

fn accuracy(found: Result<CrossEntropy>) -> f32 {
    found.unwrap().accuracy.to_scalar().unwrap()
}

#[test]
fn accuracy_is_the_share_of_counted_rows_whose_target_is_the_first_of_the_greatest_logits() {
    let case = Case::new(2100, 300);
    let best: Vec<u32> = plain(&case.inputs).unwrap().argmax(1).unwrap().to_vec1().unwrap();
    // Every other target is right.
    let targets: Vec<u32> = best.iter().enumerate().map(|(row, best)| best ^ (row as u32 % 2)).collect();
    let ids = Tensor::new(targets, &Device::Cpu).unwrap();
    assert_eq!(accuracy(stated(&case.inputs).cross_entropy(&ids, 0.0)), 0.5);
    assert_eq!(accuracy(stated(&case.inputs).distilled(&ids, &stated(&case.teacher), 0.4)), 0.5);

    let zeros = |rows| Tensor::zeros((rows, 1), DType::F32, &Device::Cpu).unwrap();
    let logits = Logits::new(zeros(5), &zeros(300), None);
    let ids = Tensor::new(&[0u32, IGNORE, 0, IGNORE, 0], &Device::Cpu).unwrap();
    assert_eq!(accuracy(logits.cross_entropy(&ids, 0.0)), 1.0);
    let ids = Tensor::new(&[IGNORE; 5], &Device::Cpu).unwrap();
    let nothing = logits.cross_entropy(&ids, 0.0).unwrap();
    assert_eq!((accuracy(Ok(nothing.clone())), flat(&nothing.loss)), (0.0, vec![0.0]));
}

#[test]
fn a_table_that_embeds_and_decodes_gathers_both_gradients() {
    let table = Var::from_tensor(&normal("table", &[40, 6], DType::F64).unwrap()).unwrap();
    let ids = Tensor::new(&[3u32, 0, 3, 39], &Device::Cpu).unwrap();
    let gradient = |fused: bool| {
        let tape = Tape::record();
        let logits = Logits::new(kernels::embedding(&table, &ids).unwrap(), &table, None);
        let loss = match fused {
            true => logits.cross_entropy(&ids, 0.1).unwrap().loss,
            false => kernels::cross_entropy(&logits.dense().unwrap(), &ids, 0.1).unwrap(),
        };
        tape.backward(&loss).unwrap().get(&table).unwrap().clone()
    };
    assert_close(&gradient(true), &gradient(false), 1e-12);
}

#[test]
fn frozen_operands_of_a_map_receive_no_gradient() {
    let [x, weight, bias] = Case::new(4, 9).inputs;
    let bias = Var::from_tensor(&bias).unwrap();
    let ids = Tensor::new(&[3u32, 0, 3, 8], &Device::Cpu).unwrap();
    let tape = Tape::record();
    let loss = Logits::new(x.clone(), &weight, Some(&bias)).cross_entropy(&ids, 0.0).unwrap().loss;
    let gradients = tape.backward(&loss).unwrap();
    assert!(gradients.get(&x).is_none() && gradients.get(&weight).is_none());
    // Probabilities less targets, both of which have the sum 1.
    assert!(flat(gradients.get(&bias).unwrap()).iter().sum::<f64>().abs() < 1e-12);
}

#[test]
fn classes_that_are_ruled_out_and_great_logits_leave_everything_finite() {
    let [x, weight, _] = Case::new(6, 300).inputs.map(|x| x.to_dtype(DType::F32).unwrap());
    let mut bias = vec![f32::NEG_INFINITY; 300];
    bias[7..20].fill(0.0);
    let bias = Tensor::new(bias, &Device::Cpu).unwrap();
    let ids = Tensor::new(&[7u32, 8, 9, 10, 11, 12], &Device::Cpu).unwrap();
    for scale in [0.0, 1e-30, 1.0, 1e4] {
        let x = (&x * scale).unwrap();
        for teacher in [false, true] {
            let (loss, gradients) = loss_and_gradients(&[x.clone(), weight.clone()], &|t| {
                let logits = Logits::new(t[0].clone(), &t[1], Some(&bias));
                match teacher {
                    false => Ok(logits.cross_entropy(&ids, 0.0)?.loss),
                    true => {
                        Ok(logits.distilled(&ids, &Logits::new(x.clone(), &weight, Some(&bias)), 0.4)?.loss)
                    }
                }
            })
            .unwrap();
            assert!(loss.is_finite(), "{scale}: {loss}");
            assert!(gradients.iter().flat_map(flat).all(f64::is_finite), "{scale}");
        }
    }
}

#[test]
fn logits_without_rows_cost_nothing_and_move_nothing() {
    let weight = normal("weight", &[7, 5], DType::F32).unwrap();
    let none = Tensor::zeros((0, 5), DType::F32, &Device::Cpu).unwrap();
    let ids = Tensor::from_vec(Vec::<u32>::new(), 0, &Device::Cpu).unwrap();
    let weight = Var::from_tensor(&weight).unwrap();
    let tape = Tape::record();
    let loss = Logits::new(none, &weight, None).cross_entropy(&ids, 0.0).unwrap().loss;
    assert_eq!(flat(&loss), [0.0]);
    assert_eq!(flat(tape.backward(&loss).unwrap().get(&weight).unwrap()), [0.0; 35]);
}

#[test]
fn maps_and_targets_that_do_not_fit_are_refused_in_words() {
    let [x, weight, bias] = Case::new(3, 7).inputs;
    let refusal = |logits: &Logits, targets: &[u32], smoothing| {
        let ids = Tensor::new(targets, &Device::Cpu).unwrap();
        logits.cross_entropy(&ids, smoothing).unwrap_err().to_string()
    };
    let logits = Logits::new(x.clone(), &weight, Some(&bias));
    assert!(refusal(&logits, &[0, 7, 1], 0.0).contains("target 7 of 7 classes"));
    assert!(refusal(&logits, &[0, 1], 0.0).contains("3 rows towards 2 targets"));
    assert!(refusal(&logits, &[0, 1, 2], 1.5).contains("not in [0, 1]"));
    assert!(
        refusal(&Logits::new(x.clone(), &weight, Some(&x)), &[0, 1, 2], 0.0).contains("bias Some([3, 5])")
    );
    let other = Logits::new(x.narrow(0, 0, 2).unwrap(), &weight, None);
    let ids = Tensor::new(&[0u32, 1, 2], &Device::Cpu).unwrap();
    assert!(logits.distilled(&ids, &other, 0.4).unwrap_err().to_string().contains("[2, 7]"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn cross_entropy_of_a_map_agrees_with_its_formula_on_random_shapes(
        rows in 1usize..40, classes in 1usize..70, smoothing in 0.0f64..1.0, alpha in 0.01f64..1.0,
    ) {
        let case = Case::new(rows, classes);
        agrees(&case.inputs, &|t| case.fused(t, smoothing, 0.0), &|t| case.plain(t, smoothing, 0.0));
        agrees(&case.inputs, &|t| case.fused(t, 0.0, alpha), &|t| case.plain(t, 0.0, alpha));
    }
}
