//! How numbers are written: enough digits and no more. A minus is U+2212; a number that rounds to zero has no sign.

use super::statistics::Interval;

/// The minus sign of typeset numbers.
pub const MINUS: char = '\u{2212}';

/// Digits after the point that a number needs whose uncertainty is `spread`: one for percents, more where the spread
/// would vanish.
fn decimals(spread: f64) -> usize {
    match spread.abs() {
        size if size == 0.0 || size >= 0.1 => 1,
        size if size >= 0.01 => 2,
        size if size >= 0.001 => 3,
        _ => 4,
    }
}

fn fixed(value: f64, decimals: usize, plus: bool) -> String {
    let digits = format!("{:.decimals$}", value.abs());
    let zero = digits.chars().all(|digit| digit == '0' || digit == '.');
    match (zero, value < 0.0) {
        (true, _) => digits,
        (false, true) => format!("{MINUS}{digits}"),
        (false, false) if plus => format!("+{digits}"),
        (false, false) => digits,
    }
}

/// A value whose uncertainty is `spread`: `17.3`.
pub fn value(value: f64, spread: f64) -> String {
    fixed(value, decimals(spread), false)
}

/// A difference whose uncertainty is `spread`, with its sign: `+1.2`.
pub fn signed(value: f64, spread: f64) -> String {
    fixed(value, decimals(spread), true)
}

/// An interval of values: `[16.1, 18.5]`.
pub fn interval(interval: Interval, spread: f64) -> String {
    format!("[{}, {}]", value(interval.low, spread), value(interval.high, spread))
}

/// An interval of differences: `[−0.3, +1.2]`. A bound beside zero has the digits that show on which side it lies.
pub fn bounds(interval: Interval, spread: f64) -> String {
    let bound = |bound: f64| {
        let zero = |decimals: usize| bound.abs() < 0.5 * 10f64.powi(-(decimals as i32));
        let least = decimals(spread);
        let decimals = (least..=5).find(|decimals| !zero(*decimals)).unwrap_or(least);
        fixed(bound, decimals, true)
    };
    format!("[{}, {}]", bound(interval.low), bound(interval.high))
}

/// Half the width of an interval; what decides how many digits its value has.
pub fn spread(interval: Option<Interval>) -> f64 {
    interval.map_or(1.0, |interval| 0.5 * (interval.high - interval.low))
}

/// A p: `0.012`, or `<0.001`.
pub fn p(p: f64) -> String {
    if p < 0.001 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

/// A count with its thousands apart: `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Three digits with the prefix of a power of 1000: `4.81 G`.
pub fn prefixed(value: f64) -> String {
    let (mut scaled, mut prefix) = (value, "");
    for next in [" k", " M", " G", " T", " P", " E"] {
        // What would round to 1000 takes the next prefix.
        if scaled.abs() < 999.5 {
            break;
        }
        (scaled, prefix) = (scaled / 1000.0, next);
    }
    let decimals = match scaled.abs() {
        size if prefix.is_empty() && size.fract() == 0.0 => 0,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{prefix}")
}

/// A time: `42 s`, `3 min 20 s`, `1 h 5 min`.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
