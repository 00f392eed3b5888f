//! Values and gradients of PyTorch's own operations: tests/golden/kernels.py.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var, safetensors};
use vlp_bench::kernels::optim::{AdamW, adamw_, sum_of_squares};
use vlp_bench::kernels::{self, Activation, IGNORE, Ipot, Mask, Tape};

use super::assert_close;

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kernels.safetensors");
        Self(safetensors::load(file, &Device::Cpu).unwrap())
    }

    fn get(&self, name: &str) -> Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no {name}")).clone()
    }

    fn ids(&self, name: &str) -> Tensor {
        let ids: Vec<i64> = self.get(name).flatten_all().unwrap().to_vec1().unwrap();
        let ids: Vec<u32> = ids.into_iter().map(|id| u32::try_from(id).unwrap_or(IGNORE)).collect();
        Tensor::from_vec(ids, self.get(name).shape(), &Device::Cpu).unwrap()
    }

    /// The value and the gradient of each named leaf, in f64 and in f32.
    #[track_caller]
    fn agrees(&self, case: &str, leaves: &[&str], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-5)] {
            let typed = |name: &str| self.get(&format!("{case}.{name}")).to_dtype(dtype).unwrap();
            let vars: Vec<Var> = leaves.iter().map(|name| Var::from_tensor(&typed(name)).unwrap()).collect();
            let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
            let tape = Tape::record();
            let y = f(&tensors).unwrap();
            assert_close(&y, &typed("y"), tolerance);
            let loss = (y * typed("c")).unwrap().sum_all().unwrap();
            let gradients = tape.backward(&loss).unwrap();
            for (name, var) in leaves.iter().zip(&vars) {
                assert_close(gradients.get(var).unwrap(), &typed(&format!("{name}.grad")), tolerance);
            }
        }
    }
}

#[test]
fn maps_activations_and_normalisations_are_those_of_pytorch() {
    let golden = Golden::read();
    let linear = ["x", "w", "b"];
    golden.agrees("linear", &linear, |t| kernels::linear(&t[0], &t[1], Some(&t[2])));
    golden.agrees("gelu", &linear, |t| kernels::linear_of(Activation::Gelu, &t[0], &t[1], Some(&t[2])));
    golden.agrees("gelu_tanh", &["x"], |t| kernels::activate(&t[0], Activation::GeluTanh));
    golden.agrees("quick_gelu", &["x"], |t| kernels::activate(&t[0], Activation::QuickGelu));
    golden.agrees("layer_norm", &["x", "g", "b"], |t| kernels::layer_norm(&t[0], &t[1], &t[2], 1e-5));
    golden.agrees("softmax", &["x"], |t| kernels::softmax(&t[0]));
    golden.agrees("log_softmax", &["x"], |t| kernels::log_softmax(&t[0]));
    golden.agrees("l2_normalize", &["x"], |t| kernels::l2_normalize(&t[0], 1e-12));
}

#[test]
fn attention_is_that_of_pytorch_under_every_mask() {
    let golden = Golden::read();
    let masks = [
        ("attention", Mask::None),
        ("causal", Mask::Causal),
        ("keys", Mask::Keys(golden.get("keys.mask"))),
        ("additive", Mask::Additive(golden.get("additive.mask"))),
    ];
    for (case, mask) in masks {
        golden.agrees(case, &["q", "k", "v"], |t| kernels::attention(&t[0], &t[1], &t[2], 2, &mask, None));
    }
}

#[test]
fn losses_and_tables_are_those_of_pytorch() {
    let golden = Golden::read();
    let ids = golden.ids("embedding.ids");
    golden.agrees("embedding", &["t"], |t| kernels::embedding(&t[0], &ids));
    for smoothing in [0.0, 0.1] {
        let case = format!("cross_entropy_{smoothing:?}");
        let targets = golden.ids(&format!("{case}.targets"));
        golden.agrees(&case, &["x"], |t| kernels::cross_entropy(&t[0], &targets, smoothing));
    }
    let soft = golden.get("soft_cross_entropy.soft");
    golden.agrees("soft_cross_entropy", &["x"], |t| kernels::soft_cross_entropy(&t[0], &soft));
}

#[test]
fn adamw_with_clipping_takes_the_steps_of_pytorch() {
    let golden = Golden::read();
    let theta = golden.get("adamw.theta").copy().unwrap();
    let moments = Tensor::zeros((2, 50), DType::F32, &Device::Cpu).unwrap();
    for step in 1..=3 {
        let grad = golden.get(&format!("adamw.grad{step}"));
        let adamw = AdamW {
            rate: 3e-3,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-6,
            weight_decay: 0.05,
            step,
            grad_scale: 1.0 / sum_of_squares(&grad).unwrap().sqrt(),
        };
        adamw_(&theta, &moments, &grad, &adamw).unwrap();
        assert_close(&theta, &golden.get(&format!("adamw.theta{step}")), 1e-6);
    }
}

#[test]
fn transport_plans_are_those_of_the_algorithm() {
    let golden = Golden::read();
    let [cost, rows, columns] = ["cost", "rows", "columns"].map(|name| golden.get(&format!("ipot.{name}")));
    for (name, settings) in [("plan", Ipot::default()), ("plan_k3", Ipot { beta: 0.1, iterations: 7, k: 3 })]
    {
        let expected = golden.get(&format!("ipot.{name}"));
        assert_close(&kernels::ipot(&cost, &rows, &columns, settings).unwrap(), &expected, 1e-9);
        let single = kernels::ipot(&cost.to_dtype(DType::F32).unwrap(), &rows, &columns, settings).unwrap();
        assert_close(&single, &expected, 1e-4);
    }
}
