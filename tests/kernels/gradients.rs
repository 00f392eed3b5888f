use candle_core::{D, DType, Device, Result, Tensor};
use proptest::prelude::*;
use vlp_bench::kernels::{self, Activation, Dropout, Spans, Tape, random::Key};

use super::{agrees, check_gradients, normal};

const SIZES: [usize; 5] = [1, 3, 17, 65, 197];
const ACTIVATIONS: [Activation; 4] =
    [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu];

fn drops() -> Dropout {
    Dropout { p: 0.3, key: Key::new(1, 2, "dropout") }
}

fn plain_linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.contiguous()?.broadcast_matmul(&w.t()?)
}

pub fn plain_activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        // candle's own GELUs have constants rounded to six digits, so the formulas are written out.
        Activation::Gelu => (x * 0.5)? * ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?,
        Activation::GeluTanh => {
            let inner = ((x + (x.powf(3.0)? * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            (x * 0.5)? * (inner.tanh()? + 1.0)?
        }
        Activation::QuickGelu => x * ((x * -1.702)?.exp()? + 1.0)?.recip()?,
        Activation::Relu => x.relu(),
    }
}

pub fn plain_log_softmax(x: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

#[test]
fn a_linear_map_has_the_values_and_gradients_of_matmul() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 17, 65), (65, 3, 1), (17, 65, 197), (197, 65, 17)] {
        let x = normal("x", &[1, rows, inputs], DType::F64).unwrap();
        let w = normal("w", &[outputs, inputs], DType::F64).unwrap();
        let b = normal("b", &[outputs], DType::F64).unwrap();
        agrees(&[x.clone(), w.clone()], &|t| kernels::linear(&t[0], &t[1], None), &|t| {
            plain_linear(&t[0], &t[1])
        });
        agrees(&[x.clone(), w.clone(), b.clone()], &|t| kernels::linear(&t[0], &t[1], Some(&t[2])), &|t| {
            plain_linear(&t[0], &t[1])?.broadcast_add(&t[2])
        });
        for activation in ACTIVATIONS {
            agrees(
                &[x.clone(), w.clone(), b.clone()],
                &|t| kernels::linear_of(activation, &t[0], &t[1], Some(&t[2])),
                &|t| plain_linear(&plain_activate(&t[0], activation)?, &t[1])?.broadcast_add(&t[2]),
            );
        }
    }
}

#[test]
fn activations_have_the_values_and_gradients_of_their_formulas() {
    for n in SIZES {
        let x = (normal("x", &[2, n], DType::F64).unwrap() * 2.0).unwrap();
        for activation in ACTIVATIONS {
            agrees(std::slice::from_ref(&x), &|t| kernels::activate(&t[0], activation), &|t| {
                plain_activate(&t[0], activation)
            });
        }
    }
}

#[test]
fn layer_norm_has_the_values_and_gradients_of_its_formula() {
    for width in SIZES {
        let x = normal("x", &[5, 3, width], DType::F64).unwrap();
        let (gain, bias) =
            (normal("g", &[width], DType::F64).unwrap(), normal("b", &[width], DType::F64).unwrap());
        agrees(&[x, gain, bias], &|t| kernels::layer_norm(&t[0], &t[1], &t[2], 1e-5), &|t| {
            let centred = t[0].broadcast_sub(&t[0].mean_keepdim(D::Minus1)?)?;
            let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
            centred.broadcast_div(&scale)?.broadcast_mul(&t[1])?.broadcast_add(&t[2])
        });
    }
}

#[test]
fn softmax_and_its_logarithm_have_the_values_and_gradients_of_their_formulas() {
    for width in SIZES {
        let x = (normal("x", &[5, width], DType::F64).unwrap() * 3.0).unwrap();
        let x = std::slice::from_ref(&x);
        agrees(x, &|t| kernels::log_softmax(&t[0]), &|t| plain_log_softmax(&t[0]));
        agrees(x, &|t| kernels::softmax(&t[0]), &|t| plain_log_softmax(&t[0])?.exp());
    }
}

#[test]
fn unit_vectors_have_the_values_and_gradients_of_their_formula() {
    for width in SIZES {
        let x = normal("x", &[5, width], DType::F64).unwrap();
        agrees(&[x], &|t| kernels::l2_normalize(&t[0], 1e-12), &|t| {
            t[0].broadcast_div(&t[0].sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
        });
    }
}

#[test]
fn cross_entropy_has_the_values_and_gradients_of_its_formula_and_skips_ignored_rows() {
    for classes in SIZES {
        let rows = 7;
        let x = normal("x", &[rows, classes], DType::F64).unwrap();
        let mut targets = Key::new(1, 0, "targets").below(rows, classes as u32);
        targets[2] = kernels::IGNORE;
        for smoothing in [0.0, 0.1] {
            let mut dense = vec![0f64; rows * classes];
            for (row, &target) in dense.chunks_mut(classes).zip(&targets) {
                if target != kernels::IGNORE {
                    row.fill(smoothing / classes as f64);
                    row[target as usize] += 1.0 - smoothing;
                }
            }
            let ids = Tensor::new(targets.clone(), &Device::Cpu).unwrap();
            let dense = Tensor::from_vec(dense, (rows, classes), &Device::Cpu).unwrap();
            agrees(std::slice::from_ref(&x), &|t| kernels::cross_entropy(&t[0], &ids, smoothing), &|t| {
                (plain_log_softmax(&t[0])? * &dense)?.sum_all()? * (-1.0 / (rows - 1) as f64)
            });
        }
        let soft = kernels::softmax(&normal("soft", &[rows, classes], DType::F64).unwrap()).unwrap();
        agrees(&[x], &|t| kernels::soft_cross_entropy(&t[0], &soft), &|t| {
            (plain_log_softmax(&t[0])? * &soft)?.sum_all()? * (-1.0 / rows as f64)
        });
    }
}

#[test]
fn selecting_rows_adds_the_gradients_of_repeated_rows() {
    let table = normal("table", &[11, 5], DType::F64).unwrap();
    let ids = Tensor::new(&[[3u32, 0, 3], [10, 3, 0]], &Device::Cpu).unwrap();
    let rows = ids.flatten_all().unwrap();
    let table = std::slice::from_ref(&table);
    agrees(table, &|t| kernels::embedding(&t[0], &ids), &|t| t[0].index_select(&rows, 0)?.reshape((2, 3, 5)));
    let cube = [normal("cube", &[11, 5, 3], DType::F64).unwrap()];
    agrees(&cube, &|t| kernels::gather_rows(&t[0], &rows), &|t| t[0].index_select(&rows, 0));
}

#[test]
fn selecting_vectors_counts_rows_over_all_leading_dimensions() {
    let cube = [normal("cube", &[3, 4, 5], DType::F64).unwrap()];
    let rows = Tensor::new(&[7u32, 0, 11, 7], &Device::Cpu).unwrap();
    agrees(&cube, &|t| kernels::gather_vectors(&t[0], &rows), &|t| {
        t[0].flatten(0, 1)?.index_select(&rows, 0)
    });
}

#[test]
fn vectors_are_spread_to_rows_that_are_zero_elsewhere() {
    let x = [normal("x", &[4, 5], DType::F64).unwrap()];
    let rows = Tensor::new(&[7u32, 0, 11, 6], &Device::Cpu).unwrap();
    let mut matrix = vec![0f64; 12 * 4];
    [7, 0, 11, 6].iter().enumerate().for_each(|(i, row)| matrix[row * 4 + i] = 1.0);
    let matrix = Tensor::from_vec(matrix, (12, 4), &Device::Cpu).unwrap();
    agrees(&x, &|t| kernels::spread_vectors(&t[0], &rows, &[3, 4]), &|t| {
        matrix.matmul(&t[0])?.reshape((3, 4, 5))
    });
    let twice = Tensor::new(&[7u32, 0, 7, 6], &Device::Cpu).unwrap();
    assert!(kernels::spread_vectors(&x[0], &twice, &[3, 4]).is_err());
}

#[test]
fn a_residual_path_is_a_sum_with_bias_and_dropout() {
    for width in SIZES {
        let (x, y) = (normal("x", &[2, 3, width], DType::F64), normal("y", &[2, 3, width], DType::F64));
        let inputs = [x.unwrap(), y.unwrap(), normal("b", &[width], DType::F64).unwrap()];
        agrees(&inputs[..2], &|t| kernels::add(&t[0], &t[1]), &|t| &t[0] + &t[1]);
        agrees(&inputs, &|t| kernels::residual(&t[0], &t[1], Some(&t[2]), None), &|t| {
            &t[0] + t[1].broadcast_add(&t[2])?
        });
        agrees(&inputs[..2], &|t| kernels::residual(&t[0], &t[1], None, Some(drops())), &|t| {
            &t[0] + kernels::dropout(&t[1], drops())?
        });
        agrees(&inputs, &|t| kernels::residual(&t[0], &t[1], Some(&t[2]), Some(drops())), &|t| {
            &t[0] + kernels::dropout(&t[1].broadcast_add(&t[2])?, drops())?
        });
    }
}

#[test]
fn a_table_is_added_to_every_example() {
    for width in SIZES {
        let (x, table) = (normal("x", &[5, 3, width], DType::F64), normal("t", &[3, width], DType::F64));
        agrees(&[x.unwrap(), table.unwrap()], &|t| kernels::add_table(&t[0], &t[1]), &|t| {
            t[0].broadcast_add(&t[1])
        });
    }
}

#[test]
fn patches_lie_as_the_weight_of_a_convolution_does() {
    for (height, width, patch, spare) in [(4, 6, 2, 1), (3, 3, 3, 0), (8, 4, 1, 2)] {
        let pixels = normal("pixels", &[2, 3, height, width], DType::F64).unwrap();
        let (rows, columns) = (height / patch, width / patch);
        let plain = |x: &Tensor| {
            x.reshape(&[2, 3, rows, patch, columns, patch][..])?
                .permute([0, 2, 4, 1, 3, 5])?
                .reshape((2, rows * columns, 3 * patch * patch))?
                .pad_with_zeros(1, spare, 0)
        };
        agrees(&[pixels], &|t| kernels::patchify(&t[0], patch, spare), &|t| plain(&t[0]));
    }
}

#[test]
fn dropout_uses_one_mask_forwards_and_backwards() {
    for n in SIZES {
        let x = normal("x", &[n, 3], DType::F64).unwrap();
        check_gradients(&[x], &|t| kernels::dropout(&t[0], drops()));
    }
}

#[test]
fn gradients_flow_to_every_tracked_input_and_to_no_other() {
    let x = normal("x", &[4, 6], DType::F32).unwrap();
    let frozen = normal("w", &[5, 6], DType::F32).unwrap();
    let bias = candle_core::Var::from_tensor(&normal("b", &[5], DType::F32).unwrap()).unwrap();
    let loss = kernels::linear(&x, &frozen, Some(bias.as_tensor())).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    assert!(grads.get(&x).is_none() && grads.get(&frozen).is_none());
    assert_eq!(grads.get(bias.as_tensor()).unwrap().to_vec1::<f32>().unwrap(), [4.0; 5]);
}

#[test]
fn a_second_backward_pass_gives_the_same_gradients() {
    let w = candle_core::Var::from_tensor(&normal("w", &[5, 6], DType::F32).unwrap()).unwrap();
    let x = normal("x", &[4, 6], DType::F32).unwrap();
    let y = kernels::linear_of(Activation::Gelu, &x, w.as_tensor(), None).unwrap().sum_all().unwrap();
    let gradient = || y.backward().unwrap().get(w.as_tensor()).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(gradient(), gradient());
}

#[test]
fn a_block_is_computed_again_with_the_same_gradients_and_a_frozen_one_is_no_step() {
    let w = candle_core::Var::from_tensor(&normal("w", &[6, 6], DType::F32).unwrap()).unwrap();
    let (x, v) = (normal("x", &[4, 6], DType::F32).unwrap(), normal("v", &[6, 6], DType::F32).unwrap());
    let runs = std::rc::Rc::new(std::cell::Cell::new(0));
    let gradient = |tape: Tape| {
        runs.set(0);
        let (weight, frozen, counter) = (w.as_tensor().clone(), v.clone(), runs.clone());
        let fixed = kernels::block(&[&x], move |t| kernels::linear(&t[0], &frozen, None)).unwrap();
        assert!(!fixed.track_op());
        let y = kernels::block(&[&fixed, w.as_tensor()], move |t| {
            counter.set(counter.get() + 1);
            // The parameter is used within the block, as an input of it, and by candle.
            let y = kernels::linear_of(Activation::Gelu, &t[0], &weight, None)?;
            kernels::linear(&kernels::dropout(&y, drops())?, &t[1], None)? + y
        });
        let gradients = tape.backward(&y.unwrap().sqr().unwrap().sum_all().unwrap()).unwrap();
        (gradients.get(&w).unwrap().to_vec2::<f32>().unwrap(), runs.get())
    };
    let ((kept, once), (again, twice)) = (gradient(Tape::record()), gradient(Tape::checkpoint()));
    assert_eq!((once, twice), (1, 2));
    assert_eq!(kept, again);
}

#[test]
fn transposed_and_narrowed_operands_are_read_correctly() {
    let wide = normal("wide", &[6, 4, 9], DType::F64).unwrap();
    let w = normal("w", &[5, 6], DType::F64).unwrap();
    agrees(&[wide, w], &|t| kernels::linear(&t[0].narrow(2, 2, 5)?.transpose(0, 2)?, &t[1], None), &|t| {
        plain_linear(&t[0].narrow(2, 2, 5)?.transpose(0, 2)?.contiguous()?, &t[1])
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn linear_and_layer_norm_agree_with_their_formulas_on_random_shapes(
        rows in 1usize..70, inputs in 1usize..70, outputs in 1usize..70,
    ) {
        let x = normal("x", &[rows, inputs], DType::F64).unwrap();
        let w = normal("w", &[outputs, inputs], DType::F64).unwrap();
        let g = normal("g", &[outputs], DType::F64).unwrap();
        let fused = |t: &[Tensor]| kernels::layer_norm(&kernels::linear(&t[0], &t[1], Some(&t[2]))?, &t[2], &t[2], 1e-3);
        check_gradients(&[x, w, g], &fused);
    }
}

#[test]
fn stochastic_depth_drops_whole_examples_and_scales_the_others() {
    let spans = Spans::of((0..400).map(|example| 1 + example % 3));
    let rows = spans.ranges().last().unwrap().end;
    let x = normal("x", &[rows, 3], DType::F64).unwrap();
    check_gradients(std::slice::from_ref(&x), &|t| kernels::drop_path(&t[0], &spans, drops()));
    let (kept, all) = (kernels::drop_path(&x, &spans, drops()).unwrap(), x.to_vec2::<f64>().unwrap());
    let kept = kept.to_vec2::<f64>().unwrap();
    let mut dropped = 0;
    for range in spans.ranges() {
        let gone = kept[range.start][0] == 0.0;
        dropped += usize::from(gone);
        let scale = if gone { 0.0 } else { 1.0 / 0.7 };
        for (kept, x) in kept[range.clone()].iter().flatten().zip(all[range.clone()].iter().flatten()) {
            assert!((kept - scale * x).abs() < 1e-12);
        }
    }
    assert!((dropped as f64 / 400.0 - 0.3).abs() < 0.1, "{dropped}");
    let short = Spans::even(2, 3);
    assert!(kernels::drop_path(&x, &short, drops()).unwrap_err().to_string().contains("do not fill"));
}
