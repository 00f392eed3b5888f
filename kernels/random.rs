//! Random numbers that are a function of (seed, step, purpose, index): there is no generator state to save.
//!
//! Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): ten rounds of a keyed
//! bijection over a 128-bit counter. A [`Key`] names one stream; element `i` of any draw is lane `i % 4` of the block
//! whose counter is `i / 4`, so draws can be made in any order, in parallel, and again in a backward pass.

use rayon::prelude::*;

use super::simd::vectorised;

/// One Philox4x32-10 block: the published bijection of `counter` under `key`.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut lanes = counter.map(|word| [word]);
    philox_lanes(&mut lanes, key);
    lanes.map(|[word]| word)
}

/// The bijection of many counters under one key, word by word.
#[inline(always)]
fn philox_lanes<const LANES: usize>(counter: &mut [[u32; LANES]; 4], mut key: [u32; 2]) {
    for _ in 0..10 {
        let [c0, c1, c2, c3] = counter;
        for (((c0, c1), c2), c3) in c0.iter_mut().zip(c1).zip(c2).zip(c3) {
            let (a, b) = (u64::from(*c0) * 0xD251_1F53, u64::from(*c2) * 0xCD9E_8D57);
            (*c0, *c1) = ((b >> 32) as u32 ^ *c1 ^ key[0], b as u32);
            (*c2, *c3) = ((a >> 32) as u32 ^ *c3 ^ key[1], a as u32);
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
}

/// Names one stream of random numbers; cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    key: u64,
    step: u64,
}

/// FNV-1a, 64 bits: the fixed hash of a purpose.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// The finaliser of SplitMix64: a bijection that spreads nearby integers.
fn splitmix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl Key {
    /// The stream for `purpose` at `step` of a run seeded with `seed`.
    ///
    /// The Philox key is `splitmix(splitmix(seed) ^ fnv1a(purpose))`; the step is the upper half of the counter. This
    /// definition never changes: recorded runs depend on it.
    pub fn new(seed: u64, step: u64, purpose: &str) -> Self {
        Self { key: splitmix(splitmix(seed) ^ fnv1a(purpose)), step }
    }

    /// A stream derived from this one, a different one for each `index`.
    pub fn fold(self, index: u64) -> Self {
        Self { key: splitmix(self.key.rotate_left(32) ^ splitmix(index)), step: self.step }
    }

    /// The four words of block `index`.
    pub fn block(self, index: u64) -> [u32; 4] {
        let counter = [index as u32, (index >> 32) as u32, self.step as u32, (self.step >> 32) as u32];
        philox4x32(counter, [self.key as u32, (self.key >> 32) as u32])
    }

    /// The words of the Philox key, and those of the counter's upper half.
    pub(crate) fn words(self) -> [u32; 4] {
        [self.key as u32, (self.key >> 32) as u32, self.step as u32, (self.step >> 32) as u32]
    }

    /// The words of consecutive blocks from number `first` on; `out` holds whole blocks.
    pub(crate) fn fill(self, first: u64, out: &mut [u32]) {
        /// Blocks side by side, one in each lane of a vector.
        const LANES: usize = 16;
        let key = [self.key as u32, (self.key >> 32) as u32];
        vectorised(
            #[inline(always)]
            || {
                for (group, out) in out.chunks_mut(4 * LANES).enumerate() {
                    let indices: [u64; LANES] =
                        std::array::from_fn(|lane| first + (group * LANES + lane) as u64);
                    let mut lanes = [
                        indices.map(|index| index as u32),
                        indices.map(|index| (index >> 32) as u32),
                        [self.step as u32; LANES],
                        [(self.step >> 32) as u32; LANES],
                    ];
                    philox_lanes(&mut lanes, key);
                    let [w0, w1, w2, w3] = lanes;
                    let words = w0.into_iter().zip(w1).zip(w2).zip(w3);
                    for (block, (((w0, w1), w2), w3)) in out.chunks_exact_mut(4).zip(words) {
                        block.copy_from_slice(&[w0, w1, w2, w3]);
                    }
                }
            },
        );
    }

    /// What `make` turns the first `n` words into, by all threads.
    fn each(self, n: usize, make: impl Fn(u32) -> f32 + Send + Sync) -> Vec<f32> {
        const PIECE: usize = 1 << 12;
        let mut out = vec![0.0; n];
        out.par_chunks_mut(PIECE).enumerate().for_each_init(
            || [0; PIECE],
            |words, (index, out)| {
                self.fill((index * PIECE / 4) as u64, &mut words[..out.len().next_multiple_of(4)]);
                out.iter_mut().zip(words.iter()).for_each(|(out, &word)| *out = make(word));
            },
        );
        out
    }

    /// `n` numbers uniform in [0, 1), multiples of 2^-24.
    pub fn uniform(self, n: usize) -> Vec<f32> {
        self.each(n, unit)
    }

    /// `n` standard normal numbers, one 32-bit word each (so at most 6.3 in magnitude).
    pub fn normal(self, n: usize) -> Vec<f32> {
        self.each(n, |word| quantile(centre(word)) as f32)
    }

    /// `n` standard normal numbers conditioned on lying in [-bound, bound]; a bound that is not positive gives zeros.
    pub fn truncated_normal(self, n: usize, bound: f32) -> Vec<f32> {
        // Written so that a NaN bound also counts as not positive.
        if bound.is_nan() || bound <= 0.0 {
            return vec![0.0; n];
        }
        let low = lower_tail(f64::from(bound));
        self.each(n, |word| (quantile(low + centre(word) * (1.0 - 2.0 * low)) as f32).clamp(-bound, bound))
    }

    /// `draws` integers uniform in 0..bound (bias below 2^-32); a bound of 0 gives zeros.
    pub fn below(self, draws: usize, bound: u32) -> Vec<u32> {
        let mut stream = self.stream();
        (0..draws).map(|_| stream.below(bound)).collect()
    }

    /// A uniformly random order of 0..n (Fisher-Yates).
    pub fn permutation(self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        let mut stream = self.stream();
        for last in (1..n).rev() {
            order.swap(last, stream.below(last as u32 + 1) as usize);
        }
        order
    }

    /// An index drawn in proportion to its weight; `None` if no weight is positive and finite.
    ///
    /// Weights that are negative, NaN or infinite count as zero.
    pub fn choose_weighted(self, weights: &[f32]) -> Option<usize> {
        self.stream().choose_weighted(weights)
    }

    /// The words of this stream one after another, for control-flow code.
    pub fn stream(self) -> Stream {
        Stream { key: self, position: 0, block: [0; 4] }
    }
}

/// A sequential reader of one [`Key`]'s words.
#[derive(Clone, Debug)]
pub struct Stream {
    key: Key,
    position: u64,
    block: [u32; 4],
}

impl Stream {
    /// The next word.
    pub fn u32(&mut self) -> u32 {
        let lane = (self.position % 4) as usize;
        if lane == 0 {
            self.block = self.key.block(self.position / 4);
        }
        self.position += 1;
        self.block[lane]
    }

    /// The next number uniform in [0, 1).
    pub fn f32(&mut self) -> f32 {
        unit(self.u32())
    }

    /// The next integer uniform in 0..bound (bias below 2^-32; uses two words); 0 if bound is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let word = u64::from(self.u32()) << 32 | u64::from(self.u32());
        ((u128::from(word) * u128::from(bound)) >> 64) as u32
    }

    /// See [`Key::choose_weighted`].
    pub fn choose_weighted(&mut self, weights: &[f32]) -> Option<usize> {
        let usable =
            |weight: &f32| if weight.is_finite() && *weight > 0.0 { f64::from(*weight) } else { 0.0 };
        let total: f64 = weights.iter().map(usable).sum();
        let fraction = (f64::from(self.u32()) + 0.5) / 4_294_967_296.0;
        let mut left = fraction * total;
        let mut chosen = None;
        for (index, weight) in weights.iter().map(usable).enumerate() {
            if weight > 0.0 {
                chosen = Some(index);
                left -= weight;
                if left < 0.0 {
                    break;
                }
            }
        }
        chosen
    }
}

impl Iterator for Stream {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        Some(self.u32())
    }
}

pub(crate) fn unit(word: u32) -> f32 {
    (word >> 8) as f32 / 16_777_216.0
}

/// The middle of the word's interval, strictly inside (0, 1).
fn centre(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

/// The standard normal quantile: Wichura, "Algorithm AS 241" (Applied Statistics 37, 1988), routine PPND16, relative
/// error about 1e-16.
fn quantile(p: f64) -> f64 {
    fn ratio(r: f64, top: &[f64; 8], bottom: &[f64; 7]) -> f64 {
        let numerator = top.iter().rev().fold(0.0, |sum, c| sum * r + c);
        numerator / (bottom.iter().rev().fold(0.0, |sum, c| sum * r + c) * r + 1.0)
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * ratio(0.180625 - q * q, &CENTRE.0, &CENTRE.1);
    }
    let r = (-(if q < 0.0 { p } else { 1.0 - p }).ln()).sqrt();
    let size = if r <= 5.0 { ratio(r - 1.6, &MIDDLE.0, &MIDDLE.1) } else { ratio(r - 5.0, &TAIL.0, &TAIL.1) };
    size.copysign(q)
}

/// The probability below `-bound`, found by bisection on [`quantile`] so that the two are consistent.
fn lower_tail(bound: f64) -> f64 {
    let (mut low, mut high) = (f64::MIN_POSITIVE, 0.5);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if quantile(middle) < -bound {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

type Ratio = ([f64; 8], [f64; 7]);

const CENTRE: Ratio = (
    [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ],
    [
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_545,
    ],
);
const MIDDLE: Ratio = (
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        7.745_450_142_783_414e-4,
    ],
    [
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ],
);
const TAIL: Ratio = (
    [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    [
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ],
);
