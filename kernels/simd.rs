//! Running the same loop with the widest vectors the processor has.
//!
//! The loops are ordinary Rust, in which a multiply-add is fused only where `mul_add` says so, and every sum has a fixed number
//! of partial sums, so the vector width changes the speed and not one bit of the result.

use super::real::Real;

/// Runs `work` compiled for AVX-512 or AVX2 where the processor has it.
///
/// Only code that is inlined into it is compiled so: mark the closure `#[inline(always)]` and write `for` loops in it,
/// because the `for_each` of an iterator becomes a function of its own.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("fma")
        {
            // SAFETY: the processor has every feature the function is compiled for.
            return unsafe { avx512(work) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(work) };
        }
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

const LANES: usize = 32;

/// The sums over i of the two parts of `term(x_i, y_i, z_i)`, each in [`LANES`] interleaved partial sums; x, y and z are
/// equally long.
#[inline(always)]
pub(crate) fn sum_triples_twice<T: Real>([x, y, z]: [&[T]; 3], term: impl Fn(T, T, T) -> [T; 2]) -> [T; 2] {
    let (mut first, mut second) = ([T::zero(); LANES], [T::zero(); LANES]);
    let (xs, ys, zs) = (x.chunks_exact(LANES), y.chunks_exact(LANES), z.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(ys.remainder()).zip(zs.remainder());
    for ((x, y), z) in xs.zip(ys).zip(zs) {
        for lane in 0..LANES {
            let [one, two] = term(x[lane], y[lane], z[lane]);
            first[lane] += one;
            second[lane] += two;
        }
    }
    for ((first, second), ((&x, &y), &z)) in first.iter_mut().zip(&mut second).zip(rest) {
        let [one, two] = term(x, y, z);
        *first += one;
        *second += two;
    }
    [first, second].map(|lanes| fold(lanes, |a, b| a + b))
}

/// The sum over i of `term(x_i, y_i)`.
#[inline(always)]
pub(crate) fn sum_pairs<T: Real>(x: &[T], y: &[T], term: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::zero(); LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(ys.remainder());
    for (x, y) in xs.zip(ys) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += term(x, y);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(rest) {
        *lane += term(x, y);
    }
    fold(lanes, |a, b| a + b)
}

/// The sum over i of `term(x_i)`.
#[inline(always)]
pub(crate) fn sum<T: Real>(x: &[T], term: impl Fn(T) -> T) -> T {
    sum_pairs(x, x, |x, _| term(x))
}

/// The largest `term(x_i)`; minus infinity for an empty slice.
#[inline(always)]
pub(crate) fn maximum<T: Real>(x: &[T], term: impl Fn(T) -> T) -> T {
    let mut lanes = [T::from_f64(f64::NEG_INFINITY); LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = lane.most(term(x));
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = lane.most(term(x));
    }
    fold(lanes, |a, b| a.most(b))
}

#[inline(always)]
fn fold<T: Real>(mut lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}
