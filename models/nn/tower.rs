//! The size of a stack of transformer layers, how its weights begin, and what it costs.

use serde::{Deserialize, Serialize};

use super::{Patches, dropout_faults, fan_in};
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
    /// Width of the feed-forward half; 4 D, as in all papers, unless it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp: Option<usize>,
}

impl Default for Tower {
    fn default() -> Self {
        Self { width: 128, depth: 4, heads: 4, mlp: None }
    }
}

impl Tower {
    /// What is wrong with it, one sentence a fault; `name` is its key in the file.
    pub fn faults(&self, name: &str) -> Vec<String> {
        let Self { width, depth, heads, mlp } = *self;
        let mut faults = Vec::new();
        if width == 0 || heads == 0 {
            faults.push(format!("{name} needs a width and heads above 0"));
        } else if !width.is_multiple_of(heads) {
            faults.push(format!("{name}.width {width} does not divide into {heads} heads"));
        }
        if depth == 0 {
            faults.push(format!("{name}.depth is 0: give it at least one layer"));
        }
        if mlp == Some(0) {
            faults.push(format!("{name}.mlp is 0: the feed-forward half needs a width"));
        }
        faults
    }

    /// What its layers have in common.
    pub fn spec(&self, activation: Activation, eps: f64, dropout: f64) -> Spec {
        let Self { width, heads, mlp, .. } = *self;
        Spec { width, heads, mlp: mlp.unwrap_or(4 * width), activation, eps, dropout }
    }
}

/// What is wrong with a model that reads an image in patches with one stack and text with another, and maps both into one
/// space, one sentence a fault. `towers` go by their keys in the file; images have `size` pixels.
pub fn two_tower_faults(
    towers: [(&str, &Tower); 2],
    (size, patch): (usize, usize),
    embed: usize,
    dropout: f64,
) -> Vec<String> {
    let mut faults: Vec<String> = towers.into_iter().flat_map(|(name, tower)| tower.faults(name)).collect();
    faults.extend(Patches::faults(size, patch));
    if embed == 0 {
        faults.push("embed is 0: the shared space needs a width".to_owned());
    }
    faults.extend(dropout_faults(dropout));
    faults
}

/// What the layers of one stack have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// D.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward half.
    pub mlp: usize,
    /// The non-linearity of the feed-forward half.
    pub activation: Activation,
    /// Added to the variance in layer normalisation.
    pub eps: f64,
    /// Probability with which the outcome of each half of a layer is dropped.
    pub dropout: f64,
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

    /// As PyTorch begins its own attention and linear layers.
    pub fn pytorch(spec: &Spec) -> Self {
        let (narrow, wide) = (fan_in(spec.width), fan_in(spec.mlp));
        // Glorot's start: the bound is the root of 6 / (inputs + outputs).
        let qkv = Init::Uniform { bound: (1.5 / spec.width as f64).sqrt() };
        Self { qkv, out: narrow, up: narrow, up_bias: narrow, down: wide, down_bias: wide }
    }

    /// As CLIP begins its text tower (Radford et al., arXiv:2103.00020, released code): the deeper the stack, the less a
    /// layer adds to the residual path.
    pub fn by_depth(spec: &Spec, depth: usize) -> Self {
        let width = spec.width as f64;
        let normal = |std| Init::Normal { std };
        let residual = normal((2.0 * depth as f64 * width).powf(-0.5));
        let up = normal((2.0 * width).powf(-0.5));
        Self { out: residual, up, down: residual, ..Self::all(normal(width.powf(-0.5))) }
    }
}
