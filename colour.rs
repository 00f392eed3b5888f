//! How the colours of every picture are normalised before a model sees them.

/// The mean of red, green and blue in [0, 1] that CLIP, ALBEF and BLIP subtract.
pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// The standard deviation of red, green and blue in [0, 1] that CLIP, ALBEF and BLIP divide by.
pub const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
