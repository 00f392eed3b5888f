//! The layers that the papers share.
//!
//! Every layer opens its parameters from a place in the store; their names are the path of fields that leads to them.
//! Shapes: B examples, T or N tokens, D width.

mod attention;
pub mod bert;
mod dropout;
mod embed;
mod joined;
mod joint;
mod joint_bert;
mod linear;
mod packed;
mod past;
mod pre_norm;
mod prefixed;
mod seen;
mod tower;
mod vit;

pub use attention::{CrossAttention, SelfAttention};
pub use dropout::{Residual, dropout_faults, drops, within};
pub use embed::{PatchStart, Patches, Words, each, first, first_of, unit};
pub use joint::Joint;
pub use joint_bert::JointBert;
pub use linear::{LayerNorm, Linear, Mlp, deviation, fan_in};
pub use packed::{One, Packing};
pub use past::{Past, Reading};
pub use pre_norm::PreNorm;
pub use prefixed::Prefixed;
pub use seen::Seen;
pub use tower::{Spec, Start, Tower, two_tower_faults};
pub use vit::Vit;
