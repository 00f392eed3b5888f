//! Linear maps, optionally followed by an activation.

use candle_core::{Result, Tensor};

use super::{Activation, activate};

/// `y = x W' + b`: x (.., I), weight (O, I), bias (O), result (.., O).
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    let rows = x.elem_count() / inputs.max(1);
    let y = x.reshape((rows, inputs))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    y.reshape(shape)
}

/// `activation(x W' + b)` with shapes as in [`linear`].
pub fn linear_activate(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    activate(&linear(x, weight, bias)?, activation)
}
