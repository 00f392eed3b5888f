//! How parameters begin.

use candle_core::{D, Device, Result, Shape, Tensor, Var};

use crate::kernels::random::Key;

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same value everywhere.
    Constant(f64),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in -bound..bound.
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
    /// Normal rows scaled to length one, as a queue begins (He et al. 2020, released code).
    UnitRows,
}

impl Init {
    /// A variable of the first value (`shape`) of a parameter whose stream is `key`.
    pub(super) fn draw(self, shape: &Shape, key: Key, device: &Device) -> Result<Var> {
        let count = shape.elem_count();
        // A variable takes the drawn vector over: the largest table of a model is not held twice.
        let scaled = |values: Vec<f32>, scale: f64| {
            let values: Vec<f32> = values.into_iter().map(|value| value * scale as f32).collect();
            Var::from_vec(values, shape, device)
        };
        match self {
            Self::Constant(value) => Var::from_tensor(&Tensor::full(value as f32, shape, device)?),
            Self::Normal { std } => scaled(key.normal(count), std),
            Self::Uniform { bound } => {
                scaled(key.uniform(count).into_iter().map(|value| 2.0 * value - 1.0).collect(), bound)
            }
            Self::UnitRows => {
                let rows = Tensor::from_vec(key.normal(count), shape, device)?;
                let norm = rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
                Var::from_tensor(&rows.broadcast_div(&norm)?)
            }
        }
    }
}
