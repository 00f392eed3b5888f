//! The size of a stack of transformer layers, how its weights begin, and what it costs.

use serde::{Deserialize, Serialize};

use crate::kernels::Activation;
use crate::models::Init;

/// The size of a transformer as an experiment file gives it: `{width: 128, depth: 4, heads: 4}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tower {
    /// D.
    pub width: usize,
    /// Layers.
    pub depth: usize,
    /// Attention heads H; they divide the width among them.
    pub heads: usize,
}

impl Default for Tower {
    fn default() -> Self {
        Self { width: 128, depth: 4, heads: 4 }
    }
}

impl Tower {
    /// What is wrong with it, one sentence a fault; `name` is its key in the file.
    pub fn faults(&self, name: &str) -> Vec<String> {
        let Self { width, depth, heads } = *self;
        let mut faults = Vec::new();
        if width == 0 || heads == 0 {
            faults.push(format!("{name} needs a width and heads above 0"));
        } else if !width.is_multiple_of(heads) {
            faults.push(format!("{name}.width {width} does not divide into {heads} heads"));
        }
        if depth == 0 {
            faults.push(format!("{name}.depth is 0: give it at least one layer"));
        }
        faults
    }
}

/// What the layers of one stack have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// D.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// The non-linearity of the feed-forward half.
    pub activation: Activation,
    /// Added to the variance in layer normalisation.
    pub eps: f64,
    /// Probability with which the outcome of each half of a layer is dropped.
    pub dropout: f64,
}

impl Spec {
    /// Width of the feed-forward half: four times D in all papers.
    pub fn hidden(&self) -> usize {
        4 * self.width
    }
}

/// How the weights of a layer begin. Gains begin at 1, biases not named here at 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Query, key and value maps.
    pub qkv: Init,
    /// The map that follows attention.
    pub out: Init,
    /// The first map of the feed-forward half.
    pub up: Init,
    /// Its bias.
    pub up_bias: Init,
    /// The second map.
    pub down: Init,
    /// Its bias.
    pub down_bias: Init,
}

impl Start {
    /// Every matrix alike, every bias 0.
    pub fn all(matrix: Init) -> Self {
        let zero = Init::Constant(0.0);
        Self { qkv: matrix, out: matrix, up: matrix, up_bias: zero, down: matrix, down_bias: zero }
    }
}
