use vlp_bench::kernels::vmath::{Function, erf, exp, ln, map_in_place, tanh};

/// The largest error in units in the last place over `values`.
fn worst(values: impl Iterator<Item = f32>, got: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
    let mut worst = 0f64;
    for x in values {
        let exact = exact(f64::from(x));
        let nearest = exact as f32;
        if !nearest.is_finite() || nearest == 0.0 {
            assert_eq!(got(x), nearest, "at {x}");
            continue;
        }
        let unit = f64::from(nearest.abs().next_up() - nearest.abs());
        let error = (f64::from(got(x)) - exact).abs() / unit;
        assert!(error < 1000.0, "at {x}: {} for {exact}", got(x));
        worst = worst.max(error);
    }
    worst
}

/// Every 1009th f32 from `low` to `high`, both positive.
fn sweep(low: f32, high: f32) -> impl Iterator<Item = f32> {
    (low.to_bits()..=high.to_bits()).step_by(1009).map(f32::from_bits)
}

fn both_signs(high: f32) -> impl Iterator<Item = f32> {
    sweep(1e-30, high).flat_map(|x| [x, -x])
}

#[test]
fn elementary_functions_are_within_their_stated_bounds() {
    let error = worst(both_signs(88.7).chain((0..2000).map(|i| -87.0 - i as f32 * 0.008)), exp, f64::exp);
    assert!(error < 2.0, "exp {error}");
    let error = worst(sweep(1e-44, f32::MAX), ln, f64::ln);
    assert!(error < 2.0, "ln {error}");
    let error = worst(both_signs(6.0), erf, statrs::function::erf::erf);
    assert!(error < 3.0, "erf {error}");
    let error = worst(both_signs(20.0), tanh, f64::tanh);
    assert!(error < 3.0, "tanh {error}");
}

#[test]
fn limits_are_those_of_the_functions() {
    assert_eq!([exp(f32::NEG_INFINITY), exp(0.0), exp(f32::INFINITY)], [0.0, 1.0, f32::INFINITY]);
    assert_eq!([exp(-200.0), exp(200.0)], [0.0, f32::INFINITY]);
    assert_eq!([ln(0.0), ln(1.0), ln(f32::INFINITY)], [f32::NEG_INFINITY, 0.0, f32::INFINITY]);
    assert!(ln(-1.0).is_nan());
    for function in [erf, tanh] {
        assert_eq!([function(f32::NEG_INFINITY), function(0.0), function(f32::INFINITY)], [-1.0, 0.0, 1.0]);
    }
    assert!([exp, ln, erf, tanh].iter().all(|function| function(f32::NAN).is_nan()));
}

#[test]
fn vector_instructions_change_no_bit() {
    type Scalar = fn(f32) -> f32;
    let functions: [(Function, Scalar); 4] =
        [(Function::Exp, exp), (Function::Ln, ln), (Function::Erf, erf), (Function::Tanh, tanh)];
    for (function, scalar) in functions {
        let x: Vec<f32> = (0..4099).map(|i| (i as f32 - 2000.0) * 0.013).collect();
        let mut y = x.clone();
        map_in_place(&mut y, function);
        for (x, y) in x.iter().zip(&y) {
            assert_eq!(scalar(*x).to_bits(), y.to_bits(), "{function:?} at {x}");
        }
    }
}
