//! The learning rate over a run.

use vlp_bench::experiments::schedule::rate;
use vlp_bench::experiments::{Schedule, Train};

fn train(schedule: Schedule) -> Train {
    Train { steps: 100, rate: 2.0, warmup: 10.0, schedule, final_rate: 0.1, ..Train::default() }
}

#[test]
fn the_rate_rises_in_equal_steps_to_its_greatest_value() {
    for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant] {
        let config = train(schedule);
        for step in 0..10 {
            assert!((rate(&config, step) - 0.2 * (step + 1) as f64).abs() < 1e-12);
        }
        assert!((rate(&config, 10) - 2.0).abs() < 1e-12);
    }
}

#[test]
fn the_rate_falls_to_its_final_share() {
    let [cosine, linear, constant] = [Schedule::Cosine, Schedule::Linear, Schedule::Constant].map(train);
    let middle = 55;
    assert!((rate(&cosine, middle) - 1.1).abs() < 1e-12);
    assert!((rate(&linear, middle) - 1.1).abs() < 1e-12);
    assert!((rate(&constant, 99) - 2.0).abs() < 1e-12);
    for config in [&cosine, &linear] {
        assert!((10..99).all(|step| rate(config, step + 1) < rate(config, step)));
        assert!((rate(config, 100) - 0.2).abs() < 1e-12);
    }
}

#[test]
fn warmup_below_one_is_a_share_of_the_steps() {
    let share = Train { warmup: 0.1, ..train(Schedule::Cosine) };
    assert!(
        (0..100).all(|step| rate(&share, step).to_bits() == rate(&train(Schedule::Cosine), step).to_bits())
    );
    let none = Train { warmup: 0.0, ..share };
    assert!((rate(&none, 0) - 2.0).abs() < 1e-12);
}
