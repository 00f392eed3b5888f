//! CUDA kernels and their launchers against the processor's own: rehearsed on the processor, and on a GPU where one is.

use candle_core::{DType, Device, Result, Tensor, Var};
use vlp_bench::kernels::optim::{AdamW, adamw_, follow_};
use vlp_bench::kernels::{self, Activation, Bias, Dropout, Gradient, Ipot, Mask, Spans, Tape, random::Key};

use super::{assert_close, flat, normal};
use crate::places::{On, everywhere};

pub type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Value and gradients of f, used twice so that the second use adds to what the first has written.
pub fn outcome(on: On<'_>, inputs: &[Tensor], f: Function<'_>) -> Vec<Tensor> {
    on.run(|| {
        let device = on.device();
        let vars =
            inputs.iter().map(|x| Var::from_tensor(&x.to_device(&device)?)).collect::<Result<Vec<_>>>()?;
        let operands: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let tape = Tape::record();
        let y = f(&operands)?;
        let c = normal("cotangent", y.dims(), DType::F32)?.to_device(&device)?;
        let twice = ((&y * &c)? + (f(&operands)? * (&c * 0.5)?)?)?;
        let gradients = tape.backward(&twice.sum_all()?)?;
        let of = |var: &Var| gradients.get(var).map_or_else(|| var.zeros_like(), |grad| Ok(grad.clone()));
        let all = std::iter::once(Ok(y.detach())).chain(vars.iter().map(of));
        all.map(|x| x?.to_device(&Device::Cpu)).collect()
    })
}

#[track_caller]
pub fn agree(inputs: &[Tensor], f: Function<'_>) {
    let expected = outcome(On::Processor, inputs, f);
    everywhere(|on| {
        let outcomes = outcome(on, inputs, f);
        for (got, expected) in outcomes.iter().zip(&expected) {
            assert!(flat(got).iter().all(|x| x.is_finite()));
            assert_close(got, expected, 2e-5);
        }
        // A rehearsal has one order of its threads; a GPU shows here whether a sum depends on theirs.
        if matches!(on, On::Gpu(_)) {
            let again = outcome(on, inputs, f);
            assert!(outcomes.iter().zip(&again).all(|(once, twice)| flat(once) == flat(twice)));
        }
    });
}

pub fn real(purpose: &str, shape: &[usize]) -> Tensor {
    normal(purpose, shape, DType::F32).unwrap()
}

pub fn words(purpose: &str, n: usize, bound: u32) -> Tensor {
    Tensor::new(Key::new(3, 0, purpose).below(n, bound), &Device::Cpu).unwrap()
}

fn drops() -> Dropout {
    Dropout { p: 0.3, key: Key::new(1, 2, "dropout") }
}

#[test]
fn linear_maps_and_activations_on_a_gpu_are_those_of_the_processor() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 17, 65), (197, 65, 17)] {
        let operands = [real("x", &[1, rows, inputs]), real("w", &[outputs, inputs]), real("b", &[outputs])];
        agree(&operands[..2], &|t| kernels::linear(&t[0], &t[1], None));
        agree(&operands, &|t| kernels::linear(&t[0], &t[1], Some(&t[2])));
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu] {
            agree(&operands, &|t| kernels::linear_of(activation, &t[0], &t[1], Some(&t[2])));
            agree(&[(&operands[0] * 9.0).unwrap()], &|t| kernels::activate(&t[0], activation));
        }
    }
}

#[test]
fn rows_on_a_gpu_are_normalised_as_by_the_processor() {
    for (rows, width) in [(1, 3), (70, 65), (3, 300)] {
        let x = real("x", &[rows, width]);
        agree(&[x.clone(), real("gain", &[width]), real("bias", &[width])], &|t| {
            kernels::layer_norm(&t[0], &t[1], &t[2], 1e-5)
        });
        agree(std::slice::from_ref(&x), &|t| kernels::softmax(&t[0]));
        agree(std::slice::from_ref(&x), &|t| kernels::log_softmax(&t[0]));
        agree(&[x], &|t| kernels::l2_normalize(&t[0], 1e-6));
        agree(&[Tensor::zeros((rows, width), DType::F32, &Device::Cpu).unwrap()], &|t| {
            kernels::l2_normalize(&t[0], 1e-6)
        });
    }
}

#[test]
fn sums_on_a_gpu_are_those_of_the_processor() {
    for (rows, width) in [(1, 1), (5, 33), (131, 17)] {
        let (x, branch, bias) = (real("x", &[rows, width]), real("y", &[rows, width]), real("b", &[width]));
        agree(&[x.clone(), branch.clone()], &|t| kernels::add(&t[0], &t[1]));
        for dropout in [None, Some(drops())] {
            agree(&[x.clone(), branch.clone()], &|t| kernels::residual(&t[0], &t[1], None, dropout));
            agree(&[x.clone(), branch.clone(), bias.clone()], &|t| {
                kernels::residual(&t[0], &t[1], Some(&t[2]), dropout)
            });
        }
        agree(&[real("x", &[3, rows, width]), branch], &|t| kernels::add_table(&t[0], &t[1]));
    }
}

#[test]
fn dropout_on_a_gpu_keeps_what_the_processor_keeps_bit_by_bit() {
    let x = real("x", &[7, 331]);
    let examples = Spans::of([2, 0, 1, 3, 1]);
    let elements: Function<'_> = &|t| kernels::dropout(&t[0], drops());
    let paths: Function<'_> = &|t| kernels::drop_path(&t[0], &examples, Dropout { p: 0.5, ..drops() });
    for f in [elements, paths] {
        agree(std::slice::from_ref(&x), f);
        let expected = flat(&outcome(On::Processor, std::slice::from_ref(&x), f)[0]);
        assert!(expected.contains(&0.0) && expected.iter().any(|&kept| kept != 0.0));
        everywhere(|on| assert_eq!(flat(&outcome(on, std::slice::from_ref(&x), f)[0]), expected));
    }
}

#[test]
fn rows_on_a_gpu_are_selected_and_spread_as_by_the_processor() {
    let ids = words("ids", 60, 9);
    agree(&[real("table", &[11, 19])], &|t| {
        kernels::embedding(&t[0], &ids.reshape((4, 15))?.to_device(t[0].device())?)
    });
    agree(&[real("x", &[9, 3, 5])], &|t| kernels::gather_rows(&t[0], &ids.to_device(t[0].device())?));
    agree(&[real("x", &[3, 4, 5])], &|t| kernels::gather_vectors(&t[0], &ids.to_device(t[0].device())?));
    let places = Tensor::new(&[7u32, 0, 4, 3], &Device::Cpu).unwrap();
    agree(&[real("x", &[4, 37])], &|t| {
        kernels::spread_vectors(&t[0], &places.to_device(t[0].device())?, &[3, 3])
    });
    agree(&[real("pixels", &[2, 3, 8, 12])], &|t| kernels::patchify(&t[0], 4, 1));
    agree(&[real("pixels", &[2, 3, 6, 6])], &|t| kernels::patchify(&t[0], 2, 0));
}

#[test]
fn cross_entropies_on_a_gpu_are_those_of_the_processor() {
    for (rows, classes) in [(1, 2), (9, 131), (300, 7)] {
        let logits = (real("logits", &[rows, classes]) * 3.0).unwrap();
        let mut targets = words("targets", rows, classes as u32).to_vec1::<u32>().unwrap();
        targets.iter_mut().skip(1).step_by(3).for_each(|target| *target = kernels::IGNORE);
        let targets = Tensor::new(targets, &Device::Cpu).unwrap();
        for smoothing in [0.0, 0.1] {
            agree(std::slice::from_ref(&logits), &|t| {
                kernels::cross_entropy(&t[0], &targets.to_device(t[0].device())?, smoothing)
            });
        }
        let soft = kernels::softmax(&real("soft", &[rows, classes])).unwrap();
        agree(&[logits], &|t| kernels::soft_cross_entropy(&t[0], &soft.to_device(t[0].device())?));
    }
}

pub fn key_mask(examples: usize, keys: usize) -> Tensor {
    // An example that sees nothing is among them.
    let seen = |at: usize| if at / keys == 1 { 0.0 } else { f32::from(u8::from(at % 5 != 2)) };
    Tensor::from_vec((0..examples * keys).map(seen).collect::<Vec<f32>>(), (examples, keys), &Device::Cpu)
        .unwrap()
}

#[test]
fn attention_on_a_gpu_is_that_of_the_processor_under_every_mask() {
    for (queries, keys, heads, columns) in [(1, 1, 1, 3), (7, 7, 2, 5), (37, 41, 2, 16), (5, 70, 1, 100)] {
        let (b, width) = (2, heads * columns);
        let (q, kv) = (real("q", &[b, queries, width]), real("kv", &[b, keys, 2 * width]));
        let (k, v) = (real("k", &[b, keys, width]), real("v", &[b, keys, width]));
        let masks = [
            Mask::None,
            Mask::Causal,
            Mask::Keys(key_mask(b, keys)),
            Mask::CausalKeys(key_mask(b, keys)),
            Mask::Additive(real("mask", &[1, queries, keys])),
            Mask::Additive(real("mask", &[b, queries, keys])),
        ];
        for mask in &masks {
            for dropout in [None, Some(drops())] {
                let packed = real("qkv", &[b, keys, 3 * width]);
                if queries == keys {
                    agree(&[packed], &|t| kernels::self_attention(&t[0], heads, mask, dropout));
                }
                agree(&[q.clone(), kv.clone()], &|t| {
                    kernels::cross_attention(&t[0], &t[1], heads, mask, dropout)
                });
                agree(&[q.clone(), k.clone(), v.clone()], &|t| {
                    kernels::attention(&t[0], &t[1], &t[2], heads, mask, dropout)
                });
            }
        }
    }
}

#[test]
fn sequences_without_padding_attend_on_a_gpu_as_on_the_processor() {
    let (heads, width) = (2, 14);
    let own = Spans::of([3, 40, 1, 18]);
    for causal in [false, true] {
        agree(&[real("qkv", &[62, 3 * width])], &|t| {
            kernels::self_attention(&t[0], heads, &Mask::itself(&own, causal), Some(drops()))
        });
    }
    // Examples share keys, and some rows of keys are nobody's.
    let keys = Spans::of([4, 35, 2]).take(&[2, 0, 2, 0]).unwrap();
    for dropout in [None, Some(drops())] {
        agree(&[real("q", &[62, width]), real("kv", &[41, 2 * width])], &|t| {
            kernels::cross_attention(&t[0], &t[1], heads, &Mask::across(own.clone(), keys.clone()), dropout)
        });
    }
}

#[test]
fn pairs_of_places_have_a_bias_on_a_gpu_as_on_the_processor() {
    let (heads, width, places, others) = (2, 14, 45, 37);
    let own = Spans::of([3, 40, 1, 18]);
    // Drawn at random, so that places repeat within an example, stand in any order, and some are nobody's.
    let (at, seen) = (words("at", 62, 45), words("seen", 41, 37));
    let (at, seen) = (at.to_vec1::<u32>().unwrap(), seen.to_vec1::<u32>().unwrap());
    for (causal, dropout) in [(false, None), (true, Some(drops()))] {
        agree(&[real("qkv", &[62, 3 * width]), real("bias", &[heads, places, places])], &|t| {
            let bias = Bias { scores: &t[1], places: [&at, &at] };
            kernels::biased_self_attention(&t[0], bias, heads, &Mask::itself(&own, causal), dropout)
        });
    }
    let keys = Spans::of([4, 35, 2]).take(&[2, 0, 2, 0]).unwrap();
    let inputs =
        [real("q", &[62, width]), real("kv", &[41, 2 * width]), real("bias", &[heads, places, others])];
    agree(&inputs, &|t| {
        let bias = Bias { scores: &t[2], places: [&at, &seen] };
        let mask = Mask::across(own.clone(), keys.clone());
        kernels::biased_cross_attention(&t[0], &t[1], bias, heads, &mask, None)
    });
}

#[test]
fn a_bias_goes_with_every_mask_on_a_gpu_as_on_the_processor() {
    let (b, queries, keys) = (2, 5, 37);
    // Each place is taken by one row of each example.
    let places = |rows: usize| (0..b as u32).flat_map(|_| (0..rows as u32).rev()).collect::<Vec<_>>();
    let (at, seen) = (places(queries), places(keys));
    let masks = [
        Mask::None,
        Mask::Causal,
        Mask::CausalKeys(key_mask(b, keys)),
        Mask::Additive(real("mask", &[b, queries, keys])),
    ];
    for (heads, columns) in [(2, 5), (1, 100)] {
        let (q, kv) =
            (real("q", &[b, queries, heads * columns]), real("kv", &[b, keys, 2 * heads * columns]));
        for mask in &masks {
            agree(&[q.clone(), kv.clone(), real("bias", &[heads, queries, keys])], &|t| {
                let bias = Bias { scores: &t[2], places: [&at, &seen] };
                kernels::biased_cross_attention(&t[0], &t[1], bias, heads, mask, Some(drops()))
            });
        }
    }
}

#[test]
fn sweeps_on_a_gpu_are_those_of_the_processor() {
    for n in [1, 257, 40_000] {
        let sweep = |on: On<'_>| {
            on.run(|| {
                let of = |purpose, shape: &[usize]| real(purpose, shape).to_device(&on.device());
                let (theta, grad) = (Var::from_tensor(&of("theta", &[n])?)?, of("grad", &[n])?);
                let moments = Tensor::zeros((2, n), DType::F32, &on.device())?;
                let adamw = AdamW {
                    rate: 1e-2,
                    beta1: 0.9,
                    beta2: 0.98,
                    eps: 1e-8,
                    weight_decay: 0.1,
                    step: 1,
                    grad_scale: 0.7,
                };
                for step in 1..4 {
                    adamw_(&theta, &moments, &grad, &AdamW { step, ..adamw })?;
                }
                let teacher = Var::from_tensor(&of("teacher", &[n])?)?;
                follow_(&teacher, &theta.as_detached_tensor(), 0.9)?;
                let all = [theta.as_detached_tensor(), moments, teacher.as_detached_tensor()];
                let all = all.iter().map(|x| x.to_device(&Device::Cpu)).collect::<Result<Vec<_>>>()?;
                let both = [Gradient::Whole(of("other", &[3, n])?), Gradient::Whole(grad)];
                Ok((all, Gradient::sum_of_squares(&both)?))
            })
        };
        let (expected, norm) = sweep(On::Processor);
        everywhere(|on| {
            let (got, squares) = sweep(on);
            got.iter().zip(&expected).for_each(|(got, expected)| assert_close(got, expected, 1e-6));
            assert!((squares - norm).abs() <= 1e-12 * norm, "{squares} instead of {norm}");
        });
    }
}

#[test]
fn transport_plans_on_a_gpu_are_those_of_the_processor() {
    let (b, m, n) = (3, 11, 40);
    let (cost, rows, columns) = (real("cost", &[b, m, n]).abs().unwrap(), key_mask(b, m), key_mask(b, n));
    let plans = |on: On<'_>, rows: &Tensor| {
        let to = |x: &Tensor| x.to_device(&on.device());
        on.run(|| {
            kernels::ipot(&to(&cost)?, &to(rows)?, &to(&columns)?, Ipot::default())?.to_device(&Device::Cpu)
        })
    };
    for rows in [rows.clone(), rows.ones_like().unwrap()] {
        let expected = plans(On::Processor, &rows);
        everywhere(|on| assert_close(&plans(on, &rows), &expected, 2e-5));
    }
}
