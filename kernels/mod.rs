//! Fused, differentiable tensor operations with their own backward passes, optimiser sweeps and a counter-based
//! random generator: what candle lacks for training, or does slowly, or cannot seed.
//!
//! Every function takes and returns candle tensors. While a [`Tape`] records, it leads their gradients back; without
//! one they take part in candle's own autograd, more slowly and with the same result. Gradients are computed only for
//! operands that are tracked: frozen weights, masks and images cost nothing in the backward pass. Nothing here knows
//! what a model or an objective is.

mod activate;
mod attention;
mod bias;
mod convert;
mod cross_entropy;
pub mod cuda;
mod dropout;
mod embedding;
mod gradient;
mod ipot;
mod layer_norm;
mod linear;
mod linear_cross_entropy;
mod logits;
mod mask;
pub mod memory;
mod normalize;
mod online_softmax;
mod operation;
pub mod optim;
mod patchify;
mod precision;
mod product;
pub mod random;
mod real;
mod residual;
mod rows;
mod simd;
mod softmax;
mod spans;
mod tape;
pub mod threads;
mod transpose;
pub mod vmath;

pub use activate::{Activation, activate};
pub use attention::{
    attention, biased_cross_attention, biased_self_attention, cross_attention, self_attention,
};
pub use bias::Bias;
pub use cross_entropy::{IGNORE, cross_entropy, soft_cross_entropy};
pub use dropout::{Dropout, drop_path, dropout};
pub use embedding::{embedding, gather_rows, gather_vectors, gather_vectors_of, spread_vectors};
pub use gradient::{Gradient, Rows};
pub use ipot::{Ipot, ipot};
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_of};
pub use logits::{CrossEntropy, Logits};
pub use mask::Mask;
pub use normalize::l2_normalize;
pub use patchify::patchify;
pub use precision::Precision;
pub use product::flops;
pub use residual::{add, add_table, residual};
pub use softmax::{log_softmax, softmax};
pub use spans::Spans;
pub use tape::{Gradients, Tape, block};
