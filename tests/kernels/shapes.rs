//! Every kernel on shapes that nobody chose, against its formula in f64 and against finite differences.

use candle_core::{D, DType, Device, Result, Tensor};
use proptest::prelude::*;
use vlp_bench::kernels::{self, Activation, Dropout, Ipot, random::Key};

use super::gradients::{plain_activate, plain_log_softmax};
use super::{agrees, assert_close, flat, normal};

fn f64s(purpose: &str, shape: &[usize]) -> Tensor {
    normal(purpose, shape, DType::F64).unwrap()
}

/// Which rows a look-up names: some several times, some never.
fn rows(count: usize, below: usize) -> Tensor {
    Tensor::new(Key::new(4, 0, "rows").below(count, below as u32), &Device::Cpu).unwrap()
}

/// Algorithm 1 of the paper in f64, for one example of which everything is visible.
fn plain_ipot(cost: &[Vec<f64>], beta: f64, iterations: usize) -> Vec<f64> {
    let (m, n) = (cost.len(), cost[0].len());
    let mut plan = vec![vec![1.0; m]; n];
    let mut sigma = vec![1.0 / m as f64; m];
    for _ in 0..iterations {
        let q: Vec<Vec<f64>> =
            (0..n).map(|j| (0..m).map(|i| plan[j][i] * (-cost[i][j] / beta).exp()).collect()).collect();
        let delta: Vec<f64> = q
            .iter()
            .map(|q| 1.0 / (n as f64 * q.iter().zip(&sigma).map(|(q, s)| q * s).sum::<f64>()))
            .collect();
        for (i, sigma) in sigma.iter_mut().enumerate() {
            *sigma = 1.0 / (m as f64 * q.iter().zip(&delta).map(|(q, d)| q[i] * d).sum::<f64>());
        }
        for (j, plan) in plan.iter_mut().enumerate() {
            plan.iter_mut().enumerate().for_each(|(i, plan)| *plan = delta[j] * q[j][i] * sigma[i]);
        }
    }
    (0..m).flat_map(|i| plan.iter().map(move |plan| plan[i])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn functions_of_single_rows_agree_with_their_formulas(count in 1usize..20, width in 2usize..150) {
        let x = [(f64s("x", &[count, width]) * 2.0).unwrap()];
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu] {
            agrees(&x, &|t| kernels::activate(&t[0], activation), &|t| plain_activate(&t[0], activation));
        }
        agrees(&x, &|t| kernels::log_softmax(&t[0]), &|t| plain_log_softmax(&t[0]));
        agrees(&x, &|t| kernels::softmax(&t[0]), &|t| plain_log_softmax(&t[0])?.exp());
        agrees(&x, &|t| kernels::l2_normalize(&t[0], 1e-12), &|t| {
            t[0].broadcast_div(&t[0].sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
        });
    }

    #[test]
    fn losses_agree_with_their_formulas(count in 1usize..20, classes in 1usize..150, smoothing in 0f64..1.0) {
        let x = [f64s("x", &[count, classes])];
        let targets = Key::new(1, 0, "targets").below(count, classes as u32);
        let mut hard = vec![smoothing / classes as f64; count * classes];
        targets.iter().enumerate().for_each(|(row, &t)| hard[row * classes + t as usize] += 1.0 - smoothing);
        let hard = Tensor::from_vec(hard, (count, classes), &Device::Cpu).unwrap();
        let ids = Tensor::new(targets, &Device::Cpu).unwrap();
        let soft = plain_log_softmax(&f64s("soft", &[count, classes])).unwrap().exp().unwrap();
        let towards = |t: &Tensor, aim: &Tensor| -> Result<Tensor> {
            (plain_log_softmax(t)? * aim)?.sum_all()? * (-1.0 / count as f64)
        };
        agrees(&x, &|t| kernels::cross_entropy(&t[0], &ids, smoothing), &|t| towards(&t[0], &hard));
        agrees(&x, &|t| kernels::soft_cross_entropy(&t[0], &soft), &|t| towards(&t[0], &soft));
    }

    #[test]
    fn look_ups_agree_with_their_formulas(table in 1usize..60, count in 1usize..60, width in 1usize..40) {
        let x = [f64s("x", &[table, width])];
        let ids = rows(count, table);
        let plain = |t: &[Tensor]| t[0].index_select(&ids, 0);
        agrees(&x, &|t| kernels::embedding(&t[0], &ids), &plain);
        agrees(&x, &|t| kernels::gather_rows(&t[0], &ids), &plain);
        agrees(&x, &|t| kernels::gather_vectors(&t[0], &ids), &plain);
        // Of a permutation, selecting and spreading are each other's reverse.
        let order = Key::new(1, 0, "order").permutation(table);
        let mut back = vec![0u32; table];
        order.iter().enumerate().for_each(|(place, &row)| back[row as usize] = place as u32);
        let [order, back] = [order, back].map(|rows| Tensor::new(rows, &Device::Cpu).unwrap());
        agrees(&x, &|t| kernels::spread_vectors(&t[0], &order, &[table]), &|t| t[0].index_select(&back, 0));
    }

    #[test]
    fn sums_agree_with_their_formulas(batch in 1usize..6, count in 1usize..20, width in 1usize..70, p in 0f64..0.9) {
        let shape = [batch, count, width];
        let inputs = [f64s("x", &shape), f64s("branch", &shape), f64s("bias", &[width])];
        let drops = Dropout { p, key: Key::new(5, 0, "drops") };
        // What is kept, and by how much it is enlarged.
        let kept = kernels::dropout(&Tensor::ones(&shape, DType::F64, &Device::Cpu).unwrap(), drops).unwrap();
        let values = flat(&kept);
        prop_assert!(values.iter().all(|&k| k == 0.0 || (k * (1.0 - p) - 1.0).abs() < 1e-6));
        agrees(&inputs, &|t| kernels::residual(&t[0], &t[1], Some(&t[2]), Some(drops)), &|t| {
            &t[0] + (t[1].broadcast_add(&t[2])? * &kept)?
        });
        agrees(&inputs[..1], &|t| kernels::dropout(&t[0], drops), &|t| &t[0] * &kept);
        let table = [inputs[0].clone(), f64s("table", &shape[1..])];
        agrees(&table, &|t| kernels::add_table(&t[0], &t[1]), &|t| t[0].broadcast_add(&t[1]));
    }

    #[test]
    fn patches_agree_with_their_formula(
        channels in 1usize..4, rows in 1usize..5, columns in 1usize..5, patch in 1usize..6, spare in 0usize..3,
    ) {
        let pixels = [f64s("pixels", &[2, channels, rows * patch, columns * patch])];
        agrees(&pixels, &|t| kernels::patchify(&t[0], patch, spare), &|t| {
            t[0].reshape(&[2, channels, rows, patch, columns, patch][..])?
                .permute([0, 2, 4, 1, 3, 5])?
                .reshape((2, rows * columns, channels * patch * patch))?
                .pad_with_zeros(1, spare, 0)
        });
    }

    #[test]
    fn transport_plans_agree_with_the_algorithm(m in 1usize..12, n in 1usize..12, beta in 0.2f64..2.0) {
        let cost = f64s("cost", &[1, m, n]).abs().unwrap();
        let expected = plain_ipot(&cost.get(0).unwrap().to_vec2().unwrap(), beta, 20);
        let expected = Tensor::from_vec(expected, (1, m, n), &Device::Cpu).unwrap();
        let ones = |length| Tensor::ones((1, length), DType::F32, &Device::Cpu).unwrap();
        let settings = Ipot { beta, iterations: 20, k: 1 };
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-4)] {
            let cost = cost.to_dtype(dtype).unwrap();
            assert_close(&kernels::ipot(&cost, &ones(m), &ones(n), settings).unwrap(), &expected, tolerance);
        }
    }
}
