use candle_core::{DType, Device, Tensor};
use vlp_bench::kernels::{self, Ipot};

use super::{flat, normal};

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn a_plan_has_uniform_marginals_over_what_is_visible_and_carries_nothing_elsewhere() {
    let cost = (normal("cost", &[1, 4, 5], DType::F64).unwrap().abs().unwrap() + 0.1).unwrap();
    let rows = Tensor::new(&[[1f32, 1., 0., 1.]], &Device::Cpu).unwrap();
    let columns = Tensor::new(&[[1f32, 0., 1., 1., 1.]], &Device::Cpu).unwrap();
    let settings = Ipot { iterations: 2000, ..Ipot::default() };
    let plan = kernels::ipot(&cost, &rows, &columns, settings).unwrap().get(0).unwrap();
    for (sum, seen) in flat(&plan.sum(1).unwrap()).into_iter().zip([1., 1., 0., 1.]) {
        assert!((sum - seen / 3.0).abs() < 1e-4, "{sum}");
    }
    for (sum, seen) in flat(&plan.sum(0).unwrap()).into_iter().zip([1., 0., 1., 1., 1.]) {
        assert!((sum - seen / 4.0).abs() < 1e-4, "{sum}");
    }
}

/// The exact plan between two uniform sets of equal size is a permutation; the method must find the cheapest.
#[test]
fn many_iterations_find_the_cheapest_assignment() {
    let cost = Tensor::new(&[[[0.9f64, 0.1, 0.8], [0.2, 0.7, 0.9], [0.6, 0.5, 0.3]]], &Device::Cpu).unwrap();
    let settings = Ipot { iterations: 3000, ..Ipot::default() };
    let plan = kernels::ipot(&cost, &ones(&[1, 3]), &ones(&[1, 3]), settings).unwrap();
    let total: f64 = flat(&(plan * cost).unwrap()).iter().sum();
    assert!((total - (0.1 + 0.2 + 0.3) / 3.0).abs() < 1e-3, "{total}");
}

#[test]
fn plans_are_finite_for_any_finite_cost() {
    for size in [1e-30, 1.0, 1e4, 1e30] {
        for dtype in [DType::F32, DType::F64] {
            let cost =
                (normal("cost", &[3, 17, 9], DType::F64).unwrap() * size).unwrap().to_dtype(dtype).unwrap();
            let plan = kernels::ipot(&cost, &ones(&[3, 17]), &ones(&[3, 9]), Ipot::default()).unwrap();
            assert!(flat(&plan).iter().all(|x| x.is_finite() && *x >= 0.0), "costs of {size}");
        }
    }
    let nothing = Tensor::zeros((3, 9), DType::F32, &Device::Cpu).unwrap();
    let plan = kernels::ipot(&ones(&[3, 17, 9]), &ones(&[3, 17]), &nothing, Ipot::default()).unwrap();
    assert!(flat(&plan).iter().all(|&x| x == 0.0));
}

#[test]
fn wrong_settings_are_refused() {
    let plan = |settings| kernels::ipot(&ones(&[1, 2, 3]), &ones(&[1, 2]), &ones(&[1, 3]), settings);
    assert!(plan(Ipot { beta: 0.0, ..Ipot::default() }).unwrap_err().to_string().contains("beta 0"));
    assert!(plan(Ipot { k: 0, ..Ipot::default() }).unwrap_err().to_string().contains("k 0"));
    let masks = kernels::ipot(&ones(&[1, 2, 3]), &ones(&[1, 3]), &ones(&[1, 3]), Ipot::default());
    assert!(masks.unwrap_err().to_string().contains("masks"));
}
