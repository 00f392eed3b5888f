use candle_core::{DType, Device, Result, Tensor};
use vlp_bench::kernels::optim::{self, AdamW};
use vlp_bench::kernels::{self, Activation, Bias, Dropout, Ipot, Logits, Mask, random::Key};

use super::{flat, loss_and_gradients, normal};

fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Values and gradients, bit by bit, at one, two and three threads.
#[track_caller]
fn equal_bits(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor> + Sync) {
    let run = |threads| {
        with_threads(threads, || {
            let value = flat(&f(inputs).unwrap());
            let gradients = loss_and_gradients(inputs, &f).unwrap().1;
            (value, gradients.iter().map(flat).collect::<Vec<_>>())
        })
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(one == run(threads), "{threads} threads give other bits than one");
    }
}

#[test]
fn linear_maps_give_equal_bits_at_any_number_of_threads() {
    for (rows, inputs, outputs) in [
        (1, 768, 768),
        (2, 2048, 65),
        (64, 192, 192),
        (100, 192, 3),
        (197, 65, 17),
        (520, 192, 576),
        (1040, 768, 192),
        (2080, 192, 768),
        (777, 333, 555),
        (4160, 192, 64),
        (16, 128, 4000),
        (3, 3000, 700),
    ] {
        let x = normal("x", &[rows, inputs], DType::F32).unwrap();
        let w = normal("w", &[outputs, inputs], DType::F32).unwrap();
        let b = normal("b", &[outputs], DType::F32).unwrap();
        equal_bits(&[x, w, b], |t| kernels::linear_of(Activation::Gelu, &t[0], &t[1], Some(&t[2])));
    }
}

#[test]
fn row_kernels_give_equal_bits_at_any_number_of_threads() {
    for (rows, width) in [(3, 17), (1000, 192), (333, 1000), (4001, 65)] {
        let x = normal("x", &[rows, width], DType::F32).unwrap();
        let (g, b) = (normal("g", &[width], DType::F32).unwrap(), normal("b", &[width], DType::F32).unwrap());
        let one = std::slice::from_ref(&x);
        let targets = Tensor::new(Key::new(0, 0, "t").below(rows, width as u32), &Device::Cpu).unwrap();
        let picks = Tensor::new(Key::new(0, 0, "p").below(3 * rows, rows as u32), &Device::Cpu).unwrap();
        equal_bits(&[x.clone(), g, b], |t| kernels::layer_norm(&t[0], &t[1], &t[2], 1e-5));
        equal_bits(one, |t| kernels::softmax(&t[0]));
        equal_bits(one, |t| kernels::cross_entropy(&t[0], &targets, 0.1));
        equal_bits(one, |t| kernels::l2_normalize(&t[0], 1e-12));
        equal_bits(one, |t| kernels::dropout(&t[0], Dropout { p: 0.2, key: Key::new(3, 4, "drop") }));
        equal_bits(one, |t| kernels::gather_rows(&t[0], &picks));
    }
}

#[test]
fn attention_gives_equal_bits_at_any_number_of_threads() {
    for (batch, length, heads, columns) in [(1, 17, 2, 8), (7, 65, 6, 32), (3, 197, 2, 64)] {
        let qkv = normal("qkv", &[batch, length, 3 * heads * columns], DType::F32).unwrap();
        equal_bits(&[qkv], |t| kernels::self_attention(&t[0], heads, &Mask::Causal, None));
    }
}

#[test]
fn the_gradient_of_a_bias_has_equal_bits_at_any_number_of_threads() {
    for (batch, length) in [(1, 17), (16, 9), (41, 23)] {
        let qkv = normal("qkv", &[batch, length, 48], DType::F32).unwrap();
        let scores = normal("scores", &[2, length, length], DType::F32).unwrap();
        let places = (0..length as u32).collect::<Vec<_>>().repeat(batch);
        equal_bits(&[qkv, scores], |t| {
            let bias = Bias { scores: &t[1], places: [&places, &places] };
            kernels::biased_self_attention(&t[0], bias, 2, &Mask::None, None)
        });
    }
}

#[test]
fn sums_tables_and_patches_give_equal_bits_at_any_number_of_threads() {
    let drops = Some(Dropout { p: 0.2, key: Key::new(3, 4, "drop") });
    for (rows, width) in [(3, 17), (197, 192), (1001, 65)] {
        let x = normal("x", &[2, rows, width], DType::F32).unwrap();
        let branch = normal("branch", &[2, rows, width], DType::F32).unwrap();
        let (bias, table) = (normal("b", &[width], DType::F32), normal("t", &[rows, width], DType::F32));
        let (bias, table) = (bias.unwrap(), table.unwrap());
        equal_bits(&[x.clone(), branch.clone(), bias], |t| {
            kernels::residual(&t[0], &t[1], Some(&t[2]), drops)
        });
        equal_bits(&[x.clone(), table.clone()], |t| kernels::add_table(&t[0], &t[1]));
        equal_bits(std::slice::from_ref(&x), |t| kernels::log_softmax(&t[0]));
        equal_bits(std::slice::from_ref(&x), |t| kernels::activate(&t[0], Activation::Gelu));
        let soft = kernels::softmax(&branch.flatten(0, 1).unwrap()).unwrap();
        equal_bits(&[x.flatten(0, 1).unwrap()], |t| kernels::soft_cross_entropy(&t[0], &soft));
        let ids = Tensor::new(Key::new(0, 0, "ids").below(5 * rows, rows as u32), &Device::Cpu).unwrap();
        equal_bits(std::slice::from_ref(&table), |t| kernels::embedding(&t[0], &ids));
        let order = Tensor::new(Key::new(0, 0, "order").permutation(rows), &Device::Cpu).unwrap();
        equal_bits(&[table], |t| kernels::spread_vectors(&t[0], &order, &[rows]));
    }
    let pixels = normal("pixels", &[3, 3, 64, 48], DType::F32).unwrap();
    equal_bits(&[pixels], |t| kernels::patchify(&t[0], 16, 1));
}

#[test]
fn transport_plans_and_updates_give_equal_bits_at_any_number_of_threads() {
    let cost = normal("cost", &[9, 30, 41], DType::F32).unwrap().abs().unwrap();
    let ones = |length| Tensor::ones((9, length), DType::F32, &Device::Cpu).unwrap();
    let n = 100_003;
    let (start, grad) = (normal("theta", &[n], DType::F32).unwrap(), normal("g", &[n], DType::F32).unwrap());
    let run = |threads| {
        with_threads(threads, || {
            let plan = kernels::ipot(&cost, &ones(30), &ones(41), Ipot::default()).unwrap();
            let (theta, slow) = (start.copy().unwrap(), start.copy().unwrap());
            let moments = Tensor::zeros((2, n), DType::F32, &Device::Cpu).unwrap();
            let adamw = AdamW {
                rate: 1e-2,
                beta1: 0.9,
                beta2: 0.98,
                eps: 1e-6,
                weight_decay: 0.2,
                step: 1,
                grad_scale: 0.5,
            };
            optim::adamw_(&theta, &moments, &grad, &adamw).unwrap();
            optim::follow_(&slow, &theta, 0.9).unwrap();
            [plan, theta, moments, slow].map(|x| flat(&x))
        })
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(one == run(threads), "{threads} threads give other bits than one");
    }
}

#[test]
fn logits_in_chunks_give_equal_bits_at_any_number_of_threads() {
    // Some of the later chunks are narrower.
    for (rows, width, classes) in [(3, 17, 40), (333, 65, 2000), (2100, 32, 300)] {
        let parts = ["x", "teacher"].map(|name| normal(name, &[rows, width], DType::F32).unwrap());
        let weight = normal("weight", &[classes, width], DType::F32).unwrap();
        let bias = normal("bias", &[classes], DType::F32).unwrap();
        let targets = Tensor::new(Key::new(0, 0, "t").below(rows, classes as u32), &Device::Cpu).unwrap();
        let teacher = Logits::new(parts[1].clone(), &weight, Some(&bias));
        let inputs = [parts[0].clone(), weight.clone(), bias.clone()];
        let logits = |t: &[Tensor]| Logits::new(t[0].clone(), &t[1], Some(&t[2]));
        equal_bits(&inputs, |t| Ok(logits(t).cross_entropy(&targets, 0.1)?.loss));
        equal_bits(&inputs, |t| Ok(logits(t).distilled(&targets, &teacher, 0.4)?.loss));
    }
}

#[test]
fn sweeps_give_equal_bits_at_any_number_of_threads() {
    let x = normal("x", &[1_000_003], DType::F32).unwrap();
    let one = with_threads(1, || optim::sum_of_squares(&x).unwrap());
    assert_eq!(one.to_bits(), with_threads(2, || optim::sum_of_squares(&x).unwrap()).to_bits());
}

#[test]
fn work_inside_the_pool_runs_on_one_of_its_threads_and_gives_its_result_back() {
    assert!(rayon::current_thread_index().is_none());
    let (thread, sum) = kernels::threads::inside(|| (rayon::current_thread_index(), 2 + 3));
    assert!(thread.is_some());
    assert_eq!(sum, 5);
}
