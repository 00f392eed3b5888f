//! Numbers are written with enough digits and no more.

use vlp_bench::reports::number::{bounds, count, duration, interval, prefixed, signed, spread, value};
use vlp_bench::reports::statistics::Interval;
use vlp_bench::reports::tables::published_number;

#[test]
fn percents_have_one_decimal_and_finer_spreads_have_more() {
    for (number, uncertainty, text) in [
        (17.26, 1.0, "17.3"),
        (17.26, 12.0, "17.3"),
        (17.26, 0.0, "17.3"),
        (17.264, 0.05, "17.26"),
        (0.123_45, 0.004, "0.123"),
        (0.123_45, 1e-7, "0.1235"),
        (100.0, 1.0, "100.0"),
    ] {
        assert_eq!(value(number, uncertainty), text);
    }
}

#[test]
fn differences_are_signed_unless_they_round_to_zero() {
    assert_eq!(signed(1.24, 1.0), "+1.2");
    assert_eq!(signed(-1.24, 1.0), "\u{2212}1.2");
    assert_eq!(signed(-0.04, 1.0), "0.0");
    assert_eq!(signed(0.04, 1.0), "0.0");
    assert_eq!(signed(-0.04, 0.02), "\u{2212}0.04");
}

#[test]
fn intervals_have_the_digits_that_their_width_needs() {
    let wide = Interval { low: -0.66, high: 1.3 };
    assert_eq!(bounds(wide, spread(Some(wide))), "[\u{2212}0.7, +1.3]");
    let narrow = Interval { low: 0.011, high: 0.071 };
    assert_eq!(interval(narrow, spread(Some(narrow))), "[0.01, 0.07]");
    assert_eq!(spread(None), 1.0);
    let beside_zero = Interval { low: 0.014, high: 3.2 };
    assert_eq!(
        bounds(beside_zero, spread(Some(beside_zero))),
        "[+0.01, +3.2]",
        "it excludes zero and shows it"
    );
    let at_zero = Interval { low: 0.0, high: 3.2 };
    assert_eq!(bounds(at_zero, spread(Some(at_zero))), "[0.0, +3.2]");
}

#[test]
fn published_numbers_keep_their_digits() {
    for (number, text) in
        [(2.3, "+2.3"), (-0.74, "\u{2212}0.74"), (6.0, "+6.0"), (6.10, "+6.1"), (0.96, "+0.96")]
    {
        assert_eq!(published_number(number), text);
    }
}

#[test]
fn large_numbers_have_thousands_or_prefixes() {
    for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(count(number), text);
    }
    for (number, text) in [
        (0.0, "0"),
        (673.0, "673"),
        (999.6, "1.00 k"),
        (4.81e9, "4.81 G"),
        (12.34e6, "12.3 M"),
        (812e6, "812 M"),
        (9.999e6, "10.0 M"),
        (3e21, "3000 E"),
    ] {
        assert_eq!(prefixed(number), text, "{number}");
    }
}

#[test]
fn times_are_in_the_units_that_people_use() {
    for (seconds, text) in [
        (0.34, "0.3 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (95.0, "1 min 35 s"),
        (3599.6, "1 h 0 min"),
        (36_720.0, "10 h 12 min"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}
