//! exp, ln, erf and tanh in f32 as branch-free polynomial code that compilers turn into vector instructions.
//!
//! Arguments are reduced in the manner of Cody and Waite, "Software Manual for the Elementary Functions" (1980); the
//! polynomials are near-minimax fits in f64 rounded to f32. Where a multiply-add is fused, it is so with every instruction
//! set, so that each gives the same bits. Largest error over all of f32, in units in the last place: exp 2, ln 2, erf 3,
//! tanh 3; the tests sweep the range against f64. NaN gives NaN; infinities give the limits.

use super::simd::vectorised;

/// Horner's rule written out: a loop over coefficients would keep compilers from vectorising the loop around it.
macro_rules! polynomial {
    ($x:expr, $last:expr $(,)?) => { $last };
    ($x:expr, $first:expr, $($rest:expr),+ $(,)?) => { f32::mul_add(polynomial!($x, $($rest),+), $x, $first) };
}

/// Adding this to a small number leaves its nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; multiples of the first by up to 2^9 are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `e^x`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Beyond these bounds the result is infinite, or rounds to zero.
    let x = x.clamp(-104.5, 89.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let power = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let p = polynomial!(r, 0.5, 0.166_666_67, 0.041_666_27, 0.008_333_266, 0.001_394_611_7, 0.000_199_178_71);
    let e = (r * r).mul_add(p, r) + 1.0;
    // Two factors, because 2^n alone leaves the range of f32 where the result is subnormal or near its limit.
    let half = power >> 1;
    e * power_of_two(half) * power_of_two(power - half)
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// The natural logarithm.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits() as i32;
    // The exponent of the multiple of two that leaves a mantissa in [sqrt(1/2), sqrt(2)).
    let exponent = (bits - std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32) >> 23;
    let f = f32::from_bits((bits - (exponent << 23)) as u32) - 1.0;
    let n = exponent as f32 - if subnormal { 23.0 } else { 0.0 };
    let p = polynomial!(
        f,
        0.333_333_1,
        -0.249_999_87,
        0.200_022_27,
        -0.166_692_51,
        0.142_186_58,
        -0.123_843_48,
        0.118_729_76,
        -0.117_898_08,
        0.069_153_68,
    );
    let square = f * f;
    let small = (f * square).mul_add(p, n * LN2_LOW);
    let value = n.mul_add(LN2_HIGH, 0.5f32.mul_add(-square, small) + f);
    let value = if x == f32::INFINITY { x } else { value };
    let value = if x == 0.0 { f32::NEG_INFINITY } else { value };
    if x < 0.0 || x.is_nan() { f32::NAN } else { value }
}

/// The error function.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let slope = polynomial!(
        square,
        0.128_379_17,
        -0.376_126_26,
        0.112_836,
        -0.026_854_444,
        0.005_189_535,
        -0.000_802_084_1,
        7.889_119e-5,
    );
    let near = x.mul_add(slope, x);
    // ln erfc, a polynomial from 1 to 4; beyond 4 the result is 1.
    let capped = size.min(4.0);
    let logarithm = polynomial!(
        capped,
        1.880_402_3e-4,
        -1.129_578_5,
        -0.633_219_9,
        -0.108_418_58,
        0.025_208_257,
        -0.004_204_562,
        4.413_363_6e-4,
        -2.168_685e-5,
    );
    let far = (1.0 - exp(logarithm)).copysign(x);
    let value = if size < 1.0 { near } else { far };
    if x.is_nan() { x } else { value }
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let p = polynomial!(square, -0.333_332_84, 0.133_314_91, -0.053_743_497, 0.020_650_579, -0.005_717_037);
    let near = (x * square).mul_add(p, x);
    let far = (1.0 - 2.0 / (exp(size + size) + 1.0)).copysign(x);
    let value = if size < 0.625 { near } else { far };
    if x.is_nan() { x } else { value }
}

/// Replaces every element by `function` of it, in vector instructions.
pub fn map_in_place(x: &mut [f32], function: Function) {
    vectorised(
        #[inline(always)]
        || match function {
            Function::Exp => {
                for x in x.iter_mut() {
                    *x = exp(*x);
                }
            }
            Function::Ln => {
                for x in x.iter_mut() {
                    *x = ln(*x);
                }
            }
            Function::Erf => {
                for x in x.iter_mut() {
                    *x = erf(*x);
                }
            }
            Function::Tanh => {
                for x in x.iter_mut() {
                    *x = tanh(*x);
                }
            }
        },
    );
}

/// One of the functions of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// [`exp`]
    Exp,
    /// [`ln`]
    Ln,
    /// [`erf`]
    Erf,
    /// [`tanh`]
    Tanh,
}
